/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave.c - a sender closes the ring behind what it has published; see tx.c for when
 */
#include "tx_call.h"

#include <errno.h>

#include "clock.h"
#include "epset.h"
#include "log.h"

/*
 * A receiver was woken by our payload and has not come out of the kernel: it is on its way, unless
 * it was stopped. So look for 50 us, then nap; there is nothing of the kernel's that one could
 * sleep on. A call that must not wait gives up after 2 ms, and at once while the receiver stays
 * where it is; the kernel calls the socket writable all the time, so edge-triggered sets are told
 * again.
 */
#define LEAVE_SPIN_NS	 50000u
#define LEAVE_GIVE_UP_NS 2000000u

int pl_tx_leave(struct pl_stream *s, int fd, bool nonblock)
{
	struct pollfd p = {.fd = fd, .events = 0};
	uint64_t begun = 0, now, ctl;
	int rc;

	PL_IN_REGION;
	/* Another process may have it on a ring. */
	if (!pl_attached(s) && pl_stream_wants_attach(s))
		pl_stream_attach(s, fd);
	if (!pl_attached(s))
		return 0;
	for (;;) {
		ctl = shmt_load(&s->tx.shared->ctl);
		rc = shmt_tx_leave(&s->tx, ctl);
		if (rc == 0) {
			shmt_store_relaxed(&s->stuck, 0);
			if (SHMT_CTL_MODE(ctl) == SHMT_WAKING || SHMT_CTL_MODE(ctl) == SHMT_RING)
				pl_log(2, "port %u to %u: leaves the ring", s->rec->local.port,
				       s->rec->remote.port);
			return 0;
		}
		if (rc == -EAGAIN)
			continue;
		now = pl_now_ns();
		if (!begun)
			begun = now;
		if (now - begun < LEAVE_SPIN_NS) {
			shmt_pause();
			continue;
		}
		if (pl_real.poll(&p, 1, 1) > 0) /* reset, or closed by both: nobody reads */
			return 1;
		if (nonblock && (shmt_load_relaxed(&s->stuck) || now - begun > LEAVE_GIVE_UP_NS)) {
			shmt_store_relaxed(&s->stuck, 1);
			pl_epset_tell_again(s);
			return -EAGAIN;
		}
	}
}

void pl_tx_standard(struct pl_stream *s, int fd)
{
	PL_IN_REGION;
	pl_stream_standard(s);
	/* An opening that has not seen that is over once the lock was ours. */
	pl_unlock(&s->rec->tx.lock, pl_tx_lock(s));
	(void)pl_tx_leave(s, fd, false);
}

uint64_t pl_tx_queued(struct pl_stream *s)
{
	uint64_t ctl;
	int64_t space;

	PL_IN_REGION;
	if (!pl_attached(s))
		return 0;
	ctl = shmt_load(&s->tx.shared->ctl);
	if (SHMT_CTL_MODE(ctl) == SHMT_TCP)
		return 0;
	space = shmt_tx_space(&s->tx, ctl);
	return space < 0 ? 0 : s->tx.ring.size - (uint64_t)space;
}
