/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_call.c - one sending or receiving call, whichever; bytes or -1 and errno as it gave them
 *
 * What a call says beside its bytes (an address length, a file position) is checked here: if it is
 * wrong the answer is -1 with an errno that no socket gives.
 */
#include "ops.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HIGH	    700 /* our own descriptors: above what a program gets */
#define WRONG_EXTRA ENOTNAM
#define FILE_OFF    100

/* A pipe for each actor, which no hook knows. */
static __thread int pipe_fd[2];

static int high(long fd)
{
	const long moved = raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH, 0, 0, 0);

	raw(SYS_close, fd, 0, 0, 0, 0, 0);
	return (int)moved;
}

static void make_pipe(void)
{
	static __thread long owner; /* a child's is not its parent's */
	int fds[2];

	if (owner == raw(SYS_getpid, 0, 0, 0, 0, 0, 0))
		return;
	owner = raw(SYS_getpid, 0, 0, 0, 0, 0, 0);
	raw(SYS_pipe2, (long)fds, O_NONBLOCK, 0, 0, 0, 0);
	pipe_fd[0] = high(fds[0]);
	pipe_fd[1] = high(fds[1]);
}

uint64_t kernel_received(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (raw(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&len, 0))
		return 0;
	return info.tcpi_bytes_received;
}

uint64_t kernel_sent(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (raw(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&len, 0))
		return 0;
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

static int message_flags(int letters)
{
	return (letters & F_DONTWAIT ? MSG_DONTWAIT : 0) | (letters & F_PEEK ? MSG_PEEK : 0) |
	       (letters & F_WAITALL ? MSG_WAITALL : 0) | (letters & F_TRUNC ? MSG_TRUNC : 0) |
	       (letters & F_NOSIGNAL ? MSG_NOSIGNAL : 0) | (letters & F_MORE ? MSG_MORE : 0);
}

int io_send_flags(enum send_call call, int letters)
{
	switch (call) {
	case S_SEND:
	case S_SENDTO:
	case S_SENDMSG:
	case S_SENDMMSG:
	case S_SYSCALL:
		return letters & (F_DONTWAIT | F_NOSIGNAL | F_MORE);
	case S_SPLICE:
		return letters & (F_DONTWAIT | F_MORE);
	default:
		return 0;
	}
}

int io_recv_flags(enum recv_call call, int letters)
{
	switch (call) {
	case R_READ:
	case R_READV:
	case R_PREADV2:
		return 0;
	case R_SPLICE:
		return letters & F_DONTWAIT;
	default:
		return letters & (F_DONTWAIT | F_PEEK | F_WAITALL | F_TRUNC);
	}
}

/* Three pieces, one of them empty. */
static size_t pieces(struct iovec vec[4], const uint8_t *data, size_t len)
{
	uint8_t *const at_ = (uint8_t *)(uintptr_t)data;

	vec[0] = (struct iovec){at_, len / 3};
	vec[1] = (struct iovec){at_ + len / 3, 0};
	vec[2] = (struct iovec){at_ + len / 3, len - len / 3};
	return 3;
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static ssize_t send_many(int fd, const uint8_t *data, size_t len, int flags)
{
	struct iovec vec[4];
	struct mmsghdr msgs[2] = {{.msg_hdr = {.msg_iov = vec}}, {.msg_hdr = {.msg_iov = vec + 3}}};
	size_t done = 0;
	int i, n;

	msgs[0].msg_hdr.msg_iovlen = pieces(vec, data, len - len / 4);
	vec[3] = (struct iovec){(uint8_t *)(uintptr_t)data + len - len / 4, len / 4};
	msgs[1].msg_hdr.msg_iovlen = 1;
	n = sendmmsg(fd, msgs, len / 4 ? 2 : 1, flags);
	for (i = 0; i < n; i++)
		done += msgs[i].msg_len;
	return n < 0 ? n : (ssize_t)done;
}

static ssize_t send_file(int fd, const uint8_t *data, size_t len, bool by_offset)
{
	/* A new one each time: bytes that were sent stay the file's until they are received. */
	const int file_fd = high(raw(SYS_memfd_create, (long)"content", 0, 0, 0, 0, 0));
	off_t off = FILE_OFF, expect;
	bool wrong;
	ssize_t n;
	int saved;

	raw(SYS_pwrite64, file_fd, (long)data, (long)len, FILE_OFF, 0, 0);
	/* The file ends with the content: a short count is its end. */
	raw(SYS_ftruncate, file_fd, FILE_OFF + (long)len, 0, 0, 0, 0);
	raw(SYS_lseek, file_fd, by_offset ? 7 : FILE_OFF, SEEK_SET, 0, 0, 0);
	n = sendfile(fd, file_fd, by_offset ? &off : NULL, len);
	saved = errno;
	expect = by_offset ? 7 : FILE_OFF + (n > 0 ? n : 0);
	wrong = raw(SYS_lseek, file_fd, 0, SEEK_CUR, 0, 0, 0) != expect ||
		off != FILE_OFF + (by_offset && n > 0 ? n : 0);
	raw(SYS_close, file_fd, 0, 0, 0, 0, 0);
	errno = wrong ? WRONG_EXTRA : saved;
	return wrong ? -1 : n;
}

static ssize_t send_splice(int fd, const uint8_t *data, size_t len, int letters)
{
	uint8_t rest[4096];
	ssize_t n;
	int saved;

	make_pipe();
	len = (size_t)raw(SYS_write, pipe_fd[1], (long)data, (long)(len < CHUNK ? len : CHUNK), 0,
			  0, 0);
	n = splice(pipe_fd[0], NULL, fd, NULL, len,
		   (letters & F_DONTWAIT ? SPLICE_F_NONBLOCK : 0) |
			   (letters & F_MORE ? SPLICE_F_MORE : 0));
	saved = errno;
	while (raw(SYS_read, pipe_fd[0], (long)rest, sizeof(rest), 0, 0, 0) > 0)
		;
	errno = saved;
	return n;
}

ssize_t io_send(enum send_call call, int fd, const uint8_t *data, size_t len, int letters)
{
	const int flags = message_flags(io_send_flags(call, letters));
	struct iovec vec[4];
	struct msghdr msg = {.msg_iov = vec};

	switch (call) {
	case S_WRITE:
		return write(fd, data, len);
	case S_SEND:
		return send(fd, data, len, flags);
	case S_SENDTO:
		return sendto(fd, data, len, flags, NULL, 0);
	case S_WRITEV:
		return writev(fd, vec, (int)pieces(vec, data, len));
	case S_SENDMSG:
		msg.msg_iovlen = pieces(vec, data, len);
		return sendmsg(fd, &msg, flags);
	case S_SENDMMSG:
		return send_many(fd, data, len, flags);
	case S_SENDFILE:
	case S_SENDFILE_AT:
		return send_file(fd, data, len, call == S_SENDFILE_AT);
	case S_SPLICE:
		return send_splice(fd, data, len, letters);
	case S_PWRITEV2:
		return pwritev2(fd, vec, (int)pieces(vec, data, len), -1, 0);
	default:
		return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
	}
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

static ssize_t recv_msg(int fd, uint8_t *data, size_t len, int flags)
{
	struct sockaddr_storage from;
	struct iovec vec[4];
	char control[64];
	struct msghdr msg = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = vec,
		.msg_iovlen = pieces(vec, data, len),
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const ssize_t n = recvmsg(fd, &msg, flags);

	if (n >= 0 && (msg.msg_namelen || msg.msg_controllen || (msg.msg_flags & ~MSG_TRUNC))) {
		errno = WRONG_EXTRA;
		return -1;
	}
	return n;
}

static ssize_t recv_from(int fd, uint8_t *data, size_t len, int flags)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	const ssize_t n = recvfrom(fd, data, len, flags, (struct sockaddr *)&from, &size);

	if (n >= 0 && size) {
		errno = WRONG_EXTRA;
		return -1;
	}
	return n;
}

static ssize_t recv_many(int fd, uint8_t *data, size_t len, int flags)
{
	const size_t first = len - len / 4;
	struct iovec vec[2] = {{data, first}, {data + first, len / 4}};
	struct mmsghdr msgs[2] = {{.msg_hdr = {.msg_iov = vec, .msg_iovlen = 1}},
				  {.msg_hdr = {.msg_iov = vec + 1, .msg_iovlen = 1}}};
	const bool two = len / 4 && !(flags & (MSG_PEEK | MSG_WAITALL));
	int n;

	if (!two)
		vec[0].iov_len = len;
	n = recvmmsg(fd, msgs, two ? 2 : 1, flags | (two ? MSG_WAITFORONE : 0), NULL);
	if (n < 2)
		return n < 0 ? n : (ssize_t)msgs[0].msg_len;
	if (!(flags & MSG_TRUNC))
		memmove(data + msgs[0].msg_len, data + first, msgs[1].msg_len);
	return (ssize_t)msgs[0].msg_len + (ssize_t)msgs[1].msg_len;
}

static ssize_t recv_splice(int fd, uint8_t *data, size_t len, int letters)
{
	ssize_t n;

	make_pipe();
	n = splice(fd, NULL, pipe_fd[1], NULL, len, letters & F_DONTWAIT ? SPLICE_F_NONBLOCK : 0);
	if (n > 0 && raw(SYS_read, pipe_fd[0], (long)data, n, 0, 0, 0) != n) {
		errno = WRONG_EXTRA;
		return -1;
	}
	return n;
}

ssize_t io_recv(enum recv_call call, int fd, uint8_t *data, size_t len, int letters)
{
	const int flags = message_flags(io_recv_flags(call, letters));
	struct iovec vec[4];

	switch (call) {
	case R_READ:
		return read(fd, data, len);
	case R_RECV:
		return recv(fd, data, len, flags);
	case R_RECVFROM:
		return recv_from(fd, data, len, flags);
	case R_READV:
		return readv(fd, vec, (int)pieces(vec, data, len));
	case R_RECVMSG:
		return recv_msg(fd, data, len, flags);
	case R_RECVMMSG:
		return recv_many(fd, data, len, flags);
	case R_SPLICE:
		return recv_splice(fd, data, len, letters);
	case R_PREADV2:
		return preadv2(fd, vec, (int)pieces(vec, data, len), -1, 0);
	default:
		return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
	}
}
