// SPDX-License-Identifier: Apache-2.0
/*
 * A number that was closed stays in an epoll set while the socket has another: it goes on telling,
 * ONESHOT once in all, and what was opened at that number afterwards is another thing to the set.
 * HAZARDS 4, 29.
 */

#include <sys/epoll.h>

#include "t.h"

#define CLOSED 0xc105ed0000000001ULL
#define REUSED 0x2e05ed0000000002ULL

static struct t_pair pair, other;
static int epfd;

static void add(int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event event = {.events = events, .data.u64 = tag};

	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

/* The events told of @tag within @ms; 0 = none. Nothing else may be told. */
static uint32_t wait_events(uint64_t tag, int ms)
{
	struct epoll_event event;
	const int n = (int)T_OK(epoll_wait(epfd, &event, 1, ms));

	if (n)
		T_EQ(event.data.u64, tag);
	return n ? event.events : 0;
}

/* pair.b's number goes into the set and is closed; the socket goes on by another. Return: it */
static int closed_in_set(uint32_t events)
{
	const int number = pair.b, onward = (int)T_OK(dup(number));

	t_hot(&pair);
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	add(number, events, CLOSED);
	T_OK(close(number));
	pair.b = onward;
	return number;
}

static void told_once(bool sleeps)
{
	closed_in_set(EPOLLIN | EPOLLONESHOT);
	t_send(pair.a, 100, 1, 0);
	T_EQ(wait_events(CLOSED, 1000), EPOLLIN);
	T_EQ(wait_events(CLOSED, 0), 0);
	t_recv(pair.b, 50, 1, 0);
	T_EQ(wait_events(CLOSED, sleeps ? 5 : 0), 0);
	t_recv(pair.b, 50, 1, 50);
	/* Who slept has the next bytes by TCP, where the kernel knows of nothing told. */
	T_EQ(wait_events(CLOSED, sleeps ? 5 : 0), 0);
	t_send(pair.a, 100, 1, 100);
	T_EQ(wait_events(CLOSED, 5), 0);
	t_recv(pair.b, 100, 1, 100);
	T_OK(close(epfd));
}

/* Events of the one leave those of the other alone. */
static void reused(uint32_t events, bool hang_up)
{
	const int number = closed_in_set(events);

	T_EQ(T_OK(dup2(other.b, number)), number);
	add(number, EPOLLIN, REUSED);
	t_send(pair.a, 100, 1, 0);
	T_EQ(wait_events(CLOSED, 1000) & EPOLLIN, EPOLLIN);
	t_recv(pair.b, 100, 1, 0);
	if (hang_up) {
		T_OK(shutdown(pair.a, SHUT_WR));
		while (!(wait_events(CLOSED, 1000) & EPOLLRDHUP))
			;
	}
	for (int i = 0; i < 3; i++) {
		T_EQ(wait_events(CLOSED, 5) & ~(uint32_t)(EPOLLIN | EPOLLRDHUP), 0);
		t_send(other.a, 10, 2, 0);
		T_EQ(wait_events(REUSED, 1000), EPOLLIN);
		t_recv(number, 10, 2, 0);
	}
	T_OK(close(number));
	T_OK(close(epfd));
}

int main(void)
{
	t_open_hot(&other);
	t_open_hot(&pair);
	for (int i = 0; i < 20; i++)
		told_once(i % 2);
	for (int i = 0; i < 5; i++)
		reused(EPOLLIN | EPOLLONESHOT, false);
	reused(EPOLLIN | EPOLLRDHUP | EPOLLET, true);
	t_close(&pair);
	t_close(&other);
	return 0;
}
