/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - what all sending and receiving calls come down to
 */
#ifndef PL_IO_H
#define PL_IO_H

#include <limits.h>

#include "stream.h"

/* The caller's buffers as one run of bytes. */
struct pl_vec {
	const struct iovec *iov;
	size_t n;
	size_t total;
};

/**
 * pl_vec_init() - false: more vectors than IOV_MAX, more bytes than fit, or a pointer that cannot
 * be one: the kernel is to judge it
 */
bool pl_vec_init(struct pl_vec *v, const struct iovec *iov, size_t n, int flags);

/** pl_vec_one() - the same of one buffer that @iov, our own, names */
static inline bool pl_vec_one(struct pl_vec *v, const struct iovec *iov, int flags)
{
	*v = (struct pl_vec){iov, 1, iov->iov_len};
	/* The first page is never mapped: the kernel would answer EFAULT. */
	return iov->iov_len <= SSIZE_MAX &&
	       ((flags & MSG_TRUNC) || !iov->iov_len || (uintptr_t)iov->iov_base >= SHMT_PAGE);
}

/**
 * pl_readable(), pl_writable() - may @len bytes at @p be copied from, or to? What the kernel would
 * answer with EFAULT must not end the program. The kernel is asked once for each new range of pages
 * (MADV_POPULATE, Linux 5.14; before that: yes); a range that was good is believed to stay so.
 */
bool pl_readable(const void *p, size_t len);
bool pl_writable(const void *p, size_t len);

size_t pl_vec_slice_slow(const struct pl_vec *v, size_t off, size_t len, struct iovec *out,
			 size_t max);

/** pl_vec_slice() - bytes [off, off+len) as at most @max vectors; how many; the rest is left out */
static inline size_t pl_vec_slice(const struct pl_vec *v, size_t off, size_t len, struct iovec *out,
				  size_t max)
{
	if (v->n != 1 || !len || off + len > v->total)
		return pl_vec_slice_slow(v, off, len, out, max);
	*out = (struct iovec){(char *)v->iov->iov_base + off, len};
	return 1;
}

/** pl_tx_full_lately() - has EAGAIN been said of a full ring since this thread last paused? */
bool pl_tx_full_lately(void);

/**
 * pl_tx_pause() - then, and there is nothing to tell but that sockets are writable: wait a moment
 * @ready: called with @arg while it spins; true: something else came
 */
void pl_tx_pause(bool (*ready)(const void *arg), const void *arg);

/**
 * pl_rx() - receive into @v as recvmsg() with @flags would
 * @msg: the caller's header when it came by recvmsg; its fields are filled in. Return: bytes, 0 =
 * end of stream, or -Exxx. May sleep in the kernel; holds no lock then, but for bytes certain to
 * come.
 */
ssize_t pl_rx(struct pl_stream *s, int fd, const struct pl_vec *v, int flags, struct msghdr *msg);

/**
 * pl_peek() - MSG_PEEK at the kernel's bytes and the ring's (peek.c); within PL_IN_REGION
 * Return: bytes, -ESTALE: there is nothing in a ring, it is for the kernel to say; or -Exxx
 */
ssize_t pl_peek(struct pl_stream *s, int fd, const struct pl_vec *v, int flags, bool nonblock);

/** pl_rx_left() - this thread has left its receive for good (siglongjmp) */
void pl_rx_left(void);

/** pl_rx_exit() - a receiver of @s that entered under region number @attach is back, with @took
 * bytes
 */
void pl_rx_exit(struct pl_stream *s, uint32_t attach, size_t took);

/**
 * pl_rx_queued() - unread bytes in the ring that can be read now, while the kernel has @kernel
 * None as long as those that come first are not all there.
 */
uint64_t pl_rx_queued(struct pl_stream *s, uint64_t kernel);

/** pl_tx_queued() - bytes in the ring that the other end has not read (SIOCOUTQ adds the kernel's)
 */
uint64_t pl_tx_queued(struct pl_stream *s);

/**
 * pl_tx() - send @v as sendmsg() with @flags would. @msg: the caller's header, for what the kernel
 * alone serves. Return: bytes or -Exxx; SIGPIPE is the kernel's own.
 */
ssize_t pl_tx(struct pl_stream *s, int fd, const struct pl_vec *v, int flags,
	      const struct msghdr *msg);

/** pl_tx_file() - sendfile() into a stream. @off: as there, may be NULL */
ssize_t pl_tx_file(struct pl_stream *s, int fd, int in_fd, off_t *off, size_t count);

/**
 * pl_tx_leave() - what is sent next goes by TCP, until the ring is opened again
 * Waits while a receiver's limit is not known; with @nonblock: -EAGAIN instead. Return: 0; 1: the
 * socket is reset or closed, nobody reads any more, whatever the word says the kernel is to answer;
 * -EAGAIN
 */
int pl_tx_leave(struct pl_stream *s, int fd, bool nonblock);

/** pl_tx_standard() - pl_stream_standard(), and out of a ring that was opened before that */
void pl_tx_standard(struct pl_stream *s, int fd);

#endif
