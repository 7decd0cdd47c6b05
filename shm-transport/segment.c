/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - ring pairs, cut from chunks that one guest owns
 *
 * A chunk has one owner, named in its word, and only the owner changes the states of its segments;
 * so nothing here is contended but the words of chunks that nobody owns. A chunk is had by CAS from
 * 0, or from the word of an owner whose life is over: then with all that is still used in it, and
 * the new owner frees that when its time comes, as if it had been its own. So there is never more
 * than one who frees, and whoever dies in the middle leaves a chunk that can be had again.
 *
 * A segment may be used again when nobody can touch it: both ends are gone, or of a life that is
 * over. Each end's agent alone knows the former; silence is neither. What a late one says of the
 * stream before does not count, as it names that stream's generation.
 *
 * What a chunk's word says of the ring size is checked at each use like all that others can write.
 */
#include "segment.h"

#include <errno.h>
#include <string.h>

#include "populate.h"

static uint64_t chunk_word(const struct shmt_guest *guest, unsigned int log2_ring)
{
	return SHMT_CHUNK_WORD(guest->epoch, guest->slot, log2_ring);
}

static bool is_own(uint64_t word, const struct shmt_guest *guest)
{
	return word != 0 && SHMT_CHUNK_EPOCH(word) == guest->epoch &&
	       SHMT_CHUNK_GUEST(word) == guest->slot;
}

/* How many segments a chunk of this word holds; 0: the word makes no sense. */
static uint32_t segs_in_chunk(const struct shmt_region *region, uint64_t word)
{
	const unsigned int log2_ring = SHMT_CHUNK_LOG2_RING(word);
	uint64_t count;

	if (log2_ring > 30 || 1ULL << log2_ring < SHMT_RING_MIN_BYTES ||
	    1ULL << log2_ring > shmt_region_ring_max(region))
		return 0;
	count = region->chunk_bytes >> (log2_ring + 1);
	return count < region->segs_per_chunk ? (uint32_t)count : region->segs_per_chunk;
}

static struct shmt_seg_shared *seg_at(const struct shmt_region *region, uint32_t chunk, uint32_t n)
{
	return &region->segs[chunk * region->segs_per_chunk + n];
}

/* A free segment in an own chunk of this size; -ENOSPC */
static int64_t find_free(const struct shmt_region *region, uint64_t own_word)
{
	const uint32_t segs = segs_in_chunk(region, own_word);

	for (uint32_t chunk = 0; chunk < region->chunk_count; chunk++) {
		if (shmt_load_acquire(&region->chunks[chunk].word) != own_word)
			continue;
		for (uint32_t n = 0; n < segs; n++) {
			if (shmt_load_acquire(&seg_at(region, chunk, n)->state) == SHMT_SEG_FREE)
				return (int64_t)chunk * region->segs_per_chunk + n;
		}
	}
	return -ENOSPC;
}

static int64_t claim_chunk(struct shmt_region *region, uint64_t own_word)
{
	for (uint32_t chunk = 0; chunk < region->chunk_count; chunk++) {
		uint64_t *const word = &region->chunks[chunk].word;

		if (shmt_load_relaxed(word) != 0 || !shmt_cas(word, 0, own_word))
			continue;
		for (uint32_t n = 0; n < region->segs_per_chunk; n++)
			shmt_store_release(&seg_at(region, chunk, n)->state, SHMT_SEG_FREE);
		return (int64_t)chunk * region->segs_per_chunk;
	}
	return -ENOSPC;
}

static int64_t find_or_claim(struct shmt_region *region, uint64_t own_word)
{
	const int64_t index = find_free(region, own_word);

	return index >= 0 ? index : claim_chunk(region, own_word);
}

static void set_up(struct shmt_seg_shared *seg, uint64_t data_off, uint64_t ring_bytes,
		   const struct shmt_guest ends[2])
{
	uint32_t generation = shmt_load_relaxed(&seg->generation) + 1;

	if (generation == 0)
		generation = 1;
	for (unsigned int side = 0; side < 2; side++) {
		struct shmt_seg_end_shared *const end = &seg->end[side];

		shmt_store_release(&end->gone, generation - 1);
		shmt_store_release(&end->epoch, ends[side].epoch);
		shmt_store_release(&end->guest, ends[side].slot);
		memset(&end->evidence, 0, sizeof(end->evidence));
	}
	memset(seg->dir, 0, sizeof(seg->dir));
	seg->data_off = data_off;
	seg->ring_bytes = ring_bytes;
	shmt_store_release(&seg->generation, generation);
	/* G1 release, pairs with G2: who sees USED sees all of it. */
	shmt_store_release(&seg->state, SHMT_SEG_USED);
}

int shmt_segment_alloc(struct shmt_region *region, const struct shmt_guest *guest,
		       uint64_t ring_bytes, const struct shmt_guest ends[2], uint32_t *ret_index)
{
	uint64_t own_word, data_off;
	uint32_t chunk, n;
	uint8_t *data;
	int64_t index;

	if (ring_bytes < SHMT_RING_MIN_BYTES || ring_bytes > shmt_region_ring_max(region) ||
	    (ring_bytes & (ring_bytes - 1)) != 0)
		return -EINVAL;
	own_word = chunk_word(guest, (unsigned int)__builtin_ctzll(ring_bytes));

	index = find_or_claim(region, own_word);
	if (index < 0) {
		/* Own chunks of another size may be empty, others' may be left behind. */
		shmt_segment_sweep(region, guest);
		index = find_or_claim(region, own_word);
	}
	if (index < 0)
		return -ENOSPC;

	chunk = (uint32_t)index / region->segs_per_chunk;
	n = (uint32_t)index % region->segs_per_chunk;
	data_off = region->arena_off + chunk * region->chunk_bytes + n * 2 * ring_bytes;
	data = shmt_region_at(region, data_off, 2 * ring_bytes);
	if (shmt_populate(data, 2 * ring_bytes) < 0)
		return -ENOSPC;
	memset(data, 0, 2 * ring_bytes);
	set_up(&region->segs[index], data_off, ring_bytes, ends);
	*ret_index = (uint32_t)index;
	return 0;
}

void shmt_segment_free(struct shmt_region *region, const struct shmt_guest *guest, uint32_t index)
{
	if (index < region->seg_count &&
	    is_own(shmt_load_acquire(&region->chunks[index / region->segs_per_chunk].word), guest))
		shmt_store_release(&region->segs[index].state, SHMT_SEG_FREE);
}

void shmt_segment_set_gone(struct shmt_region *region, uint32_t index, uint32_t generation,
			   unsigned int side)
{
	struct shmt_seg_shared *const seg = shmt_region_seg(region, index);

	if (seg && side < 2 && shmt_load_acquire(&seg->generation) == generation)
		shmt_seg_end_set_gone(&seg->end[side], generation);
}

/* ---- taking back ----------------------------------------------------------------------------- */

static bool end_is_done(const struct shmt_region *region, const struct shmt_seg_shared *seg,
			unsigned int side)
{
	const struct shmt_seg_end_shared *const end = &seg->end[side];

	return shmt_seg_end_gone(end, shmt_load_acquire(&seg->generation)) ||
	       shmt_guest_over(region, shmt_load_acquire(&end->guest),
			       shmt_load_acquire(&end->epoch));
}

/* True when the chunk is this guest's, if need be from now on. */
static bool own_or_adopt(struct shmt_region *region, const struct shmt_guest *guest, uint32_t chunk)
{
	uint64_t *const word = &region->chunks[chunk].word;
	const uint64_t was = shmt_load_acquire(word);

	if (was == 0 || is_own(was, guest))
		return was != 0;
	return shmt_guest_over(region, SHMT_CHUNK_GUEST(was), SHMT_CHUNK_EPOCH(was)) &&
	       shmt_cas(word, was, chunk_word(guest, SHMT_CHUNK_LOG2_RING(was)));
}

uint32_t shmt_segment_sweep(struct shmt_region *region, const struct shmt_guest *guest)
{
	uint32_t freed = 0;

	for (uint32_t chunk = 0; chunk < region->chunk_count; chunk++) {
		uint32_t used = 0;

		if (!own_or_adopt(region, guest, chunk))
			continue;
		for (uint32_t n = 0; n < region->segs_per_chunk; n++) {
			struct shmt_seg_shared *const seg = seg_at(region, chunk, n);

			/* G2 acquire, pairs with G1. */
			if (shmt_load_acquire(&seg->state) == SHMT_SEG_FREE)
				continue;
			if (end_is_done(region, seg, 0) && end_is_done(region, seg, 1)) {
				shmt_store_release(&seg->state, SHMT_SEG_FREE);
				freed++;
			} else {
				used++;
			}
		}
		/* Release: the next owner finds every state FREE. */
		if (used == 0)
			shmt_store_release(&region->chunks[chunk].word, 0);
	}
	return freed;
}

void shmt_segment_usage(const struct shmt_region *region, const struct shmt_guest *guest,
			struct shmt_segment_usage *ret_usage)
{
	struct shmt_segment_usage usage = {.chunks_total = region->chunk_count};

	for (uint32_t chunk = 0; chunk < region->chunk_count; chunk++) {
		const uint64_t word = shmt_load_acquire(&region->chunks[chunk].word);
		const uint32_t segs = segs_in_chunk(region, word);
		const uint64_t pair_bytes = 2ULL << SHMT_CHUNK_LOG2_RING(word) % 32;

		if (word == 0) {
			usage.chunks_free++;
			usage.free_bytes += region->chunk_bytes;
		}
		if (!is_own(word, guest))
			continue;
		usage.chunks_own++;
		for (uint32_t n = 0; n < segs; n++) {
			if (shmt_load_acquire(&seg_at(region, chunk, n)->state) == SHMT_SEG_FREE) {
				usage.free_bytes += pair_bytes;
			} else {
				usage.used++;
				usage.used_bytes += pair_bytes;
			}
		}
	}
	*ret_usage = usage;
}
