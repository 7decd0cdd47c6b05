/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: bytes copied to a position come out of it whole, across the wrap and at positions far
 * beyond the size, and nothing beside them is touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ring.h"

enum { SIZE = 64, GUARD = 32 };

static uint8_t memory[GUARD + SIZE + GUARD];
static const struct shmt_ring ring = {memory + GUARD, SIZE};

static int make(void **state)
{
	(void)state;
	memset(memory, 0xaa, sizeof(memory));
	return 0;
}

static void test_every_place_and_length(void **state)
{
	static const uint64_t laps[] = {0, SIZE, 1ULL << 40, (UINT64_MAX >> 2) - 2 * SIZE + 1};
	uint8_t src[SIZE], dst[SIZE + 1];

	(void)state;
	for (size_t lap = 0; lap < sizeof(laps) / sizeof(laps[0]); lap++) {
		for (uint64_t off = 0; off < SIZE; off++) {
			for (size_t len = 0; len <= SIZE; len++) {
				const uint64_t at = laps[lap] + off;

				memset(memory + GUARD, 0xaa, SIZE);
				for (size_t i = 0; i < len; i++)
					src[i] = (uint8_t)(i + 1);
				shmt_ring_copy_in(&ring, at, src, len);
				for (size_t i = 0; i < SIZE; i++)
					assert_int_equal(memory[GUARD + (at + i) % SIZE],
							 i < len ? i + 1 : 0xaa);
				memset(dst, 0x55, sizeof(dst));
				shmt_ring_copy_out(&ring, at, dst, len);
				assert_memory_equal(dst, src, len);
				assert_int_equal(dst[len], 0x55);
			}
		}
	}
	for (size_t i = 0; i < GUARD; i++) {
		assert_int_equal(memory[i], 0xaa);
		assert_int_equal(memory[GUARD + SIZE + i], 0xaa);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_every_place_and_length, make),
	};

	return cmocka_run_group_tests_name("ring_copy", tests, NULL, NULL);
}
