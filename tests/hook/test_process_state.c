// SPDX-License-Identifier: Apache-2.0
/*
 * A process with moved streams has what it would have without: one thread, its own signal handlers
 * and mask, no child, no timer, no alternate stack, its own exit handlers; and what waits for any
 * child finds the program's own. HAZARDS 44.
 */

#include <dirent.h>
#include <sys/time.h>

#include "t.h"

static uint64_t status_mask(const char *name)
{
	unsigned long long mask = 0;
	char line[128];
	FILE *file = fopen("/proc/self/status", "r");
	bool found = false;

	T_CHECK(file);
	while (!found && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			found = sscanf(line + strlen(name), ": %llx", &mask) == 1;
	T_EQ(fclose(file), 0);
	T_CHECK(found);
	return mask;
}

static int threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	T_CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void child_ends(void *arg)
{
	(void)arg;
	_exit(0);
}

int main(void)
{
	/* The sanitizers' runtimes have handlers of their own: what counts is the difference. */
	const uint64_t caught = status_mask("SigCgt"), ignored = status_mask("SigIgn");
	const uint64_t blocked = status_mask("SigBlk");
	struct itimerval timer;
	struct t_pair pair;
	stack_t before, stack;
	int status;
	pid_t pid;

	T_OK(sigaltstack(NULL, &before));
	t_open_hot(&pair);
	for (int i = 0; i < 50; i++)
		t_hot(&pair);
	T_EQ(threads(), 1);
	T_CHECK(status_mask("SigCgt") == caught);
	T_CHECK(status_mask("SigIgn") == ignored);
	T_CHECK(status_mask("SigBlk") == blocked);
	T_OK(getitimer(ITIMER_REAL, &timer));
	T_CHECK(!timer.it_value.tv_sec && !timer.it_value.tv_usec);
	T_OK(sigaltstack(NULL, &stack));
	T_CHECK(stack.ss_flags == before.ss_flags && stack.ss_sp == before.ss_sp);
	T_ERR(waitpid(-1, &status, WNOHANG), ECHILD);
	pid = t_child(child_ends, NULL);
	T_EQ(waitpid(-1, &status, 0), pid);
	T_ERR(waitpid(-1, &status, 0), ECHILD);
	t_hot(&pair);
	t_close(&pair);
	return 0;
}
