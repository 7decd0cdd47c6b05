/* SPDX-License-Identifier: Apache-2.0 */
#include "wait.h"

#include <sched.h>
#include <sys/resource.h>

#include "clock.h"

#define FAILS_MAX	  10u
#define MORE_MAX	  18u	   /* streams that make a wait longer */
#define ASK_AFTER_NS	  2000u	   /* a spin gives way once: do others want the processor? */
#define YIELD_AFTER_NS	  50000u   /* it does so at each turn from then on */
#define TURN_NS		  2000u	   /* of a turn that gives way; what is longer others have used */
#define LOST_NS		  2000000u /* when they have used so much it was no wait but a sleep */
#define AT_ONCE_TURNS	  8u	   /* of a wait that is over at once */
#define GATHER_AFTER	  4u	   /* such waits in a row */
#define GATHER_AFTER_MOST 1000u	   /* where it was in vain before */
#define GATHER_NS	  125u
#define GATHER_MOST_NS	  500u

/* Of this thread: when a spin asks, and how often others had taken the processor by the last time.
 */
static __thread uint64_t ask_after_ns __attribute__((tls_model("initial-exec"))) = ASK_AFTER_NS;
static __thread long pushed_out __attribute__((tls_model("initial-exec")));

/* A yield that took long: did others run, or was it slow for another reason (a tracer)? */
static bool others_ran(void)
{
	const long before = pushed_out;
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage) < 0)
		return true;
	pushed_out = usage.ru_nivcsw;
	return pushed_out != before;
}

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

/*
 * Who waits for several streams holds no reference to the one that he names here. Should another
 * thread have closed it meanwhile, and its place be another's: that one has a record, too, but
 * maybe no ring yet.
 */
void pl_spin_begin(struct pl_stream *s, struct pl_spin *spin, uint32_t awake)
{
	struct shmt_dir_shared *const rx = shmt_load_relaxed(&s->rx.shared);
	const uint32_t failed = shmt_load_relaxed(&s->rec->rx.spin_fails);
	const uint32_t fails = failed < FAILS_MAX ? failed : FAILS_MAX;
	const uint64_t more = awake < MORE_MAX ? awake : MORE_MAX;
	uint64_t budget_ns, next, now;

	*spin = (struct pl_spin){0};
	if (PL_UNLIKELY(!rx))
		return;
	spin->yields = pl_same_cpu(s, pl_note_cpu(&rx->r_cpu), shmt_load_relaxed(&rx->s_cpu));
	spin->asked = spin->yields;
	budget_ns = 1000 * (uint64_t)(spin->yields ? pl_setting(wait_spin_samecpu_us)
						   : pl_setting(wait_spin_us));
	budget_ns += budget_ns * more / 2;
	if (!budget_ns)
		return;
	now = pl_now_ns();
	if (fails > 1 && now - shmt_load_relaxed(&s->failed_ns) < budget_ns << (fails - 1))
		return;
	spin->begin_ns = spin->now_ns = now;
	spin->until_ns = now + budget_ns;
	/* The answer to what is waited for goes there. */
	next = shmt_load_relaxed(&s->rec->tx.word);
	if (next && pl_attached(s)) {
		shmt_ring_soon_in(&s->tx.ring, SHMT_CTL_VALUE(next));
		shmt_store_relaxed(&s->waited, 1);
	}
}

bool pl_spin_more_slow(struct pl_spin *spin)
{
	const uint64_t before = pl_now_ns();
	const bool asks = !spin->asked && (spin->yields || before - spin->begin_ns > ask_after_ns);
	uint64_t now = before;

	if (spin->yields || asks) {
		bool others;

		spin->asked = true;
		sched_yield();
		spin->turns = (spin->turns | 31) + 1;
		now = pl_now_ns();
		others = now - before > TURN_NS && (!asks || others_ran());
		if (asks && others)
			ask_after_ns =
				ask_after_ns / 4 > ASK_AFTER_NS ? ask_after_ns / 4 : ASK_AFTER_NS;
		else if (asks && ask_after_ns < YIELD_AFTER_NS)
			ask_after_ns *= 2;
		/* Others have run: that has cost us nothing. */
		if (others) {
			spin->yields = true;
			if (now - spin->begin_ns < LOST_NS)
				spin->until_ns += now - before - TURN_NS;
		}
	}
	spin->now_ns = now;
	spin->yields |= now - spin->begin_ns > YIELD_AFTER_NS;
	return now < spin->until_ns;
}

void pl_spin_end(struct pl_stream *s, const struct pl_spin *spin, bool found)
{
	uint32_t *fails = &s->rec->rx.spin_fails;

	if (found && spin->until_ns && spin->yields && pl_now_ns() - spin->begin_ns > LOST_NS)
		found = false;
	if (found) {
		if (shmt_load_relaxed(fails))
			shmt_store_relaxed(fails, 0);
	} else if (spin->until_ns) {
		shmt_store_relaxed(&s->failed_ns, spin->now_ns);
		if (shmt_load_relaxed(fails) < FAILS_MAX)
			shmt_store_relaxed(fails, shmt_load_relaxed(fails) + 1);
	}
}

void pl_gather(struct pl_stream *s, const struct pl_spin *spin)
{
	const uint64_t gather_ns = shmt_load_relaxed(&s->gather_ns);

	if (!gather_ns || !spin->until_ns || spin->yields)
		return;
	do
		shmt_pause();
	while (pl_now_ns() - spin->begin_ns < gather_ns);
}

void pl_gathered(struct pl_stream *s, const struct pl_spin *spin, bool more)
{
	const uint32_t gather_ns = shmt_load_relaxed(&s->gather_ns);
	const uint32_t after = shmt_load_relaxed(&s->gather_after);
	const bool at_once = spin->turns < AT_ONCE_TURNS && !spin->yields;

	if (gather_ns && more) {
		shmt_store_relaxed(&s->gather_ns,
				   gather_ns < GATHER_MOST_NS ? gather_ns * 2 : gather_ns);
		shmt_store_relaxed(&s->gather_after, 0);
	} else if (gather_ns) {
		/* In vain: the next time it is thought over for longer. */
		shmt_store_relaxed(&s->gather_ns, 0);
		shmt_store_relaxed(&s->at_once, 0);
		shmt_store_relaxed(&s->gather_after,
				   after < GATHER_AFTER_MOST ? after * 2 + GATHER_AFTER : after);
	} else if (!at_once) {
		shmt_store_relaxed(&s->at_once, 0);
	} else if (shmt_bump(&s->at_once) > after + GATHER_AFTER) {
		shmt_store_relaxed(&s->gather_ns, GATHER_NS);
	}
}

bool pl_peer_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return pl_real.poll(&p, 1, 0) > 0;
}
