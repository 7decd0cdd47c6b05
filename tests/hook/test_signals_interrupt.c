// SPDX-License-Identifier: Apache-2.0
/*
 * A signal ends a wait as the kernel does it: recv restarts with SA_RESTART and gives EINTR
 * without; poll, select and epoll_wait never restart; a masked signal in ppoll counts. HAZARDS
 * 20, 21.
 */

#include <sys/epoll.h>
#include <sys/select.h>

#include "t.h"

static struct t_pair pair;
static pid_t waiter; /* the main thread */

static void interrupt(void *arg)
{
	(void)arg;
	t_wait_asleep(waiter);
	T_OK(kill(waiter, SIGUSR1));
}

/* Interrupts, and then sends; the call that restarts gets the bytes. */
static void interrupt_and_send(void *arg)
{
	interrupt(arg);
	t_wait_asleep(waiter);
	t_send(pair.a, 100, 3, 0);
}

static void block_here(bool block)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	T_EQ(pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL), 0);
}

/* Started with the signal blocked, so that it goes to the main thread. */
static void start(struct t_thread *thread, void (*fn)(void *))
{
	t_hot(&pair);
	t_signals = 0;
	block_here(true);
	t_thread_start(thread, fn, NULL);
	block_here(false);
}

static void finish(struct t_thread *thread)
{
	T_EQ(t_signals, 1);
	t_thread_join(thread);
}

static void recv_calls(void)
{
	struct timeval time = {.tv_sec = 4};
	struct t_thread other;
	uint8_t buf[100];

	t_on_signal(SIGUSR1, 0);
	start(&other, interrupt);
	T_ERR(recv(pair.b, buf, sizeof(buf), 0), EINTR);
	finish(&other);
	start(&other, interrupt);
	T_ERR(read(pair.b, buf, sizeof(buf)), EINTR);
	finish(&other);

	t_on_signal(SIGUSR1, SA_RESTART);
	start(&other, interrupt_and_send);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), 100);
	finish(&other);
	t_verify(buf, 100, 3, 0);

	/* With a time-out on the socket it does not restart. */
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)));
	start(&other, interrupt);
	T_ERR(recv(pair.b, buf, sizeof(buf), 0), EINTR);
	finish(&other);
	time.tv_sec = 0;
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)));
}

/* What had come is given; the rest of a wait for all is given up. */
static void partial_waitall(void)
{
	struct t_thread other;
	uint8_t buf[100];

	t_on_signal(SIGUSR1, SA_RESTART);
	t_hot(&pair);
	t_send(pair.a, 30, 3, 0);
	t_signals = 0;
	block_here(true);
	t_thread_start(&other, interrupt, NULL);
	block_here(false);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), 30);
	finish(&other);
	t_verify(buf, 30, 3, 0);
}

static void readiness_calls(void)
{
	const struct timespec four = {.tv_sec = 4};
	struct timeval time = {.tv_sec = 4};
	struct pollfd set = {pair.b, POLLIN, 0};
	struct epoll_event event = {.events = EPOLLIN};
	struct t_thread other;
	sigset_t none;
	fd_set fds;
	int epfd;

	t_on_signal(SIGUSR1, SA_RESTART);
	start(&other, interrupt);
	T_ERR(poll(&set, 1, 4000), EINTR);
	finish(&other);
	start(&other, interrupt);
	T_ERR(ppoll(&set, 1, &four, NULL), EINTR);
	finish(&other);
	FD_ZERO(&fds);
	FD_SET(pair.b, &fds);
	start(&other, interrupt);
	T_ERR(select(pair.b + 1, &fds, NULL, NULL, &time), EINTR);
	finish(&other);

	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	start(&other, interrupt);
	T_ERR(epoll_wait(epfd, &event, 1, 4000), EINTR);
	finish(&other);

	/* Pending and blocked: only the mask given to the call lets it in. */
	t_hot(&pair);
	t_signals = 0;
	block_here(true);
	T_OK(kill(waiter, SIGUSR1));
	sigemptyset(&none);
	T_EQ(t_signals, 0);
	T_ERR(ppoll(&set, 1, &four, &none), EINTR);
	T_EQ(t_signals, 1);
	T_OK(kill(waiter, SIGUSR1));
	FD_SET(pair.b, &fds);
	T_ERR(pselect(pair.b + 1, &fds, NULL, NULL, &four, &none), EINTR);
	T_EQ(t_signals, 2);
	T_OK(kill(waiter, SIGUSR1));
	T_ERR(epoll_pwait(epfd, &event, 1, 4000, &none), EINTR);
	T_EQ(t_signals, 3);
	block_here(false);
	T_OK(close(epfd));
}

int main(void)
{
	waiter = getpid();
	t_open_hot(&pair);
	recv_calls();
	partial_waitall();
	readiness_calls();
	t_close(&pair);
	return 0;
}
