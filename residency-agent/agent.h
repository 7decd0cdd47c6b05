/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - the daemon's own structures, and what each of its files does for the others
 *
 *   main.c       options, signals, the loop, the end
 *   conf*.c      configuration (conf.h)
 *   attach.c     the region, and this guest's place in it across restarts of the agent
 *   guests.c     heartbeat; who of the others is alive, suspect or dead
 *   residency.c  this guest's addresses, from rtnetlink into the directory
 *   local.c      the memory of one user: file, header, settings
 *   records.c    finding a stream's record, and its end
 *   diag.c       what the kernel knows of a socket (sock_diag)
 *   packets.c    the UNIX socket: connections and packets
 *   procs.c      the processes behind them: slots, deaths
 *   grants.c     JOIN; rings for streams inside this guest; the grant itself
 *   offers.c     rings for streams between guests
 *   reclaim.c    records whose socket is gone, segments that nobody refers to
 *   drain.c      leaving the rings; removal.c: and then the region, until it comes back
 *   stash.c      unread bytes of rings that are left
 *   control.c    verbs; answers.c: the JSON they are answered with
 *
 * One thread, one libev loop; nothing here blocks for longer than a netlink question. What lies in
 * shared memory is written by others: each value is loaded once and checked.
 */
#ifndef RA_AGENT_H
#define RA_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <ev.h>

#include "agent_proto.h"
#include "atomic.h"
#include "conf.h"
#include "pairing.h"
#include "record_layout.h"

#define RA_BEAT_S      0.1 /* of the heartbeat */
#define RA_BEATS_PER_S 10u
#define RA_NONE	       UINT32_MAX

struct ra_user;
struct ra_conn;

/* ---- what the agent keeps for itself -----------------------------------------------------------
 */

/* A record by place and life. */
struct ra_ref {
	struct ra_user *user;
	uint32_t record;
	uint32_t generation;
};

/*
 * The agent's own note on a record: what it granted, whatever a process writes into the record. A
 * note with a segment whose record has another generation means: end that segment.
 */
struct ra_note {
	uint32_t generation;
	uint32_t seg; /* RA_NONE = none */
	uint32_t seg_generation;
	uint8_t side;
	bool pending;	       /* stands in agent.waits */
	bool recheck;	       /* stands in agent.rechecks */
	uint32_t backoff_ms;   /* before the next offer, 0 = none failed so far */
	uint32_t inode;	       /* of the socket, 0 = not known */
	uint64_t stuck;	       /* 1 + user.births when first seen half made, see reclaim.c */
	uint8_t unread_passes; /* of a drain that found unread bytes */
};

/* A process that said HELLO. */
struct ra_proc {
	struct ra_user *user;
	uint32_t slot;	/* its bit in a record's procs */
	uint64_t birth; /* grows with each HELLO of the user */
	pid_t pid;	/* in the agent's PID namespace; 0 = not visible from here */
	int pid_fd;	/* -1 = none: then the connection tells its death */
	ev_io dead;
	struct ra_conn *conn; /* NULL: it closed the connection, and lives */
	uint64_t netns;
	char command[16];
	bool goes_on; /* it is the slot that ends, not the process */
};

/* A network namespace that is not the agent's, and the way to ask it. */
struct ra_netns {
	struct ra_netns *next;
	uint64_t inode;
	int diag_fd;
};

/* One user's memory and processes. */
#define RA_STASH_UNITS 1024u /* of SHMT_RING_MIN_BYTES: 64 MiB, with memory only where used */

struct ra_user {
	struct ra_user *next;
	uid_t uid;
	int fd;
	struct coloc_local_shared *shared;
	uint64_t bytes;
	struct coloc_record_shared *records;
	uint32_t record_count; /* as checked when it was mapped */
	struct ra_note *notes;
	struct ra_proc *procs[COLOC_PROCS_MAX];
	uint64_t births;
	struct ra_netns *netns;
	uint8_t inside[COLOC_PROCS_MAX + 1]; /* removal.c: lines not yet seen empty, by slot */
	uint8_t stash_used[RA_STASH_UNITS];  /* stash.c */
	uint32_t stashed;		     /* records with bytes there */
	uint32_t sweep_at; /* word of the used bits where the next sweep goes on */
};

/* A connection to the agent's socket. */
struct ra_conn {
	struct ra_conn *next, **at;
	int fd;
	ev_io io;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct ra_proc *proc; /* after HELLO */
	char *answer;	      /* JSON that is being sent */
	size_t answer_bytes, answer_sent;
	int answer_status;
};

/* Something looked at again and again, at growing distances: what is not there now may come. */
struct ra_again {
	double next, pause;
};

/* What a record waits for. */
enum ra_wait_kind {
	RA_WAIT_MADE,  /* our offer to be taken */
	RA_WAIT_WISH,  /* the other end's agent to make an offer */
	RA_WAIT_LOCAL, /* the other end's record, inside this guest */
};

struct ra_wait {
	struct ra_ref ref;
	enum ra_wait_kind kind;
	uint32_t offer; /* its entry; RA_NONE: taken out already, or none */
	uint32_t seg;	/* MADE */
	double expires;
	struct ra_again again; /* LOCAL */
};

/* An offer to us for which there is no record yet. */
struct ra_inbox {
	uint32_t offer;
	struct ra_again again;
};

/* A growing array. */
#define RA_LIST(type)                 \
	struct {                      \
		type *at;             \
		uint32_t count, room; \
	}

/** ra_list_add() - append @item; ends the program without memory, as there is nothing better to do
 */
#define ra_list_add(list, item)                                                                    \
	do {                                                                                       \
		if ((list)->count == (list)->room)                                                 \
			(list)->at = ra_list_grow((list)->at, &(list)->room, sizeof(*(list)->at)); \
		(list)->at[(list)->count++] = (item);                                              \
	} while (0)

/** ra_list_drop() - remove entry @i; the last one takes its place */
#define ra_list_drop(list, i) ((list)->at[i] = (list)->at[--(list)->count])

void *ra_list_grow(void *at, uint32_t *room, size_t item_bytes);

/* What the agent has seen of another guest. */
struct ra_watch {
	uint64_t epoch;
	uint64_t heartbeat;
	double heard; /* when the heartbeat last changed, on our clock */
	bool suspect;
};

struct ra_recheck {
	struct ra_ref ref;
	uint32_t left; /* beats */
};

struct ra_agent {
	struct ev_loop *loop;
	struct ra_conf conf;
	const char *config_path;
	bool config_must_exist;
	const char *socket_path;
	const char *region_override; /* --region */
	char folder[256];	     /* of the socket */
	int folder_fd;

	/* attach.c */
	int guest_fd; /* the file "guest", locked while this agent runs */
	char boot_id[40];
	uint8_t identity[16];
	uint64_t kernel_id;
	char name[24];
	struct shmt_region region; /* base NULL = none */
	char region_path[256];
	int region_fd;	    /* holds the guest's lock; goes to the processes */
	int region_test_fd; /* an open of its own, to test others' locks with */
	enum coloc_reason region_reason;
	uint64_t region_mbps;
	struct shmt_guest guest;
	bool new_life;	/* no earlier agent's records count */
	bool removable; /* the region may be taken away while programs run */
	bool away;	/* it was, orderly: its life and the records' rings go on */

	/* guests.c */
	ev_timer beat;
	uint64_t heartbeat;
	struct ra_watch watch[SHMT_GUESTS_MAX];

	/* residency.c */
	ev_io route_io;
	int route_fd, dump_fd;
	RA_LIST(struct ra_address) addresses;
	RA_LIST(uint32_t) links; /* index of every interface, for diag.c */

	/* local.c, procs.c, packets.c */
	struct ra_user *users;
	struct ra_conn *conns;
	uint32_t conn_count;
	ev_io listen_io;
	int listen_fd;
	bool accept_paused;

	/* diag.c */
	uint64_t netns;
	int diag_fd;

	/* offers.c */
	ev_timer tick;
	double last_active;
	uint64_t doorbell;
	RA_LIST(struct ra_inbox) inbox; /* offers to us that are neither answered nor gone */
	uint8_t *in_inbox;		/* by entry of the offer table */
	RA_LIST(struct ra_wait) waits;

	/* reclaim.c */
	ev_timer sweep;
	RA_LIST(struct ra_recheck) rechecks;
	RA_LIST(struct ra_leak) leaks;
	uint32_t sweeps;
	bool released; /* a segment, since the segments were last swept */

	/* drain.c */
	bool draining;
	ev_timer drain;

	/* removal.c */
	bool removing;	    /* said to be away; not everybody has been seen outside */
	bool resume_wanted; /* once they have */

	/* main.c */
	ev_signal on_term, on_int, on_hup;
	ev_timer watchdog;
	int exit_code;
};

/* One published address. */
struct ra_address {
	uint8_t addr[16];
	bool published; /* in the directory */
	bool seen;	/* by the dump under way */
};

/* A segment that no record refers to, as seen by one pass. */
struct ra_leak {
	uint32_t seg, seg_generation;
	uint8_t side;
};

/* ---- attach.c ----------------------------------------------------------------------------------
 */

/**
 * ra_attach_lock() - take the folder of the socket: one agent serves it
 * Return: 0; -EEXIST another agent runs; -errno
 */
int ra_attach_lock(struct ra_agent *agent);

/** ra_attach() - open, check, measure the region and register; without one region_reason says why
 */
void ra_attach(struct ra_agent *agent);

/** ra_detach() - at the end. @forget: nothing of this life is left: give the slot back */
void ra_detach(struct ra_agent *agent, bool forget);

/** ra_attach_leave() - unmap it; the life in it goes on */
void ra_attach_leave(struct ra_agent *agent);

/**
 * ra_attach_again() - as ra_attach(), for one that came while this agent runs
 * @ret_same_life: the one that it had before. Return: 0 or -errno, region_reason says why
 */
int ra_attach_again(struct ra_agent *agent, bool *ret_same_life);

/* ---- guests.c ----------------------------------------------------------------------------------
 */

void ra_guests_start(struct ra_agent *agent);
/** ra_guest_refuses() - NONE, or why no new ring may be made with the guest at @slot */
enum coloc_reason ra_guest_refuses(const struct ra_agent *agent, uint32_t slot, uint64_t epoch);
/** ra_guest_name() - of any slot, for people; @name: 24 bytes. Return: @name */
const char *ra_guest_name(const struct ra_agent *agent, uint32_t slot, char *name);

/* ---- residency.c -------------------------------------------------------------------------------
 */

int ra_residency_start(struct ra_agent *agent);
/** ra_residency_update() - look at all addresses again: the directory gets what is different */
void ra_residency_update(struct ra_agent *agent);
/** ra_residency_leave() - the region goes, with what is published in it; ra_residency_enter() -
 * there is one */
void ra_residency_leave(struct ra_agent *agent);
void ra_residency_enter(struct ra_agent *agent);
void ra_residency_stop(struct ra_agent *agent);

/* ---- local.c -----------------------------------------------------------------------------------
 */

/** ra_local_start() - take over the memories that an earlier agent of this life left, or remove
 * them */
void ra_local_start(struct ra_agent *agent);
/** ra_local_mend() - cut off users whose file was truncated; each beat */
void ra_local_mend(struct ra_agent *agent);
/** ra_user_get() - the memory of @uid, made if need be; NULL and a line in the log */
struct ra_user *ra_user_get(struct ra_agent *agent, uid_t uid);
/** ra_local_publish() - settings, rules, region and draining into every user's header */
void ra_local_publish(struct ra_agent *agent);
void ra_local_beat(struct ra_agent *agent);
/** ra_local_stop() - unmap all. @forget: remove the files */
void ra_local_stop(struct ra_agent *agent, bool forget);

/* ---- records.c ---------------------------------------------------------------------------------
 */

/** ra_record() - the record of @ref, NULL if that life of it is over */
struct coloc_record_shared *ra_record(const struct ra_ref *ref);

/** ra_record_set_reason() - the reason, and its count */
void ra_record_set_reason(const struct ra_ref *ref, enum coloc_reason reason);

struct ra_sock;
/**
 * ra_record_find() - the LIVE record of a connection in any user's memory whose socket still exists
 * @ret_sock: what the kernel says of it now. Return: 0, -ENOENT
 */
int ra_record_find(struct ra_agent *agent, const struct shmt_endpoint *local,
		   const struct shmt_endpoint *remote, uint64_t netns, struct ra_ref *ret_ref,
		   struct ra_sock *ret_sock);

/** ra_record_seg() - the segment that @note speaks of, if it is still that one; else NULL */
struct shmt_seg_shared *ra_record_seg(const struct ra_agent *agent, const struct ra_note *note);

/** ra_note_get() - the note of a record; one of an earlier life of the record is ended first */
struct ra_note *ra_note_get(struct ra_agent *agent, struct ra_user *user, uint32_t record);

/** ra_record_release() - end of the segment of @note: flags, gone; the note has none then */
void ra_record_release(struct ra_agent *agent, struct ra_note *note);

/** ra_record_end() - nobody holds the socket: release, count, free */
void ra_record_end(struct ra_agent *agent, struct ra_user *user, uint32_t record);

/* Every record that is not FREE, in @user; @record is set. */
#define ra_for_each_used(user, record)                                            \
	for ((record) = ra_next_used((user), 0); (record) < (user)->record_count; \
	     (record) = ra_next_used((user), (record) + 1))

/** ra_next_used() - first used record from @from on; record_count = none */
uint32_t ra_next_used(const struct ra_user *user, uint32_t from);

/** ra_any_used() - whether any user has any record */
bool ra_any_used(const struct ra_agent *agent);

/* ---- diag.c ------------------------------------------------------------------------------------
 */

enum ra_held {
	RA_HELD,    /* some process has a descriptor */
	RA_ORPHAN,  /* no process has */
	RA_CLOSED,  /* the connection is over; a process may or may not hold what is left of it */
	RA_UNKNOWN, /* the kernel could not be asked */
};

struct ra_sock {
	enum ra_held held;
	uint32_t inode; /* RA_HELD */
	struct shmt_evidence evidence;
};

int ra_diag_start(struct ra_agent *agent);
/** ra_diag_ask() - what the kernel says of the socket of @record, of @user */
void ra_diag_ask(struct ra_agent *agent, const struct ra_user *user,
		 const struct coloc_record_shared *record, struct ra_sock *ret_sock);
/** ra_diag_offer() - a process passed @fd for its namespace @netns; taken over or closed */
void ra_diag_offer(struct ra_agent *agent, struct ra_user *user, uint64_t netns, int fd);
/** ra_diag_forget() - close the sockets of namespaces that no process of @user is in */
void ra_diag_forget(struct ra_user *user);

/* ---- packets.c, procs.c ------------------------------------------------------------------------
 */

/** ra_packets_listen() - the socket; -errno and a line in the log */
int ra_packets_listen(struct ra_agent *agent);
void ra_packets_start(struct ra_agent *agent);
void ra_packets_stop(struct ra_agent *agent);
/** ra_packets_resume() - accept again after a pause; each beat */
void ra_packets_resume(struct ra_agent *agent);
/** ra_packets_mode() - who may connect, as access.group says; 0 or -errno */
int ra_packets_mode(const struct ra_agent *agent);
/** ra_conn_drop() - close; @why: NULL, or what to log about it */
void ra_conn_drop(struct ra_agent *agent, struct ra_conn *conn, const char *why);
/** ra_conn_answer() - send @json (malloc'ed, taken over) in pieces, then END with @status */
void ra_conn_answer(struct ra_agent *agent, struct ra_conn *conn, char *json, int status);

/** ra_proc_hello() - take a process in and welcome it; @diag_fd taken over, -1 = none
 * Return: 0; -errno: the connection is to be dropped
 */
int ra_proc_hello(struct ra_agent *agent, struct ra_conn *conn,
		  const struct coloc_hello_wire *hello, int diag_fd);
/** ra_proc_welcome() - tell it of the memories again, the region having number @attach; 0 or -errno
 */
int ra_proc_welcome(const struct ra_agent *agent, const struct ra_conn *conn, uint32_t attach);
/** ra_proc_disconnected() - its connection is closed; it may live on */
void ra_proc_disconnected(struct ra_agent *agent, struct ra_proc *proc);
/** ra_proc_free() - without looking at its records: for the end of the agent */
void ra_proc_free(struct ra_agent *agent, struct ra_proc *proc);
/** ra_access_allowed() - may this peer use the agent at all? */
bool ra_access_allowed(const struct ra_agent *agent, int fd, uid_t uid, gid_t gid);

/* ---- grants.c, offers.c ------------------------------------------------------------------------
 */

/** ra_join() - the record @record of @user asks for a ring */
void ra_join(struct ra_agent *agent, struct ra_user *user, uint32_t record, uint32_t generation);

/**
 * ra_grant() - write the grant of segment @seg, end @side, into the record
 * Return: true; false: the record is over, or has a grant already
 */
bool ra_grant(struct ra_agent *agent, const struct ra_ref *ref, uint32_t seg,
	      uint32_t seg_generation, unsigned int side);

/** ra_refuse() - back to IDLE with @reason; no new JOIN for the back-off, which grows */
void ra_refuse(struct ra_agent *agent, const struct ra_ref *ref, enum coloc_reason reason);

/** ra_may_grant() - NONE, or why this record may not get a ring (but for its peer) */
enum coloc_reason ra_may_grant(const struct ra_agent *agent, const struct ra_ref *ref);

/** ra_wait_add() - @ref waits; ra_wait_drop() entry @i no more */
void ra_wait_add(struct ra_agent *agent, const struct ra_wait *wait);
void ra_wait_drop(struct ra_agent *agent, uint32_t i);
/** ra_wait_drop_user() - nothing of @user waits any more; its offers run out */
void ra_wait_drop_user(struct ra_agent *agent, const struct ra_user *user);

/** ra_segment_make() - a segment for @ends; 0 or -errno */
int ra_segment_make(struct ra_agent *agent, const struct shmt_guest ends[2], uint32_t *ret_seg,
		    uint32_t *ret_generation);

/** ra_local_try() - both ends inside this guest: grant both, -EAGAIN the other is not there yet */
int ra_local_try(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock);

void ra_offers_start(struct ra_agent *agent);
void ra_offers_stop(struct ra_agent *agent);
/** ra_offers_now() - look at offers at once, and often for a while */
void ra_offers_now(struct ra_agent *agent);
/** ra_offer_begin() - ask the other end's agent; sets the record OFFERED, or refuses it */
void ra_offer_begin(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock,
		    const struct shmt_guest *peer);
/** ra_offer_cancel() - the record of wait @i is over, or got its ring another way */
void ra_offer_cancel(struct ra_agent *agent, uint32_t i);

/* ---- reclaim.c, drain.c ------------------------------------------------------------------------
 */

/** ra_reclaim_start() - the sweep; and what the last agent left unfinished */
void ra_reclaim_start(struct ra_agent *agent);
/** ra_reclaim_check() - is the record over? Ends it if so */
void ra_reclaim_check(struct ra_agent *agent, struct ra_user *user, uint32_t record);
/** ra_reclaim_soon() - check it at the next beats: its process is about to close it */
void ra_reclaim_soon(struct ra_agent *agent, struct ra_user *user, uint32_t record);
/** ra_reclaim_beat() - the checks that are due */
void ra_reclaim_beat(struct ra_agent *agent);
/** ra_reclaim_proc() - a process is dead: take its bit out, and look what it leaves */
void ra_reclaim_proc(struct ra_agent *agent, const struct ra_proc *proc);

/** ra_drain_start() - goes on with it if an earlier agent was at it */
void ra_drain_start(struct ra_agent *agent);
/** ra_drain() - no new rings, and out of the old ones; ra_resume() - the reverse */
void ra_drain(struct ra_agent *agent);
/* Return: 0; -errno: the region that was taken away is not there: the drain goes on */
int ra_resume(struct ra_agent *agent);
/** ra_drain_granted() - a grant that was decided before the drain began */
void ra_drain_granted(struct ra_agent *agent, struct ra_user *user, uint32_t record);
/** ra_streams_on_ring() - streams that receive by the ring, or may send by it */
uint32_t ra_streams_on_ring(const struct ra_agent *agent);

/** ra_drain_over() - the stream may be on a ring again */
void ra_drain_over(struct ra_agent *agent, struct ra_user *user, uint32_t record);

/* ---- stash.c -----------------------------------------------------------------------------------
 */

struct shmt_dir;
/**
 * ra_stash_put() - the @bytes at @tail of the LEAVING ring of @dir, under the receive lock
 * Return: 0; -ENOSPC; -EBUSY there are others, not read yet
 */
int ra_stash_put(struct ra_user *user, struct coloc_record_shared *record,
		 const struct shmt_dir *dir, uint64_t tail, uint64_t bytes);
bool ra_stash_pending(const struct coloc_record_shared *record);
/** ra_stash_drop() - whatever is there has been read, or will not be */
void ra_stash_drop(struct ra_user *user, struct coloc_record_shared *record);
/** ra_stash_beat() - what was read is freed, and its stream let on rings */
void ra_stash_beat(struct ra_agent *agent);
/** ra_stash_restore() - what an earlier agent put there */
void ra_stash_restore(struct ra_user *user);

/* ---- removal.c ---------------------------------------------------------------------------------
 */

/** ra_removal_begin() - every stream is on TCP and stays there: the region is said to be away */
void ra_removal_begin(struct ra_agent *agent);
/** ra_removal_pass() - how many processes may still be at it; 0: it is let go now */
uint32_t ra_removal_pass(struct ra_agent *agent);
/** ra_removal_users() - who has to be out of the region before a drain of it is over; 0: over */
uint32_t ra_removal_users(const struct ra_agent *agent);
/** ra_removal_forget() - @proc is dead: its threads are not inside any more */
void ra_removal_forget(const struct ra_proc *proc);
/** ra_removal_number() - give @user's memory a number of the region, if it is there and has none */
void ra_removal_number(struct ra_agent *agent, struct ra_user *user);
/** ra_removal_end() - attach the region if there is none; 0, or -errno and region_reason */
int ra_removal_end(struct ra_agent *agent);

/* ---- control.c, answers.c ----------------------------------------------------------------------
 */

void ra_control(struct ra_agent *agent, struct ra_conn *conn, uint32_t verb);
/** ra_answer_...() - JSON, malloc'ed; NULL without memory */
char *ra_answer_status(const struct ra_agent *agent);
char *ra_answer_streams(const struct ra_agent *agent);
char *ra_answer_stats(const struct ra_agent *agent);

/** ra_reload() - the configuration again; @error as for ra_conf_load(). Return: 0 or -errno */
int ra_reload(struct ra_agent *agent, char *error);

#endif
