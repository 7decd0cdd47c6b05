/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain.c - out of the rings, before the guest migrates or the region is unplugged
 *
 * Flags in the segments make senders leave at their next call. For directions whose owner is not in
 * a call the agent does what the shim would do, under the same lock of the record
 * (record_layout.h): where this guest receives and the ring is empty it goes back to TCP, where
 * bytes are unread it is closed behind them and the receiver reads them when it comes; where this
 * guest sends it is closed. A lock that is held means that the shim is at it: the next pass, 10 ms
 * later, looks again.
 */
#include "agent.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"
#include "switch.h"

#define PASS_S	      0.01
#define UNREAD_PASSES 50 /* then the reader does not come: its bytes are stashed */

static uint64_t lock_word(void)
{
	static uint64_t word;
	struct stat st;

	if (!word)
		word = coloc_lock_word(stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0,
				       (uint32_t)getpid(), (uint32_t)getpid());
	return word;
}

static bool on_ring(const struct shmt_dir_shared *dir)
{
	return SHMT_CTL_MODE(shmt_load(&dir->ctl)) != SHMT_TCP;
}

/* What has been left waits for the other end to read it, and is no matter of ours. */
static bool is_open(const struct shmt_dir_shared *dir)
{
	return on_ring(dir) && SHMT_CTL_MODE(shmt_load(&dir->ctl)) != SHMT_LEAVING;
}

/* ---- one direction -----------------------------------------------------------------------------
 */

static struct shmt_dir direction(struct shmt_seg_shared *seg, unsigned int i)
{
	return (struct shmt_dir){.shared = &seg->dir[i], .ring.size = seg->ring_bytes};
}

/* The ring is LEAVING; nobody is inside the kernel, so it is known what of that comes first. */
static void leave_unread(struct ra_agent *agent, struct ra_user *user, uint32_t index,
			 struct shmt_dir *dir, uint64_t tail, int64_t unread)
{
	const struct ra_note *note = &user->notes[index];
	const struct shmt_seg_shared *seg = ra_record_seg(agent, note);

	if (!agent->removable || unread < 0 || !seg || shmt_load(&dir->shared->in_kernel) ||
	    user->notes[index].unread_passes++ < UNREAD_PASSES)
		return;
	user->notes[index].unread_passes = 0;
	if (dir->ring.size < SHMT_RING_MIN_BYTES || dir->ring.size > SHMT_RING_MAX_BYTES ||
	    dir->ring.size & (dir->ring.size - 1))
		return;
	dir->ring.data = shmt_region_at(
		&agent->region, seg->data_off + !note->side * dir->ring.size, dir->ring.size);
	if (dir->ring.data &&
	    ra_stash_put(user, &user->records[index], dir, tail, (uint64_t)unread) == 0)
		shmt_add(&user->shared->totals.switches_to_tcp, 1);
}

static void leave_as_receiver(struct ra_agent *agent, struct ra_user *user, uint32_t index,
			      struct shmt_dir *dir)
{
	struct coloc_record_shared *record = &user->records[index];
	uint64_t ctl, tail;
	int64_t unread;

	if (!on_ring(dir->shared) || !shmt_cas(&record->rx.lock, 0, lock_word()))
		return;
	tail = shmt_load(&dir->shared->tail);
	ctl = shmt_load(&dir->shared->ctl);
	unread = shmt_rx_avail(dir, ctl, tail);
	switch (SHMT_CTL_MODE(ctl)) {
	case SHMT_TCP:
		break;
	case SHMT_WAKING:
		(void)shmt_rx_push_out(dir, ctl);
		break;
	case SHMT_RING:
		if (unread > 0)
			(void)shmt_rx_push_out(dir, ctl);
		else if (unread == 0 && shmt_rx_settle(dir, ctl))
			shmt_add(&user->shared->totals.switches_to_tcp, 1);
		break;
	case SHMT_LEAVING:
		if (unread == 0 && !shmt_load(&record->rx.held) && shmt_rx_settle(dir, ctl))
			shmt_add(&user->shared->totals.switches_to_tcp, 1);
		else if (unread != 0)
			leave_unread(agent, user, index, dir, tail, unread);
		break;
	}
	(void)shmt_cas(&record->rx.lock, lock_word(), 0);
}

static void leave_as_sender(struct coloc_record_shared *record, const struct shmt_dir *dir)
{
	if (!on_ring(dir->shared) || !shmt_cas(&record->tx.lock, 0, lock_word()))
		return;
	(void)shmt_tx_leave(dir, shmt_load(&dir->shared->ctl));
	(void)shmt_cas(&record->tx.lock, lock_word(), 0);
}

/* ---- one stream --------------------------------------------------------------------------------
 */

static struct shmt_seg_shared *seg_of(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	return ra_record_seg(agent, ra_note_get(agent, user, index));
}

static void leave(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct shmt_seg_shared *seg = seg_of(agent, user, index);
	const unsigned int side = user->notes[index].side;
	struct shmt_dir dir;

	if (!seg)
		return;
	dir = direction(seg, !side);
	leave_as_receiver(agent, user, index, &dir);
	dir = direction(seg, side);
	leave_as_sender(&user->records[index], &dir);
}

static void set_flags(struct shmt_seg_shared *seg, unsigned int side)
{
	const struct shmt_dir rx = direction(seg, !side), tx = direction(seg, side);

	shmt_rx_refuse(&rx);
	shmt_tx_stop(&tx);
}

/* The shim uses the same flags for a stream that must stay on TCP; it says so in the record first.
 */
static void clear_flags(const struct coloc_record_shared *record, const struct ra_note *note,
			struct shmt_seg_shared *seg)
{
	const struct shmt_dir rx = direction(seg, !note->side);
	const uint32_t flags = shmt_load(&record->flags);

	/* While older bytes lie in the stash, none may come by a ring. */
	if (!ra_stash_pending(record) && !(flags & (COLOC_RECORD_SHUT_RD | COLOC_RECORD_STUCK |
						    COLOC_RECORD_STANDARD | COLOC_RECORD_ON_TCP)))
		shmt_and(&seg->dir[!note->side].flags, ~(uint32_t)SHMT_DIR_REFUSED);
	if (!(flags & (COLOC_RECORD_SHUT_WR | COLOC_RECORD_ON_TCP)))
		shmt_and(&seg->dir[note->side].flags, ~(uint32_t)SHMT_DIR_STOPPED);
	if (shmt_load(&record->flags) & COLOC_RECORD_ON_TCP)
		set_flags(seg, note->side);
	if (shmt_load(&record->flags) & (COLOC_RECORD_RECEIVERS | COLOC_RECORD_STANDARD))
		shmt_rx_refuse(&rx);
}

void ra_drain_over(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct shmt_seg_shared *seg = seg_of(agent, user, index);

	if (seg)
		clear_flags(&user->records[index], &user->notes[index], seg);
}

void ra_drain_granted(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct shmt_seg_shared *seg = seg_of(agent, user, index);

	if (seg)
		set_flags(seg, user->notes[index].side);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

uint32_t ra_streams_on_ring(const struct ra_agent *agent)
{
	const struct shmt_seg_shared *seg;
	const struct ra_user *user;
	uint32_t index, count = 0;

	for (user = agent->users; user; user = user->next) {
		ra_for_each_used(user, index)
		{
			seg = ra_record_seg(agent, &user->notes[index]);
			count += seg && (on_ring(&seg->dir[!user->notes[index].side]) ||
					 is_open(&seg->dir[user->notes[index].side]));
		}
	}
	return count;
}

static void on_pass(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ra_agent *agent = timer->data;
	struct ra_user *user;
	uint32_t index;

	(void)events;
	for (user = agent->removing ? NULL : agent->users; user; user = user->next)
		ra_for_each_used(user, index) leave(agent, user, index);
	if (!agent->removing && ra_streams_on_ring(agent) > 0)
		return;
	/* Neither end can open a ring any more (set_flags), so none is open from now on. */
	if (agent->removable && !agent->removing)
		ra_removal_begin(agent);
	if (agent->removing && ra_removal_pass(agent) > 0)
		return;
	ev_timer_stop(loop, timer);
	if (agent->resume_wanted)
		(void)ra_resume(agent);
}

void ra_drain(struct ra_agent *agent)
{
	struct shmt_seg_shared *seg;
	struct ra_user *user;
	struct ra_ref ref;
	uint32_t index;

	agent->draining = true;
	agent->resume_wanted = false;
	ra_local_publish(agent);
	if (!agent->region.base)
		return;
	shmt_guest_set_state(&agent->region, &agent->guest, SHMT_GUEST_DRAINING);
	while (agent->waits.count > 0) {
		ref = agent->waits.at[0].ref;
		ra_offer_cancel(agent, 0);
		ra_refuse(agent, &ref, COLOC_REASON_DRAINING);
	}
	for (user = agent->users; user; user = user->next) {
		ra_for_each_used(user, index)
		{
			seg = seg_of(agent, user, index);
			if (seg)
				set_flags(seg, user->notes[index].side);
		}
	}
	ev_timer_again(agent->loop, &agent->drain);
}

int ra_resume(struct ra_agent *agent)
{
	const bool away = agent->away;
	struct shmt_seg_shared *seg;
	struct ra_user *user;
	uint32_t index;
	int rc;

	/* Threads may still be inside under the old number: first it is let go altogether. */
	agent->resume_wanted = agent->removing;
	if (agent->removing)
		return 0;
	/* Streams were promised that it comes back. */
	rc = ra_removal_end(agent);
	if (rc < 0 && away)
		return rc;
	agent->draining = false;
	ev_timer_stop(agent->loop, &agent->drain);
	if (agent->region.base)
		shmt_guest_set_state(&agent->region, &agent->guest, SHMT_GUEST_LIVE);
	for (user = agent->users; user; user = user->next) {
		ra_for_each_used(user, index)
		{
			seg = seg_of(agent, user, index);
			if (seg)
				clear_flags(&user->records[index], &user->notes[index], seg);
			user->notes[index].backoff_ms = 0;
			shmt_store(&user->records[index].not_before, 0);
		}
	}
	ra_local_publish(agent);
	return 0;
}

void ra_drain_start(struct ra_agent *agent)
{
	ev_timer_init(&agent->drain, on_pass, 0, PASS_S);
	agent->drain.data = agent;
	if (agent->draining)
		ra_drain(agent);
}
