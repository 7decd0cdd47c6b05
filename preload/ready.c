/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ready.c - see ready.h
 *
 * Sleepers and their wake-up: who goes to sleep raises a count (of poll, or the sleepers of an
 * epoll set) and then settles; who leaves a stream on the ring does so by CAS and then looks at the
 * counts. All are sequentially consistent, so one of the two sees the other.
 */
#include "ready.h"

#include <sched.h>

#include "epset.h"
#include "lock.h"
#include "pollset.h"

bool pl_ready_now(struct pl_stream *s)
{
	const uint64_t ctl = shmt_load(&s->rx.shared->ctl);
	uint64_t tail;

	if (SHMT_CTL_MODE(ctl) == SHMT_TCP || shmt_rx_missing(&s->rx))
		return false;
	tail = shmt_load_relaxed(&s->rx.shared->tail);
	/* A broken index counts as ready: the receive that follows ends the stream. */
	if (!shmt_rx_avail(&s->rx, ctl, tail))
		return false;
	shmt_ring_soon_out(&s->rx.ring, tail);
	return true;
}

bool pl_ready_arrived(struct pl_stream *s)
{
	const uint64_t ctl = shmt_load(&s->rx.shared->ctl);

	return SHMT_CTL_MODE(ctl) != SHMT_TCP &&
	       shmt_rx_avail(&s->rx, ctl, shmt_load_relaxed(&s->rx.shared->tail)) != 0;
}

bool pl_ready_let_go(struct pl_stream *s, int fd)
{
	char byte;

	if (!pl_ready_held(s))
		return true;
	if (fd < 0)
		return false;
	(void)!pl_real.recv(fd, &byte, 1, MSG_DONTWAIT);
	shmt_store(&s->rec->rx.held, 0);
	return true;
}

bool pl_ready_end_run(struct pl_stream *s, int fd, uint64_t ctl)
{
	/* Nothing is added to a ring that is left, where alone a byte is held. */
	if (!pl_ready_let_go(s, fd) || !shmt_rx_settle(&s->rx, ctl))
		return false;
	shmt_add_relaxed(&pl.local->totals.switches_to_tcp, 1);
	return true;
}

bool pl_ready_settle(struct pl_stream *s)
{
	struct coloc_record_rx_shared *rx = &s->rec->rx;
	const enum pl_lock_result lock = pl_lock(&rx->lock);
	const int fd = pl_stream_any_fd(s);
	bool may_sleep, others = false;
	uint64_t ctl;

	for (;;) {
		ctl = shmt_load(&s->rx.shared->ctl);
		may_sleep = true;
		if (SHMT_CTL_MODE(ctl) == SHMT_TCP)
			break;
		may_sleep = false;
		if (lock == PL_LOCK_NESTED) /* a handler must not end the run under its thread */
			break;
		if (SHMT_CTL_MODE(ctl) == SHMT_WAKING) {
			shmt_rx_answer(&s->rx, ctl);
			shmt_count(&rx->switches, 1);
			continue;
		}
		if (shmt_rx_avail(&s->rx, ctl, shmt_load_relaxed(&s->rx.shared->tail)) != 0) {
			/* Bytes of the kernel that come first wake us (but see pl_epset_settle). */
			may_sleep = shmt_rx_missing(&s->rx) != 0;
			if (may_sleep && fd >= 0 && pl_stream_resync(s, fd))
				continue; /* they were read behind our back: nothing would wake us
					   */
			/* Another process is inside the kernel: it takes those, and wakes nobody.
			 */
			others = may_sleep && pl_stream_several(s) &&
				 shmt_load(&s->rx.shared->in_kernel);
			break;
		}
		may_sleep = pl_ready_end_run(s, fd, ctl);
		if (may_sleep || fd < 0)
			break;
	}
	pl_unlock(&rx->lock, lock);
	if (others) {
		sched_yield();
		return false;
	}
	return may_sleep;
}

bool pl_ready_push_out(struct pl_stream *s)
{
	struct coloc_record_rx_shared *rx = &s->rec->rx;
	const enum pl_lock_result lock = pl_lock(&rx->lock);
	const uint64_t ctl = shmt_load(&s->rx.shared->ctl);
	const bool done = SHMT_CTL_MODE(ctl) != SHMT_WAKING && shmt_rx_push_out(&s->rx, ctl) == 0;

	pl_unlock(&rx->lock, lock);
	return done;
}

static bool has_sleepers(struct pl_stream *s)
{
	return PL_UNLIKELY(pl_poll_sleepers() || pl_epset_sleepers(s));
}

static bool asleep_in_sets(const struct pl_stream *s)
{
	return shmt_load_relaxed(&s->items) && !shmt_load(&s->awake);
}

/* The ring's part. First whether anybody is concerned: the word's line is the sender's most. */
static void leave_ring_seen(struct pl_stream *s)
{
	if (!asleep_in_sets(s) && !pl_stream_several(s) && !has_sleepers(s))
		return;
	if (!pl_ready_follows(s) || SHMT_CTL_MODE(shmt_load(&s->rx.shared->ctl)) == SHMT_TCP)
		return;
	if (asleep_in_sets(s) && !pl_epset_awake(s))
		(void)pl_ready_settle(s);
	if (pl_stream_several(s)) {
		/* Nobody can wake a sleeper of another process but the sender. */
		if (!pl_ready_settle(s))
			(void)pl_ready_push_out(s);
	}
	if (has_sleepers(s) && !pl_ready_settle(s)) {
		pl_epset_kick(s);
		pl_poll_kick();
	}
}

void pl_ready_after_receive(struct pl_stream *s)
{
	pl_stream_receives(s);
	pl_ready_left(s);
}

void pl_ready_left(struct pl_stream *s)
{
	leave_ring_seen(s);
	/* After the look at the word: what is not there any more may have been stashed. */
	if (!pl_stashed(s))
		return;
	if (shmt_load_relaxed(&s->items))
		(void)pl_epset_awake(s);
	if (pl_stash_ready(s) && has_sleepers(s)) {
		pl_epset_kick(s);
		pl_poll_kick();
	}
}

bool pl_ready_writable(struct pl_stream *s)
{
	const uint64_t ctl = shmt_load(&s->tx.shared->ctl);

	/* Half of the ring: a reader that moves on makes writing worth while, as SO_SNDLOWAT does.
	 */
	return (SHMT_CTL_MODE(ctl) == SHMT_RING || SHMT_CTL_MODE(ctl) == SHMT_WAKING) &&
	       !(shmt_load_relaxed(&s->tx.shared->flags) &
		 (SHMT_DIR_REFUSED | SHMT_DIR_STOPPED | SHMT_DIR_CLOSED)) &&
	       shmt_tx_space(&s->tx, ctl) >= (int64_t)(s->tx.ring.size / 2);
}
