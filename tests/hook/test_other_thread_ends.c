// SPDX-License-Identifier: Apache-2.0
/*
 * While one thread sleeps in a receive or a send on a moved stream, another's send gets through and
 * its shutdown wakes the sleeper; a cancelled thread leaves the stream usable. HAZARDS 21, 22.
 */

#include "t.h"

static struct t_pair pair;
static struct t_thread thread;
static uint64_t written;

static void read_to_end(void *arg)
{
	(void)arg;
	T_EQ(t_recv_rest(pair.b, 3, 0), 0);
}

static void reader_is_woken(int how)
{
	t_open_hot(&pair);
	t_thread_start(&thread, read_to_end, NULL);
	t_wait_asleep(thread.tid);
	/* The sleeping reader holds nothing that a sender on the same socket needs. */
	for (int i = 0; i < 10; i++) {
		t_send(pair.b, 5000, 4, 0);
		t_recv(pair.a, 5000, 4, 0);
	}
	T_OK(shutdown(pair.b, how));
	t_thread_join(&thread);
	t_close(&pair);
}

static void write_until_shut(void *arg)
{
	uint8_t buf[16384];

	(void)arg;
	for (;;) {
		ssize_t n;

		t_fill(buf, sizeof(buf), 3, written);
		n = send(pair.a, buf, sizeof(buf), MSG_NOSIGNAL);
		if (n < 0)
			break;
		written += (uint64_t)n;
	}
	T_EQ(errno, EPIPE);
}

static void writer_is_woken(void)
{
	t_open_hot(&pair);
	written = 0;
	t_thread_start(&thread, write_until_shut, NULL);
	t_wait_asleep(thread.tid);
	/* The same socket can be read, and what was sent before it is read in order. */
	t_send(pair.b, 5000, 4, 0);
	t_recv(pair.a, 5000, 4, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	t_thread_join(&thread);
	T_CHECK(t_recv_rest(pair.b, 3, 0) >= written);
	t_close(&pair);
}

static void *read_one(void *arg)
{
	uint8_t byte;

	(void)arg;
	__atomic_store_n(&thread.tid, gettid(), __ATOMIC_RELEASE);
	T_OK(recv(pair.b, &byte, 1, 0));
	return NULL;
}

static void cancelled(void)
{
	void *result;

	t_open_hot(&pair);
	thread.tid = 0;
	T_EQ(pthread_create(&thread.thread, NULL, read_one, NULL), 0);
	while (!__atomic_load_n(&thread.tid, __ATOMIC_ACQUIRE))
		sched_yield();
	t_wait_asleep(thread.tid);
	T_EQ(pthread_cancel(thread.thread), 0);
	T_EQ(pthread_join(thread.thread, &result), 0);
	T_CHECK(result == PTHREAD_CANCELED);
	t_hot(&pair);
	t_send(pair.a, 5000, 3, 0);
	t_recv(pair.b, 5000, 3, 0);
	t_close(&pair);
}

static void read_hundred(void *arg)
{
	(void)arg;
	t_recv(pair.b, 100, 3, 0);
}

/* close() does not wake a sleeper; its call goes on with the socket until that ends. */
static void closed_under_reader(void)
{
	t_open_hot(&pair);
	t_thread_start(&thread, read_hundred, NULL);
	t_wait_asleep(thread.tid);
	T_OK(close(pair.b));
	t_send(pair.a, 100, 3, 0);
	t_thread_join(&thread);
	T_EQ(t_recv_rest(pair.a, 3, 0), 0);
	T_OK(close(pair.a));
}

int main(void)
{
	closed_under_reader();
	reader_is_woken(SHUT_RD);
	reader_is_woken(SHUT_RDWR);
	writer_is_woken();
	cancelled();
	return 0;
}
