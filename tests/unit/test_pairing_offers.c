/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: both ends name a connection alike; an offer is seen, answered and freed as its states
 * say; an answer never reaches another offer than the one that was read; evidence tells streams
 * apart.
 */
#include <errno.h>

#include "pairing.h"
#include "unit_region.h"

static struct shmt_region region;
static struct shmt_guest author, other;
static const struct shmt_evidence evidence = {
	.bytes_received = 10, .bytes_acked = 21, .snd_wscale = 7, .rcv_wscale = 8, .valid = 1};

static int make(void **state)
{
	(void)state;
	unit_region(4 * MIB, &region);
	author = unit_guest(&region, 1);
	other = unit_guest(&region, 2);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	return munmap(region.base, 4 * MIB);
}

static struct shmt_endpoint endpoint(uint32_t number, uint16_t port)
{
	struct shmt_endpoint end = {.port = port};

	unit_addr(number, end.addr);
	return end;
}

static struct shmt_conn_key key_of(uint16_t port)
{
	const struct shmt_endpoint local = endpoint(1, port), remote = endpoint(2, 80);
	struct shmt_conn_key key;

	shmt_conn_key_make(&local, &remote, 0, &key);
	return key;
}

static int post(uint16_t port, enum shmt_offer_state state, uint32_t seg)
{
	const struct shmt_conn_key key = key_of(port);

	return shmt_offer_post(&region, &author, &other, state, &key, &evidence, seg, 3);
}

static void test_key(void **state)
{
	struct shmt_endpoint low = endpoint(1, 40000), high = endpoint(2, 80);
	struct shmt_conn_key a, b;

	(void)state;
	low.zero[1] = 0xffff; /* what a careless caller leaves there */
	memset(&b, 0xff, sizeof(b));
	assert_int_equal(shmt_conn_key_make(&low, &high, 5, &a), 0);
	assert_int_equal(shmt_conn_key_make(&high, &low, 5, &b), 1);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.end[0].port, 40000);
	assert_int_equal(a.end[0].zero[1], 0);
	assert_int_equal(a.netns, 5);

	/* One address: the port decides, as a number. */
	low = endpoint(1, 255);
	high = endpoint(1, 256);
	assert_int_equal(shmt_conn_key_make(&low, &high, 0, &a), 0);
	assert_int_equal(shmt_conn_key_make(&high, &low, 0, &b), 1);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.end[0].port, 255);
}

static void test_life_of_an_offer(void **state)
{
	const struct shmt_conn_key key = key_of(1000), unknown = key_of(1001);
	struct shmt_offer offer, late;
	int index;

	(void)state;
	assert_int_equal(shmt_offer_find(&region, &key, NULL, SHMT_OFFER_MADE, &offer), -ENOENT);
	index = post(1000, SHMT_OFFER_MADE, 5);
	assert_true(index >= 0);
	assert_int_equal(region.guests[other.slot].doorbell, 1);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), 0);
	assert_int_equal(offer.index, index);
	assert_int_equal(offer.state, SHMT_OFFER_MADE);
	assert_int_equal(offer.author.slot, author.slot);
	assert_int_equal(offer.author.epoch, author.epoch);
	assert_int_equal(offer.addressee.slot, other.slot);
	assert_int_equal(offer.addressee.epoch, other.epoch);
	assert_memory_equal(&offer.key, &key, sizeof(key));
	assert_memory_equal(&offer.evidence, &evidence, sizeof(evidence));
	assert_int_equal(offer.seg, 5);
	assert_int_equal(offer.seg_generation, 3);

	assert_int_equal(shmt_offer_find(&region, &key, NULL, SHMT_OFFER_MADE, &late), 0);
	assert_int_equal(shmt_offer_find(&region, &key, &author, SHMT_OFFER_MADE, &late), 0);
	assert_int_equal(shmt_offer_find(&region, &key, &other, SHMT_OFFER_MADE, &late), -ENOENT);
	assert_int_equal(shmt_offer_find(&region, &key, NULL, SHMT_OFFER_WISH, &late), -ENOENT);
	assert_int_equal(shmt_offer_find(&region, &unknown, NULL, SHMT_OFFER_MADE, &late), -ENOENT);

	assert_int_equal(shmt_offer_answer(&region, &offer, SHMT_OFFER_TAKEN, 0), 0);
	assert_int_equal(region.guests[author.slot].doorbell, 1);
	assert_int_equal(shmt_offer_answer(&region, &offer, SHMT_OFFER_DECLINED, 1), -ESTALE);
	assert_int_equal(shmt_offer_revoke(&region, &offer), -ESTALE);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &late), 0);
	assert_int_equal(late.state, SHMT_OFFER_TAKEN);
	assert_int_equal(shmt_offer_answer(&region, &late, SHMT_OFFER_DECLINED, 1), -ESTALE);
	assert_int_equal(shmt_offer_find(&region, &key, NULL, SHMT_OFFER_MADE, &late), -ENOENT);

	assert_int_equal(shmt_offer_withdraw(&region, &other, (uint32_t)index), -ESTALE);
	assert_int_equal(shmt_offer_withdraw(&region, &author, (uint32_t)index), 0);
	assert_int_equal(shmt_offer_withdraw(&region, &author, (uint32_t)index), -ESTALE);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &late), -ENOENT);
	assert_int_equal(shmt_offer_withdraw(&region, &author, UINT32_MAX), -ESTALE);
	assert_int_equal(shmt_offer_read(&region, UINT32_MAX, &late), -ENOENT);
}

static void test_declined(void **state)
{
	struct shmt_offer offer;
	const int index = post(1000, SHMT_OFFER_WISH, 0);

	(void)state;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), 0);
	assert_int_equal(
		shmt_offer_answer(&region, &offer, SHMT_OFFER_DECLINED, COLOC_REASON_DRAINING), 0);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), 0);
	assert_int_equal(offer.state, SHMT_OFFER_DECLINED);
	assert_int_equal(offer.reason, COLOC_REASON_DRAINING);
	assert_int_equal(shmt_offer_revoke(&region, &offer), 0);
	assert_int_equal(shmt_offer_revoke(&region, &offer), -ESTALE);
}

/* Paused between reading and answering, while the same author uses the entry again. */
static void test_answer_to_a_past_offer(void **state)
{
	struct shmt_offer old, now;
	const int index = post(1000, SHMT_OFFER_MADE, 5);

	(void)state;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &old), 0);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(shmt_offer_withdraw(&region, &author, (uint32_t)index), 0);
		assert_int_equal(post(1000, SHMT_OFFER_MADE, 6), index);
		assert_int_equal(shmt_offer_answer(&region, &old, SHMT_OFFER_TAKEN, 0), -ESTALE);
		assert_int_equal(shmt_offer_revoke(&region, &old), -ESTALE);
	}
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &now), 0);
	assert_int_equal(now.state, SHMT_OFFER_MADE);
	assert_int_equal(now.reason, COLOC_REASON_NONE);
}

static void test_author_is_over(void **state)
{
	const struct shmt_conn_key key = key_of(1000);
	struct shmt_guest next;
	struct shmt_offer offer;
	int index = post(1000, SHMT_OFFER_MADE, 5);

	(void)state;
	region.guests[author.slot].word = SHMT_GUEST_WORD(author.epoch, SHMT_GUEST_FREE);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	assert_int_equal(shmt_offer_find(&region, &key, NULL, SHMT_OFFER_MADE, &offer), -ENOENT);
	next = unit_guest(&region, 3);
	assert_int_equal(next.slot, author.slot);
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	author = next;
	assert_int_equal(post(1000, SHMT_OFFER_MADE, 5), index); /* claims what was left behind */

	/* Died while writing. */
	region.offers[index].word =
		SHMT_OFFER_WORD(author.epoch + 1, 9, author.slot, other.slot, SHMT_OFFER_CLAIMED);
	assert_int_equal(post(1000, SHMT_OFFER_MADE, 5), index);
}

static void test_window_full(void **state)
{
	int count = 0, index = 0, last = 0;

	(void)state;
	while ((index = post(1000, SHMT_OFFER_MADE, 5)) >= 0) {
		last = index;
		count++;
	}
	assert_int_equal(index, -ENOSPC);
	assert_int_equal(count, SHMT_OFFER_WINDOW);
	assert_int_equal(shmt_offer_withdraw(&region, &author, (uint32_t)last), 0);
	assert_int_equal(post(1000, SHMT_OFFER_MADE, 5), last);
}

static void test_not_sane(void **state)
{
	struct shmt_offer offer;
	const int index = post(1000, SHMT_OFFER_MADE, 5);
	struct shmt_offer_shared *const entry = &region.offers[index];
	const uint64_t good = entry->word;

	(void)state;
	entry->seg = region.seg_count;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	entry->seg = 5;
	entry->reason = COLOC_REASON_COUNT;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	entry->reason = 0;
	entry->word = (good & ~0xffULL) | 6;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	entry->word = good | 0xff00; /* addressee 255 */
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	entry->word = good | 0xff0000; /* author 255 */
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), -ENOENT);
	entry->word = good;
	assert_int_equal(shmt_offer_read(&region, (uint32_t)index, &offer), 0);
}

static void test_evidence(void **state)
{
	/* The accepting side has received 100 and sent 50; the connecting one was asked earlier. */
	const struct shmt_evidence mine = {100, 50, 7, 9, 1, {0}};
	struct shmt_evidence theirs = {40, 91, 9, 7, 1, {0}};

	(void)state;
	assert_true(shmt_evidence_fits(&mine, &theirs));
	theirs.bytes_acked = 101; /* all of it, and the SYN */
	assert_true(shmt_evidence_fits(&mine, &theirs));
	theirs.bytes_acked = 102; /* acknowledged more than was received here: another connection */
	assert_false(shmt_evidence_fits(&mine, &theirs));
	theirs.bytes_acked = UINT64_MAX;
	assert_false(shmt_evidence_fits(&mine, &theirs));
	theirs.bytes_acked = 0;
	assert_true(shmt_evidence_fits(&mine, &theirs));
	theirs.snd_wscale = 8;
	assert_false(shmt_evidence_fits(&mine, &theirs));
	theirs.valid = 0;
	assert_true(shmt_evidence_fits(&mine, &theirs));
	theirs.valid = 1;
	theirs.snd_wscale = 9;
	theirs.rcv_wscale = 6;
	assert_false(shmt_evidence_fits(&mine, &theirs));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		TEST(test_key),
		TEST(test_life_of_an_offer),
		TEST(test_declined),
		TEST(test_answer_to_a_past_offer),
		TEST(test_author_is_over),
		TEST(test_window_full),
		TEST(test_not_sane),
		TEST(test_evidence),
	};

	return cmocka_run_group_tests_name("pairing_offers", tests, NULL, NULL);
}
