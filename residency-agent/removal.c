/* SPDX-License-Identifier: Apache-2.0 */
/*
 * removal.c - the region goes while programs run, and comes back
 *
 * A region that may be taken away (a PCI device) is let go at the end of a drain, when every stream
 * is on TCP and none can open a ring. First the users' memories say that it is away, then it is
 * waited for until every thread that was counted inside (preload/gate.h) has been seen outside.
 * Receivers that sleep in the kernel meanwhile are counted in the region; they move to the record,
 * so that they need not look at the region when they wake up, and so that a later attach knows of
 * them. Then nobody touches the region any more, this agent included.
 *
 * The life in the region goes on: whoever comes back to the same region takes up slot, epoch and
 * rings. In another region a new life begins, and the records' rings are void.
 */
#include "agent.h"

#include <errno.h>

#include "log.h"

/* ---- away --------------------------------------------------------------------------------------
 */

static uint32_t *inside(const struct ra_user *user, uint32_t slot, uint32_t line)
{
	return &user->shared->gates[slot].line[line].inside;
}

/* A thread that came in later saw that the region is away: once seen outside is enough. */
static uint32_t look_who_is_inside(struct ra_user *user)
{
	uint32_t slot, line, count = 0;

	for (slot = 0; slot <= COLOC_PROCS_MAX; slot++) {
		for (line = 0; user->inside[slot] && line < 8; line++)
			if (user->inside[slot] & 1u << line &&
			    shmt_load(inside(user, slot, line)) == 0)
				user->inside[slot] &= (uint8_t) ~(1u << line);
		count += user->inside[slot] != 0;
	}
	return count;
}

/* Nobody is inside: the record tells who is in the kernel, and a new attach is due. */
static void fold(struct ra_agent *agent, struct ra_user *user)
{
	struct shmt_dir_shared *dir;
	struct shmt_seg_shared *seg;
	struct ra_note *note;
	uint32_t index;

	ra_for_each_used(user, index)
	{
		note = ra_note_get(agent, user, index);
		seg = ra_record_seg(agent, note);
		if (!seg)
			continue;
		dir = &seg->dir[!note->side];
		shmt_add(&user->records[index].rx.unattached, shmt_load(&dir->in_kernel));
		shmt_store(&dir->in_kernel, 0);
		shmt_and(&dir->flags, ~(uint32_t)SHMT_DIR_ATTACHED);
		shmt_store(&user->records[index].rx.attach, 0);
	}
}

void ra_removal_begin(struct ra_agent *agent)
{
	struct ra_user *user;
	uint32_t slot;

	agent->removing = true;
	for (user = agent->users; user; user = user->next) {
		/* K2 pairs with K1 in preload/gate.c: away first, then the counts. */
		shmt_store(&user->shared->region_attach, 0);
		for (slot = 0; slot <= COLOC_PROCS_MAX; slot++)
			user->inside[slot] = 0xff;
	}
}

uint32_t ra_removal_pass(struct ra_agent *agent)
{
	struct ra_user *user;
	uint32_t count = 0;

	for (user = agent->users; user; user = user->next)
		count += look_who_is_inside(user);
	if (count)
		return count;
	for (user = agent->users; user; user = user->next)
		fold(agent, user);
	ra_offers_stop(agent);
	ra_residency_leave(agent);
	ra_attach_leave(agent);
	agent->removing = false;
	ra_local_publish(agent);
	ra_log(SD_NOTICE, "the region is not used any more: the device may be removed");
	return 0;
}

uint32_t ra_removal_users(const struct ra_agent *agent)
{
	const struct ra_user *user;
	uint32_t slot, count = 0;

	if (!agent->removable || !agent->draining || !agent->region.base)
		return 0;
	for (user = agent->removing ? agent->users : NULL; user; user = user->next)
		for (slot = 0; slot <= COLOC_PROCS_MAX; slot++)
			count += user->inside[slot] != 0;
	return count ? count : 1; /* the agent itself */
}

void ra_removal_forget(const struct ra_proc *proc)
{
	uint32_t line;

	for (line = 0; line < 8; line++)
		shmt_store(inside(proc->user, proc->slot, line), 0);
}

/* ---- back --------------------------------------------------------------------------------------
 */

void ra_removal_number(struct ra_agent *agent, struct ra_user *user)
{
	struct coloc_local_shared *shared = user->shared;
	struct ra_conn *conn, *next;

	if (!agent->region.base || agent->removing || shmt_load(&shared->region_attach))
		return;
	fold(agent, user); /* an earlier agent may have been about to */
	shared->region_last += shared->region_last == UINT32_MAX ? 2 : 1;
	/* The descriptor first: who sees the number finds it waiting. */
	for (conn = agent->conns; conn; conn = next) {
		next = conn->next;
		if (conn->proc && conn->proc->user == user &&
		    ra_proc_welcome(agent, conn, shared->region_last) < 0)
			ra_conn_drop(agent, conn, "it does not read: it will come again");
	}
	shmt_store(&shared->region_attach, shared->region_last);
}

/* Rings of a life that is over are out of reach; their streams are on TCP and may ask anew. */
static void void_rings(struct ra_user *user)
{
	struct coloc_record_shared *record;
	uint32_t index;

	ra_for_each_used(user, index)
	{
		record = &user->records[index];
		user->notes[index].seg = RA_NONE;
		user->notes[index].backoff_ms = 0;
		if (shmt_load(&record->grant) >= COLOC_GRANT_GRANTED)
			shmt_store(&record->grant, COLOC_GRANT_IDLE);
	}
}

int ra_removal_end(struct ra_agent *agent)
{
	const bool here = agent->region.base != NULL;
	struct ra_user *user;
	bool same_life = true;
	int rc;

	/* It is here, and yet has no number, if this agent began in a drain that is not over. */
	rc = here ? 0 : ra_attach_again(agent, &same_life);
	if (rc < 0)
		return rc;
	for (user = agent->users; user; user = user->next) {
		if (!same_life)
			void_rings(user);
		ra_removal_number(agent, user);
	}
	if (here)
		return 0;
	ra_residency_enter(agent);
	ra_offers_start(agent);
	return 0;
}
