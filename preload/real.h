/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.h - the calls behind our hooks
 *
 * Nothing in the preload calls a hooked name by itself: it would come back to our hook. All such
 * calls go through pl_real, whose types come from libc's own prototypes.
 */
#ifndef PL_REAL_H
#define PL_REAL_H

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define PL_EXPORT      __attribute__((visibility("default")))
#define PL_LIKELY(x)   __builtin_expect(!!(x), 1)
#define PL_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* What fortified programs call; libc declares them only to such programs. */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags, __SOCKADDR_ARG addr,
		       socklen_t *addrlen);
int __dprintf_chk(int fd, int flag, const char *format, ...);
int __vdprintf_chk(int fd, int flag, const char *format, va_list args);
void __longjmp_chk(struct __jmp_buf_tag env[1], int value) __attribute__((noreturn));
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
		size_t size);

/* liburing's, of which no header need be there. */
struct io_uring;
struct io_uring_params;
int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags);
int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
			       struct io_uring_params *params);
int io_uring_queue_init_mem(unsigned int entries, struct io_uring *ring,
			    struct io_uring_params *params, void *buf, size_t size);
int io_uring_setup(unsigned int entries, struct io_uring_params *params);

struct pl_real {
#define HOOK(name) __typeof__(name) *name;
#include "hooks.def"
#undef HOOK
};

extern struct pl_real pl_real;
extern uint32_t pl_real_ready; /* atomic; 1 = every pointer is set */

/**
 * pl_real_resolve() - fill pl_real; idempotent, any thread, before or after our constructor
 * A name that libc lacks keeps a NULL pointer, as do those of other libraries: pl_real_loaded().
 */
void pl_real_resolve(void);

/** pl_real_loaded() - @name of library @soname, or NULL if that is not loaded; may allocate */
void *pl_real_loaded(const char *soname, const char *name);

#endif
