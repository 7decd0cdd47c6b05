/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - this process's tie to its agent: memory, settings, messages
 *
 * Nothing is contacted before the first TCP stream is seen; then HELLO is sent and the answer is
 * picked up by a later hook call, without waiting. Without an agent every hook passes through, and
 * a new try is made once a second at most.
 */
#ifndef PL_PROCESS_H
#define PL_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "atomic.h"
#include "real.h"
#include "record_layout.h"
#include "region.h"

enum pl_policy {
	PL_POLICY_AUTO = 0,   /* streams that pass the thresholds */
	PL_POLICY_ALWAYS = 1, /* every co-resident stream, at its first byte */
	PL_POLICY_NEVER = 2,  /* pass through */
};

struct pl_process {
	uint32_t enabled; /* atomic; 0: every hook passes through */
	pid_t owner;	  /* whose table this is; a vfork child runs on its parent's */
	enum pl_policy policy;
	/* A page that fork wipes. 0 = this process does not know that it was forked; the second:
	 * nor has it given up its parent's numbers */
	uint8_t *canary;
	struct coloc_local_shared *local; /* atomic; NULL before WELCOME; then for ever */
	struct coloc_record_shared *records;
	uint8_t *stash; /* stash_bytes of the local memory */
	uint64_t stash_bytes;
	uint32_t record_count;
	uint32_t proc;	   /* atomic; our bit in a record's procs; COLOC_PROCS_MAX = none yet */
	uint32_t unserved; /* atomic; enum coloc_reason: every stream stays on TCP, or NONE */
	uint64_t netns;
	struct shmt_region region;	      /* base NULL: none; as gate.h allows */
	uint32_t region_attach;		      /* atomic; its number, 0 = not mapped */
	uint32_t removable;		      /* atomic; 1 = the region may be taken away: gate.h */
	struct coloc_settings over, over_set; /* from the environment; over_set != 0: it counts */
};

extern struct pl_process pl;

/** pl_process_start() - constructor's work; also by the first hook that comes before it */
void pl_process_start(void);

/** pl_process_renumber() - in a fork child, by who comes first: it has numbers of its own (lock.h).
 * Once: later it may be where it cannot ask for them, in a chroot */
void pl_process_renumber(void);

/** pl_process_fork_noticed() - the same for one that is about to end: nobody is told */
void pl_process_fork_noticed(void);

/** pl_process_ends() - by itself; what it holds is not touched by us any more */
void pl_process_ends(void);

/** pl_process_forked() - a fork child's first hook call; resets what must not be shared */
void pl_process_forked(void);

/**
 * pl_process_agent() - the local memory, or NULL while there is none. Connects, or looks for the
 * answer, without waiting; one system call at most when nothing has changed.
 */
struct coloc_local_shared *pl_process_agent(void);

/** pl_process_wait_agent() - the same, but waits for the answer: 1 s, once in the process's life */
struct coloc_local_shared *pl_process_wait_agent(void);

/**
 * pl_process_number() - our slot in the agent's tables; COLOC_PROCS_MAX: none
 *
 * A fork child's is on its way: it is waited for like that. One load once it is there.
 */
uint32_t pl_process_number(void);

/** pl_process_tell() - JOIN or CLOSED; lost silently without an agent (its sweep finds out) */
void pl_process_tell(unsigned int type, uint32_t record, uint32_t generation);

/** pl_process_unserved() - the process does something that no stream of it may be on a ring with */
void pl_process_unserved(enum coloc_reason reason);

/** pl_process_follow() - a region has come that this process has not mapped: see about it */
void pl_process_follow(void);

/** pl_process_waits() - no agent, and it is not time to try again: nothing can be found out now */
bool pl_process_waits(void);

/** pl_process_own_fd() - is @fd our connection? The program must not close it. */
bool pl_process_own_fd(int fd);

/** pl_process_vacate() - if @fd is our connection it gets another number, and @fd may be dup2'ed
 * onto; false: not now
 */
bool pl_process_vacate(int fd);

/** pl_fd_vacate() - the same for the descriptor at @own (atomic) */
bool pl_fd_vacate(int *own, int fd);

/** pl_fd_high() - move a descriptor of ours out of the program's way; the new number */
int pl_fd_high(int fd);

/** pl_is_vfork_child() - true in a child that still runs on its parent's memory */
static inline bool pl_is_vfork_child(void)
{
	return getpid() != pl.owner;
}

/* pl_setting(name) - a number of settings.h as it counts for this process now; local must be there
 */
#define pl_setting(name) \
	(pl.over_set.name ? pl.over.name : shmt_load_relaxed(&pl.local->settings.name))

#endif
