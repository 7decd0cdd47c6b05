/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <string.h>

/*
 * In pieces, because libc's memcpy takes "rep movsb" for 2 KiB and more where the processor says
 * that this is fast. Some do not keep the promise: AMD Zen 3 and 4 copy at 3 instead of 45 to 80
 * GB/s if the target lies 1 to 31 bytes behind the source modulo a page, as it may for a whole
 * stream; memory that is not write-back goes byte by byte, and so does everything under emulation.
 * Pieces go by vector registers, as fast or faster everywhere. A wrap costs a second call.
 */
static void copy(uint8_t *dst, const uint8_t *src, size_t len)
{
	size_t piece = 1984; /* whole lines, below libc's threshold with any vector size */

	/* Else the compiler, which knows the size then, has a "rep movsq" of its own. */
	__asm__("" : "+r"(piece));
	for (; len > piece; len -= piece, dst += piece, src += piece)
		memcpy(dst, src, piece);
	memcpy(dst, src, len);
}

void shmt_ring_copy_in(const struct shmt_ring *ring, uint64_t at, const void *src, size_t len)
{
	const size_t off = at & (ring->size - 1);
	const size_t first = len < ring->size - off ? len : ring->size - off;

	copy(ring->data + off, src, first);
	if (first < len)
		copy(ring->data, (const uint8_t *)src + first, len - first);
}

void shmt_ring_copy_out(const struct shmt_ring *ring, uint64_t at, void *dst, size_t len)
{
	const size_t off = at & (ring->size - 1);
	const size_t first = len < ring->size - off ? len : ring->size - off;

	copy(dst, ring->data + off, first);
	if (first < len)
		copy((uint8_t *)dst + first, ring->data, len - first);
}
