/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

__thread struct pl_gate pl_gate;

/*
 * By thread, so that threads of one process do not share a line; which one does not matter. In the
 * process's own slot: of a process that is killed inside the agent lowers the counts, by slot.
 */
static uint32_t *own_line(void)
{
	const uint32_t proc = pl_process_number();
	const uint64_t mix = (uint64_t)(uintptr_t)&pl_gate * 0x9e3779b97f4a7c15ull;

	return &pl.local->gates[proc < COLOC_PROCS_MAX ? proc : COLOC_PROCS_MAX]
			.line[mix >> 61]
			.inside;
}

/* K1: counted first, then the look; pairs with the agent's K2: away first, then the counts. */
static void count_in(uint32_t *line)
{
	uint32_t attach;

	shmt_add(line, 1);
	attach = shmt_load(&pl.local->region_attach);
	pl_gate.line = line;
	pl_gate.attach = attach == shmt_load_acquire(&pl.region_attach) ? attach : 0;
}

struct pl_gate pl_gate_enter_slow(void)
{
	const struct pl_gate before = pl_gate;

	count_in(own_line());
	return before;
}

void pl_gate_leave_slow(const struct pl_gate *before)
{
	uint32_t *const line = pl_gate.line;

	pl_gate = *before;
	if (line)
		shmt_sub(line, 1);
}

struct pl_gate pl_gate_sleep_slow(void)
{
	const struct pl_gate before = pl_gate;

	pl_gate = (struct pl_gate){0};
	if (before.line)
		shmt_sub(before.line, 1);
	return before;
}

void pl_gate_wake_slow(const struct pl_gate *before)
{
	if (before->line)
		count_in(own_line());
}

void pl_gate_look_slow(void)
{
	uint32_t attach = shmt_load(&pl.local->region_attach);

	if (attach && attach != shmt_load_acquire(&pl.region_attach)) {
		pl_process_follow();
		attach = shmt_load(&pl.local->region_attach);
	}
	if (pl_gate.line)
		pl_gate.attach = attach == shmt_load_acquire(&pl.region_attach) ? attach : 0;
}

void pl_gate_cut(void)
{
	pl_gate_leave_slow(&(const struct pl_gate){0});
}
