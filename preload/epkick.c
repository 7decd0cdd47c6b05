/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epkick.c - threads of this process that sleep in epoll sets, and how they are woken
 *
 * An always-readable eventfd is re-armed (ONESHOT) in a sleeper's set, which makes the kernel look
 * again; its event carries KICK_DATA and is never reported.
 */
#include "epset_items.h"

#include <errno.h>

#include "lock.h"

static int kick_fd;	  /* atomic; 0 = not made */
static uint32_t sleeping; /* atomic; threads asleep in any set */

void pl_ep_kick_forked(void)
{
	sleeping = 0;
}

void pl_epset_sleep(uint32_t number, int sleepers)
{
	shmt_add(&pl_ep_sets[number].sleepers, (uint32_t)sleepers);
	shmt_add(&sleeping, (uint32_t)sleepers);
}

/* Whoever sleeps anywhere may do so in a set that this one is in. */
bool pl_ep_sleepers(const struct pl_ep_set *set)
{
	return shmt_load(&set->sleepers) || (shmt_load(&set->inside) && shmt_load(&sleeping));
}

bool pl_epset_sleepers(struct pl_stream *s)
{
	uint32_t n;

	/* Items are never unmapped; a list that changes under us belongs to an epoll_ctl under way,
	 * which looks at the stream itself when it is done. */
	for (n = shmt_load(&s->items); n; n = shmt_load_relaxed(&pl_ep_items[n - 1].next))
		if (pl_ep_sleepers(&pl_ep_sets[pl_ep_items[n - 1].set]))
			return true;
	return false;
}

void pl_ep_kick(struct pl_ep_set *set)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = KICK_DATA};
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
	const enum pl_lock_result lock = pl_lock(&pl_ep_items_lock);
	uint32_t n;

	for (n = s->items; n; n = pl_ep_items[n - 1].next)
		if (pl_ep_sleepers(&pl_ep_sets[pl_ep_items[n - 1].set]))
			pl_ep_kick(&pl_ep_sets[pl_ep_items[n - 1].set]);
	pl_unlock(&pl_ep_items_lock, lock);
}

bool pl_epset_own_fd(int fd)
{
	return fd && fd == shmt_load_relaxed(&kick_fd);
}

bool pl_epset_vacate(int fd)
{
	return !pl_epset_own_fd(fd) || pl_fd_vacate(&kick_fd, fd);
}
