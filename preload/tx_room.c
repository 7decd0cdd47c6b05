/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx_room.c - a full ring
 *
 * While the reader moves, wait for room; when it does not move, leave for TCP, whose back-pressure
 * is the kernel's. A reader that lost its processor for a moment has a ring full to go on with, and
 * behind a leave the kernel takes megabytes: so that is done late, and ever earlier while the
 * reader keeps its sender waiting in vain.
 *
 * A call that must not wait says EAGAIN until then: its program may have to read before its reader
 * goes on, as two event loops that echo. The kernel's socket is writable all the while, and so the
 * program is told. So a wait in poll or epoll that has nothing else to tell pauses for a moment, in
 * place of the send: pl_tx_pause().
 */
#include <errno.h>
#include <sched.h>

#include "clock.h"
#include "pairing.h"
#include "tx_call.h"
#include "wait.h"

#define LOOK_NS	    1000000u   /* how often the socket of a busy ring is looked at */
#define NAP_NS	    300000     /* of a sender whose reader does not move */
#define PAUSE_NS    50000      /* of one that may be wanted elsewhere */
#define PATIENCE_NS 100000000u /* then it leaves */
#define SLOW_MAX    12u

static struct pl_stream *full_stream; /* atomic; the last of which EAGAIN was said, */
static uint32_t fulls;		      /* atomic; and how often that was */
static __thread uint32_t fulls_seen __attribute__((tls_model("initial-exec")));

bool pl_tx_look_at_peer(struct pl_stream *s, int fd, uint64_t now)
{
	if (now - shmt_load_relaxed(&s->looked_ns) < LOOK_NS)
		return false;
	shmt_store_relaxed(&s->looked_ns, now);
	if (!pl_peer_gone(fd))
		return false;
	/* Closed, reset, or closed for sending only: the kernel's answer counts from here on. */
	shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
	pl_stream_reason(s, COLOC_REASON_PEER_CLOSED);
	return true;
}

/* A reader that still takes the kernel's bytes, which come first, moves too. */
static uint64_t progress(const struct shmt_dir *dir)
{
	return shmt_load_relaxed(&dir->shared->tail) + shmt_load_relaxed(&dir->shared->tcp_read);
}

/* A reader that has lost its processor is back within some tens of milliseconds. */
static uint64_t patience(const struct pl_stream *s)
{
	return PATIENCE_NS >> shmt_load_relaxed(&s->slow);
}

static void lose_patience(struct pl_stream *s)
{
	if (shmt_load_relaxed(&s->slow) < SLOW_MAX)
		(void)shmt_bump(&s->slow);
}

/*
 * Must not wait, and the reader stands @at. true: say EAGAIN; false: it has stood there for so long
 * that the ring is to be left.
 */
static bool may_say_eagain(struct pl_stream *s, uint64_t at, uint64_t now)
{
	if (at != shmt_load_relaxed(&s->full_at)) {
		shmt_store_relaxed(&s->full_at, at);
		shmt_store_relaxed(&s->full_ns, now);
	}
	if (now - shmt_load_relaxed(&s->full_ns) > patience(s))
		return false;
	shmt_store(&full_stream, s);
	(void)shmt_add(&fulls, 1);
	return true;
}

static bool has_room(const struct pl_stream *s, uint64_t ctl)
{
	return shmt_tx_space(&s->tx, ctl) >= (int64_t)(s->tx.ring.size / 4);
}

static void let_reader_run(const struct pl_stream *s, uint32_t cpu)
{
	if (pl_same_cpu(s, cpu, shmt_load_relaxed(&s->tx.shared->r_cpu)))
		sched_yield();
	else
		shmt_pause();
}

bool pl_tx_wait_for_room(struct pl_tx_call *c, uint64_t ctl)
{
	struct pl_stream *s = c->s;
	struct shmt_dir_shared *dir = s->tx.shared;
	const uint32_t cpu = pl_note_cpu(&dir->s_cpu);
	const uint64_t budget_ns = c->nonblock ? 0 : 2000 * (uint64_t)pl_setting(wait_spin_us);
	const struct timespec nap = {.tv_nsec = NAP_NS};
	struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
	uint64_t moved_ns = pl_now_ns(), was_at = progress(&s->tx), now, at;
	uint32_t turns = 0;

	while (shmt_load_relaxed(&dir->ctl) == ctl ||
	       SHMT_CTL_MODE(shmt_load(&dir->ctl)) == SHMT_RING) {
		if (has_room(s, shmt_load(&dir->ctl))) {
			shmt_store_relaxed(&s->slow, shmt_load_relaxed(&s->slow) -
							     (shmt_load_relaxed(&s->slow) > 0));
			return true;
		}
		if (shmt_load_relaxed(&dir->flags) & PL_TX_LEAVE_FLAGS)
			return true;
		let_reader_run(s, cpu);
		if ((++turns & 31) != 0)
			continue;
		now = pl_now_ns();
		at = progress(&s->tx);
		if (at != was_at) {
			was_at = at;
			moved_ns = now;
		} else if (now - moved_ns >= budget_ns) {
			c->full = c->nonblock && may_say_eagain(s, at, now);
			if (c->full)
				return false;
			if (c->nonblock || now - moved_ns > budget_ns + patience(s)) {
				lose_patience(s);
				return false;
			}
			if (pl_real.ppoll(&p, 1, &nap, NULL) != 0) {
				c->stop = errno == EINTR;
				return false;
			}
			turns = 31;
		}
		if (pl_tx_look_at_peer(s, c->fd, now))
			return true;
	}
	return true;
}

void pl_tx_wait_for_reader(const struct pl_tx_call *c)
{
	struct shmt_dir_shared *dir = c->s->tx.shared;
	const uint32_t cpu = pl_note_cpu(&dir->s_cpu);
	const uint64_t begun = pl_now_ns(), budget_ns = 2000 * (uint64_t)pl_setting(wait_spin_us);
	const struct timespec nap = {.tv_nsec = NAP_NS};
	struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

	while (shmt_load(&dir->in_kernel)) {
		const uint64_t waited_ns = pl_now_ns() - begun;
		const enum shmt_mode mode = SHMT_CTL_MODE(shmt_load(&dir->ctl));

		if (mode != SHMT_WAKING && mode != SHMT_RING)
			return;
		if (waited_ns < budget_ns) {
			let_reader_run(c->s, cpu);
		} else if (c->nonblock) {
			return;
		} else if (waited_ns > patience(c->s)) {
			lose_patience(c->s);
			return;
		} else if (pl_real.ppoll(&p, 1, &nap, NULL) != 0) {
			return;
		}
	}
}

bool pl_tx_full_lately(void)
{
	return PL_UNLIKELY(shmt_load_relaxed(&fulls) != fulls_seen);
}

void pl_tx_pause(bool (*ready)(const void *arg), const void *arg)
{
	struct pl_stream *s = shmt_load(&full_stream);
	const uint64_t end_ns = pl_now_ns() + 500 * (uint64_t)pl_setting(wait_spin_us);
	const struct timespec nap = {.tv_nsec = PAUSE_NS};
	uint64_t ctl;
	uint32_t cpu;

	PL_IN_REGION;
	fulls_seen = shmt_load_relaxed(&fulls);
	if (!pl_attached(s))
		return;
	cpu = pl_note_cpu(&s->tx.shared->s_cpu);
	do {
		ctl = shmt_load(&s->tx.shared->ctl);
		if (SHMT_CTL_MODE(ctl) != SHMT_RING || has_room(s, ctl) || ready(arg))
			return;
		let_reader_run(s, cpu);
	} while (pl_now_ns() < end_ns);
	PL_ASLEEP;
	(void)pl_real.ppoll(NULL, 0, &nap, NULL);
}
