/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epdefer.c - changes of interest that the kernel need not hear of
 *
 * Event loops that wait for "may write" or "may read" by turns change their interest in a stream
 * several times for each message: on a ring that costs more than the message. So an epoll_ctl() of
 * a number that is in the set already changes our item alone; the kernel is told before it is asked
 * the next time, and only of what is different by then.
 *
 * The kernel's set is exact whenever anybody may look at it: before each of its waits and passes
 * (pl_epset_flush()), before other epoll_ctl()s of the set, before the number is closed; and for
 * good, from the moment that somebody may look out of our sight (pl_epset_exact(): another process,
 * a poll on the set, a set around it). Who defers writes the change down and then looks whether
 * anybody sleeps or the set is to be exact; who goes to sleep, or makes it exact, says so and then
 * flushes: one of the two sees the other. Not for EPOLLET and EPOLLONESHOT, where telling the
 * kernel again has a meaning of its own.
 *
 * In a signal handler that interrupts its thread's own change nothing is deferred or flushed: the
 * change that it interrupted has not been made yet. A vfork child flushes nothing: its parent has
 * other descriptors by then, and will.
 */
#include "epset_items.h"

#include <errno.h>

#include "io.h"
#include "lock.h"
#include "ready.h"

#define PLAIN_EVENTS                                                                      \
	(EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP | EPOLLRDNORM | \
	 EPOLLWRNORM)

static bool is_exact(const struct pl_ep_set *set)
{
	return shmt_load(&set->exact) || shmt_load(&set->inside) || pl_ep_sleepers(set);
}

/* May changes in this set be deferred? @number: its own. */
static bool may_defer(const struct pl_ep_set *set, int number)
{
	return !is_exact(set) && !shmt_load_relaxed(&set->oneshot) && !set->inherited &&
	       pl_epset_of(set->epfd) == number && !pl_ep_busy && !shmt_load_relaxed(&pl.unserved);
}

/* Under both locks. false: it is for the kernel to judge. */
static bool change(struct pl_ep_set *set, uint32_t n, int op, const struct epoll_event *event)
{
	struct pl_ep_item *item = &pl_ep_items[n - 1];

	if ((op == EPOLL_CTL_ADD) != item->gone || (item->events & ~PLAIN_EVENTS) || item->quiet ||
	    item->stale)
		return false;
	if (!item->lags) {
		item->lags = 1;
		item->kernel_events = item->events;
		item->kernel_data = item->data;
		item->lag_next = set->lagging;
		shmt_store(&set->lagging, n);
	}
	item->gone = op == EPOLL_CTL_DEL;
	item->events = item->gone ? 0 : event->events;
	item->reported = item->cold_ns = 0;
	if (!item->gone && event->data.u64 != item->data) {
		pl_ep_data_drop(n);
		item->data = event->data.u64;
		pl_ep_data_add(n);
	}
	if (!item->queued)
		pl_ep_enqueue(set, n);
	return true;
}

bool pl_epset_defer(int epfd, int op, int fd, const struct epoll_event *event)
{
	const int number = pl_epset_of(epfd);
	const uint64_t entry = pl_fd_entry(fd);
	enum pl_lock_result lock, set_lock;
	bool done = false;
	struct pl_ep_set *set;
	struct pl_stream *s;
	uint32_t n;

	if (number < 0 || PL_ENTRY_KIND(entry) != PL_STREAM)
		return false;
	set = &pl_ep_sets[number];
	if (!may_defer(set, number))
		return false;
	if (op != EPOLL_CTL_DEL &&
	    (!event || !pl_readable(event, sizeof(*event)) || (event->events & ~PLAIN_EVENTS)))
		return false;
	if (op != EPOLL_CTL_DEL && op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD)
		return false;
	s = pl_stream_named(fd, entry);
	if (!s)
		return false;
	if (!shmt_load(&s->awake))
		goto out;
	lock = pl_lock(&pl_ep_items_lock);
	set_lock = pl_lock(&set->lock);
	if (lock == PL_LOCK_TAKEN && set_lock == PL_LOCK_TAKEN) {
		n = *pl_ep_link_of(number, fd, s);
		pl_ep_busy++;
		done = n && change(set, n, op, event);
		pl_ep_busy--;
	}
	pl_unlock(&set->lock, set_lock);
	pl_unlock(&pl_ep_items_lock, lock);
	if (done && is_exact(set))
		(void)pl_epset_flush((uint32_t)number);
	if (done && op != EPOLL_CTL_DEL) {
		PL_IN_REGION;
		if (event->events & IN_EVENTS)
			pl_stream_waits(s, fd);
		pl_ready_left(s); /* somebody may have gone to sleep before that */
	}
out:
	pl_stream_put(s);
	return done;
}

/* Under both locks. */
static void tell_kernel(const struct pl_ep_set *set, const struct pl_ep_item *item)
{
	struct epoll_event event = {.events = item->events, .data.u64 = item->data};

	if (!pl_stream_is_at(item->s, item->fd)) /* closed out of our sight: so it left the set */
		return;
	if (item->gone)
		(void)pl_real.epoll_ctl(set->epfd, EPOLL_CTL_DEL, item->fd, NULL);
	else if (item->events != item->kernel_events || item->data != item->kernel_data)
		(void)pl_real.epoll_ctl(set->epfd, EPOLL_CTL_MOD, item->fd, &event);
}

bool pl_epset_flush(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	const int saved = errno;
	enum pl_lock_result lock, set_lock;
	bool any = false;
	uint32_t n;

	if (!shmt_load(&set->lagging) || pl_is_vfork_child())
		return false;
	lock = pl_lock(&pl_ep_items_lock);
	set_lock = pl_lock(&set->lock);
	pl_ep_busy++;
	while (lock == PL_LOCK_TAKEN && set_lock == PL_LOCK_TAKEN && (n = set->lagging) != 0) {
		/* Told, then off the list: who finds it empty finds the kernel's set exact. */
		tell_kernel(set, &pl_ep_items[n - 1]);
		pl_ep_unlag(set, n);
		if (pl_ep_items[n - 1].gone) {
			pl_ep_busy--;
			pl_ep_remove(n);
			pl_ep_busy++;
		}
		any = true;
	}
	pl_ep_busy--;
	pl_unlock(&set->lock, set_lock);
	pl_unlock(&pl_ep_items_lock, lock);
	errno = saved;
	return any;
}

void pl_ep_unlag(struct pl_ep_set *set, uint32_t n)
{
	uint32_t *link = &set->lagging;

	if (!pl_ep_items[n - 1].lags)
		return;
	pl_ep_items[n - 1].lags = 0;
	while (*link && *link != n)
		link = &pl_ep_items[*link - 1].lag_next;
	if (*link)
		shmt_store(link, pl_ep_items[n - 1].lag_next);
}

void pl_epset_exact(uint32_t number)
{
	if (!shmt_load(&pl_ep_sets[number].exact))
		shmt_store(&pl_ep_sets[number].exact, 1);
	/* Also if it was so: who said it may not have flushed yet. */
	(void)pl_epset_flush(number);
}

/* The set of one of its items that lag, or -1. */
static int lagging_set(const struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&pl_ep_items_lock);
	int set = -1;
	uint32_t n;

	for (n = lock == PL_LOCK_TAKEN ? s->items : 0; n && set < 0; n = pl_ep_items[n - 1].next)
		if (pl_ep_items[n - 1].lags)
			set = (int)pl_ep_items[n - 1].set;
	pl_unlock(&pl_ep_items_lock, lock);
	return set;
}

void pl_epset_flush_of(const struct pl_stream *s)
{
	int set;

	if (!shmt_load(&s->items))
		return;
	do
		set = lagging_set(s);
	while (set >= 0 && pl_epset_flush((uint32_t)set));
}

void pl_epset_exact_all(void)
{
	const uint32_t top = pl_ep_sets_top();
	uint32_t i;

	for (i = 0; i < top; i++)
		if (shmt_load(&pl_ep_sets[i].refs))
			pl_epset_exact(i);
}

void pl_epset_exec(void)
{
	const uint32_t top = pl_ep_sets_top();
	uint32_t i;

	for (i = 0; i < top; i++) {
		if (!shmt_load(&pl_ep_sets[i].refs))
			continue;
		/* By a vfork child's own table; what lags its parent flushes. */
		if (!(pl_real.fcntl(pl_ep_sets[i].epfd, F_GETFD) & FD_CLOEXEC))
			pl_epset_exact(i);
	}
}
