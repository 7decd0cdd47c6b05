/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.c - the differential fuzzer: random programs of socket operations, over TCP and over the
 *ring
 *
 *	diff [--seed N] [--programs N] [--seconds N] [--rings N] [--out FOLDER] [--keep-going]
 *[--no-shrink]
 *	     [--verbose] [--strace FILE]
 *	diff --seed N --print
 *	diff [--repeat N] --program FILE...
 *
 * Each program (ops.def) runs in diff_run over plain TCP, then preloaded with the policy "always"
 *on rings while an interferer drains and resumes the agent; the results must be the same. A
 * difference is looked at again: if plain TCP differs from itself the program is dropped, and
 * counted, else it is shrunk and written to FOLDER. The agent is one of our own.
 */
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "diff.h"

#define DROPPED_MOST 50 /* one in so many may be unsure of itself; more is a fault of the model */

volatile bool stopping;

static struct {
	uint64_t seed, programs, seconds, rings, repeat;
	const char *out;
	bool print, keep_going, no_shrink, verbose;
} opt = {.programs = UINT64_MAX, .seconds = UINT64_MAX, .rings = 2, .repeat = 20, .out = "."};

static struct {
	uint64_t programs, runs, dropped, differences, operations, skipped;
	uint64_t bytes, ring_bytes, warmed, warm_tries;
} total;

static const struct how plain;

static void stop(int number)
{
	(void)number;
	stopping = true;
}

static uint64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static void report(const struct prog *prog, const struct how *how, const struct difference *d)
{
	char line[128] = "the end", text[128];

	if (d->op >= 0 && (uint32_t)d->op < prog->count)
		prog_line(&prog->op[d->op], line, sizeof(line));
	how_text(how, text, sizeof(text));
	printf("seed %llu: operation %d (%s): plain \"%s\", ring \"%s\" (%s)\n",
	       (unsigned long long)prog->seed, d->op, line, d->was, d->is, text);
	fflush(stdout);
}

static void account(const struct prog *prog, const struct outcome *outcome)
{
	uint32_t i;

	total.runs++;
	total.bytes += outcome->bytes;
	total.ring_bytes += outcome->ring_bytes;
	total.warmed += outcome->warmed;
	total.warm_tries += outcome->warm_tries;
	for (i = 0; i < prog->count; i++) {
		total.operations++;
		total.skipped += outcome->result[i].state == RES_SKIPPED;
	}
}

/* How often does it come out otherwise? Shrinking must be patient enough. */
static uint32_t patience(const struct prog *prog, const struct how *how)
{
	struct difference ignored;
	uint32_t found = 0, i;

	for (i = 0; i < 30 && found < 5 && !stopping; i++)
		found += differs(prog, how, 1, &ignored);
	if (!found)
		return 0;
	return 2 + 4 * i / found;
}

static void found(struct prog *prog, const struct how *how)
{
	char path[PATH_MAX];
	struct difference d;
	uint32_t tries;

	total.differences++;
	snprintf(path, sizeof(path), "%s/diff-%llu.prog", opt.out, (unsigned long long)prog->seed);
	(void)prog_write(prog, path);
	if (opt.no_shrink)
		return;
	tries = patience(prog, how);
	if (!tries) {
		printf("  seldom: not shrunk: %s\n", path);
		return;
	}
	shrink(prog, how, tries);
	(void)prog_write(prog, path);
	printf("  shrunk to %u operations, differs once in %u: %s\n", prog->count, tries / 4 + 1,
	       path);
	if (differs(prog, how, tries * 2, &d))
		report(prog, how, &d);
	(void)prog_write(prog, NULL);
}

/* Over plain TCP nothing is lost, and nothing hangs: else the model errs. */
static bool plain_is_sane(const struct prog *prog, const struct outcome *outcome)
{
	char line[128];
	uint32_t i;

	if (strcmp(outcome->status, "ended with 0") != 0) {
		printf("dropped: seed %llu over plain TCP %s\n", (unsigned long long)prog->seed,
		       outcome->status);
		return false;
	}
	for (i = 0; i < prog->count; i++)
		if (outcome->result[i].state == RES_DONE &&
		    (strstr(outcome->result[i].text, "wrong") ||
		     strstr(outcome->result[i].text, " of ") ||
		     strstr(outcome->result[i].text, "!") ||
		     strstr(outcome->result[i].text, "stuck"))) {
			prog_line(&prog->op[i], line, sizeof(line));
			printf("dropped: seed %llu over plain TCP: operation %u (%s): %s\n",
			       (unsigned long long)prog->seed, i, line, outcome->result[i].text);
			return false;
		}
	return true;
}

/* Return: whether it differs */
static bool one_program(struct prog *prog, uint64_t rings, uint64_t rng)
{
	static struct outcome a, b, again;
	struct difference d, unsure;
	struct how how;
	int i;

	total.programs++;
	exec_run(prog, &plain, &a);
	if (!plain_is_sane(prog, &a) && !stopping) {
		total.dropped++;
		return false;
	}
	while (rings-- && !stopping) {
		how_random(&how, &rng);
		agent_pace(how.pace_us);
		exec_run(prog, &how, &b);
		account(prog, &b);
		if (opt.verbose)
			exec_print(prog, &a, &b);
		if (!exec_compare(prog, &a, &b, &d) || stopping)
			continue;
		for (i = 0; i < 4; i++) {
			exec_run(prog, &plain, &again);
			if (exec_compare(prog, &a, &again, &unsure)) {
				total.dropped++;
				printf("dropped: plain TCP is not sure: ");
				report(prog, &plain, &unsure);
				return false;
			}
		}
		report(prog, &how, &d);
		found(prog, &how);
		return true;
	}
	return false;
}

static void summary(void)
{
	printf("%llu programs, %llu preloaded runs, %llu operations (%llu skipped), %llu of %llu warmed up\n"
	       "%llu bytes, %.1f %% of them by ring; %llu dropped, %llu differences\n",
	       (unsigned long long)total.programs, (unsigned long long)total.runs,
	       (unsigned long long)total.operations, (unsigned long long)total.skipped,
	       (unsigned long long)total.warmed, (unsigned long long)total.warm_tries,
	       (unsigned long long)total.bytes,
	       total.bytes ? 100.0 * (double)total.ring_bytes / (double)total.bytes : 0.0,
	       (unsigned long long)total.dropped, (unsigned long long)total.differences);
}

static bool proves_something(void)
{
	if (total.programs >= DROPPED_MOST && total.dropped * DROPPED_MOST > total.programs) {
		printf("too many programs dropped: the model errs\n");
		return false;
	}
	if (total.runs >= 20 && total.ring_bytes * 10 < total.bytes) {
		printf("hardly anything went by the ring\n");
		return false;
	}
	return true;
}

static void random_programs(void)
{
	const uint64_t begun = now_s();
	struct prog prog;

	printf("seed %llu\n", (unsigned long long)opt.seed);
	fflush(stdout);
	for (uint64_t i = 0; i < opt.programs && now_s() - begun < opt.seconds && !stopping; i++) {
		prog_make(&prog, opt.seed + i);
		if (one_program(&prog, opt.rings, opt.seed + i) && !opt.keep_going)
			break;
	}
}

static bool given_programs(char *const *paths)
{
	struct prog prog;

	for (; *paths && !stopping; paths++) {
		if (!prog_read(&prog, *paths))
			return false;
		printf("%s\n", *paths);
		fflush(stdout);
		(void)one_program(&prog, opt.repeat, opt.seed);
	}
	return true;
}

static uint64_t number(const char *text)
{
	char *rest;
	const uint64_t value = strtoull(text, &rest, 0);

	if (*rest || rest == text) {
		fprintf(stderr, "diff: not a number: %s\n", text);
		exit(2);
	}
	return value;
}

static bool options(int argc, char **argv, bool *ret_files)
{
	static const struct option all[] = {{"seed", required_argument, NULL, 's'},
					    {"programs", required_argument, NULL, 'n'},
					    {"seconds", required_argument, NULL, 't'},
					    {"rings", required_argument, NULL, 'r'},
					    {"repeat", required_argument, NULL, 'R'},
					    {"out", required_argument, NULL, 'o'},
					    {"print", no_argument, NULL, 'p'},
					    {"program", no_argument, NULL, 'f'},
					    {"keep-going", no_argument, NULL, 'k'},
					    {"no-shrink", no_argument, NULL, 'S'},
					    {"verbose", no_argument, NULL, 'v'},
					    {"strace", required_argument, NULL, 'T'},
					    {0}};
	int option;

	opt.seed = (uint64_t)time(NULL) * 100000;
	while ((option = getopt_long(argc, argv, "", all, NULL)) >= 0) {
		switch (option) {
		case 's':
			opt.seed = number(optarg);
			break;
		case 'n':
			opt.programs = number(optarg);
			break;
		case 't':
			opt.seconds = number(optarg);
			break;
		case 'r':
			opt.rings = number(optarg);
			break;
		case 'R':
			opt.repeat = number(optarg);
			break;
		case 'o':
			opt.out = optarg;
			break;
		case 'p':
			opt.print = true;
			break;
		case 'f':
			*ret_files = true;
			break;
		case 'S':
			opt.no_shrink = true;
			break;
		case 'v':
			opt.verbose = true;
			break;
		case 'T':
			exec_strace = optarg;
			break;
		case 'k':
			opt.keep_going = true;
			break;
		default:
			return false;
		}
	}
	return *ret_files || optind == argc;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = stop};
	char build[PATH_MAX] = "";
	bool files = false, good = true;
	struct prog prog;

	if (!options(argc, argv, &files))
		return 2;
	if (opt.print) {
		prog_make(&prog, opt.seed);
		return prog_write(&prog, NULL) ? 1 : 0;
	}
	/* .../tests/fuzz/diff/diff */
	if (readlink("/proc/self/exe", build, sizeof(build) - 1) < 0)
		return 1;
	for (int i = 0; i < 4; i++)
		dirname(build);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (!exec_init(build) || !agent_start(build)) {
		agent_stop();
		return 1;
	}
	if (files)
		good = given_programs(argv + optind);
	else
		random_programs();
	agent_stop();
	summary();
	return good && (files || proves_something()) && !total.differences ? 0 : 1;
}
