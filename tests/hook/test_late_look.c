// SPDX-License-Identifier: Apache-2.0
/*
 * With the policy "auto" a number is not looked at before it has been used for a while. Whatever
 * went on meanwhile counts: a receiver or sender that is still in the kernel, by another thread, or
 * by the parent of a fork; one that was cancelled, or left by a jump; a shutdown, a flag, a
 * duplicate, an epoll set. Then the stream moves, and each byte is in its place.
 */

#include <setjmp.h>
#include <sys/epoll.h>

#include "t.h"

#define USES 64 /* more than it takes */

static struct t_pair pair;
static sigjmp_buf out;

/* From a to b, and back if @both. */
static void use(bool both)
{
	for (int i = 0; i < USES; i++) {
		t_send(pair.a, 100, 3, 0);
		t_recv(pair.b, 100, 3, 0);
		if (both) {
			t_send(pair.b, 100, 4, 0);
			t_recv(pair.a, 100, 4, 0);
		}
	}
}

static void moves(void)
{
	uint64_t begin;

	t_warm(&pair);
	t_hot(&pair);
	begin = t_moved_begin(pair.a);
	t_send(pair.a, 5000, 3, 0);
	t_recv(pair.b, 5000, 3, 0);
	t_moved_end(pair.a, begin);
	begin = t_moved_begin(pair.b);
	t_send(pair.b, 5000, 4, 0);
	t_recv(pair.a, 5000, 4, 0);
	t_moved_end(pair.b, begin);
}

#define BULK 2000000

static void receives(void *arg)
{
	t_recv(*(int *)arg, BULK, 5, 0);
}

/* The end that has one inside does not follow the ring, though the other is ready. */
static void not_attached(void)
{
	const int64_t start = t_now_ms();
	struct t_stream end;

	if (t_mode() != T_RING)
		return;
	do {
		use(false);
		T_ELAPSED(start, 0, 10000);
	} while (!t_stream(pair.b, &end) || strcmp(end.reason, "none") != 0);
	use(false);
	T_CHECK(t_stream(pair.a, &end) && strcmp(end.reason, "none") != 0);
}

/* What it waits for comes while the other end would use a ring. */
static void receiver_inside(bool with_dup)
{
	struct t_thread reader;
	int copy = -1;

	t_open(&pair, T_V4);
	t_thread_start(&reader, receives, &pair.a);
	t_wait_asleep(reader.tid);
	if (with_dup) {
		copy = (int)T_OK(dup(pair.a));
		for (int i = 0; i < USES; i++) {
			t_send(copy, 100, 3, 0);
			t_recv(pair.b, 100, 3, 0);
		}
	}
	use(false);
	not_attached();
	for (int at = 0; at < BULK; at += 1000)
		t_send(pair.b, 1000, 5, (uint64_t)at);
	t_thread_join(&reader);
	moves();
	if (with_dup)
		T_OK(close(copy));
	t_close(&pair);
}

static uint8_t block[4 << 20];

static void sends_block(void *arg)
{
	const struct iovec iov = {block, sizeof(block)};

	(void)arg;
	T_EQ(T_OK(writev(pair.a, &iov, 1)), sizeof(block));
}

/* Where its bytes lie between the others is nobody's to say: all are the same. */
static void sender_inside(void)
{
	const size_t all = sizeof(block) + (size_t)USES * 100;
	static uint8_t got[1 << 16];
	struct t_thread writer;
	size_t sum = 0;
	int sent = 0;

	t_open(&pair, T_V4);
	t_thread_start(&writer, sends_block, NULL);
	t_wait_asleep(writer.tid);
	while (sum < all) {
		if (sent < USES) {
			const ssize_t n = send(pair.a, block, 100, MSG_DONTWAIT);

			T_CHECK(n == 100 || (n < 0 && errno == EAGAIN));
			sent += n == 100;
		}
		for (ssize_t n = 0; n >= 0 && sum < all;) {
			n = recv(pair.b, got, sizeof(got), MSG_DONTWAIT);
			T_CHECK(n > 0 || errno == EAGAIN);
			for (ssize_t i = 0; i < n; i++)
				T_EQ(got[i], 0);
			sum += n > 0 ? (size_t)n : 0;
		}
	}
	t_thread_join(&writer);
	moves();
	t_close(&pair);
}

static void leaves(int signal)
{
	(void)signal;
	siglongjmp(out, 1);
}

static void *waits(void *arg)
{
	uint8_t byte;

	__atomic_store_n((pid_t *)arg, gettid(), __ATOMIC_RELEASE);
	if (!sigsetjmp(out, 1))
		recv(pair.a, &byte, 1, 0);
	return NULL;
}

/* The wait that is over must not count for ever. */
static void receiver_gone(bool by_jump)
{
	pid_t tid = 0;
	pthread_t thread;

	t_open(&pair, T_V4);
	T_EQ(pthread_create(&thread, NULL, waits, &tid), 0);
	while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		sched_yield();
	t_wait_asleep(tid);
	use(false);
	T_EQ(by_jump ? pthread_kill(thread, SIGUSR1) : pthread_cancel(thread), 0);
	T_EQ(pthread_join(thread, NULL), 0);
	moves();
	t_close(&pair);
}

static void child_sends(void *arg)
{
	(void)arg;
	for (int i = 0; i < USES; i++)
		t_send(pair.a, 1000, 3, 0);
}

static void forked(void)
{
	struct t_thread reader;
	pid_t child;

	t_open(&pair, T_V4);
	t_thread_start(&reader, receives, &pair.a);
	t_wait_asleep(reader.tid);
	child = t_child(child_sends, NULL);
	for (int i = 0; i < USES; i++)
		t_recv(pair.b, 1000, 3, 0);
	t_join(child);
	for (int at = 0; at < BULK; at += 1000)
		t_send(pair.b, 1000, 5, (uint64_t)at);
	t_thread_join(&reader);
	use(true);
	t_close(&pair);
}

static void *answers(void *arg)
{
	(void)arg;
	for (int at = 0; at < BULK; at += 1000)
		t_send(pair.b, 1000, 5, (uint64_t)at);
	T_OK(close(pair.b));
	return NULL;
}

/* One end is shut down at its second call: the other goes on, and moves. */
static void half_closed(void)
{
	pthread_t thread;
	uint8_t byte;

	t_open(&pair, T_V4);
	t_send(pair.a, 100, 3, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	t_recv(pair.b, 100, 3, 0);
	T_EQ(T_OK(recv(pair.b, &byte, 1, 0)), 0);
	T_EQ(pthread_create(&thread, NULL, answers, NULL), 0);
	T_EQ(t_recv_rest(pair.a, 5, 0), BULK);
	T_EQ(pthread_join(thread, NULL), 0);
	T_ERR(send(pair.a, "x", 1, MSG_NOSIGNAL), EPIPE);
	T_OK(close(pair.a));
}

static void nonblocking(void)
{
	uint8_t byte;

	t_open(&pair, T_V4);
	t_send(pair.a, 1, 3, 0);
	t_set_nonblock(pair.b, true);
	T_EQ(T_OK(recv(pair.b, &byte, 1, 0)), 1);
	for (int i = 0; i < USES; i++) {
		t_send(pair.b, 100, 4, 0);
		t_recv(pair.a, 100, 4, 0);
	}
	T_ERR(recv(pair.b, &byte, 1, 0), EAGAIN);
	t_set_nonblock(pair.b, false);
	moves();
	t_close(&pair);
}

/* In the set before anything is known of it; edges, so that none may be missed. */
static void in_set(uint32_t events)
{
	const int epfd = (int)T_OK(epoll_create1(0));
	struct epoll_event event = {.events = events, .data.u64 = 7};

	t_open(&pair, T_V4);
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	for (int i = 0; i < 20 * USES; i++) {
		t_send(pair.a, 100, 3, 0);
		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 4000)), 1);
		T_EQ(event.data.u64, 7);
		t_recv(pair.b, 100, 3, 0);
		t_send(pair.b, 100, 4, 0);
		t_recv(pair.a, 100, 4, 0);
	}
	moves();
	T_OK(close(epfd));
	t_close(&pair);
}

/* What is used once or twice is what it is; so is what gets its number. */
static void short_ones(void)
{
	for (int i = 0; i < 200; i++) {
		t_open(&pair, i % 2 ? T_V6 : T_V4);
		t_send(pair.a, 100, 3, 0);
		t_recv(pair.b, 100, 3, 0);
		t_send(pair.b, 100, 4, 0);
		t_recv(pair.a, 100, 4, 0);
		t_close(&pair);
	}
	t_open(&pair, T_V4);
	moves();
	t_close(&pair);
}

int main(int argc, char **argv)
{
	const struct sigaction leave = {.sa_handler = leaves};

	(void)argc;
	if (strcmp(getenv("COLOC_POLICY") ?: "", "auto") != 0) {
		T_EQ(setenv("COLOC_POLICY", "auto", 1), 0);
		T_EQ(setenv("COLOC_SWITCH_BYTES", "0", 1), 0);
		T_EQ(setenv("COLOC_SWITCH_MESSAGE_BYTES", "0", 1), 0);
		T_EQ(setenv("COLOC_SWITCH_OPEN_GAP_US", "1000000", 1), 0);
		T_OK(execv("/proc/self/exe", argv));
	}
	T_EQ(sigaction(SIGUSR1, &leave, NULL), 0);
	short_ones();
	receiver_inside(false);
	receiver_inside(true);
	sender_inside();
	receiver_gone(false);
	receiver_gone(true);
	forked();
	half_closed();
	nonblocking();
	in_set(EPOLLIN);
	in_set(EPOLLIN | EPOLLET);
	return 0;
}
