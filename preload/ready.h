/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ready.h - is there something to read, and may one sleep?
 *
 * A stream is readable when the ring has bytes that come next, or when the kernel says so. Whoever
 * sleeps, sleeps in the kernel: before that, each stream that he waits for is settled.
 */
#ifndef PL_READY_H
#define PL_READY_H

#include "stream.h"

/** pl_ready_follows() - this stream's receiving word counts in this process */
static inline bool pl_ready_follows(const struct pl_stream *s)
{
	return pl_attached(s) && shmt_load_acquire(&s->rec->rx.attach) == 2;
}

/*
 * All of these within PL_IN_REGION.
 */

/** pl_ready_now() - the ring has bytes that come next. No lock, no system call. */
bool pl_ready_now(struct pl_stream *s);

/** pl_ready_arrived() - the ring has bytes, maybe behind unread ones of the kernel: an arrival */
bool pl_ready_arrived(struct pl_stream *s);

/**
 * pl_ready_settle() - before sleeping in the kernel
 * Return: true: whatever comes next will come by TCP and wake us; false: there is something to read
 */
bool pl_ready_settle(struct pl_stream *s);

/**
 * pl_ready_push_out() - sleep with unread ring bytes: what comes next comes by TCP. Return: true;
 * false: not now (a receiver is inside the kernel, or more has come)
 */
bool pl_ready_push_out(struct pl_stream *s);

/**
 * pl_ready_end_run() - the ring is empty at @ctl, RING or LEAVING: back to TCP; under the rx lock
 * Return: false: the word has changed
 */
bool pl_ready_end_run(struct pl_stream *s, int fd, uint64_t ctl);
/**
 * pl_ready_let_go() - nothing lies before the kernel's bytes any more: the held one is dropped
 * Under the rx lock. Return: false: there is no descriptor to do that by
 */
bool pl_ready_let_go(struct pl_stream *s, int fd);
/** pl_ready_held() - bytes in the kernel that the program has had (0, 1); exact under the rx lock
 */
static inline size_t pl_ready_held(const struct pl_stream *s)
{
	return PL_UNLIKELY(shmt_load(&s->rec->rx.held) != 0);
}

/** pl_ready_after_receive() - at the end of a call: nobody else's sleep may miss what is left */
void pl_ready_after_receive(struct pl_stream *s);
/** pl_ready_left() - the same where nothing was received */
void pl_ready_left(struct pl_stream *s);

/** pl_ready_writable() - the ring takes bytes right now, so the kernel need not be asked */
bool pl_ready_writable(struct pl_stream *s);

#endif
