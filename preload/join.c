/* SPDX-License-Identifier: Apache-2.0 */
/*
 * join.c - on to a ring: is the stream worth one, ask for it, take the grant up; and why it stays
 */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>

#include "agent_proto.h"
#include "clock.h"
#include "lock.h"
#include "log.h"
#include "pairing.h"
#include "stream.h"

/* tcpi_state; the kernel's include/net/tcp_states.h is not for programs, netinet/tcp.h clashes here
 */
enum { TCP_TIME_WAIT = 6, TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8, TCP_LAST_ACK = 9, TCP_CLOSING = 11 };

static uint64_t attach_lock; /* one at a time, so that a stream is mapped once */

void pl_join_forked(void)
{
	attach_lock = 0;
}

/* ---- facts from the kernel ---------------------------------------------------------------------
 */

int pl_stream_bytes(int fd, uint64_t *ret_read, uint64_t *ret_sent)
{
	struct tcp_info before, info;
	socklen_t len = sizeof(info);
	int queued;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	if (ret_sent)
		*ret_sent =
			info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
	while (ret_read) {
		before = info;
		if (pl_real.ioctl(fd, SIOCINQ, &queued) < 0 ||
		    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return -errno;
		if (info.tcpi_bytes_received != before.tcpi_bytes_received ||
		    info.tcpi_state != before.tcpi_state)
			continue;
		if (info.tcpi_state == TCP_CLOSE)
			return -ENOTCONN; /* whether a FIN was counted is not known any more */
		*ret_read = info.tcpi_bytes_received - (uint64_t)queued;
		/* An end that has come is counted as a byte (tests/platform/assume_bytes_read.c).
		 */
		if (info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_LAST_ACK ||
		    info.tcpi_state == TCP_CLOSING || info.tcpi_state == TCP_TIME_WAIT)
			*ret_read -= 1;
		break;
	}
	return 0;
}

bool pl_stream_resync(struct pl_stream *s, int fd)
{
	uint64_t consumed;

	if (shmt_load(&s->rx.shared->in_kernel) != 0 || pl_stream_bytes(fd, &consumed, NULL) < 0 ||
	    consumed <= shmt_load(&s->rx.shared->tcp_read))
		return false;
	shmt_rx_took(&s->rx, consumed - shmt_load(&s->rx.shared->tcp_read));
	shmt_add_relaxed(&pl.local->totals.bypasses, 1);
	return true;
}

bool pl_stream_recount(struct pl_stream *s, int fd)
{
	struct shmt_dir_shared *rx = s->rx.shared;
	const uint64_t tcp_read = shmt_load(&rx->tcp_read);
	uint64_t consumed;

	/*
	 * Who is out again has changed tcp_read, who is inside is seen before or after, and who
	 * comes later adds what is not in the count.
	 */
	return SHMT_CTL_MODE(shmt_load(&rx->ctl)) == SHMT_TCP && !shmt_load(&rx->in_kernel) &&
	       pl_stream_bytes(fd, &consumed, NULL) == 0 && consumed >= tcp_read &&
	       !shmt_load(&rx->in_kernel) && shmt_cas(&rx->tcp_read, tcp_read, consumed);
}

int pl_stream_evidence(int fd, struct shmt_evidence *ret)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(ret, 0, sizeof(*ret));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	ret->bytes_received = info.tcpi_bytes_received;
	ret->bytes_acked = info.tcpi_bytes_acked;
	ret->snd_wscale = info.tcpi_snd_wscale;
	ret->rcv_wscale = info.tcpi_rcv_wscale;
	ret->valid = 1;
	return 0;
}

/* ---- on to a ring ------------------------------------------------------------------------------
 */

/* The agent gives reasons, too: they are said when the stream is used next. */
static void say_reason(struct pl_stream *s)
{
	const uint32_t reason = shmt_load_relaxed(&s->rec->reason);

	if (shmt_load_relaxed(&s->said_reason) == reason)
		return;
	shmt_store_relaxed(&s->said_reason, reason);
	if (reason != COLOC_REASON_NONE)
		pl_log(1, "stream of port %u to %u stays on TCP: %s (%s)", s->rec->local.port,
		       s->rec->remote.port, coloc_reason_text(reason), coloc_reason_name(reason));
}

void pl_stream_reason(struct pl_stream *s, enum coloc_reason reason)
{
	if (shmt_load_relaxed(&s->rec->reason) == reason)
		return;
	shmt_store_relaxed(&s->rec->reason, reason);
	if (reason != COLOC_REASON_NONE)
		shmt_add_relaxed(&pl.local->totals.reasons[reason], 1);
	say_reason(s);
}

void pl_stream_reason_now(struct pl_stream *s)
{
	const uint32_t flags = shmt_load(&s->rec->flags);

	if (flags & COLOC_RECORD_STAYS)
		return;
	pl_stream_reason(s, flags & COLOC_RECORD_SANDBOXED	 ? COLOC_REASON_SANDBOX
			    : flags & COLOC_RECORD_STANDARD	 ? COLOC_REASON_STDIO
			    : flags & COLOC_RECORD_RECEIVERS	 ? COLOC_REASON_RECEIVERS
			    : shmt_load(&s->rec->rx.attach) == 2 ? COLOC_REASON_NONE
								 : COLOC_REASON_BELOW_THRESHOLD);
}

void pl_stream_stay(struct pl_stream *s, enum coloc_reason reason)
{
	PL_IN_REGION;
	shmt_or(&s->rec->flags, COLOC_RECORD_STAYS);
	pl_stream_reason(s, reason);
	if (pl_attached(s)) {
		shmt_or(&s->tx.shared->flags, SHMT_DIR_STOPPED);
		shmt_rx_refuse(&s->rx);
	}
}

static bool worth_a_ring(struct pl_stream *s)
{
	const struct coloc_record_shared *rec = s->rec;
	const uint64_t bytes =
		shmt_load_relaxed(&rec->tx.tcp_bytes) + shmt_load_relaxed(&rec->rx.tcp_bytes);
	const uint64_t messages =
		shmt_load_relaxed(&rec->tx.messages) + shmt_load_relaxed(&rec->rx.messages);
	const uint64_t worth = (uint64_t)pl_setting(switch_bytes);
	const uint64_t size = (uint64_t)pl_setting(switch_message_bytes);

	if (pl.policy == PL_POLICY_ALWAYS)
		return true;
	if (bytes >= worth && bytes >= messages * size)
		return true;
	/* Small messages: what a stream of these costs is their number. */
	return shmt_load_relaxed(&s->rate_ok) && messages >= worth / (size ? size : 1);
}

static void ask_for_ring(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;
	struct shmt_evidence mine;
	enum pl_lock_result lock;
	bool asked = false;

	if (shmt_load_relaxed(&pl.local->draining)) {
		pl_stream_reason(s, COLOC_REASON_DRAINING);
		return;
	}
	if (pl_stream_evidence(fd, &mine) < 0)
		return;
	/* One asks: the evidence is whole when the agent sees WANTED. */
	lock = pl_lock_try(&rec->tx.lock);
	if (lock != PL_LOCK_TAKEN)
		return;
	if (shmt_load(&rec->grant) == COLOC_GRANT_IDLE) {
		rec->evidence = mine;
		asked = shmt_cas(&rec->grant, COLOC_GRANT_IDLE, COLOC_GRANT_WANTED);
	}
	pl_unlock(&rec->tx.lock, lock);
	if (asked) {
		pl_stream_reason(s, COLOC_REASON_WAITING_PEER);
		pl_process_tell(COLOC_MSG_JOIN, (uint32_t)(s->rec - pl.records), s->generation);
	}
}

void pl_stream_account(struct pl_stream *s, int fd, ssize_t bytes)
{
	struct coloc_record_shared *rec = s->rec;
	const uint32_t grant = shmt_load_relaxed(&rec->grant);

	if (bytes <= 0)
		return;
	say_reason(s);
	if (PL_UNLIKELY(!pl_gate_attach()))
		pl_process_follow();
	if (PL_UNLIKELY(shmt_load_relaxed(&rec->flags) & COLOC_RECORD_SANDBOXED))
		pl_stream_sandbox_over(s, fd);
	if (grant >= COLOC_GRANT_GRANTED) {
		if (pl_stream_wants_attach(s))
			pl_stream_attach(s, fd);
		return;
	}
	if ((shmt_bump(&s->window_messages) & 63) == 0) {
		const uint64_t now = pl_now_ns();

		shmt_store_relaxed(&s->rate_ok,
				   now - shmt_load_relaxed(&s->window_ns) <
					   64 * 1000000000ull /
						   (uint64_t)pl_setting(switch_message_rate));
		shmt_store_relaxed(&s->window_ns, now);
	}
	if (grant != COLOC_GRANT_IDLE || (shmt_load_relaxed(&rec->flags) & COLOC_RECORD_ON_TCP) ||
	    shmt_load_relaxed(&pl.local->heartbeat) < shmt_load_relaxed(&rec->not_before))
		return;
	if (worth_a_ring(s))
		ask_for_ring(s, fd);
}

/* Options that were set before anybody knew that this is a stream; see also hook_fd.c. */
static bool plain_stream(int fd)
{
	static const struct {
		int level, name, most;
	} options[] = {
		{SOL_SOCKET, SO_RCVLOWAT, 1},	  {SOL_SOCKET, SO_OOBINLINE, 0},
		{SOL_SOCKET, SO_TIMESTAMP, 0},	  {SOL_SOCKET, SO_TIMESTAMPNS, 0},
		{SOL_SOCKET, SO_TIMESTAMPING, 0}, {SOL_SOCKET, SO_ZEROCOPY, 0},
		{SOL_SOCKET, SO_PEEK_OFF, -1},	  {IPPROTO_TCP, TCP_INQ, 0},
	};
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int value = 0;
		socklen_t len = sizeof(value);

		if (getsockopt(fd, options[i].level, options[i].name, &value, &len) == 0 &&
		    value > options[i].most)
			return false;
	}
	return true;
}

static void refuse_if_said(struct pl_stream *s)
{
	if (shmt_load(&s->rec->flags) & (COLOC_RECORD_ON_TCP | COLOC_RECORD_SHUT_RD |
					 COLOC_RECORD_RECEIVERS | COLOC_RECORD_STANDARD))
		shmt_rx_refuse(&s->rx);
}

/*
 * The receiving direction: from now on every receive follows the word. Receivers that began before
 * are counted in rx.unattached: while there are any, what was consumed from the kernel is not
 * known.
 */
static void attach_rx(struct pl_stream *s, int fd)
{
	struct coloc_record_rx_shared *rx = &s->rec->rx;
	const enum pl_lock_result lock = pl_lock_try(&rx->lock);
	uint64_t consumed;

	if (lock != PL_LOCK_TAKEN)
		return;
	if (pl_stashed(s)) /* first things first */
		goto unlock;
	if (!plain_stream(fd))
		pl_stream_stay(s, COLOC_REASON_SOCKET_OPTION);
	/* A1 pairs with A2 in rx.c: a receiver raises unattached, then looks at attach. */
	if (shmt_load(&rx->attach) != 2) {
		shmt_store(&rx->attach, 1);
		if (shmt_load(&rx->unattached) == 0 && pl_stream_bytes(fd, &consumed, NULL) == 0) {
			(void)pl_stream_evidence(fd, &s->seg->end[s->side].evidence);
			/* Before, too: neither stdio nor a sandboxed process looks at a ring. */
			refuse_if_said(s);
			shmt_rx_attach(&s->rx, consumed);
			refuse_if_said(s);
			shmt_store(&rx->attach, 2);
			pl_stream_reason_now(s);
			pl_log(1, "stream of port %u to %u is attached to segment %u",
			       s->rec->local.port, s->rec->remote.port, s->rec->seg);
		} else {
			shmt_store(&rx->attach, 0);
		}
	}
unlock:
	pl_unlock(&rx->lock, lock);
}

/* Every number comes from the other side of a trust line: checked before it becomes a pointer. */
static int map_segment(struct pl_stream *s)
{
	struct coloc_record_shared *rec = s->rec;
	struct shmt_seg_shared *seg = shmt_region_seg(&pl.region, rec->seg);
	const uint32_t side = rec->side & 1;
	uint64_t ring_bytes;
	uint32_t other;
	uint8_t *data;

	if (!seg || seg->generation != rec->seg_generation)
		return -EPROTO;
	ring_bytes = seg->ring_bytes;
	if (ring_bytes < SHMT_RING_MIN_BYTES || ring_bytes > SHMT_RING_MAX_BYTES ||
	    (ring_bytes & (ring_bytes - 1)))
		return -EPROTO;
	data = shmt_region_at(&pl.region, seg->data_off, 2 * ring_bytes);
	if (!data)
		return -EPROTO;
	s->seg = seg;
	s->side = side;
	s->tx.shared = &seg->dir[side];
	s->tx.ring.data = data + side * ring_bytes;
	s->tx.ring.size = ring_bytes;
	s->rx.shared = &seg->dir[1 - side];
	s->rx.ring.data = data + (1 - side) * ring_bytes;
	s->rx.ring.size = ring_bytes;
	s->tx.seen = s->rx.seen = 0;
	other = seg->end[1 - side].guest;
	s->same_kernel = other < pl.region.guest_count &&
			 pl.region.guests[other].kernel_id == pl.local->kernel_id;
	return 0;
}

void pl_stream_attach(struct pl_stream *s, int fd)
{
	struct coloc_record_shared *rec = s->rec;
	const int saved = errno;
	sigset_t all, before;

	PL_IN_REGION;
	if (!pl_gate_attach())
		return;
	/* Acquire pairs with the agent's release of GRANTED: seg, generation and side are there. */
	if (shmt_load_acquire(&rec->grant) < COLOC_GRANT_GRANTED)
		return;
	/* A handler of this thread would wait for ever for an attach that is under way. */
	sigfillset(&all);
	if (pthread_sigmask(SIG_BLOCK, &all, &before) != 0)
		return;
	if (!pl_attached(s)) {
		const enum pl_lock_result lock = pl_lock(&attach_lock);

		if (!pl_attached(s)) {
			if (map_segment(s) < 0) {
				shmt_store(&s->broken, 1);
				pl_stream_stay(s, COLOC_REASON_PROTOCOL_ERROR);
				pl_unlock(&attach_lock, lock);
				goto out;
			}
			shmt_store_release(&s->attached, pl_gate_attach());
		}
		pl_unlock(&attach_lock, lock);
		if (shmt_cas(&rec->grant, COLOC_GRANT_GRANTED, COLOC_GRANT_ATTACHED))
			shmt_add_relaxed(&pl.local->totals.streams_moved, 1);
	}
	if (shmt_load(&rec->rx.attach) != 2)
		attach_rx(s, fd);
out:
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = saved;
}

int pl_stream_reset(struct pl_stream *s, int fd)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	pl_stream_stay(s, COLOC_REASON_PROTOCOL_ERROR);
	/* Disconnecting an established socket sends a reset. */
	(void)pl_real.connect(fd, &nobody, sizeof(nobody));
	return -ECONNRESET;
}

bool pl_stream_lost(struct pl_stream *s, int fd)
{
	if (!pl_attached(s) || !pl_region_lost())
		return false;
	(void)pl_stream_reset(s, fd);
	return true;
}
