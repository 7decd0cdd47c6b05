// SPDX-License-Identifier: Apache-2.0
/*
 * Sets that are in use before any stream is in them: a thread sleeps in one, or in poll on one, or
 * in a set that has it inside, when another thread adds a stream whose bytes lie unread; a set is
 * put inside another while it is empty, and is closed there. HAZARDS 24, 28.
 */

#include <sys/epoll.h>
#include <sys/syscall.h>

#include "t.h"

static struct t_pair pair;

static void add(int epfd, int fd, uint64_t tag)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};

	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

static void told_by_epoll(void *arg)
{
	struct epoll_event event = {0};

	T_EQ(T_OK(epoll_wait(*(int *)arg, &event, 1, 4000)), 1);
	T_EQ(event.data.u64, 1);
	t_recv(pair.b, 100, 3, 0);
}

static void told_by_poll(void *arg)
{
	struct pollfd p = {*(int *)arg, POLLIN, 0};

	T_EQ(T_OK(poll(&p, 1, 4000)), 1);
	T_EQ(p.revents, POLLIN);
	t_recv(pair.b, 100, 3, 0);
}

static void told_by_select(void *arg)
{
	const int epfd = *(int *)arg;
	struct timeval timeout = {.tv_sec = 4};
	fd_set in;

	FD_ZERO(&in);
	FD_SET(epfd, &in);
	T_EQ(T_OK(select(epfd + 1, &in, NULL, NULL, &timeout)), 1);
	t_recv(pair.b, 100, 3, 0);
}

static void wakes(void (*sleep)(void *arg), int sleeps_in, int added_to)
{
	const int64_t start = t_now_ms();
	struct t_thread sleeper;

	t_hot(&pair);
	t_send(pair.a, 100, 3, 0);
	t_thread_start(&sleeper, sleep, &sleeps_in);
	t_wait_asleep(sleeper.tid);
	add(added_to, pair.b, 1);
	t_thread_join(&sleeper);
	T_ELAPSED(start, 0, 3000);
}

static int raw_set(int flags)
{
	return (int)syscall(SYS_epoll_create1, flags);
}

static void asleep_in_one(int (*make)(int flags), void (*sleep)(void *arg), bool with_pipe)
{
	const int epfd = (int)T_OK(make(0));
	int ends[2];

	T_OK(pipe(ends));
	if (with_pipe)
		add(epfd, ends[0], 2);
	wakes(sleep, epfd, epfd);
	T_OK(close(epfd));
	T_OK(close(ends[0]));
	T_OK(close(ends[1]));
}

/* The inner set is empty when it is put into the outer one. */
static void empty_inside(void)
{
	const int outer = (int)T_OK(epoll_create1(0)), inner = (int)T_OK(epoll_create1(0));
	struct epoll_event event = {0};

	add(outer, inner, 1);
	wakes(told_by_epoll, outer, inner);
	t_hot(&pair);
	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(epoll_wait(outer, &event, 1, 1000)), 1);
	T_EQ(event.data.u64, 1);
	t_recv(pair.b, 100, 3, 0);
	T_OK(close(inner));

	/* The next set is not inside. */
	wakes(told_by_epoll, (int)T_OK(dup(outer)), outer);
	T_OK(epoll_ctl(outer, EPOLL_CTL_DEL, pair.b, NULL));
	add((int)T_OK(epoll_create1(0)), pair.b, 3);
	t_hot(&pair);
	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(epoll_wait(outer, &event, 1, 0)), 0);
	t_recv(pair.b, 100, 3, 0);
}

int main(void)
{
	t_open_hot(&pair);
	asleep_in_one(epoll_create1, told_by_epoll, false);
	asleep_in_one(epoll_create1, told_by_epoll, true);
	asleep_in_one(epoll_create1, told_by_poll, false);
	asleep_in_one(epoll_create1, told_by_select, true);
	asleep_in_one(raw_set, told_by_epoll, true);
	empty_inside();
	t_close(&pair);
	return 0;
}
