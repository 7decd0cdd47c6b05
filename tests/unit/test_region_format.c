/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: a region is formatted once however many come at once, a formatter that died holds up
 * nobody, memory that is not empty is left alone, and the tables of each size fit.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomic.h"
#include "unit_region.h"

static void test_sizes(void **state)
{
	static const uint64_t sizes[] = {4 * MIB,  4 * MIB + 4096, 7 * MIB + 12345, 16 * MIB,
					 64 * MIB, 256 * MIB,	   1024 * MIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct shmt_region region;
		enum coloc_reason reason;
		void *base = unit_memory(sizes[i]);

		assert_int_equal(shmt_region_format(base, sizes[i]), 0);
		assert_int_equal(shmt_region_format(base, sizes[i]), -EEXIST);
		assert_int_equal(shmt_region_attach(base, sizes[i], &region, &reason), 0);
		assert_int_equal(reason, COLOC_REASON_NONE);
		assert_true(region.bytes <= sizes[i] && region.bytes + 4096 > sizes[i]);
		assert_int_equal(region.guest_count, SHMT_GUESTS_MAX);
		assert_true(region.chunk_count >= 3);
		/* Less than a chunk and a twelfth is lost to tables and rounding. */
		assert_true(region.chunk_bytes * (region.chunk_count + 1) + sizes[i] / 12 >=
			    sizes[i]);
		assert_true(shmt_region_ring_max(&region) >= 512 << 10);
		munmap(base, sizes[i]);
	}
}

static void test_documented_sizes(void **state)
{
	struct shmt_region region;

	(void)state;
	unit_region(4 * MIB, &region);
	assert_int_equal(region.addr_count, 1024);
	assert_int_equal(region.offer_count, 256);
	assert_int_equal(region.chunk_bytes, 1 * MIB);
	assert_int_equal(region.segs_per_chunk, 8);
	munmap(region.base, 4 * MIB);
	unit_region(256 * MIB, &region);
	assert_int_equal(region.addr_count, 65536);
	assert_int_equal(region.offer_count, 4096);
	assert_int_equal(region.chunk_bytes, 4 * MIB);
	assert_int_equal(region.segs_per_chunk, 32);
	assert_int_equal(region.chunk_count, 62);
	munmap(region.base, 256 * MIB);
}

static void test_refusals(void **state)
{
	struct shmt_region region;
	enum coloc_reason reason;
	uint64_t *words = unit_memory(4 * MIB);

	(void)state;
	assert_int_equal(shmt_region_format(words, 4 * MIB - 1), -EINVAL);
	assert_int_equal(shmt_region_format(NULL, 4 * MIB), -EINVAL);

	assert_int_equal(shmt_region_attach(words, 4 * MIB, &region, &reason), -EPROTO);
	assert_int_equal(reason, COLOC_REASON_NO_REGION);

	words[5000] = 1;
	assert_int_equal(shmt_region_format(words, 4 * MIB), -ENOTEMPTY);
	assert_int_equal(words[0], 0);
	words[5000] = 0;

	words[0] = 0x1122334455667788;
	assert_int_equal(shmt_region_format(words, 4 * MIB), -EPROTO);
	assert_int_equal(shmt_region_attach(words, 4 * MIB, &region, &reason), -EPROTO);
	assert_int_equal(words[0], 0x1122334455667788);

	/* Being formatted by another version, or by one who sees more memory than we do. */
	words[0] = SHMT_FORMATTING(1024) + (1ULL << 48);
	assert_int_equal(shmt_region_format(words, 4 * MIB), -EPROTO);
	words[0] = SHMT_FORMATTING(1025);
	assert_int_equal(shmt_region_format(words, 4 * MIB), -EPROTO);
	words[0] = SHMT_FORMATTING(1);
	assert_int_equal(shmt_region_format(words, 4 * MIB), -EPROTO);
	munmap(words, 4 * MIB);
}

/* A formatter died: between the magic's two changes, with any part of the superblock written. */
static void test_formatter_died(void **state)
{
	(void)state;
	for (size_t written = 0; written <= sizeof(struct shmt_super_shared); written += 8) {
		struct shmt_region whole, region;
		enum coloc_reason reason;
		uint8_t *base = unit_memory(4 * MIB);

		unit_region(4 * MIB, &whole);
		memcpy(base, whole.base, written);
		*(uint64_t *)base = SHMT_FORMATTING(1024);
		assert_int_equal(shmt_region_attach(base, 4 * MIB, &region, &reason), -EAGAIN);
		assert_int_equal(reason, COLOC_REASON_NO_REGION);
		assert_int_equal(shmt_region_format(base, 4 * MIB), 0);
		assert_int_equal(shmt_region_attach(base, 4 * MIB, &region, &reason), 0);
		if (written >= 48)
			assert_memory_equal(region.domain_id, whole.domain_id, 16);
		munmap(base, 4 * MIB);
		munmap(whole.base, 4 * MIB);
	}
}

struct racer {
	pthread_barrier_t *start;
	void *base;
	int rc;
	uint8_t domain_id[16];
};

static void *race(void *arg)
{
	struct racer *me = arg;
	struct shmt_region region;
	enum coloc_reason reason;

	pthread_barrier_wait(me->start);
	me->rc = shmt_region_format(me->base, 4 * MIB);
	if (shmt_region_attach(me->base, 4 * MIB, &region, &reason) < 0)
		me->rc = -EIO;
	else
		memcpy(me->domain_id, region.domain_id, 16);
	return NULL;
}

static void test_threads(void **state)
{
	enum { RACERS = 6 };

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct racer racers[RACERS];
		pthread_t threads[RACERS];
		pthread_barrier_t start;
		void *base = unit_memory(4 * MIB);
		int winners = 0;

		pthread_barrier_init(&start, NULL, RACERS);
		for (int i = 0; i < RACERS; i++) {
			racers[i] = (struct racer){.start = &start, .base = base};
			assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
		}
		for (int i = 0; i < RACERS; i++) {
			pthread_join(threads[i], NULL);
			assert_true(racers[i].rc == 0 || racers[i].rc == -EEXIST);
			winners += racers[i].rc == 0;
			assert_memory_equal(racers[i].domain_id, racers[0].domain_id, 16);
		}
		assert_int_equal(winners, 1);
		pthread_barrier_destroy(&start);
		munmap(base, 4 * MIB);
	}
}

static void test_processes(void **state)
{
	enum { RACERS = 4 };
	uint32_t *counts = unit_memory(4096);

	(void)state;
	for (int round = 0; round < 20; round++) {
		void *base = unit_memory(4 * MIB);
		pid_t pids[RACERS];

		counts[0] = counts[1] = 0;
		for (int i = 0; i < RACERS; i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0) {
				struct racer me = {.base = base};
				pthread_barrier_t start;

				pthread_barrier_init(&start, NULL, 1);
				me.start = &start;
				shmt_add(&counts[1], 1);
				while (shmt_load(&counts[1]) < RACERS)
					shmt_pause();
				race(&me);
				if (me.rc == 0)
					shmt_add(&counts[0], 1);
				_exit(me.rc != 0 && me.rc != -EEXIST);
			}
		}
		for (int i = 0; i < RACERS; i++) {
			int status;

			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			assert_int_equal(status, 0);
		}
		assert_int_equal(counts[0], 1);
		munmap(base, 4 * MIB);
	}
	munmap(counts, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),	 cmocka_unit_test(test_documented_sizes),
		cmocka_unit_test(test_refusals), cmocka_unit_test(test_formatter_died),
		cmocka_unit_test(test_threads),	 cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests_name("region_format", tests, NULL, NULL);
}
