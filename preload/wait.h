/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait.h - spin, give way, or go to sleep
 *
 * Spinning pays when the peer runs on another processor and answers sooner than a wake-up takes
 * (tens of microseconds); it is ruinous when both share one. So: no spin while both ends were last
 * seen on one processor of one kernel; else up to wait.spin_us; and a stream whose spins keep
 * failing spins at every 2nd, 4th ... 64th wait only, until one succeeds.
 */
#ifndef PL_WAIT_H
#define PL_WAIT_H

#include "clock.h"
#include "stream.h"

/* A wait under way. */
struct pl_spin {
	uint64_t until_ns; /* 0 = no spinning */
	uint32_t turns;
};

/** pl_note_cpu() - publish where this end of a direction runs, if it changed. Return: 1 + number */
uint32_t pl_note_cpu(uint32_t *shared_cpu);

/** pl_same_cpu() - the peer of @s, last seen on @peer_cpu, shares our processor @own_cpu */
static inline bool pl_same_cpu(const struct pl_stream *s, uint32_t own_cpu, uint32_t peer_cpu)
{
	return s->same_kernel && peer_cpu == own_cpu;
}

/**
 * pl_wait_mapped() - the stream may be on a ring of a region that this process has not mapped: see
 * about it, and wait a moment if that fails (its tie to the agent is broken)
 */
void pl_wait_mapped(void);

/** pl_spin_begin() - how long may a reader of @s look? */
void pl_spin_begin(struct pl_stream *s, struct pl_spin *spin);

/** pl_spin_more() - one turn; false: time is over. The clock is read at every 32nd turn. */
static inline bool pl_spin_more(struct pl_spin *spin)
{
	if (!spin->until_ns)
		return false;
	shmt_pause();
	return (++spin->turns & 31) != 0 || pl_now_ns() < spin->until_ns;
}

/** pl_spin_end() - it found something, or not: the stream learns */
void pl_spin_end(struct pl_stream *s, const struct pl_spin *spin, bool found);

/**
 * pl_peer_gone() - does the socket say that the peer has closed or reset? One system call. True for
 * a peer that only closed its sending half, too: what we send then goes by TCP, where the kernel
 * knows.
 */
bool pl_peer_gone(int fd);

#endif
