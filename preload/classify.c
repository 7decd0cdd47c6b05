/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classify.c - what is behind a number?
 *
 * The kernel is asked once per number: TCP, established, between which names; then the directory:
 * is the peer co-resident; then the cookie leads to the record, found or made. That serves connect,
 * accept, fork, exec, SCM_RIGHTS and inetd alike: nobody hands anything over.
 */
#include "classify.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "directory.h"
#include "gate.h"
#include "log.h"
#include "record_hash.h"

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
	static const uint8_t v4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
	static const uint8_t v6[16] = {[15] = 1};

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

	if (!pl_gate_attach())
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

static struct coloc_record_shared *find_record(uint32_t first, uint32_t count, uint64_t cookie)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		struct coloc_record_shared *rec = &pl.records[(first + i) & (pl.record_count - 1)];

		if (shmt_load(&rec->state) == COLOC_RECORD_LIVE && rec->cookie == cookie)
			return rec;
	}
	return NULL;
}

/* Of a connection that is over the kernel names no peer: the cookie alone leads to its record. */
static struct coloc_record_shared *find_record_of_over(const struct coloc_local_shared *local,
						       uint64_t cookie)
{
	struct coloc_record_shared *rec = NULL;
	uint32_t first;

	for (first = 0; !rec && first < pl.record_count; first += 64)
		if (shmt_load(&local->used[first / 64]))
			rec = find_record(first, 64, cookie);
	return rec;
}

static struct coloc_record_shared *find_or_make_record(struct coloc_local_shared *local,
						       const struct shmt_endpoint *here,
						       const struct shmt_endpoint *there,
						       uint64_t cookie, uint32_t peer_guest)
{
	const uint32_t mask = pl.record_count - 1;
	const uint32_t first = (uint32_t)coloc_record_hash(here, there) & mask;
	struct coloc_record_shared *rec = find_record(first, COLOC_RECORD_WINDOW, cookie), *other;
	uint32_t i;

	if (rec)
		return rec;
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
		rec->pid = (uint32_t)pl.owner;
		rec->peer_guest = peer_guest;
		snprintf(rec->command, sizeof(rec->command), "%.15s",
			 program_invocation_short_name);
		rec->reason = COLOC_REASON_BELOW_THRESHOLD;
		pl_record_claim(rec);
		shmt_store(&rec->state, COLOC_RECORD_LIVE);
		/* Two processes may come at once: the record that lies first is the socket's. */
		other = find_record(first, i, cookie);
		if (other) {
			shmt_add(&rec->generation, 1);
			shmt_and(&local->used[n / 64], ~(1ull << n % 64));
			shmt_store(&rec->state, COLOC_RECORD_FREE);
			return other;
		}
		shmt_add_relaxed(&local->totals.streams_seen, 1);
		return rec;
	}
	return NULL;
}

/* A region that was taken away orderly, or that is back and not mapped here yet: wait and see. */
static bool is_coming_back(const struct coloc_local_shared *local)
{
	if (!shmt_load_acquire(&pl.removable))
		return false;
	if (shmt_load(&local->region_attach))
		return pl_gate.line && !pl_gate_attach();
	/* The agent says first that it is back, then that it drains no more: one of us sees it. */
	return shmt_load(&local->draining) || shmt_load(&local->region_attach);
}

enum pl_kind pl_classify(int fd, enum pl_kind was, struct coloc_record_shared **ret_rec)
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
	int protocol;

	if (pl_process_waits())
		return PL_UNKNOWN;
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 || protocol != IPPROTO_TCP)
		return errno == EBADF ? PL_UNKNOWN : PL_PASS;
	len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_retrans) + 8)
		return PL_PASS;
	switch (info.tcpi_state) {
	case 2: /* SYN_SENT */
	case 3: /* SYN_RECV */
		return PL_UNKNOWN;
	case 7: /* CLOSE: not connected, or over: another process may have left bytes in a ring */
		if (!info.tcpi_bytes_received)
			return PL_UNCONNECTED;
		break;
	case 10: /* LISTEN */
		return PL_PASS;
	}
	local = pl_process_agent();
	if (!local && was == PL_UNKNOWN)
		local = pl_process_wait_agent();
	if (!local)
		return PL_UNKNOWN;
	PL_IN_REGION;
	len = sizeof(cookie);
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		cookie = 0;
	len = sizeof(there_sa);
	if (info.tcpi_state != 7 && getpeername(fd, (struct sockaddr *)&there_sa, &len) < 0) {
		if (errno != ENOTCONN)
			return PL_PASS;
		info.tcpi_state = 7; /* by now: the agent may have kept us waiting */
	}
	if (info.tcpi_state == 7) {
		*ret_rec = cookie ? find_record_of_over(local, cookie) : NULL;
		return *ret_rec ? PL_STREAM : PL_UNCONNECTED;
	}
	if (endpoint(&there_sa, &there) < 0)
		return PL_PASS;
	len = sizeof(here_sa);
	if (getsockname(fd, (struct sockaddr *)&here_sa, &len) < 0 || endpoint(&here_sa, &here) < 0)
		return PL_PASS;
	/* What another process has had on a ring may have left bytes for us, region or not. */
	rec = cookie ? find_record((uint32_t)coloc_record_hash(&here, &there), COLOC_RECORD_WINDOW,
				   cookie)
		     : NULL;
	if (rec) {
		*ret_rec = rec;
		return PL_STREAM;
	}
	if (is_coming_back(local))
		return PL_UNKNOWN;
	reason = cookie ? find_peer(local, &here, &there, &guest) : COLOC_REASON_SOCKET_OPTION;
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
	*ret_rec = rec;
	return PL_STREAM;
}
