/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: as many ring pairs can be had as a fresh region's free bytes say, in regions of all sizes
 * and with rings of all sizes; and each further owner costs less than one chunk. docs/deploy-vm.md
 * has a table of these numbers, which tests/e2e/test_deploy.sh compares with what an agent's status
 * says.
 *
 * The allocator zeroes each ring, so gigabytes would be written: every chunk of the arena is
 * therefore a mapping of one and the same piece of memory.
 */
#include <errno.h>
#include <unistd.h>

#include "segment.h"
#include "unit_region.h"

static void *alias_arena(struct shmt_region *region)
{
	const int fd = memfd_create("arena", MFD_CLOEXEC);

	assert_int_not_equal(fd, -1);
	assert_int_equal(ftruncate(fd, (off_t)region->chunk_bytes), 0);
	for (uint32_t chunk = 0; chunk < region->chunk_count; chunk++) {
		uint8_t *const at = region->base + region->arena_off + chunk * region->chunk_bytes;

		assert_ptr_equal(mmap(at, region->chunk_bytes, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, fd, 0),
				 at);
	}
	close(fd);
	return region->base;
}

static uint32_t fill(struct shmt_region *region, const struct shmt_guest *owner,
		     uint64_t ring_bytes, uint32_t most)
{
	const struct shmt_guest ends[2] = {*owner, *owner};
	uint32_t count, index;

	for (count = 0; count < most; count++)
		if (shmt_segment_alloc(region, owner, ring_bytes, ends, &index) != 0)
			break;
	return count;
}

static void fits(uint64_t region_mib, uint64_t ring_kib)
{
	struct shmt_segment_usage usage;
	struct shmt_guest a, b;
	struct shmt_region region;
	uint64_t ring_bytes = ring_kib << 10;
	uint32_t pairs, in_chunk, got;
	void *base;

	unit_region(region_mib * MIB, &region);
	base = alias_arena(&region);
	a = unit_guest(&region, 1);
	b = unit_guest(&region, 2);
	/* As the agent does. */
	if (ring_bytes > shmt_region_ring_max(&region))
		ring_bytes = shmt_region_ring_max(&region);

	shmt_segment_usage(&region, &a, &usage);
	pairs = (uint32_t)(usage.free_bytes / (2 * ring_bytes));
	in_chunk = pairs / usage.chunks_total;
	assert_int_equal(usage.chunks_free, usage.chunks_total);

	/* b takes one, and with it a chunk; a gets all that is left. */
	assert_int_equal(fill(&region, &b, ring_bytes, 1), 1);
	got = fill(&region, &a, ring_bytes, UINT32_MAX);
	assert_int_equal(got, pairs - in_chunk);
	/* And b the rest of its chunk: nothing is lost that somebody can still use. */
	assert_int_equal(fill(&region, &b, ring_bytes, UINT32_MAX), in_chunk - 1);
	munmap(base, region_mib * MIB);
}

/* The thread sanitizer's shadow of so many mappings takes a minute, and there is one thread. */
#ifdef __SANITIZE_THREAD__
#define MOST_MIB 32
#else
#define MOST_MIB 1024
#endif

static void test_all_sizes(void **state)
{
	(void)state;
	for (uint64_t mib = 4; mib <= 256 && mib <= MOST_MIB; mib *= 2)
		for (uint64_t kib = 64; kib <= 2048; kib *= 2)
			fits(mib, kib);
	for (uint64_t kib = 512; kib <= 2048 && MOST_MIB >= 1024; kib *= 4)
		fits(1024, kib);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
