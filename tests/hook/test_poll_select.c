// SPDX-License-Identifier: Apache-2.0
/*
 * poll, ppoll, select, pselect: readiness, time-outs, several descriptors of several kinds, and the
 * caller's arrays as the kernel leaves them. HAZARDS 20, 27.
 */

#include <sys/select.h>

#include "t.h"

static struct t_pair pair;

/* The four calls, made alike: is @fd readable, writable within @ms? */
enum call { POLL, PPOLL, SELECT, PSELECT, CALLS };

static bool ready(enum call call, int fd, bool for_write, int ms)
{
	const struct timespec spec = {ms / 1000, ms % 1000 * 1000000L};
	struct timeval time = {ms / 1000, ms % 1000 * 1000L};
	struct pollfd set[2] = {{-1, POLLIN, 0x55}, {fd, for_write ? POLLOUT : POLLIN, 0x55}};
	fd_set fds, *in = NULL, *out = NULL;
	int n;

	FD_ZERO(&fds);
	FD_SET(fd, &fds);
	*(for_write ? &out : &in) = &fds;
	if (call == POLL)
		n = (int)T_OK(poll(set, 2, ms));
	else if (call == PPOLL)
		n = (int)T_OK(ppoll(set, 2, &spec, NULL));
	else if (call == SELECT)
		n = (int)T_OK(select(fd + 1, in, out, NULL, &time));
	else
		n = (int)T_OK(pselect(fd + 1, in, out, NULL, &spec, NULL));

	if (call == POLL || call == PPOLL) {
		T_EQ(set[0].fd, -1);
		T_EQ(set[0].revents, 0);
		T_EQ(set[1].fd, fd);
		T_EQ(set[1].events, for_write ? POLLOUT : POLLIN);
		T_EQ(set[1].revents, n ? set[1].events : 0);
	} else {
		T_EQ(!!FD_ISSET(fd, &fds), n);
	}
	return n;
}

static void one(enum call call)
{
	const uint64_t moved = t_moved_begin(pair.a);
	int64_t start;

	for (int i = 0; i < 20; i++) {
		T_CHECK(!ready(call, pair.b, false, 0));
		t_send(pair.a, 100, 3, 0);
		T_CHECK(ready(call, pair.b, false, i % 2 ? 0 : 1000));
		t_recv(pair.b, 40, 3, 0);
		T_CHECK(ready(call, pair.b, false, 0));
		t_recv(pair.b, 60, 3, 40);
		T_CHECK(ready(call, pair.a, true, 0));
		t_hot(&pair);
	}
	t_moved_end(pair.a, moved);
	start = t_now_ms();
	T_CHECK(!ready(call, pair.b, false, 100));
	T_ELAPSED(start, 100, 600);
}

static void send_when_asleep(void *arg)
{
	(void)arg;
	t_wait_asleep(getpid());
	t_send(pair.a, 50, 3, 0);
}

/* The call sleeps, the other end sends, the call returns. */
static void wakes(enum call call)
{
	struct t_thread sender;
	int64_t start;

	t_hot(&pair);
	t_thread_start(&sender, send_when_asleep, NULL);
	start = t_now_ms();
	T_CHECK(ready(call, pair.b, false, 4000));
	T_ELAPSED(start, 0, 3000);
	t_thread_join(&sender);
	t_recv(pair.b, 50, 3, 0);
}

/* A pipe and a stream in one call: both are told, neither hides the other. HAZARDS 30. */
static void with_pipe(void)
{
	struct pollfd set[3];
	int ends[2];
	char byte;

	T_OK(pipe(ends));
	t_hot(&pair);
	t_send(pair.a, 10, 3, 0);
	T_EQ(T_OK(write(ends[1], "x", 1)), 1);
	set[0] = (struct pollfd){ends[0], POLLIN, 0};
	set[1] = (struct pollfd){pair.b, POLLIN | POLLOUT, 0};
	set[2] = (struct pollfd){pair.a, POLLIN, 0};
	T_EQ(T_OK(poll(set, 3, 1000)), 2);
	T_EQ(set[0].revents, POLLIN);
	T_EQ(set[1].revents, POLLIN | POLLOUT);
	T_EQ(set[2].revents, 0);

	T_EQ(T_OK(read(ends[0], &byte, 1)), 1);
	T_EQ(T_OK(poll(set, 3, 1000)), 1);
	t_recv(pair.b, 10, 3, 0);
	set[1].events = POLLIN;
	T_EQ(T_OK(poll(set, 3, 0)), 0);
	/* The same stream twice in one set counts twice. */
	t_send(pair.a, 10, 3, 0);
	set[2] = set[1];
	T_EQ(T_OK(poll(set, 3, 1000)), 2);
	t_recv(pair.b, 10, 3, 0);
	T_OK(close(ends[0]));
	T_OK(close(ends[1]));
}

/* A closed number in the set, and what is always reported. */
static void always_reported(void)
{
	struct pollfd set = {999, POLLIN, 0};

	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	T_EQ(set.revents, POLLNVAL);
	T_OK(shutdown(pair.a, SHUT_WR));
	T_OK(shutdown(pair.b, SHUT_WR));
	set = (struct pollfd){pair.b, 0, 0};
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	T_EQ(set.revents, POLLHUP);
}

int main(void)
{
	t_open_hot(&pair);
	for (int call = 0; call < CALLS; call++) {
		one((enum call)call);
		wakes((enum call)call);
	}
	with_pipe();
	always_reported();
	t_close(&pair);
	return 0;
}
