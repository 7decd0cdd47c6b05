// SPDX-License-Identifier: Apache-2.0
/*
 * recvmmsg and sendmmsg beyond the simple case: the time-out, which the kernel looks at after each
 * message and writes back; the end of stream in the middle; what was got before an error.
 * HAZARDS 1, 7, 20.
 */

#include "t.h"

#define COUNT 4u

static struct t_pair pair;
static uint8_t bufs[COUNT][100];
static struct iovec vecs[COUNT];
static struct mmsghdr msgs[COUNT];

static void reset(void)
{
	memset(msgs, 0, sizeof(msgs));
	for (size_t i = 0; i < COUNT; i++) {
		vecs[i] = (struct iovec){bufs[i], sizeof(bufs[i])};
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &vecs[i], .msg_iovlen = 1};
		msgs[i].msg_len = 4242;
	}
}

static void timeouts(void)
{
	struct timespec time = {0};

	/* Over at once: one message, not four. */
	reset();
	t_hot(&pair);
	t_send(pair.a, 400, 3, 0);
	T_EQ(T_OK(recvmmsg(pair.b, msgs, COUNT, 0, &time)), 1);
	T_EQ(msgs[0].msg_len, 100);
	T_EQ(msgs[1].msg_len, 4242);
	t_recv(pair.b, 300, 3, 100);

	/* Long: all of them, and the time that is left is told. */
	time = (struct timespec){.tv_sec = 100};
	t_hot(&pair);
	t_send(pair.a, 400, 3, 0);
	T_EQ(T_OK(recvmmsg(pair.b, msgs, COUNT, 0, &time)), 4);
	T_CHECK(time.tv_sec >= 50 && (time.tv_sec < 100 || !time.tv_nsec));
	T_CHECK(time.tv_sec < 100);

	time = (struct timespec){.tv_nsec = 1000000000};
	t_send(pair.a, 10, 3, 0);
	T_ERR(recvmmsg(pair.b, msgs, COUNT, 0, &time), EINVAL);
	time = (struct timespec){.tv_sec = -1};
	T_ERR(recvmmsg(pair.b, msgs, COUNT, 0, &time), EINVAL);
	t_recv(pair.b, 10, 3, 0);
}

static void short_ones(void)
{
	reset();
	t_hot(&pair);
	t_send(pair.a, 250, 3, 0);
	T_EQ(T_OK(recvmmsg(pair.b, msgs, COUNT, MSG_DONTWAIT, NULL)), 3);
	T_EQ(msgs[2].msg_len, 50);
	T_EQ(msgs[3].msg_len, 4242);
	for (size_t i = 0; i < 3; i++)
		t_verify(bufs[i], msgs[i].msg_len, 3, 100 * i);
	T_ERR(recvmmsg(pair.b, msgs, COUNT, MSG_DONTWAIT, NULL), EAGAIN);
	T_EQ(T_OK(recvmmsg(pair.b, msgs, 0, 0, NULL)), 0);

	t_hot(&pair);
	for (size_t i = 0; i < COUNT; i++)
		t_fill(bufs[i], sizeof(bufs[i]), 5, 100 * i);
	reset();
	T_EQ(T_OK(sendmmsg(pair.a, msgs, COUNT, 0)), COUNT);
	for (size_t i = 0; i < COUNT; i++)
		T_EQ(msgs[i].msg_len, 100);
	t_recv(pair.b, 400, 5, 0);
	T_EQ(T_OK(sendmmsg(pair.a, msgs, 0, 0)), 0);
}

static void end_of_stream(void)
{
	reset();
	t_hot(&pair);
	t_send(pair.a, 150, 3, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	/* The end has come when a poll tells it. */
	for (;;) {
		struct pollfd set = {pair.b, POLLRDHUP, 0};

		if (T_OK(poll(&set, 1, 1000)) == 1 && set.revents & POLLRDHUP)
			break;
	}
	T_EQ(T_OK(recvmmsg(pair.b, msgs, COUNT, 0, NULL)), COUNT);
	T_EQ(msgs[0].msg_len, 100);
	T_EQ(msgs[1].msg_len, 50);
	T_EQ(msgs[2].msg_len, 0);
	T_EQ(msgs[3].msg_len, 0);
	t_verify(bufs[0], 100, 3, 0);
	t_verify(bufs[1], 50, 3, 100);
}

int main(void)
{
	t_open_hot(&pair);
	timeouts();
	short_ones();
	end_of_stream();
	t_close(&pair);
	return 0;
}
