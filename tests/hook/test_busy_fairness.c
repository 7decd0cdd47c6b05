// SPDX-License-Identifier: Apache-2.0
/*
 * A stream that is always readable does not hide a pipe or a quiet stream in the same poll, select
 * or epoll set, nor they it. HAZARDS 30.
 */

#include <sys/epoll.h>
#include <sys/select.h>

#include "t.h"

#define ROUNDS 200

static struct t_pair busy, quiet;
static int ends[2]; /* pipe */
static int stop;

static void write_on(void *arg)
{
	uint8_t buf[4000] = {0};

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		T_EQ(T_OK(send(busy.a, buf, sizeof(buf), 0)), sizeof(buf));
	T_OK(shutdown(busy.a, SHUT_WR));
}

static void read_some(void)
{
	uint8_t buf[2000];

	T_CHECK(T_OK(recv(busy.b, buf, sizeof(buf), 0)) > 0);
}

/* What one look of each call finds among the three: bit 0 busy, bit 1 pipe, bit 2 quiet. */
static unsigned int look(int call, int epfd)
{
	const int fds[3] = {busy.b, ends[0], quiet.b};
	unsigned int found = 0;

	if (call == 0) {
		struct pollfd set[3];

		for (int i = 0; i < 3; i++)
			set[i] = (struct pollfd){fds[i], POLLIN, 0};
		T_CHECK(T_OK(poll(set, 3, 4000)) > 0);
		for (int i = 0; i < 3; i++)
			found |= (set[i].revents ? 1u : 0u) << i;
	} else if (call == 1) {
		struct timeval time = {.tv_sec = 4};
		fd_set set = {0};

		for (int i = 0; i < 3; i++)
			FD_SET(fds[i], &set);
		T_CHECK(T_OK(select(FD_SETSIZE, &set, NULL, NULL, &time)) > 0);
		for (int i = 0; i < 3; i++)
			found |= (FD_ISSET(fds[i], &set) ? 1u : 0u) << i;
	} else {
		struct epoll_event events[3] = {0};
		const int n = (int)T_OK(epoll_wait(epfd, events, call == 2 ? 3 : 1, 4000));

		T_CHECK(n > 0);
		for (int i = 0; i < n; i++)
			found |= 1u << events[i].data.u32;
	}
	return found;
}

int main(void)
{
	const int64_t start = t_now_ms();
	struct t_thread writer;
	int epfd;

	t_open_hot(&busy);
	t_open_hot(&quiet);
	T_OK(pipe(ends));
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	for (uint32_t i = 0; i < 3; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

		T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD,
			       i == 0	? busy.b
			       : i == 1 ? ends[0]
					: quiet.b,
			       &event));
	}
	t_thread_start(&writer, write_on, NULL);
	/* Four calls; the last asks epoll for one event at a time, which must take turns. */
	for (int call = 0; call < 4; call++) {
		for (int i = 0; i < ROUNDS; i++) {
			unsigned int found = 0;
			char byte;

			T_EQ(T_OK(write(ends[1], "p", 1)), 1);
			t_send(quiet.a, 1, 3, 0);
			while (found != 7) {
				const unsigned int now = look(call, epfd);

				T_CHECK(t_now_ms() - start < 20000);
				if (now & 1)
					read_some();
				found |= now;
			}
			T_EQ(T_OK(read(ends[0], &byte, 1)), 1);
			t_recv(quiet.b, 1, 3, 0);
		}
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	while (T_OK(recv(busy.b, (uint8_t[4096]){0}, 4096, 0)))
		;
	t_thread_join(&writer);
	t_close(&busy);
	t_close(&quiet);
	return 0;
}
