/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx.c - the sending direction
 *
 * Modes TCP and LEAVING send by the kernel; WAKING and RING copy into the ring and publish by CAS.
 * A failed publish means that the reader went to sleep: the same bytes then go by TCP and wake it.
 *
 * A stream at number 0, 1 or 2 is sent on by libc's stdio, too, by TCP and unseen. What is sent so
 * comes behind the ring's bytes, if two things hold whenever bytes are put there (UNSEEN,
 * docs/protocol.md): the kernel's count of bytes sent is still what it was when the ring was
 * opened; and no receiver is inside the kernel without a limit.
 *
 * The rest is in tx_open.c, which opens the ring, and tx_room.c, for when it is full.
 */
#include "tx_call.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "epset.h"
#include "undo.h"
#include "wait.h"

#define PUBLISH_BYTES (32u << 10) /* a reader begins while we still copy */
#define GUESS_BYTES   4096u	  /* of more, a look at the word is the smaller part */

static void lower(uint32_t **count)
{
	if (!*count)
		return;
	pl_undo_pop();
	shmt_sub(*count, 1);
}

static ssize_t kernel_send(struct pl_tx_call *c, size_t len)
{
	/* What was sent before counts: then an error is for the next call, and so is SIGPIPE. */
	const int flags = c->flags | (c->done ? MSG_NOSIGNAL : 0);
	struct iovec slice[PL_TX_SLICES];
	struct msghdr msg = {.msg_iov = slice};
	const bool whole = c->done == 0 && len == c->total;
	size_t asked = len, i;
	ssize_t n;
	off_t off;

	PL_ASLEEP;
	if (!c->v) {
		off = c->file_off + (off_t)c->done;
		n = pl_real.sendfile(c->fd, c->in_fd, &off, len);
		c->eof = n == 0;
	} else if (whole && c->msg) {
		n = pl_real.sendmsg(c->fd, c->msg, flags);
	} else {
		if (whole) {
			msg.msg_iov = (struct iovec *)(uintptr_t)c->v->iov;
			msg.msg_iovlen = c->v->n;
		} else {
			msg.msg_iovlen = pl_vec_slice(c->v, c->done, len, slice, PL_TX_SLICES);
			for (asked = 0, i = 0; i < msg.msg_iovlen; i++)
				asked += slice[i].iov_len;
		}
		if (msg.msg_iovlen <= 1)
			n = pl_real.send(c->fd, msg.msg_iovlen ? msg.msg_iov->iov_base : NULL,
					 msg.msg_iovlen ? msg.msg_iov->iov_len : 0, flags);
		else
			n = pl_real.sendmsg(c->fd, &msg, flags);
	}
	c->stop = n < 0 || (size_t)n < asked;
	return n < 0 ? -errno : n;
}

/* T2: enter a kernel send under the lock; false: the ring is open, look again */
static bool enter_kernel(struct pl_stream *s)
{
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const enum pl_lock_result lock = pl_tx_lock(s);
	enum shmt_mode mode = SHMT_TCP;

	if (pl_attached(s))
		mode = SHMT_CTL_MODE(shmt_load(&s->tx.shared->ctl));
	else if (pl_may_be_on_ring(s))
		mode = SHMT_RING;
	if (mode == SHMT_TCP || mode == SHMT_LEAVING)
		shmt_add(&tx->in_kernel, 1);
	pl_unlock(&tx->lock, lock);
	return mode == SHMT_TCP || mode == SHMT_LEAVING;
}

static void look_again(struct pl_tx_call *c)
{
	pl_wait_mapped();
	if (pl_stream_wants_attach(c->s))
		pl_stream_attach(c->s, c->fd);
}

/* Modes TCP and LEAVING. -ESTALE: the word changed, look again. */
static ssize_t send_tcp(struct pl_tx_call *c, uint64_t ctl)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const bool attached = pl_attached(s);
	const uint64_t now = attached ? pl_now_ns() : 0;
	ssize_t n = 0;

	if (attached && SHMT_CTL_MODE(ctl) == SHMT_TCP && c->done < c->total)
		n = pl_tx_open(c);
	if (n == 0) {
		uint32_t *inside __attribute__((cleanup(lower))) =
			enter_kernel(s) ? &tx->in_kernel : NULL;

		if (!inside) {
			if (!pl_attached(s))
				look_again(c);
			return -ESTALE;
		}
		pl_undo_push(PL_UNDO_COUNT, inside);
		n = kernel_send(c, c->total - c->done);
	}
	if (attached && (n == -EPIPE || n == -ECONNRESET || n == -ETIMEDOUT || n == -ENOTCONN))
		pl_stream_shut(s);
	if (n > 0) {
		shmt_count(&tx->tcp_bytes, (uint64_t)n);
		shmt_store_relaxed(&s->last_send_ns, now);
	}
	return n;
}

/* ---- the ring ----------------------------------------------------------------------------------
 */

/* Copy the next bytes to @head; how many could be had. -Exxx only from a file. */
static ssize_t fill(struct pl_tx_call *c, uint64_t head, size_t len)
{
	const struct shmt_ring *ring = &c->s->tx.ring;
	struct iovec slice[PL_TX_SLICES];
	size_t done = 0, n, i;

	if (!c->v) {
		const size_t off = head & (ring->size - 1);
		const size_t first = len < ring->size - off ? len : ring->size - off;
		const ssize_t got =
			pread(c->in_fd, ring->data + off, first, c->file_off + (off_t)c->done);

		c->eof = got == 0;
		return got < 0 ? -errno : got;
	}
	while (done < len) {
		n = pl_vec_slice(c->v, c->done + done, len - done, slice, PL_TX_SLICES);
		for (i = 0; i < n; i++) {
			if (!pl_readable(slice[i].iov_base, slice[i].iov_len))
				return done ? (ssize_t)done : -EFAULT;
			shmt_ring_copy_in(ring, head + done, slice[i].iov_base, slice[i].iov_len);
			done += slice[i].iov_len;
		}
	}
	return (ssize_t)done;
}

enum step {
	STEP_AGAIN, /* the word changed: look at it again */
	STEP_FULL,  /* no room at *ctl */
	STEP_LEAVE, /* the ring may not be used any more */
	STEP_ERROR, /* *ret */
	STEP_DONE,
};

/*
 * May this call use the ring that is open, as far as bytes are concerned that nobody has seen?
 * Under the lock. What is sent so while the call lasts may come behind it.
 */
static enum step look_for_unseen(struct pl_tx_call *c)
{
	struct pl_stream *s = c->s;
	struct shmt_dir_shared *dir = s->tx.shared;
	const bool standard = shmt_load(&s->rec->flags) & COLOC_RECORD_STANDARD;
	uint64_t ctl, sent;

	if (!standard && !pl_tx_unseen(s))
		return STEP_DONE;
	ctl = shmt_load(&dir->ctl);
	if (SHMT_CTL_MODE(ctl) != SHMT_WAKING && SHMT_CTL_MODE(ctl) != SHMT_RING)
		return STEP_AGAIN;
	if (!pl_tx_unseen(s)) /* the number has become one of those after the opening */
		return STEP_LEAVE;
	/* U1: a receiver that comes in after this sees that the mode is not TCP. */
	if (shmt_load(&dir->in_kernel)) {
		if (shmt_load_acquire(&dir->tail) != SHMT_CTL_VALUE(ctl))
			return STEP_LEAVE;
		shmt_tx_unopen(&s->tx); /* it does not come out, and nothing is in the ring */
		return STEP_AGAIN;
	}
	if (pl_stream_bytes(c->fd, NULL, &sent) < 0 || sent != shmt_load(&dir->open_at))
		return STEP_LEAVE;
	return STEP_DONE;
}

/*
 * The word as it was left, or 0: look at it. Its reader looks at it all the time: each of our looks
 * fetches the line once, and publishing does so again. A guess that is wrong costs a copy into the
 * ring where nothing is, for all that was published is below it.
 */
static uint64_t guess(const struct pl_tx_call *c)
{
	return c->total - c->done <= GUESS_BYTES ? shmt_load_relaxed(&c->s->rec->tx.word) : 0;
}

/* Under the lock. Whoever dies in it leaves no word behind that is not so. */
static bool publish(struct pl_tx_call *c, uint64_t ctl, size_t len)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;

	shmt_store_relaxed(&tx->word, 0);
	if (!shmt_tx_publish(&s->tx, ctl, len))
		return false;
	if (SHMT_CTL_MODE(ctl) == SHMT_RING)
		shmt_store_relaxed(&tx->word, SHMT_CTL(SHMT_CTL_VALUE(ctl) + len, SHMT_RING));
	c->done += len;
	shmt_count(&tx->ring_bytes, (uint64_t)len);
	return true;
}

/* Modes WAKING and RING: as much as fits, under the lock. */
static enum step send_ring(struct pl_tx_call *c, uint64_t *ctl, ssize_t *ret)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const enum pl_lock_result lock = pl_tx_lock(s);
	uint64_t guessed = guess(c), now;
	enum step step;
	int64_t space;
	size_t len;
	ssize_t n;

	/* Not within a bulk: its reader need not look at each. */
	if (guessed && shmt_load_relaxed(&s->waited)) {
		shmt_store_relaxed(&s->waited, 0);
		shmt_own_soon(&s->tx.shared->ctl);
	}
	now = pl_now_ns();
	shmt_store_relaxed(&s->last_send_ns, now);
	(void)pl_tx_look_at_peer(s, c->fd, now);
	(void)pl_note_cpu(&s->tx.shared->s_cpu);
	step = look_for_unseen(c);
	if (step != STEP_DONE)
		goto out;
	while (c->done < c->total) {
		*ctl = guessed ? guessed : shmt_load(&s->tx.shared->ctl);
		step = STEP_AGAIN;
		if (SHMT_CTL_MODE(*ctl) != SHMT_WAKING && SHMT_CTL_MODE(*ctl) != SHMT_RING)
			break;
		/* A handler must not write where the call that it interrupted goes on copying to.
		 */
		step = STEP_LEAVE;
		if (lock == PL_LOCK_NESTED ||
		    (shmt_load_relaxed(&s->tx.shared->flags) & PL_TX_LEAVE_FLAGS))
			break;
		len = c->total - c->done;
		if (len > PUBLISH_BYTES)
			len = PUBLISH_BYTES;
		space = shmt_tx_room(&s->tx, *ctl, len);
		if (space <= 0 && guessed) {
			guessed = 0;
			continue;
		}
		if (space <= 0) {
			step = STEP_FULL;
			if (space == 0)
				break;
			/* Not if a handler has only moved both between the two looks. */
			if (*ctl != shmt_load(&s->tx.shared->ctl) ||
			    shmt_tx_space(&s->tx, *ctl) >= 0)
				continue;
			*ret = pl_stream_reset(s, c->fd);
			step = STEP_ERROR;
			break;
		}
		if (len > (size_t)space)
			len = (size_t)space;
		n = fill(c, SHMT_CTL_VALUE(*ctl), len);
		if (n <= 0) {
			*ret = n;
			step = n < 0 ? STEP_ERROR : STEP_DONE;
			break;
		}
		guessed = 0;
		if (!publish(c, *ctl, (size_t)n))
			continue; /* answered, asleep or left meanwhile, or a handler sent */
		step = STEP_DONE;
	}
	if (step == STEP_DONE && shmt_load_relaxed(&s->opened)) {
		shmt_store_relaxed(&s->opened, 0);
		shmt_store_relaxed(&s->open_fails, 0);
	}
out:
	if (step != STEP_DONE)
		shmt_store_relaxed(&tx->word, 0);
	pl_unlock(&tx->lock, lock);
	return step;
}

/* ---- one call ----------------------------------------------------------------------------------
 */

static uint64_t word(const struct pl_tx_call *c)
{
	uint64_t ctl;

	/* The region may have gone while the kernel had us. */
	if (!pl_attached(c->s))
		return SHMT_CTL(0, SHMT_TCP);
	ctl = guess(c);
	return ctl ? ctl : shmt_load(&c->s->tx.shared->ctl);
}

static ssize_t send_attached(struct pl_tx_call *c)
{
	struct pl_stream *s = c->s;
	ssize_t n = 0;
	uint64_t ctl;

	do {
		ctl = word(c);
		if (SHMT_CTL_MODE(ctl) == SHMT_TCP || SHMT_CTL_MODE(ctl) == SHMT_LEAVING) {
			n = send_tcp(c, ctl);
			if (n == -ESTALE)
				continue;
			if (n <= 0)
				break;
			c->done += (size_t)n;
			if (c->stop)
				break;
			continue;
		}
		n = 0;
		if (PL_UNLIKELY(pl_tx_unseen(s)) && shmt_load(&s->tx.shared->in_kernel))
			pl_tx_wait_for_reader(c);
		switch (send_ring(c, &ctl, &n)) {
		case STEP_FULL:
			if (c->nonblock && c->done) {
				/* Short. The kernel was never full: who waits for an edge is told.
				 */
				pl_epset_tell_again(s);
				goto out;
			}
			if (pl_tx_wait_for_room(c, ctl))
				break;
			if (c->full) {
				pl_epset_tell_again(s);
				n = -EAGAIN;
				goto out;
			}
			if (c->stop && c->done)
				goto out;
			/* fall through */
		case STEP_LEAVE:
			n = pl_tx_leave(s, c->fd, c->nonblock);
			if (n == 1) {
				n = kernel_send(c, c->total - c->done);
				goto out;
			}
			break;
		default:
			break;
		}
		if (n < 0)
			break;
	} while (c->done < c->total && !c->eof);
out:
	return c->done ? (ssize_t)c->done : n;
}

static ssize_t send_call(struct pl_tx_call *c)
{
	struct pl_stream *s = c->s;
	ssize_t n;

	PL_IN_REGION;
	if (pl_stream_wants_attach(s))
		pl_stream_attach(s, c->fd);
	do {
		if (!pl_attached(s)) {
			n = send_tcp(c, 0);
			continue;
		}
		n = send_attached(c);
	} while (n == -ESTALE);
	if (n > 0)
		shmt_count(&s->rec->tx.messages, 1);
	pl_stream_account(s, c->fd, n);
	return n;
}

ssize_t pl_tx(struct pl_stream *s, int fd, const struct pl_vec *v, int flags,
	      const struct msghdr *msg)
{
	struct pl_tx_call c = {
		.s = s,
		.fd = fd,
		.v = v,
		.msg = msg,
		.total = v->total,
		.flags = flags,
		.nonblock = pl_stream_nonblock(s, flags),
	};

	if ((flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) || (msg && msg->msg_controllen)) {
		ssize_t n;

		pl_stream_stay(s,
			       flags & MSG_OOB ? COLOC_REASON_URGENT : COLOC_REASON_UNSERVED_CALL);
		if (pl_tx_leave(s, fd, c.nonblock) < 0)
			return -EAGAIN;
		n = kernel_send(&c, v->total);
		if (n > 0)
			shmt_count(&s->rec->tx.tcp_bytes, (uint64_t)n);
		return n;
	}
	/* Nothing to send: the kernel says in what state the socket is. */
	return v->total ? send_call(&c) : kernel_send(&c, 0);
}

ssize_t pl_tx_file(struct pl_stream *s, int fd, int in_fd, off_t *off, size_t count)
{
	const off_t begin = off ? *off : lseek(in_fd, 0, SEEK_CUR);
	struct pl_tx_call c = {
		.s = s,
		.fd = fd,
		.in_fd = in_fd,
		.file_off = begin,
		.total = count < 0x7ffff000 ? count : 0x7ffff000, /* the kernel's own limit */
		.nonblock = pl_stream_nonblock(s, 0),
	};
	ssize_t n;

	if (begin < 0) { /* not a file: the kernel knows what to say, or serves it */
		pl_stream_stay(s, COLOC_REASON_UNSERVED_CALL);
		if (pl_tx_leave(s, fd, c.nonblock) < 0)
			return -EAGAIN;
		n = pl_real.sendfile(fd, in_fd, off, count);
		return n < 0 ? -errno : n;
	}
	n = send_call(&c);
	if (n > 0) {
		if (off)
			*off = begin + n;
		else if (lseek(in_fd, begin + n, SEEK_SET) < 0)
			return -errno;
	}
	return n;
}
