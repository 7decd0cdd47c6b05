// SPDX-License-Identifier: Apache-2.0
/*
 * A stream in several sets, in a nested set, in a set that was there before the move, in a set that
 * was dup'ed or inherited; poll on a set; a closed stream leaves its sets. HAZARDS 28.
 */

#include <sys/epoll.h>

#include "t.h"

static struct t_pair pair;
static int sets[3]; /* level, edge, and a set that contains the first */

static void add(int epfd, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event event = {.events = events, .data.u64 = tag};

	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

/* True if @epfd tells of @tag, and only of that, within @ms. */
static bool tells(int epfd, uint64_t tag, int ms)
{
	struct epoll_event events[4] = {{0}};
	const int n = (int)T_OK(epoll_wait(epfd, events, 4, ms));

	T_CHECK(n <= 1);
	if (n)
		T_EQ(events[0].data.u64, tag);
	return n;
}

static void all_tell(void)
{
	const uint64_t moved = t_moved_begin(pair.a);

	for (int i = 0; i < 20; i++) {
		struct pollfd nested = {sets[2], POLLIN, 0};

		t_hot(&pair);
		tells(sets[1], 2, 0); /* the edges of that */
		T_CHECK(!tells(sets[0], 1, 0));
		T_CHECK(!tells(sets[2], 3, 0));
		T_EQ(T_OK(poll(&nested, 1, 0)), 0);
		t_send(pair.a, 100, 3, 0);
		T_CHECK(tells(sets[0], 1, 1000));
		T_CHECK(tells(sets[1], 2, 1000));
		T_CHECK(!tells(sets[1], 2, 0));
		T_CHECK(tells(sets[2], 3, 1000));
		T_EQ(T_OK(poll(&nested, 1, 1000)), 1);
		T_EQ(nested.revents, POLLIN);
		t_recv(pair.b, 100, 3, 0);
		T_CHECK(!tells(sets[0], 1, 0));
		T_CHECK(!tells(sets[2], 3, 0));
	}
	t_moved_end(pair.a, moved);
}

static void send_when_asleep(void *arg)
{
	(void)arg;
	t_wait_asleep(getpid());
	t_send(pair.a, 100, 3, 0);
}

/* Asleep on each of them, and in poll on the nested one, when the bytes come. */
static void sleeper_wakes(void)
{
	struct pollfd nested = {sets[2], POLLIN, 0};
	struct t_thread sender;
	int64_t start;

	for (int i = 0; i < 4; i++) {
		t_hot(&pair);
		tells(sets[1], 2, 0);
		t_thread_start(&sender, send_when_asleep, NULL);
		start = t_now_ms();
		if (i < 3)
			T_CHECK(tells(sets[i], (uint64_t)i + 1, 4000));
		else
			T_EQ(T_OK(poll(&nested, 1, 4000)), 1);
		T_ELAPSED(start, 0, 3000);
		t_recv(pair.b, 100, 3, 0);
		t_thread_join(&sender);
	}
}

static void child_waits(void *arg)
{
	(void)arg;
	T_CHECK(tells(sets[0], 1, 4000));
	t_recv(pair.b, 100, 3, 0);
}

static void inherited(void)
{
	const int copy = (int)T_OK(dup(sets[0]));
	pid_t pid;

	t_hot(&pair);
	t_send(pair.a, 100, 3, 0);
	T_CHECK(tells(copy, 1, 1000));
	t_recv(pair.b, 100, 3, 0);
	T_CHECK(!tells(copy, 1, 0));
	T_OK(close(copy));
	T_CHECK(!tells(sets[0], 1, 0));

	t_hot(&pair);
	pid = t_child(child_waits, NULL);
	t_wait_asleep(pid);
	t_send(pair.a, 100, 3, 0);
	t_join(pid);
	T_CHECK(!tells(sets[0], 1, 0));
	t_hot(&pair);
}

/* Closed: it leaves the set by itself, and its number may mean something else at once. */
static void closed(void)
{
	int ends[2];

	t_send(pair.a, 10, 3, 0);
	T_OK(close(pair.b));
	T_CHECK(!tells(sets[0], 1, 0));
	T_OK(pipe(ends));
	T_CHECK(ends[0] == pair.b || ends[1] == pair.b);
	add(sets[0], ends[0], EPOLLIN, 7);
	T_CHECK(!tells(sets[0], 7, 0));
	T_EQ(T_OK(write(ends[1], "x", 1)), 1);
	T_CHECK(tells(sets[0], 7, 1000));
	T_OK(close(ends[0]));
	T_OK(close(ends[1]));
}

int main(void)
{
	for (size_t i = 0; i < T_LEN(sets); i++)
		sets[i] = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	t_open(&pair, T_V4);
	add(sets[0], pair.b, EPOLLIN, 1); /* before the move */
	t_warm(&pair);
	add(sets[1], pair.b, EPOLLIN | EPOLLET, 2);
	add(sets[2], sets[0], EPOLLIN, 3);
	all_tell();
	sleeper_wakes();
	inherited();
	closed();
	for (size_t i = 0; i < T_LEN(sets); i++)
		T_OK(close(sets[i]));
	T_OK(close(pair.a));
	return 0;
}
