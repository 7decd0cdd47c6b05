/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h - inside the driver: where a program runs, and what came of it */
#ifndef DIFF_H
#define DIFF_H

#include <sys/types.h>

#include "world.h"

enum { JOBS_MAX = 16 };

/* What a job has done; only it writes this. */
struct tally {
	uint64_t programs, runs, dropped, differences, operations, skipped;
	uint64_t bytes, ring_bytes, warmed, warm_tries;
	uint64_t seed; /* of the program that it is at, */
	int64_t since; /* since when; 0: at none */
	pid_t job, interpreter;
};

/* What all jobs share. */
struct board {
	uint32_t stop; /* a signal: at once */
	uint32_t last; /* no more programs: one differed */
	uint64_t next; /* of the programs to take */
	struct tally tally[JOBS_MAX];
};
extern struct board *board;
extern struct tally *mine;

/** now_s() - a clock that only goes forward */
int64_t now_s(void);
/** stopped() - by a signal: leave whatever this is */
bool stopped(void);

/* ---- jobs.c ------------------------------------------------------------------------------------
 */

/**
 * jobs_run() - @count processes that call @job each, which ends by itself; says how far they are
 * now and then, and ends one that stands still. Return: whether all ended as they should
 */
bool jobs_run(uint32_t count, bool (*job)(void));
void jobs_sum(struct tally *ret);

/* How a program is run. */
struct how {
	bool preloaded;
	bool one_cpu;
	uint32_t spin_us, first_piece;
	uint32_t pace_us; /* of the interferer; 0: it rests */
};

struct outcome {
	char status[48]; /* of the interpreter */
	struct result result[OPS_MAX];
	uint64_t bytes, ring_bytes;
	uint32_t warmed, warm_tries;
};

struct difference {
	int op; /* NONE: the status */
	const char *was, *is;
};

/* ---- agent.c -----------------------------------------------------------------------------------
 */

/** agent_start() - a residency agent of our own, and the interferer; false: said why */
bool agent_start(const char *build);
void agent_stop(void);
/** agent_pace() - it drains and resumes, on average so often; returns when that is so */
void agent_pace(uint32_t us);

/* ---- exec.c ------------------------------------------------------------------------------------
 */

/** exec_init() - @build: where libcoloc.so and diff_run are */
bool exec_init(const char *build);
/** exec_strace - a file for the system calls of the last preloaded run, or NULL */
extern const char *exec_strace;
/** exec_late_ms - what is due and has not come by then is lost */
extern int32_t exec_late_ms;
/** exec_run() - @expect: ended as soon as it differs from that; or NULL */
void exec_run(const struct prog *prog, const struct how *how, const struct outcome *expect,
	      struct outcome *ret);
/** exec_compare() - false: they are the same */
bool exec_compare(const struct prog *prog, const struct outcome *a, const struct outcome *b,
		  struct difference *ret);
/** exec_print() - each operation with both results */
void exec_print(const struct prog *prog, const struct outcome *a, const struct outcome *b);
/** how_random() - some way to run it preloaded */
void how_random(struct how *how, uint64_t *rng);
void how_text(const struct how *how, char *dst, size_t size);

/* ---- shrink.c ----------------------------------------------------------------------------------
 */

/**
 * shrink() - drop what the difference does not need, for @seconds at most; @prog becomes the
 * smaller program. Return: once in how many runs it differs; 0: too seldom, nothing was dropped
 */
uint32_t shrink(struct prog *prog, const struct how *how, int64_t seconds);
/** differs() - in up to @tries runs; not if plain TCP differs from itself */
bool differs(const struct prog *prog, const struct how *how, uint32_t tries,
	     struct difference *ret);

#endif
