/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_recv.c - all ways to receive from a stream
 *
 * Each passes through for a descriptor that is no stream; what pl_vec_init() declines goes to the
 * kernel too, which answers with the right error.
 */
#include "hook.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sandbox.h"

#define NS 1000000000L

/* No stream: the kernel's, but for what a sandboxed process has taken along. */
static bool taken_along(int fd, const struct iovec *iov, size_t n, int flags, ssize_t *ret)
{
	if (!PL_UNLIKELY(pl_sandbox_left))
		return false;
	*ret = pl_sandbox_take(fd, iov, n, flags);
	return *ret != -ENOTSUP;
}

/* A receive into one buffer. Return: bytes or -Exxx; drops the reference. */
static ssize_t receive(struct pl_stream *s, int fd, void *buf, size_t len, int flags, bool *pass)
{
	const struct iovec iov = {buf, len};
	struct pl_vec v;
	ssize_t rc = 0;

	*pass = !pl_vec_one(&v, &iov, flags);
	if (!*pass)
		rc = pl_rx(s, fd, &v, flags, NULL);
	pl_stream_put(s);
	return rc;
}

/* As readv(2) does it: no room is no wait. */
static ssize_t receive_vec(struct pl_stream *s, int fd, const struct iovec *iov, int n, int flags,
			   bool *pass)
{
	struct pl_vec v;
	ssize_t rc = 0;

	*pass = n < 0 || !pl_vec_init(&v, iov, (size_t)n, 0) || !v.total;
	if (!*pass)
		rc = pl_rx(s, fd, &v, flags, NULL);
	pl_stream_put(s);
	return rc;
}

PL_EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_RECEIVES, 0);
	const struct iovec iov = {buf, len};
	ssize_t rc = 0;
	bool pass;

	if (!s)
		return taken_along(fd, &iov, 1, 0, &rc) ? rc : pl_real.read(fd, buf, len);
	pass = !len; /* no room is no wait, unlike recv(2) */
	if (pass)
		pl_stream_put(s);
	else
		rc = receive(s, fd, buf, len, 0, &pass);
	return pass ? pl_real.read(fd, buf, len) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size) { /* libc ends the program; ours if libc has lost the name */
		pl_enter();
		return pl_real.__read_chk(fd, buf, len, size);
	}
	return read(fd, buf, len);
}

PL_EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_RECEIVES, 0);
	ssize_t rc;
	bool pass;

	if (!s)
		return taken_along(fd, &(const struct iovec){buf, len}, 1, flags, &rc)
			       ? rc
			       : pl_real.recv(fd, buf, len, flags);
	rc = receive(s, fd, buf, len, flags, &pass);
	return pass ? pl_real.recv(fd, buf, len, flags) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len > size) {
		pl_enter();
		return pl_real.__recv_chk(fd, buf, len, size, flags);
	}
	return recv(fd, buf, len, flags);
}

PL_EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, __SOCKADDR_ARG addr,
			   socklen_t *addrlen)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_RECEIVES, 0);
	ssize_t rc;
	bool pass;

	if (!s)
		return pl_real.recvfrom(fd, buf, len, flags, addr, addrlen);
	rc = receive(s, fd, buf, len, flags, &pass);
	if (pass)
		return pl_real.recvfrom(fd, buf, len, flags, addr, addrlen);
	if (rc >= 0 && addr.__sockaddr__ && addrlen)
		*addrlen = 0; /* a connected TCP socket names nobody */
	return pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
				 __SOCKADDR_ARG addr, socklen_t *addrlen)
{
	if (len > size) {
		pl_enter();
		return pl_real.__recvfrom_chk(fd, buf, len, size, flags, addr, addrlen);
	}
	return recvfrom(fd, buf, len, flags, addr, addrlen);
}

PL_EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_RECEIVES, 0);
	ssize_t rc;
	bool pass;

	if (!s)
		return n > 0 && taken_along(fd, iov, (size_t)n, 0, &rc) ? rc
									: pl_real.readv(fd, iov, n);
	rc = receive_vec(s, fd, iov, n, 0, &pass);
	return pass ? pl_real.readv(fd, iov, n) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, off == -1 ? fd : -1, PL_RECEIVES, 0); /* else the kernel refuses */
	ssize_t rc;
	bool pass;

	if (s && (flags & ~PL_RWF_SERVED)) { /* the kernel's part, as far as it goes */
		pl_stream_stay(s, COLOC_REASON_UNSERVED_CALL);
		pl_stream_put(s);
		s = NULL;
		errno = entry_errno;
	}
	if (!s) {
		if (!pl_real.preadv2)
			pl_enter();
		return pl_real.preadv2(fd, iov, n, off, flags);
	}
	rc = receive_vec(s, fd, iov, n, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0, &pass);
	return pass ? pl_real.preadv2(fd, iov, n, off, flags) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags)
{
	return preadv2(fd, iov, n, off, flags);
}

/* Descriptors that arrive by SCM_RIGHTS have numbers that may have meant something else. */
static void see_passed(const struct msghdr *msg)
{
	struct cmsghdr *c;
	size_t i, n;
	int fd;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			pl_stream_passed(fd);
		}
	}
}

static ssize_t receive_msg(struct pl_stream *s, int fd, struct msghdr *msg, int flags, bool *pass)
{
	struct pl_vec v;
	ssize_t rc = 0;

	*pass = !pl_vec_init(&v, msg->msg_iov, msg->msg_iovlen, flags);
	if (!*pass)
		rc = pl_rx(s, fd, &v, flags, msg);
	return rc;
}

PL_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, msg ? fd : -1, PL_RECEIVES, 0);
	ssize_t rc;
	bool pass;

	if (!s) {
		if (!pl_real.recvmsg)
			pl_enter();
		rc = pl_real.recvmsg(fd, msg, flags);
		if (rc >= 0 && msg->msg_controllen && pl_owner())
			see_passed(msg);
		return rc;
	}
	rc = receive_msg(s, fd, msg, flags, &pass);
	pl_stream_put(s);
	return pass ? pl_real.recvmsg(fd, msg, flags) : pl_return(rc, entry_errno);
}

/*
 * The time-out of recvmmsg is the kernel's own odd one: looked at after each message, so that a
 * wait for the next may last for ever, and what is left of it is written back.
 */
static bool time_is_over(struct timespec *timeout, uint64_t end_ns)
{
	const uint64_t now = pl_now_ns();
	const uint64_t left = now < end_ns ? end_ns - now : 0;

	timeout->tv_sec = (time_t)(left / NS);
	timeout->tv_nsec = (long)(left % NS);
	return !left;
}

/* The socket's error, which recvmmsg(2) tells before anything that came in front of it. */
static int pending_error(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return -error;
}

PL_EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags,
		       struct timespec *timeout)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_RECEIVES, 0);
	uint64_t end_ns = 0;
	unsigned int i;
	ssize_t rc = 0;
	bool pass = false;

	if (!s)
		return pl_real.recvmmsg(fd, msgs, n, flags, timeout);
	if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= NS)) {
		pl_stream_put(s);
		return (int)pl_return(-EINVAL, entry_errno);
	}
	if (timeout)
		end_ns = pl_now_ns() +
			 (timeout->tv_sec < INT32_MAX ? (uint64_t)timeout->tv_sec * NS
						      : UINT64_MAX / 2) +
			 (uint64_t)timeout->tv_nsec;
	if (!(flags & MSG_ERRQUEUE))
		rc = pending_error(fd);
	for (i = 0; i < n && rc >= 0; i++) {
		rc = receive_msg(s, fd, &msgs[i].msg_hdr,
				 (flags & ~MSG_WAITFORONE) |
					 (i && (flags & MSG_WAITFORONE) ? MSG_DONTWAIT : 0),
				 &pass);
		if (pass || rc < 0)
			break;
		msgs[i].msg_len = (unsigned int)rc;
		if (timeout && time_is_over(timeout, end_ns)) {
			i++;
			break;
		}
	}
	pl_stream_put(s);
	if (pass && i == 0)
		return pl_real.recvmmsg(fd, msgs, n, flags, timeout);
	return (int)pl_return(i ? (ssize_t)i : rc, entry_errno);
}
