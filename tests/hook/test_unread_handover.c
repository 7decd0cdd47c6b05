// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes that were sent but not yet read belong to whoever reads next, also when that is code which
 * knows no ring: stdio after fdopen, and a program that is exec'd without the library.
 * HAZARDS 4, 14.
 */

#include "t.h"

#define UNREAD 2000u

static struct t_pair pair;
static char self[4096];

static void by_stdio(void)
{
	char line[64];
	FILE *in;

	t_open_hot(&pair);
	T_EQ(T_OK(send(pair.b, "first line\nsecond line\n", 23, 0)), 23);
	in = fdopen(dup(pair.a), "r");
	T_CHECK(in);
	T_CHECK(fgets(line, sizeof(line), in) && !strcmp(line, "first line\n"));
	T_CHECK(fgets(line, sizeof(line), in) && !strcmp(line, "second line\n"));
	T_EQ(fclose(in), 0);
	t_close(&pair);
}

static void exec_bare(void *arg)
{
	char number[16];
	char *args[] = {self, number, NULL}, *env[] = {NULL};

	(void)arg;
	snprintf(number, sizeof(number), "%d", pair.b);
	T_OK(fcntl(pair.b, F_SETFD, 0));
	execve(self, args, env);
	_exit(126);
}

static void by_bare_program(void)
{
	pid_t pid;

	t_open_hot(&pair);
	t_send(pair.a, UNREAD, 3, 0);
	pid = t_child(exec_bare, NULL);
	T_OK(close(pair.b));
	t_recv(pair.a, UNREAD, 4, 0);
	t_join(pid);
	T_OK(close(pair.a));
}

int main(int argc, char **argv)
{
	const struct timeval limit = {.tv_sec = 4};

	T_CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	if (argc == 2) {
		const int fd = atoi(argv[1]);

		/* A hang becomes a failure. */
		T_OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
		t_recv(fd, UNREAD, 3, 0);
		t_send(fd, UNREAD, 4, 0);
		return 0;
	}
	by_bare_program();
	by_stdio();
	return 0;
}
