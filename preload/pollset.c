/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollset.c - readiness of an array: what is ready in user space, a short look, then the kernel
 *
 *  1. Streams with ring bytes are ready. The kernel's descriptors get their non-blocking pass at
 * the same time, but not more often than every PASS_NS, so that a busy ring does not pay a system
 *     call per message and no other descriptor waits longer than that.
 *  2. Nothing ready: spin within budget while some stream is awake.
 *  3. Settle all, then sleep in the kernel.
 *
 * A sleeper that another thread must be able to wake (pl_poll_kick) sleeps with one more
 * descriptor, an eventfd of its own, in a copy of the array.
 */
#include "pollset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>

#include "clock.h"
#include "epset.h"
#include "io.h"
#include "ready.h"
#include "undo.h"
#include "wait.h"

#define PASS_NS	  20000u
#define IN_EVENTS (POLLIN | POLLRDNORM)
#define ON_STACK  64
#define WAITERS	  256

static __thread uint64_t last_pass_ns __attribute__((tls_model("initial-exec")));

/* Threads asleep, each with its eventfd; made when first needed, then kept. */
static struct waiter {
	uint32_t used;	 /* atomic */
	uint32_t asleep; /* atomic */
	int event_fd;	 /* atomic; 0 = not made */
} waiters[WAITERS];

static uint32_t sleeping; /* atomic; threads in poll or select with streams */

void pl_poll_sleep(int sleepers)
{
	shmt_add(&sleeping, (uint32_t)sleepers);
	if (sleepers > 0)
		pl_undo_push(PL_UNDO_COUNT, &sleeping);
	else
		pl_undo_pop();
}

bool pl_poll_sleepers(void)
{
	return shmt_load(&sleeping) != 0;
}

void pl_poll_kick(void)
{
	const uint64_t one = 1;
	unsigned int i;

	for (i = 0; i < WAITERS; i++)
		if (shmt_load(&waiters[i].asleep))
			(void)!pl_real.write(waiters[i].event_fd, &one, sizeof(one));
}

static struct waiter *take_waiter(void)
{
	unsigned int i;
	int fd;

	for (i = 0; i < WAITERS; i++) {
		struct waiter *w = &waiters[i];

		if (shmt_load_relaxed(&w->used) || !shmt_cas(&w->used, 0, 1))
			continue;
		if (!shmt_load_relaxed(&w->event_fd)) {
			fd = pl_fd_high(pl_real.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
			if (fd < 0) {
				shmt_store(&w->used, 0);
				return NULL;
			}
			shmt_store(&w->event_fd, fd);
		}
		shmt_store(&w->asleep, 1);
		return w;
	}
	return NULL;
}

static void drop_waiter(struct waiter *w)
{
	uint64_t count;

	if (!w)
		return;
	shmt_store(&w->asleep, 0);
	(void)!pl_real.read(w->event_fd, &count, sizeof(count));
	shmt_store(&w->used, 0);
}

void pl_pollset_forked(void)
{
	unsigned int i;

	for (i = 0; i < WAITERS; i++) {
		if (waiters[i].event_fd)
			pl_real.close(waiters[i].event_fd);
		waiters[i] = (struct waiter){0};
	}
	sleeping = 0;
}

bool pl_poll_own_fd(int fd)
{
	unsigned int i;

	for (i = 0; i < WAITERS && shmt_load_relaxed(&waiters[i].event_fd); i++)
		if (shmt_load_relaxed(&waiters[i].event_fd) == fd)
			return true;
	return false;
}

/* A thread asleep has looked the number up already: it sleeps on the same eventfd. */
bool pl_poll_vacate(int fd)
{
	unsigned int i;

	for (i = 0; i < WAITERS && shmt_load_relaxed(&waiters[i].event_fd); i++)
		if (shmt_load_relaxed(&waiters[i].event_fd) == fd)
			return pl_fd_vacate(&waiters[i].event_fd, fd);
	return true;
}

bool pl_pollset_concerns(const struct pollfd *fds, nfds_t n)
{
	bool found = false;
	nfds_t i;

	PL_IN_REGION;
	for (i = 0; i < n; i++) {
		struct pl_stream *s;
		uint64_t entry;

		if (fds[i].fd < 0 || !(fds[i].events & IN_EVENTS))
			continue;
		entry = pl_fd_entry(fds[i].fd);
		if (found && PL_ENTRY_KIND(entry) != PL_UNKNOWN &&
		    PL_ENTRY_KIND(entry) != PL_EPOLL &&
		    (PL_ENTRY_KIND(entry) != PL_STREAM || pl_stream_waits_already(entry)))
			continue;
		/* Another thread may add a stream to it while we sleep. */
		if (PL_ENTRY_KIND(entry) == PL_EPOLL) {
			pl_epset_exact(PL_ENTRY_INDEX(entry));
			pl_epset_catch_up(PL_ENTRY_INDEX(entry));
			found = true;
			continue;
		}
		/* A new one is on no ring, and the kernel's own until it is used. */
		if (PL_ENTRY_KIND(entry) != PL_STREAM && PL_ENTRY_KIND(entry) != PL_UNKNOWN)
			continue;
		s = pl_stream_get(fds[i].fd);
		if (!s)
			continue;
		pl_stream_waits(s, fds[i].fd);
		/* A stream that is on TCP now may be moved by another thread while we sleep. */
		/* The kernel tells of the end of one that is lost. */
		found |= (pl_ready_follows(s) && !pl_stream_lost(s, fds[i].fd)) || pl_stashed(s);
		pl_stream_put(s);
	}
	return found;
}

/* What one look over the array found. */
struct look {
	int ready;	       /* entries with events */
	uint32_t awake;	       /* streams whose next bytes may come by ring */
	struct pl_stream *hot; /* one of those, for the spin; not counted: wait.c */
	struct pl_watch watch;
};

/*
 * Each entry that concerns a stream: visit() with a counted reference. The array's numbers are
 * looked up anew each time: another thread may close one meanwhile, as with the kernel.
 */
static struct look look(struct pollfd *fds, nfds_t n, bool fresh)
{
	struct look found = {0};
	nfds_t i;

	for (i = 0; i < n; i++) {
		short events = fds[i].events;
		struct pl_stream *s;
		uint64_t entry;

		if (fresh)
			fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		entry = pl_fd_entry(fds[i].fd);
		if (PL_ENTRY_KIND(entry) == PL_EPOLL) {
			if (pl_epset_awake_any(PL_ENTRY_INDEX(entry))) {
				found.awake++;
				pl_watch_all(&found.watch);
				if ((events & IN_EVENTS) &&
				    pl_epset_ready_any(PL_ENTRY_INDEX(entry)))
					fds[i].revents |= events & IN_EVENTS;
			}
		} else if (PL_ENTRY_KIND(entry) == PL_STREAM) {
			s = pl_stream_get(fds[i].fd);
			if (s && (events & IN_EVENTS) && pl_stash_ready(s))
				fds[i].revents |= events & IN_EVENTS;
			if (s && pl_ready_follows(s)) {
				const uint64_t *word = &s->rx.shared->ctl;
				const uint64_t ctl = shmt_load_relaxed(word);

				if ((events & IN_EVENTS) && SHMT_CTL_MODE(ctl) != SHMT_TCP) {
					found.awake++;
					found.hot = s;
					pl_watch_add(&found.watch, word, ctl);
					if (pl_ready_now(s))
						fds[i].revents |= events & IN_EVENTS;
				}
				if (events & (POLLOUT | POLLWRNORM)) {
					pl_watch_all(&found.watch);
					if (pl_ready_writable(s))
						fds[i].revents |= events & (POLLOUT | POLLWRNORM);
				}
			}
			if (s)
				pl_stream_put(s);
		}
		found.ready += fds[i].revents != 0;
	}
	return found;
}

/* The kernel's part without waiting; events that we know of are put on top of its answer. */
static int kernel_pass(struct pollfd *fds, nfds_t n, const sigset_t *mask)
{
	const struct timespec zero = {0};
	int rc = pl_real.ppoll(fds, n, &zero, mask);

	last_pass_ns = pl_now_ns();
	return rc < 0 ? -errno : look(fds, n, false).ready;
}

/* Nothing may be missed asleep: false: something is ready after all. */
static bool settle_all(struct pollfd *fds, nfds_t n)
{
	bool may_sleep = true;
	nfds_t i;

	for (i = 0; i < n; i++) {
		struct pl_stream *s;
		uint64_t entry;

		if (fds[i].fd < 0 || !(fds[i].events & IN_EVENTS))
			continue;
		entry = pl_fd_entry(fds[i].fd);
		if (PL_ENTRY_KIND(entry) == PL_EPOLL && !pl_epset_settle(PL_ENTRY_INDEX(entry)))
			may_sleep = false;
		if (PL_ENTRY_KIND(entry) != PL_STREAM)
			continue;
		s = pl_stream_get(fds[i].fd);
		if (!s)
			continue;
		if (pl_ready_follows(s) && !pl_ready_settle(s))
			may_sleep = false;
		if (pl_stash_ready(s)) /* the agent may have settled it, too */
			may_sleep = false;
		pl_stream_put(s);
	}
	return may_sleep;
}

static int sleep_in_kernel(struct pollfd *fds, nfds_t n, uint64_t until_ns, const sigset_t *mask)
{
	struct pollfd on_stack[ON_STACK], *copy = fds;
	const size_t bytes = (n + 1) * sizeof(*copy);
	struct timespec left, *timeout = NULL;
	struct waiter *w = NULL;
	uint64_t now;
	int rc;

	if (!__libc_single_threaded && (w = take_waiter())) {
		copy = n < ON_STACK ? on_stack
				    : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (copy == MAP_FAILED) {
			drop_waiter(w);
			return -ENOMEM;
		}
		memcpy(copy, fds, n * sizeof(*fds));
		copy[n] = (struct pollfd){.fd = w->event_fd, .events = POLLIN};
	}
	rc = 0;
	pl_poll_sleep(1);
	pl_gate_look();
	if (settle_all(fds, n)) {
		if (until_ns != PL_FOREVER) {
			now = pl_now_ns();
			now = until_ns > now ? until_ns - now : 0;
			left = (struct timespec){(time_t)(now / 1000000000u),
						 (long)(now % 1000000000u)};
			timeout = &left;
		}
		{
			PL_ASLEEP;
			rc = pl_real.ppoll(copy, n + (w != NULL), timeout, mask);
		}
		rc = rc < 0 ? -errno : rc;
	}
	pl_poll_sleep(-1);
	last_pass_ns = pl_now_ns();
	if (w) {
		nfds_t i;

		if (rc > 0 && copy[n].revents)
			rc--;
		for (i = 0; i < n; i++)
			fds[i].revents = copy[i].revents;
		if (copy != on_stack)
			munmap(copy, bytes);
		drop_waiter(w);
	}
	return rc;
}

/* While some stream is awake: look for a while, the kernel's descriptors in between. */
static int spin(struct pollfd *fds, nfds_t n, struct look *found)
{
	struct pl_stream *const hot = found->hot;
	struct pl_spin spinning;
	int ready = 0;

	pl_spin_begin(hot, &spinning, found->awake);
	while (!ready && pl_spin_more(&spinning)) {
		if (!pl_watch_changed(&found->watch, &spinning))
			continue;
		*found = look(fds, n, true);
		ready = found->ready;
		if (!ready && (spinning.turns & 31) == 0 &&
		    pl_since_ns(last_pass_ns, spinning.now_ns) > PASS_NS)
			ready = kernel_pass(fds, n, NULL);
	}
	/* It may have given way until now. */
	if (!ready && spinning.until_ns)
		ready = look(fds, n, true).ready;
	pl_spin_end(hot, &spinning, ready != 0);
	return ready;
}

static int wait_ready(struct pollfd *fds, nfds_t n, uint64_t timeout_ns, const sigset_t *mask)
{
	const uint64_t begun = pl_now_ns();
	const uint64_t until =
		timeout_ns > PL_FOREVER - begun - 1 ? PL_FOREVER : begun + timeout_ns;
	struct look found;
	int rc;

	PL_IN_REGION;
	for (;;) {
		found = look(fds, n, true);
		if (found.ready && pl_since_ns(last_pass_ns, begun) <= PASS_NS)
			return found.ready;
		if (found.ready || timeout_ns == 0) {
			rc = kernel_pass(fds, n, mask);
			/* Nothing after all: another thread has taken it meanwhile. */
			if (rc || timeout_ns == 0)
				return rc;
		}
		if (found.hot) {
			rc = spin(fds, n, &found);
			if (rc)
				return rc;
		}
		rc = sleep_in_kernel(fds, n, until, mask);
		if (rc < 0)
			return rc;
		found = look(fds, n, false);
		if (found.ready)
			return found.ready;
		if (until != PL_FOREVER && pl_now_ns() >= until)
			return 0;
		/* Something became ready in user space between the look and the settling. */
	}
}

/* The array, while a full ring is waited for. */
struct pause {
	struct pollfd *fds;
	nfds_t n;
};

static bool only_writable(const struct pollfd *fds, nfds_t n)
{
	nfds_t i;

	for (i = 0; i < n; i++)
		if (fds[i].revents & ~(POLLOUT | POLLWRNORM))
			return false;
	return true;
}

static bool readable(const void *arg)
{
	const struct pause *pause = arg;

	(void)look(pause->fds, pause->n, false);
	return !only_writable(pause->fds, pause->n);
}

int pl_pollset_wait(struct pollfd *fds, nfds_t n, uint64_t timeout_ns, const sigset_t *mask)
{
	const struct pause pause = {fds, n};
	int rc = wait_ready(fds, n, timeout_ns, mask);

	if (rc > 0 && timeout_ns && pl_tx_full_lately() && only_writable(fds, n)) {
		PL_IN_REGION;
		pl_tx_pause(readable, &pause);
		rc = look(fds, n, false).ready;
	}
	return rc;
}
