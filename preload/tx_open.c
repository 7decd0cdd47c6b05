/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx_open.c - opening the ring
 *
 * The ring is opened behind a first piece, which then goes by TCP and wakes the reader, if no other
 * sender is inside the kernel. A sender raises tx.in_kernel and looks at the word under the lock,
 * and the opener holds it from its look at in_kernel until the piece is sent, so no byte is sent
 * behind its back. open_at comes from the kernel's own count: bytes that were sent out of our sight
 * are in it. The piece must really leave: what Nagle or a cork holds back is pushed. Signals are
 * blocked meanwhile: no handler of this thread sends. Who dies at it leaves tx.opening set, and the
 * next one under the lock closes the ring again.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>

#include "clock.h"
#include "pairing.h"
#include "tx_call.h"
#include "wait.h"

#define FAILS_MAX	 6u
#define WORTH_BYTES	 8192u /* so much at once is worth a ring whatever comes after it */
#define FILE_PIECE_BYTES 4096u

static bool may_open(struct pl_stream *s, int fd)
{
	const struct shmt_seg_end_shared *other;
	struct shmt_evidence mine = {0};
	const uint32_t flags = shmt_load(&s->tx.shared->flags);

	/* It may have been said while the region was away; its flags did not hear of it. */
	if (!(flags & SHMT_DIR_ATTACHED) || (flags & PL_TX_LEAVE_FLAGS) ||
	    (shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_ON_TCP))
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
static bool expects_more(struct pl_tx_call *c)
{
	struct pl_stream *s = c->s;
	const uint32_t cpu = pl_note_cpu(&s->tx.shared->s_cpu);
	const uint64_t gap_ns = pl_now_ns() - shmt_load_relaxed(&s->last_send_ns);

	if (shmt_load_relaxed(&s->opened)) { /* the last opening was for nothing */
		shmt_store_relaxed(&s->opened, 0);
		if (shmt_load_relaxed(&s->open_fails) < FAILS_MAX)
			(void)shmt_bump(&s->open_fails);
	}
	if (pl.policy == PL_POLICY_ALWAYS || c->total - c->done >= WORTH_BYTES)
		return true;
	if (gap_ns > (uint64_t)pl_setting(switch_open_gap_us) * 1000)
		return false;
	if (!pl_setting(wait_spin_samecpu_us) &&
	    pl_same_cpu(s, cpu, shmt_load_relaxed(&s->tx.shared->r_cpu)))
		return false;
	return (shmt_bump(&s->opens) & ((1u << shmt_load_relaxed(&s->open_fails)) - 1)) == 0;
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

enum pl_lock_result pl_tx_lock(struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&s->rec->tx.lock);

	if (PL_UNLIKELY(shmt_load_relaxed(&s->rec->tx.opening)) && pl_attached(s)) {
		shmt_tx_unopen(&s->tx);
		shmt_store(&s->rec->tx.opening, 0);
	}
	return lock;
}

/* The first @len bytes, without waiting. */
static ssize_t send_piece(struct pl_tx_call *c, size_t len, const void *buf)
{
	struct iovec slice[PL_TX_SLICES] = {{(void *)(uintptr_t)buf, len}};
	struct msghdr msg = {.msg_iov = slice, .msg_iovlen = 1};
	const int flags = (c->flags & ~MSG_MORE) | MSG_DONTWAIT | (c->done ? MSG_NOSIGNAL : 0);
	ssize_t n;

	if (c->v)
		msg.msg_iovlen = pl_vec_slice(c->v, c->done, len, slice, PL_TX_SLICES);
	n = msg.msg_iovlen == 1 ? pl_real.send(c->fd, slice[0].iov_base, slice[0].iov_len, flags)
				: pl_real.sendmsg(c->fd, &msg, flags);
	return n < 0 ? -errno : n;
}

static void mark_unseen(struct pl_stream *s, bool unseen)
{
	if (unseen)
		shmt_or(&s->tx.shared->flags, SHMT_DIR_UNSEEN);
	else
		shmt_and(&s->tx.shared->flags, ~(uint32_t)SHMT_DIR_UNSEEN);
}

/* Under the lock, with signals blocked. Return: as pl_tx_open() */
static ssize_t open_behind(struct pl_tx_call *c, size_t len, const void *buf)
{
	struct pl_stream *s = c->s;
	struct coloc_record_tx_shared *tx = &s->rec->tx;
	const bool standard = shmt_load(&s->rec->flags) & COLOC_RECORD_STANDARD;
	uint32_t unsent = 0;
	uint64_t sent;
	ssize_t n = 0;

	/* T1 pairs with T2: nobody is inside, and nobody comes in while we hold the lock. */
	if (shmt_load(&tx->in_kernel) != 0 || pl_stream_bytes(c->fd, NULL, &sent) < 0)
		return 0;
	/* Only for a run that begins: the word cannot leave mode TCP but by us. */
	if (standard != pl_tx_unseen(s) && SHMT_CTL_MODE(shmt_load(&s->tx.shared->ctl)) == SHMT_TCP)
		mark_unseen(s, standard);
	shmt_store_relaxed(&tx->word, 0); /* of an earlier run, or of another ring */
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

ssize_t pl_tx_open(struct pl_tx_call *c)
{
	struct pl_stream *s = c->s;
	const size_t setting = (size_t)pl_setting(switch_first_piece_bytes);
	char buf[FILE_PIECE_BYTES];
	size_t len = c->total - c->done;
	enum pl_lock_result lock;
	sigset_t all, before;
	int cancel;
	ssize_t n = 0;

	if (!may_open(s, c->fd) || !expects_more(c))
		return 0;
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
	/* A cancellation would leave the lock behind. */
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
