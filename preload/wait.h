/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait.h - spin, give way, or go to sleep
 *
 * Spinning pays while it costs less than the sleep would: a wake-up (tens of microseconds), and for
 * each awake stream, when several are waited for, that it is taken back to TCP, sent to there, and
 * opened again. So: up to wait.spin_us, and half of that more for each further stream, ten times at
 * most. It gives way at each turn after a while; from the beginning where both ends were last seen
 * on one processor of one kernel; and as soon as giving way once has shown that others want the
 * processor. That is asked the later the more often nobody did: two ends that answer at once make
 * no system call. The time that others then use does not count, for it costs nothing, as long as it
 * is not so much that this was no wait any more. A stream whose spins keep failing spins only when
 * the last one is 2, 4 ... 512 times as long ago as it took, until one succeeds; so they soon cost
 * a 500th of the time. A spin that lost the processor for long has failed.
 */
#ifndef PL_WAIT_H
#define PL_WAIT_H

#include "clock.h"
#include "stream.h"

/* A wait under way. */
struct pl_spin {
	uint64_t begin_ns;
	uint64_t until_ns; /* 0 = no spinning */
	uint64_t now_ns;   /* the last look at the clock */
	uint32_t turns;
	bool yields;
	bool asked; /* whether others want the processor */
};

#define PL_WATCH_MAX 4u

/*
 * The words that a wait for few streams looks at between two looks at all. They lie in the region:
 * within PL_IN_REGION they are there whatever becomes of their streams.
 */
struct pl_watch {
	uint32_t n; /* more than PL_WATCH_MAX: a look at all at each turn */
	const uint64_t *word[PL_WATCH_MAX];
	uint64_t seen[PL_WATCH_MAX];
};

/** pl_watch_all() - what is waited for has no word, or too many */
static inline void pl_watch_all(struct pl_watch *w)
{
	w->n = PL_WATCH_MAX + 1;
}

/** pl_watch_add() - @seen was read before the look that found nothing */
static inline void pl_watch_add(struct pl_watch *w, const uint64_t *word, uint64_t seen)
{
	if (w->n >= PL_WATCH_MAX) {
		pl_watch_all(w);
		return;
	}
	w->word[w->n] = word;
	w->seen[w->n++] = seen;
}

/** pl_watch_changed() - is a look at all due at this turn? */
static inline bool pl_watch_changed(const struct pl_watch *w, const struct pl_spin *spin)
{
	uint32_t i;

	if (w->n > PL_WATCH_MAX || (spin->turns & 31) == 0)
		return true;
	for (i = 0; i < w->n; i++)
		if (shmt_load_relaxed(w->word[i]) != w->seen[i])
			return true;
	return false;
}

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

/** pl_spin_begin() - how long may a reader of @s look, which is one of @awake streams? */
void pl_spin_begin(struct pl_stream *s, struct pl_spin *spin, uint32_t awake);

bool pl_spin_more_slow(struct pl_spin *spin);

/** pl_spin_more() - one turn; false: time is over. turns is a multiple of 32 when the clock was
 * read
 */
static inline bool pl_spin_more(struct pl_spin *spin)
{
	if (!spin->until_ns)
		return false;
	if (spin->yields)
		return pl_spin_more_slow(spin);
	shmt_pause();
	return (++spin->turns & 31) != 0 || pl_spin_more_slow(spin);
}

/** pl_spin_end() - it found something, or not: the stream learns */
void pl_spin_end(struct pl_stream *s, const struct pl_spin *spin, bool found);

/**
 * pl_gather() - within a wait for @s: let what comes gather, before the first look at the word
 *
 * A reader that is faster than its sender fetches the word's line for each message, and so does the
 * sender to publish the next: twice the price of the message itself. So a reader whose waits are
 * over at once, time after time, lets some hundred nanoseconds pass first, for as long as there is
 * more than it asked for by then. Who answers each message never does, as his waits are longer.
 */
void pl_gather(struct pl_stream *s, const struct pl_spin *spin);

/** pl_gathered() - after a wait that pl_gather() was in: it found something; @more than was asked
 * for? */
void pl_gathered(struct pl_stream *s, const struct pl_spin *spin, bool more);

/**
 * pl_peer_gone() - does the socket say that the peer has closed or reset? One system call. True for
 * a peer that only closed its sending half, too: what we send then goes by TCP, where the kernel
 * knows.
 */
bool pl_peer_gone(int fd);

#endif
