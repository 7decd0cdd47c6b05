/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - one TCP stream as this process sees it
 *
 * The record (shared by all processes that hold the socket) has the counters and locks; this is the
 * process's own side of it: where its directions are mapped, how many calls and descriptors use it.
 * Found by record number, made when a descriptor is first looked at, valid while a reference from
 * pl_stream_get() is held or a descriptor names it.
 */
#ifndef PL_STREAM_H
#define PL_STREAM_H

#include "fdtable.h"
#include "gate.h"
#include "process.h"
#include "switch.h"

struct pl_stream {
	struct coloc_record_shared *rec; /* first: it stays as it is */
	uint32_t inflight;		 /* atomic; calls under way in this process */
	uint32_t fds;			 /* atomic; descriptors of this process that name it */
	uint32_t generation;		 /* of the record */
	uint32_t attached; /* atomic; number of the region that tx and rx are mapped in, 0 = none */
	uint32_t items;	   /* atomic; epoll items of it, 1 + number of the first (epset.h) */
	uint32_t awake;	   /* atomic; 1 = linked in its sets' awake lists */
	uint32_t same_kernel;	/* both ends run on one kernel: processor numbers compare */
	uint32_t broken;	/* atomic; its segment could not be mapped: the kernel alone */
	uint32_t verified;	/* the other end's evidence fitted */
	uint32_t receives;	/* atomic; 1 = this process is one of its receivers */
	uint32_t asked;		/* relaxed; how often others were looked for since */
	uint32_t sandbox_asked; /* relaxed; the same of sandboxed ones */
	uint32_t held_by;     /* atomic; number of the process that is a holder by this, 0 = none */
	uint32_t unnamed;     /* it is one without a name */
	uint32_t forked_at;   /* number of the last fork that counted the child */
	uint32_t execs;	      /* enum in holders.c */
	struct linger linger; /* the program's, while an exec is tried */
	struct shmt_dir tx, rx;
	struct shmt_seg_shared *seg;
	uint32_t side;
	/* pacing; relaxed: a lost update costs nothing but a guess */
	uint32_t window_messages;
	uint64_t window_ns;
	uint32_t rate_ok; /* the last 64 messages came fast enough */
	uint32_t opened;  /* the ring was opened and nothing was put into it yet */
	uint32_t open_fails;
	uint32_t waited;    /* for the ring, since something was last put into the other one */
	uint32_t opens;	    /* how often opening it was thought about */
	uint64_t failed_ns; /* when a wait for the ring was last in vain */
	uint32_t gather_ns; /* of a reader that is faster than its sender: wait.h */
	uint32_t gather_after;
	uint32_t at_once;
	int fd;		      /* a descriptor that names it, as long as its entry says so */
	uint32_t said_reason; /* the last one that was logged */
	uint32_t dry;	      /* receives in a row that found the ring empty and did not wait */
	uint32_t slow;	      /* how often of late a wait for room was in vain */
	uint64_t full_at;     /* where the reader stood when EAGAIN was said, */
	uint64_t full_ns;     /* and since when */
	uint32_t stuck;	      /* the last leave was given up: a receiver stays inside the kernel */
	uint64_t last_send_ns;
	uint64_t looked_ns; /* when the socket was last asked whether the peer is gone */
};

/** pl_streams_init() - the process's array, before the first WELCOME is taken; -1 no memory */
int pl_streams_init(uint32_t count);

/** pl_streams_claim() - put our bit into the records of all our descriptors: we have a (new) slot
 */
void pl_streams_claim(void);

/** pl_streams_forked() - in a fork child: no call of the parent's other threads is under way here
 */
void pl_streams_forked(void);

/** pl_streams_each() - called with every stream that a descriptor of this process names, once per
 * descriptor */
void pl_streams_each(void (*visit)(struct pl_stream *s, int fd));

/** pl_streams_stay() - pl_stream_stay() for every stream that this process has a descriptor of */
void pl_streams_stay(enum coloc_reason reason);

struct pl_stream *pl_stream_get_slow(int fd, uint64_t entry);

extern struct pl_stream *pl_streams; /* by number of the record; NULL before init */

/** pl_stream_named() - a reference to the stream of an entry of that kind; NULL: look anew */
static inline struct pl_stream *pl_stream_named(int fd, uint64_t entry)
{
	struct pl_stream *s = &pl_streams[PL_ENTRY_INDEX(entry)];

	shmt_add(&s->inflight, 1);
	if (PL_LIKELY(pl_fd_entry(fd) == entry && (shmt_load_relaxed(&s->rec->generation) &
						   0xffffff) == PL_ENTRY_GENERATION(entry)))
		return s;
	shmt_sub(&s->inflight, 1);
	return NULL;
}

uint32_t pl_stream_index(const struct pl_stream *s);
struct pl_stream *pl_stream_at(uint32_t index);

/**
 * pl_stream_get() - the stream behind @fd, or NULL: the call passes through
 * A number seen for the first time is looked at here (some system calls, once). Ends with
 * pl_stream_put(). Any thread, signal handlers; errno may change.
 */
static inline struct pl_stream *pl_stream_get(int fd)
{
	const uint64_t entry = pl_fd_entry(fd);

	struct pl_stream *s = NULL;

	if (entry == PL_PASS)
		return NULL;
	if (PL_ENTRY_KIND(entry) == PL_STREAM)
		s = pl_stream_named(fd, entry);
	return s ? s : pl_stream_get_slow(fd, entry);
}

void pl_stream_put(struct pl_stream *s);

/**
 * pl_stream_forget() - @fd is closed, or about to mean something else
 * Called before the real close, so that the number cannot come back to another thread first.
 */
void pl_stream_forget(int fd);

/** pl_stream_flush_interest() - before @fd stops to name it: sets that it is in are up to date */
void pl_stream_flush_interest(int fd);

/** pl_stream_copy() - @to is a duplicate of @from now */
void pl_stream_copy(int from, int to);

/** pl_stream_passed() - the same where a number came from another process: it may be on a ring */
void pl_stream_passed(int fd);

/** pl_stream_fresh() - a call handed the number out: it may have become a stream: forget what it
 * was */
void pl_stream_fresh(int fd);

/**
 * pl_stream_account() - @bytes went through one of its directions; asks for a ring when the stream
 * is worth one, and takes a grant up
 */
void pl_stream_account(struct pl_stream *s, int fd, ssize_t bytes);

/** pl_join_forked() - in a fork child */
void pl_join_forked(void);

/** pl_stream_attach() - take a grant up: map the segment, follow the receiving direction's word */
void pl_stream_attach(struct pl_stream *s, int fd);

/** pl_attached() - the directions may be used now (gate.h) */
static inline bool pl_attached(const struct pl_stream *s)
{
	const uint32_t attached = shmt_load_acquire(&s->attached);

	return attached && attached == pl_gate_attach();
}

/** pl_stashed() - unread ring bytes lie in the stash: they come before what else there is, but for
 * some of the kernel's */
static inline bool pl_stashed(const struct pl_stream *s)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) &&
	       shmt_load(&s->rec->stash.bytes) > shmt_load(&s->rec->stash.taken);
}

/** pl_stash_ready() - they come next */
static inline bool pl_stash_ready(const struct pl_stream *s)
{
	return pl_stashed(s) && !shmt_load(&s->rec->stash.missing);
}

/**
 * pl_may_be_on_ring() - not attached here and now, but maybe by another thread or process: attach,
 * or see about the region (pl_wait_mapped()), and look again. After the announcement (gate.h).
 */
static inline bool pl_may_be_on_ring(const struct pl_stream *s)
{
	return shmt_load(&s->rec->grant) >= COLOC_GRANT_GRANTED && !shmt_load_relaxed(&s->broken) &&
	       (pl_gate_attach() || pl_gate_stale());
}

/** pl_stream_wants_attach() - true while there is something for pl_stream_attach() to do */
static inline bool pl_stream_wants_attach(const struct pl_stream *s)
{
	return shmt_load_relaxed(&s->rec->grant) >= COLOC_GRANT_GRANTED && pl_gate_attach() &&
	       !shmt_load_relaxed(&s->broken) &&
	       (!pl_attached(s) || shmt_load_relaxed(&s->rec->rx.attach) != 2);
}

/** pl_stream_stay() - from now on by TCP, for @reason; unread ring bytes are still read first */
void pl_stream_stay(struct pl_stream *s, enum coloc_reason reason);

/** pl_stream_standard() - its number is 0, 1 or 2, where libc reads and writes out of our sight: it
 * receives by TCP for as long as that is so, and is sent on as tx.c says. An open ring is to be
 * left after that, under the lock of the sending direction. */
void pl_stream_standard(struct pl_stream *s);

/** pl_stream_standard_over() - none of its numbers is one of those any more, nor one of another
 * process: what was read there is counted from @fd, any of its numbers, and it is free again. If
 * that cannot be known now it receives by TCP for good. */
void pl_stream_standard_over(struct pl_stream *s, int fd);

/** pl_stream_shut() - what is sent from now on is the kernel's to judge: shut down, reset, over */
void pl_stream_shut(struct pl_stream *s);

/** pl_stream_shut_rd() - so is what is received, once the ring is empty */
void pl_stream_shut_rd(struct pl_stream *s);

/**
 * pl_stream_sandbox() - this process will make no call of ours any more, and uses it all the same:
 * it is on TCP until the process is gone, or for good where that cannot be known (holders.c)
 */
void pl_stream_sandbox(struct pl_stream *s, int fd);

/** pl_stream_sandbox_over() - it is so marked: now and then, is nobody of those left? Then it is
 * free. Under PL_IN_REGION */
void pl_stream_sandbox_over(struct pl_stream *s, int fd);

/** pl_stream_held() - this process has its first descriptor of it */
void pl_stream_held(struct pl_stream *s);

/** pl_stream_strangers() - somebody may have it from now on whose end nobody here will see */
void pl_stream_strangers(struct pl_stream *s);

/** pl_stream_last_close() - this process is about to close its last one */
void pl_stream_last_close(struct pl_stream *s, int fd);

/** pl_streams_fork() - in the parent, before the child is there */
void pl_streams_fork(void);
/** pl_streams_fork_child() - in the child, first thing: it was counted by that */
void pl_streams_fork_child(void);
/** pl_streams_cloned() - in a child that knows of itself: a bare system call may have made it */
void pl_streams_cloned(void);

/** pl_streams_end() - the process ends, and the kernel closes its descriptors */
void pl_streams_end(void);

/** pl_streams_exec() - the same of those that exec closes */
void pl_streams_exec(void);
/** pl_streams_exec_failed() - it is as before that */
void pl_streams_exec_failed(void);

void pl_stream_receives_slow(struct pl_stream *s);

/**
 * pl_stream_receives() - this process receives from it, or waits for something to receive
 * While several processes do, it receives by TCP (holders.c). After it was attached, if it could
 * be; before anything is left unread, or waited for.
 */
static inline void pl_stream_receives(struct pl_stream *s)
{
	if (PL_UNLIKELY(!shmt_load_relaxed(&s->receives) ||
			(shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_RECEIVERS)))
		pl_stream_receives_slow(s);
}

/** pl_stream_several() - so do other processes, and none can wake another: exact under the rx lock
 */
static inline bool pl_stream_several(const struct pl_stream *s)
{
	return PL_UNLIKELY(shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_RECEIVERS);
}

/** pl_stream_waits() - attached as far as can be, and one of its receivers: before a wait for it */
static inline void pl_stream_waits(struct pl_stream *s, int fd)
{
	if (pl_stream_wants_attach(s))
		pl_stream_attach(s, fd);
	pl_stream_receives(s);
}

/** pl_stream_waits_already() - pl_stream_waits() has nothing to do for a number of this entry */
bool pl_stream_waits_already(uint64_t entry);

/** pl_stream_reason() - why it is not on a ring */
void pl_stream_reason(struct pl_stream *s, enum coloc_reason reason);

/** pl_stream_reason_now() - what its flags say of that, if it need not stay */
void pl_stream_reason_now(struct pl_stream *s);

/** pl_stream_reset() - the other side broke the rules: end the connection. Return: -ECONNRESET */
int pl_stream_reset(struct pl_stream *s, int fd);

/**
 * pl_stream_lost() - the region has gone without notice: end the connection, for what lay in the
 * ring is lost. Under PL_IN_REGION, where a word reads 0 that never is. Return: whether it did
 */
bool pl_stream_lost(struct pl_stream *s, int fd);

/** pl_region_lost() - reads of it give what they like; after a read, as it never comes back so */
static inline bool pl_region_lost(void)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) && pl.region.base &&
	       shmt_load(
		       &((const struct shmt_super_shared *)(const void *)pl.region.base)->magic) !=
		       SHMT_MAGIC;
}

/** pl_stream_bytes() - bytes the program consumed from the kernel, and passed to it; 0 or -Exxx
 * Exact: tests/platform/ proves it.
 */
int pl_stream_bytes(int fd, uint64_t *ret_read, uint64_t *ret_sent);

/** pl_stream_resync() - bytes were consumed behind our back: tcp_read is the kernel's count again
 * Under the receive lock. true: it was too small.
 */
bool pl_stream_resync(struct pl_stream *s, int fd);

/** pl_stream_recount() - the same while others may receive, in mode TCP; false: not now */
bool pl_stream_recount(struct pl_stream *s, int fd);

/** pl_stream_is_at() - does this descriptor name it? */
bool pl_stream_is_at(const struct pl_stream *s, int fd);

/** pl_stream_any_fd() - a descriptor of this process that names it, or -1 */
int pl_stream_any_fd(struct pl_stream *s);

/** pl_stream_evidence() - what the kernel of this end knows of the connection */
int pl_stream_evidence(int fd, struct shmt_evidence *ret);

/** pl_stream_nonblock() - does this call return rather than wait? */
static inline bool pl_stream_nonblock(const struct pl_stream *s, int flags)
{
	return (flags & MSG_DONTWAIT) ||
	       (shmt_load_relaxed(&s->rec->flags) & COLOC_RECORD_NONBLOCK);
}

#endif
