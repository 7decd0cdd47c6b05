/* SPDX-License-Identifier: Apache-2.0 */
#include "wait.h"

#include <sched.h>

#include "clock.h"

#define FAILS_MAX 7u

uint32_t pl_note_cpu(uint32_t *shared_cpu)
{
	const uint32_t cpu = (uint32_t)sched_getcpu() + 1;

	if (shmt_load_relaxed(shared_cpu) != cpu)
		shmt_store_relaxed(shared_cpu, cpu);
	return cpu;
}

void pl_wait_mapped(void)
{
	pl_gate_look();
	if (pl_gate_stale()) {
		PL_ASLEEP;
		(void)pl_real.poll(NULL, 0, 1);
	}
}

void pl_spin_begin(struct pl_stream *s, struct pl_spin *spin)
{
	const uint32_t cpu = pl_note_cpu(&s->rx.shared->r_cpu);
	const uint32_t fails = shmt_load_relaxed(&s->rec->rx.spin_fails);
	int64_t budget_us;

	spin->turns = 0;
	spin->until_ns = 0;
	(void)shmt_bump(&s->waits);
	if (fails > 1 && (shmt_load_relaxed(&s->waits) &
			  ((1u << (fails < FAILS_MAX ? fails - 1 : FAILS_MAX - 1)) - 1)))
		return;
	budget_us = pl_same_cpu(s, cpu, shmt_load_relaxed(&s->rx.shared->s_cpu))
			    ? pl_setting(wait_spin_samecpu_us)
			    : pl_setting(wait_spin_us);
	if (budget_us > 0)
		spin->until_ns = pl_now_ns() + (uint64_t)budget_us * 1000;
}

void pl_spin_end(struct pl_stream *s, const struct pl_spin *spin, bool found)
{
	uint32_t *fails = &s->rec->rx.spin_fails;

	if (found) {
		if (shmt_load_relaxed(fails))
			shmt_store_relaxed(fails, 0);
	} else if (spin->until_ns && shmt_load_relaxed(fails) < FAILS_MAX) {
		shmt_store_relaxed(fails, shmt_load_relaxed(fails) + 1);
	}
}

bool pl_peer_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return pl_real.poll(&p, 1, 0) > 0;
}
