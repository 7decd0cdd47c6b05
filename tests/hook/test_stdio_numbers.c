// SPDX-License-Identifier: Apache-2.0
/*
 * A stream that becomes stdin and stdout: libc reads and writes it there without a hook, and the
 * order with read() and write() on it is kept. By dup2() in this process, and in a program that is
 * exec'd on it as inetd does. HAZARDS 4.
 */
#include <spawn.h>

#include "t.h"

#define ROUNDS 50

extern char **environ;

/* Whatever comes in by lines is answered with two, one by stdio and one by write(2). */
static void serve(bool by_stdio)
{
	char line[64], answer[64];
	size_t have;
	int n;

	T_EQ(write(STDOUT_FILENO, "ready\n", 6), 6);
	for (;;) {
		if (by_stdio) {
			if (!fgets(line, sizeof(line), stdin))
				return;
		} else {
			for (have = 0; !have || line[have - 1] != '\n'; have++)
				if (read(STDIN_FILENO, line + have, 1) != 1)
					return;
			line[have] = '\0';
		}
		T_CHECK(printf("stdio %s", line) > 0 && !fflush(stdout));
		n = snprintf(answer, sizeof(answer), "write %s", line);
		T_EQ(write(STDOUT_FILENO, answer, (size_t)n), n);
	}
}

static void ask(int fd)
{
	char line[32], want[128], got[128];
	size_t have;
	ssize_t n;
	int i;

	/* What lay in the ring before, stdin would not get: see the limits. */
	for (have = 0; have < 6; have += (size_t)n) {
		n = recv(fd, got + have, 6 - have, 0);
		T_CHECK(n > 0);
	}
	for (i = 0; i < ROUNDS; i++) {
		snprintf(line, sizeof(line), "%d\n", i);
		snprintf(want, sizeof(want), "stdio %swrite %s", line, line);
		T_EQ(send(fd, line, strlen(line), 0), strlen(line));
		for (have = 0; have < strlen(want); have += (size_t)n) {
			n = recv(fd, got + have, sizeof(got) - have, 0);
			T_CHECK(n > 0);
		}
		T_CHECK(have == strlen(want) && !memcmp(got, want, have));
	}
}

static struct t_pair pair;

static void by_dup2(void *by_stdio)
{
	T_EQ(close(pair.a), 0);
	T_EQ(dup2(pair.b, STDIN_FILENO), STDIN_FILENO);
	T_EQ(dup2(pair.b, STDOUT_FILENO), STDOUT_FILENO);
	T_EQ(close(pair.b), 0);
	serve(by_stdio != NULL);
}

static void run_dup2(bool by_stdio)
{
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(by_dup2, by_stdio ? &pair : NULL);
	T_EQ(close(pair.b), 0);
	ask(pair.a);
	T_EQ(close(pair.a), 0);
	t_join(pid);
}

/* The spawned program gets its numbers before any code of ours runs in it. */
static void run_exec(bool by_stdio)
{
	char self[] = "/proc/self/exe", how[] = "write";
	char *argv[] = {self, by_stdio ? NULL : how, NULL};
	posix_spawn_file_actions_t actions;
	char stdio[] = "stdio";
	pid_t pid;

	if (by_stdio)
		argv[1] = stdio;
	t_open_hot(&pair);
	T_EQ(posix_spawn_file_actions_init(&actions), 0);
	T_EQ(posix_spawn_file_actions_adddup2(&actions, pair.b, STDIN_FILENO), 0);
	T_EQ(posix_spawn_file_actions_adddup2(&actions, pair.b, STDOUT_FILENO), 0);
	T_EQ(posix_spawn_file_actions_addclose(&actions, pair.a), 0);
	T_EQ(posix_spawn_file_actions_addclose(&actions, pair.b), 0);
	T_EQ(posix_spawn(&pid, self, &actions, NULL, argv, environ), 0);
	T_EQ(posix_spawn_file_actions_destroy(&actions), 0);
	T_EQ(close(pair.b), 0);
	ask(pair.a);
	T_EQ(close(pair.a), 0);
	t_join(pid);
}

/* A server that has got its stream at 0, as sshd, and takes it to another number: it may move then.
 */
static void run_freed(void)
{
	const int null = open("/dev/null", O_RDWR);
	uint64_t moved;
	char byte;

	t_open(&pair, T_V4);
	T_EQ(dup2(pair.b, STDIN_FILENO), STDIN_FILENO);
	T_EQ(send(pair.a, "x", 1, 0), 1);
	T_EQ(close(pair.b), 0);
	pair.b = dup(STDIN_FILENO);
	T_EQ(dup2(null, STDIN_FILENO), STDIN_FILENO);
	T_EQ(recv(pair.b, &byte, 1, 0), 1);
	t_warm(&pair);
	moved = t_moved_begin(pair.b);
	t_hot(&pair);
	t_moved_end(pair.b, moved);
	t_close(&pair);
	T_EQ(close(null), 0);
}

int main(int argc, char **argv)
{
	if (argc == 2) {
		serve(!strcmp(argv[1], "stdio"));
		return 0;
	}
	run_dup2(false);
	run_dup2(true);
	run_exec(false);
	run_exec(true);
	run_freed();
	return 0;
}
