// SPDX-License-Identifier: Apache-2.0
/*
 * Many streams in one process: hundreds open at once and used round robin through one poll and one
 * epoll set, and a burst of connections that live for one message. HAZARDS 46.
 */

#include <sys/epoll.h>

#include "t.h"

#define STREAMS	   200
#define SHORT_ONES 500

static struct t_pair pairs[STREAMS];

static void round_robin(int epfd)
{
	static struct pollfd set[STREAMS];

	for (int round = 0; round < 5; round++) {
		const size_t len = 100 + 1000u * (size_t)round;
		struct epoll_event events[STREAMS];
		uint64_t seen = 0;

		for (uint32_t i = 0; i < STREAMS; i++)
			t_send(pairs[i].a, len, i + 3, 0);
		for (int i = 0; i < STREAMS; i++)
			set[i] = (struct pollfd){pairs[i].b, POLLIN, 0};
		T_EQ(T_OK(poll(set, STREAMS, 1000)), STREAMS);
		while (seen < STREAMS) {
			const int n = (int)T_OK(epoll_wait(epfd, events, STREAMS, 1000));

			T_CHECK(n > 0);
			for (int i = 0; i < n; i++) {
				t_recv(pairs[events[i].data.u32].b, len, events[i].data.u32 + 3, 0);
				seen++;
			}
		}
		T_EQ(T_OK(poll(set, STREAMS, 0)), 0);
		T_EQ(T_OK(epoll_wait(epfd, events, STREAMS, 0)), 0);
		for (uint32_t i = 0; i < STREAMS; i++) {
			t_send(pairs[i].b, len, i + 1000, 0);
			t_recv(pairs[i].a, len, i + 1000, 0);
		}
	}
}

static void burst(void)
{
	for (int i = 0; i < SHORT_ONES; i++) {
		struct t_pair pair;

		t_open(&pair, T_V4);
		t_send(pair.a, 100, 3, 0);
		t_recv(pair.b, 100, 3, 0);
		t_close(&pair);
	}
}

int main(void)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	uint64_t moved;

	for (uint32_t i = 0; i < STREAMS; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

		t_open(&pairs[i], T_V4);
		T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pairs[i].b, &event));
	}
	/* The first and the last are sure to have moved, most between them too. */
	t_warm(&pairs[0]);
	t_warm(&pairs[STREAMS - 1]);
	moved = t_moved_begin(pairs[0].a);
	round_robin(epfd);
	burst();
	round_robin(epfd);
	t_moved_end(pairs[0].a, moved);
	for (int i = 0; i < STREAMS; i++)
		t_close(&pairs[i]);
	T_OK(close(epfd));
	return 0;
}
