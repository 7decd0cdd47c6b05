/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: look-ups beside guests that come, publish, withdraw and die see whole addresses and right
 * owners only: an address that stays is always found, one that never was is never found.
 */
#include <errno.h>
#include <pthread.h>

#include "atomic.h"
#include "unit_region.h"

enum { WRITERS = 4, READERS = 2, ROUNDS = 1500, OWN = 8 };

static struct shmt_region region;
static uint32_t writers_left;

/*
 * IPv6 addresses of a writer: both halves name it, and the number. Halves of two different ones
 * would make an address that nobody published: those the readers ask for, too.
 */
static void address(uint32_t high, uint32_t low, uint8_t ret_addr[16])
{
	memset(ret_addr, 0, 16);
	ret_addr[0] = 0xfd;
	ret_addr[4] = (uint8_t)high;
	ret_addr[12] = (uint8_t)low;
}

static void *write_addresses(void *arg)
{
	const unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t last_epoch = 0;

	for (int round = 0; round < ROUNDS; round++) {
		struct shmt_guest guest = unit_guest(&region, 100 + me);
		uint8_t addr[16];

		UNIT_CHECK(guest.epoch > last_epoch);
		last_epoch = guest.epoch;
		for (uint32_t i = 0; i < OWN; i++) {
			address(me * OWN + i, me * OWN + i, addr);
			UNIT_CHECK(shmt_address_add(&region, &guest, addr) == 0);
			if (i % 3 == 0)
				UNIT_CHECK(shmt_address_remove(&region, &guest, addr) == 0);
		}
		shmt_guest_beat(&region, &guest);
		if (round % 4 == 0) /* else buried by the next registration */
			shmt_guest_bury(&region, guest.slot, guest.epoch);
	}
	shmt_sub(&writers_left, 1);
	return NULL;
}

static void *read_addresses(void *arg)
{
	const struct shmt_guest *stays = arg;
	uint64_t looks = 0, hits = 0;

	while (shmt_load(&writers_left) > 0) {
		const uint32_t low = looks % (WRITERS * OWN), high = looks / 7 % (WRITERS * OWN);
		uint64_t epoch = 0;
		uint8_t addr[16];
		int slot;

		address(low, low, addr);
		slot = shmt_directory_find(&region, addr, &epoch);
		if (slot >= 0) {
			UNIT_CHECK(slot < (int)region.guest_count && epoch != 0);
			UNIT_CHECK(slot != (int)stays->slot);
			hits++;
		} else {
			UNIT_CHECK(slot == -ENOENT); /* nobody shares an address here */
		}
		if (high != low) {
			address(high, low, addr);
			UNIT_CHECK(shmt_directory_find(&region, addr, &epoch) == -ENOENT);
		}
		unit_addr(1, addr);
		UNIT_CHECK(shmt_directory_find(&region, addr, &epoch) == (int)stays->slot);
		looks++;
	}
	UNIT_CHECK(looks > 0);
	print_message("%llu looks, %llu hits\n", (unsigned long long)looks,
		      (unsigned long long)hits);
	return NULL;
}

static void test_lookups_beside_changes(void **state)
{
	pthread_t writers[WRITERS], readers[READERS];
	struct shmt_guest stays;
	uint8_t addr[16];

	(void)state;
	unit_region(4 * MIB, &region);
	stays = unit_guest(&region, 1);
	unit_addr(1, addr);
	assert_int_equal(shmt_address_add(&region, &stays, addr), 0);
	writers_left = WRITERS;
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, write_addresses, (void *)i);
	for (int i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, read_addresses, &stays);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	munmap(region.base, 4 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookups_beside_changes),
	};

	return cmocka_run_group_tests_name("directory_threads", tests, NULL, NULL);
}
