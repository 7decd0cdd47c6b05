/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: an always-readable eventfd that is added to an epoll set, or re-armed there after
 * EPOLLONESHOT, wakes a thread that sleeps in epoll_wait on that set, on a set around it, or in
 * another process that inherited the set. So is a sleeper woken for bytes in a ring.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "t.h"

#define KICK 77

struct sleeper {
	int epfd;
	uint64_t want;
};

static void sleep_in_set(void *arg)
{
	const struct sleeper *s = arg;
	struct epoll_event event = {0};

	T_EQ(epoll_wait(s->epfd, &event, 1, 10000), 1);
	T_EQ(event.data.u64, s->want);
}

static void kick(int epfd, int op, int event_fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = KICK};

	T_OK(epoll_ctl(epfd, op, event_fd, &event));
}

static void wakes(const char *how, struct sleeper *s, int epfd, int op, int event_fd)
{
	struct t_thread thread;

	t_thread_start(&thread, sleep_in_set, s);
	t_wait_asleep(thread.tid);
	kick(epfd, op, event_fd);
	t_thread_join(&thread);
	printf("woken: %s\n", how);
}

int main(void)
{
	const int set = (int)T_OK(epoll_create1(0)), outer = (int)T_OK(epoll_create1(0));
	const int event_fd = (int)T_OK(eventfd(1, EFD_NONBLOCK));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
	struct sleeper sleeper = {set, KICK}, around = {outer, 2};
	struct t_pair pair;
	pid_t pid;

	t_open(&pair, T_V4);
	T_OK(epoll_ctl(set, EPOLL_CTL_ADD, pair.a, &event));
	event.data.u64 = 2;
	T_OK(epoll_ctl(outer, EPOLL_CTL_ADD, set, &event));

	wakes("by EPOLL_CTL_ADD", &sleeper, set, EPOLL_CTL_ADD, event_fd);
	wakes("by EPOLL_CTL_MOD after ONESHOT", &sleeper, set, EPOLL_CTL_MOD, event_fd);
	wakes("by EPOLL_CTL_MOD, again", &sleeper, set, EPOLL_CTL_MOD, event_fd);
	wakes("in a set around it", &around, set, EPOLL_CTL_MOD, event_fd);
	T_EQ(epoll_wait(set, &event, 1, 0), 1); /* nobody has taken that one from the inner set */
	T_EQ(epoll_wait(set, &event, 1, 0), 0);

	pid = t_child(sleep_in_set, &sleeper);
	t_wait_asleep(pid);
	kick(set, EPOLL_CTL_MOD, event_fd);
	t_join(pid);
	printf("woken: in another process\n");
	return 0;
}
