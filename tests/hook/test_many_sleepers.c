// SPDX-License-Identifier: Apache-2.0
/*
 * Several threads asleep on one stream, in recv, in poll, in select and in epoll_wait at once: each
 * byte wakes who waits for it, one reader's receive does not cost another its wake-up, and the end
 * of stream wakes all. HAZARDS 22, 23, 24.
 */

#include <sys/epoll.h>
#include <sys/select.h>

#include "t.h"

#define ROUNDS 30

static struct t_pair pair;
static int taken;

static bool take(int flags)
{
	uint8_t byte;
	const ssize_t n = recv(pair.b, &byte, 1, flags);

	if (n < 0) {
		T_EQ(errno, EAGAIN);
		return true;
	}
	if (n == 1) {
		__atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED);
		T_EQ(T_OK(send(pair.b, "a", 1, 0)), 1);
	}
	return n == 1;
}

static void by_recv(void *arg)
{
	(void)arg;
	while (take(0))
		;
}

static void by_poll(void *arg)
{
	struct pollfd set = {pair.b, POLLIN, 0};

	(void)arg;
	do
		T_EQ(T_OK(poll(&set, 1, 10000)), 1);
	while (take(MSG_DONTWAIT));
}

static void by_select(void *arg)
{
	fd_set set;

	(void)arg;
	do {
		struct timeval ten = {.tv_sec = 10};

		FD_ZERO(&set);
		FD_SET(pair.b, &set);
		T_EQ(T_OK(select(pair.b + 1, &set, NULL, NULL, &ten)), 1);
	} while (take(MSG_DONTWAIT));
}

static void by_epoll(void *arg)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event event = {.events = EPOLLIN};

	(void)arg;
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	do
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 10000)), 1);
	while (take(MSG_DONTWAIT));
	T_OK(close(epfd));
}

static void (*const kinds[])(void *) = {by_recv, by_recv, by_poll, by_select, by_epoll, by_epoll};

/* @which: bits of the kinds that take part; @burst: so many bytes before an answer is waited for */
static void run(unsigned int which, int burst)
{
	struct t_thread threads[T_LEN(kinds)];
	uint8_t answer[64];

	t_open_hot(&pair);
	taken = 0;
	for (size_t i = 0; i < T_LEN(kinds); i++)
		if (which & 1u << i)
			t_thread_start(&threads[i], kinds[i], NULL);
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; round % 3 == 0 && i < T_LEN(kinds); i++)
			if (which & 1u << i)
				t_wait_asleep(threads[i].tid);
		for (int i = 0; i < burst; i++)
			T_EQ(T_OK(send(pair.a, "m", 1, 0)), 1);
		T_EQ(T_OK(recv(pair.a, answer, (size_t)burst, MSG_WAITALL)), burst);
	}
	T_OK(shutdown(pair.a, SHUT_WR));
	for (size_t i = 0; i < T_LEN(kinds); i++)
		if (which & 1u << i)
			t_thread_join(&threads[i]);
	T_EQ(taken, ROUNDS * burst);
	t_close(&pair);
}

int main(void)
{
	for (int burst = 1; burst <= 8; burst += 7) {
		run(0x03, burst); /* two in recv */
		run(0x06, burst); /* recv and poll */
		run(0x0c, burst); /* poll and select */
		run(0x30, burst); /* two sets */
		run(0x11, burst); /* recv and epoll */
		run(0x3f, burst);
	}
	return 0;
}
