/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rx_kernel.c - what a receive takes from the kernel, without a limit and with one
 */
#include <errno.h>

#include "ready.h"
#include "rx_call.h"

ssize_t pl_rx_kernel(struct pl_rx_call *c, size_t limit, int flags)
{
	struct iovec slice[PL_RX_SLICES];
	struct msghdr msg = {.msg_iov = slice};
	ssize_t n;

	PL_ASLEEP;
	if (c->done == 0 && limit >= c->v->total && c->msg) {
		n = pl_real.recvmsg(c->fd, c->msg, flags);
		c->msg_filled = n >= 0;
	} else {
		if (c->done == 0 && limit >= c->v->total) {
			msg.msg_iov = (struct iovec *)(uintptr_t)c->v->iov;
			msg.msg_iovlen = c->v->n;
		} else {
			msg.msg_iovlen = pl_vec_slice(c->v, c->done, limit, slice, PL_RX_SLICES);
		}
		if (msg.msg_iovlen <= 1)
			n = pl_real.recv(c->fd, msg.msg_iovlen ? msg.msg_iov->iov_base : NULL,
					 msg.msg_iovlen ? msg.msg_iov->iov_len : 0, flags);
		else
			n = pl_real.recvmsg(c->fd, &msg, flags);
	}
	return n < 0 ? -errno : n;
}

void pl_rx_count_tcp(const struct pl_rx_call *c, ssize_t n)
{
	struct coloc_record_rx_shared *rx = &c->s->rec->rx;

	if (n > 0 && !(c->flags & MSG_PEEK)) {
		shmt_count(&rx->tcp_bytes, (uint64_t)n);
		shmt_count(&rx->messages, 1);
	}
}

/*
 * The kernel's bytes before those of the ring, or the stash. While several processes receive, the
 * last of them is given to the program and left where it is (holders.c). Return: how many now
 */
static size_t limit_of(const struct pl_rx_call *c, uint64_t missing, bool *ret_hold)
{
	const bool hold = pl_stream_several(c->s) && !(c->flags & MSG_PEEK);
	const size_t room = c->v->total - c->done;

	*ret_hold = hold && missing == 1;
	missing -= hold && missing > 1;
	return missing < room ? missing : room;
}

/* @n bytes of those are the program's, or an error. Return: @n */
static ssize_t took(const struct pl_rx_call *c, ssize_t n, bool hold)
{
	pl_rx_count_tcp(c, n);
	if (n <= 0 || (c->flags & MSG_PEEK))
		return n;
	if (hold)
		shmt_store(&c->s->rec->rx.held, 1);
	if (pl_ready_follows(c->s))
		shmt_rx_took(&c->s->rx, (size_t)n);
	return n;
}

/* Under the lock, but they are certain to come. */
static ssize_t wait_for_certain(struct pl_rx_call *c, size_t limit, int flags)
{
	ssize_t n;

	pl_undo_push(PL_UNDO_LOCK, &c->s->rec->rx.lock);
	n = pl_rx_kernel(c, limit, flags);
	pl_undo_pop();
	return n;
}

ssize_t pl_rx_limited(struct pl_rx_call *c, uint64_t missing, bool certain)
{
	bool hold;
	const size_t limit = limit_of(c, missing, &hold);
	const int flags = (c->flags & ~MSG_WAITALL) | (hold ? MSG_PEEK : 0);
	ssize_t n;

	n = pl_rx_kernel(c, limit, flags | MSG_DONTWAIT);
	if (n == -EAGAIN) {
		/* Somebody may have read behind our back (stdio, a raw system call). */
		if (pl_stream_resync(c->s, c->fd))
			return -ESTALE;
		if (c->nonblock || !certain)
			return -EAGAIN;
		n = wait_for_certain(c, limit, flags);
	}
	return took(c, n, hold);
}

ssize_t pl_rx_before_stash(struct pl_rx_call *c, uint64_t missing)
{
	bool hold;
	const size_t limit = limit_of(c, missing, &hold);
	const int flags = (c->flags & ~MSG_WAITALL) | (hold ? MSG_PEEK : 0) |
			  (c->nonblock ? MSG_DONTWAIT : 0);

	return took(c, wait_for_certain(c, limit, flags), hold);
}
