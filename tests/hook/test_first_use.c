// SPDX-License-Identifier: Apache-2.0
/*
 * The first calls of a process come from many threads at once, each with a connection of its own;
 * and a stream that others already use is first met by many threads at once, after fork. HAZARDS
 * 11, 40.
 */

#include "t.h"

#define THREADS 8

static struct t_pair pairs[THREADS];
static pthread_barrier_t barrier;

static void opens_and_uses(void *arg)
{
	struct t_pair *pair = arg;

	pthread_barrier_wait(&barrier);
	t_open(pair, (pair - pairs) % 2 ? T_V6 : T_V4);
	for (int i = 0; i < 50; i++) {
		t_send(pair->a, 3000, 3, 0);
		t_recv(pair->b, 3000, 3, 0);
		t_send(pair->b, 3000, 4, 0);
		t_recv(pair->a, 3000, 4, 0);
	}
}

/* All of them at one end, which this process has never used. */
static void sends_one(void *arg)
{
	pthread_barrier_wait(&barrier);
	T_EQ(T_OK(send(*(int *)arg, "x", 1, 0)), 1);
}

static void at_once(void (*fn)(void *), void *(*arg_of)(int))
{
	struct t_thread threads[THREADS];

	T_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (int i = 0; i < THREADS; i++)
		t_thread_start(&threads[i], fn, arg_of(i));
	for (int i = 0; i < THREADS; i++)
		t_thread_join(&threads[i]);
	T_EQ(pthread_barrier_destroy(&barrier), 0);
}

static void *own_pair(int i)
{
	return &pairs[i];
}

static void *first_end(int i)
{
	(void)i;
	return &pairs[0].a;
}

static void child(void *arg)
{
	(void)arg;
	at_once(sends_one, first_end);
}

int main(void)
{
	uint8_t buf[THREADS];

	at_once(opens_and_uses, own_pair);
	for (int i = 0; i < 5; i++) {
		t_join(t_child(child, NULL));
		T_EQ(T_OK(recv(pairs[0].b, buf, sizeof(buf), MSG_WAITALL)), THREADS);
	}
	for (int i = 0; i < THREADS; i++)
		t_close(&pairs[i]);
	return 0;
}
