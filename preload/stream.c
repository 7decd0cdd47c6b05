/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - from a descriptor to its stream, and the life of both
 *
 * References: a call raises inflight, then looks whether the number still names the stream. Whoever
 * drops the last descriptor of the process releases the record once no call is under way.
 */
#include "stream.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent_proto.h"
#include "classify.h"
#include "epset.h"
#include "lock.h"
#include "pass.h"

struct pl_stream *pl_streams;
static uint64_t adopt_lock; /* one at a time, so that a stream is made once */

static uint32_t index_of(const struct pl_stream *s)
{
	return (uint32_t)(s - pl_streams);
}

uint32_t pl_stream_index(const struct pl_stream *s)
{
	return index_of(s);
}

struct pl_stream *pl_stream_at(uint32_t index)
{
	return &pl_streams[index];
}

static uint64_t *proc_word(struct coloc_record_shared *rec, uint32_t proc)
{
	return &rec->procs[proc / 64];
}

void pl_record_claim(struct coloc_record_shared *rec)
{
	const uint32_t proc = shmt_load(&pl.proc);

	if (proc < COLOC_PROCS_MAX)
		shmt_or(proc_word(rec, proc), 1ull << proc % 64);
}

void pl_streams_each(void (*visit)(struct pl_stream *, int))
{
	const uint32_t top = pl_streams ? shmt_load(&pl_fdtable_top) : 0;
	uint32_t fd;

	for (fd = 0; fd < top; fd++) {
		const uint64_t entry = pl_fd_entry((int)fd);
		struct pl_stream *s = &pl_streams[PL_ENTRY_INDEX(entry)];

		/* Not one that ended behind our back, whose record is another's by now. */
		if (PL_ENTRY_KIND(entry) == PL_STREAM &&
		    shmt_load(&s->rec->generation) == s->generation)
			visit(s, (int)fd);
	}
}

static void claim_visit(struct pl_stream *s, int fd)
{
	(void)fd;
	pl_record_claim(s->rec);
}

void pl_streams_claim(void)
{
	pl_streams_each(claim_visit);
}

int pl_streams_init(uint32_t count)
{
	void *memory;

	if (pl_streams)
		return 0;
	memory = mmap(NULL, (size_t)count * sizeof(*pl_streams), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	pl_streams = memory;
	if (pthread_atfork(pl_streams_fork, NULL, pl_streams_fork_child) != 0)
		return -1;
	return 0;
}

static void forked_visit(struct pl_stream *s, int fd)
{
	(void)fd;
	s->inflight = 0;
	s->receives = 0;
}

void pl_streams_forked(void)
{
	/* Another thread of the parent may have held them: without an agent, too. */
	adopt_lock = 0;
	pl_join_forked();
	pl_epset_forked();
	pl_pass_forked();
	pl_streams_each(forked_visit);
	pl_streams_cloned();
}

/* The process's side of a record; its first sight of this life of the record makes it. */
static struct pl_stream *stream_of(struct coloc_record_shared *rec, int fd)
{
	struct pl_stream *s = &pl_streams[rec - pl.records];
	int flags;

	if (s->rec && s->generation == shmt_load(&rec->generation))
		return s; /* a duplicate */
	s->rec = rec;	  /* always this one: who still looks finds it so */
	memset(&s->inflight, 0, sizeof(*s) - offsetof(struct pl_stream, inflight));
	s->generation = shmt_load(&rec->generation);
	flags = pl_real.fcntl(fd, F_GETFL);
	if (flags >= 0 && (flags & O_NONBLOCK))
		shmt_or(&rec->flags, COLOC_RECORD_NONBLOCK);
	if (flags >= 0 && (flags & O_ASYNC))
		pl_stream_stay(s, COLOC_REASON_ASYNC_IO);
	if (shmt_load(&pl.unserved))
		pl_stream_stay(s, shmt_load(&pl.unserved));
	return s;
}

/* What came of calls that passed is known by the kernel: the record begins with it. */
static void count_passed(struct pl_stream *s, int fd)
{
	const uint32_t calls = shmt_load_relaxed(&pl_fdtable[fd].calls);
	struct coloc_record_shared *rec = s->rec;
	uint64_t received, sent;

	if (!calls || rec->tx.tcp_bytes || rec->rx.tcp_bytes ||
	    pl_stream_bytes(fd, &received, &sent) < 0)
		return;
	shmt_count(&rec->rx.tcp_bytes, received);
	shmt_count(&rec->tx.tcp_bytes, sent);
	shmt_count(&rec->rx.messages, (calls + 1) / 2);
	shmt_count(&rec->tx.messages, calls / 2);
}

/* What was learnt of a number before it was looked at. */
static void take_flags(struct pl_stream *s, uint32_t flags)
{
	if (flags & (PL_FD_SHUT_RD | PL_FD_SHUT_WR))
		shmt_or(&s->rec->flags, flags & (PL_FD_SHUT_RD | PL_FD_SHUT_WR));
	if (flags & PL_FD_STAYS) {
		pl_stream_stay(s, COLOC_REASON_EXEC);
		pl_stream_strangers(s);
	}
}

static struct pl_stream *adopt(int fd, uint64_t was)
{
	enum pl_lock_result lock;
	struct coloc_record_shared *rec = NULL;
	struct pl_stream *s = NULL;
	bool waited_for = false;
	enum pl_kind kind;

	if (pl_process_waits()) /* nothing can be found out now: no thread waits for another */
		return NULL;
	lock = pl_lock(&adopt_lock);
	if (lock != PL_LOCK_TAKEN)
		return NULL;	      /* a handler that interrupted this very look */
	if (pl_fd_entry(fd) != was) { /* another thread has just looked */
		pl_unlock(&adopt_lock, lock);
		return pl_stream_get(fd);
	}
	kind = pl_classify(fd, PL_ENTRY_KIND(was), &rec);
	if (kind == PL_STREAM) {
		s = stream_of(rec, fd);
		take_flags(s, PL_ENTRY_INDEX(was));
		pl_pass_raise(s);
		if (pl_fd_set(fd, was, PL_ENTRY(PL_STREAM, s->generation, index_of(s)))) {
			shmt_store_relaxed(&s->fd, fd);
			pl_record_claim(rec);
			if (shmt_add(&s->fds, 1) == 0)
				pl_stream_held(s);
			shmt_add(&s->inflight, 1);
			pl_pass_hand_over(fd, s);
			if (PL_ENTRY_KIND(was) == PL_NEW)
				count_passed(s, fd);
			waited_for = pl_epset_adopt(fd, s);
			if (fd <= STDERR_FILENO)
				pl_stream_standard(s);
		} else {
			pl_pass_lower(s);
			s = NULL;
		}
	} else if (kind != PL_UNKNOWN) {
		(void)pl_fd_set(fd, was, kind);
	}
	pl_unlock(&adopt_lock, lock);
	if (waited_for)
		pl_stream_waits(s, fd);
	return s;
}

bool pl_stream_waits_already(uint64_t entry)
{
	const struct pl_stream *s = &pl_streams[PL_ENTRY_INDEX(entry)];

	return shmt_load_relaxed(&s->receives) &&
	       !(shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_RECEIVERS) &&
	       !pl_stream_wants_attach(s);
}

struct pl_stream *pl_stream_get_slow(int fd, uint64_t entry)
{
	struct pl_stream *s;

	while (PL_ENTRY_KIND(entry) == PL_STREAM) {
		s = pl_stream_named(fd, entry);
		if (s)
			return s;
		/* The record ended under a number whose close we did not see: look anew. */
		if (pl_fd_entry(fd) == entry)
			(void)pl_fd_set(fd, entry, PL_UNKNOWN);
		entry = pl_fd_entry(fd);
	}
	return PL_ENTRY_KIND(entry) == PL_UNKNOWN || PL_ENTRY_KIND(entry) == PL_NEW
		       ? adopt(fd, entry)
		       : NULL;
}

/* ---- standard numbers --------------------------------------------------------------------------
 */

static bool is_standard(const struct pl_stream *s)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (pl_stream_is_at(s, fd))
			return true;
	return false;
}

void pl_stream_standard(struct pl_stream *s)
{
	PL_IN_REGION;
	if (!(shmt_or(&s->rec->flags, COLOC_RECORD_STANDARD) & COLOC_RECORD_STAYS))
		pl_stream_reason(s, COLOC_REASON_STDIO);
	if (pl_attached(s))
		shmt_rx_refuse(&s->rx);
}

/*
 * One of these numbers has ended. A server that was given its stream at 0 and 1, and has taken it
 * to another number (sshd), is free again: unless another process may read or write there.
 */
static void standard_ends(struct pl_stream *s)
{
	const uint32_t flags = shmt_load(&s->rec->flags);

	if ((flags & COLOC_RECORD_STANDARD) &&
	    !(flags & (COLOC_RECORD_SHARED | COLOC_RECORD_SPAWNED)) && !is_standard(s))
		pl_stream_standard_over(s, pl_stream_any_fd(s));
	if ((flags & COLOC_RECORD_STANDARD) && is_standard(s)) /* another thread, meanwhile */
		pl_stream_standard(s);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

/* No descriptor and no call of this process is left. */
static void release(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	const uint32_t proc = shmt_load(&pl.proc);
	const uint64_t bit = proc < COLOC_PROCS_MAX ? 1ull << proc % 64 : 0;
	const uint32_t n = index_of(s);
	struct coloc_totals_shared *totals = &pl.local->totals;
	uint64_t left = 0;
	uint32_t i;

	pl_epset_drop(&s->items);
	if (shmt_load(&rec->generation) != s->generation)
		return;
	if (bit)
		left = shmt_and(proc_word(rec, proc), ~bit) & ~bit;
	for (i = 0; i < COLOC_PROCS_MAX / 64; i++)
		left |= bit && i == proc / 64 ? 0 : shmt_load(&rec->procs[i]);
	/* A granted record is the agent's to free: the kernel's socket may live on elsewhere. */
	if (shmt_load(&rec->grant) != COLOC_GRANT_IDLE) {
		pl_process_tell(COLOC_MSG_CLOSED, n, s->generation);
	} else if (!left && bit && shmt_cas(&rec->state, COLOC_RECORD_LIVE, COLOC_RECORD_DYING)) {
		shmt_add_relaxed(&totals->bytes_tcp, rec->tx.tcp_bytes + rec->rx.tcp_bytes);
		shmt_add_relaxed(&totals->reasons[shmt_load(&rec->reason) % COLOC_REASON_COUNT], 1);
		shmt_add(&rec->generation, 1);
		shmt_and(&pl.local->used[n / 64], ~(1ull << n % 64));
		shmt_store_release(&rec->state, COLOC_RECORD_FREE);
	}
}

bool pl_stream_is_at(const struct pl_stream *s, int fd)
{
	return pl_fd_entry(fd) == PL_ENTRY(PL_STREAM, s->generation, index_of(s));
}

int pl_stream_any_fd(struct pl_stream *s)
{
	const uint32_t top = shmt_load(&pl_fdtable_top);
	int fd = shmt_load_relaxed(&s->fd);

	if (pl_stream_is_at(s, fd))
		return fd;
	for (fd = 0; fd < (int)top; fd++)
		if (pl_stream_is_at(s, fd)) {
			shmt_store_relaxed(&s->fd, fd);
			return fd;
		}
	return -1;
}

void pl_stream_put(struct pl_stream *s)
{
	if (shmt_sub(&s->inflight, 1) == 1 && PL_UNLIKELY(!shmt_load(&s->fds)))
		if (shmt_cas(&s->inflight, 0, 1u << 31)) {
			release(s);
			shmt_sub(&s->inflight, 1u << 31);
		}
}

static void end_number(int fd, uint64_t into)
{
	const uint64_t entry = pl_fd_take(fd, into);
	struct pl_stream *s;

	switch (PL_ENTRY_KIND(entry)) {
	case PL_STREAM:
		s = &pl_streams[PL_ENTRY_INDEX(entry)];
		shmt_add(&s->inflight, 1);
		if (shmt_sub(&s->fds, 1) == 1 && s->rec)
			pl_stream_last_close(s, fd);
		else if (fd <= STDERR_FILENO && s->rec)
			standard_ends(s);
		pl_stream_put(s);
		break;
	case PL_EPOLL:
		pl_epset_close(PL_ENTRY_INDEX(entry));
		break;
	default:
		pl_epset_forget(fd);
		break;
	}
}

void pl_stream_flush_interest(int fd)
{
	const uint64_t entry = pl_fd_entry(fd);

	if (PL_ENTRY_KIND(entry) == PL_STREAM)
		pl_epset_flush_of(&pl_streams[PL_ENTRY_INDEX(entry)]);
}

void pl_stream_forget(int fd)
{
	pl_stream_flush_interest(fd);
	end_number(fd, PL_ENTRY_CLOSED);
}

void pl_stream_passed(int fd)
{
	end_number(fd, PL_UNKNOWN);
}

void pl_stream_fresh(int fd)
{
	if (fd >= 0)
		end_number(fd, PL_NEW);
}

void pl_stream_copy(int from, int to)
{
	uint64_t entry;

	/* A use of either number may put it on a ring: the other is not a new one any more. */
	if (PL_ENTRY_KIND(pl_fd_entry(from)) == PL_NEW)
		pl_pass_shared(from);
	entry = pl_fd_entry(from);
	pl_stream_forget(to);
	switch (PL_ENTRY_KIND(entry)) {
	case PL_STREAM:
		shmt_add(&pl_streams[PL_ENTRY_INDEX(entry)].fds, 1);
		shmt_store_relaxed(&pl_streams[PL_ENTRY_INDEX(entry)].fd, to);
		break;
	case PL_EPOLL:
		pl_epset_dup(PL_ENTRY_INDEX(entry));
		break;
	case PL_PASS:
	case PL_UNKNOWN: /* to be looked at under its own number */
		break;
	default:
		entry = PL_UNKNOWN;
	}
	(void)pl_fd_set(to, PL_ENTRY_CLOSED, entry);
}

void pl_stream_shut(struct pl_stream *s)
{
	PL_IN_REGION;
	shmt_or(&s->rec->flags, COLOC_RECORD_SHUT_WR);
	if (pl_attached(s))
		shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
}

void pl_stream_shut_rd(struct pl_stream *s)
{
	PL_IN_REGION;
	shmt_or(&s->rec->flags, COLOC_RECORD_SHUT_RD);
	if (pl_attached(s))
		shmt_rx_refuse(&s->rx);
}

static enum coloc_reason stay_reason;

static void stay_visit(struct pl_stream *s, int fd)
{
	(void)fd;
	pl_stream_stay(s, stay_reason);
}

void pl_streams_stay(enum coloc_reason reason)
{
	stay_reason = reason;
	pl_epset_exact_all();
	pl_streams_each(stay_visit);
}
