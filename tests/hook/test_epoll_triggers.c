// SPDX-License-Identifier: Apache-2.0
/*
 * epoll, one set: level, edge, oneshot, MOD, DEL, RDHUP; epoll_data comes back untouched.
 * HAZARDS 27, 28, 29.
 */

#include <sys/epoll.h>

#include "t.h"

#define TAG 0xfedcba9876543210ULL

static struct t_pair pair;
static int epfd;

static void control(int op, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = TAG};

	T_OK(epoll_ctl(epfd, op, pair.b, &event));
	T_EQ(event.events, events);
	T_EQ(event.data.u64, TAG);
}

/* The events told for pair.b within @ms; 0 = none. */
static uint32_t wait_events(int ms)
{
	struct epoll_event events[4];
	int n;

	memset(events, 0x55, sizeof(events));
	n = (int)T_OK(epoll_wait(epfd, events, 4, ms));
	T_CHECK(n <= 1);
	T_EQ(events[1].events, 0x55555555); /* what was not told is not touched */
	if (n)
		T_EQ(events[0].data.u64, TAG);
	return n ? events[0].events : 0;
}

static void level(void)
{
	uint64_t moved = t_moved_begin(pair.a);

	control(EPOLL_CTL_ADD, EPOLLIN);
	for (int i = 0; i < 20; i++) {
		T_EQ(wait_events(0), 0);
		t_send(pair.a, 100, 3, 0);
		T_EQ(wait_events(1000), EPOLLIN);
		T_EQ(wait_events(0), EPOLLIN);
		t_recv(pair.b, 50, 3, 0);
		T_EQ(wait_events(0), EPOLLIN);
		t_recv(pair.b, 50, 3, 50);
		T_EQ(wait_events(i % 5 ? 0 : 5), 0);
		t_hot(&pair);
	}
	t_moved_end(pair.a, moved);
	control(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
	T_EQ(wait_events(0), EPOLLOUT);
	t_send(pair.a, 1, 3, 0);
	T_EQ(wait_events(1000) & EPOLLOUT, EPOLLOUT);
	t_recv(pair.b, 1, 3, 0);
}

/* An edge per arrival: told once, told again when more comes though the old is unread. */
static void edge(void)
{
	control(EPOLL_CTL_MOD, EPOLLIN | EPOLLET);
	T_EQ(wait_events(0), 0);
	for (int i = 0; i < 20; i++) {
		t_send(pair.a, 100, 3, 0);
		T_EQ(wait_events(1000), EPOLLIN);
		T_EQ(wait_events(0), 0);
		t_recv(pair.b, 10, 3, 0);
		T_EQ(wait_events(i % 5 ? 0 : 5), 0);
		t_send(pair.a, 100, 4, 0);
		T_EQ(wait_events(1000), EPOLLIN);
		t_recv(pair.b, 90, 3, 10);
		t_recv(pair.b, 100, 4, 0);
		T_EQ(wait_events(0), 0);
		t_hot(&pair);
		wait_events(0); /* the edges of that */
	}
	/* Read until EAGAIN, as edge-triggered programs do: the next arrival is an edge. */
	for (int i = 0; i < 50; i++) {
		uint8_t byte;

		t_send(pair.a, 1, 3, 0);
		T_EQ(wait_events(1000), EPOLLIN);
		t_recv(pair.b, 1, 3, 0);
		T_ERR(recv(pair.b, &byte, 1, MSG_DONTWAIT), EAGAIN);
	}
	/* MOD tells anew what is already there. */
	t_send(pair.a, 10, 3, 0);
	T_EQ(wait_events(1000), EPOLLIN);
	control(EPOLL_CTL_MOD, EPOLLIN | EPOLLET);
	T_EQ(wait_events(1000), EPOLLIN);
	T_EQ(wait_events(0), 0);
	t_recv(pair.b, 10, 3, 0);
}

static void oneshot(void)
{
	control(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
	for (int i = 0; i < 20; i++) {
		t_hot(&pair);
		wait_events(0);
		control(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
		t_send(pair.a, 100, 3, 0);
		T_EQ(wait_events(1000), EPOLLIN);
		T_EQ(wait_events(0), 0);
		t_send(pair.a, 100, 3, 100);
		T_EQ(wait_events(i % 5 ? 0 : 5), 0); /* disarmed */
		control(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
		T_EQ(wait_events(1000), EPOLLIN);
		t_recv(pair.b, 200, 3, 0);
	}
	/* Disarmed with no interest at all: even the end of stream is not told. */
	control(EPOLL_CTL_MOD, 0);
	t_send(pair.a, 10, 3, 0);
	T_EQ(wait_events(5), 0);
	t_recv(pair.b, 10, 3, 0);
}

/* Taken out and put back with unread bytes: told at once. */
static void removed_and_back(void)
{
	struct epoll_event event;

	t_hot(&pair);
	control(EPOLL_CTL_MOD, EPOLLIN);
	T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	t_send(pair.a, 10, 3, 0);
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 5)), 0);
	control(EPOLL_CTL_ADD, EPOLLIN | EPOLLET);
	T_EQ(wait_events(1000), EPOLLIN);
	T_EQ(wait_events(0), 0);
	t_recv(pair.b, 10, 3, 0);
	event = (struct epoll_event){.events = EPOLLIN};
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event), EEXIST);
	T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL), ENOENT);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_MOD, pair.b, &event), ENOENT);
	T_ERR(epoll_wait(epfd, &event, 0, 0), EINVAL);
	control(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
}

static void hang_up(void)
{
	int64_t start;

	t_hot(&pair);
	t_send(pair.a, 1000, 3, 0);
	T_EQ(wait_events(1000), EPOLLIN);
	T_OK(shutdown(pair.a, SHUT_WR));
	/* The end is on its way; it is told of beside the unread bytes. */
	start = t_now_ms();
	while (wait_events(1000) != (EPOLLIN | EPOLLRDHUP))
		T_CHECK(t_now_ms() - start < 1000);
	T_EQ(t_recv_rest(pair.b, 3, 0), 1000);
	T_EQ(wait_events(0), EPOLLIN | EPOLLRDHUP);
	T_OK(shutdown(pair.b, SHUT_WR));
	T_EQ(wait_events(1000), EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

int main(void)
{
	t_open_hot(&pair);
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	level();
	edge();
	oneshot();
	removed_and_back();
	hang_up();
	T_OK(close(epfd));
	t_close(&pair);
	return 0;
}
