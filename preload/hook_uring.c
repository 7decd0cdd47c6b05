/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_uring.c - liburing, which makes its system calls without libc
 *
 * What its rings do to a socket is out of sight. All of them are made by one of these four calls,
 * so from the first one on every stream of the process stays on TCP, as after
 * syscall(SYS_io_uring_setup). liburing returns -Exxx and leaves errno alone.
 */
#include "hook.h"

/* Looked up when called: it may be loaded late, or out of the sight of ours. */
#define REAL(name) ((__typeof__(pl_real.name))pl_real_loaded("liburing.so.2", #name))

static void before_ring(void)
{
	const int saved = errno;

	if (pl_enter())
		pl_process_unserved(COLOC_REASON_IO_URING);
	errno = saved;
}

PL_EXPORT int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags)
{
	__typeof__(pl_real.io_uring_queue_init) real;

	before_ring();
	real = REAL(io_uring_queue_init);
	return real ? real(entries, ring, flags) : -ENOSYS;
}

PL_EXPORT int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
					 struct io_uring_params *params)
{
	__typeof__(pl_real.io_uring_queue_init_params) real;

	before_ring();
	real = REAL(io_uring_queue_init_params);
	return real ? real(entries, ring, params) : -ENOSYS;
}

PL_EXPORT int io_uring_queue_init_mem(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *params, void *buf, size_t size)
{
	__typeof__(pl_real.io_uring_queue_init_mem) real;

	before_ring();
	real = REAL(io_uring_queue_init_mem);
	return real ? real(entries, ring, params, buf, size) : -ENOSYS;
}

PL_EXPORT int io_uring_setup(unsigned int entries, struct io_uring_params *params)
{
	__typeof__(pl_real.io_uring_setup) real;

	before_ring();
	real = REAL(io_uring_setup);
	return real ? real(entries, params) : -ENOSYS;
}
