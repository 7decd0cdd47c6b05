/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - a process that forbids itself system calls (seccomp)
 *
 * What a filter lets through was chosen for the calls that the program itself makes; one more of
 * ours, and the kernel ends it. So before a filter comes the streams go home to TCP, what lies
 * unread in rings is taken along, and from then on every hook passes through. What was taken along
 * is served without any system call: few programs have any, and none of the others pays for it.
 * Other processes that have such a stream may take it to a ring again when this one is gone
 * (holders.c): whom this one makes or gives it to is not known to them, so before it does it says
 * so.
 */
#ifndef PL_SANDBOX_H
#define PL_SANDBOX_H

#include <poll.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "real.h"

extern unsigned int pl_sandbox_left; /* descriptors with bytes taken along */

/** pl_sandbox_enter() - a filter is about to be installed; for good, and for fork children */
void pl_sandbox_enter(void);

extern bool pl_sandboxed;

void pl_sandbox_share_slow(void);

/** pl_sandbox_share() - another process may get this one's streams now: they stay on TCP for good,
 * if it is sandboxed. Makes no system call */
static inline void pl_sandbox_share(void)
{
	if (PL_UNLIKELY(pl_sandboxed))
		pl_sandbox_share_slow();
}

/** pl_sandbox_take() - receive from what was taken along; -ENOTSUP: the kernel is to be asked */
ssize_t pl_sandbox_take(int fd, const struct iovec *iov, size_t n, int flags);

/** pl_sandbox_poll() - how many of @fds have such bytes; their revents are set; 0: ask the kernel
 */
int pl_sandbox_poll(struct pollfd *fds, nfds_t n);

/** pl_sandbox_forget() - @fd is closed, or something else from now on */
void pl_sandbox_forget(int fd);

#endif
