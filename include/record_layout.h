/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_layout.h - the local memory of one user in one guest: what the agent and the preloaded
 * processes of that user share
 *
 *   header | stream records | stash
 *
 * The agent makes one such memory per user (a file beside its socket, so that a restarted agent
 * finds it again) and passes its descriptor in WELCOME. A stream record is found by its connection,
 * and belongs to a socket, not to a descriptor: it is the same in every process that holds the
 * socket, whichever way it got it.
 *
 * A record's place: hash of the connection as this end sees it, then the first COLOC_RECORD_WINDOW
 * records from there (wrapping). A shim claims a FREE one by CAS; a look-up reads the whole window
 * and compares the cookie. Freed by the shim that drops the last process bit of a record that was
 * never granted; else by the agent alone, after the kernel said (sock_diag) that no process holds
 * the socket any more.
 */
#ifndef COLOC_RECORD_LAYOUT_H
#define COLOC_RECORD_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#include "reason.h"
#include "settings.h"
#include "shmt_layout.h"

#define COLOC_LOCAL_MAGIC   0x31434f4c4c4f4331ULL
#define COLOC_LOCAL_VERSION 5u
#define COLOC_RECORD_WINDOW 64u
#define COLOC_PROCS_MAX	    256u
#define COLOC_RECEIVERS_MAX 4u
#define COLOC_HOLDERS_MAX   8u

enum coloc_record_state {
	COLOC_RECORD_FREE = 0,
	COLOC_RECORD_CLAIMED = 1, /* a shim is filling in the identity */
	COLOC_RECORD_LIVE = 2,
	COLOC_RECORD_DYING = 3, /* whoever frees it is adding its counters to the totals */
};

/*
 * How far the pairing has come. The shim: IDLE -> WANTED (and sends JOIN), GRANTED -> ATTACHED.
 * The agent: WANTED or IDLE -> OFFERED -> GRANTED; -> IDLE with a reason and not_before when
 * nothing came of it. Nobody leaves GRANTED or ATTACHED; the record ends with its socket.
 */
enum coloc_grant {
	COLOC_GRANT_IDLE = 0,
	COLOC_GRANT_WANTED = 1,
	COLOC_GRANT_OFFERED = 2,
	COLOC_GRANT_GRANTED = 3,
	COLOC_GRANT_ATTACHED = 4,
};

/* Flags of a record, set by the shim, but for STUCK. */
enum coloc_record_flag {
	COLOC_RECORD_NONBLOCK = 1u << 0, /* O_NONBLOCK of the open file description */
	COLOC_RECORD_STAYS = 1u << 1,	 /* must stay on, or return to, TCP; see reason */
	COLOC_RECORD_SHARED = 1u << 2,	 /* another process may hold the socket: forked, passed */
	COLOC_RECORD_SPAWNED = 1u << 5,	 /* handed on to a program: posix_spawn, vfork and dup2 */
	COLOC_RECORD_SHUT_RD = 1u << 3,	 /* shut down for receiving: no ring from now on */
	COLOC_RECORD_SHUT_WR = 1u << 4,	 /* the same for sending */
	/* Its number is 0, 1 or 2: receives by TCP, and may be sent on out of sight. */
	COLOC_RECORD_STANDARD = 1u << 6,
	/* Receives by TCP for as long as several processes receive; under the rx lock. */
	COLOC_RECORD_RECEIVERS = 1u << 7,
	COLOC_RECORD_STUCK = 1u << 8, /* agent: a receiver was killed inside: no ring from now on */
	/* As STAYS, but until no holder with COLOC_HOLDER_SANDBOXED is left; under the rx lock. */
	COLOC_RECORD_SANDBOXED = 1u << 9,
	COLOC_RECORD_ON_TCP = COLOC_RECORD_STAYS | COLOC_RECORD_SANDBOXED,
};

/**
 * coloc_lock_word() - what a holder writes into a lock
 * Numbers of processes mean something within one PID namespace: @pid_ns is the inode of
 * /proc/self/ns/pid, 0 if that cannot be seen. The kernel's numbers have 22 bits at most.
 */
static inline uint64_t coloc_lock_word(uint64_t pid_ns, uint32_t pid, uint32_t tid)
{
	return (pid_ns & 0xfffff) << 44 | (uint64_t)pid << 22 | tid;
}

/* In the name of a holder, where the thread's number is 0: it makes no call but the program's own.
 */
#define COLOC_HOLDER_SANDBOXED 1u

struct coloc_record_tx_shared {
	uint64_t lock;	     /* atomic; coloc_lock_word() of the holder, 0 = free */
	uint64_t ring_bytes; /* sent through the ring */
	uint64_t tcp_bytes;  /* sent by TCP since the record was made */
	uint64_t messages;
	uint64_t switches; /* times the ring was opened */
	/* relaxed; without the lock a hint; the direction's word as the last sender left it, mode
	 * RING: nobody has published since. The receiver may have changed it. 0 = not known */
	uint64_t word;
	uint32_t in_kernel; /* atomic; senders inside a kernel send */
	uint32_t opening;   /* atomic, under the lock; its holder is between opening and sending */
	uint64_t reserved;
};

struct coloc_record_rx_shared {
	uint64_t lock; /* atomic; as above */
	/* atomic, under the lock, mode LEAVING: 1 = the last byte before the ring's has been given
	 * to the program and lies in the kernel still; in the stash's time likewise */
	uint32_t held;
	uint32_t reserved;
	uint64_t ring_bytes;
	uint64_t tcp_bytes;
	uint64_t messages;
	uint64_t switches;   /* times this end answered an opened ring */
	uint32_t unattached; /* atomic; receivers inside the kernel that began before the attach */
	uint32_t attach;     /* atomic; 0 no, 1 under way, 2 done */
	uint32_t pollers; /* atomic; threads asleep in poll, select or epoll with interest in it */
	uint32_t spin_fails; /* waits in a row whose spin found nothing */
};

/*
 * Unread ring bytes that a drain has moved out of the region, for a reader that does not come. They
 * come after @missing bytes of the kernel's and before all others of it. Written by the agent under
 * the rx lock while the ring is LEAVING; read by receivers under that lock. A power of two of bytes
 * of the stash is theirs, from @off.
 */
struct coloc_record_stash_shared {
	uint64_t bytes;	  /* atomic; agent, last; 0 = none */
	uint64_t taken;	  /* atomic; receivers; the agent frees what is taken */
	uint64_t missing; /* atomic; receivers */
	uint64_t off;
	uint64_t tail; /* where they lay in the ring: whoever finds the ring's tail there moves it
			  on */
	uint64_t reserved[3];
};

struct coloc_record_shared {
	/* line 0, 1: identity; written by the shim that claims it, before LIVE */
	uint32_t state;	     /* atomic */
	uint32_t generation; /* atomic; grows when the record is freed */
	uint64_t cookie;     /* SO_COOKIE */
	struct shmt_endpoint local;
	struct shmt_endpoint remote;
	uint64_t netns;	     /* inode of the network namespace */
	uint32_t pid;	     /* process that made the record, in its own PID namespace */
	uint32_t peer_guest; /* slot found in the directory */
	char command[16];
	/* atomic; processes that receive, or wait for something to receive: coloc_lock_word(), tid
	 * 0; under the rx lock */
	uint64_t receivers[COLOC_RECEIVERS_MAX];
	/* line 2: who uses it */
	uint64_t procs[COLOC_PROCS_MAX /
		       64]; /* atomic; bit = process slot with a descriptor of it */
	uint32_t flags;	    /* atomic; enum coloc_record_flag */
	uint32_t reason;    /* atomic; enum coloc_reason */
	uint32_t unnamed;   /* atomic; processes that have it and are not in holders, or more */
	uint8_t pad2[SHMT_LINE - 44];
	/* line 3: the grant; written by the agent before grant turns GRANTED */
	uint32_t grant; /* atomic; enum coloc_grant */
	uint32_t seg;
	uint32_t seg_generation;
	uint32_t side;	     /* which end of the segment this is: 0 or 1 */
	uint64_t not_before; /* atomic; agent: heartbeat before which another JOIN is useless */
	struct shmt_evidence evidence; /* shim, before WANTED: this end, when it asked */
	uint8_t pad3[SHMT_LINE - 48];
	/* line 4: tx; 5: who has it, for fork and close; 6: rx; 7: stash */
	struct coloc_record_tx_shared tx;
	/* atomic; processes that have it, as receivers, maybe with COLOC_HOLDER_SANDBOXED */
	uint64_t holders[COLOC_HOLDERS_MAX];
	struct coloc_record_rx_shared rx;
	struct coloc_record_stash_shared stash;
};

/* Totals over freed records, and over streams that never had one. atomic adds by anybody. */
struct coloc_totals_shared {
	uint64_t streams_seen;	/* co-resident streams: records ever made */
	uint64_t streams_moved; /* of those, attached at least once */
	uint64_t bytes_ring;	/* sent and received here; of freed records only */
	uint64_t bytes_tcp;
	uint64_t switches_to_ring;
	uint64_t switches_to_tcp;
	uint64_t bypasses;
	uint64_t reasons[COLOC_REASON_COUNT]; /* times a stream got this reason */
};

/*
 * How many threads of a process may touch the region right now, spread over lines so that they
 * share none. Lowered by who raised it, for a killed process by the agent. preload/gate.h
 */
struct coloc_gate_shared {
	struct {
		uint32_t inside; /* atomic */
		uint32_t pid;	 /* agent, line 0 only: whose slot it is, as the agent sees it */
		uint8_t pad[SHMT_LINE - 8];
	} line[8];
};

struct coloc_local_shared {
	uint64_t magic; /* atomic; agent, last */
	uint32_t version;
	uint32_t header_bytes; /* sizeof this structure */
	uint64_t bytes;	       /* of the whole memory */
	uint64_t records_off;
	uint32_t record_count; /* a power of two */
	uint32_t record_bytes; /* sizeof(struct coloc_record_shared) */
	uint32_t uid;
	uint32_t region_reason; /* atomic; agent: NONE, or why there is no usable region */
	uint32_t guest;	      /* atomic; agent: this guest's slot, SHMT_NO_GUEST without a region */
	uint32_t draining;    /* atomic; agent: 1 = leave the rings, make no new ones */
	uint64_t guest_epoch; /* atomic; agent */
	uint64_t kernel_id;   /* agent; as in the region */
	uint64_t
		heartbeat; /* atomic; agent, as in the region but without one too; ~10 per second */
	uint64_t rules_version;	   /* atomic; agent: changes when the peer rules or settings do */
	uint64_t agent_starts;	   /* atomic; agent: changes when another agent takes over */
	uint32_t loopback;	   /* atomic; agent: 1 = streams inside this guest may move */
	uint32_t region_removable; /* agent, before magic: 1 = gates count */
	uint32_t region_attach;	   /* atomic; agent: number of the region as it is attached now, 0 =
				      away */
	uint32_t region_last;	   /* agent: the last such number */
	uint64_t stash_off;
	uint64_t stash_bytes;
	uint64_t receivers_changes;	/* atomic; shims: streams that got several receivers */
	struct coloc_settings settings; /* agent; each number atomic by itself */
	struct coloc_totals_shared totals;
	/*
	 * Peer rules, in order, the last match wins: agent only, under rules_version (odd = being
	 * written). A prefix is IPv6 or IPv4-mapped, bits 0 to 128.
	 */
	uint32_t rule_count;
	uint32_t rules_default; /* 1 = a peer that no rule matches may be moved */
	struct {
		uint8_t addr[16];
		uint32_t bits;
		uint32_t allow;
	} rules[32];
	uint64_t used[262144 / 64]; /* atomic; bit = record is not FREE; a hint for sweeps */
	/* By process slot; the last one for those that the agent has not answered, or refused. */
	struct coloc_gate_shared gates[COLOC_PROCS_MAX + 1] __attribute__((aligned(SHMT_LINE)));
};

static_assert(sizeof(struct coloc_record_shared) == 8 * SHMT_LINE, "eight lines");
static_assert(sizeof(struct coloc_record_stash_shared) == SHMT_LINE, "one line");
static_assert(sizeof(struct coloc_gate_shared) == 8 * SHMT_LINE, "eight lines");
static_assert(sizeof(struct coloc_record_tx_shared) == SHMT_LINE, "one line");
static_assert(sizeof(struct coloc_record_rx_shared) == SHMT_LINE, "one line");

#endif
