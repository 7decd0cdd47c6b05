/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: guests that allocate, free, sweep, die and inherit from each other at once, as processes
 * and as threads, never hold the same bytes, and leave nothing behind.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomic.h"
#include "segment.h"
#include "unit_region.h"

enum { GUESTS = 4, LIVES = 12, STEPS = 60, HELD = 6 };

#define KIB (1ULL << 10)

static struct shmt_region region;

/* Marks the segment's rings as ours; whoever else has them marks them too. */
static void mark(uint32_t index, uint64_t with)
{
	const struct shmt_seg_shared *const seg = &region.segs[index];
	uint8_t *const data = shmt_region_at(&region, seg->data_off, 2 * seg->ring_bytes);

	for (uint64_t off = 0; off < 2 * seg->ring_bytes; off += 64 * KIB) {
		UNIT_CHECK(shmt_load_relaxed((uint64_t *)(data + off)) == 0);
		shmt_store_relaxed((uint64_t *)(data + off), with);
	}
}

static void check_mark(uint32_t index, uint64_t with)
{
	const struct shmt_seg_shared *const seg = &region.segs[index];
	uint8_t *const data = shmt_region_at(&region, seg->data_off, 2 * seg->ring_bytes);

	for (uint64_t off = 0; off < 2 * seg->ring_bytes; off += 64 * KIB)
		UNIT_CHECK(shmt_load_relaxed((uint64_t *)(data + off)) == with);
}

static void *live_and_die(void *arg)
{
	const unsigned int me = (unsigned int)(uintptr_t)arg;
	unsigned int seed = me;

	for (int life = 0; life < LIVES; life++) {
		const struct shmt_guest guest = unit_guest(&region, me);
		uint32_t held[HELD], count = 0;

		for (int step = 0; step < STEPS; step++) {
			const uint64_t ring = 64 * KIB << rand_r(&seed) % 4;
			const struct shmt_guest ends[2] = {guest, guest};

			if (count < HELD &&
			    shmt_segment_alloc(&region, &guest, ring, ends, &held[count]) == 0) {
				mark(held[count], guest.epoch << 8 | me);
				count++;
			}
			if (count > 0 && rand_r(&seed) % 3 == 0) {
				count--;
				check_mark(held[count], guest.epoch << 8 | me);
				for (unsigned int side = 0; side < 2; side++)
					shmt_segment_set_gone(
						&region, held[count],
						shmt_load_acquire(
							&region.segs[held[count]].generation),
						side);
			}
			if (rand_r(&seed) % 5 == 0)
				shmt_segment_sweep(&region, &guest);
		}
		for (uint32_t i = 0; i < count; i++)
			check_mark(held[i], guest.epoch << 8 | me);
		if (life % 2) /* else left for the next registration */
			shmt_guest_bury(&region, guest.slot, guest.epoch);
	}
	return NULL;
}

static void check_nothing_left(void)
{
	struct shmt_segment_usage usage;
	struct shmt_guest last;

	for (unsigned int i = 0; i < GUESTS; i++) {
		last = unit_guest(&region, i);
		shmt_guest_bury(&region, last.slot, last.epoch);
	}
	last = unit_guest(&region, GUESTS);
	shmt_segment_sweep(&region, &last);
	shmt_segment_usage(&region, &last, &usage);
	assert_int_equal(usage.chunks_free, usage.chunks_total);
}

static void test_threads(void **state)
{
	pthread_t threads[GUESTS];

	(void)state;
	unit_region(12 * MIB, &region);
	for (uintptr_t i = 0; i < GUESTS; i++)
		pthread_create(&threads[i], NULL, live_and_die, (void *)i);
	for (int i = 0; i < GUESTS; i++)
		pthread_join(threads[i], NULL);
	check_nothing_left();
	munmap(region.base, 12 * MIB);
}

static void test_processes(void **state)
{
	pid_t pids[GUESTS];

	(void)state;
	unit_region(12 * MIB, &region);
	for (uintptr_t i = 0; i < GUESTS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			live_and_die((void *)i);
			_exit(0);
		}
	}
	for (int i = 0; i < GUESTS; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	check_nothing_left();
	munmap(region.base, 12 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests_name("segment_threads", tests, NULL, NULL);
}
