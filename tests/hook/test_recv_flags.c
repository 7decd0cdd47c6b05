// SPDX-License-Identifier: Apache-2.0
/* MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT and MSG_TRUNC mean what they mean on TCP. HAZARDS 7. */

#include "t.h"

#define LEN 3000u

static struct t_pair pair;

static void peek(void)
{
	uint8_t buf[LEN + 1];
	struct iovec vec = {buf, sizeof(buf)};
	struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
	size_t n;

	t_hot(&pair);
	t_send(pair.a, LEN, 3, 0);
	for (int i = 0; i < 3; i++) {
		n = (size_t)T_OK(recv(pair.b, buf, 100, MSG_PEEK));
		T_CHECK(n && n <= 100);
		t_verify(buf, n, 3, 0);
	}
	n = (size_t)T_OK(recvmsg(pair.b, &msg, MSG_PEEK));
	T_CHECK(n && n <= LEN);
	t_verify(buf, n, 3, 0);
	/* A peek from the middle, after part was read. */
	t_recv(pair.b, 1000, 3, 0);
	n = (size_t)T_OK(recvfrom(pair.b, buf, LEN, MSG_PEEK | MSG_DONTWAIT, NULL, NULL));
	T_CHECK(n && n <= LEN - 1000);
	t_verify(buf, n, 3, 1000);
	t_recv(pair.b, LEN - 1000, 3, 1000);
	T_ERR(recv(pair.b, buf, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
}

/* Peek and wait for all: the whole, and it stays. */
static void peek_waitall(void)
{
	uint8_t buf[LEN];

	t_hot(&pair);
	t_send(pair.a, LEN, 3, 0);
	T_EQ(T_OK(recv(pair.b, buf, LEN, MSG_PEEK | MSG_WAITALL)), LEN);
	t_verify(buf, LEN, 3, 0);
	t_recv(pair.b, LEN, 3, 0);
}

static void dontwait(void)
{
	uint8_t buf[16];

	t_hot(&pair);
	T_ERR(recv(pair.b, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
	t_send(pair.a, 5, 3, 0);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_DONTWAIT)), 5);
	T_ERR(recv(pair.b, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
}

/* On a TCP socket MSG_TRUNC throws the bytes away: the buffer stays as it is. */
static void trunc_discards(void)
{
	uint8_t buf[100];
	size_t left = 500;

	t_hot(&pair);
	t_send(pair.a, 600, 3, 0);
	memset(buf, 0x55, sizeof(buf));
	while (left) {
		const size_t n = (size_t)T_OK(
			recv(pair.b, buf, left < sizeof(buf) ? left : sizeof(buf), MSG_TRUNC));

		T_CHECK(n && n <= left);
		left -= n;
	}
	for (size_t i = 0; i < sizeof(buf); i++)
		T_EQ(buf[i], 0x55);
	t_recv(pair.b, 100, 3, 500);
}

static void send_in_pieces(void *arg)
{
	const struct timespec gap = {.tv_nsec = 20000000};

	(void)arg;
	for (size_t at = 0; at < LEN; at += LEN / 3) {
		nanosleep(&gap, NULL); /* the receiver must see pieces: that is the case tested */
		t_send(pair.a, LEN / 3, 3, at);
	}
}

static void waitall(void)
{
	struct t_thread sender;
	uint8_t buf[LEN];
	struct iovec vec[2] = {{buf, 10}, {buf + 10, LEN - 10}};
	struct msghdr msg = {.msg_iov = vec, .msg_iovlen = 2};

	for (int i = 0; i < 2; i++) {
		t_hot(&pair);
		t_thread_start(&sender, send_in_pieces, NULL);
		if (i)
			T_EQ(T_OK(recv(pair.b, buf, LEN, MSG_WAITALL)), LEN);
		else
			T_EQ(T_OK(recvmsg(pair.b, &msg, MSG_WAITALL)), LEN);
		t_verify(buf, LEN, 3, 0);
		t_thread_join(&sender);
	}
}

/* End of stream ends the wait for all with what there is. */
static void waitall_eof(void)
{
	uint8_t buf[100];

	t_hot(&pair);
	t_send(pair.a, 50, 3, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), 50);
	t_verify(buf, 50, 3, 0);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), 0);
}

int main(void)
{
	uint64_t moved;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);
	peek();
	peek_waitall();
	dontwait();
	trunc_discards();
	waitall();
	t_moved_end(pair.a, moved);
	waitall_eof();
	t_close(&pair);
	return 0;
}
