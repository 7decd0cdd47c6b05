/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "epset.h"
#include "hook.h"
#include "ready.h"

#define PIECE 65536u
#define MOST  64u

unsigned int pl_sandbox_left;
bool pl_sandboxed;

static struct left {
	int fd;
	char *bytes;
	size_t at, end;
} lefts[MOST];

/* Unread, or certain to come. */
static bool is_due(struct pl_stream *s)
{
	uint64_t ctl;

	PL_IN_REGION;
	if (pl_stashed(s))
		return true;
	if (!pl_ready_follows(s))
		return false;
	ctl = shmt_load(&s->rx.shared->ctl);
	return SHMT_CTL_MODE(ctl) != SHMT_TCP &&
	       (shmt_rx_avail(&s->rx, ctl, shmt_load(&s->rx.shared->tail)) > 0 ||
		shmt_rx_missing(&s->rx) > 0);
}

/* What is certain to come is waited for: the filter may forbid to ask for it. */
static void take_along(struct pl_stream *s, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct left *left = &lefts[pl_sandbox_left];
	ssize_t n;

	if (pl_sandbox_left == MOST)
		return;
	*left = (struct left){.fd = fd};
	while (is_due(s)) {
		char *more = realloc(left->bytes, left->end + PIECE);
		const struct iovec iov = {more ? more + left->end : NULL, PIECE};
		struct pl_vec v;

		if (!more)
			break;
		left->bytes = more;
		(void)pl_vec_one(&v, &iov, 0);
		n = pl_rx(s, fd, &v, MSG_DONTWAIT, NULL);
		if (n > 0)
			left->end += (size_t)n;
		else if (n != -EAGAIN)
			break;
		else
			(void)pl_real.poll(&p, 1, 10);
	}
	{
		PL_IN_REGION;
		if (pl_ready_follows(s))
			(void)pl_ready_settle(s);
	}
	pl_sandbox_left += left->end > 0;
}

void pl_sandbox_enter(void)
{
	const int saved = errno;
	uint32_t top, fd;

	if (pl_owner()) {
		top = shmt_load(&pl_fdtable_top);
		for (fd = 0; fd < top; fd++) {
			struct pl_stream *s;

			if (PL_ENTRY_KIND(pl_fd_entry((int)fd)) != PL_STREAM ||
			    !(s = pl_stream_get((int)fd)))
				continue;
			pl_stream_sandbox(s, (int)fd);
			(void)pl_tx_leave(s, (int)fd, false);
			take_along(s, (int)fd);
			pl_stream_put(s);
		}
		pl_epset_exact_all();
		pl_sandboxed = true;
		shmt_store(&pl.enabled, 0);
	}
	errno = saved;
}

static void share_visit(struct pl_stream *s, int fd)
{
	(void)fd;
	shmt_or(&s->rec->flags, COLOC_RECORD_STAYS);
	pl_stream_strangers(s);
}

void pl_sandbox_share_slow(void)
{
	pl_streams_each(share_visit);
}

static struct left *find(int fd)
{
	unsigned int i;

	for (i = 0; i < pl_sandbox_left; i++)
		if (lefts[i].fd == fd)
			return &lefts[i];
	return NULL;
}

void pl_sandbox_forget(int fd)
{
	struct left *left = find(fd);

	if (!left)
		return;
	/* Not freed: a signal handler may close, too. */
	*left = lefts[--pl_sandbox_left];
}

ssize_t pl_sandbox_take(int fd, const struct iovec *iov, size_t n, int flags)
{
	struct left *left = find(fd);
	size_t at, len, i, done = 0;

	if (!left || (flags & (MSG_OOB | MSG_ERRQUEUE)))
		return -ENOTSUP;
	at = left->at;
	for (i = 0; i < n && at < left->end; i++) {
		len = left->end - at < iov[i].iov_len ? left->end - at : iov[i].iov_len;
		memcpy(iov[i].iov_base, left->bytes + at, len);
		at += len;
		done += len;
	}
	if (!(flags & MSG_PEEK)) {
		left->at = at;
		if (at == left->end)
			pl_sandbox_forget(fd);
	}
	return (ssize_t)done;
}

int pl_sandbox_poll(struct pollfd *fds, nfds_t n)
{
	int ready = 0;
	nfds_t i;

	for (i = 0; i < n; i++)
		ready += (fds[i].events & (POLLIN | POLLRDNORM)) && find(fds[i].fd);
	for (i = 0; ready && i < n; i++)
		fds[i].revents = find(fds[i].fd) ? fds[i].events & (POLLIN | POLLRDNORM) : 0;
	return ready;
}
