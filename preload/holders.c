/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders.c - which processes receive from a stream
 *
 * Ring bytes that one process leaves unread wake no sleeper of another: only payload by TCP does.
 * So a process that receives from a stream for the first time, or waits for something to receive,
 * writes itself into the record. While there are two the direction is refused: they receive by TCP.
 * What lies in the ring at that moment is read by whoever receives or waits next, for who made the
 * change counts it (receivers_changes), and a wait in an epoll set begins with a look at the count.
 * A process leaves the record with its last descriptor; a dead one is found out by those that go
 * on, who ask now and then. The last one that is left takes the refusal back.
 */
#include "lock.h"
#include "stream.h"

#define ASK_EVERY 64u

static bool enroll(struct coloc_record_shared *rec, uint64_t mine)
{
	unsigned int i;

	for (i = 0; i < COLOC_RECEIVERS_MAX; i++)
		if (shmt_load(&rec->receivers[i]) == mine)
			return true;
	for (i = 0; i < COLOC_RECEIVERS_MAX; i++)
		if (shmt_cas(&rec->receivers[i], 0, mine))
			return true;
	return false;
}

static void strike_out(struct coloc_record_shared *rec, uint64_t process)
{
	unsigned int i;

	for (i = 0; i < COLOC_RECEIVERS_MAX; i++)
		(void)shmt_cas(&rec->receivers[i], process, 0);
}

/* How many others receive; @ask: those that are gone are struck out. */
static unsigned int others(struct coloc_record_shared *rec, uint64_t mine, bool ask)
{
	unsigned int i, n = 0;

	for (i = 0; i < COLOC_RECEIVERS_MAX; i++) {
		const uint64_t process = shmt_load(&rec->receivers[i]);

		if (!process || process == mine)
			continue;
		if (ask && pl_lock_gone(process))
			strike_out(rec, process);
		else
			n++;
	}
	return n;
}

/* Under the rx lock. */
static void refuse(struct pl_stream *s)
{
	if (!(shmt_load(&s->rec->flags) & COLOC_RECORD_RECEIVERS)) {
		shmt_or(&s->rec->flags, COLOC_RECORD_RECEIVERS);
		if (!(shmt_load(&s->rec->flags) & COLOC_RECORD_STAYS))
			pl_stream_reason(s, COLOC_REASON_RECEIVERS);
		shmt_add(&pl.local->receivers_changes, 1);
	}
	/* Also if another process, or this one, could not when it set the flag. */
	if (pl_attached(s) && !(shmt_load(&s->rx.shared->flags) & SHMT_DIR_REFUSED))
		shmt_rx_refuse(&s->rx);
}

/* Under the rx lock. What else keeps the direction refused goes on. */
static void take_back(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	const uint32_t flags = shmt_load(&rec->flags);

	if (!(flags & COLOC_RECORD_RECEIVERS) || (flags & COLOC_RECORD_STAYS) || pl_stashed(s) ||
	    (shmt_load(&rec->rx.attach) == 2 && !pl_attached(s)))
		return;
	shmt_and(&rec->flags, ~COLOC_RECORD_RECEIVERS);
	if (shmt_load(&rec->reason) == COLOC_REASON_RECEIVERS)
		pl_stream_reason(s, shmt_load(&rec->rx.attach) == 2 ? COLOC_REASON_NONE
								    : COLOC_REASON_BELOW_THRESHOLD);
	if (!pl_attached(s) || (flags & (COLOC_RECORD_SHUT_RD | COLOC_RECORD_STUCK)))
		return;
	shmt_and(&s->rx.shared->flags, ~(uint32_t)SHMT_DIR_REFUSED);
	/* The agent says that it drains, then refuses: one of us sees the other. */
	if (shmt_load(&pl.local->draining))
		shmt_rx_refuse(&s->rx);
}

void pl_stream_receives_slow(struct pl_stream *s)
{
	const bool ask = !shmt_load_relaxed(&s->receives) || shmt_bump(&s->asked) % ASK_EVERY == 0;
	const uint64_t mine = pl_lock_process();
	struct coloc_record_shared *rec = s->rec;
	enum pl_lock_result lock;
	unsigned int n;

	PL_IN_REGION;
	lock = pl_lock(&rec->rx.lock);
	if (lock == PL_LOCK_NESTED) /* the call that this handler interrupted says it, or has */
		return;
	n = others(rec, mine, ask);
	if (!enroll(rec, mine)) /* nobody knows when this one leaves */
		pl_stream_stay(s, COLOC_REASON_RECEIVERS);
	shmt_store(&s->receives, 1);
	if (!shmt_load(&s->fds)) /* closed by another thread meanwhile */
		pl_stream_receives_no_more(s);
	if (n)
		refuse(s);
	else
		take_back(s);
	pl_unlock(&rec->rx.lock, lock);
}

void pl_stream_receives_no_more(struct pl_stream *s)
{
	if (shmt_cas(&s->receives, 1, 0))
		strike_out(s->rec, pl_lock_process());
}
