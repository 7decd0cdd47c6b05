/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guests.c - the heartbeat, and what the others' heartbeats say
 *
 * Whether another guest lives is judged by its counter and our own clock alone: clocks of guests
 * need not agree. Silence makes it a suspect, which gets no new rings and is otherwise left alone:
 * a pause of seconds is ordinary (a snapshot, a debugger). Dead it is only when nobody holds its
 * lock, which can be asked on one kernel; else its own next life says so.
 */
#include "agent.h"

#include <inttypes.h>
#include <string.h>

#include "log.h"

static void watch_guest(struct ra_agent *agent, uint32_t slot, double now)
{
	const struct shmt_guest_shared *entry = &agent->region.guests[slot];
	struct ra_watch *watch = &agent->watch[slot];
	const uint64_t word = shmt_load_acquire(&entry->word);
	const uint64_t epoch = SHMT_GUEST_EPOCH(word);
	uint64_t beat;
	char name[24];

	if (slot == agent->guest.slot)
		return;
	if (!shmt_guest_alive(&agent->region, slot, epoch)) {
		watch->epoch = 0;
		return;
	}
	beat = shmt_load_relaxed(&entry->heartbeat);
	if (watch->epoch != epoch || watch->heartbeat != beat) {
		if (watch->epoch != epoch)
			ra_log(SD_INFO, "guest %u '%s' is here, epoch %" PRIu64, slot,
			       ra_guest_name(agent, slot, name), epoch);
		else if (watch->suspect)
			ra_log(SD_NOTICE, "guest %u '%s' is heard again", slot,
			       ra_guest_name(agent, slot, name));
		*watch = (struct ra_watch){.epoch = epoch, .heartbeat = beat, .heard = now};
		return;
	}
	if (now - watch->heard < (double)agent->conf.guest_suspect_ms / 1000)
		return;
	if (!watch->suspect)
		ra_log(SD_NOTICE, "guest %u '%s' has been silent for %.1f s", slot,
		       ra_guest_name(agent, slot, name), now - watch->heard);
	watch->suspect = true;
	if (entry->kernel_id == agent->kernel_id && agent->heartbeat % RA_BEATS_PER_S == 0 &&
	    shmt_guest_lock_test(agent->region_test_fd, slot) == 1) {
		ra_log(SD_NOTICE, "guest %u '%s' is dead: nobody holds its lock", slot,
		       ra_guest_name(agent, slot, name));
		shmt_guest_bury(&agent->region, slot, epoch);
	}
}

static void on_beat(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ra_agent *agent = timer->data;
	uint32_t slot;

	(void)events;
	agent->heartbeat++;
	ra_local_mend(agent);
	ra_local_beat(agent);
	ra_packets_resume(agent);
	ra_reclaim_beat(agent);
	ra_stash_beat(agent);
	if (!agent->region.base)
		return;
	if (!shmt_guest_alive(&agent->region, agent->guest.slot, agent->guest.epoch)) {
		/* Only a new start can begin a new life; the service manager sees to it. */
		ra_log(SD_ERR,
		       "this guest's life was ended by another guest: was it restored from an "
		       "image, or unplugged?");
		agent->exit_code = 1;
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	shmt_guest_beat(&agent->region, &agent->guest);
	for (slot = 0; slot < agent->region.guest_count; slot++)
		watch_guest(agent, slot, ev_now(loop));
}

void ra_guests_start(struct ra_agent *agent)
{
	ev_timer_init(&agent->beat, on_beat, 0, RA_BEAT_S);
	agent->beat.data = agent;
	ev_timer_start(agent->loop, &agent->beat);
}

enum coloc_reason ra_guest_refuses(const struct ra_agent *agent, uint32_t slot, uint64_t epoch)
{
	uint64_t word;

	if (slot >= agent->region.guest_count || !shmt_guest_alive(&agent->region, slot, epoch))
		return COLOC_REASON_NOT_CORESIDENT;
	word = shmt_load_acquire(&agent->region.guests[slot].word);
	if (SHMT_GUEST_STATE(word) == SHMT_GUEST_DRAINING)
		return COLOC_REASON_PEER_DRAINING;
	if (slot != agent->guest.slot && agent->watch[slot].suspect &&
	    agent->watch[slot].epoch == epoch)
		return COLOC_REASON_PEER_SUSPECT;
	return COLOC_REASON_NONE;
}

/* Another guest's bytes: kept printable, for they reach a terminal. */
const char *ra_guest_name(const struct ra_agent *agent, uint32_t slot, char *name)
{
	size_t i;

	*name = 0;
	if (slot >= agent->region.guest_count)
		return name;
	memcpy(name, agent->region.guests[slot].name, 23);
	name[23] = 0;
	for (i = 0; name[i]; i++)
		if (name[i] < ' ' || name[i] > '~')
			name[i] = '?';
	return name;
}
