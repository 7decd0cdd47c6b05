/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_syscall.c - system calls by number
 *
 * Programs that make socket calls so (libuv closes so) get our hook of the same call; any other
 * number passes. io_uring works on descriptors out of our sight: a process that sets one up keeps
 * its streams on TCP.
 */
#include "hook.h"

#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "epset.h"
#include "sandbox.h"

PL_EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list args;
	int i;

	va_start(args, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	pl_enter();
	switch (number) {
	case SYS_close:
		return close((int)a[0]);
	case SYS_read:
		return read((int)a[0], (void *)a[1], (size_t)a[2]);
	case SYS_write:
		return write((int)a[0], (const void *)a[1], (size_t)a[2]);
	case SYS_readv:
		return readv((int)a[0], (const struct iovec *)a[1], (int)a[2]);
	case SYS_writev:
		return writev((int)a[0], (const struct iovec *)a[1], (int)a[2]);
	case SYS_recvfrom:
		return recvfrom((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3],
				(struct sockaddr *)a[4], (socklen_t *)a[5]);
	case SYS_sendto:
		return sendto((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3],
			      (const struct sockaddr *)a[4], (socklen_t)a[5]);
	case SYS_recvmsg:
		return recvmsg((int)a[0], (struct msghdr *)a[1], (int)a[2]);
	case SYS_sendmsg:
		return sendmsg((int)a[0], (const struct msghdr *)a[1], (int)a[2]);
	case SYS_close_range:
		return close_range((unsigned int)a[0], (unsigned int)a[1], (int)a[2]);
	case SYS_epoll_ctl:
		return epoll_ctl((int)a[0], (int)a[1], (int)a[2], (struct epoll_event *)a[3]);
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		return epoll_wait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3]);
#endif
	case SYS_epoll_pwait:
		return epoll_pwait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3],
				   (const sigset_t *)a[4]);
	case SYS_epoll_pwait2:
		return epoll_pwait2((int)a[0], (struct epoll_event *)a[1], (int)a[2],
				    (const struct timespec *)a[3], (const sigset_t *)a[4]);
	case SYS_seccomp:
		pl_sandbox_enter();
		break;
	case SYS_clone:
	case SYS_clone3:
#ifdef SYS_fork
	case SYS_fork:
#endif
		pl_sandbox_share();
		if (pl_owner())
			pl_epset_exact_all();
		break;
	case SYS_prctl:
		if (a[0] == PR_SET_SECCOMP)
			pl_sandbox_enter();
		break;
	case SYS_exit_group:
		pl_process_ends();
		break;
	case SYS_io_uring_setup:
		pl_process_unserved(COLOC_REASON_IO_URING);
		break;
	}
	return pl_real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
