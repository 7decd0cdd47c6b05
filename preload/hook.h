/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.h - the edge: what every hook does first and last
 *
 * A hook is safe in a signal handler (no malloc, no stdio, no lock that is not re-entrant), after
 * fork (pl_enter notices) and in a vfork child (calls that change the table look at pl_owner()). It
 * leaves errno alone on success and sets it once, here, on failure.
 */
#ifndef PL_HOOK_H
#define PL_HOOK_H

#include <errno.h>

#include "io.h"
#include "pass.h"

/* Flags of preadv2 and pwritev2 that mean no waiting, or nothing, on a socket. */
#define PL_RWF_SERVED (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOWAIT)

/** pl_enter() - false: pass through. Resolves the real calls if nobody has. */
static inline bool pl_enter(void)
{
	if (PL_UNLIKELY(!shmt_load_acquire(&pl.enabled))) {
		if (!shmt_load_acquire(&pl_real_ready))
			pl_process_start();
		if (!shmt_load_acquire(&pl.enabled))
			return false;
	}
	if (PL_UNLIKELY(!*pl.canary))
		pl_process_forked();
	return true;
}

/** pl_owner() - pl_enter() for calls that change the table: a vfork child must not */
static inline bool pl_owner(void)
{
	return pl_enter() && !pl_is_vfork_child();
}

/** pl_hook_get() - the stream behind @fd or NULL; errno as it was */
static inline struct pl_stream *pl_hook_get(int fd)
{
	const int saved = errno;
	struct pl_stream *s;

	if (!pl_enter())
		return NULL;
	s = pl_stream_get(fd);
	errno = saved;
	return s;
}

/** pl_hook_pass() - the same for a call that receives, or sends @bytes: see pass.h */
static inline struct pl_stream *pl_hook_pass(int fd, enum pl_way way, size_t bytes,
					     struct pl_pass *ret_pass)
{
	const int saved = errno;
	struct pl_stream *s;

	if (!pl_enter())
		return NULL;
	s = pl_pass(fd, way, bytes, ret_pass);
	errno = saved;
	return s;
}

/* A call's stream, or NULL: to the end of the block it passes through. */
#define PL_CALL(s, fd, way, bytes)                                                 \
	struct pl_pass pass_scope_ __attribute__((cleanup(pl_pass_end))) = {NULL}; \
	struct pl_stream *s = pl_hook_pass(fd, way, bytes, &pass_scope_)

/** pl_stream_handed_on() - a copy of @fd will be another program's, whatever its FD_CLOEXEC */
void pl_stream_handed_on(int fd);

/** pl_return() - bytes or -Exxx as the program expects it */
static inline ssize_t pl_return(ssize_t rc, int entry_errno)
{
	errno = rc < 0 ? (int)-rc : entry_errno;
	return rc < 0 ? -1 : rc;
}

#endif
