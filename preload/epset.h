/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epset.h - epoll sets, as far as streams are in them
 *
 * The kernel keeps the set; we remember, per process, which numbers of it are or may become
 * streams, with their events and data, and which of those are awake (on a ring). Work is
 * proportional to the awake ones.
 */
#ifndef PL_EPSET_H
#define PL_EPSET_H

#include "real.h"
#include "stream.h"

void pl_epset_forked(void);

/* Life of the numbers; see stream.c. */
bool pl_epset_adopt(int fd, struct pl_stream *s); /* an UNKNOWN number is a stream; has it items? */
void pl_epset_forget(int fd);			  /* an UNKNOWN number is closed */
bool pl_epset_has(int fd);			  /* has such a number items? */
void pl_epset_drop(uint32_t *items);		  /* all items of a stream that ends */
void pl_epset_close(uint32_t set);
void pl_epset_dup(uint32_t set);

/** pl_epset_defer() - epoll_ctl() without the kernel; false: the real call is right (epdefer.c) */
bool pl_epset_defer(int epfd, int op, int fd, const struct epoll_event *event);
/** pl_epset_flush() - the kernel hears of what was deferred in a set: before it is asked; errno
 * kept
 */
bool pl_epset_flush(uint32_t set);
/** pl_epset_flush_of() - the same in all sets of a stream: before a number of it is closed */
void pl_epset_flush_of(const struct pl_stream *s);
/** pl_epset_exact() - from now on nothing is deferred in it: it may be looked at out of our sight
 */
void pl_epset_exact(uint32_t set);
/** pl_epset_exact_all() - all sets: another process will have them, or calls that we do not serve
 */
void pl_epset_exact_all(void);
/** pl_epset_exec() - those that a program started now inherits */
void pl_epset_exec(void);

/** pl_epset_ctl() - after the real epoll_ctl() succeeded */
void pl_epset_ctl(int epfd, int op, int fd, const struct epoll_event *event);

/**
 * pl_epset_knows() - is a stream's number in a set with ONESHOT items, for all that the program
 * knows? The kernel does not have what was reported by us until it is armed again. @quiet: only
 * those
 */
bool pl_epset_knows(int epfd, int fd, bool quiet);

/** pl_epset_wait() - as epoll_pwait2() on a set with streams; -errno
 * @timeout_ns: UINT64_MAX = for ever
 */
int pl_epset_wait(uint32_t set, int epfd, struct epoll_event *events, int max, uint64_t timeout_ns,
		  const sigset_t *mask);

/** pl_epset_catch_up() - before a wait in it: what other processes have changed, and what fork did
 */
void pl_epset_catch_up(uint32_t set);

/** pl_epset_of() - the set behind a number, or -1: the real call is right */
int pl_epset_of(int epfd);
/** pl_epset_make() - the same, made if need be: streams may be added by another thread while this
 * one sleeps in it, or when it is in another set already
 */
int pl_epset_make(int epfd);

/** pl_epset_awake() - the stream is on a ring: link it in its sets. false: not now, settle it */
bool pl_epset_awake(struct pl_stream *s);
/** pl_epset_sleepers() - does a thread of this process sleep in a set of this stream? */
bool pl_epset_sleepers(struct pl_stream *s);
/** pl_epset_kick() - wake those */
void pl_epset_kick(struct pl_stream *s);

/** pl_epset_tell_again() - a writable edge that the kernel has told is told once more */
void pl_epset_tell_again(struct pl_stream *s);

/** pl_epset_own_fd() - is @fd the descriptor that wakes sleepers? */
bool pl_epset_own_fd(int fd);
/** pl_epset_vacate() - then it gets another number; false: there is none */
bool pl_epset_vacate(int fd);

/* For a set inside another set, or in poll(). */
bool pl_epset_awake_any(uint32_t set);
bool pl_epset_ready_any(uint32_t set);
bool pl_epset_settle(uint32_t set);
/** pl_epset_sleep() - count a thread that goes to sleep in a set; -1: is back */
void pl_epset_sleep(uint32_t set, int sleepers);

#endif
