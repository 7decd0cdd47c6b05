/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: authors that post, revoke and post again beside addressees that answer: each offer that
 * the author could not revoke was answered, each that it could was not, and what is read is one
 * offer and not parts of two.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "atomic.h"
#include "pairing.h"
#include "unit_region.h"

enum { AUTHORS = 2, ADDRESSEES = 2, OFFERS = 20000 };

static struct shmt_region region;
static struct shmt_guest author[AUTHORS], addressee;
static uint32_t authors_left;
static uint64_t taken, found_taken;

/* All fields of an offer follow from one number. */
static void fill(uint32_t number, struct shmt_conn_key *ret_key, struct shmt_evidence *ret_evidence)
{
	memset(ret_key, 0, sizeof(*ret_key));
	memset(ret_evidence, 0, sizeof(*ret_evidence));
	ret_key->end[0].port = (uint16_t)number;
	ret_key->end[1].port = (uint16_t)(number >> 16);
	ret_key->netns = number;
	ret_evidence->bytes_received = number;
	ret_evidence->bytes_acked = ~(uint64_t)number;
}

static void *post_and_revoke(void *arg)
{
	const struct shmt_guest *const me = arg;

	for (uint32_t number = 1; number <= OFFERS; number++) {
		struct shmt_conn_key key;
		struct shmt_evidence evidence;
		struct shmt_offer offer;
		int index;

		fill(number, &key, &evidence);
		index = shmt_offer_post(&region, me, &addressee, SHMT_OFFER_MADE, &key, &evidence,
					number % region.seg_count, number);
		UNIT_CHECK(index >= 0);
		if (number % 2)
			sched_yield();
		UNIT_CHECK(shmt_offer_read(&region, (uint32_t)index, &offer) == 0);
		if (offer.state == SHMT_OFFER_MADE && shmt_offer_revoke(&region, &offer) == 0)
			continue;
		UNIT_CHECK(shmt_offer_read(&region, (uint32_t)index, &offer) == 0);
		UNIT_CHECK(offer.state == SHMT_OFFER_TAKEN);
		shmt_add(&found_taken, 1);
		UNIT_CHECK(shmt_offer_withdraw(&region, me, (uint32_t)index) == 0);
	}
	shmt_sub(&authors_left, 1);
	return NULL;
}

static void *answer(void *arg)
{
	(void)arg;
	while (shmt_load(&authors_left) > 0) {
		for (uint32_t i = 0; i < region.offer_count; i++) {
			struct shmt_evidence evidence;
			struct shmt_conn_key key;
			struct shmt_offer offer;

			if (shmt_offer_read(&region, i, &offer) < 0)
				continue;
			fill(offer.seg_generation, &key, &evidence);
			UNIT_CHECK(memcmp(&offer.key, &key, sizeof(key)) == 0);
			UNIT_CHECK(memcmp(&offer.evidence, &evidence, sizeof(evidence)) == 0);
			UNIT_CHECK(offer.seg == offer.seg_generation % region.seg_count);
			if (offer.state == SHMT_OFFER_MADE &&
			    shmt_offer_answer(&region, &offer, SHMT_OFFER_TAKEN, 0) == 0)
				shmt_add(&taken, 1);
		}
	}
	return NULL;
}

static void test_answers_beside_revokes(void **state)
{
	pthread_t authors[AUTHORS], addressees[ADDRESSEES];

	(void)state;
	unit_region(4 * MIB, &region);
	addressee = unit_guest(&region, 50);
	authors_left = AUTHORS;
	for (unsigned int i = 0; i < AUTHORS; i++) {
		author[i] = unit_guest(&region, i);
		pthread_create(&authors[i], NULL, post_and_revoke, &author[i]);
	}
	for (int i = 0; i < ADDRESSEES; i++)
		pthread_create(&addressees[i], NULL, answer, NULL);
	for (int i = 0; i < AUTHORS; i++)
		pthread_join(authors[i], NULL);
	for (int i = 0; i < ADDRESSEES; i++)
		pthread_join(addressees[i], NULL);
	print_message("%llu of %d offers taken\n", (unsigned long long)taken, AUTHORS * OFFERS);
	assert_int_equal(taken, found_taken);
	assert_true(taken > 0);
	munmap(region.base, 4 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_beside_revokes),
	};

	return cmocka_run_group_tests_name("pairing_threads", tests, NULL, NULL);
}
