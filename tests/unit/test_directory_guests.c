/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: lives of guests: epochs never come again, a rebooted guest buries its earlier life, a
 * restarted agent takes its own back, and nobody acts for a life that is over.
 */
#include <errno.h>

#include "atomic.h"
#include "pairing.h"
#include "unit_region.h"

static struct shmt_region region;

static int make(void **state)
{
	(void)state;
	unit_region(4 * MIB, &region);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	return munmap(region.base, 4 * MIB);
}

static const uint8_t identity[16] = {7, 7, 7};

static void test_register(void **state)
{
	struct shmt_guest guest, second;

	(void)state;
	assert_int_equal(shmt_guest_register(&region, identity, 42, "a name that is far too long",
					     0, &guest),
			 0);
	assert_true(guest.epoch > 0 && guest.epoch < 1ULL << 40);
	assert_true(shmt_guest_alive(&region, guest.slot, guest.epoch));
	assert_false(shmt_guest_over(&region, guest.slot, guest.epoch));
	assert_false(shmt_guest_alive(&region, guest.slot, guest.epoch + 1));
	assert_false(shmt_guest_alive(&region, guest.slot + 1, guest.epoch));
	assert_false(shmt_guest_alive(&region, UINT32_MAX, guest.epoch));
	assert_true(shmt_guest_over(&region, UINT32_MAX, guest.epoch));
	assert_string_equal(region.guests[guest.slot].name, "a name that is far too ");
	assert_int_equal(region.guests[guest.slot].kernel_id, 42);

	second = unit_guest(&region, 2);
	assert_int_not_equal(second.slot, guest.slot);
	assert_true(second.epoch > guest.epoch);
}

static void test_states_and_beats(void **state)
{
	const struct shmt_guest guest = unit_guest(&region, 1);
	struct shmt_guest_shared *const entry = &region.guests[guest.slot];
	struct shmt_guest next;

	(void)state;
	shmt_guest_beat(&region, &guest);
	shmt_guest_beat(&region, &guest);
	assert_int_equal(entry->heartbeat, 2);
	shmt_guest_set_state(&region, &guest, SHMT_GUEST_DRAINING);
	assert_int_equal(SHMT_GUEST_STATE(entry->word), SHMT_GUEST_DRAINING);
	assert_true(shmt_guest_alive(&region, guest.slot, guest.epoch));
	shmt_guest_set_state(&region, &guest, SHMT_GUEST_LIVE);
	assert_int_equal(SHMT_GUEST_STATE(entry->word), SHMT_GUEST_LIVE);

	shmt_guest_bury(&region, guest.slot, guest.epoch);
	assert_false(shmt_guest_alive(&region, guest.slot, guest.epoch));
	assert_true(shmt_guest_over(&region, guest.slot, guest.epoch));
	shmt_guest_set_state(&region, &guest, SHMT_GUEST_LIVE);
	shmt_guest_beat(&region, &guest);
	assert_int_equal(SHMT_GUEST_STATE(entry->word), SHMT_GUEST_FREE);
	assert_int_equal(entry->heartbeat, 2);

	/* Nor may an old life disturb the one that has its slot now. */
	next = unit_guest(&region, 2);
	assert_int_equal(next.slot, guest.slot);
	shmt_guest_set_state(&region, &guest, SHMT_GUEST_DRAINING);
	shmt_guest_bury(&region, guest.slot, guest.epoch);
	assert_int_equal(SHMT_GUEST_STATE(entry->word), SHMT_GUEST_LIVE);
	assert_true(shmt_guest_alive(&region, next.slot, next.epoch));
}

static void test_take_back(void **state)
{
	struct shmt_guest guest, again;

	(void)state;
	assert_int_equal(shmt_guest_register(&region, identity, 1, "g", 0, &guest), 0);
	shmt_guest_set_state(&region, &guest, SHMT_GUEST_DRAINING);
	assert_int_equal(shmt_guest_register(&region, identity, 1, "h", guest.epoch, &again), 0);
	assert_int_equal(again.slot, guest.slot);
	assert_int_equal(again.epoch, guest.epoch);
	assert_string_equal(region.guests[guest.slot].name, "h");
	assert_int_equal(SHMT_GUEST_STATE(region.guests[guest.slot].word), SHMT_GUEST_DRAINING);

	assert_int_equal(shmt_guest_register(&region, identity, 1, "h", guest.epoch + 1, &again),
			 -ESTALE);
	shmt_guest_bury(&region, guest.slot, guest.epoch);
	assert_int_equal(shmt_guest_register(&region, identity, 1, "h", guest.epoch, &again),
			 -ESTALE);
}

static void test_reboot_buries(void **state)
{
	const struct shmt_guest other = unit_guest(&region, 9);
	struct shmt_guest first, second;
	uint64_t epoch;
	uint8_t addr[16];

	(void)state;
	unit_addr(1, addr);
	assert_int_equal(shmt_guest_register(&region, identity, 1, "g", 0, &first), 0);
	assert_int_equal(shmt_address_add(&region, &first, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), first.slot);
	assert_int_equal(shmt_guest_register(&region, identity, 1, "g", 0, &second), 0);
	assert_true(second.epoch > first.epoch);
	assert_false(shmt_guest_alive(&region, first.slot, first.epoch));
	assert_true(shmt_guest_alive(&region, second.slot, second.epoch));
	assert_true(shmt_guest_alive(&region, other.slot, other.epoch));
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
}

static void test_bury_is_complete_and_repeatable(void **state)
{
	const struct shmt_guest dead = unit_guest(&region, 1), other = unit_guest(&region, 2);
	const struct shmt_guest ends[2] = {dead, other};
	const struct shmt_conn_key key = {.netns = 5};
	const struct shmt_evidence evidence = {.valid = 0};
	struct shmt_offer offer;
	uint32_t index;
	uint8_t addr[16];
	int entry;

	(void)state;
	unit_addr(1, addr);
	assert_int_equal(shmt_address_add(&region, &dead, addr), 0);
	assert_int_equal(shmt_segment_alloc(&region, &other, 64 << 10, ends, &index), 0);
	entry = shmt_offer_post(&region, &dead, &other, SHMT_OFFER_WISH, &key, &evidence, 0, 0);
	assert_true(entry >= 0);
	for (int i = 0; i < 2; i++) {
		shmt_guest_bury(&region, dead.slot, dead.epoch);
		for (uint32_t n = 0; n < region.addr_count; n++)
			assert_true(SHMT_ADDR_STATE(region.addrs[n].word) <= SHMT_ADDR_DEAD);
		assert_int_equal(SHMT_OFFER_STATE(region.offers[entry].word), SHMT_OFFER_FREE);
		assert_int_equal(shmt_offer_read(&region, (uint32_t)entry, &offer), -ENOENT);
		assert_true(shmt_seg_end_gone(&region.segs[index].end[0],
					      region.segs[index].generation));
		assert_false(shmt_seg_end_gone(&region.segs[index].end[1],
					       region.segs[index].generation));
	}
	shmt_guest_bury(&region, UINT32_MAX, 1);
}

static void test_table_full(void **state)
{
	struct shmt_guest guests[SHMT_GUESTS_MAX], late;
	uint64_t largest = 0;

	(void)state;
	for (unsigned int i = 0; i < SHMT_GUESTS_MAX; i++) {
		guests[i] = unit_guest(&region, i);
		assert_true(guests[i].epoch > largest);
		largest = guests[i].epoch;
	}
	assert_int_equal(shmt_guest_register(&region, identity, 1, "late", 0, &late), -ENOSPC);
	shmt_guest_bury(&region, guests[17].slot, guests[17].epoch);
	assert_int_equal(shmt_guest_register(&region, identity, 1, "late", 0, &late), 0);
	assert_int_equal(late.slot, guests[17].slot);
	assert_true(late.epoch > largest);
}

/* What others wrote must not lead to an epoch that no word can hold. */
static void test_foreign_epochs(void **state)
{
	(void)state;
	region.guests[3].word = SHMT_GUEST_WORD((1ULL << 48) - 1, SHMT_GUEST_FREE);
	region.guests[4].word = SHMT_GUEST_WORD(1ULL << 39, SHMT_GUEST_LIVE);
	for (unsigned int i = 0; i < 20; i++) {
		const struct shmt_guest guest = unit_guest(&region, i);

		assert_true(guest.epoch < 1ULL << 40);
		assert_true(guest.epoch > 1ULL << 39);
	}
}

/* An agent that died while it filled in its entry: no other registers as it, and it can be buried.
 */
static void test_dead_claim(void **state)
{
	const struct shmt_guest guest = unit_guest(&region, 1);

	(void)state;
	region.guests[1].word = SHMT_GUEST_WORD(guest.epoch + 1, SHMT_GUEST_CLAIMED);
	assert_false(shmt_guest_alive(&region, 1, guest.epoch + 1));
	assert_false(shmt_guest_over(&region, 1, guest.epoch + 1));
	assert_int_equal(unit_guest(&region, 2).slot, 2);
	shmt_guest_bury(&region, 1, guest.epoch + 1);
	assert_int_equal(unit_guest(&region, 3).slot, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_register, make, drop),
		cmocka_unit_test_setup_teardown(test_states_and_beats, make, drop),
		cmocka_unit_test_setup_teardown(test_take_back, make, drop),
		cmocka_unit_test_setup_teardown(test_reboot_buries, make, drop),
		cmocka_unit_test_setup_teardown(test_bury_is_complete_and_repeatable, make, drop),
		cmocka_unit_test_setup_teardown(test_table_full, make, drop),
		cmocka_unit_test_setup_teardown(test_foreign_epochs, make, drop),
		cmocka_unit_test_setup_teardown(test_dead_claim, make, drop),
	};

	return cmocka_run_group_tests_name("directory_guests", tests, NULL, NULL);
}
