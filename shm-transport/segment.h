/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - ring pairs: allocated from the guest's own chunks, reclaimed when both ends are gone
 *
 * All state lies in the region (chunk words, segment states), so a restarted agent goes on where
 * the last one stopped. Callers: agents only, each for its own guest.
 */
#ifndef SHMT_SEGMENT_H
#define SHMT_SEGMENT_H

#include "directory.h"

struct shmt_segment_usage {
	uint32_t chunks_total, chunks_free, chunks_own;
	uint32_t used;       /* segments of this guest that are USED */
	uint64_t used_bytes; /* data bytes of those */
	uint64_t free_bytes; /* what this guest could still allocate */
};

/**
 * shmt_segment_alloc() - a zeroed control block and two rings of @ring_bytes
 * @ends: guest slot and epoch of end 0 and end 1, copied into the segment
 * @ret_index: number in the segment table. The generation is new, ctl of both directions {0, TCP}.
 * Data that an earlier stream left is zeroed.
 * Return: 0, -ENOSPC, -EINVAL (ring_bytes no power of two, or out of range)
 */
int shmt_segment_alloc(struct shmt_region *region, const struct shmt_guest *guest,
		       uint64_t ring_bytes, const struct shmt_guest ends[2], uint32_t *ret_index);

/** shmt_segment_free() - at once, whatever the ends say: for one that was never granted to both */
void shmt_segment_free(struct shmt_region *region, const struct shmt_guest *guest, uint32_t index);

/**
 * shmt_segment_set_gone() - end @side of @index is done: no process of that guest uses it. The owner
 * frees it when both are. Checks @generation: a stale one changes nothing.
 */
void shmt_segment_set_gone(struct shmt_region *region, uint32_t index, uint32_t generation,
			   unsigned int side);

/**
 * shmt_segment_sweep() - free own segments whose ends are both gone or of a life that is over,
 * give empty chunks back. Return: segments freed
 */
uint32_t shmt_segment_sweep(struct shmt_region *region, const struct shmt_guest *guest);

/** shmt_segment_usage() - for status */
void shmt_segment_usage(const struct shmt_region *region, const struct shmt_guest *guest,
			struct shmt_segment_usage *ret_usage);

#endif
