/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdtable.h - descriptor number -> what we know of it: one atomic word per number
 *
 * UNKNOWN numbers are looked at once, when first used, NEW ones when that is worth it (pass.h);
 * PASS ones never again until the number is handed out anew. A number above PL_FD_MAX passes.
 */
#ifndef PL_FDTABLE_H
#define PL_FDTABLE_H

#include "atomic.h"
#include "record_layout.h"

#define PL_FD_MAX (1 << 20)

enum pl_kind {
	PL_UNKNOWN = 0,	    /* never seen: inherited, passed: may be on a ring already */
	PL_PASS = 1,	    /* nothing of ours */
	PL_UNCONNECTED = 2, /* a TCP socket that is no stream yet: connect() turns it UNKNOWN */
	PL_STREAM = 3,	    /* index = record, generation = its low 24 bits */
	PL_EPOLL = 4,	    /* index = epoll set */
	PL_NEW = 5,	    /* made by a call of this process, not looked at yet: on no ring */
};

/* The index of a NEW or UNKNOWN number, whose generation counts changes: what is known already. */
enum pl_fd_flag {
	PL_FD_CLOSED = 1u << 0, /* by a call of this process: on no ring if it opens it anew */
	PL_FD_STAYS = 1u << 1,	/* if it is a stream: others use it out of our sight */
	/* as of a record */
	PL_FD_SHUT_RD = COLOC_RECORD_SHUT_RD,
	PL_FD_SHUT_WR = COLOC_RECORD_SHUT_WR,
};

#define PL_ENTRY(kind, generation, index) \
	((uint64_t)(index) << 32 | (uint64_t)((generation)&0xffffff) << 8 | (uint64_t)(kind))
#define PL_ENTRY_KIND(entry)	   ((enum pl_kind)((entry)&0xff))
#define PL_ENTRY_GENERATION(entry) ((uint32_t)((entry) >> 8) & 0xffffff)
#define PL_ENTRY_INDEX(entry)	   ((uint32_t)((entry) >> 32))

#define PL_ENTRY_CLOSED PL_ENTRY(PL_UNKNOWN, 0, PL_FD_CLOSED)

enum pl_way { PL_RECEIVES, PL_SENDS };

/* Calls that pass through at a number that has not been looked at; see pass.h. */
struct pl_fd_way {
	uint32_t inside; /* atomic; how many are in the kernel, whatever the number means by now */
	uint32_t stream; /* atomic; 1 + index of the stream whose record counts them, 0 = none */
};

struct pl_fd {
	uint64_t entry; /* atomic */
	uint32_t calls; /* relaxed; calls that have passed at a NEW number, by weight */
	uint32_t reserved;
	struct pl_fd_way way[2];
};

extern struct pl_fd *pl_fdtable; /* PL_FD_MAX entries, zero = UNKNOWN; NULL before init */
extern uint32_t pl_fdtable_top;	 /* atomic; one more than the highest number ever entered */

int pl_fdtable_init(void);

/** pl_fdtable_reach() - pl_fdtable_top covers @fd */
void pl_fdtable_reach(int fd);

/** pl_fd_entry() - the word; PASS for a number out of range */
static inline uint64_t pl_fd_entry(int fd)
{
	return (unsigned int)fd < PL_FD_MAX ? shmt_load_acquire(&pl_fdtable[fd].entry) : PL_PASS;
}

/** pl_fd_set() - if it still is @was */
bool pl_fd_set(int fd, uint64_t was, uint64_t entry);

/** pl_fd_take() - turn it @into (UNKNOWN, CLOSED or NEW) and return what it was */
static inline uint64_t pl_fd_take(int fd, uint64_t into)
{
	if ((unsigned int)fd >= PL_FD_MAX)
		return into;
	shmt_store_relaxed(&pl_fdtable[fd].calls, 0);
	if (shmt_load_relaxed(&pl_fdtable[fd].entry) == into)
		return into;
	if (into != PL_UNKNOWN)
		pl_fdtable_reach(fd);
	return __atomic_exchange_n(&pl_fdtable[fd].entry, into, __ATOMIC_SEQ_CST);
}

/** pl_fd_note() - @kind (NEW or UNKNOWN) and @flags of one that is NEW or UNKNOWN, which stays so.
 * A look at it that is under way begins anew. false: it is neither */
bool pl_fd_note(int fd, enum pl_kind kind, uint32_t flags);

#endif
