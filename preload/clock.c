/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

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

static uint64_t start_tsc;
static uint64_t scale; /* atomic; nanoseconds per tick, 32.32 fixed point; 0 = not yet, or no TSC */
static int invariant;

void pl_clock_init(void)
{
	unsigned int a, b, c, d;

	invariant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
	start_tsc = __rdtsc();
	start_ns = monotonic_ns();
}

uint64_t pl_now_ns(void)
{
	const uint64_t factor = shmt_load_relaxed(&scale);
	uint64_t ticks, elapsed;

	if (__builtin_expect(factor != 0, 1))
		return (uint64_t)((unsigned __int128)(__rdtsc() - start_tsc) * factor >> 32);
	elapsed = monotonic_ns() - start_ns;
	if (invariant && elapsed > CALIBRATE_AFTER_NS) {
		ticks = __rdtsc() - start_tsc;
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
