/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h - inside the driver: where a program runs, and what came of it */
#ifndef DIFF_H
#define DIFF_H

#include "world.h"

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
void exec_run(const struct prog *prog, const struct how *how, struct outcome *ret);
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

/** shrink() - drop what the difference does not need; @prog becomes the smaller program */
void shrink(struct prog *prog, const struct how *how, uint32_t tries);
/** differs() - in up to @tries runs; not if plain TCP differs from itself */
bool differs(const struct prog *prog, const struct how *how, uint32_t tries,
	     struct difference *ret);

extern volatile bool stopping;

#endif
