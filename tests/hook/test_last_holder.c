// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes unread at the last close are a reset, whichever process closes last, and in whichever way
 * it ends; while somebody still has the socket they are nothing, and can be read.
 */

#include <sys/syscall.h>

#include "t_turns.h"

#define BURST 5000u
#define TAKEN 130u

static struct t_pair pair;

static void is_reset(int fd)
{
	struct pollfd set = {fd, POLLIN, 0};
	uint8_t byte;

	T_EQ(T_OK(poll(&set, 1, 2000)), 1);
	T_CHECK(set.revents & POLLERR && set.revents & POLLHUP);
	T_ERR(recv(fd, &byte, 1, 0), ECONNRESET);
	T_ERR(send(fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
}

static void is_open(int fd)
{
	struct pollfd set = {fd, POLLIN | POLLRDHUP, 0};

	T_EQ(T_OK(poll(&set, 1, 20)), 0);
}

static void is_ended(int fd)
{
	struct pollfd set = {fd, POLLIN, 0};
	uint8_t byte;

	T_EQ(T_OK(poll(&set, 1, 2000)), 1);
	T_EQ(set.revents & POLLERR, 0);
	T_EQ(T_OK(recv(fd, &byte, 1, 0)), 0);
}

/* ---- two processes have it --------------------------------------------------------------------
 */

static void closes_when_told(void *reads)
{
	T_OK(close(pair.a));
	say(to_parent);
	hear(to_child);
	if (reads)
		t_recv(pair.b, BURST - TAKEN, 3, TAKEN);
	T_OK(close(pair.b));
	say(to_parent);
	hear(to_child);
}

/* Either may be the last. */
static void closed_by_both(bool parent_first, bool child_reads)
{
	pid_t pid;

	make_pipes();
	t_open_hot(&pair);
	pid = t_child(closes_when_told, child_reads ? &pair : NULL);
	hear(to_parent);
	t_hot(&pair);
	t_send(pair.a, BURST, 3, 0);
	t_recv(pair.b, TAKEN, 3, 0);
	if (parent_first) {
		T_OK(close(pair.b));
		is_open(pair.a);
	}
	say(to_child);
	hear(to_parent);
	if (!parent_first) {
		is_open(pair.a);
		T_OK(close(pair.b));
	}
	if (child_reads)
		is_ended(pair.a);
	else
		is_reset(pair.a);
	say(to_child);
	t_join(pid);
	T_OK(close(pair.a));
	drop_pipes();
}

static void sleeps(void *arg)
{
	(void)arg;
	say(to_parent);
	hear(to_child);
}

/* A child that was killed has it no more, waited for or not. */
static void killed_child(bool waited_for)
{
	pid_t pid;

	make_pipes();
	t_open_hot(&pair);
	pid = t_child(sleeps, NULL);
	hear(to_parent);
	t_hot(&pair);
	t_send(pair.a, BURST, 3, 0);
	t_recv(pair.b, TAKEN, 3, 0);
	T_OK(kill(pid, SIGKILL));
	if (waited_for)
		t_join_killed(pid, SIGKILL);
	else
		T_OK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT));
	T_OK(close(pair.b));
	is_reset(pair.a);
	if (!waited_for)
		t_join_killed(pid, SIGKILL);
	T_OK(close(pair.a));
	drop_pipes();
}

/* ---- the end of a process ---------------------------------------------------------------------
 */

enum way { BY_EXIT, BY__EXIT, BY_QUICK_EXIT, BY_SYSCALL, BY_EXEC, BY_FAILED_EXEC, BY_CHILD, WAYS };

static enum way way;

static void nothing(void *arg)
{
	(void)arg;
}

static void ends(void *arg)
{
	char *const argv[] = {(char *)(uintptr_t) "true", NULL};

	(void)arg;
	T_OK(close(pair.a));
	T_OK(fcntl(pair.b, F_SETFD, FD_CLOEXEC));
	for (int i = 0; i < 200; i++) {
		t_recv(pair.b, 700, 4, 0);
		t_send(pair.b, 700, 5, 0);
	}
	say(to_parent);
	hear(to_child);
	t_recv(pair.b, TAKEN, 3, 0);
	switch (way) {
	case BY_EXIT:
		exit(0);
	case BY__EXIT:
		_exit(0);
	case BY_QUICK_EXIT:
		quick_exit(0);
	case BY_SYSCALL:
		syscall(SYS_exit_group, 0L, 0L, 0L, 0L, 0L, 0L); /* our hook looks at all */
		break;
	case BY_EXEC:
		execvp("true", argv);
		break;
	case BY_FAILED_EXEC:
		T_ERR(execv("/nowhere/to/be/found", argv), ENOENT);
		t_recv(pair.b, BURST - TAKEN, 3, TAKEN);
		T_OK(close(pair.b));
		_exit(0);
	case BY_CHILD: /* whose end is not the stream's */
		t_join(t_child(nothing, NULL));
		t_recv(pair.b, BURST - TAKEN, 3, TAKEN);
		_exit(0);
	case WAYS:
		break;
	}
	t_fail(__FILE__, __LINE__, "goes on");
}

static void ended(void)
{
	pid_t pid;

	make_pipes();
	t_open(&pair, T_V4);
	pid = t_child(ends, NULL);
	T_OK(close(pair.b));
	for (int i = 0; i < 200; i++) {
		t_send(pair.a, 700, 4, 0);
		t_recv(pair.a, 700, 5, 0);
	}
	hear(to_parent);
	t_send(pair.a, BURST, 3, 0);
	say(to_child);
	t_join(pid);
	if (way == BY_FAILED_EXEC || way == BY_CHILD)
		is_ended(pair.a);
	else
		is_reset(pair.a);
	T_OK(close(pair.a));
	drop_pipes();
}

int main(void)
{
	closed_by_both(true, false);
	closed_by_both(false, false);
	closed_by_both(true, true);
	killed_child(true);
	killed_child(false);
	for (way = 0; way < WAYS; way++)
		ended();
	return 0;
}
