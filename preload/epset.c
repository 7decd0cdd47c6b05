/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epset.c - see epset.h
 *
 * An item is one number in one set. Items of a stream hang on the stream, those of a number that may
 * still become one hang on the number. A set's awake list is a queue of items whose stream was
 * left on a ring: each look takes every item once from its front and puts it back behind, so no stream
 * starves another. An item that is removed while queued is freed when its turn comes.
 *
 * Locks: items_lock for the lists of owners, then set->lock for the queue and the item's fields.
 * Neither is held in a system call but for the kernel's own epoll_ctl of a disarmed ONESHOT.
 *
 * Waking a sleeper of this process: an always-readable eventfd is re-armed (ONESHOT) in its set,
 * which makes the kernel look again; its event carries KICK_DATA and is never reported.
 */
#include "epset.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "lock.h"
#include "ready.h"
#include "wait.h"

#define ITEMS_MAX (1u << 18)
#define SETS_MAX 4096u
#define NESTED_MAX 8
#define PASS_NS 20000u
#define SETTLE_NS 1000000u
#define PASS_EVENTS 64 /* more are told by the next call */
#define KICK_DATA 0xc010cc0ffee51c4bULL
#define IN_EVENTS (EPOLLIN | EPOLLRDNORM)

struct item {
	uint32_t set;
	int fd;
	uint32_t next;	     /* in its owner's list, 1 + number */
	uint32_t queue_next; /* in its set's queue, 1 + number */
	uint32_t events;     /* as the kernel has them now */
	uint8_t queued, removed;
	uint64_t data;
	uint64_t reported; /* edge-triggered: 1 + head at the last report */
	struct pl_stream *s;
};

struct set {
	uint64_t lock;	   /* atomic */
	uint32_t refs;	   /* atomic; numbers that name it; 0 = free */
	uint32_t sleepers; /* atomic; threads asleep in it */
	uint32_t head, tail, queued;
	struct {
		uint32_t set; /* 1 + number of a set inside this one */
		uint32_t events;
		uint64_t data;
	} nested[NESTED_MAX];
	int epfd;
	uint64_t settled_ns; /* when its streams were last settled */
};

static struct item *items;
static struct set *sets;
static uint32_t *number_items; /* by descriptor: items of numbers that are no streams yet */
static uint32_t items_free, items_top;
static uint64_t items_lock; /* atomic */
static int kick_fd;	    /* atomic; 0 = not made */
static __thread uint64_t last_pass_ns __attribute__((tls_model("initial-exec")));

static void *reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* At the first epoll_ctl(): a number may be in a set long before anybody knows that it is a stream. */
static bool ready_to_remember(void)
{
	enum pl_lock_result lock;

	if (shmt_load_acquire(&number_items))
		return true;
	lock = pl_lock(&items_lock);
	if (!number_items) {
		items = reserve(ITEMS_MAX * sizeof(*items));
		sets = reserve(SETS_MAX * sizeof(*sets));
		if (items && sets)
			shmt_store_release(&number_items,
					   (uint32_t *)reserve(PL_FD_MAX * sizeof(*number_items)));
	}
	pl_unlock(&items_lock, lock);
	return number_items;
}

void pl_epset_forked(void)
{
	uint32_t i;

	items_lock = 0;
	if (!number_items)
		return;
	for (i = 0; i < SETS_MAX && sets[i].refs; i++) {
		sets[i].lock = 0;
		sets[i].sleepers = 0;
	}
}

/* ---- items ------------------------------------------------------------------------------------- */

static uint32_t new_item(void)
{
	uint32_t n = items_free;

	if (n)
		items_free = items[n - 1].next;
	else if (items_top < ITEMS_MAX)
		n = ++items_top;
	if (n)
		memset(&items[n - 1], 0, sizeof(*items));
	return n;
}

static void free_item(uint32_t n)
{
	items[n - 1].next = items_free;
	items_free = n;
}

static uint32_t *owner_list(int fd, struct pl_stream *s)
{
	return s ? &s->items : (unsigned int)fd < PL_FD_MAX ? &number_items[fd] : NULL;
}

/* Under the set's lock. */
static void enqueue(struct set *set, uint32_t n)
{
	struct item *item = &items[n - 1];

	item->queued = 1;
	item->queue_next = 0;
	if (set->tail)
		items[set->tail - 1].queue_next = n;
	else
		set->head = n;
	set->tail = n;
	set->queued++;
}

static uint32_t dequeue(struct set *set)
{
	const uint32_t n = set->head;

	set->head = items[n - 1].queue_next;
	if (!set->head)
		set->tail = 0;
	items[n - 1].queued = 0;
	set->queued--;
	return n;
}

/* Under items_lock; @link points at the number of the item. */
static void remove_item(uint32_t *link)
{
	const uint32_t n = *link;
	struct item *item = &items[n - 1];
	struct set *set = &sets[item->set];
	const enum pl_lock_result lock = pl_lock(&set->lock);

	*link = item->next;
	item->s = NULL;
	if (item->queued)
		item->removed = 1;
	else
		free_item(n);
	pl_unlock(&set->lock, lock);
}

void pl_epset_drop(uint32_t *list)
{
	enum pl_lock_result lock;

	if (!shmt_load(list))
		return;
	lock = pl_lock(&items_lock);
	while (*list)
		remove_item(list);
	pl_unlock(&items_lock, lock);
}

void pl_epset_forget(int fd)
{
	if (number_items && (unsigned int)fd < PL_FD_MAX)
		pl_epset_drop(&number_items[fd]);
}

void pl_epset_adopt(int fd, struct pl_stream *s)
{
	enum pl_lock_result lock;
	uint32_t n, *link;

	if (!number_items || !number_items[fd])
		return;
	lock = pl_lock(&items_lock);
	for (n = number_items[fd]; n; n = items[n - 1].next)
		items[n - 1].s = s;
	for (link = &s->items; *link; link = &items[*link - 1].next)
		;
	*link = number_items[fd];
	number_items[fd] = 0;
	pl_unlock(&items_lock, lock);
}

/* ---- sets -------------------------------------------------------------------------------------- */

static int make_set(int epfd)
{
	const uint64_t entry = pl_fd_entry(epfd);
	uint32_t i;

	if (PL_ENTRY_KIND(entry) == PL_EPOLL)
		return (int)PL_ENTRY_INDEX(entry);
	for (i = 0; i < SETS_MAX; i++) {
		struct set *set = &sets[i];

		if (!shmt_cas(&set->refs, 0, 1))
			continue;
		set->head = set->tail = set->queued = 0;
		set->sleepers = 0;
		set->settled_ns = 0;
		memset(set->nested, 0, sizeof(set->nested));
		set->epfd = epfd;
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

void pl_epset_dup(uint32_t set)
{
	shmt_add(&sets[set].refs, 1);
}

void pl_epset_close(uint32_t number)
{
	struct set *set = &sets[number];
	enum pl_lock_result lock;
	uint32_t i, n;

	if (shmt_sub(&set->refs, 1) != 1)
		return;
	shmt_store(&set->refs, 1); /* until its items are gone */
	lock = pl_lock(&items_lock);
	for (i = 0; i < items_top; i++) {
		struct item *item = &items[i];
		uint32_t *link;

		if (item->set != number || item->removed || (!item->s && !item->fd && !item->data))
			continue;
		link = owner_list(item->fd, item->s);
		while (link && *link && *link != i + 1)
			link = &items[*link - 1].next;
		if (link && *link)
			remove_item(link);
	}
	while (set->head) {
		n = dequeue(set);
		free_item(n);
	}
	pl_unlock(&items_lock, lock);
	shmt_store(&set->refs, 0);
}

/* ---- awake streams ----------------------------------------------------------------------------- */

void pl_epset_awake(struct pl_stream *s)
{
	enum pl_lock_result lock, set_lock;
	uint32_t n;

	if (shmt_load(&s->awake))
		return;
	lock = pl_lock(&items_lock);
	shmt_store(&s->awake, 1);
	for (n = s->items; n; n = items[n - 1].next) {
		struct set *set = &sets[items[n - 1].set];

		set_lock = pl_lock(&set->lock);
		if (!items[n - 1].queued)
			enqueue(set, n);
		pl_unlock(&set->lock, set_lock);
	}
	pl_unlock(&items_lock, lock);
}

bool pl_epset_sleepers(struct pl_stream *s)
{
	uint32_t n;

	/* Items are never unmapped; a list that changes under us belongs to an epoll_ctl under way,
	 * which looks at the stream itself when it is done. */
	for (n = shmt_load(&s->items); n; n = shmt_load_relaxed(&items[n - 1].next))
		if (shmt_load(&sets[items[n - 1].set].sleepers))
			return true;
	return false;
}

static void kick_set(struct set *set)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = KICK_DATA };
	const int saved = errno;
	int fd = shmt_load(&kick_fd);

	if (!fd) {
		fd = pl_fd_high(pl_real.eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
		if (fd < 0)
			return;
		if (!shmt_cas(&kick_fd, 0, fd)) {
			pl_real.close(fd);
			fd = shmt_load(&kick_fd);
		}
	}
	if (pl_real.epoll_ctl(set->epfd, EPOLL_CTL_MOD, fd, &event) < 0 && errno == ENOENT)
		(void)pl_real.epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &event);
	errno = saved;
}

void pl_epset_kick(struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&items_lock);
	uint32_t n;

	for (n = s->items; n; n = items[n - 1].next)
		if (shmt_load(&sets[items[n - 1].set].sleepers))
			kick_set(&sets[items[n - 1].set]);
	pl_unlock(&items_lock, lock);
}

/* Setting the same again makes the kernel look whether the number is ready: an edge told once more. */
static void tell_again(const struct item *item)
{
	struct epoll_event event = { .events = item->events, .data.u64 = item->data };

	(void)pl_real.epoll_ctl(sets[item->set].epfd, EPOLL_CTL_MOD, item->fd, &event);
}

void pl_epset_tell_again(struct pl_stream *s)
{
	const enum pl_lock_result lock = pl_lock(&items_lock);
	uint32_t n;

	for (n = s->items; n; n = items[n - 1].next)
		if ((items[n - 1].events & EPOLLET) && (items[n - 1].events & EPOLLOUT))
			tell_again(&items[n - 1]);
	pl_unlock(&items_lock, lock);
}

bool pl_epset_own_fd(int fd)
{
	return fd && fd == shmt_load_relaxed(&kick_fd);
}

/* ---- epoll_ctl --------------------------------------------------------------------------------- */

/* A set inside a set; false: there is no room to remember it. */
static bool change_nested(struct set *set, int op, uint32_t inner, const struct epoll_event *event)
{
	const uint32_t wanted = op == EPOLL_CTL_ADD ? 0 : inner + 1;
	unsigned int i;

	for (i = 0; i < NESTED_MAX && set->nested[i].set != wanted; i++)
		;
	if (i == NESTED_MAX)
		return op != EPOLL_CTL_ADD;
	if (op != EPOLL_CTL_DEL) {
		set->nested[i].events = event->events;
		set->nested[i].data = event->data.u64;
	}
	set->nested[i].set = op == EPOLL_CTL_DEL ? 0 : inner + 1;
	return true;
}

/* A stream on a ring got an (other) interest: it must be seen by whoever waits, or will wait. */
static void show_stream(struct pl_stream *s)
{
	shmt_store(&s->awake, 0);
	pl_ready_after_receive(s);
}

void pl_epset_ctl(int epfd, int op, int fd, const struct epoll_event *event)
{
	const bool able = ready_to_remember();
	struct pl_stream *s = pl_stream_get(fd);
	const uint64_t entry = pl_fd_entry(fd);
	enum pl_lock_result lock;
	uint32_t n, *link;
	int number;

	if (PL_ENTRY_KIND(entry) == PL_PASS)
		goto out;
	if (!able) {
		pl_process_unserved(COLOC_REASON_TABLE_FULL);
		goto out;
	}
	if (PL_ENTRY_KIND(entry) == PL_EPOLL) {
		number = make_set(epfd);
		if (number < 0 ||
		    !change_nested(&sets[number], op, PL_ENTRY_INDEX(entry), event))
			pl_process_unserved(COLOC_REASON_TABLE_FULL);
		goto out;
	}
	number = op == EPOLL_CTL_ADD ? make_set(epfd) : pl_epset_of(epfd);
	if (number < 0) {
		if (s && op == EPOLL_CTL_ADD) /* no room to remember it */
			pl_stream_stay(s, COLOC_REASON_TABLE_FULL);
		goto out;
	}
	lock = pl_lock(&items_lock);
	link = owner_list(fd, s);
	while (*link && (items[*link - 1].set != (uint32_t)number || items[*link - 1].fd != fd))
		link = &items[*link - 1].next;
	if (op == EPOLL_CTL_DEL) {
		if (*link)
			remove_item(link);
	} else {
		n = *link;
		if (!n) {
			n = new_item();
			if (!n) {
				pl_unlock(&items_lock, lock);
				if (s)
					pl_stream_stay(s, COLOC_REASON_TABLE_FULL);
				goto out;
			}
			items[n - 1].set = (uint32_t)number;
			items[n - 1].fd = fd;
			items[n - 1].s = s;
			*link = n;
		}
		items[n - 1].events = event->events;
		items[n - 1].data = event->data.u64;
		items[n - 1].reported = 0;
	}
	pl_unlock(&items_lock, lock);
	if (s && op != EPOLL_CTL_DEL)
		show_stream(s);
out:
	if (s)
		pl_stream_put(s);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

/* Reports one item; false: it has nothing (new) to report. Under the set's lock. */
static bool report(struct set *set, struct item *item, struct epoll_event *event)
{
	struct epoll_event disarmed = { .events = item->events & (EPOLLET | EPOLLONESHOT),
					.data.u64 = item->data };
	struct pl_stream *s = item->s;

	if (!(item->events & IN_EVENTS) || !pl_ready_now(s))
		return false;
	if (item->events & EPOLLET) {
		const uint64_t head = SHMT_CTL_VALUE(shmt_load(&s->rx.shared->ctl)) + 1;

		if (item->reported == head)
			return false;
		item->reported = head;
	}
	event->events = item->events & IN_EVENTS;
	event->data.u64 = item->data;
	if (item->events & EPOLLONESHOT) {
		item->events = disarmed.events;
		(void)pl_real.epoll_ctl(set->epfd, EPOLL_CTL_MOD, item->fd, &disarmed);
	}
	return true;
}

/*
 * Streams with ring bytes, each once. @hot: some awake stream, for the spin. @both: one of them is
 * also waited for to be writable, level-triggered: only the kernel can tell.
 */
static int collect(struct set *set, struct epoll_event *events, int max, struct pl_stream **hot,
		   bool *both)
{
	const enum pl_lock_result lock = pl_lock(&set->lock);
	uint32_t turns = set->queued, n;
	unsigned int i;
	int found = 0;

	*hot = NULL;
	*both = false;
	while (turns-- && found < max) {
		struct item *item;

		n = dequeue(set);
		item = &items[n - 1];
		if (item->removed) {
			free_item(n);
			continue;
		}
		if (!pl_ready_follows(item->s) ||
		    SHMT_CTL_MODE(shmt_load(&item->s->rx.shared->ctl)) == SHMT_TCP) {
			shmt_store(&item->s->awake, 0);
			/* Left on the ring again meanwhile? Then its receiver may have seen awake. */
			if (SHMT_CTL_MODE(shmt_load(&item->s->rx.shared->ctl)) != SHMT_TCP)
				enqueue(set, n);
			continue;
		}
		enqueue(set, n);
		if (item->events & IN_EVENTS)
			*hot = item->s;
		if (report(set, item, &events[found])) {
			found++;
			*both |= (item->events & (EPOLLOUT | EPOLLET)) == EPOLLOUT;
		}
	}
	pl_unlock(&set->lock, lock);
	for (i = 0; i < NESTED_MAX && found < max; i++) {
		if (!set->nested[i].set || !(set->nested[i].events & IN_EVENTS) ||
		    !pl_epset_ready_any(set->nested[i].set - 1))
			continue;
		events[found].events = set->nested[i].events & IN_EVENTS;
		events[found++].data.u64 = set->nested[i].data;
	}
	return found;
}

bool pl_epset_awake_any(uint32_t number)
{
	unsigned int i;

	if (sets[number].queued)
		return true;
	for (i = 0; i < NESTED_MAX; i++)
		if (sets[number].nested[i].set && pl_epset_awake_any(sets[number].nested[i].set - 1))
			return true;
	return false;
}

bool pl_epset_ready_any(uint32_t number)
{
	struct set *set = &sets[number];
	const enum pl_lock_result lock = pl_lock(&set->lock);
	bool found = false;
	unsigned int i;
	uint32_t n;

	for (n = set->head; n && !found; n = items[n - 1].queue_next) {
		const struct item *item = &items[n - 1];

		if (item->removed || !(item->events & IN_EVENTS) || !pl_ready_now(item->s))
			continue;
		found = !(item->events & EPOLLET) ||
			item->reported != SHMT_CTL_VALUE(shmt_load(&item->s->rx.shared->ctl)) + 1;
	}
	pl_unlock(&set->lock, lock);
	for (i = 0; i < NESTED_MAX && !found; i++)
		found = set->nested[i].set && pl_epset_ready_any(set->nested[i].set - 1);
	return found;
}

void pl_epset_sleep(uint32_t number, int sleepers)
{
	unsigned int i;

	shmt_add(&sets[number].sleepers, (uint32_t)sleepers);
	for (i = 0; i < NESTED_MAX; i++)
		if (sets[number].nested[i].set)
			pl_epset_sleep(sets[number].nested[i].set - 1, sleepers);
}

bool pl_epset_settle(uint32_t number)
{
	struct set *set = &sets[number];
	const enum pl_lock_result lock = pl_lock(&set->lock);
	bool may_sleep = true;
	unsigned int i;
	uint32_t n;

	for (n = set->head; n; n = items[n - 1].queue_next) {
		struct item *item = &items[n - 1];

		if (item->removed || !(item->events & IN_EVENTS))
			continue;
		/* Edge-triggered: bytes may lie unread, the kernel's too, and are not told again. */
		if (pl_ready_settle(item->s) && !(item->events & EPOLLET))
			continue;
		if (SHMT_CTL_MODE(shmt_load(&item->s->rx.shared->ctl)) == SHMT_TCP) {
			/* The kernel's edge of the end of stream may have been told while the ring
			 * had bytes: it is told again if it stands. */
			if (pl_peer_gone(item->fd))
				tell_again(item);
			continue;
		}
		if ((item->events & EPOLLET) &&
		    (shmt_rx_missing(&item->s->rx) ||
		     item->reported == SHMT_CTL_VALUE(shmt_load(&item->s->rx.shared->ctl)) + 1) &&
		    pl_ready_push_out(item->s))
			continue;
		item->reported = 0;
		may_sleep = false;
	}
	pl_unlock(&set->lock, lock);
	for (i = 0; i < NESTED_MAX; i++)
		if (set->nested[i].set && !pl_epset_settle(set->nested[i].set - 1))
			may_sleep = false;
	return may_sleep;
}

/* Drop our own event; put those of a stream that is reported already on top of its entry. */
static int merge(struct epoll_event *events, int have, const struct epoll_event *more, int count)
{
	int i, j, n = have;

	for (i = 0; i < count; i++) {
		if (more[i].data.u64 == KICK_DATA)
			continue;
		for (j = 0; j < have; j++)
			if (events[j].data.u64 == more[i].data.u64)
				break;
		if (j < have)
			events[j].events |= more[i].events;
		else
			events[n++] = more[i];
	}
	return n;
}

/* By a buffer of ours when something is to be merged: the caller's array is written as far as told. */
static int kernel_pass(int epfd, struct epoll_event *events, int have, int max)
{
	struct epoll_event buffer[PASS_EVENTS], *to = have ? buffer : events;
	int room = max - have, n = 0;

	if (have && room > PASS_EVENTS)
		room = PASS_EVENTS;
	if (room) {
		n = pl_real.epoll_wait(epfd, to, room, 0);
		if (n < 0)
			return have ? have : -errno;
	}
	last_pass_ns = pl_now_ns();
	return merge(events, have, to, n);
}

static int sleep_in_kernel(uint32_t number, int epfd, struct epoll_event *events, int max,
			   uint64_t until_ns, const sigset_t *mask)
{
	struct timespec left, *timeout = NULL;
	int rc = 0, ms = -1;
	uint64_t now;

	pl_epset_sleep(number, 1);
	sets[number].settled_ns = pl_now_ns();
	if (pl_epset_settle(number)) {
		if (until_ns != UINT64_MAX) {
			now = pl_now_ns();
			now = until_ns > now ? until_ns - now : 0;
			left = (struct timespec){ (time_t)(now / 1000000000u),
						  (long)(now % 1000000000u) };
			timeout = &left;
			ms = now / 1000000u < INT32_MAX ? (int)((now + 999999u) / 1000000u)
							: INT32_MAX;
		}
		rc = -1;
		errno = ENOSYS;
		if (timeout && pl_real.epoll_pwait2)
			rc = pl_real.epoll_pwait2(epfd, events, max, timeout, mask);
		if (rc < 0 && errno == ENOSYS)
			rc = pl_real.epoll_pwait(epfd, events, max, ms, mask);
		rc = rc < 0 ? -errno : merge(events, 0, events, rc);
	}
	pl_epset_sleep(number, -1);
	last_pass_ns = pl_now_ns();
	return rc;
}

int pl_epset_wait(uint32_t number, int epfd, struct epoll_event *events, int max,
		  uint64_t timeout_ns, const sigset_t *mask)
{
	const uint64_t begun = pl_now_ns();
	const uint64_t until = timeout_ns > UINT64_MAX - begun - 1 ? UINT64_MAX
								   : begun + timeout_ns;
	struct set *set = &sets[number];
	struct pl_stream *hot;
	struct pl_spin spin;
	bool both;
	int n;

	for (;;) {
		/* Half of the room for each side when the kernel's turn has come. */
		const bool due = pl_now_ns() - last_pass_ns > PASS_NS;

		n = collect(set, events, due && max > 1 ? max / 2 : max, &hot, &both);
		if (n && !both && !(due && n < max))
			return n;
		if (!n && timeout_ns == 0 && begun - set->settled_ns > SETTLE_NS) {
			/* Who never sleeps is to hear of an end of stream, too. */
			set->settled_ns = begun;
			(void)pl_epset_settle(number);
		}
		if (n || timeout_ns == 0)
			return kernel_pass(epfd, events, n, max);
		if (hot) {
			pl_spin_begin(hot, &spin);
			while (!pl_epset_ready_any(number) && pl_spin_more(&spin)) {
				if ((spin.turns & 31) == 0 &&
				    pl_now_ns() - last_pass_ns > PASS_NS) {
					n = kernel_pass(epfd, events, 0, max);
					if (n)
						break;
				}
			}
			if (n)
				return n;
			n = pl_epset_ready_any(number);
			pl_spin_end(hot, &spin, n != 0);
			if (n)
				continue;
		}
		n = sleep_in_kernel(number, epfd, events, max, until, mask);
		if (n)
			return n;
		if (until != UINT64_MAX && pl_now_ns() >= until)
			return collect(set, events, max, &hot, &both);
	}
}
