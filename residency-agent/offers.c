/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offers.c - how the agents of two guests agree on a ring
 *
 * End 0 of a connection is its lower endpoint, so both agents know who is who. Its agent alone
 * makes segments:
 *
 *   end 0's agent                                end 1's agent
 *   JOIN, or a WISH found: a segment is made
 *   and offered (MADE) ------------------------> finds MADE and a record for it: TAKEN, grants its
 * half finds TAKEN: grants its half <-------------- (JOIN first: ) <------- WISH; TAKEN by end 0's
 * agent when it makes its offer
 *
 * The rule that keeps this simple: TAKEN, a compare-and-swap by the addressee, is the one moment of
 * decision. Before it nobody has been granted anything, so an offer that runs out is revoked - by a
 * compare-and-swap as well - and its segment is free again at once; a peer that is not preloaded
 * costs no memory. After it both grants are certain: should an agent die in between, the next one
 * finds the entry (end 0), or the segment without a record (end 1, reclaim.c), and the worst
 * outcome is a stream that stays on TCP.
 *
 * An offer for which there is no record yet is left alone: accept() may come later. The author
 * revokes it in the end.
 *
 * Finding out costs a look at one word, the guest's doorbell: every millisecond while something is
 * under way, every 20 while there are streams, else five times a second.
 */
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define LOOK_BUSY_S    0.001
#define LOOK_STREAMS_S 0.02
#define LOOK_IDLE_S    0.2
#define BUSY_FOR_S     0.1
#define AGAIN_MAX_S    0.1 /* between two looks for a record that is not there */

/* First at once, then after one more millisecond, two, four, ... */
static bool is_due(const struct ra_agent *agent, struct ra_again *again)
{
	const double now = ev_now(agent->loop);

	if (now < again->next)
		return false;
	again->pause = again->pause == 0		? LOOK_BUSY_S
		       : again->pause * 2 < AGAIN_MAX_S ? again->pause * 2
							: AGAIN_MAX_S;
	again->next = now + again->pause;
	return true;
}

static bool is_mine(const struct ra_agent *agent, const struct shmt_guest *guest)
{
	return guest->slot == agent->guest.slot && guest->epoch == agent->guest.epoch;
}

/* A segment whose half nobody of ours will use. */
static void give_up_half(struct ra_agent *agent, uint32_t seg, uint32_t generation,
			 unsigned int side)
{
	struct ra_note unused = {.seg = seg, .seg_generation = generation, .side = (uint8_t)side};

	ra_record_release(agent, &unused);
}

/* ---- offers of ours ----------------------------------------------------------------------------
 */

static void set_offered(struct ra_agent *agent, const struct ra_ref *ref, struct ra_wait *wait)
{
	struct coloc_record_shared *record = &ref->user->records[ref->record];
	uint32_t grant;

	do {
		grant = shmt_load(&record->grant);
	} while (grant < COLOC_GRANT_OFFERED &&
		 !shmt_cas(&record->grant, grant, COLOC_GRANT_OFFERED));
	ra_record_set_reason(ref, COLOC_REASON_WAITING_PEER);
	wait->ref = *ref;
	wait->expires = ev_now(agent->loop) + (double)agent->conf.pairing_offer_ms / 1000;
	ra_wait_add(agent, wait);
}

static void offer_ring(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock,
		       const struct shmt_guest *peer, const struct shmt_conn_key *key)
{
	const struct shmt_guest ends[2] = {agent->guest, *peer};
	struct ra_wait wait = {.kind = RA_WAIT_MADE};
	uint32_t generation;
	int rc;

	if (ra_segment_make(agent, ends, &wait.seg, &generation) < 0) {
		ra_refuse(agent, ref, COLOC_REASON_NO_MEMORY);
		return;
	}
	rc = shmt_offer_post(&agent->region, &agent->guest, peer, SHMT_OFFER_MADE, key,
			     &sock->evidence, wait.seg, generation);
	if (rc < 0) {
		shmt_segment_free(&agent->region, &agent->guest, wait.seg);
		ra_refuse(agent, ref, COLOC_REASON_TABLE_FULL);
		return;
	}
	wait.offer = (uint32_t)rc;
	set_offered(agent, ref, &wait);
}

static void wish_ring(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock,
		      const struct shmt_guest *peer, const struct shmt_conn_key *key)
{
	struct ra_wait wait = {.kind = RA_WAIT_WISH, .seg = RA_NONE};
	const int rc = shmt_offer_post(&agent->region, &agent->guest, peer, SHMT_OFFER_WISH, key,
				       &sock->evidence, 0, 0);

	if (rc < 0) {
		ra_refuse(agent, ref, COLOC_REASON_TABLE_FULL);
		return;
	}
	wait.offer = (uint32_t)rc;
	set_offered(agent, ref, &wait);
}

/* Ours, still unanswered: out of the table, and the segment is free. -ESTALE: it was answered. */
static int take_back(struct ra_agent *agent, const struct shmt_offer *offer)
{
	int rc = -ESTALE;

	if (offer->state == SHMT_OFFER_MADE || offer->state == SHMT_OFFER_WISH)
		rc = shmt_offer_revoke(&agent->region, offer);
	if (rc == 0 && offer->state == SHMT_OFFER_MADE)
		shmt_segment_free(&agent->region, &agent->guest, offer->seg);
	return rc;
}

/* 0; -EAGAIN being answered right now; -ENOENT not ours any more */
static int read_own(const struct ra_agent *agent, uint32_t index, struct shmt_offer *ret_offer)
{
	uint64_t word;

	if (index == RA_NONE)
		return -ENOENT;
	if (shmt_offer_read(&agent->region, index, ret_offer) == 0)
		return is_mine(agent, &ret_offer->author) ? 0 : -ENOENT;
	word = shmt_load(&agent->region.offers[index].word);
	return SHMT_OFFER_STATE(word) != SHMT_OFFER_FREE &&
			       SHMT_OFFER_AUTHOR(word) == agent->guest.slot
		       ? -EAGAIN
		       : -ENOENT;
}

/* TAKEN: what was decided is done. */
static void finish_taken(struct ra_agent *agent, const struct ra_ref *ref,
			 const struct shmt_offer *offer)
{
	if (!ref || !ra_grant(agent, ref, offer->seg, offer->seg_generation, 0))
		give_up_half(agent, offer->seg, offer->seg_generation, 0);
	(void)shmt_offer_withdraw(&agent->region, &agent->guest, offer->index);
}

static enum coloc_reason declined_because(const struct shmt_offer *offer)
{
	return offer->reason > COLOC_REASON_NONE && offer->reason < COLOC_REASON_COUNT
		       ? (enum coloc_reason)offer->reason
		       : COLOC_REASON_PEER_DRAINING;
}

/* Answered, and nobody of ours wants it any more. */
static void drop_answered(struct ra_agent *agent, const struct shmt_offer *offer)
{
	if (offer->state == SHMT_OFFER_TAKEN && offer->seg_generation != 0)
		give_up_half(agent, offer->seg, offer->seg_generation, 0);
	else if (offer->state == SHMT_OFFER_DECLINED && offer->seg_generation != 0)
		shmt_segment_free(&agent->region, &agent->guest, offer->seg);
	(void)shmt_offer_withdraw(&agent->region, &agent->guest, offer->index);
}

void ra_offer_cancel(struct ra_agent *agent, uint32_t i)
{
	const uint32_t index = agent->waits.at[i].offer;
	struct shmt_offer offer;
	int rc;

	ra_wait_drop(agent, i);
	do {
		/* The addressee answers at most once: this looks at most twice. */
		rc = read_own(agent, index, &offer);
		if (rc == 0)
			rc = take_back(agent, &offer) == 0 ? -ENOENT : 0;
	} while (rc == -EAGAIN);
	if (rc == 0 && read_own(agent, index, &offer) == 0)
		drop_answered(agent, &offer);
}

/* ---- waits: true when over ---------------------------------------------------------------------
 */

/* Each removes the entry before it acts on the record, so that nothing is cancelled twice. */
static bool look_at_made(struct ra_agent *agent, uint32_t i)
{
	const struct ra_wait wait = agent->waits.at[i];
	const bool over = ev_now(agent->loop) >= wait.expires || !ra_record(&wait.ref);
	struct shmt_offer offer;
	const int rc = read_own(agent, wait.offer, &offer);

	if (rc == -EAGAIN)
		return false;
	if (rc < 0) {
		/* Somebody cleared it away: what became of the segment, the sweeps of both find
		 * out. */
		ra_wait_drop(agent, i);
		ra_refuse(agent, &wait.ref, COLOC_REASON_PROTOCOL_ERROR);
		return true;
	}
	switch (offer.state) {
	case SHMT_OFFER_TAKEN:
		ra_wait_drop(agent, i);
		finish_taken(agent, &wait.ref, &offer);
		return true;
	case SHMT_OFFER_DECLINED:
		ra_wait_drop(agent, i);
		shmt_segment_free(&agent->region, &agent->guest, wait.seg);
		(void)shmt_offer_withdraw(&agent->region, &agent->guest, wait.offer);
		ra_refuse(agent, &wait.ref, declined_because(&offer));
		return true;
	default:
		if (!over || take_back(agent, &offer) < 0)
			return false;
		ra_wait_drop(agent, i);
		ra_refuse(agent, &wait.ref, COLOC_REASON_PEER_SILENT);
		return true;
	}
}

static bool look_at_wish(struct ra_agent *agent, uint32_t i)
{
	struct ra_wait *wait = &agent->waits.at[i];
	const struct ra_ref ref = wait->ref;
	enum coloc_reason reason = COLOC_REASON_NONE;
	struct shmt_offer offer;

	if (read_own(agent, wait->offer, &offer) == 0) {
		if (offer.state == SHMT_OFFER_TAKEN) {
			(void)shmt_offer_withdraw(&agent->region, &agent->guest, wait->offer);
			wait->offer = RA_NONE; /* MADE comes, or this runs out */
		} else if (offer.state == SHMT_OFFER_DECLINED) {
			reason = declined_because(&offer);
		}
	}
	if (reason == COLOC_REASON_NONE && ev_now(agent->loop) >= wait->expires)
		reason = COLOC_REASON_PEER_SILENT;
	if (reason == COLOC_REASON_NONE && ra_record(&ref))
		return false;
	ra_offer_cancel(agent, i);
	ra_refuse(agent, &ref, reason);
	return true;
}

static bool look_at_local(struct ra_agent *agent, uint32_t i)
{
	const struct ra_wait wait = agent->waits.at[i];
	struct coloc_record_shared *record = ra_record(&wait.ref);
	struct ra_sock sock;

	if (!is_due(agent, &agent->waits.at[i].again))
		return false;
	if (record) {
		ra_diag_ask(agent, wait.ref.user, record, &sock);
		if (sock.held != RA_HELD)
			record = NULL;
	}
	if (!record || ev_now(agent->loop) >= wait.expires) {
		ra_wait_drop(agent, i);
		ra_refuse(agent, &wait.ref, COLOC_REASON_PEER_SILENT);
		return true;
	}
	/* A grant takes the wait out by itself; a refusal does not. */
	if (ra_local_try(agent, &wait.ref, &sock) == -EAGAIN)
		return false;
	if (i < agent->waits.count && agent->waits.at[i].ref.user == wait.ref.user &&
	    agent->waits.at[i].ref.record == wait.ref.record)
		ra_wait_drop(agent, i);
	return true;
}

/* ---- offers to us ------------------------------------------------------------------------------
 */

static int answer(struct ra_agent *agent, const struct shmt_offer *offer,
		  enum shmt_offer_state state, enum coloc_reason reason)
{
	agent->last_active = ev_now(agent->loop);
	return shmt_offer_answer(&agent->region, offer, state, (uint32_t)reason);
}

static bool segment_fits(const struct ra_agent *agent, const struct shmt_offer *offer)
{
	const struct shmt_seg_shared *seg = shmt_region_seg(&agent->region, offer->seg);

	return seg && shmt_load_acquire(&seg->state) == SHMT_SEG_USED &&
	       shmt_load_relaxed(&seg->generation) == offer->seg_generation &&
	       seg->end[0].guest == offer->author.slot &&
	       seg->end[0].epoch == offer->author.epoch && seg->end[1].guest == agent->guest.slot &&
	       seg->end[1].epoch == agent->guest.epoch;
}

static void take_ring(struct ra_agent *agent, const struct ra_ref *ref,
		      const struct shmt_offer *offer)
{
	if (!segment_fits(agent, offer)) {
		ra_log(SD_WARNING, "guest %u offers segment %u, which is not for this stream",
		       offer->author.slot, offer->seg);
		(void)answer(agent, offer, SHMT_OFFER_DECLINED, COLOC_REASON_PROTOCOL_ERROR);
		return;
	}
	if (answer(agent, offer, SHMT_OFFER_TAKEN, COLOC_REASON_NONE) == 0 &&
	    !ra_grant(agent, ref, offer->seg, offer->seg_generation, 1))
		give_up_half(agent, offer->seg, offer->seg_generation, 1);
}

static void take_wish(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock,
		      const struct shmt_offer *offer)
{
	const bool offered = ra_note_get(agent, ref->user, ref->record)->pending;

	if (answer(agent, offer, SHMT_OFFER_TAKEN, COLOC_REASON_NONE) == 0 && !offered)
		offer_ring(agent, ref, sock, &offer->author, &offer->key);
}

/* true: nothing more to do about this entry. */
static bool look_at_offer(struct ra_agent *agent, uint32_t index)
{
	struct shmt_endpoint local, remote;
	enum coloc_reason reason;
	struct shmt_offer offer;
	struct ra_sock sock;
	struct ra_ref ref;
	unsigned int side;
	uint64_t epoch;

	if (shmt_offer_read(&agent->region, index, &offer) < 0 ||
	    !is_mine(agent, &offer.addressee) || offer.key.netns != 0 ||
	    (offer.state != SHMT_OFFER_MADE && offer.state != SHMT_OFFER_WISH))
		return true;
	side = offer.state == SHMT_OFFER_MADE ? 1 : 0;
	local = offer.key.end[side];
	remote = offer.key.end[!side];
	if (shmt_directory_find(&agent->region, remote.addr, &epoch) != (int)offer.author.slot)
		reason = COLOC_REASON_NOT_CORESIDENT;
	else if (ra_record_find(agent, &local, &remote, agent->netns, &ref, &sock) < 0)
		return false; /* not yet; the author revokes it in the end */
	else if (ra_note_get(agent, ref.user, ref.record)->seg != RA_NONE)
		reason = COLOC_REASON_MISMATCH;
	else if (ra_may_grant(agent, &ref) != COLOC_REASON_NONE)
		reason = COLOC_REASON_PEER_DRAINING;
	else if (!shmt_evidence_fits(&sock.evidence, &offer.evidence))
		reason = COLOC_REASON_MISMATCH;
	else
		reason = COLOC_REASON_NONE;

	if (reason != COLOC_REASON_NONE)
		(void)answer(agent, &offer, SHMT_OFFER_DECLINED, reason);
	else if (side == 1)
		take_ring(agent, &ref, &offer);
	else
		take_wish(agent, &ref, &sock, &offer);
	return true;
}

void ra_offer_begin(struct ra_agent *agent, const struct ra_ref *ref, const struct ra_sock *sock,
		    const struct shmt_guest *peer)
{
	const struct coloc_record_shared *record = &ref->user->records[ref->record];
	const struct shmt_endpoint local = record->local, remote = record->remote;
	struct shmt_conn_key key;
	struct shmt_offer offer;

	if (shmt_conn_key_make(&local, &remote, 0, &key) == 0)
		offer_ring(agent, ref, sock, peer, &key);
	else if (shmt_offer_find(&agent->region, &key, peer, SHMT_OFFER_MADE, &offer) < 0)
		wish_ring(agent, ref, sock, peer, &key);
	else
		(void)look_at_offer(agent, offer.index);
	/* An offer that was there and did not fit has been declined: this asks again later. */
	if (shmt_load(&record->grant) == COLOC_GRANT_WANTED)
		ra_refuse(agent, ref, COLOC_REASON_MISMATCH);
}

/* ---- the look ----------------------------------------------------------------------------------
 */

static void fill_inbox(struct ra_agent *agent)
{
	uint64_t word;
	uint32_t i;

	for (i = 0; i < agent->region.offer_count; i++) {
		word = shmt_load_relaxed(&agent->region.offers[i].word);
		if ((SHMT_OFFER_STATE(word) == SHMT_OFFER_MADE ||
		     SHMT_OFFER_STATE(word) == SHMT_OFFER_WISH) &&
		    SHMT_OFFER_ADDRESSEE(word) == agent->guest.slot && !agent->in_inbox[i]) {
			agent->in_inbox[i] = 1;
			ra_list_add(&agent->inbox, ((struct ra_inbox){.offer = i}));
			agent->last_active = ev_now(agent->loop);
		}
	}
}

static bool look_at_wait(struct ra_agent *agent, uint32_t i)
{
	switch (agent->waits.at[i].kind) {
	case RA_WAIT_MADE:
		return look_at_made(agent, i);
	case RA_WAIT_WISH:
		return look_at_wish(agent, i);
	case RA_WAIT_LOCAL:
		return look_at_local(agent, i);
	}
	return false;
}

static void look(struct ra_agent *agent)
{
	struct ra_inbox *entry;
	const uint64_t bell = shmt_load_acquire(&agent->region.guests[agent->guest.slot].doorbell);
	uint32_t i;

	if (bell != agent->doorbell) {
		agent->doorbell = bell;
		fill_inbox(agent);
	}
	for (i = 0; i < agent->inbox.count;) {
		entry = &agent->inbox.at[i];
		if (is_due(agent, &entry->again) && look_at_offer(agent, entry->offer)) {
			agent->in_inbox[entry->offer] = 0;
			ra_list_drop(&agent->inbox, i);
		} else {
			i++;
		}
	}
	/* What is over is replaced by the last entry, which is looked at in its place or next time.
	 */
	for (i = 0; i < agent->waits.count;)
		if (!look_at_wait(agent, i))
			i++;
}

static void schedule(struct ra_agent *agent)
{
	double every = LOOK_IDLE_S;

	if (ev_now(agent->loop) - agent->last_active < BUSY_FOR_S)
		every = LOOK_BUSY_S;
	else if (ra_any_used(agent))
		every = LOOK_STREAMS_S;
	if (agent->tick.repeat == every && ev_is_active(&agent->tick))
		return;
	agent->tick.repeat = every;
	ev_timer_again(agent->loop, &agent->tick);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ra_agent *agent = timer->data;

	(void)loop;
	(void)events;
	look(agent);
	schedule(agent);
}

void ra_offers_now(struct ra_agent *agent)
{
	if (!agent->region.base)
		return;
	agent->last_active = ev_now(agent->loop);
	schedule(agent);
}

/* An earlier agent of this life wrote these; what was decided is done, the rest is taken back. */
static void finish_earlier(struct ra_agent *agent)
{
	struct shmt_offer offer;
	struct ra_sock sock;
	struct ra_ref ref;
	uint32_t i;
	int rc;

	for (i = 0; i < agent->region.offer_count; i++) {
		if (read_own(agent, i, &offer) < 0 || take_back(agent, &offer) == 0 ||
		    read_own(agent, i, &offer) < 0)
			continue;
		if (offer.state == SHMT_OFFER_TAKEN && offer.seg_generation != 0) {
			rc = ra_record_find(agent, &offer.key.end[0], &offer.key.end[1],
					    agent->netns, &ref, &sock);
			finish_taken(agent, rc == 0 ? &ref : NULL, &offer);
		} else {
			drop_answered(agent, &offer);
		}
	}
}

void ra_offers_start(struct ra_agent *agent)
{
	if (!agent->region.base)
		return;
	agent->in_inbox = calloc(agent->region.offer_count, 1);
	if (!agent->in_inbox) {
		ra_log(SD_ERR, "no memory");
		abort();
	}
	finish_earlier(agent);
	agent->doorbell = shmt_load(&agent->region.guests[agent->guest.slot].doorbell) - 1;
	ev_timer_init(&agent->tick, on_tick, 0, LOOK_IDLE_S);
	agent->tick.data = agent;
	schedule(agent);
}

void ra_offers_stop(struct ra_agent *agent)
{
	if (agent->in_inbox)
		ev_timer_stop(agent->loop, &agent->tick);
	agent->inbox.count = 0;
	free(agent->in_inbox);
	agent->in_inbox = NULL;
}
