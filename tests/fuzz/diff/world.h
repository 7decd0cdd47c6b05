/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - what driver and interpreter share, and the model of what TCP must do
 *
 * A shared mapping: the program, one result (a text) an operation, whose turn it is, and the model.
 * The model knows for each connection what was sent, what was received, and which ends are over. It
 * is no second oracle: plain TCP is that. It says what must have arrived before an outcome is
 * looked at, what would block for ever (skipped), and what TCP leaves open (not compared). Only
 * whose turn it is touches it.
 */
#ifndef WORLD_H
#define WORLD_H

#include "prog.h"

enum {
	CONNS = 10,
	FILES = 48,
	ITEMS = 64,
	BACKLOG = 4,
	SAFE_BYTES = 40000, /* unread at once: any window of the kernel holds them */
	CHUNK = 65536,
};

/* One direction; [0] is what the connecting end sends. */
struct m_dir {
	uint64_t sent, got;
	uint64_t other;	 /* bytes of ping-pong, outside of the content */
	uint64_t flood;	 /* bytes of the content that came while it was full */
	uint64_t by_tcp; /* as the sender's kernel counted them at the last sending */
	uint8_t fin;	 /* the sender's end of stream is behind them */
	uint8_t full;	 /* the sender was stopped by a full buffer */
	uint8_t lazy;	 /* the last bytes may be held back (Nagle, cork) */
	uint8_t sending; /* a call that may block is under way */
	uint8_t waiting; /* somebody waits for this to arrive */
	uint8_t taking;	 /* ... and takes it at once */
};

struct m_end {
	uint8_t closed, wr_shut, rd_shut, rst, linger, nodelay, cork;
	uint8_t haunted; /* a process that had it was killed */
	uint8_t loose;	 /* two processes have it since before its first use */
	int32_t rcvtimeo, sndtimeo, lowat;
};

struct m_conn {
	struct m_end end[2];
	struct m_dir dir[2];
};

enum file_kind { FK_STREAM = 1, FK_LISTEN, FK_EPOLL, FK_OTHER };

/* An open file, as the kernel counts it. */
struct m_file {
	uint8_t kind, conn, side, nonblock, listener;
	uint8_t proc;	 /* a set's maker: only that process uses it */
	uint8_t waiting; /* a set's */
	int32_t refs;
};

struct m_item {
	int32_t set, file; /* indices of files; set NONE: free */
	int32_t var, fd;
	uint8_t events, edges, ghost, disarmed;
};

struct m_var {
	int32_t fd, file; /* file NONE: closed; fd is what it was */
	bool used;
};

struct m_proc {
	int32_t pid, parent;
	bool shuffled; /* its descriptors may have other numbers in another run */
	struct m_var var[VARS];
};

/* An actor and the call that it has begun, if any. */
struct m_actor {
	int32_t proc, pid, tid; /* proc NONE: does not exist */
	int32_t pending;	/* operation, or NONE */
	uint32_t done;
	int32_t file[3]; /* that it waits for */
};

struct result {
	uint32_t state; /* enum result_state */
	uint32_t ms;	/* how long it took; not compared */
	char text[88];
};
enum result_state { RES_NONE, RES_BEGUN, RES_DONE, RES_SKIPPED };

struct world {
	struct prog prog;
	struct result result[OPS_MAX];
	uint32_t turn;
	uint32_t partner_done;
	char partner_text[64];
	uint32_t warm_ms;
	int32_t late_ms;	    /* what is due and has not come by then is lost */
	uint64_t bytes, ring_bytes; /* received, and of these not by TCP; not compared */
	uint32_t warmed, warm_tries;
	struct m_actor actor[ACTORS];
	struct m_proc proc[ACTORS];
	struct m_file file[FILES];
	struct m_item item[ITEMS];
	struct m_conn conn[CONNS];
	int32_t conns;
	struct m_listener {
		uint16_t port;
		uint16_t family;
		int32_t fd, proc; /* who made it accepts */
		int32_t queue[BACKLOG], queued;
	} listener[LISTENERS];
};

extern struct world *w;

/* ---- the model (model.c) -----------------------------------------------------------------------
 */

/** m_file() - what @var of @actor's process is, or NULL */
struct m_file *m_file(int actor, int var);
int m_fd(int actor, int var);
/** m_use() - bytes go by this number */
void m_use(int actor, int var);
/** m_forked() - @proc has a child now */
void m_forked(int proc);
/** m_new_file() - a file with one reference, @var naming it; NULL: no room, or @var is in use */
struct m_file *m_new_file(int actor, int var, int fd, enum file_kind kind);
bool m_var_free(int actor, int var);
void m_ref(int actor, int var, int fd, int file);
int m_index(const struct m_file *file);

struct m_end *m_end(const struct m_file *file);
struct m_end *m_peer(const struct m_file *file);
/** m_in() - the direction it receives; m_out() - sends */
struct m_dir *m_in(const struct m_file *file);
struct m_dir *m_out(const struct m_file *file);
uint64_t m_unread(const struct m_dir *dir);
/** m_over() - receiving never blocks: end of stream, reset, shut down */
bool m_over(const struct m_file *file);
/** m_seed() - of the content of a direction */
uint64_t m_seed(const struct m_file *file, bool out);

/** m_arrived() - bytes, or an end, came to the receiver of what @file sends: edges */
void m_arrived(const struct m_file *file);
void m_writable_again(const struct m_file *file);
void m_fin(const struct m_file *file);
void m_reset(const struct m_file *file);

/** m_may_close() - would its closing be the last, and its outcome be certain? */
bool m_may_close(int actor, int var);
/** m_closed() - this process's number is closed */
void m_closed(int actor, int var);
/** m_proc_ended() - all its numbers are */
void m_proc_ended(int proc, bool killed);
/** m_proc_may_end() - would the end of @proc, by itself or @killed, have a certain outcome? */
bool m_proc_may_end(int proc, bool killed);

/* poll bits of a file: what must be reported, and what may be */
struct m_ready {
	short must, may;
};
struct m_ready m_ready(const struct m_file *file);
/** m_item_ready() - the same of an epoll item */
struct m_ready m_item_ready(const struct m_item *item);

/** m_busy() - does somebody wait for what @file receives? */
bool m_busy(const struct m_file *file);
/** m_can_end() - may the call that this actor has begun be over by now? */
bool m_can_end(const struct m_actor *actor);
/** m_unmark() - it is */
void m_unmark(struct m_actor *actor);

#endif
