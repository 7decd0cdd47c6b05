/* SPDX-License-Identifier: Apache-2.0 */
/* exec.c - run a program in the interpreter, plain or preloaded, and compare what came of it */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "diff.h"

#define STEP_MS	 100
#define STUCK_MS 15000 /* without a turn: longer than any operation waits */
#define MOST_MS	 60000 /* of one run */
#define WARM_MS	 40
#define LATE_MS	 3000

struct world *w;
const char *exec_strace;
int32_t exec_late_ms = LATE_MS;

static char interpreter[256], library[256], world_path[64];
static int cpus;

bool exec_init(const char *build)
{
	const int fd = memfd_create("world", MFD_CLOEXEC);
	cpu_set_t set;

	snprintf(interpreter, sizeof(interpreter), "%s/tests/fuzz/diff/diff_run", build);
	snprintf(library, sizeof(library), "%s/libcoloc.so", build);
	snprintf(world_path, sizeof(world_path), "/proc/%d/fd/%d", (int)getpid(), fd);
	if (access(interpreter, X_OK) || access(library, R_OK)) {
		fprintf(stderr, "diff: no %s or no %s\n", interpreter, library);
		return false;
	}
	if (fd < 0 || ftruncate(fd, sizeof(*w)) ||
	    (w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		perror("diff: memory");
		return false;
	}
	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	cpus = CPU_COUNT(&set);
	return true;
}

void how_random(struct how *how, uint64_t *rng)
{
	static const uint32_t spins[] = {0, 20, 100, 100, 2000}, pieces[] = {1, 100, 4096, 4096};
	static const uint32_t paces[] = {0, 0, 500, 2000, 10000};

	*how = (struct how){
		.preloaded = true,
		.one_cpu = cpus > 1 && !below(rng, 6),
		.spin_us = spins[below(rng, 5)],
		.first_piece = pieces[below(rng, 4)],
		.pace_us = paces[below(rng, 5)],
	};
}

void how_text(const struct how *how, char *dst, size_t size)
{
	snprintf(dst, size, "spin %u us, first piece %u, %s, %s %u us", how->spin_us,
		 how->first_piece, how->one_cpu ? "one processor" : "all processors",
		 how->pace_us ? "drained every" : "never drained", how->pace_us);
}

static void set_number(const char *name, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	setenv(name, text, 1);
}

static void become_interpreter(const struct how *how)
{
	cpu_set_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	setenv("DIFF_WORLD", world_path, 1);
	if (how->preloaded) {
		setenv("COLOC_POLICY", "always", 1);
		set_number("COLOC_WAIT_SPIN_US", how->spin_us);
		set_number("COLOC_SWITCH_FIRST_PIECE_BYTES", how->first_piece);
	}
	if (how->one_cpu) {
		CPU_ZERO(&set);
		CPU_SET((int)getpid() % cpus, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	if (how->preloaded && exec_strace) {
		char preload[300];

		snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", library);
		execlp("strace", "strace", "-f", "-o", exec_strace, "-E", preload, interpreter,
		       (char *)NULL);
	}
	if (how->preloaded)
		setenv("LD_PRELOAD", library, 1);
	execl(interpreter, interpreter, (char *)NULL);
	_exit(127);
}

/* Is something over by now that came out otherwise? */
static bool differs_already(const struct outcome *expect)
{
	uint32_t i;

	for (i = 0; i < w->prog.count; i++) {
		const uint32_t state = __atomic_load_n(&w->result[i].state, __ATOMIC_ACQUIRE);

		if (state == RES_DONE && (expect->result[i].state != RES_DONE ||
					  strcmp(w->result[i].text, expect->result[i].text) != 0))
			return true;
	}
	return false;
}

/* False: it stands still, or need not go on. */
static bool wait_end(pid_t pid, const struct outcome *expect)
{
	const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint32_t turn = 0, still = 0, all = 0;
	bool ended = false;

	while (still < STUCK_MS && all < MOST_MS && !stopped()) {
		ended = poll(&p, 1, STEP_MS) > 0;
		if (ended || (expect && differs_already(expect)))
			break;
		still = __atomic_load_n(&w->turn, __ATOMIC_RELAXED) == turn ? still + STEP_MS : 0;
		turn = __atomic_load_n(&w->turn, __ATOMIC_RELAXED);
		all += STEP_MS;
	}
	close(fd);
	return ended;
}

void exec_run(const struct prog *prog, const struct how *how, const struct outcome *expect,
	      struct outcome *ret)
{
	int status = 0;
	uint32_t i;
	pid_t pid;
	bool ended;

	memset(w, 0, sizeof(*w));
	w->prog = *prog;
	/* What was begun is brought to an end. */
	for (i = 0; i < ACTORS; i++)
		w->prog.op[w->prog.count++] = (struct op){.kind = OP_join, .actor = (uint8_t)i};
	w->warm_ms = how->preloaded ? WARM_MS : 0;
	w->late_ms = exec_late_ms;
	w->turn = 0;
	pid = fork();
	if (!pid)
		become_interpreter(how);
	(void)setpgid(pid, pid); /* whoever comes first, and not after its exec */
	mine->interpreter = pid;
	ended = wait_end(pid, expect);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	mine->interpreter = 0;
	if (!ended)
		snprintf(ret->status, sizeof(ret->status), "stands still at %u", w->turn);
	else if (WIFSIGNALED(status))
		snprintf(ret->status, sizeof(ret->status), "%s at %u", strsignal(WTERMSIG(status)),
			 w->turn);
	else
		snprintf(ret->status, sizeof(ret->status), "ended with %d", WEXITSTATUS(status));
	memcpy(ret->result, w->result, sizeof(ret->result));
	ret->bytes = w->bytes;
	ret->ring_bytes = w->ring_bytes;
	ret->warmed = w->warmed;
	ret->warm_tries = w->warm_tries;
}

static const char *text_of(const struct result *result)
{
	return result->state == RES_DONE      ? result->text
	       : result->state == RES_SKIPPED ? "(skipped)"
	       : result->state == RES_BEGUN   ? "(begun)"
					      : "(not reached)";
}

void exec_print(const struct prog *prog, const struct outcome *a, const struct outcome *b)
{
	char line[128];
	uint32_t i;

	for (i = 0; i < prog->count; i++) {
		prog_line(&prog->op[i], line, sizeof(line));
		printf("%3u %-44s %s (%u ms)  |  %s (%u ms)\n", i, line, text_of(&a->result[i]),
		       a->result[i].ms, text_of(&b->result[i]), b->result[i].ms);
	}
	printf("    %s  |  %s\n", a->status, b->status);
}

static bool same(const struct result *a, const struct result *b)
{
	return a->state == b->state && (a->state != RES_DONE || !strcmp(a->text, b->text));
}

/* What a run that was ended early had not brought to an end is not its difference. */
bool exec_compare(const struct prog *prog, const struct outcome *a, const struct outcome *b,
		  struct difference *ret)
{
	bool whole;
	uint32_t i;

	for (whole = false;; whole = true) {
		for (i = 0; i < prog->count + ACTORS; i++) {
			const struct result *ra = &a->result[i], *rb = &b->result[i];

			if (same(ra, rb) ||
			    (!whole && (rb->state == RES_BEGUN || rb->state == RES_NONE)))
				continue;
			*ret = (struct difference){(int)i, text_of(ra), text_of(rb)};
			return true;
		}
		if (whole)
			break;
	}
	*ret = (struct difference){NONE, a->status, b->status};
	return strcmp(a->status, b->status) != 0;
}
