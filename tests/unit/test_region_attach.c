/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: each field of a superblock is checked: a value that cannot be is declined with the right
 * reason, and what is accepted lies inside the mapping.
 */
#include <errno.h>

#include "unit_region.h"

#define FIELD(name) \
	offsetof(struct shmt_super_shared, name), sizeof(((struct shmt_super_shared *)0)->name)

static const struct {
	size_t at, bytes;
	uint64_t value;
	enum coloc_reason reason;
} bad[] = {
	{FIELD(magic), 1, COLOC_REASON_NO_REGION},
	{FIELD(version), 0, COLOC_REASON_REGION_VERSION},
	{FIELD(version), SHMT_VERSION + 1, COLOC_REASON_REGION_VERSION},
	{FIELD(super_bytes), 120, COLOC_REASON_REGION_VERSION},
	{FIELD(features), 1, COLOC_REASON_REGION_VERSION},
	{FIELD(features), 1ULL << 63, COLOC_REASON_REGION_VERSION},
	{FIELD(region_bytes), 0, COLOC_REASON_NO_REGION},
	{FIELD(region_bytes), 4 * MIB + 4096, COLOC_REASON_NO_REGION},
	{FIELD(region_bytes), 4 * MIB - 4096, COLOC_REASON_NO_REGION},
	{FIELD(region_bytes), UINT64_MAX, COLOC_REASON_NO_REGION},
	{FIELD(guests_off), 0, COLOC_REASON_NO_REGION},
	{FIELD(guests_off), 4096 + 8, COLOC_REASON_NO_REGION},
	{FIELD(guests_off), 3 * MIB, COLOC_REASON_NO_REGION},
	{FIELD(guests_off), UINT64_MAX - 63, COLOC_REASON_NO_REGION},
	{FIELD(addrs_off), 4096, COLOC_REASON_NO_REGION},
	{FIELD(addrs_off), 1ULL << 63, COLOC_REASON_NO_REGION},
	{FIELD(offers_off), 4096, COLOC_REASON_NO_REGION},
	{FIELD(offers_off), 4 * MIB - 64, COLOC_REASON_NO_REGION},
	{FIELD(chunks_off), 0, COLOC_REASON_NO_REGION},
	{FIELD(chunks_off), 4 * MIB, COLOC_REASON_NO_REGION},
	{FIELD(segs_off), 0, COLOC_REASON_NO_REGION},
	{FIELD(segs_off), UINT64_MAX, COLOC_REASON_NO_REGION},
	{FIELD(arena_off), 0, COLOC_REASON_NO_REGION},
	{FIELD(arena_off), 3 * MIB, COLOC_REASON_NO_REGION},
	{FIELD(arena_off), 1 * MIB + 64, COLOC_REASON_NO_REGION},
	{FIELD(chunk_bytes), 0, COLOC_REASON_NO_REGION},
	{FIELD(chunk_bytes), 3 * MIB / 2, COLOC_REASON_NO_REGION},
	{FIELD(chunk_bytes), 512 << 10, COLOC_REASON_NO_REGION},
	{FIELD(chunk_bytes), 2 * MIB, COLOC_REASON_NO_REGION},
	{FIELD(chunk_bytes), 1ULL << 62, COLOC_REASON_NO_REGION},
	{FIELD(guest_count), 0, COLOC_REASON_NO_REGION},
	{FIELD(guest_count), SHMT_GUESTS_MAX + 1, COLOC_REASON_NO_REGION},
	{FIELD(addr_count), 0, COLOC_REASON_NO_REGION},
	{FIELD(addr_count), 1000, COLOC_REASON_NO_REGION},
	{FIELD(addr_count), 32, COLOC_REASON_NO_REGION},
	{FIELD(addr_count), 2048, COLOC_REASON_NO_REGION},
	{FIELD(addr_count), 1u << 31, COLOC_REASON_NO_REGION},
	{FIELD(offer_count), 0, COLOC_REASON_NO_REGION},
	{FIELD(offer_count), 32, COLOC_REASON_NO_REGION},
	{FIELD(offer_count), 512, COLOC_REASON_NO_REGION},
	{FIELD(offer_count), 1u << 31, COLOC_REASON_NO_REGION},
	{FIELD(chunk_count), 0, COLOC_REASON_NO_REGION},
	{FIELD(chunk_count), 4, COLOC_REASON_NO_REGION},
	{FIELD(chunk_count), UINT32_MAX, COLOC_REASON_NO_REGION},
	{FIELD(segs_per_chunk), 0, COLOC_REASON_NO_REGION},
	{FIELD(segs_per_chunk), 9, COLOC_REASON_NO_REGION},
	{FIELD(segs_per_chunk), UINT32_MAX, COLOC_REASON_NO_REGION},
};

static void test_each_field(void **state)
{
	struct shmt_region region, untouched;
	enum coloc_reason reason;
	uint8_t *page;

	(void)state;
	unit_region(4 * MIB, &region);
	page = region.base;
	memset(&untouched, 0x5a, sizeof(untouched));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct shmt_region got = untouched;
		uint8_t good[8];

		memcpy(good, page + bad[i].at, bad[i].bytes);
		memcpy(page + bad[i].at, &bad[i].value, bad[i].bytes);
		print_message("offset %zu value %#llx\n", bad[i].at,
			      (unsigned long long)bad[i].value);
		assert_int_equal(shmt_region_attach(page, 4 * MIB, &got, &reason), -EPROTO);
		assert_int_equal(reason, bad[i].reason);
		assert_memory_equal(&got, &untouched, sizeof(got)); /* written only on success */
		memcpy(page + bad[i].at, good, bad[i].bytes);
	}
	assert_int_equal(shmt_region_attach(page, 4 * MIB, &region, &reason), 0);
	munmap(page, 4 * MIB);
}

static void test_bounds(void **state)
{
	struct shmt_region region;

	(void)state;
	unit_region(8 * MIB, &region);
	assert_int_equal(region.arena_off % SHMT_PAGE, 0);
	assert_true((uint8_t *)&region.segs[region.seg_count] <= region.base + region.arena_off);
	assert_true(region.arena_off + region.chunk_count * region.chunk_bytes <= region.bytes);

	assert_null(shmt_region_seg(&region, region.seg_count));
	assert_null(shmt_region_seg(&region, UINT32_MAX));
	assert_ptr_equal(shmt_region_seg(&region, 0), region.segs);

	assert_null(shmt_region_at(&region, region.arena_off - 1, 1));
	assert_null(shmt_region_at(&region, region.bytes, 1));
	assert_null(shmt_region_at(&region, region.bytes - 1, 2));
	assert_null(shmt_region_at(&region, region.arena_off, UINT64_MAX));
	assert_null(shmt_region_at(&region, UINT64_MAX, 2));
	assert_ptr_equal(shmt_region_at(&region, region.bytes - 1, 1),
			 region.base + region.bytes - 1);
	munmap(region.base, 8 * MIB);
}

/* A mapping larger than the region is fine, a smaller one is not. */
static void test_mapping_size(void **state)
{
	struct shmt_region region;
	enum coloc_reason reason;
	uint8_t *base = unit_memory(16 * MIB);

	(void)state;
	assert_int_equal(shmt_region_format(base, 8 * MIB), 0);
	assert_int_equal(shmt_region_attach(base, 16 * MIB, &region, &reason), 0);
	assert_int_equal(region.bytes, 8 * MIB);
	assert_int_equal(shmt_region_attach(base, 8 * MIB - 4096, &region, &reason), -EPROTO);
	assert_int_equal(shmt_region_attach(base, 4096, &region, &reason), -EPROTO);
	assert_int_equal(shmt_region_attach(NULL, 8 * MIB, &region, &reason), -EPROTO);
	munmap(base, 16 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_field),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_mapping_size),
	};

	return cmocka_run_group_tests_name("region_attach", tests, NULL, NULL);
}
