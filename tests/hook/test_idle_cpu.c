// SPDX-License-Identifier: Apache-2.0
/*
 * A moved stream that is idle costs nothing: less than 1 % of a processor in each of two processes
 * that sleep on it, one in recv, one in poll. HAZARDS 25.
 */

#include "t.h"

#define IDLE_MS	 2000
#define LIMIT_MS (IDLE_MS / 100)

static struct t_pair pair;

static void poller(void *arg)
{
	struct pollfd set = {pair.b, POLLIN, 0};

	(void)arg;
	T_OK(close(pair.a));
	for (;;) {
		uint8_t buf[1000];
		ssize_t n;

		T_EQ(T_OK(poll(&set, 1, -1)), 1);
		n = (ssize_t)T_OK(recv(pair.b, buf, sizeof(buf), 0));
		if (!n)
			return;
		T_EQ(T_OK(send(pair.b, buf, (size_t)n, 0)), n);
	}
}

static void sleeper(void *arg)
{
	(void)arg;
	t_recv(pair.a, 10, 9, 0);
}

static void ping(void)
{
	for (int i = 0; i < 100; i++) {
		t_send(pair.a, 100, 3, 0);
		t_recv(pair.a, 100, 3, 0);
	}
}

int main(void)
{
	const struct timespec idle = {.tv_sec = IDLE_MS / 1000};
	int64_t used_here, used_there;
	struct t_thread thread;
	uint64_t moved;
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(poller, NULL);
	T_OK(close(pair.b));
	ping();
	moved = t_moved_begin(pair.a);
	ping();
	t_moved_end(pair.a, moved);

	t_thread_start(&thread, sleeper, NULL);
	t_wait_asleep(thread.tid);
	t_wait_asleep(pid);
	used_here = t_cpu_ms(getpid());
	used_there = t_cpu_ms(pid);
	T_OK(nanosleep(&idle, NULL)); /* the time that is measured */
	used_here = t_cpu_ms(getpid()) - used_here;
	used_there = t_cpu_ms(pid) - used_there;
	T_CHECK(used_here < LIMIT_MS);
	T_CHECK(used_there < LIMIT_MS);

	/* And both are awake again at once. */
	t_send(pair.a, 10, 9, 0);
	t_thread_join(&thread);
	ping();
	T_OK(shutdown(pair.a, SHUT_WR));
	t_join(pid);
	T_OK(close(pair.a));
	return 0;
}
