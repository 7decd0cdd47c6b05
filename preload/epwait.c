/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epwait.c - waiting in an epoll set: what is ready in user space, a short look, then the kernel
 *
 * As pollset.c does it for an array, over the set's queue of awake items (epset.c). The kernel's
 * own descriptors get a non-blocking pass every PASS_NS while rings are busy.
 */
#include "epset_items.h"

#include <errno.h>

#include "clock.h"
#include "io.h"
#include "lock.h"
#include "ready.h"
#include "wait.h"

#define PASS_NS	    20000u
#define SETTLE_NS   1000000u
#define COLD_NS	    10000000u
#define OUT_EVENTS  (EPOLLOUT | EPOLLWRNORM)
#define PASS_EVENTS 64 /* more are told by the next call */

static __thread uint64_t last_pass_ns __attribute__((tls_model("initial-exec")));

/* Is its stream on a ring that this process may look at? */
static inline bool is_awake(struct pl_stream *s)
{
	if (PL_UNLIKELY(shmt_load_acquire(&pl.removable)) && pl_ready_follows(s) &&
	    pl_stream_lost(s, pl_stream_any_fd(s)))
		return false;
	return pl_stashed(s) ||
	       (pl_ready_follows(s) && SHMT_CTL_MODE(shmt_load(&s->rx.shared->ctl)) != SHMT_TCP);
}

/* Has it anything to read that the kernel does not know of? An edge is due for each arrival, also
 * behind bytes of the kernel that lie unread. */
static inline bool is_ready(const struct pl_ep_item *item)
{
	struct pl_stream *s = item->s;

	if (pl_stashed(s))
		return (item->events & EPOLLET) || pl_stash_ready(s);
	return item->events & EPOLLET ? pl_ready_arrived(s) : pl_ready_now(s);
}

/* What an edge was told of. */
static uint64_t arrival(const struct pl_stream *s)
{
	return pl_stashed(s) ? UINT64_MAX : SHMT_CTL_VALUE(shmt_load(&s->rx.shared->ctl)) + 1;
}

static uint32_t kernel_events(const struct pl_ep_item *item)
{
	struct pollfd p = {.fd = pl_stream_any_fd(item->s),
			   .events = (short)(item->events & (EPOLLOUT | EPOLLRDHUP | EPOLLPRI))};

	return pl_real.poll(&p, 1, 0) > 0 ? (uint32_t)(unsigned short)p.revents : 0;
}

/*
 * Level-triggered, may be written to: a ring with room says so without the kernel. What else is so
 * of the socket the next pass tells.
 */
static uint32_t writable(const struct pl_ep_item *item)
{
	const uint32_t out = item->events & OUT_EVENTS;

	return out && !(item->events & (EPOLLET | EPOLLONESHOT)) && pl_attached(item->s) &&
			       pl_ready_writable(item->s)
		       ? out
		       : 0;
}

/* Reports one item; false: it has nothing (new) to report. Under the set's lock. */
static bool report(struct pl_ep_set *set, struct pl_ep_item *item, struct epoll_event *event)
{
	const uint32_t out = writable(item);

	if (!(item->events & IN_EVENTS) || !is_ready(item)) {
		/* Nothing is written to the program's array that it is not told of. */
		if (out)
			*event = (struct epoll_event){.events = out, .data.u64 = item->data};
		return out;
	}
	if (item->events & EPOLLET) {
		const uint64_t last = arrival(item->s);

		if (item->reported == last)
			return false;
		item->reported = last;
	}
	event->events = (item->events & IN_EVENTS) | out;
	event->data.u64 = item->data;
	if (item->events & EPOLLONESHOT) {
		/* Reported once: with all that is so, as the kernel does it. */
		event->events |= kernel_events(item);
		item->events &= EPOLLET | EPOLLONESHOT;
		item->stale = !pl_stream_is_at(item->s, item->fd);
		/* With no events it would still tell of a hang-up. */
		item->quiet = !item->stale &&
			      pl_real.epoll_ctl(set->epfd, EPOLL_CTL_DEL, item->fd, NULL) == 0;
	}
	return true;
}

/* The sets within it, from @first on, that are ready in user space. */
static int collect_nested(struct pl_ep_set *set, struct epoll_event *events, int max,
			  uint32_t first)
{
	int found = 0;
	uint32_t i;

	for (i = 0; i < NESTED_MAX && found < max; i++) {
		const unsigned int n = (first + i) % NESTED_MAX;

		if (!set->nested[n].set || !(set->nested[n].events & IN_EVENTS) ||
		    !pl_epset_ready_any(set->nested[n].set - 1))
			continue;
		events[found].events = set->nested[n].events & IN_EVENTS;
		events[found++].data.u64 = set->nested[n].data;
	}
	return found;
}

/* false: it has something to read. Under the set's lock. */
static bool settle_item(struct pl_ep_item *item)
{
	/* Edge-triggered: bytes may lie unread, the kernel's too, and are not told again. */
	if (pl_ready_settle(item->s) && !(item->events & EPOLLET))
		return true;
	if (SHMT_CTL_MODE(shmt_load(&item->s->rx.shared->ctl)) == SHMT_TCP) {
		/* The kernel's edge of the end of stream may have been told while the ring had
		 * bytes: it is told again if it stands. */
		if (pl_stream_is_at(item->s, item->fd) && pl_peer_gone(item->fd))
			pl_ep_tell_again(item);
		return true;
	}
	if ((item->events & EPOLLET) &&
	    item->reported == SHMT_CTL_VALUE(shmt_load(&item->s->rx.shared->ctl)) + 1 &&
	    pl_ready_push_out(item->s))
		return true;
	item->reported = 0;
	return false;
}

/*
 * Its ring is empty, now at @now. One that stays so is settled although nobody goes to sleep: each
 * look at a busy set would be at all that have ever been left awake in it.
 */
static void look_cold(struct pl_ep_item *item, uint64_t now)
{
	if (!item->cold_ns) {
		item->cold_ns = now;
	} else if (pl_since_ns(item->cold_ns, now) > COLD_NS && !pl_ready_arrived(item->s)) {
		item->cold_ns = 0;
		if (pl_ready_follows(item->s))
			(void)settle_item(item);
	}
}

static void watch_item(struct pl_watch *watch, const struct pl_ep_item *item)
{
	const uint64_t *word;

	if (pl_stashed(item->s) || !pl_ready_follows(item->s)) {
		pl_watch_all(watch);
	} else {
		word = &item->s->rx.shared->ctl;
		pl_watch_add(watch, word, shmt_load_relaxed(word));
	}
}

/* What one look at the queue found. */
struct seen {
	struct pl_stream *hot; /* some awake stream, for the spin */
	bool both; /* one is also waited for to be writable, level-triggered: ask the kernel */
	struct pl_watch watch;
};

/* Streams with ring bytes, each once; now is @now. */
static int collect(struct pl_ep_set *set, struct epoll_event *events, int max, uint64_t now,
		   struct seen *seen)
{
	/* Where there is no room for all, none starves another. */
	const uint32_t turn = shmt_bump(&set->turn);
	const bool nested_first = turn % 2;
	int found = nested_first ? collect_nested(set, events, max, turn / 2) : 0;
	const enum pl_lock_result lock = pl_lock(&set->lock);
	uint32_t turns, n;

	pl_ep_busy++;
	turns = set->queued;
	*seen = (struct seen){0};
	if (turns > PL_WATCH_MAX || pl_ep_nests(set))
		pl_watch_all(&seen->watch);
	while (turns-- && found < max) {
		struct pl_ep_item *item;

		n = pl_ep_dequeue(set);
		item = &pl_ep_items[n - 1];
		if (item->removed) {
			pl_ep_free_item(n);
			continue;
		}
		if (!is_awake(item->s)) {
			shmt_store(&item->s->awake, 0);
			item->cold_ns = 0;
			/* Left on the ring again meanwhile? Then its receiver may have seen awake.
			 */
			if (is_awake(item->s))
				pl_ep_enqueue(set, n);
			continue;
		}
		pl_ep_enqueue(set, n);
		if (item->events & IN_EVENTS) {
			seen->hot = item->s;
			watch_item(&seen->watch, item);
		}
		if (report(set, item, &events[found])) {
			found++;
			item->cold_ns = 0;
			seen->both |= (item->events & (EPOLLOUT | EPOLLET)) == EPOLLOUT &&
				      !(events[found - 1].events & EPOLLOUT);
		} else {
			look_cold(item, now);
		}
	}
	pl_ep_busy--;
	pl_unlock(&set->lock, lock);
	if (!nested_first && found < max)
		found += collect_nested(set, events + found, max - found, turn / 2);
	return found;
}

bool pl_epset_awake_any(uint32_t number)
{
	unsigned int i;

	if (pl_ep_sets[number].queued)
		return true;
	for (i = 0; i < NESTED_MAX; i++)
		if (pl_ep_sets[number].nested[i].set &&
		    pl_epset_awake_any(pl_ep_sets[number].nested[i].set - 1))
			return true;
	return false;
}

bool pl_epset_ready_any(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	const enum pl_lock_result lock = pl_lock(&set->lock);
	bool found = false;
	unsigned int i;
	uint32_t n;

	pl_ep_busy++;
	for (n = set->head; n && !found; n = pl_ep_items[n - 1].queue_next) {
		const struct pl_ep_item *item = &pl_ep_items[n - 1];

		if (item->removed || !(item->events & IN_EVENTS) || !is_awake(item->s) ||
		    !is_ready(item))
			continue;
		found = !(item->events & EPOLLET) || item->reported != arrival(item->s);
	}
	pl_ep_busy--;
	pl_unlock(&set->lock, lock);
	for (i = 0; i < NESTED_MAX && !found; i++)
		found = set->nested[i].set && (set->nested[i].events & IN_EVENTS) &&
			pl_epset_ready_any(set->nested[i].set - 1);
	return found;
}

bool pl_epset_settle(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	const enum pl_lock_result lock = pl_lock(&set->lock);
	bool may_sleep = true;
	unsigned int i;
	uint32_t n;

	pl_ep_busy++;
	for (n = set->head; n; n = pl_ep_items[n - 1].queue_next) {
		struct pl_ep_item *item = &pl_ep_items[n - 1];

		if (item->removed || !(item->events & IN_EVENTS))
			continue;
		if (pl_ready_follows(item->s) && !settle_item(item))
			may_sleep = false;
		/* The agent may have settled it, too, and put aside what was there. */
		if (pl_stashed(item->s) && is_ready(item) &&
		    !(item->events & EPOLLET && item->reported == arrival(item->s)))
			may_sleep = false;
	}
	pl_ep_busy--;
	pl_unlock(&set->lock, lock);
	for (i = 0; i < NESTED_MAX; i++)
		if (set->nested[i].set && (set->nested[i].events & IN_EVENTS) &&
		    !pl_epset_settle(set->nested[i].set - 1))
			may_sleep = false;
	return may_sleep;
}

/*
 * The kernel has told of an edge, maybe of what the ring was opened behind: whoever waits again
 * without having received is to be told of what came by ring.
 */
static void told_by_kernel(const struct pl_ep_item *item)
{
	struct pl_stream *s = item->s;

	if ((item->events & EPOLLET) && s && is_awake(s) && !pl_epset_awake(s))
		(void)pl_ready_settle(s);
}

/* Drop our own event; put those of a stream that is reported already on top of its entry. */
static int merge(struct pl_ep_set *set, struct epoll_event *events, int have,
		 const struct epoll_event *more, int count)
{
	int i, j, n = have;

	for (i = 0; i < count; i++) {
		if (more[i].data.u64 == KICK_DATA)
			continue;
		if (pl_ep_disarm(set, more[i].data.u64))
			continue;
		if (shmt_load_relaxed(&set->edge) && (more[i].events & IN_EVENTS))
			pl_ep_data_each((uint32_t)(set - pl_ep_sets), more[i].data.u64,
					told_by_kernel);
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

/* By a buffer of ours when something is to be merged: the caller's array is written as far as told.
 */
static int kernel_pass(struct pl_ep_set *set, int epfd, struct epoll_event *events, int have,
		       int max, const sigset_t *mask)
{
	struct epoll_event buffer[PASS_EVENTS], *to = have ? buffer : events;
	int room = max - have, n = 0;

	if (have && room > PASS_EVENTS)
		room = PASS_EVENTS;
	if (room) {
		(void)pl_epset_flush((uint32_t)(set - pl_ep_sets));
		n = pl_real.epoll_pwait(epfd, to, room, 0, mask);
		if (n < 0)
			return have ? have : -errno;
		last_pass_ns = pl_now_ns();
	}
	return merge(set, events, have, to, n);
}

static int sleep_in_kernel(uint32_t number, int epfd, struct epoll_event *events, int max,
			   uint64_t until_ns, const sigset_t *mask)
{
	struct timespec left, *timeout = NULL;
	int rc = 0, ms = -1;
	uint64_t now;

	pl_epset_sleep(number, 1);
	(void)pl_epset_flush(number); /* counted first: epdefer.c */
	pl_gate_look();
	pl_ep_sets[number].settled_ns = pl_now_ns();
	if (pl_epset_settle(number)) {
		if (until_ns != UINT64_MAX) {
			now = pl_now_ns();
			now = until_ns > now ? until_ns - now : 0;
			left = (struct timespec){(time_t)(now / 1000000000u),
						 (long)(now % 1000000000u)};
			timeout = &left;
			ms = now / 1000000u < INT32_MAX ? (int)((now + 999999u) / 1000000u)
							: INT32_MAX;
		}
		rc = -1;
		errno = ENOSYS;
		{
			PL_ASLEEP;
			if (timeout && pl_real.epoll_pwait2)
				rc = pl_real.epoll_pwait2(epfd, events, max, timeout, mask);
			if (rc < 0 && errno == ENOSYS)
				rc = pl_real.epoll_pwait(epfd, events, max, ms, mask);
		}
		rc = rc < 0 ? -errno : merge(&pl_ep_sets[number], events, 0, events, rc);
	}
	pl_epset_sleep(number, -1);
	last_pass_ns = pl_now_ns();
	return rc;
}

/* While some stream is awake: until one may be ready (*ret_found), or the kernel's events. */
static int spin(uint32_t number, int epfd, struct epoll_event *events, int max, struct seen *seen,
		uint64_t *now, bool *ret_found)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	struct pl_spin spin;
	bool found = false;
	int n = 0;

	pl_spin_begin(seen->hot, &spin, set->queued);
	while (!found && !n && pl_spin_more(&spin)) {
		if (!pl_watch_changed(&seen->watch, &spin))
			continue;
		found = pl_epset_ready_any(number);
		if (!found && (spin.turns & 31))
			pl_watch_all(&seen->watch); /* something other than bytes */
		else if (!found && pl_since_ns(last_pass_ns, spin.now_ns) > PASS_NS)
			n = kernel_pass(set, epfd, events, 0, max, NULL);
	}
	/* It may have given way until now. */
	if (!found && !n && spin.until_ns)
		found = pl_epset_ready_any(number);
	if (spin.now_ns)
		*now = spin.now_ns;
	if (!n)
		pl_spin_end(seen->hot, &spin, found);
	*ret_found = found;
	return n;
}

static int wait_ready(uint32_t number, int epfd, struct epoll_event *events, int max,
		      uint64_t timeout_ns, const sigset_t *mask)
{
	const uint64_t begun = pl_now_ns();
	const uint64_t until =
		timeout_ns > UINT64_MAX - begun - 1 ? UINT64_MAX : begun + timeout_ns;
	struct pl_ep_set *set = &pl_ep_sets[number];
	uint64_t now = begun;
	struct seen seen;
	bool found;
	int n;

	PL_IN_REGION;
	pl_epset_catch_up(number);
	for (;;) {
		/* Half of the room for each side when the kernel's turn has come. */
		const bool due = pl_since_ns(last_pass_ns, now) > PASS_NS;

		/* No room for both: by turns. */
		if (due && max == 1 && pl_epset_awake_any(number) &&
		    shmt_bump(&set->kernels_turn) % 2) {
			n = kernel_pass(set, epfd, events, 0, max, mask);
			if (n)
				return n;
		}
		n = collect(set, events, due && max > 1 ? max / 2 : max, now, &seen);
		if (n && !seen.both && !(due && n < max))
			return n;
		if (!n && timeout_ns == 0 && begun - set->settled_ns > SETTLE_NS) {
			/* Who never sleeps is to hear of an end of stream, too. */
			set->settled_ns = begun;
			(void)pl_epset_settle(number);
		}
		if (n || timeout_ns == 0)
			return kernel_pass(set, epfd, events, n, max, mask);
		if (seen.hot) {
			n = spin(number, epfd, events, max, &seen, &now, &found);
			if (n)
				return n;
			if (found && now < until)
				continue;
		}
		n = sleep_in_kernel(number, epfd, events, max, until, mask);
		if (n)
			return n;
		now = pl_now_ns();
		if (until != UINT64_MAX && now >= until)
			return collect(set, events, max, now, &seen);
	}
}

static bool only_writable(const struct epoll_event *events, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (events[i].events & ~(uint32_t)(EPOLLOUT | EPOLLWRNORM))
			return false;
	return true;
}

static bool readable(const void *number)
{
	return pl_epset_ready_any(*(const uint32_t *)number);
}

int pl_epset_wait(uint32_t number, int epfd, struct epoll_event *events, int max,
		  uint64_t timeout_ns, const sigset_t *mask)
{
	const int n = wait_ready(number, epfd, events, max, timeout_ns, mask);

	if (n > 0 && timeout_ns && pl_tx_full_lately() && only_writable(events, n)) {
		PL_IN_REGION;
		pl_tx_pause(readable, &number);
	}
	return n;
}
