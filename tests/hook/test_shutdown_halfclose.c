// SPDX-License-Identifier: Apache-2.0
/*
 * Half-close in both directions: the tail of the last message arrives before the end of stream, and
 * the other direction goes on. HAZARDS 32.
 */

#include "t.h"

#define TAIL 100003u

struct job {
	int fd;
	uint64_t seed;
};

static void send_and_end(void *arg)
{
	const struct job *job = arg;

	t_send(job->fd, TAIL, job->seed, 0);
	T_OK(shutdown(job->fd, SHUT_WR));
	T_ERR(send(job->fd, "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void one_way_then_the_other(bool a_first)
{
	struct t_thread sender;
	struct t_pair pair;
	struct pollfd set;
	uint64_t moved;
	struct job job;
	int first, second;

	t_open_hot(&pair);
	first = a_first ? pair.a : pair.b;
	second = a_first ? pair.b : pair.a;

	moved = t_moved_begin(first);
	job = (struct job){first, 3};
	t_thread_start(&sender, send_and_end, &job);
	T_EQ(t_recv_rest(second, 3, 0), TAIL);
	t_thread_join(&sender);
	t_moved_end(first, moved);
	T_EQ(T_OK(recv(second, &job, 1, 0)), 0); /* and again */
	set = (struct pollfd){second, POLLIN | POLLRDHUP | POLLOUT, 0};
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	T_EQ(set.revents, POLLIN | POLLRDHUP | POLLOUT);

	/* The other direction still carries data both small and large. */
	for (int i = 0; i < 5; i++) {
		t_send(second, 1000, 4, 0);
		t_recv(first, 1000, 4, 0);
	}
	job = (struct job){second, 5};
	t_thread_start(&sender, send_and_end, &job);
	T_EQ(t_recv_rest(first, 5, 0), TAIL);
	t_thread_join(&sender);
	t_close(&pair);
}

/* SHUT_RD: reading gives the end of stream when what had arrived is read. */
static void shut_rd(void)
{
	struct t_pair pair;
	uint8_t byte;

	t_open_hot(&pair);
	t_send(pair.a, 100, 3, 0);
	T_OK(shutdown(pair.b, SHUT_RD));
	t_recv(pair.b, 100, 3, 0);
	T_EQ(T_OK(recv(pair.b, &byte, 1, 0)), 0);
	t_send(pair.b, 100, 4, 0);
	t_recv(pair.a, 100, 4, 0);
	t_close(&pair);
}

int main(void)
{
	one_way_then_the_other(true);
	one_way_then_the_other(false);
	shut_rd();
	return 0;
}
