// SPDX-License-Identifier: Apache-2.0
/*
 * A super-server hands a moved stream to cat as its standard input and output: by posix_spawn's
 * file actions, by fork and dup2, by vfork; the descriptor with and without FD_CLOEXEC, cat
 * preloaded and not; the server's own copy closed at once and late. What is sent then comes back.
 * HAZARDS 12, 13, 14.
 */

#include <spawn.h>

#include "t.h"

extern char **environ;

static struct t_pair pair;
static char *bare_env[] = {NULL};
static char *args[] = {"cat", NULL};

enum way { SPAWN, SPAWNP, FORK, VFORK, WAYS };

static pid_t start(enum way way, char **env)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;

	if (way == SPAWN || way == SPAWNP) {
		T_EQ(posix_spawn_file_actions_init(&actions), 0);
		T_EQ(posix_spawn_file_actions_adddup2(&actions, pair.b, 0), 0);
		T_EQ(posix_spawn_file_actions_adddup2(&actions, pair.b, 1), 0);
		T_EQ(posix_spawn_file_actions_addclose(&actions, pair.a), 0);
		if (way == SPAWN)
			T_EQ(posix_spawn(&pid, "/bin/cat", &actions, NULL, args, env), 0);
		else
			T_EQ(posix_spawnp(&pid, "cat", &actions, NULL, args, env), 0);
		T_EQ(posix_spawn_file_actions_destroy(&actions), 0);
		return pid;
	}
	pid = way == FORK ? fork() : vfork();
	T_CHECK(pid >= 0);
	if (!pid) {
		dup2(pair.b, 0);
		dup2(pair.b, 1);
		close(pair.a);
		execve("/bin/cat", args, env);
		_exit(126);
	}
	return pid;
}

static void run(enum way way, char **env, bool close_on_exec, bool keep)
{
	int gone[2];
	uint8_t byte;
	pid_t pid;

	t_open_hot(&pair);
	T_OK(pipe2(gone, O_CLOEXEC));
	T_OK(fcntl(pair.b, F_SETFD, close_on_exec ? FD_CLOEXEC : 0));
	T_OK(fcntl(pair.a, F_SETFD, FD_CLOEXEC));
	pid = start(way, env);
	T_OK(close(gone[1]));
	T_EQ(T_OK(read(gone[0], &byte, 1)), 0); /* it runs */
	T_OK(close(gone[0]));
	if (!keep)
		T_OK(close(pair.b));
	for (int i = 0; i < 20; i++) {
		t_send(pair.a, 3000, 3, 0);
		t_recv(pair.a, 3000, 3, 0);
	}
	if (keep)
		T_OK(close(pair.b));
	T_OK(shutdown(pair.a, SHUT_WR));
	T_EQ(t_recv_rest(pair.a, 3, 0), 0);
	t_join(pid);
	T_OK(close(pair.a));
}

int main(void)
{
	for (int way = 0; way < WAYS; way++) {
		for (int close_on_exec = 0; close_on_exec < 2; close_on_exec++) {
			for (int keep = 0; keep < 2; keep++) {
				run((enum way)way, environ, close_on_exec, keep);
				run((enum way)way, bare_env, close_on_exec, keep);
			}
		}
	}
	return 0;
}
