/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rx_stash.c - what a receive takes from the stash (removal.c of the agent)
 */
#include <errno.h>

#include "ready.h"
#include "rx_call.h"

ssize_t pl_rx_stashed(struct pl_rx_call *c)
{
	struct coloc_record_stash_shared *stash = &c->s->rec->stash;
	struct coloc_record_rx_shared *rx = &c->s->rec->rx;
	const enum pl_lock_result lock = pl_lock(&rx->lock);
	const uint64_t bytes = shmt_load(&stash->bytes), taken = shmt_load(&stash->taken);
	const uint64_t missing = shmt_load(&stash->missing);
	struct shmt_ring ring;
	ssize_t n = -ESTALE;

	c->left_tcp = true;
	if (bytes <= taken)
		goto out;
	if (lock == PL_LOCK_NESTED) { /* its own thread is at them */
		n = -EAGAIN;
		goto out;
	}
	if (pl_ready_follows(c->s))
		shmt_rx_stashed(&c->s->rx, stash->tail, bytes);
	else if (shmt_load(&rx->attach) == 2 && pl_may_be_on_ring(c->s))
		goto out; /* what is taken has to be counted there */
	if (missing) {
		n = pl_rx_before_stash(c, missing);
		if (n > 0 && !(c->flags & MSG_PEEK))
			shmt_store(&stash->missing, missing - (uint64_t)n);
		goto out;
	}
	for (ring.size = SHMT_RING_MIN_BYTES; ring.size < bytes; ring.size *= 2)
		;
	n = -ECONNRESET;
	if (stash->off > pl.stash_bytes || ring.size > pl.stash_bytes - stash->off)
		goto out;
	ring.data = pl.stash + stash->off;
	n = (ssize_t)(c->v->total - c->done);
	n = pl_rx_copy_out(c, &ring, taken,
			   (uint64_t)n < bytes - taken ? (size_t)n : bytes - taken);
	if (n > 0 && !(c->flags & MSG_PEEK)) {
		shmt_count(&rx->ring_bytes, (uint64_t)n);
		shmt_count(&rx->messages, 1);
		/* Before: a receive that sees no stash takes what the kernel has. */
		if (taken + (uint64_t)n == bytes)
			(void)pl_ready_let_go(c->s, c->fd);
		shmt_store(&stash->taken, taken + (uint64_t)n);
	}
out:
	pl_unlock(&rx->lock, lock);
	return n;
}
