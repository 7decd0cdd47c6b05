/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_region.c - whatever lies in a region, nothing outside it is touched, nor between its tables
 *
 * A small region with live content is spoilt: some fields of the superblock, some words of the
 * tables, sometimes everything. Then it is attached, and if it is accepted everything that reads or
 * writes it is called. The memory lies between pages that may not be touched; what is between the
 * tables is compared with what was there before. HAZARDS 38.
 *
 *	fuzz_region [--seed N] [--seconds N]
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "pairing.h"

#define REGION_BYTES (4ULL << 20)
#define HEAD_BYTES   (512u << 10) /* holds all tables of such a region */
#define GUARD_BYTES  (1u << 20)

static uint64_t seed;
static uint64_t state;
static uint8_t *base;
static uint8_t sound[HEAD_BYTES], before[HEAD_BYTES];
static struct shmt_guest guests[3];

static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dULL;
}

static void fail(const char *what)
{
	fprintf(stderr, "fuzz_region: %s; repeat with --seed %llu\n", what,
		(unsigned long long)seed);
	exit(1);
}

/* Numbers that are likelier to hurt than random ones. */
static uint64_t spoilt(uint64_t was)
{
	static const uint64_t edges[] = {
		0,
		1,
		2,
		63,
		64,
		4095,
		4096,
		65536,
		1u << 20,
		REGION_BYTES - 1,
		REGION_BYTES,
		REGION_BYTES + 1,
		1ULL << 31,
		1ULL << 32,
		UINT32_MAX,
		1ULL << 62,
		1ULL << 63,
		UINT64_MAX - 63,
		UINT64_MAX,
	};

	switch (rnd() % 6) {
	case 0:
		return edges[rnd() % (sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return was ^ 1ULL << rnd() % 64;
	case 2:
		return was + rnd() % 129 - 64;
	case 3:
		return was * 2;
	case 4:
		return was / 2;
	default:
		return rnd();
	}
}

static void spoil(uint64_t from, uint64_t to, unsigned int times)
{
	while (times-- > 0) {
		const unsigned int bytes = rnd() % 2 ? 4 : 8;
		const uint64_t at = (from + rnd() % (to - from)) & ~(uint64_t)(bytes - 1);
		uint64_t word = 0;

		memcpy(&word, base + at, bytes);
		word = spoilt(word);
		memcpy(base + at, &word, bytes);
	}
}

static void make_content(void)
{
	const struct shmt_evidence evidence = {.valid = 1};
	struct shmt_conn_key key = {.netns = 1};
	enum coloc_reason reason;
	struct shmt_region region;
	uint8_t bytes[16] = {0};
	uint32_t index;

	if (shmt_region_format(base, REGION_BYTES) < 0 ||
	    shmt_region_attach(base, REGION_BYTES, &region, &reason) < 0 ||
	    region.arena_off > HEAD_BYTES)
		fail("no sound region to begin with");
	for (uint8_t i = 0; i < 3; i++) {
		bytes[15] = i;
		if (shmt_guest_register(&region, bytes, i, "guest", 0, &guests[i]) < 0)
			fail("no guest");
		for (bytes[14] = 0; bytes[14] < 50; bytes[14]++)
			shmt_address_add(&region, &guests[i], bytes);
		for (key.netns = i; key.netns < 90; key.netns += 3)
			shmt_offer_post(&region, &guests[i], &guests[(i + 1) % 3], SHMT_OFFER_MADE,
					&key, &evidence, i, 1);
		for (unsigned int n = 0; n < 4; n++)
			shmt_segment_alloc(&region, &guests[i], SHMT_RING_MIN_BYTES, guests,
					   &index);
	}
	memcpy(sound, base, HEAD_BYTES);
}

/* Where a table lies, in the order of the superblock. */
struct table {
	const void *at;
	uint64_t bytes;
};

static void check_tables(const struct shmt_region *region, struct table tables[5])
{
	const uint8_t *from = region->base + SHMT_PAGE;

	tables[0] = (struct table){region->guests, region->guest_count * sizeof(*region->guests)};
	tables[1] = (struct table){region->addrs, region->addr_count * sizeof(*region->addrs)};
	tables[2] = (struct table){region->offers, region->offer_count * sizeof(*region->offers)};
	tables[3] = (struct table){region->chunks, region->chunk_count * sizeof(*region->chunks)};
	tables[4] = (struct table){region->segs, region->seg_count * sizeof(*region->segs)};
	for (int i = 0; i < 5; i++) {
		if ((const uint8_t *)tables[i].at < from)
			fail("tables overlap");
		from = (const uint8_t *)tables[i].at + tables[i].bytes;
	}
	if (from > region->base + region->arena_off || region->bytes > REGION_BYTES ||
	    region->arena_off + region->chunk_count * region->chunk_bytes > region->bytes)
		fail("tables end outside");
}

static void check_between(const struct shmt_region *region, const struct table tables[5])
{
	uint64_t from = 0;

	for (int i = 0; i <= 5; i++) {
		uint64_t to = i < 5 ? (uint64_t)((const uint8_t *)tables[i].at - region->base)
				    : region->arena_off;

		if (to > HEAD_BYTES)
			to = HEAD_BYTES;
		if (from < to && memcmp(base + from, before + from, to - from) != 0)
			fail("written between the tables");
		if (i < 5)
			from = (uint64_t)((const uint8_t *)tables[i].at - region->base) +
			       tables[i].bytes;
	}
}

static void use(struct shmt_region *region)
{
	struct shmt_segment_usage usage;
	struct shmt_offer offer;
	struct shmt_guest guest;
	uint8_t bytes[16] = {0};
	uint64_t epoch;
	uint32_t index;

	for (unsigned int i = 0; i < 200; i++) {
		int slot;

		bytes[14] = (uint8_t)(rnd() % 60);
		bytes[15] = (uint8_t)(rnd() % 4);
		slot = shmt_directory_find(region, bytes, &epoch);
		if (slot >= (int)region->guest_count)
			fail("found a guest that cannot be");
	}
	for (uint32_t i = 0; i < region->offer_count + 3; i++) {
		if (shmt_offer_read(region, i, &offer) < 0)
			continue;
		if (offer.index != i || offer.author.slot >= region->guest_count ||
		    offer.addressee.slot >= region->guest_count ||
		    (offer.state == SHMT_OFFER_MADE && !shmt_region_seg(region, offer.seg)))
			fail("read an offer that cannot be");
		if (rnd() % 2)
			shmt_offer_answer(region, &offer, SHMT_OFFER_TAKEN, 0);
		else
			shmt_offer_find(region, &offer.key, NULL, SHMT_OFFER_MADE, &offer);
	}
	for (uint32_t i = 0; i < region->seg_count; i++)
		shmt_segment_set_gone(region, i, region->segs[i].generation, rnd() % 2);
	shmt_segment_usage(region, &guests[0], &usage);
	shmt_segment_sweep(region, &guests[rnd() % 3]);
	shmt_guest_bury(region, (uint32_t)(rnd() % 70), guests[rnd() % 3].epoch);
	bytes[15] = (uint8_t)(rnd() % 5);
	if (shmt_guest_register(region, bytes, 1, "again", 0, &guest) == 0) {
		if (guest.slot >= region->guest_count)
			fail("registered in a slot that cannot be");
		shmt_guest_beat(region, &guest);
		shmt_address_add(region, &guest, bytes);
		for (int i = 0; i < 3; i++) {
			if (shmt_segment_alloc(region, &guest, SHMT_RING_MIN_BYTES << rnd() % 6,
					       guests, &index) == 0 &&
			    index >= region->seg_count)
				fail("allocated a segment that cannot be");
		}
		shmt_segment_sweep(region, &guest);
	}
}

static bool one_round(void)
{
	struct shmt_region region;
	enum coloc_reason reason;
	struct table tables[5];

	memcpy(base, sound, HEAD_BYTES);
	switch (rnd() % 8) {
	case 0: /* anything at all, with a magic and a version that are right */
		for (uint32_t i = 8; i < HEAD_BYTES; i += 8) {
			const uint64_t word = rnd();

			memcpy(base + i, &word, 8);
		}
		if (rnd() % 2)
			memcpy(base, sound, sizeof(struct shmt_super_shared));
		break;
	case 1:
		spoil(0, SHMT_PAGE, 30);
		break;
	default:
		if (rnd() % 2)
			spoil(0, sizeof(struct shmt_super_shared), 1 + rnd() % 3);
		spoil(SHMT_PAGE, HEAD_BYTES, rnd() % 3000);
	}
	memcpy(before, base, HEAD_BYTES);
	if (shmt_region_attach(base, REGION_BYTES, &region, &reason) < 0) {
		if (reason == COLOC_REASON_NONE)
			fail("declined without a reason");
		shmt_region_format(base, REGION_BYTES);
		return false;
	}
	check_tables(&region, tables);
	use(&region);
	check_between(&region, tables);
	return true;
}

int main(int argc, char **argv)
{
	uint64_t seconds = 2, rounds = 0, accepted = 0;
	const time_t begin = time(NULL);
	uint8_t *memory;

	seed = (uint64_t)begin;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = strtoull(argv[i + 1], NULL, 10);
	}
	printf("fuzz_region: seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	state = seed * 2 + 1;

	memory = mmap(NULL, REGION_BYTES + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	base = mmap(memory + GUARD_BYTES, REGION_BYTES, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (memory == MAP_FAILED || base == MAP_FAILED)
		fail("no memory");
	make_content();
	do {
		accepted += one_round();
		rounds++;
	} while ((uint64_t)(time(NULL) - begin) < seconds);
	printf("fuzz_region: %llu rounds, %llu regions accepted\n", (unsigned long long)rounds,
	       (unsigned long long)accepted);
	return accepted > 0 ? 0 : 1;
}
