/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx_call.h - one sending call, as tx.c, tx_open.c and tx_room.c work on it
 */
#ifndef PL_TX_CALL_H
#define PL_TX_CALL_H

#include "io.h"
#include "lock.h"

#define PL_TX_SLICES 16
/* No ring is opened, and an open one is left, while one of these stands. */
#define PL_TX_LEAVE_FLAGS (SHMT_DIR_REFUSED | SHMT_DIR_STOPPED | SHMT_DIR_CLOSED)

/* One sending call: from the caller's memory, or from a file. */
struct pl_tx_call {
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
	bool full; /* the ring is: EAGAIN */
	bool stop; /* the kernel took less than it was given, or a signal came: that is the answer
		    */
};

/** pl_tx_unseen() - runs of this ring may have bytes by TCP beside them that no hook has seen */
static inline bool pl_tx_unseen(const struct pl_stream *s)
{
	return shmt_load_relaxed(&s->tx.shared->flags) & SHMT_DIR_UNSEEN;
}

/** pl_tx_lock() - the lock of the sending direction, and nothing half done by who died with it */
enum pl_lock_result pl_tx_lock(struct pl_stream *s);

/**
 * pl_tx_open() - mode TCP: open the ring, if more is expected, and send a first piece behind it
 * Return: how much was sent, all of the piece: and the ring is open behind it; 0: nothing, go on by
 * TCP; -Exxx
 */
ssize_t pl_tx_open(struct pl_tx_call *c);

/**
 * pl_tx_wait_for_room() - the ring is full at @ctl
 * Return: true: look again, there is room or something changed; false: the reader does not move:
 * leave, unless c->full or c->stop says otherwise
 */
bool pl_tx_wait_for_room(struct pl_tx_call *c, uint64_t ctl);

/** pl_tx_wait_for_reader() - the ring was opened behind what wakes the reader: until it is out of
 * the kernel, for a moment */
void pl_tx_wait_for_reader(const struct pl_tx_call *c);

/** pl_tx_look_at_peer() - once in a while, whether a busy ring's socket has a peer; true: no more
 */
bool pl_tx_look_at_peer(struct pl_stream *s, int fd, uint64_t now_ns);

#endif
