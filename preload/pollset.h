/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollset.h - poll() over descriptors of which some are on a ring
 */
#ifndef PL_POLLSET_H
#define PL_POLLSET_H

#include <stdbool.h>

#include "real.h"

/* No deadline. */
#define PL_FOREVER UINT64_MAX

/**
 * pl_pollset_concerns() - does any of the descriptors need us? Else the real call is the right one.
 */
bool pl_pollset_concerns(const struct pollfd *fds, nfds_t n);

/**
 * pl_pollset_wait() - as ppoll()
 * @timeout_ns: PL_FOREVER, 0, or how long. @mask: NULL or the mask while asleep.
 * Return: as ppoll, or -errno. Only revents of @fds are written.
 */
int pl_pollset_wait(struct pollfd *fds, nfds_t n, uint64_t timeout_ns, const sigset_t *mask);

/** pl_pollset_forked() - in a fork child: the wake-up descriptors are the parent's */
void pl_pollset_forked(void);

/** pl_poll_own_fd() - is @fd one of ours? */
bool pl_poll_own_fd(int fd);
/** pl_poll_vacate() - then it gets another number; false: there is none */
bool pl_poll_vacate(int fd);

/** pl_poll_sleep() - count a thread that goes to sleep in poll, select or the like; -1: is back */
void pl_poll_sleep(int sleepers);
/** pl_poll_sleepers() - does any thread of this process sleep so? */
bool pl_poll_sleepers(void);

/** pl_poll_kick() - threads of this process asleep in poll or select look at their streams again */
void pl_poll_kick(void);

#endif
