/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.c - several processes that look at programs beside each other, and who watches over them
 *
 * Nothing here waits without a limit: a job that is at one program for too long is ended, with the
 * seed said. Each job leads a process group, so that ^C reaches the watcher alone, which tells the
 * others by the board; they see it within a step of exec.c, and clean up.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "diff.h"

#define TICK_MS	   200
#define PROGRESS_S 10
#define PROGRAM_S  600 /* of one program: its runs, looking again, shrinking */
#define STOP_S	   10  /* for cleaning up */

struct board *board;
struct tally *mine;

static uint32_t jobs;
static int64_t stopped_s;

int64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec;
}

bool stopped(void)
{
	return __atomic_load_n(&board->stop, __ATOMIC_RELAXED);
}

static void on_signal(int number)
{
	(void)number;
	__atomic_store_n(&board->stop, 1, __ATOMIC_RELAXED);
}

static void start(struct tally *tally, bool (*job)(void))
{
	const pid_t pid = fork();

	if (!pid) {
		mine = tally;
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		_exit(job() ? 0 : 1);
	}
	tally->job = pid;
}

/* Its agent and the interferer die with it. */
static void end_job(const struct tally *tally)
{
	if (tally->interpreter > 0)
		kill(-tally->interpreter, SIGKILL);
	kill(tally->job, SIGKILL);
}

static bool too_long(const struct tally *tally)
{
	const int64_t since = __atomic_load_n(&tally->since, __ATOMIC_ACQUIRE), now = now_s();

	if (since && now - since > PROGRAM_S) {
		printf("seed %llu: no end of it after %d s\n", (unsigned long long)tally->seed,
		       PROGRAM_S);
		return true;
	}
	if (stopped() && !stopped_s)
		stopped_s = now;
	return stopped_s && now - stopped_s > STOP_S;
}

static void progress(int64_t begun)
{
	struct tally sum;

	jobs_sum(&sum);
	printf("  %lld s: %llu programs, %llu differences, %llu dropped; seeds up to %llu\n",
	       (long long)(now_s() - begun), (unsigned long long)sum.programs,
	       (unsigned long long)sum.differences, (unsigned long long)sum.dropped,
	       (unsigned long long)sum.seed);
}

static bool watch(void)
{
	const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
	const int64_t begun = now_s();
	int64_t told = begun;
	uint32_t left = jobs, i;
	bool good = true, late;
	int status;

	while (left) {
		nanosleep(&tick, NULL);
		for (i = 0; i < jobs; i++) {
			struct tally *tally = &board->tally[i];

			if (!tally->job)
				continue;
			late = too_long(tally);
			if (late)
				end_job(tally);
			if (waitpid(tally->job, &status, late ? 0 : WNOHANG) != tally->job)
				continue;
			good = good && WIFEXITED(status) && !WEXITSTATUS(status);
			tally->job = 0;
			left--;
		}
		if (now_s() - told >= PROGRESS_S) {
			progress(begun);
			told = now_s();
		}
	}
	return good && !stopped();
}

bool jobs_run(uint32_t count, bool (*job)(void))
{
	struct sigaction action = {.sa_handler = on_signal};
	uint32_t i;

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED) {
		perror("diff: memory");
		return false;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	for (i = 0; i < count; i++)
		start(&board->tally[i], job);
	jobs = count;
	return watch();
}

void jobs_sum(struct tally *ret)
{
	const struct tally *t;

	memset(ret, 0, sizeof(*ret));
	for (t = board->tally; t < board->tally + jobs; t++) {
		ret->programs += t->programs;
		ret->runs += t->runs;
		ret->dropped += t->dropped;
		ret->differences += t->differences;
		ret->operations += t->operations;
		ret->skipped += t->skipped;
		ret->bytes += t->bytes;
		ret->ring_bytes += t->ring_bytes;
		ret->warmed += t->warmed;
		ret->warm_tries += t->warm_tries;
		ret->seed = t->seed > ret->seed ? t->seed : ret->seed;
	}
}
