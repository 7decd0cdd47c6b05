// SPDX-License-Identifier: Apache-2.0
/*
 * Edge-triggered epoll, and a reader that does not read what it was told of, or not all: each
 * arrival is told all the same. HAZARDS 28.
 */

#include <sys/epoll.h>

#include "t.h"

static struct t_pair pair;
static int epfd;

static bool is_told(int ms)
{
	struct epoll_event event;
	const int n = (int)T_OK(epoll_wait(epfd, &event, 1, ms));

	if (n)
		T_EQ(event.events, EPOLLIN);
	return n;
}

/* Unread until the end but for @taken of each @sent, in pieces of that. */
static void lazy(uint32_t sent, uint32_t taken, bool sleeps)
{
	uint64_t in = 0, out = 0;
	uint8_t byte;

	t_hot(&pair);
	(void)is_told(0);
	for (int i = 0; i < 40; i++) {
		t_send(pair.a, sent, 3, in);
		in += sent;
		T_EQ(is_told(2000), true);
		if (sleeps)
			(void)is_told(1); /* a message may arrive in two pieces */
		if (taken)
			t_recv(pair.b, taken, 3, out);
		out += taken;
	}
	/* Two arrivals may be one edge; none may be lost. */
	for (int i = 0; i < 20; i++) {
		t_send(pair.a, sent, 3, in);
		t_send(pair.a, sent, 3, in + sent);
		in += 2 * sent;
		T_EQ(is_told(2000), true);
		(void)is_told(0);
	}
	t_recv(pair.b, in - out, 3, out);
	T_ERR(recv(pair.b, &byte, 1, MSG_DONTWAIT), EAGAIN);
	(void)is_told(0);
}

/* Told of what came by TCP, and then by ring while nothing is read. */
static void told_by_kernel(void)
{
	for (int i = 0; i < 30; i++) {
		uint64_t in = 0;

		t_hot(&pair);
		(void)is_told(i % 2); /* asleep: what comes next comes by TCP */
		for (int k = 0; k < 6; k++) {
			t_send(pair.a, 300, 5, in);
			in += 300;
			T_EQ(is_told(2000), true);
			if (k == i % 6) {
				t_recv(pair.b, 100, 5, 0);
				(void)is_told(1); /* a message may arrive in two pieces */
			}
		}
		t_recv(pair.b, in - 100, 5, 100);
		(void)is_told(0);
	}
}

int main(void)
{
	static const uint32_t sizes[][2] = {{3, 2}, {5, 0}, {100, 10}, {1000, 300}};
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	t_open_hot(&pair);
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	for (size_t i = 0; i < T_LEN(sizes); i++) {
		lazy(sizes[i][0], sizes[i][1], false);
		lazy(sizes[i][0], sizes[i][1], true);
	}
	told_by_kernel();
	T_OK(close(epfd));
	t_close(&pair);
	return 0;
}
