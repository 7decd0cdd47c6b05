// SPDX-License-Identifier: Apache-2.0
/*
 * A thread is cancelled, or its handler jumps away, while it sleeps in each kind of call on a moved
 * stream: others use the stream afterwards, both ways, blocking and by readiness, and no byte that
 * was not taken is lost. HAZARDS 21, 22.
 */

#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "t.h"

static struct t_pair pair;
static int epfd;
static pid_t tid;
static __thread sigjmp_buf back;

static uint8_t big[1 << 20];

static void in_recv(void)
{
	recv(pair.b, big, sizeof(big), 0);
}

static void in_waitall(void)
{
	recv(pair.b, big, sizeof(big), MSG_WAITALL);
}

static void in_readv(void)
{
	struct iovec vec[2] = {{big, 10}, {big + 10, 10}};

	(void)!readv(pair.b, vec, 2);
}

static void in_poll(void)
{
	struct pollfd set = {pair.b, POLLIN, 0};

	poll(&set, 1, -1);
}

static void in_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pair.b, &set);
	select(pair.b + 1, &set, NULL, NULL, NULL);
}

static void in_epoll(void)
{
	struct epoll_event event;

	epoll_wait(epfd, &event, 1, -1);
}

static void (*const calls[])(void) = {in_recv, in_waitall, in_readv, in_poll, in_select, in_epoll};

static void jump(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static bool by_jump;

static void *sleeper(void *arg)
{
	if (sigsetjmp(back, 1))
		return NULL;
	__atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
	calls[(size_t)(intptr_t)arg]();
	t_fail(__FILE__, __LINE__, "call %d returned", (int)(intptr_t)arg);
}

static void leave(size_t call)
{
	pthread_t thread;
	void *result;

	tid = 0;
	T_EQ(pthread_create(&thread, NULL, sleeper, (void *)(intptr_t)call), 0);
	while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		sched_yield();
	t_wait_asleep(tid);
	T_EQ(by_jump ? pthread_kill(thread, SIGUSR1) : pthread_cancel(thread), 0);
	T_EQ(pthread_join(thread, &result), 0);
	T_CHECK(result == (by_jump ? NULL : PTHREAD_CANCELED));
}

static void usable(void)
{
	struct pollfd set = {pair.b, POLLIN, 0};
	struct epoll_event event;

	for (int i = 0; i < 5; i++) {
		t_hot(&pair);
		t_send(pair.a, 5000, 3, 0);
		T_EQ(T_OK(poll(&set, 1, 2000)), 1);
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 2000)), 1);
		t_recv(pair.b, 5000, 3, 0);
		t_send(pair.b, 5000, 4, 0);
		t_recv(pair.a, 5000, 4, 0);
		T_EQ(T_OK(poll(&set, 1, 0)), 0);
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 0)), 0);
	}
}

/* Full both ways of the kernel: the writer sleeps; what it had handed over arrives in order. */
static void *writer(void *arg)
{
	uint64_t *sent = arg;
	uint8_t buf[1000];

	if (sigsetjmp(back, 1))
		return NULL;
	__atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
	for (;;) {
		t_fill(buf, sizeof(buf), 5, *sent);
		T_EQ(send(pair.a, buf, sizeof(buf), 0), sizeof(buf));
		*sent += sizeof(buf);
	}
}

static void leave_send(void)
{
	static uint64_t sent;
	pthread_t thread;
	uint64_t got;

	t_hot(&pair);
	tid = 0;
	sent = 0;
	T_EQ(pthread_create(&thread, NULL, writer, &sent), 0);
	while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		sched_yield();
	t_wait_asleep(tid);
	T_EQ(by_jump ? pthread_kill(thread, SIGUSR1) : pthread_cancel(thread), 0);
	T_EQ(pthread_join(thread, NULL), 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	/* Some or all of the message that it left may have gone, too. */
	got = t_recv_rest(pair.b, 5, 0);
	T_CHECK(got >= sent && got <= sent + 1000);
}

int main(void)
{
	const struct sigaction action = {.sa_handler = jump};
	struct epoll_event event = {.events = EPOLLIN};

	T_OK(sigaction(SIGUSR1, &action, NULL));
	for (int i = 0; i < 2; i++) {
		by_jump = i;
		t_open_hot(&pair);
		epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
		T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
		for (size_t k = 0; k < 2 * T_LEN(calls); k++) {
			t_hot(&pair);
			leave(k / 2);
			usable();
		}
		leave_send();
		T_OK(close(epfd));
		t_close(&pair);
	}
	return 0;
}
