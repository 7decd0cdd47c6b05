// SPDX-License-Identifier: Apache-2.0
/*
 * Two threads write one stream, two threads read it: every message of the writers arrives whole in
 * the sense of TCP (each call's bytes in one piece), nothing is lost or doubled, all readers end.
 * HAZARDS 23.
 */

#include "t.h"

#define MESSAGE	 256u /* small enough that the kernel, too, takes it in one piece */
#define MESSAGES 4000u

static struct t_pair pair;
static uint64_t received[256]; /* per value of a byte */

static void write_many(void *arg)
{
	uint8_t buf[MESSAGE];

	memset(buf, (int)(intptr_t)arg, sizeof(buf));
	for (unsigned int i = 0; i < MESSAGES; i++)
		T_EQ(T_OK(send(pair.a, buf, sizeof(buf), 0)), sizeof(buf));
}

static void read_many(void *arg)
{
	uint64_t mine[256] = {0};
	uint8_t buf[1000];

	(void)arg;
	for (;;) {
		const ssize_t n = (ssize_t)T_OK(recv(pair.b, buf, sizeof(buf), 0));

		if (!n)
			break;
		for (ssize_t i = 0; i < n; i++)
			mine[buf[i]]++;
	}
	for (size_t i = 0; i < T_LEN(mine); i++)
		__atomic_add_fetch(&received[i], mine[i], __ATOMIC_RELAXED);
}

/* One reader can tell whether the writers' messages stayed whole. */
static void read_whole(void *arg)
{
	uint8_t buf[MESSAGE];

	(void)arg;
	for (unsigned int i = 0; i < 2 * MESSAGES; i++) {
		T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), sizeof(buf));
		for (size_t j = 1; j < sizeof(buf); j++)
			T_EQ(buf[j], buf[0]);
		received[buf[0]] += sizeof(buf);
	}
	T_EQ(T_OK(recv(pair.b, buf, 1, 0)), 0);
}

static void run(int readers)
{
	struct t_thread writer[2], reader[2];

	memset(received, 0, sizeof(received));
	t_open_hot(&pair);
	for (int i = 0; i < 2; i++)
		t_thread_start(&writer[i], write_many, (void *)(intptr_t)(i + 1));
	for (int i = 0; i < readers; i++)
		t_thread_start(&reader[i], readers == 1 ? read_whole : read_many, NULL);
	for (int i = 0; i < 2; i++)
		t_thread_join(&writer[i]);
	T_OK(shutdown(pair.a, SHUT_WR));
	for (int i = 0; i < readers; i++)
		t_thread_join(&reader[i]);
	T_EQ(received[1], MESSAGE * MESSAGES);
	T_EQ(received[2], MESSAGE * MESSAGES);
	t_close(&pair);
}

/* Two children read in the same way, and two processes write. */
static void child_writes(void *arg)
{
	write_many(arg);
}

static void processes(void)
{
	pid_t pid[2];

	memset(received, 0, sizeof(received));
	t_open_hot(&pair);
	for (int i = 0; i < 2; i++)
		pid[i] = t_child(child_writes, (void *)(intptr_t)(i + 1));
	T_OK(close(pair.a));
	read_whole(NULL);
	for (int i = 0; i < 2; i++)
		t_join(pid[i]);
	T_EQ(received[1], MESSAGE * MESSAGES);
	T_EQ(received[2], MESSAGE * MESSAGES);
	T_OK(close(pair.b));
}

int main(void)
{
	run(1);
	run(2);
	processes();
	return 0;
}
