/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_send.c - all ways to send on a stream; passes through for any other descriptor
 */
#include "hook.h"

#include <limits.h>
#include <sys/stat.h>

#include "epset.h"
#include "ready.h"
#include "sandbox.h"

static ssize_t send_vec(struct pl_stream *s, int fd, const struct iovec *iov, size_t n, int flags,
			const struct msghdr *msg, bool *pass)
{
	struct pl_vec v;

	*pass = !pl_vec_init(&v, iov, n, flags);
	return *pass ? 0 : pl_tx(s, fd, &v, flags, msg);
}

static ssize_t send_buf(struct pl_stream *s, int fd, const void *buf, size_t len, int flags,
			bool *pass)
{
	const struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct pl_vec v;
	ssize_t rc = 0;

	*pass = !pl_vec_one(&v, &iov, flags);
	if (!*pass)
		rc = pl_tx(s, fd, &v, flags, NULL);
	pl_stream_put(s);
	return rc;
}

PL_EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_SENDS, len);
	ssize_t rc;
	bool pass;

	if (!s)
		return pl_real.write(fd, buf, len);
	rc = send_buf(s, fd, buf, len, 0, &pass);
	return pass ? pl_real.write(fd, buf, len) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_SENDS, len);
	ssize_t rc;
	bool pass;

	if (!s)
		return pl_real.send(fd, buf, len, flags);
	rc = send_buf(s, fd, buf, len, flags, &pass);
	return pass ? pl_real.send(fd, buf, len, flags) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG addr,
			 socklen_t addrlen)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_SENDS, len);
	ssize_t rc;
	bool pass;

	if (!s)
		return pl_real.sendto(fd, buf, len, flags, addr, addrlen);
	/* An established TCP stream does not look at the address. */
	rc = send_buf(s, fd, buf, len, flags, &pass);
	return pass ? pl_real.sendto(fd, buf, len, flags, addr, addrlen)
		    : pl_return(rc, entry_errno);
}

/* As writev(2) does it: nothing to write is nothing to do, unlike write(2) and send(2). */
static ssize_t write_vec(struct pl_stream *s, int fd, const struct iovec *iov, size_t n, int flags,
			 bool *pass)
{
	struct pl_vec v;

	*pass = !pl_vec_init(&v, iov, n, flags) || !v.total;
	return *pass ? 0 : pl_tx(s, fd, &v, flags, NULL);
}

PL_EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	const int entry_errno = errno;
	PL_CALL(s, n >= 0 ? fd : -1, PL_SENDS, 0);
	ssize_t rc;
	bool pass;

	if (!s) {
		pl_enter();
		return pl_real.writev(fd, iov, n);
	}
	rc = write_vec(s, fd, iov, (size_t)n, 0, &pass);
	pl_stream_put(s);
	return pass ? pl_real.writev(fd, iov, n) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_SENDS, 0);
	ssize_t rc = 0;
	bool pass = true;

	if (!s)
		return pl_real.pwritev2(fd, iov, n, off, flags);
	if (off == -1 && !(flags & ~PL_RWF_SERVED) && n >= 0) {
		rc = write_vec(s, fd, iov, (size_t)n, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0, &pass);
	} else if (off == -1) { /* other flags are the kernel's; an offset it refuses */
		pl_stream_stay(s, COLOC_REASON_UNSERVED_CALL);
		rc = pl_tx_leave(s, fd, pl_stream_nonblock(s, 0));
		pass = rc >= 0;
	}
	pl_stream_put(s);
	return pass ? pl_real.pwritev2(fd, iov, n, off, flags) : pl_return(rc, entry_errno);
}

PL_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags)
{
	return pwritev2(fd, iov, n, off, flags);
}

/* A descriptor that is sent away is used out of our sight from now on. */
static void see_passing(const struct msghdr *msg)
{
	struct cmsghdr *c;
	struct pl_stream *s;
	size_t i, n;
	int fd;

	if (!pl_enter()) {
		pl_sandbox_share();
		return;
	}
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			__builtin_memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (pl_epset_of(fd) >= 0)
				pl_epset_exact((uint32_t)pl_epset_of(fd));
			s = pl_hook_get(fd);
			if (!s)
				continue;
			pl_stream_stay(s, COLOC_REASON_PASSED);
			pl_stream_strangers(s);
			(void)pl_tx_leave(s, fd, false);
			pl_stream_put(s);
		}
	}
}

PL_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, msg ? fd : -1, PL_SENDS, 0);
	ssize_t rc;
	bool pass;

	if (!s) {
		if (msg && msg->msg_controllen && msg->msg_control)
			see_passing(msg);
		errno = entry_errno;
		return pl_real.sendmsg(fd, msg, flags);
	}
	rc = send_vec(s, fd, msg->msg_iov, msg->msg_iovlen, flags, msg, &pass);
	pl_stream_put(s);
	return pass ? pl_real.sendmsg(fd, msg, flags) : pl_return(rc, entry_errno);
}

PL_EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	const int entry_errno = errno;
	PL_CALL(s, fd, PL_SENDS, 0);
	unsigned int i;
	ssize_t rc = 0;
	bool pass = false;
	size_t len, k;

	if (!s) {
		for (i = 0; i < n && i < IOV_MAX; i++)
			if (msgs[i].msg_hdr.msg_controllen && msgs[i].msg_hdr.msg_control)
				see_passing(&msgs[i].msg_hdr);
		errno = entry_errno;
		return pl_real.sendmmsg(fd, msgs, n, flags);
	}
	for (i = 0; i < n && i < IOV_MAX; i++) {
		const struct msghdr *msg = &msgs[i].msg_hdr;

		rc = send_vec(s, fd, msg->msg_iov, msg->msg_iovlen, flags, msg, &pass);
		if (pass || rc < 0)
			break;
		msgs[i].msg_len = (unsigned int)rc;
		for (len = 0, k = 0; k < msg->msg_iovlen; k++)
			len += msg->msg_iov[k].iov_len;
		if ((size_t)rc < len) {
			i++;
			break;
		}
	}
	pl_stream_put(s);
	if (pass && i == 0)
		return pl_real.sendmmsg(fd, msgs, n, flags);
	return (int)pl_return(i ? (ssize_t)i : rc, entry_errno);
}

PL_EXPORT ssize_t sendfile(int out_fd, int in_fd, off_t *off, size_t count)
{
	const int entry_errno = errno;
	PL_CALL(s, out_fd, PL_SENDS, count);
	ssize_t rc;

	if (!s)
		return pl_real.sendfile(out_fd, in_fd, off, count);
	rc = pl_tx_file(s, out_fd, in_fd, off, count);
	pl_stream_put(s);
	return pl_return(rc, entry_errno);
}

_Static_assert(sizeof(off_t) == sizeof(off64_t), "one sendfile serves both");

PL_EXPORT ssize_t sendfile64(int out_fd, int in_fd, off64_t *off, size_t count)
{
	return sendfile(out_fd, in_fd, (off_t *)off, count);
}

/*
 * splice: into a stream it goes by TCP. Out of one, only the kernel's bytes can be spliced: ring
 * bytes are copied through a small buffer, no more at once than a pipe takes in one piece. What the
 * kernel refuses is left to it: nothing may be taken out of the ring then. SPLICE_F_NONBLOCK is
 * about the pipe; whether the stream waits is O_NONBLOCK's matter.
 */
static bool on_ring(struct pl_stream *s, int fd)
{
	PL_IN_REGION;
	if (pl_stream_wants_attach(s)) /* another process may have it on a ring */
		pl_stream_attach(s, fd);
	return pl_ready_follows(s) || pl_stashed(s);
}

#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)

static bool into_pipe(int out_fd, const off64_t *in_off, const off64_t *out_off, size_t len,
		      unsigned int flags)
{
	const int access = pl_real.fcntl(out_fd, F_GETFL) & O_ACCMODE;
	struct stat st;

	return !in_off && !out_off && len && !(flags & ~SPLICE_FLAGS) && fstat(out_fd, &st) == 0 &&
	       S_ISFIFO(st.st_mode) && access != O_RDONLY;
}

static ssize_t splice_ring(struct pl_stream *s, int fd, int out_fd, size_t len, unsigned int flags)
{
	char buf[PIPE_BUF];
	struct iovec iov = {buf, len < sizeof(buf) ? len : sizeof(buf)};
	struct pollfd out = {.fd = out_fd, .events = POLLOUT};
	struct pl_vec v;
	ssize_t n, taken;

	if ((flags & SPLICE_F_NONBLOCK) && pl_real.poll(&out, 1, 0) == 0)
		return -EAGAIN;
	(void)pl_vec_one(&v, &iov, 0);
	n = pl_rx(s, fd, &v, MSG_PEEK, NULL);
	if (n <= 0)
		return n;
	n = pl_real.write(out_fd, buf, (size_t)n);
	if (n < 0)
		return -errno;
	iov.iov_len = (size_t)n;
	(void)pl_vec_one(&v, &iov, 0);
	taken = pl_rx(s, fd, &v, MSG_TRUNC | MSG_WAITALL, NULL);
	return taken < 0 ? taken : n;
}

PL_EXPORT ssize_t splice(int in_fd, off64_t *in_off, int out_fd, off64_t *out_off, size_t len,
			 unsigned int flags)
{
	const int entry_errno = errno;
	struct pl_stream *in = pl_hook_get(in_fd), *out = in ? NULL : pl_hook_get(out_fd);
	bool pass = true;
	ssize_t rc = 0;

	if (in) {
		/* In this order: what is attached hears that it stays. */
		const bool may = on_ring(in, in_fd);

		pl_stream_stay(in, COLOC_REASON_UNSERVED_CALL);
		if (may && into_pipe(out_fd, in_off, out_off, len, flags)) {
			rc = splice_ring(in, in_fd, out_fd, len, flags);
			pass = false;
		}
		pl_stream_put(in);
	} else if (out) {
		pl_stream_stay(out, COLOC_REASON_UNSERVED_CALL);
		rc = pl_tx_leave(out, out_fd, flags & SPLICE_F_NONBLOCK);
		pass = rc >= 0;
		pl_stream_put(out);
	}
	return pass ? pl_real.splice(in_fd, in_off, out_fd, out_off, len, flags)
		    : pl_return(rc, entry_errno);
}
