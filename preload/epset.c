/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epset.c - see epset.h
 *
 * An item is one number in one set. Items of a stream hang on the stream, those of a number that
 * may still become one hang on the number. A set's awake list is a queue of items whose stream was
 * left on a ring: each look takes every item once from its front and puts it back behind, so no
 * stream starves another. An item that is removed while queued is freed when its turn comes.
 *
 * Locks: pl_ep_items_lock for the lists of owners, then set->lock for the queue and the item's
 * fields, then free_lock for the free items. None is held in a system call but for the kernel's own
 * epoll_ctl, which does not sleep.
 */
#include "epset_items.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "pass.h"
#include "ready.h"

#define ITEMS_MAX (1u << 18)
#define SETS_MAX  4096u

struct pl_ep_item *pl_ep_items;
struct pl_ep_set *pl_ep_sets;
static uint32_t *number_items; /* by descriptor: items of numbers that are no streams yet */
static uint32_t items_free, items_top, sets_top;
__thread uint32_t pl_ep_busy;
uint64_t pl_ep_items_lock; /* atomic */
static uint64_t free_lock; /* atomic; the last of the three */

static void *reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* At the first epoll_ctl(): a number may be in a set long before anybody knows that it is a stream.
 */
static bool ready_to_remember(void)
{
	enum pl_lock_result lock;

	if (shmt_load_acquire(&number_items))
		return true;
	lock = pl_lock(&pl_ep_items_lock);
	if (!number_items) {
		pl_ep_items = reserve(ITEMS_MAX * sizeof(*pl_ep_items));
		pl_ep_sets = reserve(SETS_MAX * sizeof(*pl_ep_sets));
		if (pl_ep_items && pl_ep_sets && pl_ep_data_init())
			shmt_store_release(&number_items,
					   (uint32_t *)reserve(PL_FD_MAX * sizeof(*number_items)));
	}
	pl_unlock(&pl_ep_items_lock, lock);
	return number_items;
}

void pl_epset_forked(void)
{
	uint32_t i;

	pl_ep_items_lock = free_lock = 0;
	pl_ep_kick_forked();
	if (!number_items)
		return;
	/* A change that another thread was at is for that one's process to tell. */
	for (i = 0; i < items_top; i++)
		if (pl_ep_items[i].lags)
			pl_ep_items[i].lags = pl_ep_items[i].gone = 0;
	for (i = 0; i < sets_top; i++) {
		pl_ep_sets[i].lagging = 0;
		pl_ep_sets[i].lock = 0;
		pl_ep_sets[i].sleepers = 0;
		pl_ep_sets[i].inherited = 1;
	}
}

uint32_t pl_ep_sets_top(void)
{
	return shmt_load_acquire(&number_items) ? shmt_load_relaxed(&sets_top) : 0;
}

/* ---- items -------------------------------------------------------------------------------------
 */

static uint32_t new_item(void)
{
	const enum pl_lock_result lock = pl_lock(&free_lock);
	uint32_t n = items_free;

	if (n)
		items_free = pl_ep_items[n - 1].queue_next;
	else if (items_top < ITEMS_MAX)
		n = ++items_top;
	pl_unlock(&free_lock, lock);
	if (n)
		memset(&pl_ep_items[n - 1], 0, sizeof(*pl_ep_items));
	return n;
}

void pl_ep_free_item(uint32_t n)
{
	const enum pl_lock_result lock = pl_lock(&free_lock);

	pl_ep_items[n - 1].events = 0;
	/* Its place in its owner's list stays: somebody may be at it without a lock. */
	pl_ep_items[n - 1].queue_next = items_free;
	items_free = n;
	pl_unlock(&free_lock, lock);
}

static uint32_t *owner_list(int fd, struct pl_stream *s)
{
	return s ? &s->items : (unsigned int)fd < PL_FD_MAX ? &number_items[fd] : NULL;
}

/* Under the set's lock. */
void pl_ep_enqueue(struct pl_ep_set *set, uint32_t n)
{
	struct pl_ep_item *item = &pl_ep_items[n - 1];

	item->queued = 1;
	item->queue_next = 0;
	if (set->tail)
		pl_ep_items[set->tail - 1].queue_next = n;
	else
		set->head = n;
	set->tail = n;
	set->queued++;
}

uint32_t pl_ep_dequeue(struct pl_ep_set *set)
{
	const uint32_t n = set->head;

	set->head = pl_ep_items[n - 1].queue_next;
	if (!set->head)
		set->tail = 0;
	pl_ep_items[n - 1].queued = 0;
	set->queued--;
	return n;
}

/* Under pl_ep_items_lock; @link points at the number of the item. */
static void remove_item(uint32_t *link)
{
	const uint32_t n = *link;
	struct pl_ep_item *item = &pl_ep_items[n - 1];
	struct pl_ep_set *set = &pl_ep_sets[item->set];
	const enum pl_lock_result lock = pl_lock(&set->lock);

	pl_ep_data_drop(n);
	pl_ep_unlag(set, n);
	/* Its stream stays named: a look that a handler interrupted may be at this item. */
	*link = item->next;
	if (item->queued || pl_ep_busy)
		item->removed = 1;
	else
		pl_ep_free_item(n);
	pl_unlock(&set->lock, lock);
}

void pl_ep_remove(uint32_t n)
{
	uint32_t *link = owner_list(pl_ep_items[n - 1].fd, pl_ep_items[n - 1].s);

	while (link && *link && *link != n)
		link = &pl_ep_items[*link - 1].next;
	if (link && *link)
		remove_item(link);
}

void pl_epset_drop(uint32_t *list)
{
	enum pl_lock_result lock;

	if (!shmt_load(list))
		return;
	lock = pl_lock(&pl_ep_items_lock);
	while (*list)
		remove_item(list);
	pl_unlock(&pl_ep_items_lock, lock);
}

bool pl_epset_has(int fd)
{
	return shmt_load_acquire(&number_items) && shmt_load(&number_items[fd]);
}

void pl_epset_forget(int fd)
{
	if (number_items && (unsigned int)fd < PL_FD_MAX)
		pl_epset_drop(&number_items[fd]);
}

bool pl_epset_adopt(int fd, struct pl_stream *s)
{
	enum pl_lock_result lock;
	uint32_t n, *link;

	if (!shmt_load_acquire(&number_items))
		return false;
	/* Whoever holds it may have found no stream at the number, and add an item of it. */
	lock = pl_lock(&pl_ep_items_lock);
	if (!number_items[fd]) {
		pl_unlock(&pl_ep_items_lock, lock);
		return false;
	}
	for (n = number_items[fd]; n; n = pl_ep_items[n - 1].next)
		pl_ep_items[n - 1].s = s;
	for (link = &s->items; *link; link = &pl_ep_items[*link - 1].next)
		;
	*link = number_items[fd];
	number_items[fd] = 0;
	pl_unlock(&pl_ep_items_lock, lock);
	return true;
}

/* ---- sets --------------------------------------------------------------------------------------
 */

static int make_set(int epfd)
{
	const uint64_t entry = pl_fd_entry(epfd);
	uint32_t i;

	if ((unsigned int)epfd >= PL_FD_MAX)
		return -1;
	if (PL_ENTRY_KIND(entry) == PL_EPOLL)
		return (int)PL_ENTRY_INDEX(entry);
	for (i = 0; i < SETS_MAX; i++) {
		struct pl_ep_set *set = &pl_ep_sets[i];

		if (!shmt_cas(&set->refs, 0, 1))
			continue;
		set->head = set->tail = set->queued = 0;
		set->settled_ns = 0;
		set->edge = set->oneshot = set->inside = set->filled = set->inherited = 0;
		set->lagging = 0;
		/* Made by another process, or before this program: they may look at it, too. */
		set->exact = PL_ENTRY_KIND(entry) != PL_NEW;
		memset(set->nested, 0, sizeof(set->nested));
		set->epfd = epfd;
		if (i >= sets_top)
			sets_top = i + 1;
		if (pl_fd_set(epfd, entry, PL_ENTRY(PL_EPOLL, 0, i)))
			return (int)i;
		shmt_store(&set->refs, 0);
		return make_set(epfd);
	}
	return -1;
}

int pl_epset_of(int epfd)
{
	const uint64_t entry = pl_fd_entry(epfd);

	return PL_ENTRY_KIND(entry) == PL_EPOLL ? (int)PL_ENTRY_INDEX(entry) : -1;
}

int pl_epset_make(int epfd)
{
	return ready_to_remember() ? make_set(epfd) : -1;
}

void pl_epset_dup(uint32_t set)
{
	shmt_add(&pl_ep_sets[set].refs, 1);
	pl_epset_exact(set);
}

/* The number that we use it by is closed, and it has another. */
static void rename_set(uint32_t number)
{
	const uint32_t top = shmt_load(&pl_fdtable_top);
	uint32_t fd;

	for (fd = 0; fd < top && pl_epset_of(pl_ep_sets[number].epfd) != (int)number; fd++)
		if (pl_epset_of((int)fd) == (int)number)
			pl_ep_sets[number].epfd = (int)fd;
}

void pl_epset_close(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	enum pl_lock_result lock, set_lock;
	uint32_t i, n;

	if (shmt_sub(&set->refs, 1) != 1) {
		rename_set(number);
		return;
	}
	shmt_store(&set->refs, 1); /* until its items are gone */
	lock = pl_lock(&pl_ep_items_lock);
	for (i = 0; shmt_load(&set->filled) && i < items_top; i++) {
		const struct pl_ep_item *item = &pl_ep_items[i];

		if (item->set == number && !item->removed && (item->s || item->fd || item->data))
			pl_ep_remove(i + 1);
	}
	pl_ep_unnest(number);
	set_lock = pl_lock(&set->lock);
	while (set->head) {
		n = pl_ep_dequeue(set);
		pl_ep_free_item(n);
	}
	pl_unlock(&set->lock, set_lock);
	pl_unlock(&pl_ep_items_lock, lock);
	shmt_store(&set->refs, 0);
}

/* ---- several processes
 * ---------------------------------------------------------------------------
 */

static uint64_t changes_seen; /* atomic; of receivers_changes */
static uint32_t caught_up;    /* the set that waits_visit() is for */

/* A set from before a fork is this process's own to wait in, too. */
static void waits_visit(struct pl_stream *s, int fd)
{
	uint32_t n;

	(void)fd;
	for (n = shmt_load(&s->items); n; n = shmt_load_relaxed(&pl_ep_items[n - 1].next))
		if (pl_ep_items[n - 1].set == caught_up && (pl_ep_items[n - 1].events & IN_EVENTS))
			pl_stream_waits(s, pl_ep_items[n - 1].fd);
}

/* Another process may have left bytes in the ring: they are seen by who waits from now on. */
static void receivers_visit(struct pl_stream *s, int fd)
{
	if (!shmt_load(&s->items) || !(shmt_load(&s->rec->flags) & COLOC_RECORD_RECEIVERS))
		return;
	pl_stream_waits(s, fd);
	shmt_store(&s->awake, 0);
	(void)pl_epset_awake(s);
}

void pl_epset_catch_up(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	const uint64_t changes = pl.local ? shmt_load(&pl.local->receivers_changes) : 0;
	unsigned int i;

	if (PL_UNLIKELY(set->inherited)) {
		set->inherited = 0;
		caught_up = number;
		pl_streams_each(waits_visit);
		for (i = 0; i < NESTED_MAX; i++)
			if (set->nested[i].set)
				pl_epset_catch_up(set->nested[i].set - 1);
	}
	if (PL_UNLIKELY(changes != shmt_load(&changes_seen))) {
		pl_streams_each(receivers_visit);
		shmt_store(&changes_seen, changes);
	}
}

/* ---- awake streams -----------------------------------------------------------------------------
 */

bool pl_epset_awake(struct pl_stream *s)
{
	enum pl_lock_result lock, set_lock;
	uint32_t n;

	if (shmt_load(&s->awake))
		return true;
	if (pl_ep_busy) /* a handler, in the midst of its thread's look */
		return false;
	lock = pl_lock(&pl_ep_items_lock);
	if (lock == PL_LOCK_NESTED) /* the same, of its change */
		return false;
	shmt_store(&s->awake, 1);
	for (n = s->items; n; n = pl_ep_items[n - 1].next) {
		struct pl_ep_set *set = &pl_ep_sets[pl_ep_items[n - 1].set];

		set_lock = pl_lock(&set->lock);
		if (!pl_ep_items[n - 1].queued)
			pl_ep_enqueue(set, n);
		pl_unlock(&set->lock, set_lock);
	}
	pl_unlock(&pl_ep_items_lock, lock);
	return true;
}

/* Setting the same again makes the kernel look whether the number is ready: an edge told once more.
 */
void pl_ep_tell_again(const struct pl_ep_item *item)
{
	struct epoll_event event = {.events = item->events, .data.u64 = item->data};

	/* A ONESHOT item is armed by its program alone. */
	if (!(item->events & EPOLLONESHOT) && pl_stream_is_at(item->s, item->fd))
		(void)pl_real.epoll_ctl(pl_ep_sets[item->set].epfd, EPOLL_CTL_MOD, item->fd,
					&event);
}

/* Sets with ONESHOT items alone pay for this look over all items. */
bool pl_ep_disarm(struct pl_ep_set *set, uint64_t data)
{
	const uint32_t number = (uint32_t)(set - pl_ep_sets);
	uint32_t i, found = 0, stale = 0;
	enum pl_lock_result lock;

	if (!shmt_load_relaxed(&set->oneshot))
		return false;
	lock = pl_lock(&set->lock);
	for (i = 0; i < shmt_load_relaxed(&items_top); i++) {
		struct pl_ep_item *item = &pl_ep_items[i];

		if (item->set != number || item->data != data || item->removed ||
		    !(item->events & EPOLLONESHOT))
			continue;
		item->events &= EPOLLONESHOT | EPOLLET;
		found++;
		stale += item->stale;
		item->stale = 0;
	}
	pl_unlock(&set->lock, lock);
	/* Where several carry the same data nobody knows of which one it was. */
	return found == 1 && stale;
}

void pl_epset_tell_again(struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&pl_ep_items_lock);
	uint32_t n;

	for (n = s->items; n; n = pl_ep_items[n - 1].next)
		if ((pl_ep_items[n - 1].events & EPOLLET) && (pl_ep_items[n - 1].events & EPOLLOUT))
			pl_ep_tell_again(&pl_ep_items[n - 1]);
	pl_unlock(&pl_ep_items_lock, lock);
}

/* ---- epoll_ctl ---------------------------------------------------------------------------------
 */

/* A stream on a ring got an (other) interest: it must be seen by whoever waits, or will wait. */
static void show_stream(struct pl_stream *s)
{
	shmt_store(&s->awake, 0);
	pl_ready_left(s);
}

uint32_t *pl_ep_link_of(int set, int fd, struct pl_stream *s)
{
	uint32_t *link = owner_list(fd, s);

	while (*link &&
	       (pl_ep_items[*link - 1].set != (uint32_t)set || pl_ep_items[*link - 1].fd != fd))
		link = &pl_ep_items[*link - 1].next;
	return link;
}

bool pl_epset_knows(int epfd, int fd, bool quiet)
{
	const int number = pl_epset_of(epfd);
	enum pl_lock_result lock;
	struct pl_stream *s;
	uint32_t n;

	if (number < 0 || !shmt_load_relaxed(&pl_ep_sets[number].oneshot))
		return false;
	s = pl_stream_get(fd);
	if (!s)
		return false;
	lock = pl_lock(&pl_ep_items_lock);
	n = *pl_ep_link_of(number, fd, s);
	if (n && quiet && !pl_ep_items[n - 1].quiet)
		n = 0;
	pl_unlock(&pl_ep_items_lock, lock);
	pl_stream_put(s);
	return n;
}

void pl_epset_ctl(int epfd, int op, int fd, const struct epoll_event *event)
{
	const bool able = ready_to_remember();
	struct pl_stream *s = pl_pass_unseen(fd) ? NULL : pl_stream_get(fd);
	const uint64_t entry = pl_fd_entry(fd);
	enum pl_lock_result lock;
	uint32_t n, *link;
	int number;

	PL_IN_REGION;
	if (PL_ENTRY_KIND(entry) == PL_PASS)
		goto out;
	if (!able) {
		pl_process_unserved(COLOC_REASON_TABLE_FULL);
		goto out;
	}
	if (PL_ENTRY_KIND(entry) == PL_EPOLL) {
		number = make_set(epfd);
		if (number < 0 ||
		    !pl_ep_nest(&pl_ep_sets[number], op, PL_ENTRY_INDEX(entry), event))
			pl_process_unserved(COLOC_REASON_TABLE_FULL);
		goto out;
	}
	number = op == EPOLL_CTL_ADD ? make_set(epfd) : pl_epset_of(epfd);
	if (number < 0) {
		if (s && op == EPOLL_CTL_ADD) /* no room to remember it */
			pl_stream_stay(s, COLOC_REASON_TABLE_FULL);
		goto out;
	}
	lock = pl_lock(&pl_ep_items_lock);
	if (!s && PL_ENTRY_KIND(pl_fd_entry(fd)) == PL_STREAM) {
		/* Another thread has just looked. */
		pl_unlock(&pl_ep_items_lock, lock);
		s = pl_stream_get(fd);
		lock = pl_lock(&pl_ep_items_lock);
	}
	link = pl_ep_link_of(number, fd, s);
	if (op == EPOLL_CTL_DEL) {
		if (*link)
			remove_item(link);
	} else {
		n = *link;
		if (!n) {
			n = new_item();
			if (!n) {
				pl_unlock(&pl_ep_items_lock, lock);
				if (s)
					pl_stream_stay(s, COLOC_REASON_TABLE_FULL);
				goto out;
			}
			pl_ep_items[n - 1].set = (uint32_t)number;
			pl_ep_items[n - 1].fd = fd;
			pl_ep_items[n - 1].s = s;
			shmt_store(&pl_ep_sets[number].filled, 1);
			*link = n;
		} else {
			pl_ep_data_drop(n);
		}
		pl_ep_items[n - 1].events = event->events;
		if (event->events & EPOLLONESHOT)
			shmt_store(&pl_ep_sets[number].oneshot, 1);
		if (event->events & EPOLLET)
			shmt_store(&pl_ep_sets[number].edge, 1);
		pl_ep_items[n - 1].data = event->data.u64;
		pl_ep_items[n - 1].reported = 0;
		pl_ep_data_add(n);
		pl_ep_items[n - 1].quiet = pl_ep_items[n - 1].stale = 0;
	}
	pl_unlock(&pl_ep_items_lock, lock);
	if (s && op != EPOLL_CTL_DEL) {
		if (event->events & IN_EVENTS)
			pl_stream_waits(s, fd);
		show_stream(s);
	}
out:
	if (s)
		pl_stream_put(s);
}
