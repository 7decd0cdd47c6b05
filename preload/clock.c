/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <stdbool.h>
#include <time.h>

#include "atomic.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

static uint64_t start_ns;

static uint64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined(__x86_64__)

#define CALIBRATE_AFTER_NS 4000000u
#define BOTH_TICKS	   20000u /* some microseconds */
#define TRIES		   100u	  /* to read both at one moment */

static uint64_t start_tsc;
static uint64_t scale; /* atomic; nanoseconds per tick, 32.32 fixed point; 0 = not yet, or no TSC */
static int invariant;

/* Both clocks at one moment; false: we were interrupted between the two. */
static bool both(uint64_t *ret_tsc, uint64_t *ret_ns)
{
	const uint64_t before = __rdtsc();

	*ret_ns = monotonic_ns();
	*ret_tsc = __rdtsc();
	return *ret_tsc - before < BOTH_TICKS;
}

void pl_clock_init(void)
{
	unsigned int a, b, c, d, tries = TRIES;

	invariant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
	/* A process's first call of the clock takes page faults, and longer than a moment. */
	while (!both(&start_tsc, &start_ns) && --tries > 0)
		;
	invariant &= tries > 0;
}

uint64_t pl_now_ns(void)
{
	const uint64_t factor = shmt_load_relaxed(&scale);
	uint64_t ticks, elapsed, now;
	bool one_moment;

	if (__builtin_expect(factor != 0, 1))
		return (uint64_t)((unsigned __int128)(__rdtsc() - start_tsc) * factor >> 32);
	if (!invariant)
		return monotonic_ns() - start_ns;
	one_moment = both(&ticks, &now);
	ticks -= start_tsc;
	elapsed = now - start_ns;
	if (one_moment && elapsed > CALIBRATE_AFTER_NS) {
		if (ticks > 1000)
			shmt_store_relaxed(&scale,
					   (uint64_t)(((unsigned __int128)elapsed << 32) / ticks));
	}
	return elapsed;
}

#else

void pl_clock_init(void)
{
	start_ns = monotonic_ns();
}

uint64_t pl_now_ns(void)
{
	return monotonic_ns() - start_ns;
}

#endif
