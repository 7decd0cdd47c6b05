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
#include <unistd.h>

#include "switch.h"

#define PASS_S 0.01

static uint64_t lock_word(void)
{
	return (uint64_t)(uint32_t)getpid() << 32 | (uint32_t)getpid();
}

static bool on_ring(const struct shmt_dir_shared *dir)
{
	return SHMT_CTL_MODE(shmt_load(&dir->ctl)) != SHMT_TCP;
}

/* ---- one direction -----------------------------------------------------------------------------
 */

static struct shmt_dir direction(struct shmt_seg_shared *seg, unsigned int i)
{
	return (struct shmt_dir){.shared = &seg->dir[i], .ring.size = seg->ring_bytes};
}

static void leave_as_receiver(struct ra_user *user, struct coloc_record_shared *record,
			      const struct shmt_dir *dir)
{
	uint64_t ctl;
	int64_t unread;

	if (!on_ring(dir->shared) || !shmt_cas(&record->rx.lock, 0, lock_word()))
		return;
	ctl = shmt_load(&dir->shared->ctl);
	unread = shmt_rx_avail(dir, ctl, shmt_load(&dir->shared->tail));
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
		if (unread == 0 && shmt_rx_settle(dir, ctl))
			shmt_add(&user->shared->totals.switches_to_tcp, 1);
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
	leave_as_receiver(user, &user->records[index], &dir);
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
	if (!note->refused)
		shmt_and(&seg->dir[!note->side].flags, ~(uint32_t)SHMT_DIR_REFUSED);
	shmt_and(&seg->dir[note->side].flags, ~(uint32_t)SHMT_DIR_STOPPED);
	if (shmt_load(&record->flags) & COLOC_RECORD_STAYS)
		set_flags(seg, note->side);
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
			count += seg && (on_ring(&seg->dir[0]) || on_ring(&seg->dir[1]));
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
	if (!agent->removing || ra_removal_pass(agent) == 0)
		ev_timer_stop(loop, timer);
}

void ra_drain(struct ra_agent *agent)
{
	struct shmt_seg_shared *seg;
	struct ra_user *user;
	struct ra_ref ref;
	uint32_t index;

	agent->draining = true;
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

	/* Streams that a region was promised to wait for it. */
	rc = ra_removal_end(agent);
	if (rc < 0 && away)
		return rc;
	agent->draining = false;
	agent->removing = false;
	ev_timer_stop(agent->loop, &agent->drain);
	for (user = agent->users; user; user = user->next)
		ra_removal_number(agent,
				  user); /* those of a removal that did not come to its end */
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
