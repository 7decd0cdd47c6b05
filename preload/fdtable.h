/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdtable.h - descriptor number -> what we know of it: one atomic word per number
 *
 * UNKNOWN numbers are looked at once, when first used; PASS ones never again until the number is
 * handed out anew. A number above PL_FD_MAX passes.
 */
#ifndef PL_FDTABLE_H
#define PL_FDTABLE_H

#include "atomic.h"

#define PL_FD_MAX (1 << 20)

enum pl_kind {
	PL_UNKNOWN = 0,	    /* never seen: inherited, passed: may be on a ring already */
	PL_PASS = 1,	    /* nothing of ours */
	PL_UNCONNECTED = 2, /* a TCP socket that is no stream yet: connect() turns it UNKNOWN */
	PL_STREAM = 3,	    /* index = record, generation = its low 24 bits */
	PL_EPOLL = 4,	    /* index = epoll set */
	PL_NEW = 5,	    /* made by a call of this process, not looked at yet: on no ring */
};

#define PL_ENTRY(kind, generation, index) \
	((uint64_t)(index) << 32 | (uint64_t)((generation)&0xffffff) << 8 | (uint64_t)(kind))
#define PL_ENTRY_KIND(entry)	   ((enum pl_kind)((entry)&0xff))
#define PL_ENTRY_GENERATION(entry) ((uint32_t)((entry) >> 8) & 0xffffff)
#define PL_ENTRY_INDEX(entry)	   ((uint32_t)((entry) >> 32))

extern uint64_t *pl_fdtable;	/* PL_FD_MAX entries, zero = UNKNOWN; NULL before init */
extern uint32_t pl_fdtable_top; /* atomic; one more than the highest number ever entered */

int pl_fdtable_init(void);

/** pl_fdtable_reach() - pl_fdtable_top covers @fd */
void pl_fdtable_reach(int fd);

/** pl_fd_entry() - the word; PASS for a number out of range */
static inline uint64_t pl_fd_entry(int fd)
{
	return (unsigned int)fd < PL_FD_MAX ? shmt_load_acquire(&pl_fdtable[fd]) : PL_PASS;
}

/** pl_fd_set() - if it still is @was */
bool pl_fd_set(int fd, uint64_t was, uint64_t entry);

/** pl_fd_take() - turn it @into (UNKNOWN or NEW) and return what it was */
static inline uint64_t pl_fd_take(int fd, enum pl_kind into)
{
	if ((unsigned int)fd >= PL_FD_MAX || shmt_load_relaxed(&pl_fdtable[fd]) == into)
		return into;
	if (into != PL_UNKNOWN)
		pl_fdtable_reach(fd);
	return __atomic_exchange_n(&pl_fdtable[fd], into, __ATOMIC_SEQ_CST);
}

#endif
