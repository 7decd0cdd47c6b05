/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - from a descriptor to its record, and the life of both
 *
 * An unknown number is asked once what it is (TCP_INFO, names, directory, cookie). That serves
 * connect, accept, fork, exec, SCM_RIGHTS and inetd alike: nobody hands anything over.
 *
 * References: a call raises inflight, then looks whether the number still names the stream. Whoever
 * drops the last descriptor of the process releases the record once no call is under way.
 */
#include "stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "agent_proto.h"
#include "clock.h"
#include "directory.h"
#include "epset.h"
#include "lock.h"
#include "log.h"
#include "pairing.h"
#include "record_hash.h"

static struct pl_stream *streams;
static uint64_t adopt_lock;  /* one at a time, so that a stream is made once */
static uint64_t attach_lock; /* one at a time, so that it is mapped once */

static uint32_t index_of(const struct pl_stream *s)
{
	return (uint32_t)(s - streams);
}

static uint64_t *proc_word(struct coloc_record_shared *rec, uint32_t proc)
{
	return &rec->procs[proc / 64];
}

static void claim_record(struct coloc_record_shared *rec)
{
	const uint32_t proc = shmt_load(&pl.proc);

	if (proc < COLOC_PROCS_MAX)
		shmt_or(proc_word(rec, proc), 1ull << proc % 64);
}

/* Called with every stream that some descriptor of this process names. */
static void each_stream(void (*visit)(struct pl_stream *))
{
	const uint32_t top = shmt_load(&pl_fdtable_top);
	uint32_t fd;

	for (fd = 0; fd < top; fd++) {
		const uint64_t entry = pl_fd_entry((int)fd);

		if (PL_ENTRY_KIND(entry) == PL_STREAM)
			visit(&streams[PL_ENTRY_INDEX(entry)]);
	}
}

static void claim_visit(struct pl_stream *s)
{
	claim_record(s->rec);
}

void pl_streams_claim(void)
{
	if (!streams)
		return;
	each_stream(claim_visit);
}

static void share_visit(struct pl_stream *s)
{
	shmt_or(&s->rec->flags, COLOC_RECORD_SHARED);
}

/* In the parent, before the child is there. */
static void before_fork(void)
{
	if (streams)
		each_stream(share_visit);
}

int pl_streams_init(uint32_t count)
{
	void *memory;

	if (streams)
		return 0;
	memory = mmap(NULL, (size_t)count * sizeof(*streams), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	streams = memory;
	if (pthread_atfork(before_fork, NULL, NULL) != 0)
		return -1;
	return 0;
}

static void forked_visit(struct pl_stream *s)
{
	s->inflight = 0;
}

void pl_streams_forked(void)
{
	if (!streams)
		return;
	adopt_lock = attach_lock = 0;
	each_stream(forked_visit);
	pl_epset_forked();
}

/* ---- what is behind a number ------------------------------------------------------------------ */

static int endpoint(const struct sockaddr_storage *sa, struct shmt_endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (sa->ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)sa;

		memcpy(ret->addr, &a->sin6_addr, 16);
		ret->port = ntohs(a->sin6_port);
	} else if (sa->ss_family == AF_INET) {
		const struct sockaddr_in *a = (const struct sockaddr_in *)sa;

		ret->addr[10] = ret->addr[11] = 0xff;
		memcpy(ret->addr + 12, &a->sin_addr, 4);
		ret->port = ntohs(a->sin_port);
	} else {
		return -EAFNOSUPPORT;
	}
	return 0;
}

static bool is_loopback(const uint8_t addr[16])
{
	static const uint8_t v4[13] = { [10] = 0xff, [11] = 0xff, [12] = 127 };
	static const uint8_t v6[16] = { [15] = 1 };

	return !memcmp(addr, v4, 13) || !memcmp(addr, v6, 16);
}

static bool rule_allows(struct coloc_local_shared *local, const uint8_t addr[16])
{
	uint64_t version;
	bool allow;
	uint32_t i, n;

	do {
		version = shmt_load_acquire(&local->rules_version);
		allow = local->rules_default;
		n = local->rule_count < 32 ? local->rule_count : 32;
		for (i = 0; i < n; i++) {
			const uint32_t bits = local->rules[i].bits & 0xff;
			const uint8_t *rule = local->rules[i].addr;
			const uint8_t mask = (uint8_t)(0xff00 >> bits % 8);

			if (bits <= 128 && !memcmp(rule, addr, bits / 8) &&
			    (bits % 8 == 0 || !((rule[bits / 8] ^ addr[bits / 8]) & mask)))
				allow = local->rules[i].allow;
		}
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while ((version & 1) || version != shmt_load_relaxed(&local->rules_version));
	return allow;
}

/* Which guest the peer is in; a reason other than NONE: the stream stays on TCP. */
static enum coloc_reason find_peer(struct coloc_local_shared *local,
				   const struct shmt_endpoint *here,
				   const struct shmt_endpoint *there, uint32_t *ret_guest)
{
	const uint32_t own = shmt_load_relaxed(&local->guest);
	uint64_t epoch;
	int guest;

	if (!pl.region.base)
		return shmt_load_relaxed(&local->region_reason) ? shmt_load(&local->region_reason)
								: COLOC_REASON_NO_REGION;
	if (is_loopback(there->addr) || !memcmp(here->addr, there->addr, 16)) {
		guest = (int)own;
		if (!shmt_load_relaxed(&local->loopback))
			return COLOC_REASON_RULE;
	} else {
		guest = shmt_directory_find(&pl.region, there->addr, &epoch);
		if (guest == -EEXIST)
			return COLOC_REASON_PEER_AMBIGUOUS;
		if (guest < 0)
			return COLOC_REASON_NOT_CORESIDENT;
	}
	if (!rule_allows(local, there->addr))
		return COLOC_REASON_RULE;
	*ret_guest = (uint32_t)guest;
	return COLOC_REASON_NONE;
}

static struct coloc_record_shared *find_or_make_record(struct coloc_local_shared *local,
						       const struct shmt_endpoint *here,
						       const struct shmt_endpoint *there,
						       uint64_t cookie, uint32_t peer_guest)
{
	const uint32_t mask = pl.record_count - 1;
	const uint32_t first = (uint32_t)coloc_record_hash(here, there) & mask;
	struct coloc_record_shared *rec;
	uint32_t i;

	for (i = 0; i < COLOC_RECORD_WINDOW; i++) {
		rec = &pl.records[(first + i) & mask];
		if (shmt_load_acquire(&rec->state) == COLOC_RECORD_LIVE && rec->cookie == cookie)
			return rec;
	}
	for (i = 0; i < COLOC_RECORD_WINDOW; i++) {
		const uint32_t n = (first + i) & mask;

		rec = &pl.records[n];
		if (!shmt_cas(&rec->state, COLOC_RECORD_FREE, COLOC_RECORD_CLAIMED))
			continue;
		shmt_or(&local->used[n / 64], 1ull << n % 64);
		/* Everything but state and generation begins at zero. */
		memset((char *)rec + offsetof(struct coloc_record_shared, cookie), 0,
		       sizeof(*rec) - offsetof(struct coloc_record_shared, cookie));
		rec->cookie = cookie;
		rec->local = *here;
		rec->remote = *there;
		rec->netns = pl.netns;
		rec->pid = (uint32_t)getpid();
		rec->peer_guest = peer_guest;
		snprintf(rec->command, sizeof(rec->command), "%.15s",
			 program_invocation_short_name);
		rec->reason = COLOC_REASON_BELOW_THRESHOLD;
		claim_record(rec);
		shmt_store_release(&rec->state, COLOC_RECORD_LIVE);
		shmt_add_relaxed(&local->totals.streams_seen, 1);
		return rec;
	}
	return NULL;
}

/*
 * Ask the kernel what @fd is; the new entry, or 0: not known yet, ask again at the next call. A number
 * that another process may have moved to a ring cannot go on by TCP meanwhile: the agent's answer is
 * waited for, but for a bounded time.
 */
static uint64_t classify(int fd, enum pl_kind kind)
{
	struct coloc_local_shared *local;
	struct coloc_record_shared *rec;
	struct sockaddr_storage here_sa, there_sa;
	struct shmt_endpoint here, there;
	socklen_t len = sizeof(int);
	enum coloc_reason reason;
	struct tcp_info info;
	uint32_t guest = 0;
	uint64_t cookie;
	struct pl_stream *s;
	int protocol;

	if (pl_process_waits())
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 ||
	    protocol != IPPROTO_TCP)
		return errno == EBADF ? 0 : PL_PASS;
	len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_retrans) + 8)
		return PL_PASS;
	switch (info.tcpi_state) {
	case 2: /* SYN_SENT */
	case 3: /* SYN_RECV */
		return 0;
	case 7: /* CLOSE: not connected, or over */
		return PL_UNCONNECTED;
	case 10: /* LISTEN */
		return PL_PASS;
	}
	local = pl_process_agent();
	if (!local && kind == PL_UNKNOWN)
		local = pl_process_wait_agent();
	if (!local)
		return 0;
	len = sizeof(there_sa);
	if (getpeername(fd, (struct sockaddr *)&there_sa, &len) < 0 ||
	    endpoint(&there_sa, &there) < 0)
		return PL_PASS;
	len = sizeof(here_sa);
	if (getsockname(fd, (struct sockaddr *)&here_sa, &len) < 0 ||
	    endpoint(&here_sa, &here) < 0)
		return PL_PASS;
	reason = find_peer(local, &here, &there, &guest);
	len = sizeof(cookie);
	if (reason == COLOC_REASON_NONE &&
	    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		reason = COLOC_REASON_SOCKET_OPTION;
	if (reason == COLOC_REASON_NONE) {
		rec = find_or_make_record(local, &here, &there, cookie, guest);
		if (!rec)
			reason = COLOC_REASON_TABLE_FULL;
	}
	if (reason != COLOC_REASON_NONE) {
		shmt_add_relaxed(&local->totals.reasons[reason], 1);
		pl_log(reason == COLOC_REASON_NOT_CORESIDENT ? 2 : 1, "fd %d stays on TCP: %s (%s)",
		       fd, coloc_reason_text(reason), coloc_reason_name(reason));
		return PL_PASS;
	}
	s = &streams[rec - pl.records];
	if (s->rec && s->generation == shmt_load(&rec->generation))
		return PL_ENTRY(PL_STREAM, s->generation, index_of(s)); /* a duplicate */
	/* First sight of this life of the record in this process. */
	memset(s, 0, sizeof(*s));
	s->generation = shmt_load(&rec->generation);
	s->rec = rec;
	protocol = pl_real.fcntl(fd, F_GETFL);
	if (protocol >= 0 && (protocol & O_NONBLOCK))
		shmt_or(&rec->flags, COLOC_RECORD_NONBLOCK);
	if (protocol >= 0 && (protocol & O_ASYNC))
		pl_stream_stay(s, COLOC_REASON_ASYNC_IO);
	if (shmt_load(&pl.unserved))
		pl_stream_stay(s, shmt_load(&pl.unserved));
	return PL_ENTRY(PL_STREAM, s->generation, index_of(s));
}

static struct pl_stream *adopt(int fd, uint64_t was)
{
	const enum pl_lock_result lock = pl_lock_try(&adopt_lock);
	struct pl_stream *s = NULL;
	uint64_t entry;

	if (lock != PL_LOCK_TAKEN)
		return NULL; /* this call goes by TCP: nothing of ours is attached yet here */
	entry = classify(fd, PL_ENTRY_KIND(was));
	if (entry && pl_fd_set(fd, was, entry) && PL_ENTRY_KIND(entry) == PL_STREAM) {
		s = &streams[PL_ENTRY_INDEX(entry)];
		claim_record(s->rec);
		shmt_add(&s->fds, 1);
		shmt_add(&s->inflight, 1);
		pl_epset_adopt(fd, s);
	}
	pl_unlock(&adopt_lock, lock);
	return s;
}

struct pl_stream *pl_stream_get_slow(int fd, uint64_t entry)
{
	struct pl_stream *s;

	for (;;) {
		switch (PL_ENTRY_KIND(entry)) {
		case PL_UNKNOWN:
		case PL_NEW:
			return adopt(fd, entry);
		case PL_STREAM:
			break;
		default:
			return NULL;
		}
		s = &streams[PL_ENTRY_INDEX(entry)];
		shmt_add(&s->inflight, 1);
		if (pl_fd_entry(fd) == entry &&
		    (shmt_load_relaxed(&s->rec->generation) & 0xffffff) ==
			    PL_ENTRY_GENERATION(entry))
			return s;
		shmt_sub(&s->inflight, 1);
		/* The record ended under a number whose close we did not see: look anew. */
		if (pl_fd_entry(fd) == entry)
			(void)pl_fd_set(fd, entry, PL_UNKNOWN);
		entry = pl_fd_entry(fd);
	}
}

/* ---- the end ----------------------------------------------------------------------------------- */

/* No descriptor and no call of this process is left. */
static void release(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	const uint32_t proc = shmt_load(&pl.proc);
	const uint64_t bit = proc < COLOC_PROCS_MAX ? 1ull << proc % 64 : 0;
	const uint32_t n = index_of(s);
	struct coloc_totals_shared *totals = &pl.local->totals;
	uint64_t left = 0;
	uint32_t i;

	pl_epset_drop(&s->items);
	if (shmt_load(&rec->generation) != s->generation)
		return;
	if (bit)
		left = shmt_and(proc_word(rec, proc), ~bit) & ~bit;
	for (i = 0; i < COLOC_PROCS_MAX / 64; i++)
		left |= bit && i == proc / 64 ? 0 : shmt_load(&rec->procs[i]);
	/* A granted record is the agent's to free: the kernel's socket may live on elsewhere. */
	if (shmt_load(&rec->grant) != COLOC_GRANT_IDLE) {
		pl_process_tell(COLOC_MSG_CLOSED, n, s->generation);
	} else if (!left && bit && shmt_cas(&rec->state, COLOC_RECORD_LIVE, COLOC_RECORD_DYING)) {
		shmt_add_relaxed(&totals->bytes_tcp, rec->tx.tcp_bytes + rec->rx.tcp_bytes);
		shmt_add_relaxed(&totals->reasons[shmt_load(&rec->reason) % COLOC_REASON_COUNT],
				 1);
		shmt_add(&rec->generation, 1);
		shmt_and(&pl.local->used[n / 64], ~(1ull << n % 64));
		shmt_store_release(&rec->state, COLOC_RECORD_FREE);
	}
}

void pl_stream_put(struct pl_stream *s)
{
	if (shmt_sub(&s->inflight, 1) == 1 && PL_UNLIKELY(!shmt_load(&s->fds)))
		if (shmt_cas(&s->inflight, 0, 1u << 31)) {
			release(s);
			shmt_sub(&s->inflight, 1u << 31);
		}
}

/*
 * Last descriptor, and no other process has the socket: the other end is to learn it at its next call,
 * as from a kernel. What lies unread in the ring would make a kernel socket answer with a reset
 * (RFC 1122 4.2.2.13), so ours does too.
 */
static void last_close(struct pl_stream *s, int fd)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };
	uint64_t ctl;

	if (!shmt_load(&s->attached) || (shmt_load(&s->rec->flags) & COLOC_RECORD_SHARED))
		return;
	shmt_or(&s->rx.shared->flags, SHMT_DIR_CLOSED);
	ctl = shmt_load(&s->rx.shared->ctl);
	if (SHMT_CTL_MODE(ctl) != SHMT_TCP &&
	    shmt_rx_avail(&s->rx, ctl, shmt_load(&s->rx.shared->tail)) > 0)
		(void)pl_real.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void end_number(int fd, enum pl_kind into)
{
	const uint64_t entry = pl_fd_take(fd, into);
	struct pl_stream *s;

	switch (PL_ENTRY_KIND(entry)) {
	case PL_STREAM:
		s = &streams[PL_ENTRY_INDEX(entry)];
		shmt_add(&s->inflight, 1);
		if (shmt_sub(&s->fds, 1) == 1 && s->rec)
			last_close(s, fd);
		pl_stream_put(s);
		break;
	case PL_EPOLL:
		pl_epset_close(PL_ENTRY_INDEX(entry));
		break;
	default:
		pl_epset_forget(fd);
		break;
	}
}

void pl_stream_forget(int fd)
{
	end_number(fd, PL_UNKNOWN);
}

void pl_stream_fresh(int fd)
{
	if (fd >= 0)
		end_number(fd, PL_NEW);
}

void pl_stream_copy(int from, int to)
{
	const uint64_t entry = pl_fd_entry(from);

	pl_stream_forget(to);
	switch (PL_ENTRY_KIND(entry)) {
	case PL_STREAM:
		shmt_add(&streams[PL_ENTRY_INDEX(entry)].fds, 1);
		break;
	case PL_EPOLL:
		pl_epset_dup(PL_ENTRY_INDEX(entry));
		break;
	case PL_PASS:
	case PL_NEW:
		break;
	default:
		return; /* to be looked at under its own number */
	}
	(void)pl_fd_set(to, PL_UNKNOWN, entry);
}

/* ---- facts from the kernel --------------------------------------------------------------------- */

int pl_stream_bytes(int fd, uint64_t *ret_read, uint64_t *ret_sent, uint32_t *ret_unsent)
{
	struct tcp_info before, info;
	socklen_t len = sizeof(info);
	int queued;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	if (ret_sent) {
		*ret_sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans +
			    info.tcpi_notsent_bytes;
		*ret_unsent = info.tcpi_notsent_bytes;
	}
	while (ret_read) {
		before = info;
		if (pl_real.ioctl(fd, SIOCINQ, &queued) < 0 ||
		    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return -errno;
		if (info.tcpi_bytes_received == before.tcpi_bytes_received) {
			*ret_read = info.tcpi_bytes_received - (uint64_t)queued;
			break;
		}
	}
	return 0;
}

int pl_stream_evidence(int fd, struct shmt_evidence *ret)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(ret, 0, sizeof(*ret));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	ret->bytes_received = info.tcpi_bytes_received;
	ret->bytes_acked = info.tcpi_bytes_acked;
	ret->snd_wscale = info.tcpi_snd_wscale;
	ret->rcv_wscale = info.tcpi_rcv_wscale;
	ret->valid = 1;
	return 0;
}

void pl_stream_shut(struct pl_stream *s)
{
	if (shmt_load(&s->attached))
		shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
}

static enum coloc_reason stay_reason;

static void stay_visit(struct pl_stream *s)
{
	pl_stream_stay(s, stay_reason);
}

void pl_streams_stay(enum coloc_reason reason)
{
	stay_reason = reason;
	each_stream(stay_visit);
}

/* ---- on to a ring ------------------------------------------------------------------------------ */

/* The agent gives reasons, too: they are said when the stream is used next. */
static void say_reason(struct pl_stream *s)
{
	const uint32_t reason = shmt_load_relaxed(&s->rec->reason);

	if (s->said_reason == reason)
		return;
	s->said_reason = reason;
	if (reason != COLOC_REASON_NONE)
		pl_log(1, "stream of port %u to %u stays on TCP: %s (%s)", s->rec->local.port,
		       s->rec->remote.port, coloc_reason_text(reason),
		       coloc_reason_name(reason));
}

void pl_stream_reason(struct pl_stream *s, enum coloc_reason reason)
{
	if (shmt_load_relaxed(&s->rec->reason) == reason)
		return;
	shmt_store_relaxed(&s->rec->reason, reason);
	if (reason != COLOC_REASON_NONE)
		shmt_add_relaxed(&pl.local->totals.reasons[reason], 1);
	say_reason(s);
}

void pl_stream_stay(struct pl_stream *s, enum coloc_reason reason)
{
	shmt_or(&s->rec->flags, COLOC_RECORD_STAYS);
	pl_stream_reason(s, reason);
	if (shmt_load(&s->attached)) {
		shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
		shmt_rx_refuse(&s->rx);
	}
}

static bool worth_a_ring(struct pl_stream *s)
{
	const struct coloc_record_shared *rec = s->rec;
	const uint64_t bytes = rec->tx.tcp_bytes + rec->rx.tcp_bytes;
	const uint64_t messages = rec->tx.messages + rec->rx.messages;

	if (pl.policy == PL_POLICY_ALWAYS)
		return true;
	if (bytes < (uint64_t)pl_setting(switch_bytes))
		return false;
	return s->rate_ok || bytes >= messages * (uint64_t)pl_setting(switch_message_bytes);
}

static void ask_for_ring(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;

	if (shmt_load_relaxed(&pl.local->draining)) {
		pl_stream_reason(s, COLOC_REASON_DRAINING);
		return;
	}
	if (pl_stream_evidence(fd, &rec->evidence) < 0)
		return;
	if (shmt_cas(&rec->grant, COLOC_GRANT_IDLE, COLOC_GRANT_WANTED)) {
		pl_stream_reason(s, COLOC_REASON_WAITING_PEER);
		pl_process_tell(COLOC_MSG_JOIN, index_of(s), s->generation);
	}
}

void pl_stream_account(struct pl_stream *s, int fd, ssize_t bytes)
{
	struct coloc_record_shared *rec = s->rec;
	const uint32_t grant = shmt_load_relaxed(&rec->grant);

	if (bytes <= 0)
		return;
	say_reason(s);
	if (grant >= COLOC_GRANT_GRANTED) {
		if (pl_stream_wants_attach(s))
			pl_stream_attach(s, fd);
		return;
	}
	if ((++s->window_messages & 63) == 0) {
		const uint64_t now = pl_now_ns();

		s->rate_ok = now - s->window_ns <
			     64 * 1000000000ull / (uint64_t)pl_setting(switch_message_rate);
		s->window_ns = now;
	}
	if (grant != COLOC_GRANT_IDLE ||
	    (shmt_load_relaxed(&rec->flags) & COLOC_RECORD_STAYS) ||
	    shmt_load_relaxed(&pl.local->heartbeat) < shmt_load_relaxed(&rec->not_before))
		return;
	if (worth_a_ring(s))
		ask_for_ring(s, fd);
}

/*
 * The receiving direction: from now on every receive follows the word. Receivers that began before are
 * counted in rx.unattached: while there are any, what was consumed from the kernel is not known.
 */
static void attach_rx(struct pl_stream *s, int fd)
{
	struct coloc_record_rx_shared *rx = &s->rec->rx;
	enum pl_lock_result lock = pl_lock_try(&rx->lock);
	uint64_t consumed;

	if (lock != PL_LOCK_TAKEN)
		return;
	/* A1 pairs with A2 in rx.c: a receiver raises unattached, then looks at attach. */
	if (shmt_load(&rx->attach) != 2) {
		shmt_store(&rx->attach, 1);
		if (shmt_load(&rx->unattached) == 0 &&
		    pl_stream_bytes(fd, &consumed, NULL, NULL) == 0) {
			(void)pl_stream_evidence(fd, &s->seg->end[s->side].evidence);
			shmt_rx_attach(&s->rx, consumed);
			if (shmt_load(&s->rec->flags) & COLOC_RECORD_STAYS)
				shmt_rx_refuse(&s->rx);
			shmt_store(&rx->attach, 2);
			pl_stream_reason(s, COLOC_REASON_NONE);
			pl_log(1, "stream of port %u to %u is attached to segment %u",
			       s->rec->local.port, s->rec->remote.port, s->rec->seg);
		} else {
			shmt_store(&rx->attach, 0);
		}
	}
	pl_unlock(&rx->lock, lock);
}

/* Every number comes from the other side of a trust line: checked before it becomes a pointer. */
static int map_segment(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	struct shmt_seg_shared *seg = shmt_region_seg(&pl.region, rec->seg);
	const uint32_t side = rec->side & 1;
	uint64_t ring_bytes;
	uint32_t other;
	uint8_t *data;

	if (!seg || seg->generation != rec->seg_generation)
		return -EPROTO;
	ring_bytes = seg->ring_bytes;
	if (ring_bytes < SHMT_RING_MIN_BYTES || ring_bytes > SHMT_RING_MAX_BYTES ||
	    (ring_bytes & (ring_bytes - 1)))
		return -EPROTO;
	data = shmt_region_at(&pl.region, seg->data_off, 2 * ring_bytes);
	if (!data)
		return -EPROTO;
	s->seg = seg;
	s->side = side;
	s->tx.shared = &seg->dir[side];
	s->tx.ring.data = data + side * ring_bytes;
	s->tx.ring.size = ring_bytes;
	s->rx.shared = &seg->dir[1 - side];
	s->rx.ring.data = data + (1 - side) * ring_bytes;
	s->rx.ring.size = ring_bytes;
	other = seg->end[1 - side].guest;
	s->same_kernel = other < pl.region.guest_count &&
			 pl.region.guests[other].kernel_id == pl.local->kernel_id;
	return 0;
}

void pl_stream_attach(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;
	const int saved = errno;

	/* Acquire pairs with the agent's release of GRANTED: seg, generation and side are there. */
	if (shmt_load_acquire(&rec->grant) < COLOC_GRANT_GRANTED)
		return;
	if (!shmt_load_acquire(&s->attached)) {
		const enum pl_lock_result lock = pl_lock_try(&attach_lock);

		if (lock != PL_LOCK_TAKEN)
			return;
		if (!s->attached) {
			if (map_segment(s) < 0) {
				pl_stream_stay(s, COLOC_REASON_PROTOCOL_ERROR);
				pl_unlock(&attach_lock, lock);
				goto out;
			}
			shmt_store_release(&s->attached, 1);
		}
		pl_unlock(&attach_lock, lock);
		if (shmt_cas(&rec->grant, COLOC_GRANT_GRANTED, COLOC_GRANT_ATTACHED))
			shmt_add_relaxed(&pl.local->totals.streams_moved, 1);
	}
	if (shmt_load(&rec->rx.attach) != 2)
		attach_rx(s, fd);
out:
	errno = saved;
}

int pl_stream_reset(struct pl_stream *s, int fd)
{
	const struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	pl_stream_stay(s, COLOC_REASON_PROTOCOL_ERROR);
	/* Disconnecting an established socket sends a reset. */
	(void)pl_real.connect(fd, &nobody, sizeof(nobody));
	return -ECONNRESET;
}
