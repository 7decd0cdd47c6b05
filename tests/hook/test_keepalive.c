// SPDX-License-Identifier: Apache-2.0
/*
 * Under a busy ring the TCP connection is idle: keepalive probes and TCP_USER_TIMEOUT leave it
 * alone, SO_ERROR stays 0, and it carries bytes afterwards. HAZARDS 37.
 */

#include "t.h"

#define BUSY_MS 3500

static void set(int fd, int level, int name, int value)
{
	T_OK(setsockopt(fd, level, name, &value, sizeof(value)));
}

int main(void)
{
	struct t_pair pair;
	struct pollfd poll_set;
	socklen_t len = sizeof(int);
	uint64_t moved;
	int64_t start;
	int error = -1;

	t_open_hot(&pair);
	for (int i = 0; i < 2; i++) {
		const int fd = i ? pair.b : pair.a;

		set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
		set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
		set(fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
		set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1500);
	}
	moved = t_moved_begin(pair.a);
	start = t_now_ms();
	do {
		for (int i = 0; i < 50; i++) {
			t_send(pair.a, 200, 3, 0);
			t_recv(pair.b, 200, 3, 0);
			t_send(pair.b, 200, 4, 0);
			t_recv(pair.a, 200, 4, 0);
		}
	} while (t_now_ms() - start < BUSY_MS);
	t_moved_end(pair.a, moved);
	for (int i = 0; i < 2; i++) {
		const int fd = i ? pair.b : pair.a;

		T_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
		T_EQ(error, 0);
		poll_set = (struct pollfd){fd, POLLIN | POLLRDHUP, 0};
		T_EQ(T_OK(poll(&poll_set, 1, 0)), 0);
	}
	t_hot(&pair);
	t_close(&pair);
	return 0;
}
