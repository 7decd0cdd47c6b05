// SPDX-License-Identifier: Apache-2.0
/*
 * Who sleeps on a moved stream sleeps until there is a reason: in half a second without one it is
 * not woken once, by no safety re-poll. HAZARDS 25, 26.
 */

#include <sys/epoll.h>
#include <sys/select.h>

#include "t.h"

#define QUIET_MS 500

static struct t_pair pair;
static int epfd;

static void in_recv(void *arg)
{
	(void)arg;
	t_recv(pair.b, 100, 3, 0);
}

static void in_poll(void *arg)
{
	struct pollfd set = {pair.b, POLLIN, 0};

	T_EQ(T_OK(poll(&set, 1, -1)), 1);
	in_recv(arg);
}

static void in_select(void *arg)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pair.b, &set);
	T_EQ(T_OK(select(pair.b + 1, &set, NULL, NULL, NULL)), 1);
	in_recv(arg);
}

static void in_epoll(void *arg)
{
	struct epoll_event event;

	T_EQ(T_OK(epoll_wait(epfd, &event, 1, -1)), 1);
	in_recv(arg);
}

static void in_waitall(void *arg)
{
	uint8_t buf[101];

	(void)arg;
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), sizeof(buf));
	t_verify(buf + 1, 100, 3, 0);
}

/* How often thread @tid has gone to sleep so far. */
static long sleeps(pid_t tid)
{
	char path[64], line[128];
	long n = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)tid);
	file = fopen(path, "r");
	T_CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	T_EQ(fclose(file), 0);
	T_CHECK(n >= 0);
	return n;
}

static void (*const ways[])(void *) = {in_recv, in_poll, in_select, in_epoll, in_waitall};

int main(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct t_thread thread;
	long before;

	t_open_hot(&pair);
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	for (size_t i = 0; i < T_LEN(ways); i++) {
		t_hot(&pair);
		t_thread_start(&thread, ways[i], NULL);
		if (ways[i] == in_waitall)
			T_EQ(T_OK(send(pair.a, "x", 1, 0)), 1);
		t_wait_asleep(thread.tid);
		before = sleeps(thread.tid);
		T_EQ(poll(NULL, 0, QUIET_MS), 0); /* what is tested is that nothing happens */
		T_EQ(sleeps(thread.tid), before);
		t_send(pair.a, 100, 3, 0);
		t_thread_join(&thread);
	}
	T_OK(close(epfd));
	t_close(&pair);
	return 0;
}
