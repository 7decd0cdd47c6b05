/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rx.c - the receiving direction
 *
 * The word says where the next byte comes from (switch.h, docs/protocol.md):
 *   TCP      the kernel, without a limit, between shmt_rx_enter() and shmt_rx_exit(); here we sleep
 *   WAKING   answer, then as RING
 *   RING     the kernel up to open_at, then the ring; when it is empty: spin, then settle and sleep
 *   LEAVING  the same without waiting: empty means back to TCP
 *
 * Rules: in_kernel is read before tcp_read (none inside means that tcp_read is exact); a kernel
 * receive beside a ring run is limited to the bytes that are certain to come. A call that ends
 * while others sleep in the stream leaves no bytes where their sleep does not see them: it settles
 * or kicks. A call that returns less than it was asked for has taken all that was there by either
 * way: who was told of RDHUP, and then reads short, drops the rest of the stream.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <sched.h>

#include "pollset.h"
#include "ready.h"
#include "rx_call.h"
#include "wait.h"

/* A bracket that thread cancellation closes too. */
struct inside {
	struct pl_stream *s; /* NULL = not inside */
	uint32_t attach;     /* the region's number when it was entered */
	uint32_t *unattached;
	const struct shmt_dir *outer; /* the bracket that a signal handler's one interrupted */
	size_t took;
};

/* The direction this thread is inside the kernel of: in a handler, the one it interrupted. */
static __thread const struct shmt_dir *inside_of __attribute__((tls_model("initial-exec")));

void pl_rx_left(void)
{
	inside_of = NULL;
}

void pl_rx_exit(struct pl_stream *s, uint32_t attach, size_t took)
{
	if (pl_gate_attach() == attach)
		shmt_rx_exit(&s->rx, took);
	else /* the region went while this receiver slept: the agent counts it there now */
		shmt_sub(&s->rec->rx.unattached, 1);
}

static void close_inside(struct inside *in)
{
	if (in->s || in->unattached)
		pl_undo_pop();
	if (in->s) {
		pl_rx_exit(in->s, in->attach, in->took);
		inside_of = in->outer;
	}
	if (in->unattached)
		shmt_sub(in->unattached, 1);
}

/*
 * Before the attach, or while the region is away: the kernel's own receive, counted so that an
 * attach knows of it.
 */
static ssize_t receive_unattached(struct pl_rx_call *c)
{
	uint32_t *const unattached = &c->s->rec->rx.unattached;
	struct inside in __attribute__((cleanup(close_inside))) = {.unattached = unattached};
	uint32_t attach;
	ssize_t n;

	/* A2 pairs with A1 in join.c */
	shmt_add(unattached, 1);
	pl_undo_push(PL_UNDO_COUNT, unattached);
	attach = shmt_load(&c->s->rec->rx.attach);
	/* The stash last: it was made, if at all, before the region went. */
	if (attach == 1 || (attach == 2 && pl_may_be_on_ring(c->s)) || pl_stashed(c->s))
		return -ESTALE;
	n = pl_rx_kernel(c, c->v->total - c->done, c->flags);
	pl_rx_count_tcp(c, n);
	return n;
}

/* An error comes next, and no bytes: it is for the call after one that has got something. */
static bool error_next(int fd)
{
	struct pollfd p = {.fd = fd, .events = 0};
	int queued = 0;

	return pl_real.poll(&p, 1, 0) == 1 && (p.revents & POLLERR) &&
	       (pl_real.ioctl(fd, SIOCINQ, &queued) < 0 || !queued);
}

/* Mode TCP. -ESTALE: the word changed, look again. */
static ssize_t receive_tcp(struct pl_rx_call *c, int flags)
{
	struct pl_stream *s = c->s;
	struct inside in __attribute__((cleanup(close_inside))) = {0};
	ssize_t n;

	if (!shmt_rx_enter(&s->rx))
		return -ESTALE;
	pl_undo_push(PL_UNDO_RX, s);
	in.attach = pl_gate_attach();
	in.s = s;
	in.outer = inside_of;
	inside_of = &s->rx;
	if (pl_stashed(s))
		return -ESTALE;
	if (c->done && error_next(c->fd))
		n = 0;
	else
		n = pl_rx_kernel(c, c->v->total - c->done,
				 flags | (c->done ? MSG_DONTWAIT : 0)); /* see wait_for_rest */
	if (n > 0 && !(flags & MSG_PEEK))
		in.took = (size_t)n;
	if (n == -ECONNRESET || n == -EPIPE || n == -ETIMEDOUT || n == -ENOTCONN)
		pl_stream_shut(s); /* reset, or timed out: sending fails now, too */
	pl_rx_count_tcp(c, n);
	/* End of stream, or nothing yet: only if no ring was opened meanwhile. */
	if (n <= 0 && (n == 0 || n == -EAGAIN) && c->v->total > c->done && pl_attached(s) &&
	    SHMT_CTL_MODE(shmt_load(&s->rx.shared->ctl)) != SHMT_TCP)
		return -ESTALE;
	return n;
}

ssize_t pl_rx_copy_out(const struct pl_rx_call *c, const struct shmt_ring *ring, uint64_t tail,
		       size_t len)
{
	struct iovec slice[PL_RX_SLICES];
	size_t done = 0, n, i;

	if (c->flags & MSG_TRUNC)
		return (ssize_t)len; /* TCP discards */
	while (done < len) {
		n = pl_vec_slice(c->v, c->done + done, len - done, slice, PL_RX_SLICES);
		for (i = 0; i < n; i++) {
			if (!pl_writable(slice[i].iov_base, slice[i].iov_len))
				return done ? (ssize_t)done : -EFAULT;
			shmt_ring_copy_out(ring, tail + done, slice[i].iov_base, slice[i].iov_len);
			done += slice[i].iov_len;
		}
	}
	return (ssize_t)done;
}

enum step {
	STEP_AGAIN,  /* the word changed: look at it again */
	STEP_OTHERS, /* another thread is on its way out with the bytes that come first */
	STEP_EMPTY,  /* RING, nothing to read at *ctl */
	STEP_GOT,    /* *ret bytes, or an error */
};

/* The @avail bytes at @tail are next. Under the lock. false: a handler of this thread took them */
static bool take(struct pl_rx_call *c, uint64_t tail, uint64_t avail, ssize_t *ret)
{
	struct pl_stream *s = c->s;
	const size_t room = c->v->total - c->done;
	ssize_t n;

	n = pl_rx_copy_out(c, &s->rx.ring, tail, avail < room ? (size_t)avail : room);
	if (n > 0 && pl_stream_lost(s, c->fd)) /* then that was nothing */
		n = -ECONNRESET;
	if (n > 0 && !(c->flags & MSG_PEEK)) {
		if (!shmt_rx_consume(&s->rx, tail, (size_t)n))
			return false;
		shmt_count(&s->rec->rx.ring_bytes, (uint64_t)n);
		shmt_count(&s->rec->rx.messages, 1);
	}
	*ret = n;
	return true;
}

/* What an earlier look has seen is enough for this call: no look at what the sender writes. */
static bool receive_seen(struct pl_rx_call *c, ssize_t *ret)
{
	struct pl_stream *s = c->s;
	const uint64_t room = c->v->total - c->done;
	enum pl_lock_result lock;
	bool took = false;
	uint64_t tail, ahead;

	if (!room || shmt_rx_ahead(&s->rx, shmt_load_relaxed(&s->rx.shared->tail)) < room)
		return false;
	lock = pl_lock(&s->rec->rx.lock);
	tail = shmt_load(&s->rx.shared->tail);
	ahead = shmt_rx_ahead(&s->rx, tail);
	if (ahead >= room && !pl_stashed(s))
		took = take(c, tail, ahead, ret);
	pl_unlock(&s->rec->rx.lock, lock);
	return took;
}

/* Modes RING and LEAVING, one look under the lock. */
static enum step receive_ring(struct pl_rx_call *c, uint64_t *ctl, ssize_t *ret)
{
	struct pl_stream *s = c->s;
	struct coloc_record_rx_shared *rx = &s->rec->rx;
	const enum pl_lock_result lock = pl_lock(&rx->lock);
	enum step step = STEP_AGAIN;
	uint64_t tail, missing;
	int64_t avail;
	uint32_t inside;

	c->left_tcp = true;
	/* The tail first: a handler that consumes after this makes our move of it fail. */
	tail = shmt_load(&s->rx.shared->tail);
	*ctl = shmt_load(&s->rx.shared->ctl);
	if (SHMT_CTL_MODE(*ctl) == SHMT_TCP || SHMT_CTL_MODE(*ctl) == SHMT_WAKING)
		goto out;
	/* This order: none inside, then tcp_read, means that tcp_read is exact. */
	inside = shmt_load(&s->rx.shared->in_kernel);
	missing = shmt_rx_missing(&s->rx);
	avail = shmt_rx_avail(&s->rx, *ctl, tail);
	if (missing) {
		/*
		 * Another thread's bytes: it is on its way out. In a signal handler that
		 * interrupted this thread's own receive nobody knows how far that one came:
		 * nothing, for now.
		 */
		const bool own = lock == PL_LOCK_NESTED || inside_of == &s->rx;

		if (own || (inside && (avail || c->nonblock))) {
			*ret = -EAGAIN;
			step = own || c->nonblock ? STEP_GOT : STEP_OTHERS;
			goto out;
		}
		/* Several processes: nothing is left to keep in order, or added to it. */
		if (!inside && pl_stream_several(s) && !avail) {
			(void)pl_ready_end_run(s, c->fd, *ctl);
			goto out;
		}
		if (!inside && pl_stream_several(s) && SHMT_CTL_MODE(*ctl) == SHMT_RING) {
			(void)shmt_rx_push_out(&s->rx, *ctl);
			goto out;
		}
		if (!inside) {
			*ret = pl_rx_limited(c, missing, avail != 0);
			step = *ret == -ESTALE ? STEP_AGAIN : STEP_GOT;
			if (*ret != -EAGAIN || avail || c->nonblock)
				goto out;
		}
		/* Nothing of them yet, nor of the ring: the sender may have given up. */
		step = SHMT_CTL_MODE(*ctl) == SHMT_RING ? STEP_EMPTY : STEP_AGAIN;
		if (step == STEP_EMPTY)
			goto out;
	}
	if (avail < 0) {
		/* Not if a handler has only moved both between our two looks. */
		if (tail == shmt_load(&s->rx.shared->tail) &&
		    *ctl == shmt_load(&s->rx.shared->ctl)) {
			*ret = pl_stream_reset(s, c->fd);
			step = STEP_GOT;
		}
	} else if (avail > 0) {
		if (!missing)
			shmt_rx_seen(&s->rx, *ctl);
		step = take(c, tail, (uint64_t)avail, ret) ? STEP_GOT : STEP_AGAIN;
	} else if (lock == PL_LOCK_NESTED) {
		/* What we interrupted goes on with this ring run: not to be ended under it. */
		*ret = -EAGAIN;
		step = STEP_GOT;
	} else if (SHMT_CTL_MODE(*ctl) == SHMT_LEAVING) {
		(void)pl_ready_end_run(s, c->fd, *ctl);
	} else {
		step = STEP_EMPTY;
	}
out:
	pl_unlock(&rx->lock, lock);
	return step;
}

/* RING and empty at @ctl, blocking: look for a while, then go back to TCP to sleep there. */
static void wait_for_sender(struct pl_rx_call *c, uint64_t ctl)
{
	struct pl_stream *s = c->s;
	struct pl_spin spin;
	uint64_t word;

	pl_spin_begin(s, &spin, 0);
	pl_gather(s, &spin);
	while ((word = shmt_load_relaxed(&s->rx.shared->ctl)) == ctl && pl_spin_more(&spin))
		;
	if (word != ctl)
		shmt_ring_soon_out(&s->rx.ring, shmt_load_relaxed(&s->rx.shared->tail));
	pl_spin_end(s, &spin, word != ctl);
	if (word == ctl)
		(void)pl_ready_settle(s);
	else
		pl_gathered(s, &spin,
			    SHMT_CTL_VALUE(word) - SHMT_CTL_VALUE(ctl) >= 2 * c->v->total);
}

/*
 * Shut down or closed by either side, or on its way back to TCP for another reason; or sent on out
 * of sight, so that there may be something by TCP.
 */
static bool may_be_over(const struct pl_stream *s)
{
	const uint32_t flags = shmt_load_relaxed(&s->rx.shared->flags);

	if (flags & SHMT_DIR_LOOK)
		shmt_and(&s->rx.shared->flags, ~(uint32_t)SHMT_DIR_LOOK);
	return flags & (SHMT_DIR_STOPPED | SHMT_DIR_REFUSED | SHMT_DIR_LOOK | SHMT_DIR_UNSEEN);
}

static ssize_t receive_once(struct pl_rx_call *c)
{
	struct pl_stream *s = c->s;
	uint64_t ctl;
	ssize_t n;

	for (;;) {
		if (pl_stashed(s))
			return -ESTALE;
		if (receive_seen(c, &n))
			return n;
		ctl = shmt_load(&s->rx.shared->ctl);
		/* No word of a direction that was attached is 0. */
		if (PL_UNLIKELY(!ctl) && pl_stream_lost(s, c->fd))
			return -ECONNRESET;
		switch (SHMT_CTL_MODE(ctl)) {
		case SHMT_TCP:
			n = receive_tcp(c, c->keep_all ? c->flags : c->flags & ~MSG_WAITALL);
			if (n != -ESTALE)
				return n;
			break;
		case SHMT_WAKING:
			shmt_rx_answer(&s->rx, ctl);
			shmt_count(&s->rec->rx.switches, 1);
			break;
		default:
			switch (receive_ring(c, &ctl, &n)) {
			case STEP_GOT:
				return n;
			case STEP_EMPTY:
				/*
				 * The kernel alone knows of the end of the stream. Whoever asks
				 * twice in a row may have been told of that, and a sender that
				 * has ended it by a call says so.
				 */
				if (!c->nonblock)
					wait_for_sender(c, ctl);
				else if (shmt_bump(&s->dry) < 2 && !may_be_over(s))
					return -EAGAIN;
				else
					(void)pl_ready_settle(s);
				break;
			case STEP_OTHERS:
				sched_yield();
				break;
			case STEP_AGAIN:
				break;
			}
		}
	}
}

/*
 * MSG_WAITALL with something received: a signal, a time-out or the end gives what there is. No
 * receive may restart here, so the sleep is a poll.
 */
static ssize_t wait_for_rest(struct pl_rx_call *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};
	struct timeval timeout = {0};
	socklen_t len = sizeof(timeout);
	ssize_t n;

	n = receive_once(c);
	if (n != -EAGAIN)
		return n;
	if (!pl_ready_follows(c->s))
		return -ESTALE;
	(void)getsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &len);
	pl_poll_sleep(1);
	pl_gate_look();
	n = 1;
	if (pl_ready_settle(c->s) && !pl_stash_ready(c->s)) {
		PL_ASLEEP;
		n = pl_real.poll(&p, 1,
				 timeout.tv_sec || timeout.tv_usec
					 ? (int)(timeout.tv_sec * 1000 + timeout.tv_usec / 1000)
					 : -1);
	}
	pl_poll_sleep(-1);
	if (n <= 0)
		return n < 0 ? -EINTR : -EAGAIN;
	return pl_ready_follows(c->s) ? receive_once(c) : -ESTALE;
}

static ssize_t receive_attached(struct pl_rx_call *c)
{
	const bool all = (c->flags & MSG_WAITALL) && !c->nonblock && !(c->flags & MSG_PEEK);
	ssize_t n;

	do {
		n = all && c->done ? wait_for_rest(c) : receive_once(c);
		if (n <= 0)
			break;
		c->done += (size_t)n;
		n = -ESTALE; /* if the region went meanwhile: the rest without it */
	} while (all && c->done < c->v->total && pl_ready_follows(c->s));
	if (n == -ESTALE && all && c->done < c->v->total)
		return n;
	return c->done ? (ssize_t)c->done : n;
}

/* Return: all that this call has received, with what it had before; or -Exxx if that is nothing. */
static ssize_t receive_call(struct pl_rx_call *c)
{
	struct pl_stream *s = c->s;
	ssize_t n = -ESTALE;

	while (n == -ESTALE) {
		if (pl_stream_wants_attach(s))
			pl_stream_attach(s, c->fd);
		if (pl_stashed(s)) {
			n = pl_rx_stashed(c);
			if (n > 0)
				c->done += (size_t)n;
			if (n > 0 && (c->flags & MSG_WAITALL) && !c->nonblock &&
			    c->done < c->v->total)
				n = -ESTALE;
			else if (n != -ESTALE && c->done)
				n = (ssize_t)c->done;
			if (n == -ESTALE)
				pl_wait_mapped();
		} else if (pl_ready_follows(s)) {
			n = receive_attached(c);
		} else if (shmt_load_acquire(&s->rec->rx.attach) == 1) {
			shmt_pause(); /* under way in another thread, which does not sleep in it */
		} else {
			n = receive_unattached(c);
			if (n == -ESTALE)
				pl_wait_mapped();
			else if (c->done)
				n = n > 0 ? n + (ssize_t)c->done : (ssize_t)c->done;
		}
	}
	return n;
}

/*
 * Is there more at this moment? An error is left to the next call, as TCP leaves it: a receive
 * that finds no bytes would take it away. So is what lies around the mark of urgent data: no
 * receive passes that.
 */
static bool more_now(const struct pl_rx_call *c)
{
	struct pl_stream *s = c->s;
	struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLPRI};
	enum shmt_mode mode;
	int queued = 0;

	if (pl_stashed(s)) {
		if (pl_stash_ready(s))
			return true;
	} else if (pl_ready_follows(s)) {
		if (pl_ready_now(s))
			return true;
		mode = SHMT_CTL_MODE(shmt_load(&s->rx.shared->ctl));
		if ((mode == SHMT_WAKING || mode == SHMT_RING) && !shmt_rx_missing(&s->rx) &&
		    !(shmt_load_relaxed(&s->rx.shared->flags) & SHMT_DIR_UNSEEN))
			return false;
	}
	return c->left_tcp && pl_real.poll(&p, 1, 0) == 1 && (p.revents & POLLIN) &&
	       !(p.revents & POLLPRI) &&
	       (!(p.revents & POLLERR) ||
		(pl_real.ioctl(c->fd, SIOCINQ, &queued) == 0 && queued > 0));
}

/* The rest, by the other way, of what was there: without waiting for any. */
static ssize_t receive_more(struct pl_rx_call *c, ssize_t n)
{
	ssize_t before;

	c->nonblock = true;
	c->flags = (c->flags | MSG_DONTWAIT) & ~MSG_WAITALL;
	do {
		before = n;
		c->done = (size_t)n;
		n = receive_call(c);
	} while (n > before && (size_t)n < c->v->total && more_now(c));
	return n > before ? n : before;
}

ssize_t pl_rx(struct pl_stream *s, int fd, const struct pl_vec *v, int flags, struct msghdr *msg)
{
	struct pl_rx_call c = {
		.s = s,
		.fd = fd,
		.v = v,
		.flags = flags,
		.msg = msg,
		.nonblock = pl_stream_nonblock(s, flags),
	};
	ssize_t n;

	PL_IN_REGION;
	/* Peeking at more than there is: the kernel can wait for it, once all comes by TCP. */
	if ((flags & (MSG_PEEK | MSG_WAITALL)) == (MSG_PEEK | MSG_WAITALL)) {
		pl_stream_stay(s, COLOC_REASON_UNSERVED_CALL);
		c.keep_all = true;
	}
	if (flags & (MSG_OOB | MSG_ERRQUEUE)) {
		if (flags & MSG_OOB)
			pl_stream_stay(s, COLOC_REASON_URGENT);
		return pl_rx_kernel(&c, v->total, flags);
	}
	/* Before anything is taken, or slept for. */
	if (PL_UNLIKELY(!shmt_load_relaxed(&s->receives)))
		pl_stream_waits(s, fd);
	n = flags & MSG_PEEK ? pl_peek(s, fd, v, flags, c.nonblock) : -ESTALE;
	if (n == -ESTALE)
		n = receive_call(&c);
	if (n > 0 && shmt_load_relaxed(&s->dry))
		shmt_store_relaxed(&s->dry, 0);
	if (n > 0 && (size_t)n < v->total && !(flags & MSG_PEEK) && more_now(&c))
		n = receive_more(&c, n);
	pl_ready_after_receive(s);
	if (msg && n >= 0 && !c.msg_filled) {
		/* What TCP fills in when nothing special is on. */
		msg->msg_namelen = 0;
		msg->msg_controllen = 0;
		msg->msg_flags = 0;
	}
	pl_stream_account(s, fd, n);
	return n;
}

uint64_t pl_rx_queued(struct pl_stream *s, uint64_t kernel)
{
	const struct coloc_record_stash_shared *stash = &s->rec->stash;
	uint64_t ctl, bytes, taken;
	int64_t avail;

	if (pl_stashed(s)) {
		bytes = shmt_load(&stash->bytes);
		taken = shmt_load(&stash->taken);
		return bytes > taken && shmt_load(&stash->missing) <= kernel ? bytes - taken : 0;
	}
	PL_IN_REGION;
	if (!pl_ready_follows(s))
		return 0;
	ctl = shmt_load(&s->rx.shared->ctl);
	if (SHMT_CTL_MODE(ctl) == SHMT_TCP || shmt_rx_missing(&s->rx) > kernel)
		return 0;
	avail = shmt_rx_avail(&s->rx, ctl, shmt_load(&s->rx.shared->tail));
	return avail > 0 ? (uint64_t)avail : 0;
}
