/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - ring pairs: allocated from the guest's own chunks, reclaimed when both ends are gone
 *
 * All state lies in the region (chunk words, segment states), so a restarted agent goes on where
 * the last one stopped. Callers: agents only, each for its own guest.
 */
#ifndef SHMT_SEGMENT_H
#define SHMT_SEGMENT_H

#include "atomic.h"
#include "directory.h"

struct shmt_segment_usage {
	uint32_t chunks_total, chunks_free, chunks_own;
	uint32_t used;	     /* segments of this guest that are USED */
	uint64_t used_bytes; /* data bytes of those */
	uint64_t free_bytes; /* what this guest could still allocate */
};

/**
 * shmt_segment_alloc() - a zeroed control block and two rings of @ring_bytes
 * @ends: guest slot and epoch of end 0 and end 1, copied into the segment
 * @ret_index: number in the segment table. The generation is new, ctl of both directions {0, TCP}.
 * Data that an earlier stream left is zeroed.
 * Memory is put behind it here, so that nobody gets SIGBUS from it later.
 * Return: 0, -ENOSPC (no room in the region, or no memory behind it), -EINVAL (ring_bytes no power
 * of two, less than SHMT_RING_MIN_BYTES or more than shmt_region_ring_max())
 */
int shmt_segment_alloc(struct shmt_region *region, const struct shmt_guest *guest,
		       uint64_t ring_bytes, const struct shmt_guest ends[2], uint32_t *ret_index);

/** shmt_segment_free() - at once, whatever the ends say: for one that was never granted to both */
void shmt_segment_free(struct shmt_region *region, const struct shmt_guest *guest, uint32_t index);

/**
 * shmt_segment_set_gone() - end @side of @index is done: no process of that guest uses it. The
 * owner frees it when both are. Checks @generation: a stale one changes nothing.
 */
void shmt_segment_set_gone(struct shmt_region *region, uint32_t index, uint32_t generation,
			   unsigned int side);

/** shmt_seg_end_set_gone(), shmt_seg_end_gone() - the same on the entry itself; any process */
static inline void shmt_seg_end_set_gone(struct shmt_seg_end_shared *end, uint32_t generation)
{
	uint32_t was;

	/* Only upwards: a word about an earlier stream must not undo one about this one. */
	do {
		was = shmt_load_acquire(&end->gone);
	} while ((int32_t)(generation - was) > 0 && !shmt_cas(&end->gone, was, generation));
}

static inline bool shmt_seg_end_gone(const struct shmt_seg_end_shared *end, uint32_t generation)
{
	return shmt_load_acquire(&end->gone) == generation;
}

/**
 * shmt_segment_sweep() - free own segments whose ends are both gone or of a life that is over,
 * give empty chunks back. Chunks of guests whose life is over become own first.
 * Return: segments freed
 */
uint32_t shmt_segment_sweep(struct shmt_region *region, const struct shmt_guest *guest);

/** shmt_segment_usage() - for status */
void shmt_segment_usage(const struct shmt_region *region, const struct shmt_guest *guest,
			struct shmt_segment_usage *ret_usage);

#endif
