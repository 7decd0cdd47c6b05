// SPDX-License-Identifier: Apache-2.0
/*
 * Each option that a ring cannot honour, set on a moved stream with bytes unread or before the
 * move: it does what it does on TCP, and no byte is lost or out of order. HAZARDS 7, 9.
 */

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "t.h"

#ifndef TCP_INQ
#define TCP_INQ 36
#endif

static struct t_pair pair;

static int set(int level, int name, int value)
{
	return setsockopt(pair.b, level, name, &value, sizeof(value));
}

/* Everything that came before, then what comes after. */
static void goes_on(size_t unread)
{
	t_recv(pair.b, unread, 3, 0);
	for (int i = 0; i < 10; i++) {
		t_send(pair.a, 3000, 4, 0);
		t_recv(pair.b, 3000, 4, 0);
		t_send(pair.b, 3000, 5, 0);
		t_recv(pair.a, 3000, 5, 0);
	}
}

static void each_option(void)
{
	static const int options[][2] = {
		{SOL_SOCKET, SO_RCVLOWAT},    {SOL_SOCKET, SO_OOBINLINE},
		{SOL_SOCKET, SO_ZEROCOPY},    {SOL_SOCKET, SO_TIMESTAMP},
		{SOL_SOCKET, SO_TIMESTAMPNS}, {SOL_SOCKET, SO_TIMESTAMPING},
		{IPPROTO_TCP, TCP_INQ},	      {SOL_SOCKET, SO_PEEK_OFF},
		{SOL_SOCKET, SO_KEEPALIVE},   {SOL_SOCKET, SO_PRIORITY},
		{SOL_SOCKET, SO_RCVBUF},      {IPPROTO_TCP, TCP_CORK},
	};

	for (size_t i = 0; i < T_LEN(options); i++) {
		for (int early = 0; early < 2; early++) {
			if (early) {
				t_open(&pair, T_V4);
				(void)set(options[i][0], options[i][1], 2);
				for (int k = 0; k < 20; k++)
					t_hot(&pair);
				t_send(pair.a, 2000, 3, 0);
			} else {
				t_open_hot(&pair);
				t_send(pair.a, 2000, 3, 0);
				(void)set(options[i][0], options[i][1], 2);
			}
			/* Of a peek offset: reading leaves it, if it is above, where it is. */
			goes_on(2000);
			t_close(&pair);
		}
	}
}

/* The queue's length comes beside the bytes. */
static void inq(void)
{
	uint8_t buf[100], control[64];
	struct iovec vec = {buf, sizeof(buf)};
	struct msghdr msg = {.msg_iov = &vec,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	const struct cmsghdr *cmsg;
	int left;

	t_open_hot(&pair);
	T_OK(set(IPPROTO_TCP, TCP_INQ, 1));
	goes_on(0);
	t_send(pair.a, 1000, 3, 0);
	T_EQ(T_OK(recvmsg(pair.b, &msg, 0)), 100);
	cmsg = CMSG_FIRSTHDR(&msg);
	T_CHECK(cmsg && cmsg->cmsg_level == IPPROTO_TCP && cmsg->cmsg_type == TCP_INQ);
	memcpy(&left, CMSG_DATA(cmsg), sizeof(left));
	T_EQ(left, 900);
	t_recv(pair.b, 900, 3, 100);
	t_close(&pair);
}

/* A peek goes on where the last one ended. */
static void peek_offset(void)
{
	uint8_t buf[100];

	t_open_hot(&pair);
	if (set(SOL_SOCKET, SO_PEEK_OFF, 0) == 0) { /* for TCP: from Linux 6.9 */
		goes_on(0);
		t_send(pair.a, 300, 3, 0);
		for (size_t at = 0; at < 300; at += 100) {
			T_EQ(T_OK(recv(pair.b, buf, 100, MSG_PEEK)), 100);
			t_verify(buf, 100, 3, at);
		}
		t_recv(pair.b, 300, 3, 0);
	}
	t_close(&pair);
}

/* Urgent data in line: the mark stands before it, and poll tells of it. */
static void urgent_in_line(void)
{
	struct pollfd poll_set;
	uint8_t buf[200];
	int at_mark = -1;
	size_t got = 0;

	t_open_hot(&pair);
	T_OK(set(SOL_SOCKET, SO_OOBINLINE, 1));
	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(send(pair.a, "U", 1, MSG_OOB)), 1);
	t_send(pair.a, 50, 4, 0);
	poll_set = (struct pollfd){pair.b, POLLPRI, 0};
	T_EQ(T_OK(poll(&poll_set, 1, 1000)), 1);
	T_EQ(poll_set.revents, POLLPRI);
	while (got < 100)
		got += (size_t)T_OK(recv(pair.b, buf + got, sizeof(buf) - got, 0));
	T_EQ(got, 100); /* a receive never passes the mark */
	t_verify(buf, 100, 3, 0);
	T_OK(ioctl(pair.b, SIOCATMARK, &at_mark));
	T_EQ(at_mark, 1);
	T_ERR(recv(pair.b, buf, 1, MSG_OOB), EINVAL);
	T_EQ(T_OK(recv(pair.b, buf, 1, 0)), 1);
	T_EQ(buf[0], 'U');
	t_recv(pair.b, 50, 4, 0);
	t_close(&pair);
}

int main(void)
{
	each_option();
	inq();
	peek_offset();
	urgent_in_line();
	return 0;
}
