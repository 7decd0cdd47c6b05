/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stash.c - unread ring bytes, moved out of a region that is to go
 *
 * A drain leaves behind what a program has not read, and would wait for it for as long as that
 * program has no mind to read. So after a while the agent copies such bytes into the local memory,
 * where the receiving call finds them (preload/rx.c), and the ring is empty. Until they are taken
 * no ring is opened for the stream: what comes after them comes by TCP.
 *
 * Steps, under the record's receive lock, each of which leaves a valid state: the copy; stash.bytes
 * says that it counts; the ring's tail moves, which the receiver does if this agent dies here.
 */
#include "agent.h"

#include <errno.h>

#include "switch.h"

#define UNIT SHMT_RING_MIN_BYTES

static uint32_t units_of(uint64_t bytes)
{
	uint32_t units = 1;

	while (units * (uint64_t)UNIT < bytes)
		units *= 2;
	return units;
}

static bool is_free(const struct ra_user *user, uint32_t first, uint32_t units)
{
	uint32_t i;

	for (i = 0; i < units; i++)
		if (user->stash_used[first + i])
			return false;
	return true;
}

static void mark(struct ra_user *user, const struct coloc_record_stash_shared *stash, bool used)
{
	const uint32_t units = units_of(stash->bytes);
	const uint64_t first = stash->off / UNIT;
	uint32_t i;

	if (first > RA_STASH_UNITS - units) /* the record is its user's to spoil */
		return;
	for (i = 0; i < units; i++)
		user->stash_used[first + i] = used;
	user->stashed += used ? 1 : -1u;
}

int ra_stash_put(struct ra_user *user, struct coloc_record_shared *record,
		 const struct shmt_dir *dir, uint64_t tail, uint64_t bytes)
{
	struct coloc_record_stash_shared *stash = &record->stash;
	const uint32_t units = units_of(bytes);
	uint32_t first = 0;

	if (shmt_load(&stash->bytes))
		return -EBUSY;
	while (first < RA_STASH_UNITS && !is_free(user, first, units))
		first += units;
	if (first >= RA_STASH_UNITS)
		return -ENOSPC;
	stash->off = first * (uint64_t)UNIT;
	stash->tail = tail;
	shmt_ring_copy_out(&dir->ring, tail,
			   (uint8_t *)user->shared + user->shared->stash_off + stash->off, bytes);
	shmt_store(&stash->missing, shmt_rx_missing(dir));
	shmt_store(&stash->taken, 0);
	shmt_store(&stash->bytes, bytes);
	mark(user, stash, true);
	shmt_rx_stashed(dir, tail, bytes);
	return 0;
}

bool ra_stash_pending(const struct coloc_record_shared *record)
{
	return shmt_load(&record->stash.bytes) > shmt_load(&record->stash.taken);
}

void ra_stash_drop(struct ra_user *user, struct coloc_record_shared *record)
{
	if (!shmt_load(&record->stash.bytes))
		return;
	mark(user, &record->stash, false);
	/* What was taken stays taken: a receiver may be looking at the two. */
	shmt_store(&record->stash.bytes, 0);
}

void ra_stash_beat(struct ra_agent *agent)
{
	struct ra_user *user;
	uint32_t index;

	for (user = agent->users; user; user = user->next) {
		if (!user->stashed)
			continue;
		ra_for_each_used(user, index)
		{
			if (!shmt_load(&user->records[index].stash.bytes) ||
			    ra_stash_pending(&user->records[index]))
				continue;
			ra_stash_drop(user, &user->records[index]);
			if (!agent->draining)
				ra_drain_over(agent, user, index);
		}
	}
}

void ra_stash_restore(struct ra_user *user)
{
	uint32_t index;

	ra_for_each_used(user, index) if (shmt_load(&user->records[index].stash.bytes))
		mark(user, &user->records[index].stash, true);
}
