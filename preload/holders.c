/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders.c - which processes hold a stream, and which of them receive from it
 *
 * Holders. The last one that closes a socket with bytes unread sends a reset, and the kernel does
 * not know of those in a ring. It does not say either who else has the socket; so the processes
 * that have it stand in the record by name, or are counted if there are too many. A child is
 * counted before it is there, and puts its name down first thing. A process takes itself out at its
 * last close, at an exec of what that closes, and when it ends by itself; of one that was killed
 * the name says so. Who got it in a message, or by exec without us, is counted for good. So there
 * are never too few while a socket is handed on by fork alone.
 *
 * Receivers. Ring bytes that one process leaves unread wake no sleeper of another: only what lies
 * in the kernel does. So before a process receives from a stream for the first time, or waits for
 * something to receive, it writes itself into the record. While there are two the direction is
 * refused: they receive by TCP. What lies in the ring at that moment is read by whoever receives or
 * waits next, for who made the change counts it (receivers_changes), and a wait in an epoll set
 * begins with a look at the count. Who sleeps already is woken by the payload before it, of which a
 * byte is held in the kernel until the ring is empty (rx.c, docs/protocol.md). A process leaves the
 * record with its last descriptor; a dead one is found out by those that go on, who ask now and
 * then. The last one that is left takes the refusal back.
 *
 * Sandboxed holders. A process with a seccomp filter uses its streams by the kernel alone,
 * uncounted, and cannot tell when it has done so for the last time. So its name among the holders
 * is marked, and the stream is on TCP while a marked name is there; who goes on with it asks now
 * and then whether such a process is gone, sets tcp_read to what the kernel says, and takes that
 * back. Marked and taken back under the rx lock. Whom it forks, executes or sends the stream to
 * cannot be told from it (sandbox.c), nor can one without a name: then the stream stays on TCP.
 */
#include "epset.h"
#include "lock.h"
#include "pass.h"
#include "sandbox.h"
#include "stream.h"

#define ASK_EVERY 64u

static bool enroll(uint64_t *list, unsigned int room, uint64_t mine)
{
	unsigned int i;

	for (i = 0; i < room; i++)
		if (shmt_load(&list[i]) == mine)
			return true;
	for (i = 0; i < room; i++)
		if (shmt_cas(&list[i], 0, mine))
			return true;
	return false;
}

static void strike_out(uint64_t *list, unsigned int room, uint64_t process)
{
	unsigned int i;

	for (i = 0; i < room; i++)
		(void)shmt_cas(&list[i], process, 0);
}

/* How many others are on it; @ask: those that are gone are struck out. */
static unsigned int others(uint64_t *list, unsigned int room, uint64_t mine, bool ask)
{
	unsigned int i, n = 0;

	for (i = 0; i < room; i++) {
		const uint64_t process = shmt_load(&list[i]);

		if (!process || process == mine)
			continue;
		if (ask && pl_lock_gone(process))
			(void)shmt_cas(&list[i], process, 0);
		else
			n++;
	}
	return n;
}

/* ---- receivers ---------------------------------------------------------------------------------
 */

/* Under the rx lock. */
static void refuse(struct pl_stream *s)
{
	if (!(shmt_load(&s->rec->flags) & COLOC_RECORD_RECEIVERS)) {
		shmt_or(&s->rec->flags, COLOC_RECORD_RECEIVERS);
		pl_stream_reason_now(s);
		shmt_add(&pl.local->receivers_changes, 1);
	}
	/* Also if another process, or this one, could not when it set the flag. */
	if (pl_attached(s) && !(shmt_load(&s->rx.shared->flags) & SHMT_DIR_REFUSED))
		shmt_rx_refuse(&s->rx);
}

/* Something has kept the stream on TCP that can be taken back here and now. Under the rx lock. */
static bool can_take_back(struct pl_stream *s, uint32_t what)
{
	const uint32_t flags = shmt_load(&s->rec->flags);

	return (flags & what) && !(flags & COLOC_RECORD_STAYS) && !pl_stashed(s) &&
	       (shmt_load(&s->rec->rx.attach) != 2 || pl_attached(s)) &&
	       (!pl_attached(s) || SHMT_CTL_MODE(shmt_load(&s->rx.shared->ctl)) == SHMT_TCP);
}

static bool is_kept(struct pl_stream *s, uint32_t by)
{
	/* The agent says that it drains, then refuses: one of us sees the other. */
	return (shmt_load(&s->rec->flags) & (by | COLOC_RECORD_ON_TCP)) ||
	       shmt_load(&pl.local->draining);
}

/* Under the rx lock. What else keeps the direction refused goes on. */
static void accept_again(struct pl_stream *s)
{
	const uint32_t by = COLOC_RECORD_RECEIVERS | COLOC_RECORD_SHUT_RD | COLOC_RECORD_STUCK |
			    COLOC_RECORD_STANDARD;

	if (!pl_attached(s) || is_kept(s, by))
		return;
	shmt_and(&s->rx.shared->flags, ~(uint32_t)SHMT_DIR_REFUSED);
	if (is_kept(s, by))
		shmt_rx_refuse(&s->rx);
}

static void take_back(struct pl_stream *s)
{
	if (!can_take_back(s, COLOC_RECORD_RECEIVERS))
		return;
	shmt_and(&s->rec->flags, ~COLOC_RECORD_RECEIVERS);
	if (shmt_load(&s->rec->reason) == COLOC_REASON_RECEIVERS)
		pl_stream_reason_now(s);
	accept_again(s);
}

static void receives_no_more(struct pl_stream *s)
{
	if (shmt_cas(&s->receives, 1, 0))
		strike_out(s->rec->receivers, COLOC_RECEIVERS_MAX, pl_lock_process());
}

void pl_stream_receives_slow(struct pl_stream *s)
{
	const bool ask = !shmt_load_relaxed(&s->receives) || shmt_bump(&s->asked) % ASK_EVERY == 0;
	const uint64_t mine = pl_lock_process();
	struct coloc_record_shared *rec = s->rec;
	enum pl_lock_result lock;
	unsigned int n;

	PL_IN_REGION;
	lock = pl_lock(&rec->rx.lock);
	if (lock == PL_LOCK_NESTED) /* the call that this handler interrupted says it, or has */
		return;
	n = others(rec->receivers, COLOC_RECEIVERS_MAX, mine, ask);
	if (!enroll(rec->receivers, COLOC_RECEIVERS_MAX,
		    mine)) /* nobody knows when this one leaves */
		pl_stream_stay(s, COLOC_REASON_RECEIVERS);
	shmt_store(&s->receives, 1);
	if (!shmt_load(&s->fds)) /* closed by another thread meanwhile */
		receives_no_more(s);
	if (n)
		refuse(s);
	else
		take_back(s);
	pl_unlock(&rec->rx.lock, lock);
}

/* ---- holders -----------------------------------------------------------------------------------
 */

/* false: too many, or no name of its own */
static bool put_name_down(struct coloc_record_shared *rec)
{
	const uint64_t mine = pl_lock_process();

	return mine >> 44 && enroll(rec->holders, COLOC_HOLDERS_MAX, mine);
}

void pl_stream_held(struct pl_stream *s)
{
	const uint32_t pid = (uint32_t)getpid();

	if (shmt_load(&s->held_by) == pid)
		return;
	s->unnamed = !put_name_down(s->rec);
	if (s->unnamed)
		shmt_add(&s->rec->unnamed, 1);
	shmt_store(&s->held_by, pid);
}

void pl_stream_strangers(struct pl_stream *s)
{
	shmt_or(&s->rec->flags, COLOC_RECORD_SHARED);
	shmt_add(&s->rec->unnamed, 1);
}

/* This process has it no more. Return: nor has another. */
static bool let_go(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	const uint64_t mine = pl_lock_process();

	receives_no_more(s);
	if (shmt_cas(&s->held_by, (uint32_t)getpid(), 0)) {
		if (s->unnamed)
			shmt_sub(&rec->unnamed, 1);
		else
			strike_out(rec->holders, COLOC_HOLDERS_MAX, mine);
	}
	return !(shmt_load(&rec->flags) & COLOC_RECORD_SHARED) ||
	       (!shmt_load(&rec->unnamed) && !others(rec->holders, COLOC_HOLDERS_MAX, mine, true));
}

/* ---- sandboxed holders -------------------------------------------------------------------------
 */

/* false: this process has no name there */
static bool mark_own_name(struct coloc_record_shared *rec)
{
	const uint64_t mine = pl_lock_process();
	const uint64_t marked = mine | COLOC_HOLDER_SANDBOXED;
	unsigned int i;

	for (i = 0; i < COLOC_HOLDERS_MAX; i++)
		if (shmt_cas(&rec->holders[i], mine, marked) ||
		    shmt_load(&rec->holders[i]) == marked)
			return true;
	return false;
}

static bool any_sandboxed(struct coloc_record_shared *rec)
{
	unsigned int i;

	for (i = 0; i < COLOC_HOLDERS_MAX; i++) {
		const uint64_t process = shmt_load(&rec->holders[i]);

		if (!(process & COLOC_HOLDER_SANDBOXED))
			continue;
		if (!pl_lock_gone(process))
			return true;
		(void)shmt_cas(&rec->holders[i], process, 0);
	}
	return false;
}

void pl_stream_sandbox(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;
	enum pl_lock_result lock;

	PL_IN_REGION;
	lock = pl_lock(&rec->rx.lock);
	shmt_or(&rec->flags, COLOC_RECORD_SANDBOXED);
	pl_stream_reason_now(s);
	/* What a handler of this thread says within a look at the names goes unheard. */
	if (!mark_own_name(rec) || lock == PL_LOCK_NESTED)
		shmt_or(&rec->flags, COLOC_RECORD_STAYS);
	pl_unlock(&rec->rx.lock, lock);
	/* After the flag: who takes up a grant that is not seen here sees that. */
	if (pl_stream_wants_attach(s))
		pl_stream_attach(s, fd);
	if (pl_attached(s)) {
		shmt_rx_refuse(&s->rx);
		shmt_tx_stop(&s->tx);
	}
}

/* What else keeps it from being opened goes on. */
static void open_again(struct pl_stream *s)
{
	if (!pl_attached(s) || is_kept(s, COLOC_RECORD_SHUT_WR))
		return;
	shmt_and(&s->tx.shared->flags, ~(uint32_t)SHMT_DIR_STOPPED);
	if (is_kept(s, COLOC_RECORD_SHUT_WR))
		shmt_tx_stop(&s->tx);
}

void pl_stream_sandbox_over(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;
	enum pl_lock_result lock;

	if (shmt_bump(&s->sandbox_asked) % ASK_EVERY != 1)
		return;
	lock = pl_lock_try(&rec->rx.lock);
	if (lock == PL_LOCK_TAKEN && can_take_back(s, COLOC_RECORD_SANDBOXED) &&
	    !shmt_load(&rec->unnamed) && !any_sandboxed(rec) &&
	    (!pl_attached(s) || pl_stream_recount(s, fd))) {
		shmt_and(&rec->flags, ~COLOC_RECORD_SANDBOXED);
		pl_stream_reason_now(s);
		accept_again(s);
		open_again(s);
	}
	pl_unlock(&rec->rx.lock, lock);
}

/* ---- standard numbers --------------------------------------------------------------------------
 */

void pl_stream_standard_over(struct pl_stream *s, int fd)
{
	enum pl_lock_result lock;

	PL_IN_REGION;
	lock = pl_lock_try(&s->rec->rx.lock);
	if (lock == PL_LOCK_TAKEN && can_take_back(s, COLOC_RECORD_STANDARD) &&
	    (!pl_attached(s) || pl_stream_recount(s, fd))) {
		shmt_and(&s->rec->flags, ~(uint32_t)COLOC_RECORD_STANDARD);
		pl_stream_reason_now(s);
		accept_again(s);
	}
	pl_unlock(&s->rec->rx.lock, lock);
}

/* ---- the last close ----------------------------------------------------------------------------
 */

static bool has_unread(struct pl_stream *s)
{
	uint64_t ctl;

	if (pl_stashed(s))
		return true;
	if (!pl_attached(s))
		return false;
	ctl = shmt_load(&s->rx.shared->ctl);
	return SHMT_CTL_MODE(ctl) != SHMT_TCP &&
	       shmt_rx_avail(&s->rx, ctl, shmt_load(&s->rx.shared->tail)) > 0;
}

/* What lies unread in the ring would make a kernel socket answer with a reset (RFC 1122 4.2.2.13).
 */
static void reset_on_close(int fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)pl_real.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* If nobody else has it the other end is to learn that at its next call, as from a kernel. */
static void tell_end(struct pl_stream *s, bool last)
{
	if (!pl_attached(s))
		return;
	if (last) {
		shmt_or(&s->rx.shared->flags, SHMT_DIR_CLOSED);
		pl_stream_shut(s);
	} else {
		shmt_or(&s->tx.shared->flags, SHMT_DIR_LOOK);
	}
}

void pl_stream_last_close(struct pl_stream *s, int fd)
{
	const bool last = let_go(s);

	PL_IN_REGION;
	/* Another process, or program, may have had it on a ring. */
	if (last && shmt_load(&s->rec->rx.attach) == 2 && pl_stream_wants_attach(s))
		pl_stream_attach(s, fd);
	if (last && has_unread(s))
		reset_on_close(fd);
	tell_end(s, last);
}

static uint32_t forks; /* atomic; number of the last one */

static void fork_visit(struct pl_stream *s, int fd)
{
	const uint32_t number = shmt_load(&forks);

	(void)fd;
	shmt_or(&s->rec->flags, COLOC_RECORD_SHARED);
	if (s->forked_at == number || !shmt_load(&s->held_by))
		return;
	s->forked_at = number;
	shmt_add(&s->rec->unnamed, 1);
}

void pl_streams_fork(void)
{
	if (!shmt_load(&pl.enabled)) { /* sandboxed, or nothing to count */
		pl_sandbox_share();
		return;
	}
	pl_pass_fork();
	pl_epset_exact_all();
	shmt_add(&forks, 1);
	pl_streams_each(fork_visit);
}

static void cloned_visit(struct pl_stream *s, int fd)
{
	(void)fd;
	if (!s->held_by || s->held_by == (uint32_t)getpid())
		return;
	shmt_or(&s->rec->flags, COLOC_RECORD_SHARED);
	pl_stream_held(s);
}

void pl_streams_cloned(void)
{
	pl_streams_each(cloned_visit);
}

static void child_visit(struct pl_stream *s, int fd)
{
	/* One that another thread of the parent got between the count and the fork is not counted.
	 */
	const bool counted = s->forked_at == forks;
	const bool mine = s->held_by == (uint32_t)getpid();

	cloned_visit(s, fd);
	if (counted && s->held_by && !mine)
		shmt_sub(&s->rec->unnamed, 1);
}

void pl_streams_fork_child(void)
{
	if (!shmt_load(&pl.enabled)) /* sandboxed: not even the look at who we are */
		return;
	pl_process_renumber();
	pl_streams_each(child_visit);
}

static void end_visit(struct pl_stream *s, int fd)
{
	if (shmt_load(&s->held_by))
		pl_stream_last_close(s, fd);
}

void pl_streams_end(void)
{
	pl_streams_each(end_visit);
}

/* What a stream is to an exec. */
enum { EXEC_NOT_LOOKED, EXEC_KEPT, EXEC_CLOSED, EXEC_RESET };

static void kept_visit(struct pl_stream *s, int fd)
{
	const int flags = pl_real.fcntl(fd, F_GETFD);

	if (flags >= 0 && !(flags & FD_CLOEXEC))
		s->execs = EXEC_KEPT;
}

static void exec_visit(struct pl_stream *s, int fd)
{
	socklen_t len = sizeof(s->linger);

	if (s->execs != EXEC_NOT_LOOKED || !shmt_load(&s->held_by))
		return;
	s->execs = EXEC_CLOSED;
	if (let_go(s) && has_unread(s) &&
	    getsockopt(fd, SOL_SOCKET, SO_LINGER, &s->linger, &len) == 0) {
		s->execs = EXEC_RESET;
		reset_on_close(fd);
	}
}

void pl_streams_exec(void)
{
	PL_IN_REGION;
	pl_streams_each(kept_visit);
	pl_streams_each(exec_visit);
}

static void exec_failed_visit(struct pl_stream *s, int fd)
{
	if (s->execs == EXEC_RESET)
		(void)pl_real.setsockopt(fd, SOL_SOCKET, SO_LINGER, &s->linger, sizeof(s->linger));
	if (s->execs >= EXEC_CLOSED)
		pl_stream_held(s);
	s->execs = EXEC_NOT_LOOKED;
}

void pl_streams_exec_failed(void)
{
	pl_streams_each(exec_failed_visit);
}
