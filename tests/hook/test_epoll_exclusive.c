// SPDX-License-Identifier: Apache-2.0
/*
 * EPOLLEXCLUSIVE: of several threads, each with a set of its own, at least one wakes for every
 * message, and what the kernel refuses is refused; and with no interest at all an error and a
 * hang-up are told. HAZARDS 28, 29.
 */

#include <sys/epoll.h>

#include "t.h"

#define WAITERS	 3
#define MESSAGES 200

static struct t_pair pair;
static int stop[2];
static int taken;

static void add(int epfd, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

/* Takes a byte each time it is told of one, if no other was quicker. */
static void waiter(void *arg)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));

	(void)arg;
	add(epfd, pair.b, EPOLLIN | EPOLLEXCLUSIVE);
	add(epfd, stop[0], EPOLLIN);
	for (;;) {
		struct epoll_event event;
		uint8_t byte;

		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 10000)), 1);
		if (event.data.fd == stop[0])
			break;
		T_EQ(event.data.fd, pair.b);
		if (recv(pair.b, &byte, 1, MSG_DONTWAIT) == 1) {
			T_EQ(byte, 'm');
			__atomic_add_fetch(&taken, 1, __ATOMIC_RELEASE);
			T_EQ(T_OK(send(pair.b, "a", 1, 0)), 1);
		} else {
			T_EQ(errno, EAGAIN);
		}
	}
	T_OK(close(epfd));
}

static void one_wakes(void)
{
	struct t_thread threads[WAITERS];
	uint8_t byte;

	t_open_hot(&pair);
	T_OK(pipe(stop));
	for (int i = 0; i < WAITERS; i++)
		t_thread_start(&threads[i], waiter, NULL);
	for (int i = 0; i < MESSAGES; i++) {
		if (i % 10 == 0)
			for (int k = 0; k < WAITERS; k++)
				t_wait_asleep(threads[k].tid);
		T_EQ(T_OK(send(pair.a, "m", 1, 0)), 1);
		T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 1);
	}
	T_EQ(__atomic_load_n(&taken, __ATOMIC_ACQUIRE), MESSAGES);
	T_EQ(T_OK(write(stop[1], "x", 1)), 1);
	for (int i = 0; i < WAITERS; i++)
		t_thread_join(&threads[i]);
	T_OK(close(stop[0]));
	T_OK(close(stop[1]));
	t_close(&pair);
}

static void refused(void)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	const int inner = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT};

	t_open_hot(&pair);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event), EINVAL);
	event.events = EPOLLIN | EPOLLEXCLUSIVE;
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, inner, &event), EINVAL);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_MOD, pair.b, &event), EINVAL);
	add(epfd, pair.b, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
	event.events = EPOLLIN;
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_MOD, pair.b, &event), EINVAL);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, epfd, &event), EINVAL);
	T_ERR(epoll_ctl(pair.a, EPOLL_CTL_ADD, pair.b, &event), EINVAL);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, 777, &event), EBADF);
	T_ERR(epoll_ctl(epfd, 99, pair.b, &event), EINVAL);
	t_send(pair.a, 10, 3, 0);
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 1000)), 1);
	t_recv(pair.b, 10, 3, 0);
	T_OK(close(inner));
	T_OK(close(epfd));
	t_close(&pair);
}

/* Asked for nothing: an error and a hang-up are told all the same, of a reset at once. */
static void always_told(void)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct epoll_event event;

	t_open_hot(&pair);
	add(epfd, pair.b, 0);
	t_send(pair.a, 10, 3, 0);
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 0)), 0);
	t_recv(pair.b, 10, 3, 0);
	T_OK(setsockopt(pair.a, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	T_OK(close(pair.a));
	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 2000)), 1);
	T_EQ(event.events, EPOLLERR | EPOLLHUP);
	T_OK(close(pair.b));
	T_OK(close(epfd));
}

int main(void)
{
	one_wakes();
	refused();
	always_told();
	return 0;
}
