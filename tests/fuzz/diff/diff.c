/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.c - the differential fuzzer: random programs of socket operations, over TCP and on the ring
 *
 *	diff [--seed N] [--programs N] [--seconds N] [--rings N] [--out FOLDER] [--keep-going]
 *	     [--no-shrink] [--shrink-seconds N] [--jobs N] [--verbose] [--strace FILE]
 *	diff --seed N --print
 *	diff [--repeat N] --program FILE...
 *
 * Each program (ops.def) runs in diff_run over plain TCP, then preloaded with the policy "always"
 * on rings while an interferer drains and resumes the agent; the results must be the same. A
 * difference is looked at again: if plain TCP differs from itself the program is dropped, and
 * counted, else it is shrunk and written to FOLDER. Jobs run beside each other, each with an agent
 * of its own; mostly they wait.
 *
 * A run ends: --seconds is when no more programs are begun; one program takes a minute a run at
 * most, and --shrink-seconds if it differs (exec.c, shrink.c, jobs.c). ^C ends it at once.
 */
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "diff.h"

#define DROPPED_MOST 50 /* one in so many may be unsure of itself; more is a fault of the model */
#define RING_LEAST   10 /* one byte in so many goes by ring; what fills a socket apart */

static struct {
	uint64_t seed, programs, seconds, rings, repeat, jobs, shrink_seconds;
	const char *out;
	char *const *files; /* to run instead; NULL: random ones */
	bool print, keep_going, no_shrink, verbose;
} opt = {
	.programs = UINT64_MAX,
	.seconds = UINT64_MAX,
	.rings = 2,
	.repeat = 20,
	.shrink_seconds = 60,
	.out = ".",
};

static const struct how plain;
static char build[PATH_MAX];
static int64_t begun_s;

static void report(const struct prog *prog, const struct how *how, const struct difference *d)
{
	char line[128] = "the end", text[128];

	if (d->op >= 0 && (uint32_t)d->op < prog->count)
		prog_line(&prog->op[d->op], line, sizeof(line));
	how_text(how, text, sizeof(text));
	printf("seed %llu: operation %d (%s): plain \"%s\", ring \"%s\" (%s)\n",
	       (unsigned long long)prog->seed, d->op, line, d->was, d->is, text);
}

static void account(const struct prog *prog, const struct outcome *outcome)
{
	uint32_t i;

	mine->runs++;
	mine->bytes += outcome->bytes;
	mine->ring_bytes += outcome->ring_bytes;
	mine->warmed += outcome->warmed;
	mine->warm_tries += outcome->warm_tries;
	for (i = 0; i < prog->count; i++) {
		mine->operations++;
		mine->skipped += outcome->result[i].state == RES_SKIPPED;
	}
}

static void found(struct prog *prog, const struct how *how)
{
	char path[PATH_MAX];
	struct difference d;
	uint32_t once_in;

	mine->differences++;
	if (!opt.keep_going)
		__atomic_store_n(&board->last, 1, __ATOMIC_RELAXED);
	snprintf(path, sizeof(path), "%s/diff-%llu.prog", opt.out, (unsigned long long)prog->seed);
	(void)prog_write(prog, path);
	if (opt.no_shrink)
		return;
	once_in = shrink(prog, how, (int64_t)opt.shrink_seconds);
	if (!once_in) {
		printf("  seldom: not shrunk: %s\n", path);
		return;
	}
	(void)prog_write(prog, path);
	printf("  shrunk to %u operations, differs once in %u: %s\n", prog->count, once_in, path);
	if (differs(prog, how, 4 * once_in, &d))
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

static void one_program(struct prog *prog, uint64_t rings, uint64_t rng)
{
	static struct outcome a, b, again;
	struct difference d, unsure;
	struct how how;
	int i;

	mine->programs++;
	exec_run(prog, &plain, NULL, &a);
	if (!stopped() && !plain_is_sane(prog, &a)) {
		mine->dropped++;
		return;
	}
	while (rings-- && !stopped()) {
		how_random(&how, &rng);
		agent_pace(how.pace_us);
		exec_run(prog, &how, &a, &b);
		account(prog, &b);
		if (opt.verbose)
			exec_print(prog, &a, &b);
		if (stopped() || !exec_compare(prog, &a, &b, &d))
			continue;
		for (i = 0; i < 4; i++) {
			exec_run(prog, &plain, &a, &again);
			if (stopped())
				return;
			if (exec_compare(prog, &a, &again, &unsure)) {
				mine->dropped++;
				printf("dropped: plain TCP is not sure: ");
				report(prog, &plain, &unsure);
				return;
			}
		}
		report(prog, &how, &d);
		found(prog, &how);
		return;
	}
}

/* Return: whether there was one */
static bool next_program(struct prog *prog)
{
	const uint64_t number = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED);

	if (number >= opt.programs || (uint64_t)(now_s() - begun_s) >= opt.seconds)
		return false;
	if (!opt.files) {
		prog_make(prog, opt.seed + number);
		return true;
	}
	if (!prog_read(prog, opt.files[number]))
		return false;
	printf("%s\n", opt.files[number]);
	return true;
}

static bool job(void)
{
	static struct prog prog;
	bool good;

	good = exec_init(build) && agent_start(build);
	while (good && !stopped() && !__atomic_load_n(&board->last, __ATOMIC_RELAXED) &&
	       next_program(&prog)) {
		mine->seed = prog.seed;
		__atomic_store_n(&mine->since, now_s(), __ATOMIC_RELEASE);
		one_program(&prog, opt.files ? opt.repeat : opt.rings, prog.seed);
		__atomic_store_n(&mine->since, 0, __ATOMIC_RELEASE);
	}
	agent_stop();
	return good;
}

static void summary(const struct tally *total)
{
	printf("%llu programs in %lld s, %llu preloaded runs, %llu operations (%llu skipped), %llu of %llu warmed up\n"
	       "%llu bytes, %.1f %% of them by ring; %llu dropped, %llu differences\n",
	       (unsigned long long)total->programs, (long long)(now_s() - begun_s),
	       (unsigned long long)total->runs, (unsigned long long)total->operations,
	       (unsigned long long)total->skipped, (unsigned long long)total->warmed,
	       (unsigned long long)total->warm_tries, (unsigned long long)total->bytes,
	       total->bytes ? 100.0 * (double)total->ring_bytes / (double)total->bytes : 0.0,
	       (unsigned long long)total->dropped, (unsigned long long)total->differences);
}

static bool proves_something(const struct tally *total)
{
	if (total->programs >= DROPPED_MOST && total->dropped * DROPPED_MOST > total->programs) {
		printf("too many programs dropped: the model errs\n");
		return false;
	}
	if (total->runs >= 20 && total->ring_bytes * RING_LEAST < total->bytes) {
		printf("hardly anything went by the ring\n");
		return false;
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
					    {"jobs", required_argument, NULL, 'j'},
					    {"shrink-seconds", required_argument, NULL, 'm'},
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
		case 'j':
			opt.jobs = number(optarg);
			break;
		case 'm':
			opt.shrink_seconds = number(optarg);
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
	struct tally total;
	bool files = false, good;
	struct prog prog;

	if (!options(argc, argv, &files))
		return 2;
	if (opt.print) {
		prog_make(&prog, opt.seed);
		return prog_write(&prog, NULL) ? 1 : 0;
	}
	/* Lines of several processes: each in one piece. */
	setvbuf(stdout, NULL, _IOLBF, 4096);
	/* .../tests/fuzz/diff/diff */
	if (readlink("/proc/self/exe", build, sizeof(build) - 1) < 0)
		return 1;
	for (int i = 0; i < 4; i++)
		dirname(build);
	if (files) {
		opt.files = argv + optind;
		opt.programs = (uint64_t)(argc - optind);
	} else {
		printf("seed %llu\n", (unsigned long long)opt.seed);
	}
	begun_s = now_s();
	/* They wait for half of their time. */
	if (!opt.jobs)
		opt.jobs = 2 * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	if (opt.jobs > opt.programs)
		opt.jobs = opt.programs;
	good = jobs_run(opt.jobs < JOBS_MAX ? (uint32_t)opt.jobs : JOBS_MAX, job);
	jobs_sum(&total);
	summary(&total);
	return good && (files || proves_something(&total)) && !total.differences ? 0 : 1;
}
