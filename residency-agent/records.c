/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.c - finding a stream's record, and its end
 *
 * Records are written by the user's processes. What the agent itself has granted stands in its
 * note, which decides what happens to a segment; a record is believed only about its own stream.
 */
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "record_hash.h"

void *ra_list_grow(void *at, uint32_t *room, size_t item_bytes)
{
	*room = *room ? *room * 2 : 16;
	at = reallocarray(at, *room, item_bytes);
	if (!at) {
		ra_log(SD_ERR, "no memory");
		abort();
	}
	return at;
}

struct coloc_record_shared *ra_record(const struct ra_ref *ref)
{
	struct coloc_record_shared *record = &ref->user->records[ref->record];

	if (shmt_load_acquire(&record->state) != COLOC_RECORD_LIVE ||
	    shmt_load(&record->generation) != ref->generation)
		return NULL;
	return record;
}

void ra_record_set_reason(const struct ra_ref *ref, enum coloc_reason reason)
{
	struct coloc_record_shared *record = &ref->user->records[ref->record];

	if (shmt_load_relaxed(&record->reason) == (uint32_t)reason)
		return;
	shmt_store(&record->reason, (uint32_t)reason);
	shmt_add(&ref->user->shared->totals.reasons[reason], 1);
}

/* ---- which are in use --------------------------------------------------------------------------
 */

uint32_t ra_next_used(const struct ra_user *user, uint32_t from)
{
	const uint32_t words = (user->record_count + 63) / 64;
	uint32_t word = from / 64;
	uint64_t bits;

	if (from >= user->record_count)
		return user->record_count;
	bits = shmt_load_relaxed(&user->shared->used[word]) & (UINT64_MAX << from % 64);
	while (!bits) {
		if (++word == words)
			return user->record_count;
		bits = shmt_load_relaxed(&user->shared->used[word]);
	}
	return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

bool ra_any_used(const struct ra_agent *agent)
{
	const struct ra_user *user;

	for (user = agent->users; user; user = user->next)
		if (ra_next_used(user, 0) < user->record_count)
			return true;
	return false;
}

/* ---- by connection -----------------------------------------------------------------------------
 */

static bool same_end(const struct shmt_endpoint *a, const struct shmt_endpoint *b)
{
	return a->port == b->port && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/* Several may match: an old socket of the same addresses and ports. One of them exists. */
static int find_in(struct ra_agent *agent, struct ra_user *user, const struct shmt_endpoint *local,
		   const struct shmt_endpoint *remote, uint64_t netns, struct ra_ref *ret_ref,
		   struct ra_sock *ret_sock)
{
	const uint32_t mask = user->record_count - 1;
	const uint32_t first = (uint32_t)coloc_record_hash(local, remote) & mask;
	const struct coloc_record_shared *record;
	struct ra_ref ref = {.user = user};
	uint32_t i;

	for (i = 0; i < COLOC_RECORD_WINDOW; i++) {
		ref.record = (first + i) & mask;
		record = &user->records[ref.record];
		ref.generation = shmt_load(&record->generation);
		if (!ra_record(&ref) || record->netns != netns ||
		    !same_end(&record->local, local) || !same_end(&record->remote, remote))
			continue;
		ra_diag_ask(agent, user, record, ret_sock);
		if (ret_sock->held == RA_HELD && ra_record(&ref)) {
			ra_note_get(agent, user, ref.record)->inode = ret_sock->inode;
			*ret_ref = ref;
			return 0;
		}
	}
	return -ENOENT;
}

int ra_record_find(struct ra_agent *agent, const struct shmt_endpoint *local,
		   const struct shmt_endpoint *remote, uint64_t netns, struct ra_ref *ret_ref,
		   struct ra_sock *ret_sock)
{
	struct ra_user *user;

	for (user = agent->users; user; user = user->next)
		if (find_in(agent, user, local, remote, netns, ret_ref, ret_sock) == 0)
			return 0;
	return -ENOENT;
}

/* ---- segments ----------------------------------------------------------------------------------
 */

struct shmt_seg_shared *ra_record_seg(const struct ra_agent *agent, const struct ra_note *note)
{
	struct shmt_seg_shared *seg;

	if (note->seg == RA_NONE || !agent->region.base)
		return NULL;
	seg = shmt_region_seg(&agent->region, note->seg);
	if (!seg || shmt_load_acquire(&seg->state) != SHMT_SEG_USED ||
	    shmt_load_relaxed(&seg->generation) != note->seg_generation ||
	    seg->end[note->side].guest != agent->guest.slot ||
	    seg->end[note->side].epoch != agent->guest.epoch)
		return NULL;
	return seg;
}

void ra_record_release(struct ra_agent *agent, struct ra_note *note)
{
	struct shmt_seg_shared *seg = ra_record_seg(agent, note);

	if (seg) {
		/* The other end leaves at its next call; a receiver that was killed inside is not
		 * there. */
		shmt_or(&seg->dir[note->side].flags, SHMT_DIR_STOPPED);
		shmt_or(&seg->dir[!note->side].flags, SHMT_DIR_CLOSED);
		shmt_store(&seg->dir[!note->side].in_kernel, 0);
		shmt_segment_set_gone(&agent->region, note->seg, note->seg_generation, note->side);
		agent->released = true;
	}
	note->seg = RA_NONE;
}

struct ra_note *ra_note_get(struct ra_agent *agent, struct ra_user *user, uint32_t record)
{
	struct ra_note *note = &user->notes[record];
	const uint32_t generation = shmt_load(&user->records[record].generation);

	if (note->generation != generation) {
		ra_record_release(agent, note);
		*note = (struct ra_note){.generation = generation, .seg = RA_NONE};
	}
	return note;
}

void ra_record_end(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct coloc_record_shared *record = &user->records[index];
	struct ra_note *note = ra_note_get(agent, user, index);
	uint32_t i;

	if (!shmt_cas(&record->state, COLOC_RECORD_LIVE, COLOC_RECORD_DYING))
		return; /* its shim is freeing it: the next check finds another generation */
	ra_record_release(agent, note);
	ra_stash_drop(user, record);
	/* Bytes are counted in the record while it lives; all other totals as they happen. */
	shmt_add(&user->shared->totals.bytes_ring, record->tx.ring_bytes + record->rx.ring_bytes);
	shmt_add(&user->shared->totals.bytes_tcp, record->tx.tcp_bytes + record->rx.tcp_bytes);
	for (i = 0; i < COLOC_PROCS_MAX / 64; i++)
		shmt_store(&record->procs[i], 0);
	shmt_store(&record->grant, COLOC_GRANT_IDLE);
	shmt_store(&record->generation, note->generation + 1);
	/* The bit before the state: who claims the record next sets it again. */
	shmt_and(&user->shared->used[index / 64], ~(1ULL << index % 64));
	shmt_store(&record->state, COLOC_RECORD_FREE);
}
