// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that have the same number, 1, each in a PID namespace of its own, share a stream: each
 * message stays whole. HAZARDS 10, 36.
 */

#include <sched.h>

#include "t.h"

#define MESSAGE	 256u /* small enough that the kernel, too, takes it in one piece */
#define MESSAGES 6000u
#define WRITERS	 3

static struct t_pair pair;

static void write_many(char mark)
{
	uint8_t buf[MESSAGE];

	memset(buf, mark, sizeof(buf));
	for (unsigned int i = 0; i < MESSAGES; i++)
		T_EQ(T_OK(send(pair.a, buf, sizeof(buf), 0)), sizeof(buf));
}

/* As process 1 of a new namespace. */
static void writer(void *arg)
{
	pid_t pid;

	T_OK(unshare(CLONE_NEWPID));
	pid = (pid_t)T_OK(fork());
	if (!pid) {
		T_EQ(getpid(), 1);
		write_many(*(char *)arg);
		_exit(0);
	}
	t_join(pid);
}

static void whole_messages(void)
{
	uint64_t received[WRITERS] = {0};
	char marks[WRITERS];
	pid_t pid[WRITERS];
	uint8_t buf[MESSAGE];

	t_open_hot(&pair);
	const uint64_t moved = t_moved_begin(pair.a);
	for (int i = 0; i < WRITERS; i++) {
		marks[i] = (char)i;
		pid[i] = t_child(writer, &marks[i]);
	}
	for (unsigned int i = 0; i < WRITERS * MESSAGES; i++) {
		T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), sizeof(buf));
		T_CHECK(buf[0] < WRITERS);
		for (size_t j = 1; j < sizeof(buf); j++)
			T_EQ(buf[j], buf[0]);
		received[buf[0]]++;
	}
	for (int i = 0; i < WRITERS; i++) {
		t_join(pid[i]);
		T_EQ(received[i], MESSAGES);
	}
	t_moved_end(pair.a, moved);
	t_close(&pair);
}

int main(void)
{
	const pid_t probe = (pid_t)T_OK(fork());
	int status;

	if (!probe)
		_exit(unshare(CLONE_NEWPID) < 0);
	T_EQ(waitpid(probe, &status, 0), probe);
	if (status)
		t_skip("no PID namespaces here");
	whole_messages();
	return 0;
}
