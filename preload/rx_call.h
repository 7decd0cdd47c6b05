/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rx_call.h - one receiving call, and where its bytes come from
 *
 * rx.c decides which of them is next; rx_kernel.c asks the kernel, rx_stash.c takes what lay unread
 * in a ring whose region has gone. All return bytes, 0 at the end of the stream, or -Exxx.
 */
#ifndef PL_RX_CALL_H
#define PL_RX_CALL_H

#include "io.h"
#include "lock.h"
#include "undo.h"

#define PL_RX_SLICES 16

/* One receiving call. */
struct pl_rx_call {
	struct pl_stream *s;
	int fd;
	const struct pl_vec *v;
	int flags;
	struct msghdr *msg;
	bool nonblock;
	bool msg_filled; /* the kernel has written the caller's header */
	bool keep_all;	 /* MSG_WAITALL is the kernel's to serve */
	bool left_tcp;	 /* has looked at the ring or the stash: the kernel may have more */
	size_t done;
};

/** pl_rx_kernel() - receive up to @limit bytes from the kernel, and sleep there if @flags let it */
ssize_t pl_rx_kernel(struct pl_rx_call *c, size_t limit, int flags);

/** pl_rx_count_tcp() - @n was received by TCP: for the stream's totals */
void pl_rx_count_tcp(const struct pl_rx_call *c, ssize_t n);

/**
 * pl_rx_limited() - tcp_read < open_at, nobody else inside: those @missing bytes first
 * Under the lock. @certain: they are to come, for the sender has gone on to the ring. -ESTALE: they
 * were read behind our back.
 */
ssize_t pl_rx_limited(struct pl_rx_call *c, uint64_t missing, bool certain);

/** pl_rx_before_stash() - the same for those before the stash; they are certain to come */
ssize_t pl_rx_before_stash(struct pl_rx_call *c, uint64_t missing);

/** pl_rx_copy_out() - to the caller. Return: @len, less if some of its memory is bad, or -EFAULT */
ssize_t pl_rx_copy_out(const struct pl_rx_call *c, const struct shmt_ring *ring, uint64_t tail,
		       size_t len);

/**
 * pl_rx_stashed() - ring bytes that the agent has moved to the stash, behind those of the kernel
 * that come first. If it did not come to move the ring's tail, that is done here. -ESTALE: they are
 * taken by now.
 */
ssize_t pl_rx_stashed(struct pl_rx_call *c);

#endif
