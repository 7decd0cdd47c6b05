/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - one-writer one-reader bytes between positions
 *
 * A ring is data and a size. Where the written bytes begin and end is the switch's business
 * (switch.h): its word carries the head, so that publishing and changing the mode are one step.
 * Nothing here blocks, allocates or touches anything but the bytes named.
 */
#ifndef SHMT_RING_H
#define SHMT_RING_H

#include <stddef.h>
#include <stdint.h>

#include "atomic.h"

struct shmt_ring {
	uint8_t *data;
	uint64_t size; /* bytes, a power of two */
};

/** shmt_ring_copy_in() - @len <= size bytes of @src to position @at; the caller has the room */
void shmt_ring_copy_in(const struct shmt_ring *ring, uint64_t at, const void *src, size_t len);

/** shmt_ring_copy_out() - @len <= size bytes from position @at to @dst */
void shmt_ring_copy_out(const struct shmt_ring *ring, uint64_t at, void *dst, size_t len);

/*
 * Hints: the line is fetched while there is something else to do. They change nothing, and may name
 * memory that is not there.
 */

/** shmt_ring_soon_in() - a few bytes are to be written at @at: take the lines from the other side
 */
static inline void shmt_ring_soon_in(const struct shmt_ring *ring, uint64_t at)
{
	const uint8_t *const line = ring->data + (at & (ring->size - 1));

	shmt_own_soon(line);
	shmt_own_soon(line + 64);
}

/** shmt_ring_soon_out() - bytes at @at are there, and are to be read */
static inline void shmt_ring_soon_out(const struct shmt_ring *ring, uint64_t at)
{
	const uint8_t *const line = ring->data + (at & (ring->size - 1));

	__builtin_prefetch(line);
	__builtin_prefetch(line + 64);
}

#endif
