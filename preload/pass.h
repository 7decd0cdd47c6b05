/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pass.h - calls on numbers that nobody has looked at yet
 *
 * To look at a number costs as many system calls as a short connection makes. So a NEW number,
 * which is on no ring, is looked at only after some calls, or a large one; until then its calls go
 * to the kernel as they are. (Not with the policy "always".)
 *
 * Nobody may be in the kernel uncounted when the stream is attached, or opened (docs/protocol.md,
 * sections 5 and 7). So a call that passes counts itself in by its number, and then looks whether
 * the number still is what it was. Whoever turns the number into a stream raises the record's own
 * counts (rx.unattached, tx.in_kernel) before that, and looks at the number's counts after it: one
 * of the two sees the other. While calls are inside, the record stays raised by one for all of
 * them; the last that leaves lowers it. They are counted by number, not by socket: a call at a
 * number that means another socket by now holds up that one, too, which is slow but right.
 */
#ifndef PL_PASS_H
#define PL_PASS_H

#include "stream.h"

/* One call. */
struct pl_pass {
	struct pl_fd_way *way; /* where it is counted; NULL = it is not */
};

struct pl_stream *pl_pass_slow(int fd, uint64_t entry, enum pl_way way, size_t bytes,
			       struct pl_pass *ret_pass);
void pl_pass_leave(struct pl_fd_way *way);

/**
 * pl_pass() - the stream behind @fd for a call that receives, or sends @bytes; or NULL: it passes
 * through, until pl_pass_end(). Else as pl_stream_get().
 */
static inline struct pl_stream *pl_pass(int fd, enum pl_way way, size_t bytes,
					struct pl_pass *ret_pass)
{
	const uint64_t entry = pl_fd_entry(fd);

	struct pl_stream *s = NULL;

	if (entry == PL_PASS)
		return NULL;
	if (PL_ENTRY_KIND(entry) == PL_STREAM)
		s = pl_stream_named(fd, entry);
	return s ? s : pl_pass_slow(fd, entry, way, bytes, ret_pass);
}

void pl_pass_end_slow(const struct pl_pass *pass);

/** pl_pass_end() - once, at the end of the call; also by thread cancellation */
static inline void pl_pass_end(const struct pl_pass *pass)
{
	if (PL_UNLIKELY(pass->way))
		pl_pass_end_slow(pass);
}

/** pl_pass_unseen() - @fd is NEW, and not worth a look for a call that does not need one */
bool pl_pass_unseen(int fd);

/** pl_pass_shared() - other numbers or processes may use what a NEW one means: no call passes now
 */
void pl_pass_shared(int fd);

/** pl_pass_fork() - in the parent, before the child is there: what has been used is looked at */
void pl_pass_fork(void);

/** pl_pass_raise() - @s is about to be what a number means; pl_pass_lower() if nothing comes of it
 */
void pl_pass_raise(struct pl_stream *s);
void pl_pass_lower(struct pl_stream *s);
/** pl_pass_hand_over() - it is: calls that are inside are its record's */
void pl_pass_hand_over(int fd, struct pl_stream *s);

/**
 * pl_pass_forked() - in a fork child: the calls of other threads are the parent's. What still is
 * NEW was not seen to be shared (a bare system call made this process): it stays on TCP.
 */
void pl_pass_forked(void);

#endif
