// SPDX-License-Identifier: Apache-2.0
/*
 * fork: the parent's close does not end the child's stream; both use it in turn; a child that was
 * forked while another thread was in the middle of a call can use it. HAZARDS 10, 11.
 */

#include "t.h"

#define PART 20000u

static struct t_pair pair;

static void talk(int fd, int peer, uint64_t seed)
{
	for (int i = 0; i < 5; i++) {
		t_send(fd, PART, seed, 0);
		t_recv(peer, PART, seed, 0);
	}
}

static void child_alone(void *arg)
{
	(void)arg;
	T_OK(close(pair.a));
	for (int i = 0; i < 50; i++) {
		t_recv(pair.b, 1000, 3, 0);
		t_send(pair.b, 1000, 4, 0);
	}
	t_recv(pair.b, PART, 5, 0);
}

static void parent_closes(void)
{
	uint64_t moved;
	uint8_t byte;
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(child_alone, NULL);
	T_OK(close(pair.b));
	moved = t_moved_begin(pair.a);
	for (int i = 0; i < 50; i++) {
		t_send(pair.a, 1000, 3, 0);
		t_recv(pair.a, 1000, 4, 0);
	}
	t_moved_end(pair.a, moved);
	t_send(pair.a, PART, 5, 0);
	t_join(pid);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(pair.a));
}

/* One after the other; the message boundary is where the turn changes. */
static void child_turn(void *arg)
{
	(void)arg;
	t_recv(pair.b, 700, 3, 300);
	talk(pair.a, pair.b, 6);
	talk(pair.b, pair.a, 7);
	t_send(pair.a, 1000, 8, 0);
}

static void in_turn(void)
{
	t_open_hot(&pair);
	for (int round = 0; round < 4; round++) {
		t_hot(&pair);
		t_send(pair.a, 1000, 3, 0);
		t_recv(pair.b, 300, 3, 0);
		t_join(t_child(child_turn, NULL));
		t_recv(pair.b, 1000, 8, 0);
		talk(pair.a, pair.b, 4);
		talk(pair.b, pair.a, 5);
	}
	t_close(&pair);
}

static int stop;

static void busy(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		t_send(pair.a, 1000, 3, 0);
		t_recv(pair.b, 1000, 3, 0);
	}
}

/* The child has streams of its own, and the stream's other direction. */
static void child_of_busy(void *arg)
{
	struct t_pair own;

	(void)arg;
	t_open(&own, T_V4);
	t_send(own.a, 1000, 4, 0);
	t_recv(own.b, 1000, 4, 0);
	t_close(&own);
	t_send(pair.b, 1000, 5, 0);
	t_recv(pair.a, 1000, 5, 0);
}

static void fork_beside_thread(void)
{
	struct t_thread thread;

	t_open_hot(&pair);
	t_thread_start(&thread, busy, NULL);
	for (int i = 0; i < 20; i++)
		t_join(t_child(child_of_busy, NULL));
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	t_thread_join(&thread);
	t_close(&pair);
}

static void echo_once(void *arg)
{
	(void)arg;
	t_recv(pair.b, 5000, 3, 0);
	t_send(pair.b, 5000, 4, 0);
}

/* The classic server: accept in the parent, a child per connection. */
static void fork_per_connection(void)
{
	struct sockaddr_storage addr;
	socklen_t len;
	const int listener = t_listen(T_V4, &addr, &len);
	uint8_t byte;

	for (int i = 0; i < 10; i++) {
		pid_t pid;

		pair.a = (int)T_OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
		T_OK(connect(pair.a, (struct sockaddr *)&addr, len));
		pair.b = (int)T_OK(accept(listener, NULL, NULL));
		pid = t_child(echo_once, NULL);
		T_OK(close(pair.b));
		t_send(pair.a, 5000, 3, 0);
		t_recv(pair.a, 5000, 4, 0);
		t_join(pid);
		T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
		T_OK(close(pair.a));
	}
	T_OK(close(listener));
}

int main(void)
{
	parent_closes();
	in_turn();
	fork_beside_thread();
	fork_per_connection();
	return 0;
}
