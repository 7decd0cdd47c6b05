/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - a private residency agent, and the interferer that drains and resumes it
 *
 * Every drain makes all streams leave their rings, wherever they are in their programs; every
 * resume lets them back. The interferer is a process of its own, so that its moments have nothing
 * to do with the program's.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent_proto.h"
#include "diff.h"
#include "t.h"

static char folder[64], socket_path[96], region_path[96], log_path[96];
static pid_t agent, interferer;
static struct {
	uint32_t pace_us, seen_us;
} * shared;

static void nap(uint32_t us)
{
	const struct timespec some = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L};

	nanosleep(&some, NULL);
}

static void interfere(void)
{
	uint64_t rng = (uint64_t)getpid();
	bool drained = false;

	for (;;) {
		const uint32_t pace = __atomic_load_n(&shared->pace_us, __ATOMIC_ACQUIRE);

		if (pace || drained) {
			free(t_control(drained ? COLOC_VERB_RESUME : COLOC_VERB_DRAIN));
			drained = !drained;
		}
		if (pace || !drained)
			__atomic_store_n(&shared->seen_us, pace, __ATOMIC_RELEASE);
		/* Drained for a moment, not drained for longer. */
		nap(!pace ? 200 : drained ? below(&rng, pace / 2) : below(&rng, pace * 2));
	}
}

void agent_pace(uint32_t us)
{
	__atomic_store_n(&shared->pace_us, us, __ATOMIC_RELEASE);
	while (__atomic_load_n(&shared->seen_us, __ATOMIC_ACQUIRE) != us && !stopped())
		nap(100);
}

static pid_t spawn(const char *path, char *const argv[])
{
	const pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen(log_path, "a", stdout) || dup2(1, 2) < 0)
			_exit(127);
		execv(path, argv);
		perror(path);
		_exit(127);
	}
	return pid;
}

bool agent_start(const char *build)
{
	char program[256], control[256];
	char *const agent_argv[] = {program,	 "--foreground", "--socket",
				    socket_path, "--region",	 region_path,
				    "--config",	 "/dev/null",	 NULL};
	char *const control_argv[] = {control, "--socket", socket_path, "--wait",
				      "10",    "status",   NULL};
	const char *base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	int status = -1;
	pid_t pid;

	snprintf(folder, sizeof(folder), "%s/diff.XXXXXX", base);
	if (!mkdtemp(folder)) {
		perror(folder);
		return false;
	}
	snprintf(socket_path, sizeof(socket_path), "%s/agent.sock", folder);
	snprintf(region_path, sizeof(region_path), "%s/region", folder);
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	snprintf(program, sizeof(program), "%s/residency-agent", build);
	snprintf(control, sizeof(control), "%s/colocctl", build);
	setenv("COLOC_AGENT", socket_path, 1);
	setenv("T_MODE", "back", 1);
	/* Small rings are full soon. */
	setenv("COLOC_REGION_RING_BYTES", "64K", 1);
	setenv("COLOC_REGION_SIZE", "32M", 1);
	agent = spawn(program, agent_argv);
	pid = spawn(control, control_argv);
	if (waitpid(pid, &status, 0) < 0 || status) {
		fprintf(stderr, "diff: the agent does not answer\n");
		return false;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return false;
	interferer = fork();
	if (!interferer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		interfere();
	}
	return true;
}

/* The agent leaves its lock and its memory for the next one. */
static void remove_folder(void)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		(void)unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(folder);
}

void agent_stop(void)
{
	if (interferer > 0) {
		kill(interferer, SIGKILL);
		waitpid(interferer, NULL, 0);
	}
	if (agent > 0) {
		kill(agent, SIGTERM);
		waitpid(agent, NULL, 0);
	}
	if (*folder)
		remove_folder();
	interferer = agent = 0;
}
