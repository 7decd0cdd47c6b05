/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <string.h>

/* The compiler's memcpy is as fast as hand-written copies here; a wrap costs a second call. */

void shmt_ring_copy_in(const struct shmt_ring *ring, uint64_t at, const void *src, size_t len)
{
	const size_t off = at & (ring->size - 1);
	const size_t first = len < ring->size - off ? len : ring->size - off;

	memcpy(ring->data + off, src, first);
	if (first < len)
		memcpy(ring->data, (const uint8_t *)src + first, len - first);
}

void shmt_ring_copy_out(const struct shmt_ring *ring, uint64_t at, void *dst, size_t len)
{
	const size_t off = at & (ring->size - 1);
	const size_t first = len < ring->size - off ? len : ring->size - off;

	memcpy(dst, ring->data + off, first);
	if (first < len)
		memcpy((uint8_t *)dst + first, ring->data, len - first);
}
