/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: addresses are found for whom they are, not when two guests claim them, not when their
 * owner's life is over; and a probe stays within its window whatever lies in the table.
 */
#include <errno.h>

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

static void test_add_find_remove(void **state)
{
	const struct shmt_guest guest = unit_guest(&region, 1);
	uint64_t epoch = 99;
	uint8_t addr[16], other[16];

	(void)state;
	unit_addr(1, addr);
	unit_addr(2, other);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	assert_int_equal(epoch, 99);
	assert_int_equal(shmt_address_add(&region, &guest, addr), 0);
	assert_int_equal(shmt_address_add(&region, &guest, addr), -EEXIST);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), guest.slot);
	assert_int_equal(epoch, guest.epoch);
	assert_int_equal(shmt_directory_find(&region, other, &epoch), -ENOENT);

	shmt_guest_set_state(&region, &guest, SHMT_GUEST_DRAINING);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), guest.slot);

	assert_int_equal(shmt_address_remove(&region, &guest, other), -ENOENT);
	assert_int_equal(shmt_address_remove(&region, &guest, addr), 0);
	assert_int_equal(shmt_address_remove(&region, &guest, addr), -ENOENT);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	for (int i = 0; i < 5000; i++) { /* tombstones are used again */
		assert_int_equal(shmt_address_add(&region, &guest, addr), 0);
		assert_int_equal(shmt_address_remove(&region, &guest, addr), 0);
	}
}

static void test_ambiguous(void **state)
{
	const struct shmt_guest a = unit_guest(&region, 1), b = unit_guest(&region, 2);
	uint64_t epoch;
	uint8_t addr[16];

	(void)state;
	unit_addr(1, addr);
	assert_int_equal(shmt_address_add(&region, &a, addr), 0);
	assert_int_equal(shmt_address_add(&region, &b, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -EEXIST);
	assert_int_equal(shmt_address_remove(&region, &a, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), b.slot);
	assert_int_equal(shmt_address_add(&region, &a, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -EEXIST);
	shmt_guest_bury(&region, b.slot, b.epoch);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), a.slot);
}

/* The owner's word alone ends a life, even if its addresses were not tidied up. */
static void test_owner_is_over(void **state)
{
	const struct shmt_guest dead = unit_guest(&region, 1);
	struct shmt_guest next;
	uint64_t epoch;
	uint8_t addr[16];

	(void)state;
	unit_addr(1, addr);
	assert_int_equal(shmt_address_add(&region, &dead, addr), 0);
	region.guests[dead.slot].word = SHMT_GUEST_WORD(dead.epoch, SHMT_GUEST_FREE);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	next = unit_guest(&region, 2);
	assert_int_equal(next.slot, dead.slot);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	assert_int_equal(shmt_address_add(&region, &next, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), next.slot);
	assert_int_equal(epoch, next.epoch);
}

static void fill(uint64_t word)
{
	for (uint32_t i = 0; i < region.addr_count; i++)
		region.addrs[i].word = word;
}

static void test_bounded(void **state)
{
	const struct shmt_guest a = unit_guest(&region, 1), b = unit_guest(&region, 2);
	uint64_t epoch;
	uint8_t addr[16];

	(void)state;
	unit_addr(77, addr);
	fill(SHMT_ADDR_WORD(a.epoch, a.slot, SHMT_ADDR_DEAD));
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	assert_int_equal(shmt_address_remove(&region, &a, addr), -ENOENT);
	assert_int_equal(shmt_address_add(&region, &a, addr), 0);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), a.slot);

	/* Full of another's: no room, and what is not there is not found. */
	fill(SHMT_ADDR_WORD(b.epoch, b.slot, SHMT_ADDR_LIVE));
	unit_addr(78, addr);
	assert_int_equal(shmt_address_add(&region, &a, addr), -ENOSPC);
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	fill(SHMT_ADDR_WORD(b.epoch, b.slot, SHMT_ADDR_CLAIMED));
	assert_int_equal(shmt_address_add(&region, &a, addr), -ENOSPC);
	fill(SHMT_ADDR_WORD(b.epoch, 200, SHMT_ADDR_LIVE)); /* no such guest */
	assert_int_equal(shmt_directory_find(&region, addr, &epoch), -ENOENT);
	assert_int_equal(shmt_address_add(&region, &a, addr), 0);
}

/* Neighbouring addresses, as networks have them, spread: three quarters of the table fit. */
static void test_spread(void **state)
{
	const struct shmt_guest guest = unit_guest(&region, 1);
	const uint32_t count = region.addr_count * 3 / 4;
	uint64_t epoch;
	uint8_t addr[16];

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		unit_addr(i, addr);
		assert_int_equal(shmt_address_add(&region, &guest, addr), 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		unit_addr(i, addr);
		assert_int_equal(shmt_directory_find(&region, addr, &epoch), guest.slot);
	}
	for (uint32_t i = 0; i < count; i += 2) {
		unit_addr(i, addr);
		assert_int_equal(shmt_address_remove(&region, &guest, addr), 0);
	}
	for (uint32_t i = 0; i < count * 2; i++) {
		unit_addr(i, addr);
		assert_int_equal(shmt_directory_find(&region, addr, &epoch),
				 i < count && i % 2 ? (int)guest.slot : -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_add_find_remove, make, drop),
		cmocka_unit_test_setup_teardown(test_ambiguous, make, drop),
		cmocka_unit_test_setup_teardown(test_owner_is_over, make, drop),
		cmocka_unit_test_setup_teardown(test_bounded, make, drop),
		cmocka_unit_test_setup_teardown(test_spread, make, drop),
	};

	return cmocka_run_group_tests_name("directory_addresses", tests, NULL, NULL);
}
