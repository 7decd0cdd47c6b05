// SPDX-License-Identifier: Apache-2.0
/*
 * Every way to send meets every way to receive: all bytes, in order, errno untouched. HAZARDS 1, 7.
 * One unhooked call on a moved stream would split it.
 */

#include "t.h"

#define MAX 9000u

typedef size_t form(int fd, uint8_t *buf, size_t len);

/* Three pieces, one of them empty, and an uneven cut. */
static int cut(struct iovec vec[4], uint8_t *buf, size_t len)
{
	vec[0] = (struct iovec){buf, len / 3};
	vec[1] = (struct iovec){buf, 0};
	vec[2] = (struct iovec){buf + len / 3, len / 2 - len / 3};
	vec[3] = (struct iovec){buf + len / 2, len - len / 2};
	return 4;
}

static size_t by_write(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(write(fd, buf, len));
}

static size_t by_send(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(send(fd, buf, len, MSG_NOSIGNAL));
}

static size_t by_sendto(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(sendto(fd, buf, len, 0, NULL, 0));
}

/* An address given on a connected stream socket is ignored by the kernel. */
static size_t by_sendto_addr(int fd, uint8_t *buf, size_t len)
{
	const struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = 1};

	return (size_t)T_OK(sendto(fd, buf, len, 0, (const struct sockaddr *)&addr, sizeof(addr)));
}

static size_t by_writev(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[4];

	return (size_t)T_OK(writev(fd, vec, cut(vec, buf, len)));
}

static size_t by_pwritev2(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[4];

	return (size_t)T_OK(pwritev2(fd, vec, cut(vec, buf, len), -1, 0));
}

static size_t by_sendmsg(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[4];
	struct msghdr msg = {.msg_iov = vec, .msg_iovlen = (size_t)cut(vec, buf, len)};

	return (size_t)T_OK(sendmsg(fd, &msg, 0));
}

static size_t by_sendmmsg(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[2] = {{buf, len / 2}, {buf + len / 2, len - len / 2}};
	struct mmsghdr msgs[2] = {{.msg_hdr = {.msg_iov = &vec[0], .msg_iovlen = 1}},
				  {.msg_hdr = {.msg_iov = &vec[1], .msg_iovlen = 1}}};

	T_EQ(T_OK(sendmmsg(fd, msgs, 2, 0)), 2);
	return msgs[0].msg_len + msgs[1].msg_len;
}

static size_t by_read(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(read(fd, buf, len));
}

static size_t by_recv(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(recv(fd, buf, len, 0));
}

static size_t by_recvfrom(int fd, uint8_t *buf, size_t len)
{
	return (size_t)T_OK(recvfrom(fd, buf, len, 0, NULL, NULL));
}

/* A stream socket gives no address back: length 0. */
static size_t by_recvfrom_addr(int fd, uint8_t *buf, size_t len)
{
	struct sockaddr_storage addr;
	socklen_t addr_len = sizeof(addr);
	const size_t n =
		(size_t)T_OK(recvfrom(fd, buf, len, 0, (struct sockaddr *)&addr, &addr_len));

	T_EQ(addr_len, 0);
	return n;
}

static size_t by_readv(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[4];

	return (size_t)T_OK(readv(fd, vec, cut(vec, buf, len)));
}

static size_t by_preadv2(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec[4];

	return (size_t)T_OK(preadv2(fd, vec, cut(vec, buf, len), -1, 0));
}

static size_t by_recvmsg(int fd, uint8_t *buf, size_t len)
{
	uint8_t control[64];
	struct iovec vec[4];
	struct msghdr msg = {.msg_iov = vec,
			     .msg_iovlen = (size_t)cut(vec, buf, len),
			     .msg_control = control,
			     .msg_controllen = sizeof(control),
			     .msg_flags = -1};
	const size_t n = (size_t)T_OK(recvmsg(fd, &msg, 0));

	T_EQ(msg.msg_controllen, 0);
	T_EQ(msg.msg_flags, 0);
	return n;
}

static size_t by_recvmmsg(int fd, uint8_t *buf, size_t len)
{
	struct iovec vec = {buf, len};
	struct mmsghdr msg = {.msg_hdr = {.msg_iov = &vec, .msg_iovlen = 1}};

	T_EQ(T_OK(recvmmsg(fd, &msg, 1, MSG_WAITFORONE, NULL)), 1);
	return msg.msg_len;
}

static const struct {
	const char *name;
	form *call;
} senders[] = {{"write", by_write},	{"send", by_send},
	       {"sendto", by_sendto},	{"sendto with address", by_sendto_addr},
	       {"writev", by_writev},	{"pwritev2", by_pwritev2},
	       {"sendmsg", by_sendmsg}, {"sendmmsg", by_sendmmsg}},
  receivers[] = {{"read", by_read},	    {"recv", by_recv},
		 {"recvfrom", by_recvfrom}, {"recvfrom with address", by_recvfrom_addr},
		 {"readv", by_readv},	    {"preadv2", by_preadv2},
		 {"recvmsg", by_recvmsg},   {"recvmmsg", by_recvmmsg}};

static void carry(int from, int to, size_t s, size_t r, size_t len, uint64_t *at)
{
	uint8_t buf[MAX];
	size_t got = 0;

	t_fill(buf, len, 3, *at);
	if (senders[s].call(from, buf, len) != len)
		t_fail(__FILE__, __LINE__, "%s of %zu is short", senders[s].name, len);
	while (got < len) {
		const size_t n = receivers[r].call(to, buf, sizeof(buf));

		if (!n || n > len - got || t_same(buf, n, 3, *at + got) != n)
			t_fail(__FILE__, __LINE__, "%s of %zu, then %s: wrong at %zu, %zu bytes",
			       senders[s].name, len, receivers[r].name, got, n);
		got += n;
	}
	*at += len;
}

int main(void)
{
	static const size_t sizes[] = {1, 7, 300, 4096, MAX};
	uint64_t at = 0, moved;
	struct t_pair pair;

	t_open_hot(&pair);
	for (size_t s = 0; s < T_LEN(senders); s++) {
		moved = t_moved_begin(pair.a);
		for (size_t r = 0; r < T_LEN(receivers); r++) {
			for (size_t i = 0; i < T_LEN(sizes); i++) {
				carry(pair.a, pair.b, s, r, sizes[i], &at);
				carry(pair.b, pair.a, s, r, sizes[i], &at);
			}
		}
		t_moved_end(pair.a, moved);
	}
	t_close(&pair);
	return 0;
}
