/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.c - what is over is taken back
 *
 * A record is over when no process holds its socket. The kernel says so for certain only of an
 * orphan (diag.c); that a connection is closed does not mean that nobody reads the rest of it. So:
 *
 *   held by the kernel's word ........................................... goes on
 *   orphan, or closed and never on a ring: nothing can be lost .......... over
 *   closed, or the kernel cannot be asked: a process that uses the record still has a descriptor of
 *   the socket (its inode, in /proc) .................................. goes on
 *     no process is known to use it and the ring has unread bytes: the same question about all
 *     processes, as a child may have inherited it unseen
 *     none has .......................................................... over
 *
 * A record is looked at when a process says that it closed it, when a process dies, and now and
 * then: the sweep takes a bounded number each second, so that thousands of idle streams cost
 * little.
 *
 * Segments with this guest at one end and no note of it come from an agent that died at the wrong
 * moment. One that two passes found so, and no offer speaks of, is given up.
 */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "switch.h"

#define SWEEP_S		1.0
#define SWEEP_RECORDS	512 /* questions per second */
#define RECHECK_BEATS	10
#define LEAK_PASS_EVERY 5 /* sweeps */

/* ---- who holds a socket ------------------------------------------------------------------------
 */

/* 1: process @name (in /proc) has a descriptor of socket @inode; 0: no; -errno: it may not be asked
 */
static int holds(const char *name, uint32_t inode)
{
	char path[64], target[64], want[32];
	struct dirent *entry;
	DIR *folder;
	ssize_t got;
	int rc = 0;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", name);
	snprintf(want, sizeof(want), "socket:[%u]", inode);
	folder = opendir(path);
	if (!folder)
		return errno == ENOENT ? 0 : -errno;
	while (rc == 0 && (entry = readdir(folder))) {
		got = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);
		if (got > 0) {
			target[got] = 0;
			rc = !strcmp(target, want);
		}
	}
	closedir(folder);
	return rc;
}

static bool anybody_holds(uint32_t inode)
{
	struct dirent *entry;
	bool found = false;
	DIR *folder = opendir("/proc");

	while (folder && !found && (entry = readdir(folder)))
		found = isdigit((unsigned char)entry->d_name[0]) &&
			holds(entry->d_name, inode) == 1;
	if (folder)
		closedir(folder);
	return found;
}

/* Takes the bit of each process out that no longer holds it. true: one is left. */
static bool users_hold(struct ra_user *user, struct coloc_record_shared *record, uint32_t inode)
{
	const struct ra_proc *proc;
	bool any = false;
	char name[16];
	uint32_t slot;

	for (slot = 0; slot < COLOC_PROCS_MAX; slot++) {
		if (!(shmt_load(&record->procs[slot / 64]) & 1ULL << slot % 64))
			continue;
		proc = user->procs[slot];
		if (proc) {
			snprintf(name, sizeof(name), "%d", (int)proc->pid);
			if (!inode || proc->pid <= 0 || holds(name, inode) != 0) {
				any = true;
				continue;
			}
		}
		shmt_and(&record->procs[slot / 64], ~(1ULL << slot % 64));
	}
	return any;
}

static bool has_unread(const struct ra_agent *agent, const struct ra_note *note)
{
	const struct shmt_seg_shared *seg = ra_record_seg(agent, note);
	uint64_t ctl;

	if (!seg)
		return false;
	ctl = shmt_load(&seg->dir[!note->side].ctl);
	return SHMT_CTL_MODE(ctl) != SHMT_TCP &&
	       SHMT_CTL_VALUE(ctl) != shmt_load(&seg->dir[!note->side].tail);
}

/* ---- one record --------------------------------------------------------------------------------
 */

static uint64_t oldest_birth(const struct ra_user *user)
{
	uint64_t oldest = UINT64_MAX;
	uint32_t slot;

	for (slot = 0; slot < COLOC_PROCS_MAX; slot++)
		if (user->procs[slot] && user->procs[slot]->birth < oldest)
			oldest = user->procs[slot]->birth;
	return oldest;
}

/*
 * CLAIMED or DYING: its shim is at it, or was killed at it. Certain is the latter when every
 * process that was there at the first look is gone.
 */
static void check_half_made(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct coloc_record_shared *record = &user->records[index];
	struct ra_note *note = ra_note_get(agent, user, index);
	const uint32_t state = shmt_load(&record->state);

	if (state != COLOC_RECORD_CLAIMED && state != COLOC_RECORD_DYING)
		return;
	if (!note->stuck) {
		note->stuck = 1 + user->births;
		return;
	}
	if (oldest_birth(user) < note->stuck)
		return;
	shmt_store(&record->generation, note->generation + 1);
	shmt_and(&user->shared->used[index / 64], ~(1ULL << index % 64));
	shmt_store(&record->state, COLOC_RECORD_FREE);
	(void)ra_note_get(agent, user, index);
}

static bool is_over(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct coloc_record_shared *record = &user->records[index];
	struct ra_note *note = ra_note_get(agent, user, index);
	struct ra_sock sock;

	ra_diag_ask(agent, user, record, &sock);
	if (sock.held == RA_HELD) {
		note->inode = sock.inode;
		return false;
	}
	if (sock.held == RA_ORPHAN || (sock.held == RA_CLOSED && note->seg == RA_NONE))
		return true;
	if (users_hold(user, record, note->inode))
		return false;
	if (note->inode && (sock.held == RA_UNKNOWN || has_unread(agent, note)))
		return !anybody_holds(note->inode);
	return true;
}

void ra_reclaim_check(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct coloc_record_shared *record = &user->records[index];
	const struct ra_note *note = ra_note_get(agent, user, index);

	if (shmt_load_acquire(&record->state) != COLOC_RECORD_LIVE)
		check_half_made(agent, user, index);
	else if (shmt_load(&record->generation) == note->generation && is_over(agent, user, index))
		ra_record_end(agent, user, index);
}

void ra_reclaim_soon(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct ra_note *note = ra_note_get(agent, user, index);
	const struct ra_recheck recheck = {.ref = {user, index, note->generation},
					   .left = RECHECK_BEATS};

	if (note->recheck)
		return;
	note->recheck = true;
	ra_list_add(&agent->rechecks, recheck);
}

static void sweep_segments(struct ra_agent *agent)
{
	agent->released = false;
	(void)shmt_segment_sweep(&agent->region, &agent->guest);
}

/* Once for who closed it before it told, again for who told first. */
void ra_reclaim_beat(struct ra_agent *agent)
{
	struct ra_recheck *recheck;
	struct ra_note *note;
	uint32_t i = 0;

	while (i < agent->rechecks.count) {
		recheck = &agent->rechecks.at[i];
		ra_reclaim_check(agent, recheck->ref.user, recheck->ref.record);
		recheck->left--;
		note = ra_note_get(agent, recheck->ref.user, recheck->ref.record);
		if (recheck->left == 0 || note->generation != recheck->ref.generation) {
			note->recheck = false;
			ra_list_drop(&agent->rechecks, i);
		} else {
			i++;
		}
	}
	if (agent->released)
		sweep_segments(agent);
}

/* A receiver that was killed inside the kernel is counted there for ever: S must not open again. */
static void refuse_if_stuck(struct ra_agent *agent, struct coloc_record_shared *record,
			    const struct ra_note *note)
{
	struct shmt_seg_shared *seg = ra_record_seg(agent, note);
	const struct shmt_dir dir = {.shared = seg ? &seg->dir[!note->side] : NULL};

	if (!seg || shmt_load(&dir.shared->in_kernel) == 0)
		return;
	shmt_or(&record->flags, COLOC_RECORD_STUCK);
	shmt_rx_refuse(&dir);
}

void ra_reclaim_proc(struct ra_agent *agent, const struct ra_proc *proc)
{
	const uint64_t bit = 1ULL << proc->slot % 64;
	struct ra_user *user = proc->user;
	struct coloc_record_shared *record;
	uint32_t index;

	ra_for_each_used(user, index)
	{
		record = &user->records[index];
		if (!(shmt_and(&record->procs[proc->slot / 64], ~bit) & bit))
			continue;
		ra_reclaim_check(agent, user, index);
		/* Not over: another process has it. */
		if (shmt_load(&record->state) == COLOC_RECORD_LIVE)
			refuse_if_stuck(agent, record, ra_note_get(agent, user, index));
	}
}

/* ---- segments without a note -------------------------------------------------------------------
 */

static bool is_offered(const struct ra_agent *agent, const struct ra_leak *leak)
{
	struct shmt_offer offer;
	uint32_t i;

	for (i = 0; i < agent->region.offer_count; i++)
		if (shmt_offer_read(&agent->region, i, &offer) == 0 && offer.seg == leak->seg &&
		    offer.seg_generation == leak->seg_generation)
			return true;
	return false;
}

static bool was_seen(const struct ra_leak *leaks, uint32_t count, const struct ra_leak *leak)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (leaks[i].seg == leak->seg && leaks[i].seg_generation == leak->seg_generation &&
		    leaks[i].side == leak->side)
			return true;
	return false;
}

/* By segment: bits 0 and 1, whether a note names this side of it. */
static uint8_t *noted_sides(const struct ra_agent *agent)
{
	uint8_t *sides = calloc(agent->region.seg_count, 1);
	const struct ra_user *user;
	const struct ra_note *note;
	uint32_t i;

	for (user = sides ? agent->users : NULL; user; user = user->next) {
		for (i = 0; i < user->record_count; i++) {
			note = &user->notes[i];
			if (note->seg < agent->region.seg_count)
				sides[note->seg] |= (uint8_t)(1u << note->side);
		}
	}
	return sides;
}

static void find_leaks(struct ra_agent *agent)
{
	uint8_t *sides = noted_sides(agent);
	const struct ra_leak *old = agent->leaks.at;
	const uint32_t old_count = agent->leaks.count;
	const struct shmt_seg_shared *seg;
	struct ra_leak leak;
	uint32_t index;

	agent->leaks.at = NULL;
	agent->leaks.count = agent->leaks.room = 0;
	for (index = 0; sides && index < agent->region.seg_count; index++) {
		seg = &agent->region.segs[index];
		if (shmt_load_acquire(&seg->state) != SHMT_SEG_USED)
			continue;
		for (leak.side = 0; leak.side < 2; leak.side++) {
			if (sides[index] & 1u << leak.side ||
			    seg->end[leak.side].guest != agent->guest.slot ||
			    seg->end[leak.side].epoch != agent->guest.epoch ||
			    shmt_seg_end_gone(&seg->end[leak.side],
					      shmt_load_acquire(&seg->generation)))
				continue;
			leak.seg = index;
			leak.seg_generation = shmt_load_relaxed(&seg->generation);
			if (is_offered(agent, &leak))
				continue;
			if (was_seen(old, old_count, &leak)) {
				ra_log(SD_NOTICE, "segment %u, end %u: nobody's, given up", index,
				       leak.side);
				shmt_segment_set_gone(&agent->region, index, leak.seg_generation,
						      leak.side);
			} else {
				ra_list_add(&agent->leaks, leak);
			}
		}
	}
	free(sides);
	free((void *)old);
}

/* ---- the sweep ---------------------------------------------------------------------------------
 */

static void sweep_user(struct ra_agent *agent, struct ra_user *user)
{
	uint32_t index = ra_next_used(user, user->sweep_at), left;

	for (left = SWEEP_RECORDS; left > 0 && index < user->record_count; left--) {
		ra_reclaim_check(agent, user, index);
		index = ra_next_used(user, index + 1);
	}
	user->sweep_at = index < user->record_count ? index : 0;
}

/* Notes of records that their shim freed are not found by the used bits. */
static void sweep_notes(struct ra_agent *agent, struct ra_user *user)
{
	uint32_t index;

	for (index = 0; index < user->record_count; index++)
		if (user->notes[index].seg != RA_NONE)
			(void)ra_note_get(agent, user, index);
}

static void on_sweep(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ra_agent *agent = timer->data;
	struct ra_user *user;

	(void)loop;
	(void)events;
	for (user = agent->users; user; user = user->next) {
		sweep_user(agent, user);
		sweep_notes(agent, user);
	}
	if (!agent->region.base)
		return;
	if (++agent->sweeps % LEAK_PASS_EVERY == 0)
		find_leaks(agent);
	sweep_segments(agent);
}

void ra_reclaim_start(struct ra_agent *agent)
{
	ev_timer_init(&agent->sweep, on_sweep, SWEEP_S, SWEEP_S);
	agent->sweep.data = agent;
	ev_timer_start(agent->loop, &agent->sweep);
}
