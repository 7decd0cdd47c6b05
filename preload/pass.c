/* SPDX-License-Identifier: Apache-2.0 */
#include "pass.h"

#include <errno.h>

#include "stream.h"
#include "undo.h"

#define LOOK_CALLS 16u	 /* a connection for one request makes about five on each side */
#define CALL_BYTES 4096u /* so many sent count as one call more */

static bool worth_a_look(int fd, size_t bytes)
{
	struct pl_fd *slot = &pl_fdtable[fd];
	const size_t weight = 1 + bytes / CALL_BYTES;

	if (pl.policy == PL_POLICY_ALWAYS || weight > LOOK_CALLS ||
	    shmt_load_relaxed(&slot->calls) + weight > LOOK_CALLS)
		return true;
	shmt_count(&slot->calls, (uint32_t)weight);
	return false;
}

static bool may_become_stream(uint64_t entry)
{
	return PL_ENTRY_KIND(entry) == PL_NEW || PL_ENTRY_KIND(entry) == PL_UNKNOWN;
}

struct pl_stream *pl_pass_slow(int fd, uint64_t entry, enum pl_way way, size_t bytes,
			       struct pl_pass *ret_pass)
{
	struct pl_fd_way *at = &pl_fdtable[fd].way[way];

	for (;;) {
		if (PL_ENTRY_KIND(entry) != PL_NEW || worth_a_look(fd, bytes)) {
			struct pl_stream *s = pl_stream_get_slow(fd, entry);

			if (s)
				return s;
			entry = pl_fd_entry(fd);
			if (PL_ENTRY_KIND(entry) == PL_STREAM)
				continue;
		}
		if (!may_become_stream(entry))
			return NULL;
		/* N1: counted, then the look; pairs with N2 in pl_pass_hand_over() */
		shmt_add(&at->inside, 1);
		if (pl_fd_entry(fd) == entry)
			break;
		pl_pass_leave(at);
		entry = pl_fd_entry(fd);
	}
	pl_undo_push(PL_UNDO_PASS, at);
	ret_pass->way = at;
	return NULL;
}

static void lower(struct pl_stream *s, enum pl_way way)
{
	if (way == PL_RECEIVES)
		shmt_sub(&s->rec->rx.unattached, 1);
	else
		shmt_sub(&s->rec->tx.in_kernel, 1);
}

/* Nobody is inside any more. */
static void give_back(struct pl_fd_way *at)
{
	const uint32_t n = __atomic_exchange_n(&at->stream, 0, __ATOMIC_SEQ_CST);
	const size_t off = (size_t)((const char *)at - (const char *)pl_fdtable);
	struct pl_stream *s;

	if (!n)
		return;
	s = pl_stream_at(n - 1);
	lower(s,
	      off % sizeof(struct pl_fd) == offsetof(struct pl_fd, way) ? PL_RECEIVES : PL_SENDS);
	pl_stream_put(s);
}

void pl_pass_leave(struct pl_fd_way *at)
{
	/* 0 in a fork child that was made by a handler of this very call. */
	if (shmt_load_relaxed(&at->inside) && shmt_sub(&at->inside, 1) == 1 &&
	    PL_UNLIKELY(shmt_load(&at->stream)))
		give_back(at);
}

void pl_pass_end_slow(const struct pl_pass *pass)
{
	const int saved = errno;

	pl_undo_pop();
	pl_pass_leave(pass->way);
	errno = saved;
}

bool pl_pass_unseen(int fd)
{
	return PL_ENTRY_KIND(pl_fd_entry(fd)) == PL_NEW && !worth_a_look(fd, 0);
}

void pl_pass_shared(int fd)
{
	const struct pl_fd_way *way = pl_fdtable[fd].way;
	struct pl_stream *s;

	/* Who is inside now counts in the record from here on, where the others see it. */
	if (pl_fd_note(fd, PL_UNKNOWN, 0) && shmt_load_acquire(&pl.local) &&
	    (shmt_load(&way[PL_RECEIVES].inside) || shmt_load(&way[PL_SENDS].inside))) {
		s = pl_stream_get(fd);
		if (s)
			pl_stream_put(s);
	}
}

/* A stream that is in use is counted as the child's, too, before that is there. */
void pl_pass_fork(void)
{
	const uint32_t top = shmt_load(&pl_fdtable_top);
	uint32_t fd;

	for (fd = 0; fd < top; fd++) {
		struct pl_stream *s = NULL;

		if (PL_ENTRY_KIND(pl_fd_entry((int)fd)) == PL_NEW &&
		    shmt_load_relaxed(&pl_fdtable[fd].calls))
			s = pl_stream_get((int)fd);
		if (s)
			pl_stream_put(s);
	}
}

void pl_pass_raise(struct pl_stream *s)
{
	shmt_add(&s->inflight, 1);
	shmt_add(&s->rec->rx.unattached, 1);
	shmt_add(&s->rec->tx.in_kernel, 1);
}

void pl_pass_lower(struct pl_stream *s)
{
	lower(s, PL_RECEIVES);
	lower(s, PL_SENDS);
	shmt_sub(&s->inflight, 1);
}

void pl_pass_hand_over(int fd, struct pl_stream *s)
{
	enum pl_way way;

	for (way = PL_RECEIVES; way <= PL_SENDS; way++) {
		struct pl_fd_way *at = &pl_fdtable[fd].way[way];

		/* N2 */
		if (!shmt_load(&at->inside)) {
			lower(s, way);
			continue;
		}
		shmt_add(&s->inflight, 1);
		if (!shmt_cas(&at->stream, 0, pl_stream_index(s) + 1)) {
			/* Some wait there still for a stream that had the number before. */
			pl_stream_stay(s, COLOC_REASON_UNSERVED_CALL);
			lower(s, way);
			shmt_sub(&s->inflight, 1);
		} else if (!shmt_load(&at->inside)) {
			give_back(at);
		}
	}
	shmt_sub(&s->inflight, 1);
}

void pl_pass_forked(void)
{
	const uint32_t top = pl_fdtable ? shmt_load(&pl_fdtable_top) : 0;
	uint32_t fd;

	for (fd = 0; fd < top; fd++) {
		struct pl_fd *slot = &pl_fdtable[fd];

		slot->way[PL_RECEIVES] = slot->way[PL_SENDS] = (struct pl_fd_way){0};
		if (PL_ENTRY_KIND(slot->entry) == PL_NEW)
			(void)pl_fd_note((int)fd, PL_UNKNOWN, PL_FD_STAYS);
	}
}
