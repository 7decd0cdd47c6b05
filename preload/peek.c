/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peek.c - MSG_PEEK while a ring has bytes
 *
 * Next come the kernel's bytes up to open_at, then the ring's, then (LEAVING) the kernel's again.
 * One recvmsg() peeks at both of the kernel's parts, each into its place in the caller's memory,
 * and the ring's are copied between them. Under the receive lock, with nobody inside the kernel, so
 * the limits are exact; nothing is consumed.
 *
 * A direction that is also sent on out of sight (UNSEEN) may have bytes of the kernel behind an
 * open ring's: it is closed first.
 *
 * MSG_WAITALL: what is missing can only come by the kernel once the ring is closed behind its
 * unread bytes. How much that is, is known then, and the kernel waits for it.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>

#include "io.h"
#include "lock.h"
#include "ready.h"

#define SLICES 16

struct peek {
	struct pl_stream *s;
	int fd, flags;
	const struct pl_vec *v;
	size_t ring; /* bytes unread in it */
};

static ssize_t peek_kernel(const struct peek *p, struct iovec *iov, size_t n, int flags)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t got = 0;

	if (n)
		got = pl_real.recvmsg(p->fd, &msg, (p->flags & ~MSG_WAITALL) | flags);
	return got < 0 ? -errno : got;
}

/* The held byte of the kernel, which the program has had, goes to where nobody looks; how many. */
static size_t skip_held(const struct peek *p, struct iovec *iov)
{
	static char byte;

	*iov = (struct iovec){&byte, 1};
	return pl_ready_held(p->s);
}

/* The ring's bytes from @tail on, to where the kernel's first @off end; how many. */
static ssize_t peek_ring(const struct peek *p, uint64_t tail, size_t off, size_t len)
{
	struct iovec slice[SLICES];
	size_t done = 0, n, i;

	if (p->flags & MSG_TRUNC) /* thrown away */
		return (ssize_t)len;
	while (done < len) {
		n = pl_vec_slice(p->v, off + done, len - done, slice, SLICES);
		for (i = 0; i < n; i++) {
			if (!pl_writable(slice[i].iov_base, slice[i].iov_len))
				return off + done ? (ssize_t)done : -EFAULT;
			shmt_ring_copy_out(&p->s->rx.ring, tail + done, slice[i].iov_base,
					   slice[i].iov_len);
			done += slice[i].iov_len;
		}
	}
	return (ssize_t)done;
}

/* Under the lock: all that is there. -ESTALE: no ring is in the way, or it is not for us to say. */
static ssize_t peek_locked(struct peek *p)
{
	const struct shmt_dir *rx = &p->s->rx;
	const size_t total = p->v->total;
	const uint64_t tail = shmt_load(&rx->shared->tail), ctl = shmt_load(&rx->shared->ctl);
	struct iovec iov[2 * SLICES + 1];
	size_t before, ring, held, n;
	uint64_t missing;
	int64_t avail;
	ssize_t got, copied;
	int queued;

	if ((SHMT_CTL_MODE(ctl) != SHMT_RING && SHMT_CTL_MODE(ctl) != SHMT_LEAVING) ||
	    shmt_load(&rx->shared->in_kernel) != 0)
		return -ESTALE;
	missing = shmt_rx_missing(rx);
	avail = shmt_rx_avail(rx, ctl, tail);
	/* Nothing in the ring that is left, but something behind it: all that lies in the kernel.
	 */
	if (avail < 0 || (avail == 0 && (!missing || SHMT_CTL_MODE(ctl) != SHMT_LEAVING)))
		return -ESTALE;
	p->ring = (size_t)avail;
	before = missing < total ? (size_t)missing : total;
	ring = p->ring < total - before ? p->ring : total - before;
	held = n = skip_held(p, iov);
	n += pl_vec_slice(p->v, 0, before, iov + n, SLICES);
	if (SHMT_CTL_MODE(ctl) == SHMT_LEAVING)
		n += pl_vec_slice(p->v, before + ring, total - before - ring, iov + n, SLICES);
	/* Where there is nothing, a peek takes an error away that is for the call behind the bytes.
	 */
	got = 0;
	if (pl_real.ioctl(p->fd, SIOCINQ, &queued) == 0 && queued > 0)
		got = peek_kernel(p, iov, n, MSG_DONTWAIT);
	if (got < 0 && got != -EAGAIN)
		return got;
	got = got < (ssize_t)held ? 0 : got - (ssize_t)held;
	if ((size_t)got < before) /* on its way, or in more pieces than we have room for */
		return got ? got : -ESTALE;
	copied = peek_ring(p, tail, before, ring);
	if (copied < 0)
		return copied;
	return (size_t)copied < ring ? (ssize_t)before + copied : got + copied;
}

/* Answered, and closed if it is to be; false: it has changed meanwhile. */
static bool word_stands(struct pl_stream *s)
{
	struct shmt_dir_shared *dir = s->rx.shared;
	const uint64_t ctl = shmt_load(&dir->ctl);

	if (SHMT_CTL_MODE(ctl) == SHMT_WAKING) {
		shmt_rx_answer(&s->rx, ctl);
		shmt_count(&s->rec->rx.switches, 1);
		return false;
	}
	return SHMT_CTL_MODE(ctl) != SHMT_RING ||
	       !(shmt_load_relaxed(&dir->flags) & SHMT_DIR_UNSEEN) || shmt_load(&dir->in_kernel) ||
	       pl_ready_push_out(s);
}

static ssize_t peek_now(struct peek *p)
{
	struct coloc_record_rx_shared *rx = &p->s->rec->rx;
	enum pl_lock_result lock;
	ssize_t n = -ESTALE;

	if (!pl_ready_follows(p->s) || pl_stashed(p->s))
		return -ESTALE;
	while (!word_stands(p->s))
		;
	lock = pl_lock(&rx->lock);
	if (lock == PL_LOCK_TAKEN)
		n = peek_locked(p);
	pl_unlock(&rx->lock, lock);
	return n;
}

/* Until the kernel has all of the rest, to be thrown away here; less: a signal, time-out, or end.
 */
static ssize_t wait_for_rest(const struct peek *p)
{
	const size_t rest = p->v->total - p->ring;
	struct iovec iov[SLICES + 1];
	const size_t held = skip_held(p, iov);
	const size_t n = held + pl_vec_slice(p->v, 0, rest, iov + held, SLICES);
	struct pollfd poll = {.fd = p->fd, .events = 0};
	ssize_t got;

	if (pl_real.poll(&poll, 1, 0) == 1 && (poll.revents & POLLERR))
		return 0; /* over */
	PL_ASLEEP;
	got = peek_kernel(p, iov, n, MSG_WAITALL);
	return got < (ssize_t)held ? got : got - (ssize_t)held;
}

ssize_t pl_peek(struct pl_stream *s, int fd, const struct pl_vec *v, int flags, bool nonblock)
{
	struct peek p = {.s = s, .fd = fd, .v = v, .flags = flags};
	ssize_t n, waited = 0;

	if (pl_stream_wants_attach(s)) /* another process may have it on a ring */
		pl_stream_attach(s, fd);
	for (;;) {
		n = peek_now(&p);
		if (n < 0 || (size_t)n == v->total || !(flags & MSG_WAITALL) || nonblock)
			return n;
		if (waited < 0)
			return n;
		if (!pl_ready_push_out(s))
			return n;
		p.ring = 0;
		n = peek_now(&p); /* how much lies in the ring now that nothing is added */
		if (n < 0 || (size_t)n == v->total)
			return n;
		waited = wait_for_rest(&p);
		if (waited >= 0 && (size_t)waited < v->total - p.ring)
			waited = -EINTR;
	}
}
