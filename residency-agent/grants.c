/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grants.c - a stream asks for a ring: JOIN, and what becomes of it
 *
 * A grant is written into the record and never taken back: the record ends with its socket. So it
 * is made only when both ends are certain to get theirs. Inside this guest the agent grants both
 * ends itself, at once; between guests see offers.c. The two ends of an inner stream share a
 * network namespace, whose inode is part of the key: the same addresses and ports in another one
 * are another connection.
 *
 * What fails leaves a reason and a time before which asking again is useless. That time doubles
 * with each failure that may last (the other end is silent: not preloaded), and stays short where
 * the hindrance is known to pass.
 */
#include "agent.h"

#include <errno.h>
#include <string.h>

#include "region.h"

#define BACKOFF_MIN_MS 1000u
#define BACKOFF_MAX_MS 60000u

/* ---- waiting -----------------------------------------------------------------------------------
 */

void ra_wait_add(struct ra_agent *agent, const struct ra_wait *wait)
{
	ra_list_add(&agent->waits, *wait);
	ra_note_get(agent, wait->ref.user, wait->ref.record)->pending = true;
}

void ra_wait_drop(struct ra_agent *agent, uint32_t i)
{
	const struct ra_ref ref = agent->waits.at[i].ref;
	struct ra_note *note = &ref.user->notes[ref.record];

	if (note->generation == ref.generation)
		note->pending = false;
	ra_list_drop(&agent->waits, i);
}

void ra_wait_drop_user(struct ra_agent *agent, const struct ra_user *user)
{
	uint32_t i = 0;

	while (i < agent->waits.count) {
		if (agent->waits.at[i].ref.user == user)
			ra_offer_cancel(agent, i);
		else
			i++;
	}
	for (i = 0; i < agent->rechecks.count;) {
		if (agent->rechecks.at[i].ref.user == user)
			ra_list_drop(&agent->rechecks, i);
		else
			i++;
	}
}

static void stop_waiting(struct ra_agent *agent, const struct ra_ref *ref)
{
	uint32_t i;

	for (i = 0; i < agent->waits.count; i++) {
		if (agent->waits.at[i].ref.user == ref->user &&
		    agent->waits.at[i].ref.record == ref->record) {
			ra_offer_cancel(agent, i);
			return;
		}
	}
}

/* ---- yes and no --------------------------------------------------------------------------------
 */

bool ra_grant(struct ra_agent *agent, const struct ra_ref *ref, uint32_t seg,
	      uint32_t seg_generation, unsigned int side)
{
	struct coloc_record_shared *record = ra_record(ref);
	struct ra_note *note;
	uint32_t grant;

	if (!record)
		return false;
	note = ra_note_get(agent, ref->user, ref->record);
	if (note->seg != RA_NONE)
		return false;
	record->seg = seg;
	record->seg_generation = seg_generation;
	record->side = side;
	do {
		grant = shmt_load(&record->grant);
		if (grant >= COLOC_GRANT_GRANTED)
			return false;
		/* G1 release, pairs with the shim's acquire of GRANTED: what it names is written.
		 */
	} while (!shmt_cas(&record->grant, grant, COLOC_GRANT_GRANTED));
	if (note->pending)
		stop_waiting(agent, ref);
	note->seg = seg;
	note->seg_generation = seg_generation;
	note->side = (uint8_t)side;
	note->backoff_ms = 0;
	if (agent->draining)
		ra_drain_granted(agent, ref->user, ref->record);
	/* Its shim may be freeing it right now, having seen no grant: then another look finds out.
	 */
	ra_reclaim_soon(agent, ref->user, ref->record);
	return true;
}

static bool passes_soon(enum coloc_reason reason)
{
	return reason == COLOC_REASON_PEER_DRAINING || reason == COLOC_REASON_DRAINING ||
	       reason == COLOC_REASON_PEER_SUSPECT || reason == COLOC_REASON_NO_MEMORY;
}

void ra_refuse(struct ra_agent *agent, const struct ra_ref *ref, enum coloc_reason reason)
{
	struct coloc_record_shared *record = ra_record(ref);
	struct ra_note *note;
	uint32_t grant;

	if (!record)
		return;
	note = ra_note_get(agent, ref->user, ref->record);
	note->backoff_ms = note->backoff_ms == 0 || passes_soon(reason) ? BACKOFF_MIN_MS
			   : note->backoff_ms * 2 < BACKOFF_MAX_MS	? note->backoff_ms * 2
									: BACKOFF_MAX_MS;
	shmt_store(&record->not_before,
		   agent->heartbeat + (uint64_t)note->backoff_ms * RA_BEATS_PER_S / 1000);
	ra_record_set_reason(ref, reason);
	grant = shmt_load(&record->grant);
	if (grant == COLOC_GRANT_WANTED || grant == COLOC_GRANT_OFFERED)
		(void)shmt_cas(&record->grant, grant, COLOC_GRANT_IDLE);
}

/* Others than those have it, too: when they are gone, it may go by ring. */
static bool all_sandboxed(const struct coloc_record_shared *record)
{
	unsigned int i;

	for (i = 0; i < COLOC_HOLDERS_MAX; i++) {
		const uint64_t process = shmt_load(&record->holders[i]);

		if (process && !(process & COLOC_HOLDER_SANDBOXED))
			return false;
	}
	return true;
}

enum coloc_reason ra_may_grant(const struct ra_agent *agent, const struct ra_ref *ref)
{
	const struct coloc_record_shared *record = &ref->user->records[ref->record];
	const uint32_t flags = shmt_load(&record->flags);
	uint32_t reason;

	if (!agent->region.base)
		return agent->region_reason;
	if (agent->draining)
		return COLOC_REASON_DRAINING;
	if ((flags & COLOC_RECORD_STAYS) ||
	    ((flags & COLOC_RECORD_SANDBOXED) && all_sandboxed(record))) {
		reason = shmt_load_relaxed(&record->reason);
		return reason && reason < COLOC_REASON_COUNT ? reason : COLOC_REASON_SOCKET_OPTION;
	}
	if (!ra_conf_peer_allowed(&agent->conf, record->remote.addr))
		return COLOC_REASON_RULE;
	return COLOC_REASON_NONE;
}

int ra_segment_make(struct ra_agent *agent, const struct shmt_guest ends[2], uint32_t *ret_seg,
		    uint32_t *ret_generation)
{
	const uint64_t most = shmt_region_ring_max(&agent->region);
	const uint64_t bytes =
		agent->conf.region_ring_bytes < most ? agent->conf.region_ring_bytes : most;
	const int rc = shmt_segment_alloc(&agent->region, &agent->guest, bytes, ends, ret_seg);

	if (rc == 0)
		*ret_generation = agent->region.segs[*ret_seg].generation;
	return rc;
}

/* ---- both ends here ----------------------------------------------------------------------------
 */

static void grant_both(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_ref *other,
		       unsigned int side)
{
	const struct shmt_guest ends[2] = {agent->guest, agent->guest};
	struct ra_note unused = {0};
	uint32_t seg, generation = 0;

	if (ra_segment_make(agent, ends, &seg, &generation) < 0) {
		ra_refuse(agent, ref, COLOC_REASON_NO_MEMORY);
		ra_refuse(agent, other, COLOC_REASON_NO_MEMORY);
		return;
	}
	if (!ra_grant(agent, ref, seg, generation, side)) {
		shmt_segment_free(&agent->region, &agent->guest, seg);
		return;
	}
	if (!ra_grant(agent, other, seg, generation, !side)) {
		/* The one that has its half stays on TCP: the other will never attach. */
		unused.seg = seg;
		unused.seg_generation = generation;
		unused.side = !side;
		ra_record_release(agent, &unused);
	}
}

int ra_local_try(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock)
{
	struct coloc_record_shared *record = ra_record(ref);
	struct shmt_endpoint local, remote;
	struct shmt_conn_key key;
	struct ra_sock other_sock;
	enum coloc_reason reason;
	struct ra_ref other;
	unsigned int side;

	if (!record)
		return -ESTALE;
	local = record->local;
	remote = record->remote;
	side = shmt_conn_key_make(&local, &remote, record->netns, &key);
	if (ra_record_find(agent, &remote, &local, record->netns, &other, &other_sock) < 0 ||
	    (other.user == ref->user && other.record == ref->record) ||
	    ra_note_get(agent, other.user, other.record)->seg != RA_NONE)
		return -EAGAIN;
	reason = ra_may_grant(agent, &other);
	if (reason != COLOC_REASON_NONE) {
		ra_refuse(agent, ref, COLOC_REASON_PEER_DRAINING);
	} else if (!shmt_evidence_fits(&other_sock.evidence, &sock->evidence)) {
		ra_refuse(agent, ref, COLOC_REASON_MISMATCH);
		ra_refuse(agent, &other, COLOC_REASON_MISMATCH);
	} else {
		grant_both(agent, ref, &other, side);
	}
	return 0;
}

static void join_local(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock)
{
	const struct ra_wait wait = {
		.ref = *ref,
		.kind = RA_WAIT_LOCAL,
		.offer = RA_NONE,
		.expires = ev_now(agent->loop) + (double)agent->conf.pairing_offer_ms / 1000,
	};
	struct coloc_record_shared *record = &ref->user->records[ref->record];

	if (!agent->conf.residency_loopback) {
		ra_refuse(agent, ref, COLOC_REASON_RULE);
		return;
	}
	if (ra_local_try(agent, ref, sock) != -EAGAIN)
		return;
	if (shmt_cas(&record->grant, COLOC_GRANT_WANTED, COLOC_GRANT_OFFERED))
		ra_wait_add(agent, &wait);
}

/* ---- JOIN --------------------------------------------------------------------------------------
 */

static bool is_inside(const struct shmt_endpoint *local, const struct shmt_endpoint *remote)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t loopback[16] = {[15] = 1};

	return (!memcmp(remote->addr, mapped, 12) && remote->addr[12] == 127) ||
	       !memcmp(remote->addr, loopback, 16) || !memcmp(local->addr, remote->addr, 16);
}

/* Slot of the guest that the stream goes to; or minus the reason why it cannot be moved. */
static int find_peer(const struct ra_agent *agent, const struct coloc_record_shared *record,
		     struct shmt_guest *ret_peer)
{
	const struct shmt_endpoint local = record->local, remote = record->remote;
	enum coloc_reason reason;
	uint64_t epoch;
	int slot;

	*ret_peer = agent->guest;
	if (is_inside(&local, &remote))
		return 0;
	slot = shmt_directory_find(&agent->region, remote.addr, &epoch);
	if (slot < 0)
		return slot == -EEXIST ? -COLOC_REASON_PEER_AMBIGUOUS
				       : -COLOC_REASON_NOT_CORESIDENT;
	if ((uint32_t)slot == agent->guest.slot)
		return 0;
	ret_peer->slot = (uint32_t)slot;
	ret_peer->epoch = epoch;
	reason = ra_guest_refuses(agent, (uint32_t)slot, epoch);
	if (reason != COLOC_REASON_NONE)
		return -(int)reason;
	/* The other end has to find us by our address, and only our own namespace is published. */
	slot = shmt_directory_find(&agent->region, local.addr, &epoch);
	if (slot == -EEXIST)
		return -COLOC_REASON_PEER_AMBIGUOUS;
	if (slot != (int)agent->guest.slot || record->netns != agent->netns)
		return -COLOC_REASON_NOT_CORESIDENT;
	return 0;
}

void ra_join(struct ra_agent *agent, struct ra_user *user, uint32_t index, uint32_t generation)
{
	const struct ra_ref ref = {user, index, generation};
	struct coloc_record_shared *record = ra_record(&ref);
	struct shmt_guest peer;
	enum coloc_reason reason;
	struct ra_note *note;
	struct ra_sock sock;
	int rc;

	if (!record || shmt_load(&record->grant) != COLOC_GRANT_WANTED)
		return;
	note = ra_note_get(agent, user, index);
	if (note->pending || note->seg != RA_NONE)
		return;
	reason = ra_may_grant(agent, &ref);
	if (reason != COLOC_REASON_NONE) {
		ra_refuse(agent, &ref, reason);
		return;
	}
	if (agent->diag_fd < 0) {
		ra_refuse(agent, &ref, COLOC_REASON_NO_SOCK_DIAG);
		return;
	}
	ra_diag_ask(agent, user, record, &sock);
	if (sock.held != RA_HELD) {
		/* Unknown: a namespace that nobody told us how to ask. */
		ra_refuse(agent, &ref,
			  sock.held == RA_UNKNOWN ? COLOC_REASON_NOT_CORESIDENT
						  : COLOC_REASON_PEER_CLOSED);
		return;
	}
	note->inode = sock.inode;
	rc = find_peer(agent, record, &peer);
	if (rc < 0)
		ra_refuse(agent, &ref, (enum coloc_reason) - rc);
	else if (peer.slot == agent->guest.slot)
		join_local(agent, &ref, &sock);
	else
		ra_offer_begin(agent, &ref, &sock, &peer);
	ra_offers_now(agent);
}
