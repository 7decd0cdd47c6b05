/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.h - may this thread touch the region now?
 *
 * A region that is a PCI device can be taken away while programs run (unplug, migration). Then no
 * thread may look at it: where the kernel still maps it a read gives ones, elsewhere the program
 * would be killed. So whoever uses the region counts itself in, in a line of the local memory that
 * the agent can see, and looks after that whether the region is there; the agent says first that it
 * is not, and then waits until everybody is out. Both are sequentially consistent: one of the two
 * sees the other. Nobody is counted while asleep in the kernel: a sleeper looks again when it comes
 * back.
 *
 * That the region is there cannot change for who is counted in. That it is away can: so who acts on
 * that looks again (pl_gate_look(), pl_gate_stale()) once it has announced what others look at: a
 * receiver after rx.unattached, a sender under its lock, a sleeper after it is counted as one.
 * tests/ model/detach.pml
 *
 * Each time the region comes it has another number (attach). What a thread learnt under one number
 * is void under the next: a segment is mapped anew, a receiver that entered the kernel before is in
 * rx.unattached now (docs/protocol.md, section 9).
 *
 * Regions that stay (tmpfs, hugetlbfs) pay one load of a flag. Scopes are closed by thread
 * cancellation too; siglongjmp: pl_gate_cut(). A signal handler leaves all as it found it.
 */
#ifndef PL_GATE_H
#define PL_GATE_H

#include "process.h"

struct pl_gate {
	uint32_t *line;	 /* where this thread is counted now; NULL = it is not */
	uint32_t attach; /* the region's number as this thread may use it; 0 = it may not */
};

extern __thread struct pl_gate pl_gate __attribute__((tls_model("initial-exec")));

struct pl_gate pl_gate_enter_slow(void);
void pl_gate_leave_slow(const struct pl_gate *before);
struct pl_gate pl_gate_sleep_slow(void);
void pl_gate_wake_slow(const struct pl_gate *before);

static inline struct pl_gate pl_gate_enter(void)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) ? pl_gate_enter_slow()
							     : (struct pl_gate){0};
}

static inline void pl_gate_leave(const struct pl_gate *before)
{
	if (PL_UNLIKELY(shmt_load_acquire(&pl.removable)))
		pl_gate_leave_slow(before);
}

static inline struct pl_gate pl_gate_sleep(void)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) ? pl_gate_sleep_slow()
							     : (struct pl_gate){0};
}

static inline void pl_gate_wake(const struct pl_gate *before)
{
	if (PL_UNLIKELY(shmt_load_acquire(&pl.removable)))
		pl_gate_wake_slow(before);
}

/* To the end of the block the region may be touched, if pl_gate_attach() says that it is there. */
#define PL_IN_REGION                                                                       \
	const struct pl_gate gate_scope_ __attribute__((cleanup(pl_gate_leave), unused)) = \
		pl_gate_enter()

/* Within PL_IN_REGION: to the end of the block this thread may sleep, and touches nothing. */
#define PL_ASLEEP                                                                          \
	const struct pl_gate sleep_scope_ __attribute__((cleanup(pl_gate_wake), unused)) = \
		pl_gate_sleep()

/** pl_gate_attach() - the number of the region that this thread may use now; 0: none */
static inline uint32_t pl_gate_attach(void)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) ? pl_gate.attach
							     : shmt_load_relaxed(&pl.region_attach);
}

void pl_gate_look_slow(void);

/** pl_gate_look() - within PL_IN_REGION: is the region (still) away, or here now? */
static inline void pl_gate_look(void)
{
	if (PL_UNLIKELY(shmt_load_acquire(&pl.removable)))
		pl_gate_look_slow();
}

/** pl_gate_stale() - this thread takes the region to be away, and it is not: pl_gate_look() */
static inline bool pl_gate_stale(void)
{
	return PL_UNLIKELY(shmt_load_acquire(&pl.removable)) && !pl_gate.attach &&
	       shmt_load(&pl.local->region_attach) != 0;
}

/** pl_gate_cut() - the thread's stack is cut: its scopes are over */
void pl_gate_cut(void);

#endif
