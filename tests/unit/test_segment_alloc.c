/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: segments come zeroed, of the size asked for, apart from each other; they come back when
 * both ends are gone or over and not before; and nothing leaks when guests die.
 */
#include <errno.h>

#include "segment.h"
#include "unit_region.h"

#define KIB (1ULL << 10)

static struct shmt_region region;
static struct shmt_guest a, b;

static int make(void **state)
{
	(void)state;
	unit_region(16 * MIB, &region); /* 15 chunks of 1 MiB */
	a = unit_guest(&region, 1);
	b = unit_guest(&region, 2);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	return munmap(region.base, 16 * MIB);
}

static int alloc(const struct shmt_guest *owner, uint64_t ring_bytes, uint32_t *ret_index)
{
	const struct shmt_guest ends[2] = {a, b};

	return shmt_segment_alloc(&region, owner, ring_bytes, ends, ret_index);
}

static void gone(uint32_t index, unsigned int side)
{
	shmt_segment_set_gone(&region, index, region.segs[index].generation, side);
}

static bool is_zero(const void *at, size_t bytes)
{
	const uint8_t *p = at;

	for (size_t i = 0; i < bytes; i++) {
		if (p[i])
			return false;
	}
	return true;
}

static void test_contents(void **state)
{
	const struct shmt_seg_shared *seg;
	uint32_t index, again;
	uint8_t *data;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	seg = shmt_region_seg(&region, index);
	assert_int_equal(seg->state, SHMT_SEG_USED);
	assert_int_equal(seg->generation, 1);
	assert_int_equal(seg->ring_bytes, 64 * KIB);
	assert_int_equal(seg->end[0].guest, a.slot);
	assert_int_equal(seg->end[0].epoch, a.epoch);
	assert_int_equal(seg->end[1].guest, b.slot);
	assert_int_equal(seg->end[1].epoch, b.epoch);
	data = shmt_region_at(&region, seg->data_off, 2 * seg->ring_bytes);
	assert_non_null(data);
	assert_true(is_zero(data, 2 * seg->ring_bytes));

	/* A stream leaves traces; the next one does not see them. */
	memset(data, 0xee, 2 * seg->ring_bytes);
	memset(&region.segs[index].dir, 0xee, sizeof(seg->dir));
	region.segs[index].end[0].evidence.valid = 1;
	shmt_segment_free(&region, &a, index);
	assert_int_equal(alloc(&a, 64 * KIB, &again), 0);
	assert_int_equal(again, index);
	assert_int_equal(seg->generation, 2);
	assert_true(is_zero(data, 2 * seg->ring_bytes));
	assert_true(is_zero(&seg->dir, sizeof(seg->dir)));
	assert_int_equal(seg->end[0].evidence.valid, 0);
}

static void test_sizes(void **state)
{
	uint32_t index;

	(void)state;
	assert_int_equal(alloc(&a, 0, &index), -EINVAL);
	assert_int_equal(alloc(&a, 32 * KIB, &index), -EINVAL);
	assert_int_equal(alloc(&a, 65 * KIB, &index), -EINVAL);
	assert_int_equal(alloc(&a, 1024 * KIB, &index), -EINVAL); /* chunks are 1 MiB here */
	assert_int_equal(alloc(&a, 1ULL << 63, &index), -EINVAL);
	assert_int_equal(alloc(&a, UINT64_MAX, &index), -EINVAL);
	assert_int_equal(alloc(&a, shmt_region_ring_max(&region), &index), 0);
}

static void test_smallest_region(void **state)
{
	struct shmt_region small;
	struct shmt_guest guest;
	uint32_t index, count = 0;

	(void)state;
	unit_region(4 * MIB, &small);
	guest = unit_guest(&small, 1);
	while (shmt_segment_alloc(&small, &guest, 512 * KIB, (struct shmt_guest[]){guest, guest},
				  &index) == 0)
		count++;
	assert_int_equal(count, 3);
	munmap(small.base, 4 * MIB);
}

/* All sizes at once, until nothing is left: no two overlap, and all of it comes back. */
static void test_apart(void **state)
{
	struct shmt_segment_usage usage;
	uint32_t index, count = 0;
	uint64_t bytes = 0;
	uint8_t *owner_of_page = unit_memory(region.bytes / SHMT_PAGE);

	(void)state;
	for (uint64_t ring = 64 * KIB;; ring = ring == 512 * KIB ? 64 * KIB : ring * 2) {
		const struct shmt_seg_shared *seg;
		const int rc = alloc(count % 2 ? &a : &b, ring, &index);

		if (rc == -ENOSPC && ring == 64 * KIB && alloc(&a, ring, &index) == -ENOSPC)
			break;
		if (rc < 0)
			continue;
		count++;
		seg = &region.segs[index];
		assert_non_null(shmt_region_at(&region, seg->data_off, 2 * ring));
		for (uint64_t off = 0; off < 2 * ring; off += SHMT_PAGE) {
			assert_int_equal(owner_of_page[(seg->data_off + off) / SHMT_PAGE], 0);
			owner_of_page[(seg->data_off + off) / SHMT_PAGE] = 1;
		}
		bytes += 2 * ring;
	}
	shmt_segment_usage(&region, &a, &usage);
	assert_int_equal(usage.chunks_free, 0);
	assert_true(bytes > 12 * MIB);
	for (uint32_t i = 0; i < region.seg_count; i++) {
		gone(i, 0);
		gone(i, 1);
	}
	shmt_segment_sweep(&region, &a);
	shmt_segment_sweep(&region, &b);
	shmt_segment_usage(&region, &a, &usage);
	assert_int_equal(usage.chunks_free, usage.chunks_total);
	assert_int_equal(usage.used, 0);
	munmap(owner_of_page, region.bytes / SHMT_PAGE);
}

static void test_both_gone(void **state)
{
	uint32_t index, generation;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	generation = region.segs[index].generation;
	assert_int_equal(shmt_segment_sweep(&region, &a), 0);
	gone(index, 0);
	gone(index, 0);
	assert_int_equal(shmt_segment_sweep(&region, &a), 0);
	assert_int_equal(shmt_segment_sweep(&region, &b), 0);
	gone(index, 1);
	assert_int_equal(shmt_segment_sweep(&region, &b), 0); /* not its own */
	assert_int_equal(shmt_segment_sweep(&region, &a), 1);

	/* Late words about the stream before do not count for the next, nor undo a true one. */
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	shmt_segment_set_gone(&region, index, generation, 0);
	shmt_segment_set_gone(&region, index, generation, 1);
	shmt_seg_end_set_gone(&region.segs[index].end[0], generation);
	assert_int_equal(shmt_segment_sweep(&region, &a), 0);
	gone(index, 0);
	gone(index, 1);
	shmt_seg_end_set_gone(&region.segs[index].end[0], generation);
	assert_int_equal(shmt_segment_sweep(&region, &a), 1);

	shmt_segment_set_gone(&region, UINT32_MAX, generation, 0);
	shmt_segment_set_gone(&region, index, generation + 1, 2);
}

static void test_generation_wraps(void **state)
{
	uint32_t index;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	region.segs[index].generation = UINT32_MAX;
	shmt_segment_free(&region, &a, index);
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	assert_int_equal(region.segs[index].generation, 1);
	assert_int_equal(shmt_segment_sweep(&region, &a), 0);
	gone(index, 0);
	gone(index, 1);
	assert_int_equal(shmt_segment_sweep(&region, &a), 1);
}

static void test_not_mine(void **state)
{
	uint32_t index;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	shmt_segment_free(&region, &b, index);
	assert_int_equal(region.segs[index].state, SHMT_SEG_USED);
	shmt_segment_free(&region, &a, UINT32_MAX);
	shmt_segment_free(&region, &a, index);
	assert_int_equal(region.segs[index].state, SHMT_SEG_FREE);
}

/* The other end's guest died; so it is over without its word. */
static void test_peer_died(void **state)
{
	uint32_t index;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	gone(index, 0);
	region.guests[b.slot].word = SHMT_GUEST_WORD(b.epoch, SHMT_GUEST_FREE);
	assert_int_equal(shmt_segment_sweep(&region, &a), 1);
}

/*
 * The owner died: its chunks go to the survivor with what is still used in them. Until that ends
 * nobody else gets those bytes.
 */
static void test_owner_died(void **state)
{
	struct shmt_segment_usage usage;
	uint32_t used, unused;

	(void)state;
	assert_int_equal(alloc(&a, 64 * KIB, &used), 0);
	assert_int_equal(alloc(&a, 64 * KIB, &unused), 0);
	gone(unused, 1);
	shmt_guest_bury(&region, a.slot, a.epoch);
	assert_int_equal(shmt_segment_sweep(&region, &b), 1);
	assert_int_equal(region.segs[used].state, SHMT_SEG_USED);
	shmt_segment_usage(&region, &b, &usage);
	assert_int_equal(usage.chunks_own, 1);
	assert_int_equal(usage.used, 1);
	assert_int_equal(usage.used_bytes, 128 * KIB);

	/* Again: the heir dies as well. */
	shmt_guest_bury(&region, b.slot, b.epoch);
	a = unit_guest(&region, 3);
	assert_int_equal(shmt_segment_sweep(&region, &a), 1);
	shmt_segment_usage(&region, &a, &usage);
	assert_int_equal(usage.chunks_free, usage.chunks_total);
}

/* A full region of the dead serves the living, without anybody having swept. */
static void test_dead_make_room(void **state)
{
	uint32_t index;

	(void)state;
	while (alloc(&a, 512 * KIB, &index) == 0)
		;
	assert_int_equal(alloc(&b, 64 * KIB, &index), -ENOSPC);
	for (uint32_t i = 0; i < region.seg_count; i++)
		gone(i, 1);
	shmt_guest_bury(&region, a.slot, a.epoch);
	assert_int_equal(alloc(&b, 64 * KIB, &index), 0);
}

/* One's own empty chunks of another size make room too. */
static void test_sizes_trade_places(void **state)
{
	uint32_t indices[64], count = 0, index;

	(void)state;
	while (alloc(&a, 512 * KIB, &indices[count]) == 0)
		count++;
	assert_int_equal(alloc(&a, 64 * KIB, &index), -ENOSPC);
	shmt_segment_free(&region, &a, indices[0]);
	assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
	shmt_segment_free(&region, &a, index);
	assert_int_equal(alloc(&a, 512 * KIB, &index), 0);
}

static void test_usage(void **state)
{
	struct shmt_segment_usage usage;
	uint32_t index;

	(void)state;
	shmt_segment_usage(&region, &a, &usage);
	assert_int_equal(usage.chunks_total, 15);
	assert_int_equal(usage.chunks_free, 15);
	assert_int_equal(usage.free_bytes, 15 * MIB);
	assert_int_equal(alloc(&a, 128 * KIB, &index), 0);
	assert_int_equal(alloc(&b, 512 * KIB, &index), 0);
	shmt_segment_usage(&region, &a, &usage);
	assert_int_equal(usage.chunks_free, 13);
	assert_int_equal(usage.chunks_own, 1);
	assert_int_equal(usage.used, 1);
	assert_int_equal(usage.used_bytes, 256 * KIB);
	assert_int_equal(usage.free_bytes, 14 * MIB - 256 * KIB);
}

/* A chunk word that somebody scribbled on leads nowhere, and the chunk is not lost. */
static void test_senseless_words(void **state)
{
	static const unsigned int logs[] = {0, 15, 20, 21, 31, 63, 64, 255};
	struct shmt_segment_usage usage;
	uint32_t index;

	(void)state;
	for (size_t i = 0; i < sizeof(logs) / sizeof(logs[0]); i++) {
		region.chunks[0].word = SHMT_CHUNK_WORD(a.epoch, a.slot, logs[i]);
		assert_int_equal(alloc(&a, 64 * KIB, &index), 0);
		shmt_segment_usage(&region, &a, &usage);
		assert_int_equal(usage.used, 1);
		shmt_segment_free(&region, &a, index);
		shmt_segment_sweep(&region, &a);
		assert_int_equal(region.chunks[0].word, 0);
	}
	region.chunks[0].word = SHMT_CHUNK_WORD(5, 255, 16);
	shmt_segment_sweep(&region, &a);
	assert_int_equal(region.chunks[0].word, 0);
	region.chunks[0].word = 2;
	shmt_segment_sweep(&region, &a);
	assert_int_equal(region.chunks[0].word, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		TEST(test_contents),	    TEST(test_sizes),
		TEST(test_apart),	    TEST(test_both_gone),
		TEST(test_not_mine),	    TEST(test_peer_died),
		TEST(test_owner_died),	    TEST(test_dead_make_room),
		TEST(test_usage),	    TEST(test_sizes_trade_places),
		TEST(test_senseless_words), TEST(test_generation_wraps),
		TEST(test_smallest_region),
	};

	return cmocka_run_group_tests_name("segment_alloc", tests, NULL, NULL);
}
