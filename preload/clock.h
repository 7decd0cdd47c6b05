/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - monotonic nanoseconds for pacing, a few nanoseconds a call
 *
 * On x86 with an invariant time stamp counter the counter is read and scaled by a factor measured
 * against CLOCK_MONOTONIC once the process is a few milliseconds old; elsewhere, and before that,
 * CLOCK_MONOTONIC itself. Only differences within one process mean anything. Any thread, signal
 * handlers.
 */
#ifndef PL_CLOCK_H
#define PL_CLOCK_H

#include <stdint.h>

/** pl_clock_init() - first sample; called by the constructor */
void pl_clock_init(void);

/** pl_now_ns() - nanoseconds since some moment */
uint64_t pl_now_ns(void);

/** pl_since_ns() - how long @then lies before @now; 0 where another thread, or a handler, has
 * looked at the clock later than we */
static inline uint64_t pl_since_ns(uint64_t then, uint64_t now)
{
	return now > then ? now - then : 0;
}

#endif
