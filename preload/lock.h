/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - the lock of one direction of a stream record
 *
 * Shared by the processes that hold the stream, and by the agent. The word names the
 * holder, coloc_lock_word(). Never held while sleeping, but for bytes that are certain to come.
 * Re-entrant on one thread: a signal handler that finds its own thread inside goes ahead, and what
 * it interrupted finds its compare-and-swap fail (switch.h). Robust: a waiter that has waited long
 * asks the kernel whether the holder still exists, and takes the lock over, if it is of its own PID
 * namespace; the state it guards is valid at each step.
 */
#ifndef PL_LOCK_H
#define PL_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"
#include "real.h"

enum pl_lock_result {
	PL_LOCK_BUSY = 0,   /* another thread has it */
	PL_LOCK_TAKEN = 1,  /* ours: release it */
	PL_LOCK_NESTED = 2, /* ours already, further up this thread's stack: do not release it */
};

enum pl_lock_result pl_lock_try(uint64_t *lock);

enum pl_lock_result pl_lock_slow(uint64_t *lock);

/* This thread's word; 0 = not looked for yet. */
extern __thread uint64_t pl_lock_self __attribute__((tls_model("initial-exec")));

/** pl_lock() - try, spin, give way, take over from the dead; never BUSY */
static inline enum pl_lock_result pl_lock(uint64_t *lock)
{
	const uint64_t mine = pl_lock_self;

	return PL_LIKELY(mine && shmt_cas(lock, 0, mine)) ? PL_LOCK_TAKEN : pl_lock_slow(lock);
}

static inline void pl_unlock(uint64_t *lock, enum pl_lock_result result)
{
	if (result == PL_LOCK_TAKEN)
		shmt_store_release(lock, 0);
}

/** pl_lock_process() - this process as a word of a record: no thread's. Whose PID namespace cannot
 * be seen may share it with another */
uint64_t pl_lock_process(void);

/** pl_lock_gone() - the process of such a word has ended; false also if that cannot be known */
bool pl_lock_gone(uint64_t process);

/** pl_lock_forked() - the calling thread's number has changed: it is a new process */
void pl_lock_forked(void);

#endif
