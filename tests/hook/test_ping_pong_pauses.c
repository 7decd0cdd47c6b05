// SPDX-License-Identifier: Apache-2.0
/*
 * Two processes ping-pong with pauses of every length around the spin, with a busy and a sleepy
 * side, by blocking calls and by poll: a lost wake-up would show as a hang. HAZARDS 20, 24, 48.
 */

#include "t.h"

#define RUN_MS 1500

static struct t_pair pair;

/* 0 to about 400 microseconds: shorter, as long as, and longer than a spin. */
static void pause_a_little(uint64_t i)
{
	const struct timespec gap = {.tv_nsec = (long)(i * 7919 % 400) * 1000};

	if (i % 3)
		nanosleep(&gap, NULL);
}

static void wait_readable(int fd, uint64_t i)
{
	struct pollfd set = {fd, POLLIN, 0};

	if (i % 2)
		T_EQ(T_OK(poll(&set, 1, 4000)), 1);
}

static void echo(void *arg)
{
	(void)arg;
	T_OK(close(pair.a));
	for (uint64_t i = 0;; i++) {
		uint8_t buf[16384];
		ssize_t n;

		wait_readable(pair.b, i / 2);
		n = (ssize_t)T_OK(recv(pair.b, buf, sizeof(buf), 0));
		if (!n)
			return;
		pause_a_little(i * 5);
		T_EQ(T_OK(send(pair.b, buf, (size_t)n, 0)), n);
	}
}

int main(void)
{
	static const size_t sizes[] = {1, 64, 3000, 40, 12000, 1, 500, 20000};
	const struct timeval limit = {.tv_sec = 4};
	int64_t start;
	uint64_t moved;
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(echo, NULL);
	T_OK(close(pair.b));
	/* A hang becomes EAGAIN, and that a failure. */
	T_OK(setsockopt(pair.a, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	moved = t_moved_begin(pair.a);
	start = t_now_ms();
	for (uint64_t i = 0; t_now_ms() - start < RUN_MS; i++) {
		const size_t len = sizes[i / 16 % T_LEN(sizes)];

		t_send(pair.a, len, 3, i);
		wait_readable(pair.a, i / 3);
		t_recv(pair.a, len, 3, i);
		pause_a_little(i);
	}
	t_moved_end(pair.a, moved);
	T_OK(shutdown(pair.a, SHUT_WR));
	T_EQ(t_recv_rest(pair.a, 3, 0), 0);
	t_join(pid);
	T_OK(close(pair.a));
	return 0;
}
