/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shrink.c - a smaller program that still differs
 *
 * Any part of a program is a program (ops.def), so pieces of all sizes are dropped as long as some
 * run of the rest differs from plain TCP; then numbers get smaller. That would go on for hours with
 * a difference that is seldom or late, so it has its time; what it has got by then is what it
 * gives.
 */
#include <stdio.h>
#include <string.h>

#include "diff.h"

#define HURRY_MS 1000 /* for what is late: as good as lost while shrinking */
#define RUNS	 30   /* to see how often it differs */
#define SEEN	 5

static const struct how plain;
static int64_t until_s = INT64_MAX;

static bool enough(void)
{
	return stopped() || now_s() >= until_s;
}

bool differs(const struct prog *prog, const struct how *how, uint32_t tries, struct difference *ret)
{
	static struct outcome a, b;
	static char was[96], is[96];
	struct difference again;

	exec_run(prog, &plain, NULL, &a);
	while (tries-- && !enough()) {
		agent_pace(how->pace_us);
		exec_run(prog, how, &a, &b);
		if (stopped() || !exec_compare(prog, &a, &b, ret))
			continue;
		/* Is it plain TCP that is not sure of itself? */
		snprintf(was, sizeof(was), "%s", ret->was);
		snprintf(is, sizeof(is), "%s", ret->is);
		ret->was = was;
		ret->is = is;
		for (int i = 0; i < 3; i++) {
			exec_run(prog, &plain, &a, &b);
			if (exec_compare(prog, &a, &b, &again))
				return false;
		}
		return true;
	}
	return false;
}

static bool try(struct prog *prog, const struct prog *smaller, const struct how *how,
		uint32_t tries)
{
	struct difference ignored;

	if (!differs(smaller, how, tries, &ignored))
		return false;
	*prog = *smaller;
	return true;
}

static bool drop_pieces(struct prog *prog, const struct how *how, uint32_t tries)
{
	uint32_t size, from;
	struct prog smaller;
	bool any = false;

	for (size = prog->count / 2; size && !enough(); size /= 2)
		for (from = prog->count; from-- > 0 && !enough();) {
			const uint32_t first = from + 1 >= size ? from + 1 - size : 0;
			const uint32_t n = from + 1 - first;

			if (from >= prog->count)
				continue;
			smaller = *prog;
			memmove(&smaller.op[first], &smaller.op[from + 1],
				(prog->count - from - 1) * sizeof(smaller.op[0]));
			smaller.count -= n;
			any |= try(prog, &smaller, how, tries);
			from = first;
		}
	return any;
}

static void lower_numbers(struct prog *prog, const struct how *how, uint32_t tries)
{
	uint32_t i, k;
	struct prog smaller;

	for (i = 0; i < prog->count && !enough(); i++) {
		if (prog->op[i].overlap) {
			smaller = *prog;
			smaller.op[i].overlap = 0;
			(void)try(prog, &smaller, how, tries);
		}
		for (k = 0; op_info[prog->op[i].kind].args[k]; k++) {
			const char type = op_info[prog->op[i].kind].args[k];

			if (type == 'f' && prog->op[i].arg[k]) {
				smaller = *prog;
				smaller.op[i].arg[k] = 0;
				(void)try(prog, &smaller, how, tries);
			}
			while (type == 'n' && prog->op[i].arg[k] > 8 && !enough()) {
				smaller = *prog;
				smaller.op[i].arg[k] /= 4;
				if (!try(prog, &smaller, how, tries))
					break;
			}
		}
	}
}

uint32_t shrink(struct prog *prog, const struct how *how, int64_t seconds)
{
	const int32_t patient_ms = exec_late_ms;
	struct difference ignored;
	uint32_t found = 0, runs, once_in;

	until_s = now_s() + seconds;
	exec_late_ms = HURRY_MS;
	for (runs = 0; runs < RUNS && found < SEEN && !enough(); runs++)
		found += differs(prog, how, 1, &ignored);
	once_in = found ? (runs + found - 1) / found : 0;
	if (found) {
		const uint32_t tries = 2 + 4 * runs / found;

		while (drop_pieces(prog, how, tries) && !enough())
			;
		lower_numbers(prog, how, tries);
		while (!enough() && drop_pieces(prog, how, tries))
			;
	}
	exec_late_ms = patient_ms;
	until_s = INT64_MAX;
	return once_in;
}
