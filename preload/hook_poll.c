/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_poll.c - poll, select and epoll: the kernel's own call unless a stream of ours is concerned
 */
#include "hook.h"

#include <limits.h>

#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "epset.h"
#include "pollset.h"
#include "sandbox.h"

static uint64_t ms_to_ns(int ms)
{
	return ms < 0 ? PL_FOREVER : (uint64_t)ms * 1000000u;
}

static bool timespec_to_ns(const struct timespec *t, uint64_t *ret)
{
	*ret = PL_FOREVER;
	if (!t)
		return true;
	if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= 1000000000)
		return false;
	if ((uint64_t)t->tv_sec < PL_FOREVER / 2000000000u)
		*ret = (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
	return true;
}

/* How many have what a sandboxed process has taken along; 0: go on */
static int taken_along(struct pollfd *fds, nfds_t n)
{
	return PL_UNLIKELY(pl_sandbox_left) && fds ? pl_sandbox_poll(fds, n) : 0;
}

static bool concerns(const struct pollfd *fds, nfds_t n)
{
	const int saved = errno;
	const bool found = pl_enter() && fds && pl_pollset_concerns(fds, n);

	errno = saved;
	return found;
}

PL_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	const int entry_errno = errno;

	if (!concerns(fds, n)) {
		const int ready = taken_along(fds, n);

		return ready ? ready : pl_real.poll(fds, n, timeout);
	}
	return (int)pl_return(pl_pollset_wait(fds, n, ms_to_ns(timeout), NULL), entry_errno);
}

PL_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof(*fds) < n) {
		pl_enter();
		return pl_real.__poll_chk(fds, n, timeout, size);
	}
	return poll(fds, n, timeout);
}

PL_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		    const sigset_t *mask)
{
	const int entry_errno = errno;
	uint64_t ns;

	if (!concerns(fds, n) || !timespec_to_ns(timeout, &ns)) {
		const int ready = taken_along(fds, n);

		return ready ? ready : pl_real.ppoll(fds, n, timeout, mask);
	}
	return (int)pl_return(pl_pollset_wait(fds, n, ns, mask), entry_errno);
}

PL_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			  const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < n) {
		pl_enter();
		return pl_real.__ppoll_chk(fds, n, timeout, mask, size);
	}
	return ppoll(fds, n, timeout, mask);
}

/* ---- select ------------------------------------------------------------------------------------
 */

/* What the kernel's select() means by its three sets (fs/select.c). */
#define SELECT_IN	(POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT	(POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX	POLLPRI
#define SELECT_ON_STACK 64

/* The caller's sets may be longer than fd_set: words, never FD_ISSET, which is checked when
 * fortified. */
static bool in_set(const fd_set *set, int fd)
{
	return set && ((const unsigned long *)set)[fd / __NFDBITS] >> (fd % __NFDBITS) & 1;
}

static void put_in_set(fd_set *set, int fd)
{
	((unsigned long *)set)[fd / __NFDBITS] |= 1ul << (fd % __NFDBITS);
}

static int count_sets(int n, const fd_set *in, const fd_set *out, const fd_set *ex)
{
	int fd, count = 0;

	for (fd = 0; fd < n; fd++)
		count += in_set(in, fd) || in_set(out, fd) || in_set(ex, fd);
	return count;
}

static void fill_array(struct pollfd *fds, int n, const fd_set *in, const fd_set *out,
		       const fd_set *ex)
{
	int fd;

	for (fd = 0; fd < n; fd++) {
		const short events = (short)((in_set(in, fd) ? POLLIN | POLLRDNORM : 0) |
					     (in_set(out, fd) ? POLLOUT | POLLWRNORM : 0) |
					     (in_set(ex, fd) ? POLLPRI : 0));

		if (events)
			*fds++ = (struct pollfd){.fd = fd, .events = events};
	}
}

static void clear_set(fd_set *set, int n)
{
	if (set)
		memset(set, 0, (size_t)((n + __NFDBITS - 1) / __NFDBITS) * sizeof(long));
}

static int fill_sets(const struct pollfd *fds, int count, int n, fd_set *in, fd_set *out,
		     fd_set *ex)
{
	int i, bits = 0;

	clear_set(in, n);
	clear_set(out, n);
	clear_set(ex, n);
	for (i = 0; i < count; i++) {
		const int fd = fds[i].fd, revents = fds[i].revents;

		if ((fds[i].events & POLLIN) && (revents & SELECT_IN))
			put_in_set(in, fd), bits++;
		if ((fds[i].events & POLLOUT) && (revents & SELECT_OUT))
			put_in_set(out, fd), bits++;
		if ((fds[i].events & POLLPRI) && (revents & SELECT_EX))
			put_in_set(ex, fd), bits++;
	}
	return bits;
}

/* Return: -ENOTSUP: the real call is the right one */
static int select_streams(int n, fd_set *in, fd_set *out, fd_set *ex, uint64_t timeout_ns,
			  const sigset_t *mask)
{
	struct pollfd on_stack[SELECT_ON_STACK], *fds = on_stack;
	const uint64_t begun = pl_now_ns();
	uint64_t left;
	size_t bytes;
	int count, rc;

	if (n <= 0 || n > PL_FD_MAX || (!pl_enter() && !pl_sandbox_left))
		return -ENOTSUP;
	count = count_sets(n, in, out, ex);
	if (PL_UNLIKELY(pl_sandbox_left)) {
		if (count > SELECT_ON_STACK)
			return -ENOTSUP;
		fill_array(fds, n, in, out, ex);
		return pl_sandbox_poll(fds, (nfds_t)count) ? fill_sets(fds, count, n, in, out, ex)
							   : -ENOTSUP;
	}
	bytes = (size_t)count * sizeof(*fds);
	if (count > SELECT_ON_STACK) {
		fds = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (fds == MAP_FAILED)
			return -ENOTSUP;
	}
	fill_array(fds, n, in, out, ex);
	rc = -ENOTSUP;
	if (count && pl_pollset_concerns(fds, (nfds_t)count)) {
		for (;;) {
			const uint64_t gone = pl_now_ns() - begun;
			int i, bits;

			left = timeout_ns == PL_FOREVER ? PL_FOREVER
			       : timeout_ns > gone	? timeout_ns - gone
							: 0;
			rc = pl_pollset_wait(fds, (nfds_t)count, left, mask);
			if (rc < 0)
				break;
			for (i = 0; i < count; i++)
				if (fds[i].revents & POLLNVAL)
					rc = -EBADF;
			if (rc < 0)
				break;
			/* A hang-up that only poll() reports is nothing to select(). */
			bits = fill_sets(fds, count, n, in, out, ex);
			if (rc == 0 || left == 0 || bits > 0) {
				rc = bits;
				break;
			}
		}
	}
	if (fds != on_stack)
		munmap(fds, bytes);
	return rc;
}

static uint64_t left_of(uint64_t timeout_ns, uint64_t begun)
{
	const uint64_t gone = pl_now_ns() - begun;

	return timeout_ns > gone ? timeout_ns - gone : 0;
}

PL_EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *ex, struct timeval *timeout)
{
	const int entry_errno = errno;
	const uint64_t begun = pl_now_ns();
	uint64_t ns = PL_FOREVER, left;
	int rc = -ENOTSUP;

	const bool sane = !timeout || (timeout->tv_sec >= 0 && timeout->tv_usec >= 0);

	if (timeout && sane && timeout->tv_sec < INT32_MAX)
		ns = (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_usec * 1000u;
	if (sane)
		rc = select_streams(n, in, out, ex, ns, NULL);
	if (rc == -ENOTSUP) {
		errno = entry_errno;
		pl_enter();
		return pl_real.select(n, in, out, ex, timeout);
	}
	if (timeout && ns != PL_FOREVER) { /* Linux tells how much is left */
		left = left_of(ns, begun);
		timeout->tv_sec = (time_t)(left / 1000000000u);
		timeout->tv_usec = (suseconds_t)(left % 1000000000u / 1000u);
	}
	return (int)pl_return(rc, entry_errno);
}

PL_EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *ex, const struct timespec *timeout,
		      const sigset_t *mask)
{
	const int entry_errno = errno;
	int rc = -ENOTSUP;
	uint64_t ns;

	if (timespec_to_ns(timeout, &ns))
		rc = select_streams(n, in, out, ex, ns, mask);
	if (rc == -ENOTSUP) {
		errno = entry_errno;
		pl_enter();
		return pl_real.pselect(n, in, out, ex, timeout, mask);
	}
	return (int)pl_return(rc, entry_errno);
}

/* ---- epoll -------------------------------------------------------------------------------------
 */

static int fresh_set(int fd)
{
	const int saved = errno;

	if (fd >= 0 && pl_owner()) {
		pl_stream_fresh(fd);
		(void)pl_epset_make(fd);
		errno = saved;
	}
	return fd;
}

PL_EXPORT int epoll_create(int size)
{
	pl_enter();
	return fresh_set(pl_real.epoll_create(size));
}

PL_EXPORT int epoll_create1(int flags)
{
	pl_enter();
	return fresh_set(pl_real.epoll_create1(flags));
}

/*
 * An item that we have taken from the kernel (epwait.c): the program knows it as a disarmed one,
 * also if it was another process that did so.
 */
static int ctl_of_quiet(int epfd, int op, int fd, struct epoll_event *event, int rc)
{
	if (rc == 0 || errno != ENOENT || op == EPOLL_CTL_ADD || !pl_epset_knows(epfd, fd, false))
		return rc;
	if (op == EPOLL_CTL_DEL)
		return 0;
	rc = pl_real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, event);
	if (rc && errno == EEXIST) /* another thread was faster */
		rc = pl_real.epoll_ctl(epfd, op, fd, event);
	return rc;
}

PL_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	const int entry_errno = errno;
	const bool ours = pl_owner();
	int rc;

	if (ours && pl_epset_defer(epfd, op, fd, event)) {
		errno = entry_errno;
		return 0;
	}
	if (ours && pl_epset_of(epfd) >= 0)
		(void)pl_epset_flush((uint32_t)pl_epset_of(epfd));
	/* A set inside another one is looked at by the kernel alone. */
	if (ours && pl_epset_of(fd) >= 0)
		pl_epset_exact((uint32_t)pl_epset_of(fd));
	if (ours && op == EPOLL_CTL_ADD && event && pl_epset_knows(epfd, fd, true)) {
		errno = EEXIST;
		return -1;
	}
	rc = pl_real.epoll_ctl(epfd, op, fd, event);
	if (ours)
		rc = ctl_of_quiet(epfd, op, fd, event, rc);
	if (rc == 0 && ours) {
		pl_epset_ctl(epfd, op, fd, event);
		errno = entry_errno;
	}
	return rc;
}

/* false: the real call is the right one */
static bool epoll_served(int epfd, struct epoll_event *events, int max, uint64_t timeout_ns,
			 const sigset_t *mask, int *ret_rc)
{
	const int entry_errno = errno;
	int set;

	/* The kernel refuses so many that their size would overflow. */
	if (!pl_enter() || !events || max <= 0 || max > INT_MAX / (int)sizeof(*events))
		return false;
	set = pl_epset_of(epfd);
	if (set < 0 && timeout_ns) {
		/* Made out of our sight. What is no set at all the kernel says here. */
		*ret_rc = pl_real.epoll_pwait(epfd, events, max, 0, mask);
		if (*ret_rc)
			return true;
		set = pl_owner() ? pl_epset_make(epfd) : -1;
		errno = entry_errno;
	}
	if (set < 0)
		return false;
	*ret_rc = (int)pl_return(pl_epset_wait((uint32_t)set, epfd, events, max, timeout_ns, mask),
				 entry_errno);
	return true;
}

PL_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	int rc;

	return epoll_served(epfd, events, max, ms_to_ns(timeout), NULL, &rc)
		       ? rc
		       : pl_real.epoll_wait(epfd, events, max, timeout);
}

PL_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
			  const sigset_t *mask)
{
	int rc;

	return epoll_served(epfd, events, max, ms_to_ns(timeout), mask, &rc)
		       ? rc
		       : pl_real.epoll_pwait(epfd, events, max, timeout, mask);
}

PL_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
			   const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t ns;
	int rc;

	return timespec_to_ns(timeout, &ns) && epoll_served(epfd, events, max, ns, mask, &rc)
		       ? rc
		       : pl_real.epoll_pwait2(epfd, events, max, timeout, mask);
}
