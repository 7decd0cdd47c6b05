/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx.c - the sending direction
 *
 * Modes TCP and LEAVING send by the kernel; WAKING and RING copy into the ring and publish by CAS.
 * A failed publish means that the reader went to sleep: the same bytes then go by TCP and wake it.
 *
 * Opening: the ring is opened behind a first piece, which then goes by TCP and wakes the reader, if
 * no other sender is inside the kernel. A sender raises tx.in_kernel and looks at the word under
 * the lock, and the opener holds it from its look at in_kernel until the piece is sent, so no byte
 * is sent behind its back. open_at comes from the kernel's own count: bytes that were sent out of
 * our sight are in it. The piece must really leave: what Nagle or a cork holds back is pushed.
 * Signals are blocked meanwhile: no handler of this thread sends. Who dies at it leaves
 * tx.opening set, and the next one under the lock closes the ring again.
 *
 * Full ring: while the reader moves, wait for room or write short; when it does not move, leave for
 * TCP, whose back-pressure is the kernel's.
 */
#include "io.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <netinet/in.h>
#include <string.h>

#include "clock.h"
#include "epset.h"
#include "lock.h"
#include "pairing.h"
#include "undo.h"
#include "wait.h"

#define SLICES		 16
#define PUBLISH_BYTES	 (32u << 10) /* a reader begins while we still copy */
#define LOOK_NS		 1000000u    /* how often the socket of a busy ring is looked at */
#define FAILS_MAX	 6u
#define NAP_NS		 300000	   /* of a sender whose reader does not move */
#define NAPS_NS		 10000000u /* then it leaves */
#define NAPS_NONBLOCK_NS 2000000u
#define SLOW_MAX	 12u
#define WORTH_BYTES	 8192u /* so much at once is worth a ring whatever comes after it */
#define FILE_PIECE_BYTES 4096u
#define LEAVE_FLAGS	 (SHMT_DIR_REFUSED | SHMT_DIR_STOPPED | SHMT_DIR_CLOSED)

/* One sending call: from the caller's memory, or from a file. */
struct call {
	struct pl_stream *s;
	int fd;
	const struct pl_vec *v; /* NULL: from in_fd at file_off */
	const struct msghdr *msg;
	int in_fd;
	off_t file_off;
	size_t total, done;
	int flags;
	bool nonblock;
	bool eof;  /* the file ended early */
	bool stop; /* the kernel took less than it was given, or a signal came: that is the answer
		    */
};

static void lower(uint32_t **count)
{
	if (!*count)
		return;
	pl_undo_pop();
	shmt_sub(*count, 1);
}

static ssize_t kernel_send(struct call *c, size_t len)
{
	/* What was sent before counts: then an error is for the next call, and so is SIGPIPE. */
	const int flags = c->flags | (c->done ? MSG_NOSIGNAL : 0);
	struct iovec slice[SLICES];
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
			msg.msg_iovlen = pl_vec_slice(c->v, c->done, len, slice, SLICES);
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

/* ---- opening -----------------------------------------------------------------------------------
 */

static bool may_open(struct pl_stream *s, int fd)
{
	const struct shmt_seg_end_shared *other;
	struct shmt_evidence mine = {0};
	const uint32_t flags = shmt_load(&s->tx.shared->flags);

	/* STAYS may have been said while the region was away; its flags did not hear of it. */
	if (!(flags & SHMT_DIR_ATTACHED) || (flags & LEAVE_FLAGS) ||
	    (shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_STAYS))
		return false;
	if (!shmt_load_relaxed(&s->verified)) {
		other = &s->seg->end[1 - s->side];
		/* Two connections must never be taken for one: see docs/protocol.md. */
		if (pl_stream_evidence(fd, &mine) < 0 ||
		    !shmt_evidence_fits(&mine, &other->evidence)) {
			pl_stream_stay(s, COLOC_REASON_MISMATCH);
			return false;
		}
		shmt_store_relaxed(&s->verified, 1);
	}
	return true;
}

/* Is more to come soon, so that an opened ring is used? */
static bool expects_more(struct call *c, uint64_t now)
{
	struct pl_stream *s = c->s;
	const uint64_t gap_ns = now - shmt_load_relaxed(&s->last_send_ns);

	if (shmt_load_relaxed(&s->opened)) { /* the last opening was for nothing */
		shmt_store_relaxed(&s->opened, 0);
		if (shmt_load_relaxed(&s->open_fails) < FAILS_MAX)
			(void)shmt_bump(&s->open_fails);
	}
	if (pl.policy == PL_POLICY_ALWAYS || c->total - c->done >= WORTH_BYTES)
		return true;
	if (gap_ns > (uint64_t)pl_setting(switch_open_gap_us) * 1000)
		return false;
	if (pl_same_cpu(s, pl_note_cpu(&s->tx.shared->s_cpu),
			shmt_load_relaxed(&s->tx.shared->r_cpu)))
		return false;
	return (shmt_bump(&s->waits) & ((1u << shmt_load_relaxed(&s->open_fails)) - 1)) == 0;
}

/*
 * Nagle or a cork may hold the last bytes back while their followers wait in the ring. Setting
 * TCP_NODELAY pushes what is queued, through a cork too (tcp(7)), and for these bytes that lasts
 * when it is unset again. Bytes that wait for the peer's window are in order: reading lets them
 * through.
 */
static void push(int fd)
{
	const int on = 1, off = 0;
	int nodelay = 1;
	socklen_t len = sizeof(nodelay);

	if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len) < 0)
		return;
	(void)pl_real.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!nodelay)
		(void)pl_real.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof(off));
}

/* A lock of the sending direction, and nothing left half done by who died with it. */
static enum pl_lock_result lock_tx(struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&s->rec->tx.lock);

	if (PL_UNLIKELY(shmt_load_relaxed(&s->rec->tx.opening)) && pl_attached(s)) {
		shmt_tx_unopen(&s->tx);
		shmt_store(&s->rec->tx.opening, 0);
	}
	return lock;
}

/* The first @len bytes, without waiting. */
static ssize_t send_piece(struct call *c, size_t len, const void *buf)
{
	struct iovec slice[SLICES] = {{(void *)(uintptr_t)buf, len}};
	struct msghdr msg = {.msg_iov = slice, .msg_iovlen = 1};
	const int flags = (c->flags & ~MSG_MORE) | MSG_DONTWAIT | (c->done ? MSG_NOSIGNAL : 0);
	ssize_t n;

	if (c->v)
		msg.msg_iovlen = pl_vec_slice(c->v, c->done, len, slice, SLICES);
	n = msg.msg_iovlen == 1 ? pl_real.send(c->fd, slice[0].iov_base, slice[0].iov_len, flags)
				: pl_real.sendmsg(c->fd, &msg, flags);
	return n < 0 ? -errno : n;
}

/* Under the lock, with signals blocked. Return: as open_and_send() */
static ssize_t open_behind(struct call *c, size_t len, const void *buf)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	uint32_t unsent = 0;
	uint64_t sent;
	ssize_t n = 0;

	/* T1 pairs with T2: nobody is inside, and nobody comes in while we hold the lock. */
	if (shmt_load(&tx->in_kernel) != 0 || pl_stream_bytes(c->fd, NULL, &sent) < 0)
		return 0;
	shmt_store(&tx->opening, 1);
	if (shmt_tx_open(&s->tx, sent + len)) {
		n = send_piece(c, len, buf);
		if (n == (ssize_t)len) {
			shmt_count(&tx->switches, 1);
			shmt_add_relaxed(&pl.local->totals.switches_to_ring, 1);
			shmt_store_relaxed(&s->opened, 1);
			shmt_store_relaxed(&s->looked_ns, pl_now_ns());
			if (pl_real.ioctl(c->fd, SIOCOUTQNSD, &unsent) == 0 && unsent)
				push(c->fd);
		} else {
			shmt_tx_unopen(&s->tx);
			c->stop = n > 0 && c->nonblock;
		}
	}
	shmt_store(&tx->opening, 0);
	return n == -EAGAIN ? 0 : n;
}

/*
 * Return: how much of the first piece was sent, all: and the ring is open behind it; 0: nothing, go
 * on by TCP; -Exxx. A cancellation waits: it would leave the lock behind.
 */
static ssize_t open_and_send(struct call *c)
{
	struct pl_stream *s = c->s;
	const size_t setting = (size_t)pl_setting(switch_first_piece_bytes);
	char buf[FILE_PIECE_BYTES];
	size_t len = c->total - c->done;
	enum pl_lock_result lock;
	sigset_t all, before;
	int cancel;
	ssize_t n = 0;

	if (len > setting)
		len = setting;
	if (!c->v) {
		n = pread(c->in_fd, buf, len < sizeof(buf) ? len : sizeof(buf),
			  c->file_off + (off_t)c->done);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		len = (size_t)n;
		n = 0;
	}
	sigfillset(&all);
	if (pthread_sigmask(SIG_BLOCK, &all, &before) != 0)
		return 0;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lock = pl_lock_try(&s->rec->tx.lock);
	if (lock == PL_LOCK_TAKEN) {
		if (!shmt_load_relaxed(&s->rec->tx.opening))
			n = open_behind(c, len, buf);
		pl_unlock(&s->rec->tx.lock, lock);
	}
	(void)pthread_setcancelstate(cancel, &cancel);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

/* T2: enter a kernel send under the lock; false: the ring is open, look again */
static bool enter_kernel(struct pl_stream *s)
{
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const enum pl_lock_result lock = lock_tx(s);
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

static void look_again(struct call *c)
{
	pl_wait_mapped();
	if (pl_stream_wants_attach(c->s))
		pl_stream_attach(c->s, c->fd);
}

/* Modes TCP and LEAVING. -ESTALE: the word changed, look again. */
static ssize_t send_tcp(struct call *c, uint64_t ctl)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const bool attached = pl_attached(s);
	const uint64_t now = attached ? pl_now_ns() : 0;
	ssize_t n = 0;

	if (attached && SHMT_CTL_MODE(ctl) == SHMT_TCP && c->done < c->total &&
	    may_open(s, c->fd) && expects_more(c, now))
		n = open_and_send(c);
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
static ssize_t fill(struct call *c, uint64_t head, size_t len)
{
	const struct shmt_ring *ring = &c->s->tx.ring;
	struct iovec slice[SLICES];
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
		n = pl_vec_slice(c->v, c->done + done, len - done, slice, SLICES);
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

/* Modes WAKING and RING: as much as fits, under the lock. */
static enum step send_ring(struct call *c, uint64_t *ctl, ssize_t *ret)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const enum pl_lock_result lock = lock_tx(s);
	const uint64_t now = pl_now_ns();
	enum step step = STEP_DONE;
	int64_t space;
	size_t len;
	ssize_t n;

	shmt_store_relaxed(&s->last_send_ns, now);
	while (c->done < c->total) {
		*ctl = shmt_load(&s->tx.shared->ctl);
		step = STEP_AGAIN;
		if (SHMT_CTL_MODE(*ctl) != SHMT_WAKING && SHMT_CTL_MODE(*ctl) != SHMT_RING)
			break;
		/* A handler must not write where the call that it interrupted goes on copying to.
		 */
		step = STEP_LEAVE;
		if (lock == PL_LOCK_NESTED ||
		    (shmt_load_relaxed(&s->tx.shared->flags) & LEAVE_FLAGS))
			break;
		space = shmt_tx_space(&s->tx, *ctl);
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
		len = c->total - c->done;
		if (len > PUBLISH_BYTES)
			len = PUBLISH_BYTES;
		if (len > (size_t)space)
			len = (size_t)space;
		n = fill(c, SHMT_CTL_VALUE(*ctl), len);
		if (n <= 0) {
			*ret = n;
			step = n < 0 ? STEP_ERROR : STEP_DONE;
			break;
		}
		if (!shmt_tx_publish(&s->tx, *ctl, (size_t)n))
			continue; /* answered, asleep or left meanwhile, or a handler sent */
		c->done += (size_t)n;
		shmt_count(&tx->ring_bytes, (uint64_t)n);
		step = STEP_DONE;
	}
	if (step == STEP_DONE && shmt_load_relaxed(&s->opened)) {
		shmt_store_relaxed(&s->opened, 0);
		shmt_store_relaxed(&s->open_fails, 0);
	}
	pl_unlock(&tx->lock, lock);
	return step;
}

/* Once in a while a busy ring looks whether its socket still has a peer; 0: it has. */
static int look_at_peer(struct pl_stream *s, int fd)
{
	const uint64_t now = pl_now_ns();

	if (now - shmt_load_relaxed(&s->looked_ns) < LOOK_NS)
		return 0;
	shmt_store_relaxed(&s->looked_ns, now);
	if (!pl_peer_gone(fd))
		return 0;
	/* Closed, reset, or closed for sending only: the kernel's answer counts from here on. */
	shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
	pl_stream_reason(s, COLOC_REASON_PEER_CLOSED);
	return 1;
}

/*
 * Full at @ctl: true: look again, there is room or something changed; false: the reader does not
 * move. A reader that lost its processor for a moment has a ring full to go on with, and behind a
 * leave lie megabytes of TCP: so the sender naps for a while before it leaves. One that must not
 * wait does so for less, and for ever less while its reader keeps it waiting in vain.
 */
static bool wait_for_room(struct call *c, uint64_t ctl)
{
	struct pl_stream *s = c->s;
	struct shmt_dir_shared *dir = s->tx.shared;
	const uint32_t cpu = pl_note_cpu(&dir->s_cpu);
	const int64_t want = (int64_t)(s->tx.ring.size / 4);
	const uint64_t budget_ns = 2000 * (uint64_t)pl_setting(wait_spin_us);
	const uint64_t naps_ns =
		c->nonblock ? NAPS_NONBLOCK_NS >> shmt_load_relaxed(&s->slow) : NAPS_NS;
	const struct timespec nap = {.tv_nsec = NAP_NS};
	struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
	uint64_t moved_ns = pl_now_ns();
	/* A reader that still takes the kernel's bytes, which come first, moves too. */
	uint64_t progress = shmt_load(&dir->tail) + shmt_load(&dir->tcp_read);
	uint32_t turns = 0;

	while (shmt_load_relaxed(&dir->ctl) == ctl ||
	       SHMT_CTL_MODE(shmt_load(&dir->ctl)) == SHMT_RING) {
		if (shmt_tx_space(&s->tx, shmt_load(&dir->ctl)) >= want) {
			shmt_store_relaxed(&s->slow, shmt_load_relaxed(&s->slow) -
							     (shmt_load_relaxed(&s->slow) > 0));
			return true;
		}
		if (shmt_load_relaxed(&dir->flags) & LEAVE_FLAGS)
			return true;
		if (pl_same_cpu(s, cpu, shmt_load_relaxed(&dir->r_cpu)))
			sched_yield();
		else
			shmt_pause();
		if ((++turns & 31) == 0) {
			const uint64_t now = pl_now_ns();
			const uint64_t at =
				shmt_load_relaxed(&dir->tail) + shmt_load_relaxed(&dir->tcp_read);

			if (at != progress) {
				progress = at;
				moved_ns = now;
			} else if (now - moved_ns > budget_ns) {
				if (now - moved_ns > budget_ns + naps_ns) {
					shmt_store_relaxed(
						&s->slow,
						shmt_load_relaxed(&s->slow) +
							(shmt_load_relaxed(&s->slow) < SLOW_MAX));
					return false;
				}
				if (pl_real.ppoll(&p, 1, &nap, NULL) != 0) {
					c->stop = errno == EINTR;
					return false;
				}
				turns = 31;
			}
			if (look_at_peer(s, c->fd))
				return true;
		}
	}
	return true;
}

/* ---- one call ----------------------------------------------------------------------------------
 */

static ssize_t send_attached(struct call *c)
{
	struct pl_stream *s = c->s;
	ssize_t n = 0;
	uint64_t ctl;

	do {
		/* The region may have gone while the kernel had us. */
		ctl = pl_attached(s) ? shmt_load(&s->tx.shared->ctl) : SHMT_CTL(0, SHMT_TCP);
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
		switch (send_ring(c, &ctl, &n)) {
		case STEP_FULL:
			if (c->nonblock && c->done) {
				/* Short. The kernel was never full: who waits for an edge is told.
				 */
				pl_epset_tell_again(s);
				goto out;
			}
			if (wait_for_room(c, ctl))
				break;
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

static ssize_t send_call(struct call *c)
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
		if (shmt_load_relaxed(&s->looked_ns) &&
		    SHMT_CTL_MODE(shmt_load_relaxed(&s->tx.shared->ctl)) != SHMT_TCP)
			(void)look_at_peer(s, c->fd);
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
	struct call c = {
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
	struct call c = {
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
