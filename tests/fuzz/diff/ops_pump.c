/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_pump.c - two actors at once: ping-pong until a ring is used, and bulk both ways
 *
 * Here calls run side by side, so only what must come out is compared: all bytes, in order. Both
 * actors look at the model before they begin; the operation's own actor changes it when both are
 * through.
 */
#include "ops.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "t.h"

#define STUCK_MS (2 * w->late_ms)
#define HALF	 (CHUNK * 2)

static bool idle(const struct m_file *file)
{
	const struct m_end *end = m_end(file);

	return !end->wr_shut && !end->rd_shut && !end->rst && end->lowat <= 1 && !m_busy(file) &&
	       !m_in(file)->fin && !m_in(file)->full && !m_in(file)->sending &&
	       !m_unread(m_in(file));
}

static bool fits(const struct op *op)
{
	const struct m_file *own = m_file(op->actor, op->arg[1]),
			    *its = m_file(op->arg[0], op->arg[2]);

	const bool fit = own && its && own->kind == FK_STREAM && its->kind == FK_STREAM &&
			 own->conn == its->conn && own->side != its->side && idle(own) && idle(its);

	if (fit) {
		m_use(op->actor, op->arg[1]);
		m_use(op->arg[0], op->arg[2]);
	}
	return fit;
}

/* ---- ping-pong ---------------------------------------------------------------------------------
 */

struct ping {
	char text[6];
	uint8_t stop, by_ring;
};

static bool give(int fd, const struct ping *ping)
{
	return send(fd, ping, sizeof(*ping), 0) == sizeof(*ping);
}

static bool take(int fd, struct ping *ping)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t done = 0;
	ssize_t n;

	while (done < sizeof(*ping)) {
		n = recv(fd, (char *)ping + done, sizeof(*ping) - done, 0);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EAGAIN || poll(&p, 1, STUCK_MS) != 1)
			return false;
	}
	return true;
}

static bool reply(int fd, bool *ret_stop)
{
	const uint64_t before = kernel_received(fd);
	struct ping ping;

	if (!take(fd, &ping))
		return false;
	ping.by_ring = kernel_received(fd) == before;
	*ret_stop = ping.stop;
	return give(fd, &ping);
}

void partner_warm(const struct op *op)
{
	const int fd = m_fd(me, op->arg[2]);
	bool stop = false;

	snprintf(w->partner_text, sizeof(w->partner_text), "ok");
	if (!fits(op))
		return;
	while (!stop)
		if (!reply(fd, &stop)) {
			snprintf(w->partner_text, sizeof(w->partner_text), "partner: errno %d",
				 errno);
			return;
		}
}

void op_warm(const struct op *op)
{
	struct m_file *own = m_file(me, op->arg[1]);
	const bool alone = op->arg[0] == me;
	const int64_t until = now_ms() + w->warm_ms;
	const int fd = m_fd(me, op->arg[1]), its = m_fd(op->arg[0], op->arg[2]);
	struct ping ping = {.text = "ping"};
	unsigned int rounds = 0, quiet = 0;
	const char *text = "ok";
	bool stop;

	if (!fits(op)) {
		if (!alone)
			(void)partner_wait();
		skip();
		return;
	}
	while (!ping.stop) {
		const uint64_t before = kernel_received(fd);

		rounds++;
		ping.stop = quiet >= 3 || (rounds > 2 && now_ms() >= until);
		if (!give(fd, &ping) || (alone && !reply(its, &stop)) || !take(fd, &ping)) {
			text = "no reply";
			break;
		}
		quiet = ping.by_ring && kernel_received(fd) == before ? quiet + 1 : 0;
	}
	if (!alone && strcmp(partner_wait(), "ok") != 0)
		text = w->partner_text;
	m_in(own)->other += rounds * sizeof(ping);
	m_out(own)->other += rounds * sizeof(ping);
	w->warm_tries++;
	w->warmed += quiet >= 3;
	say("%s", text);
}

/* ---- bulk --------------------------------------------------------------------------------------
 */

struct flow {
	const struct m_file *file;
	int fd, epfd;
	uint64_t send_left, recv_left, sent, got;
	uint64_t rng;
	const char *wrong;
};

enum style { BLOCKING, POLL, SELECT, EPOLL, EPOLL_EDGE, STYLES };

static void begin(struct flow *flow, const struct m_file *file, int fd, const struct op *op,
		  int salt)
{
	memset(flow, 0, sizeof(*flow));
	flow->file = file;
	flow->fd = fd;
	flow->epfd = -1;
	flow->send_left = flow->recv_left = (uint64_t)op->arg[3];
	flow->sent = m_out(file)->sent;
	flow->got = m_in(file)->got;
	flow->rng = (uint64_t)op->arg[4] * 2 + (uint64_t)salt;
}

static size_t some(struct flow *flow, uint64_t left)
{
	static const uint32_t most[] = {1, 64, 1500, 5000, 20000, HALF, HALF};
	const uint64_t n = 1 + below(&flow->rng, most[below(&flow->rng, 7)]);

	return (size_t)(n < left ? n : left);
}

/* false: would block, is wrong, or there is nothing left to do */
static bool send_some(struct flow *flow, int letters)
{
	static const enum send_call calls[] = {S_SEND,	S_SENDTO, S_SENDMSG, S_SYSCALL,
					       S_WRITE, S_WRITEV, S_SENDFILE};
	const size_t len = some(flow, flow->send_left);
	const enum send_call call = calls[below(&flow->rng, letters ? 4 : 7)];
	ssize_t n;

	if (!flow->send_left || flow->wrong)
		return false;
	t_fill(buffer, len, m_seed(flow->file, true), flow->sent);
	n = io_send(call, flow->fd, buffer, len, letters);
	if (n < 0) {
		if (errno != EAGAIN)
			flow->wrong = strerrorname_np(errno);
		return false;
	}
	flow->sent += (uint64_t)n;
	flow->send_left -= (uint64_t)n;
	if (!below(&flow->rng, 30))
		give_time();
	return true;
}

static bool recv_some(struct flow *flow, int letters)
{
	static const enum recv_call calls[] = {R_RECV,	   R_RECVFROM, R_RECVMSG, R_SYSCALL,
					       R_RECVMMSG, R_READ,     R_READV};
	const size_t len = some(flow, flow->recv_left);
	const enum recv_call call = calls[below(&flow->rng, letters & F_DONTWAIT ? 5 : 7)];
	ssize_t n;

	if (!flow->recv_left || flow->wrong)
		return false;
	n = io_recv(call, flow->fd, buffer + HALF, len, letters);
	if (n <= 0) {
		if (n == 0)
			flow->wrong = "early end";
		else if (errno != EAGAIN)
			flow->wrong = strerrorname_np(errno);
		return false;
	}
	if (t_same(buffer + HALF, (size_t)n, m_seed(flow->file, false), flow->got) != (size_t)n)
		flow->wrong = "wrong content";
	flow->got += (uint64_t)n;
	flow->recv_left -= (uint64_t)n;
	if (!below(&flow->rng, 30))
		give_time();
	return true;
}

static bool more(const struct flow *flow)
{
	return (flow->send_left || flow->recv_left) && !flow->wrong;
}

static short wanted(const struct flow *flow)
{
	return (short)((flow->recv_left ? POLLIN : 0) | (flow->send_left ? POLLOUT : 0));
}

static short wait_select(const struct flow *flow)
{
	struct timeval time = {.tv_sec = STUCK_MS / 1000, .tv_usec = STUCK_MS % 1000 * 1000L};
	fd_set in, out;

	FD_ZERO(&in);
	FD_ZERO(&out);
	if (flow->recv_left)
		FD_SET(flow->fd, &in);
	if (flow->send_left)
		FD_SET(flow->fd, &out);
	if (select(flow->fd + 1, &in, &out, NULL, &time) <= 0)
		return 0;
	return (short)((FD_ISSET(flow->fd, &in) ? POLLIN : 0) |
		       (FD_ISSET(flow->fd, &out) ? POLLOUT : 0));
}

static short wait_ready(const struct flow *flow, enum style style)
{
	struct pollfd p = {.fd = flow->fd, .events = wanted(flow)};
	struct epoll_event event = {.events = (uint32_t)wanted(flow)};

	if (style == POLL)
		return poll(&p, 1, STUCK_MS) == 1 ? p.revents : 0;
	if (style == SELECT)
		return wait_select(flow);
	if (style == EPOLL && epoll_ctl(flow->epfd, EPOLL_CTL_MOD, flow->fd, &event))
		return 0;
	return epoll_wait(flow->epfd, &event, 1, STUCK_MS) == 1 ? (short)event.events : 0;
}

/* Edge-triggered, a way is used until it would block; else once per event. */
static void run_loop(struct flow *flow, enum style style)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
	short ready = 0;

	if (style == EPOLL || style == EPOLL_EDGE) {
		flow->epfd = epoll_create1(EPOLL_CLOEXEC);
		if (style == EPOLL_EDGE)
			event.events |= EPOLLET;
		if (epoll_ctl(flow->epfd, EPOLL_CTL_ADD, flow->fd, &event))
			flow->wrong = "epoll_ctl";
	}
	while (more(flow)) {
		if (style != EPOLL_EDGE || !(ready & wanted(flow))) {
			const short news = wait_ready(flow, style);

			if (!news)
				flow->wrong = flow->recv_left ? "stuck receiving" : "stuck sending";
			ready = (short)((style == EPOLL_EDGE ? ready : 0) | news);
		}
		if ((ready & POLLOUT) && flow->send_left && !send_some(flow, F_DONTWAIT))
			ready &= ~POLLOUT;
		if ((ready & POLLIN) && flow->recv_left && !recv_some(flow, F_DONTWAIT))
			ready &= ~POLLIN;
	}
	if (flow->epfd >= 0)
		close(flow->epfd);
}

static void run_flow(struct flow *flow, const struct op *op, bool first)
{
	enum style style = (enum style)below(&flow->rng, STYLES);

	/* The same for both: one sends first, the other receives first. */
	if (op->arg[4] % 4 == 0 && !flow->file->nonblock && !m_end(flow->file)->rcvtimeo) {
		if (first)
			while (send_some(flow, 0))
				;
		while (recv_some(flow, below(&flow->rng, 3) ? 0 : F_WAITALL))
			;
		while (send_some(flow, 0))
			;
		return;
	}
	run_loop(flow, style == BLOCKING ? POLL : style);
}

void partner_pump(const struct op *op)
{
	struct flow flow;

	snprintf(w->partner_text, sizeof(w->partner_text), "ok");
	if (!fits(op))
		return;
	begin(&flow, m_file(me, op->arg[2]), m_fd(me, op->arg[2]), op, 1);
	run_flow(&flow, op, false);
	if (flow.wrong || more(&flow))
		snprintf(w->partner_text, sizeof(w->partner_text),
			 "partner: %s, sent %llu got %llu", flow.wrong,
			 (unsigned long long)flow.sent, (unsigned long long)flow.got);
}

/* One actor with both ends: each does what it can. */
static void run_alone(struct flow *a, struct flow *b)
{
	const int64_t until = now_ms() + STUCK_MS;

	while (more(a) || more(b)) {
		const bool moved = (below(&a->rng, 2) && send_some(a, F_DONTWAIT)) |
				   (below(&a->rng, 2) && recv_some(b, F_DONTWAIT)) |
				   (below(&a->rng, 2) && send_some(b, F_DONTWAIT)) |
				   (below(&a->rng, 2) && recv_some(a, F_DONTWAIT));

		if (a->wrong || b->wrong || (!moved && now_ms() > until))
			break;
	}
	if (more(a) || more(b) || b->wrong)
		a->wrong = a->wrong ? a->wrong : b->wrong ? b->wrong : "stuck";
}

void op_pump(const struct op *op)
{
	struct m_file *own = m_file(me, op->arg[1]);
	const bool alone = op->arg[0] == me;
	const char *partner = "ok";
	struct flow flow, other;

	if (!fits(op)) {
		if (!alone)
			(void)partner_wait();
		skip();
		return;
	}
	begin(&flow, own, m_fd(me, op->arg[1]), op, 0);
	if (alone) {
		begin(&other, m_file(me, op->arg[2]), m_fd(me, op->arg[2]), op, 1);
		run_alone(&flow, &other);
	} else {
		run_flow(&flow, op, true);
		partner = partner_wait();
	}
	m_in(own)->sent += (uint64_t)op->arg[3];
	m_in(own)->got += (uint64_t)op->arg[3];
	m_out(own)->sent += (uint64_t)op->arg[3];
	m_out(own)->got += (uint64_t)op->arg[3];
	if (flow.wrong)
		say("%s, sent %llu got %llu; %s", flow.wrong, (unsigned long long)flow.sent,
		    (unsigned long long)flow.got, partner);
	else
		say("%s", partner);
}
