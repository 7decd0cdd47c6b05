/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo.h - what a thread has raised while it sleeps in the kernel, for siglongjmp
 *
 * A handler may leave a blocked call by siglongjmp; then nobody comes back to lower a count or to
 * release a lock. So each is noted in a small stack of the thread, and the longjmp hooks undo what
 * is noted. A call that returns, or is cancelled, takes its note back itself. A longjmp inside a
 * handler that returns to the interrupted call in the end is not told apart (C programs that do
 * both are not known).
 */
#ifndef PL_UNDO_H
#define PL_UNDO_H

#include <stdint.h>

enum pl_undo_kind {
	PL_UNDO_COUNT, /* a uint32_t that was raised by one */
	PL_UNDO_LOCK,  /* a lock of lock.h that was taken */
	PL_UNDO_RX,    /* a struct pl_stream that was entered to receive */
	PL_UNDO_PASS,  /* a struct pl_fd_way that a call is counted in */
};

void pl_undo_push(enum pl_undo_kind kind, const void *what);
void pl_undo_pop(void);
/** pl_undo_all() - the thread's stack is about to be cut */
void pl_undo_all(void);
void pl_undo_forked(void);

#endif
