// SPDX-License-Identifier: Apache-2.0
/*
 * exec with a moved stream inherited: a preloaded program goes on with it, one without the library
 * gets by TCP every byte that is sent once it runs; vfork, posix_spawn, system and popen children
 * do not disturb the parent's. HAZARDS 12, 13, 14.
 */

#include <spawn.h>

#include "t.h"

#define PART 30000u

extern char **environ;

static struct t_pair pair;
static char self[4096];

/* What the exec'd program does: argv[1] is its number for the stream. */
static int echo_main(int fd)
{
	t_recv(fd, PART, 3, 0);
	t_send(fd, PART, 4, 0);
	for (int i = 0; i < 20; i++) {
		t_recv(fd, 500, 5, 0);
		t_send(fd, 500, 6, 0);
	}
	return 0;
}

static void parent_side(void)
{
	uint8_t byte;

	t_send(pair.a, PART, 3, 0);
	t_recv(pair.a, PART, 4, 0);
	for (int i = 0; i < 20; i++) {
		t_send(pair.a, 500, 5, 0);
		t_recv(pair.a, 500, 6, 0);
	}
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
}

/* One of the ways to start a program. */
enum way { FORK_EXEC, FORK_EXEC_BARE, VFORK_EXEC, SPAWN, SPAWN_BARE, WAYS };

static char number[16];
static char *bare_env[] = {NULL};

static pid_t start(enum way way)
{
	char *args[] = {self, number, NULL};
	char **env = way == FORK_EXEC_BARE || way == SPAWN_BARE ? bare_env : environ;
	pid_t pid;

	if (way == SPAWN || way == SPAWN_BARE) {
		T_EQ(posix_spawn(&pid, self, NULL, NULL, args, env), 0);
		return pid;
	}
	pid = way == VFORK_EXEC ? vfork() : fork();
	T_CHECK(pid >= 0);
	if (!pid) {
		/* In a vfork child this must not reach the parent's table. */
		close(pair.a);
		execve(self, args, env);
		_exit(126);
	}
	return pid;
}

static void run(enum way way, bool unread)
{
	const bool bare = way == FORK_EXEC_BARE || way == SPAWN_BARE;
	int started[2];
	uint8_t byte;
	pid_t pid;

	t_open_hot(&pair);
	T_OK(pipe2(started, O_CLOEXEC));
	T_OK(fcntl(pair.b, F_SETFD, 0));
	snprintf(number, sizeof(number), "%d", pair.b);
	/* Some of the program's input is already there, on the ring, when it starts. */
	if (unread)
		t_send(pair.a, 2000, 3, 0);
	pid = start(way);
	T_OK(close(started[1]));
	/* Ring bytes are not for a program without the library: nothing is sent until it runs. */
	if (bare)
		T_EQ(T_OK(read(started[0], &byte, 1)), 0);
	T_OK(close(started[0]));
	T_OK(close(pair.b));
	if (unread) {
		t_send(pair.a, PART - 2000, 3, 2000);
		t_recv(pair.a, PART, 4, 0);
		for (int i = 0; i < 20; i++) {
			t_send(pair.a, 500, 5, 0);
			t_recv(pair.a, 500, 6, 0);
		}
	} else {
		parent_side();
	}
	t_join(pid);
	T_OK(close(pair.a));
}

/* Exec itself, both ends with it. */
static int after_exec(int a, int b)
{
	pair = (struct t_pair){a, b};
	if (getenv("UNREAD")) {
		t_recv(pair.b, 2000, 3, 0);
		t_recv(pair.a, 3000, 4, 0);
	}
	for (int i = 0; i < 20; i++)
		t_hot(&pair);
	t_close(&pair);
	return 0;
}

static void exec_self(void *arg)
{
	char other[16];
	char *args[] = {self, number, other, NULL};

	T_OK(fcntl(pair.a, F_SETFD, 0));
	T_OK(fcntl(pair.b, F_SETFD, 0));
	if (!arg) {
		T_OK(setenv("UNREAD", "1", 1));
		t_send(pair.a, 2000, 3, 0);
		t_send(pair.b, 3000, 4, 0);
	}
	snprintf(number, sizeof(number), "%d", pair.a);
	snprintf(other, sizeof(other), "%d", pair.b);
	(void)arg;
	execve(self, args, environ);
	_exit(126);
}

/* Children that have nothing to do with the stream, while it holds unread bytes. */
static void bystanders(void)
{
	char line[16] = "";
	FILE *out;

	t_open_hot(&pair);
	for (int i = 0; i < 3; i++) {
		t_hot(&pair);
		t_send(pair.a, 2000, 3, 0);
		T_EQ(system("exit 7"), 7 << 8);
		out = popen("echo hello", "r");
		T_CHECK(out && fgets(line, sizeof(line), out));
		T_EQ(pclose(out), 0);
		T_CHECK(!strcmp(line, "hello\n"));
		t_recv(pair.b, 2000, 3, 0);
	}
	t_close(&pair);
}

/* An exec that fails leaves everything as it was. */
static void failed_exec(void)
{
	char *args[] = {self, NULL};

	t_open_hot(&pair);
	T_OK(fcntl(pair.b, F_SETFD, 0));
	t_send(pair.a, 2000, 3, 0);
	T_ERR(execve("./no-such-program", args, environ), ENOENT);
	T_ERR(execve("./no-such-program", args, bare_env), ENOENT);
	t_recv(pair.b, 2000, 3, 0);
	t_hot(&pair);
	t_close(&pair);
}

int main(int argc, char **argv)
{
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	T_CHECK(n > 0);
	if (argc == 2)
		return echo_main(atoi(argv[1]));
	if (argc == 3)
		return after_exec(atoi(argv[1]), atoi(argv[2]));
	for (int way = 0; way < WAYS; way++) {
		run((enum way)way, false);
		if (way != FORK_EXEC_BARE && way != SPAWN_BARE)
			if (way != FORK_EXEC_BARE && way != SPAWN_BARE)
				run((enum way)way, true);
	}
	t_open_hot(&pair);
	t_join(t_child(exec_self, NULL));
	t_close(&pair);
	bystanders();
	failed_exec();
	return 0;
}
