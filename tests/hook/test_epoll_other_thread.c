// SPDX-License-Identifier: Apache-2.0
/*
 * One thread sleeps in epoll_wait while others read, re-arm and add: no wake-up is lost. First the
 * event loop with a worker (oneshot), then a sleeper that sees a stream added with bytes already in
 * it, then a worker that reads what the sleeper waits for, then the move under a sleeper.
 * HAZARDS 23, 24, 28.
 */

#include <sys/epoll.h>

#include "t.h"

#define ROUNDS 2000

static struct t_pair pair;
static int epfd, work[2]; /* pipe: loop -> worker */

static void arm(int op, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = pair.b};

	T_OK(epoll_ctl(epfd, op, pair.b, &event));
}

/* Told of readiness; the worker reads and re-arms while this thread is back in epoll_wait. */
static void event_loop(void *arg)
{
	struct epoll_event event;

	(void)arg;
	for (;;) {
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 4000)), 1);
		if (event.data.fd < 0)
			return;
		T_EQ(event.data.fd, pair.b);
		T_EQ(T_OK(write(work[1], "w", 1)), 1);
	}
}

/* Echoes what there is, then re-arms. */
static void worker(void *arg)
{
	uint8_t buf[4096];
	char token;

	(void)arg;
	while (T_OK(read(work[0], &token, 1)) == 1) {
		for (;;) {
			const ssize_t n = recv(pair.b, buf, sizeof(buf), MSG_DONTWAIT);

			if (n < 0) {
				T_EQ(errno, EAGAIN);
				break;
			}
			T_EQ(T_OK(send(pair.b, buf, (size_t)n, 0)), n);
		}
		arm(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
	}
}

/* Each message may find the loop asleep, and then goes by TCP: whether it moved is not asked. */
static void loop_and_worker(void)
{
	const int64_t start = t_now_ms();
	struct epoll_event stop = {.events = EPOLLIN, .data.fd = -1};
	struct t_thread loop, helper;
	int stop_ends[2];

	T_OK(pipe(work));
	T_OK(pipe(stop_ends));
	arm(EPOLL_CTL_ADD, EPOLLIN | EPOLLONESHOT);
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, stop_ends[0], &stop));
	t_thread_start(&loop, event_loop, NULL);
	t_thread_start(&helper, worker, NULL);
	for (int i = 0; i < ROUNDS && t_now_ms() - start < 2000; i++) {
		/* Large ones go by the ring however short the stream stays there. */
		const size_t len = 1 + (size_t)i * 37 % 20000;

		t_send(pair.a, len, 3, 0);
		t_recv(pair.a, len, 3, 0);
	}
	T_EQ(T_OK(write(stop_ends[1], "x", 1)), 1);
	t_thread_join(&loop);
	T_OK(close(work[1]));
	t_thread_join(&helper);
	T_OK(close(work[0]));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, stop_ends[0], NULL));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	T_OK(close(stop_ends[0]));
	T_OK(close(stop_ends[1]));
}

static void wait_and_read(void *arg)
{
	struct epoll_event event;

	(void)arg;
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 4000)), 1);
	T_EQ(event.data.fd, pair.b);
	t_recv(pair.b, 100, 3, 0);
}

/* The sleeper's set is empty; a stream with unread bytes is added by another thread. */
static void added_with_bytes(void)
{
	struct t_thread sleeper;

	for (int i = 0; i < 10; i++) {
		t_hot(&pair);
		t_send(pair.a, 100, 3, 0);
		t_thread_start(&sleeper, wait_and_read, NULL);
		t_wait_asleep(sleeper.tid);
		arm(EPOLL_CTL_ADD, i % 2 ? EPOLLIN : EPOLLIN | EPOLLET);
		t_thread_join(&sleeper);
		T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	}
}

/* While one sleeps on it, another reads it by a plain recv; what comes next wakes the sleeper. */
static void read_beside_sleeper(void)
{
	struct t_thread sleeper;
	struct epoll_event event;

	for (int i = 0; i < 20; i++) {
		arm(EPOLL_CTL_ADD, EPOLLIN | EPOLLONESHOT);
		t_send(pair.a, 50, 4, 0);
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 1000)), 1);
		t_thread_start(&sleeper, wait_and_read, NULL);
		t_wait_asleep(sleeper.tid);
		/* This read makes the direction busy again under the sleeper. */
		t_recv(pair.b, 50, 4, 0);
		t_hot(&pair);
		arm(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
		t_send(pair.a, 100, 3, 0);
		t_thread_join(&sleeper);
		T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	}
}

static void wait_mark(void *arg)
{
	struct epoll_event event;

	(void)arg;
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 4000)), 1);
	T_EQ(event.data.fd, pair.b);
}

/* A thread sleeps in epoll_wait with hang-up interest alone while the stream moves; then it ends.
 */
static void moves_under_sleeper(void)
{
	struct t_thread sleeper;

	t_open(&pair, T_V4);
	arm(EPOLL_CTL_ADD, EPOLLRDHUP);
	t_thread_start(&sleeper, wait_mark, NULL);
	t_wait_asleep(sleeper.tid);
	t_warm(&pair);
	t_hot(&pair);
	T_OK(shutdown(pair.a, SHUT_WR));
	t_thread_join(&sleeper);
	t_close(&pair);
}

int main(void)
{
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	t_open_hot(&pair);
	loop_and_worker();
	added_with_bytes();
	read_beside_sleeper();
	t_close(&pair);
	moves_under_sleeper();
	T_OK(close(epfd));
	return 0;
}
