// SPDX-License-Identifier: Apache-2.0
/*
 * Two processes at one end: what one of them leaves unread is told to the other by each kind of
 * wait that begins then, and ends one that began before; when one is left, or one only sends, the
 * stream goes by ring.
 */

#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "t_turns.h"

#define BURST 5000u
#define TAKEN 130u

static struct t_pair pair;

/* ---- what one leaves, the other is told of ----------------------------------------------------
 */

enum way { BY_POLL, BY_SELECT, BY_LEVEL, BY_EDGE, BY_INHERITED, BY_POLL_OF_SET, WAYS };

static int set_of(enum way way, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | (way == BY_EDGE ? EPOLLET : 0)};
	const int set = (int)T_OK(epoll_create1(0));

	T_OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	return set;
}

/* Is @fd, which is in @set for ways that need one, told to have something? */
static bool is_told(enum way way, int fd, int set, int ms)
{
	struct timeval timeout = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	struct pollfd p = {.fd = way == BY_POLL_OF_SET ? set : fd, .events = POLLIN};
	struct epoll_event event;
	fd_set in;

	switch (way) {
	case BY_POLL:
	case BY_POLL_OF_SET:
		return T_OK(poll(&p, 1, ms)) == 1;
	case BY_SELECT:
		FD_ZERO(&in);
		FD_SET(fd, &in);
		return T_OK(select(fd + 1, &in, NULL, NULL, &timeout)) == 1;
	default:
		return T_OK(epoll_wait(set, &event, 1, ms)) == 1;
	}
}

static enum way child_way;
static int child_set;

static void child_waits(void *arg)
{
	const enum way way = child_way;
	const int set = way == BY_INHERITED ? child_set : set_of(way, pair.b);

	(void)arg;
	T_EQ(is_told(way, pair.b, set, 0), false);
	say(to_parent);
	hear(to_child);
	T_EQ(is_told(way, pair.b, set, 2000), true);
	t_recv(pair.b, BURST - TAKEN, 3, TAKEN);
	T_EQ(is_told(way, pair.b, set, 0), false);
	say(to_parent);
}

/* The parent has used the stream; a child waits for it, and then the parent leaves bytes. */
static void parent_leaves(enum way way)
{
	pid_t pid;

	make_pipes();
	t_open_hot(&pair);
	child_way = way;
	if (way == BY_INHERITED) {
		child_set = set_of(way, pair.b);
		T_EQ(is_told(way, pair.b, child_set, 0), false);
	}
	pid = t_child(child_waits, NULL);
	hear(to_parent);
	t_send(pair.a, BURST, 3, 0);
	t_recv(pair.b, TAKEN, 3, 0);
	say(to_child);
	hear(to_parent);
	t_join(pid);
	/* The parent alone again. */
	t_hot(&pair);
	t_close(&pair);
	if (way == BY_INHERITED)
		T_OK(close(child_set));
	drop_pipes();
}

static void child_receives(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		t_recv(pair.b, 700, 4, 0);
		t_send(pair.b, 700, 5, 0);
	}
	say(to_parent);
	hear(to_child);
	t_recv(pair.b, TAKEN, 3, 0);
	say(to_parent);
	hear(to_child);
}

/* A connection that only the child has used, and taken to the ring, so far. */
static void child_leaves(enum way way)
{
	const int set = (int)T_OK(epoll_create1(0));
	struct epoll_event event = {.events = EPOLLIN | (way == BY_EDGE ? EPOLLET : 0)};
	pid_t pid;

	make_pipes();
	t_open(&pair, T_V4);
	pid = t_child(child_receives, NULL);
	for (int i = 0; i < 200; i++) {
		t_send(pair.a, 700, 4, 0);
		t_recv(pair.a, 700, 5, 0);
	}
	hear(to_parent);
	t_send(pair.a, BURST, 3, 0);
	say(to_child);
	hear(to_parent);
	T_OK(epoll_ctl(set, EPOLL_CTL_ADD, pair.b, &event));
	T_EQ(is_told(way, pair.b, set, 2000), true);
	t_recv(pair.b, BURST - TAKEN, 3, TAKEN);
	T_EQ(is_told(way, pair.b, set, 0), false);
	say(to_child);
	t_join(pid);
	t_close(&pair);
	T_OK(close(set));
	drop_pipes();
}

/* ---- who sleeps is woken by what the other one leaves -----------------------------------------
 */

/* How much the other takes of what has come: all that can lie in the kernel, or some of it. */
static const size_t takes[] = {BURST - 1, TAKEN};
static size_t rest;

static void child_sleeps(void *arg)
{
	const struct sched_param none = {0};
	const enum way way = child_way;
	const int set = set_of(way, pair.b);

	(void)arg;
	for (int i = 0; i < 200; i++) {
		t_recv(pair.b, 700, 4, 0);
		t_send(pair.b, 700, 5, 0);
	}
	T_OK(sched_setscheduler(0, SCHED_IDLE, &none));
	say(to_parent);
	T_EQ(is_told(way, pair.b, set, 10000), true);
	hear(to_child);
	t_recv(pair.b, rest, 3, BURST - rest);
	T_EQ(is_told(way, pair.b, set, 0), false);
}

/*
 * The child alone has received so far, and sleeps when the ring is opened. Its parent receives for
 * the first time, and leaves bytes, before the child runs again: on this very processor, when the
 * parent has nothing to do.
 */
static void child_is_woken(enum way way, size_t taken)
{
	cpu_set_t all, one;
	pid_t pid;

	T_OK(sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	T_OK(sched_setaffinity(0, sizeof(one), &one));
	make_pipes();
	t_open(&pair, T_V4);
	child_way = way;
	rest = BURST - taken;
	pid = t_child(child_sleeps, NULL);
	for (int i = 0; i < 200; i++) {
		t_send(pair.a, 700, 4, 0);
		t_recv(pair.a, 700, 5, 0);
	}
	hear(to_parent);
	t_wait_asleep(pid);
	t_send(pair.a, BURST, 3, 0);
	t_recv(pair.b, taken, 3, 0);
	say(to_child);
	t_join(pid);
	t_close(&pair);
	drop_pipes();
	T_OK(sched_setaffinity(0, sizeof(all), &all));
}

/* ---- by ring all the same ---------------------------------------------------------------------
 */

static void both_ways(int out, int in, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		t_send(out, 1000, 6, 0);
		t_recv(in, 1000, 6, 0);
	}
}

static void receives_once(void *arg)
{
	(void)arg;
	t_recv(pair.b, 10, 3, 0);
}

/* A child that receives makes it TCP; it is over with the child. */
static void alone_again(void)
{
	struct t_stream stream;
	uint64_t moved;
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(receives_once, NULL);
	t_send(pair.a, 10, 3, 0);
	t_join(pid);
	if (t_stream(pair.b, &stream))
		T_CHECK(t_mode() != T_RING || !strcmp(stream.reason, "receivers"));
	moved = t_moved_begin(pair.a);
	both_ways(pair.a, pair.b, 500);
	t_moved_end(pair.a, moved);
	t_close(&pair);
}

#define BULK (4u << 20)

static void sends_all(void *arg)
{
	(void)arg;
	t_send(pair.b, BULK, 7, 0);
}

static void echoes(void *arg)
{
	static uint8_t buf[65536];
	size_t left = BULK;
	ssize_t n;

	(void)arg;
	while (left) {
		n = T_OK(recv(pair.a, buf, sizeof(buf), 0));
		T_CHECK(n > 0);
		left -= (size_t)n;
		for (ssize_t done = 0; done < n;)
			done += T_OK(send(pair.a, buf + done, (size_t)(n - done), 0));
	}
}

/* The client that forks: a child sends, the parent receives what comes back. */
static void child_only_sends(void)
{
	struct t_stream before = {0}, after = {0};
	struct t_thread echo;
	uint64_t ring, tcp;
	pid_t pid;

	t_open_hot(&pair);
	(void)t_stream(pair.b, &before);
	pid = t_child(sends_all, NULL);
	t_thread_start(&echo, echoes, NULL);
	t_recv(pair.b, BULK, 7, 0);
	t_join(pid);
	t_thread_join(&echo);
	if (t_stream(pair.b, &after) && t_mode() == T_RING) {
		ring = after.rx_ring_bytes - before.rx_ring_bytes;
		tcp = after.rx_tcp_bytes - before.rx_tcp_bytes;
		printf("received by ring: %llu of %llu\n", (unsigned long long)ring,
		       (unsigned long long)(ring + tcp));
		T_CHECK(strcmp(after.reason, "receivers") != 0);
		T_CHECK(ring > 0);
	}
	t_close(&pair);
}

int main(void)
{
	for (int way = 0; way < WAYS; way++)
		parent_leaves((enum way)way);
	for (int way = 0; way < BY_INHERITED; way++)
		child_leaves((enum way)way);
	for (int way = 0; way < BY_INHERITED; way++)
		for (size_t i = 0; i < sizeof(takes) / sizeof(takes[0]); i++)
			child_is_woken((enum way)way, takes[i]);
	alone_again();
	child_only_sends();
	return 0;
}
