/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.c - libmark.so: what stands behind libcoloc.so's hooks while bypasses are looked for
 *
 * It comes after libcoloc.so in LD_PRELOAD. The program's calls find the hooks first; the hooks,
 * which ask for the next definition of each name, find these functions instead of libc's. Each
 * makes the same system call and marks it (mark.h). So a call without the mark did not come through
 * a hook, whoever made it: libc for itself, a bare system call, another copy of libc. This needs no
 * state, so it is right with threads, fork and signal handlers.
 *
 * Not here, and therefore never marked: syscall(), of which a hook passes on only what it does not
 * serve; and what reaches a stream by libc's own ways (stdio, exec), before which it comes home.
 *
 * All arguments are integers or pointers: six longs are what any caller passes in registers. libc's
 * headers would declare the names otherwise, so none of theirs is included.
 */
#include <asm/unistd.h>

#include "mark.h"

extern int *__errno_location(void);
extern int pthread_setcanceltype(int type, int *old);

#define EXPORT	     __attribute__((visibility("default")))
#define SIGSET_BYTES 8
#define CANCEL_ASYNC 1

struct time {
	long seconds;
	long fraction;
};

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	const long rc = mark_syscall(number, a, b, c, d, e, f);

	if ((unsigned long)rc > -4096ul) {
		*__errno_location() = (int)-rc;
		return -1;
	}
	return rc;
}

/* A cancellation point, as those of libc that may block: it ends the thread inside the call. */
static long call_point(long number, long a, long b, long c, long d, long e, long f)
{
	int type;
	long rc;

	pthread_setcanceltype(CANCEL_ASYNC, &type);
	rc = call(number, a, b, c, d, e, f);
	pthread_setcanceltype(type, &type);
	return rc;
}

#define ARGS long a, long b, long c, long d, long e, long f
/* how, name, number, and the arguments behind the first, which is marked */
#define MARK_AS(how, name, number, ...)                               \
	EXPORT long name(ARGS);                                       \
	EXPORT long name(ARGS)                                        \
	{                                                             \
		(void)a, (void)b, (void)c, (void)d, (void)e, (void)f; \
		return how(__NR_##number, MARKED(a), __VA_ARGS__);    \
	}
#define MARK_CALL(name, number)	 MARK_AS(call, name, number, b, c, d, e, f)
#define MARK_POINT(name, number) MARK_AS(call_point, name, number, b, c, d, e, f)

MARK_POINT(read, read)
MARK_POINT(readv, readv)
MARK_POINT(recvfrom, recvfrom)
MARK_POINT(recvmsg, recvmsg)
MARK_POINT(recvmmsg, recvmmsg)
MARK_POINT(write, write)
MARK_POINT(writev, writev)
MARK_POINT(sendto, sendto)
MARK_POINT(sendmsg, sendmsg)
MARK_POINT(sendmmsg, sendmmsg)
MARK_POINT(splice, splice)
MARK_POINT(connect, connect)
MARK_POINT(close, close)
MARK_POINT(epoll_wait, epoll_wait)
MARK_POINT(select, select)
MARK_CALL(sendfile, sendfile)
MARK_CALL(shutdown, shutdown)
MARK_CALL(setsockopt, setsockopt)
MARK_CALL(ioctl, ioctl)
MARK_CALL(fcntl, fcntl)
MARK_CALL(dup, dup)
MARK_CALL(dup2, dup2)
MARK_CALL(dup3, dup3)
MARK_CALL(close_range, close_range)
MARK_CALL(epoll_ctl, epoll_ctl)
MARK_CALL(sendfile64, sendfile)
MARK_CALL(fcntl64, fcntl)
MARK_AS(call_point, recv, recvfrom, b, c, d, 0, 0)
MARK_AS(call_point, send, sendto, b, c, d, 0, 0)
/* The kernel takes the offset as two words. */
MARK_AS(call_point, preadv2, preadv2, b, c, d, 0, e)
MARK_AS(call_point, preadv64v2, preadv2, b, c, d, 0, e)
MARK_AS(call_point, pwritev2, pwritev2, b, c, d, 0, e)
MARK_AS(call_point, pwritev64v2, pwritev2, b, c, d, 0, e)
/* And it wants to be told how long a signal mask is. */
MARK_AS(call_point, epoll_pwait, epoll_pwait, b, c, d, e, SIGSET_BYTES)
MARK_AS(call_point, epoll_pwait2, epoll_pwait2, b, c, d, e, SIGSET_BYTES)

EXPORT long pselect(ARGS);
EXPORT long pselect(ARGS)
{
	const struct {
		long mask;
		long bytes;
	} mask = {f, SIGSET_BYTES};
	struct time left;

	/* Linux tells how much is left, libc does not. */
	if (e)
		left = *(const struct time *)e;
	return call_point(__NR_pselect6, MARKED(a), b, c, d, e ? (long)&left : 0, (long)&mask);
}

EXPORT long poll(long fds, long n, long timeout);
EXPORT long poll(long fds, long n, long timeout)
{
	return call_point(__NR_poll, fds, MARKED(n), timeout, 0, 0, 0);
}

EXPORT long ppoll(long fds, long n, long timeout, long mask);
EXPORT long ppoll(long fds, long n, long timeout, long mask)
{
	struct time left;

	if (timeout)
		left = *(const struct time *)timeout;
	return call_point(__NR_ppoll, fds, MARKED(n), timeout ? (long)&left : 0, mask, SIGSET_BYTES,
			  0);
}
