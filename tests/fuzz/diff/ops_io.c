/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_io.c - bytes: send, receive, fill, drain
 *
 * A stream has no messages: a receive may give less than there is, a non-blocking send may take
 * less than fits. So what is compared is how much can be had in the end, and what the next one
 * says. Exact in one call: a blocking send, MSG_WAITALL, every answer that is no byte count.
 */
#include "ops.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "t.h"

static const char *const wrong_content = "wrong content";

void all_arrived(const struct m_file *file, int fd)
{
	const int64_t until = now_ms() + w->late_ms;
	const struct m_dir *in = m_in(file);
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	const short due = m_end(file)->rst ? POLLHUP : POLLRDHUP;

	if (in->full || in->sending)
		return;
	while (!in->lazy && !m_over(file) && kernel_received(fd) < in->by_tcp && now_ms() < until)
		give_time();
	if (!m_end(file)->rst && !in->fin)
		return;
	while (raw(SYS_poll, (long)&p, 1, 0, 0, 0, 0) == 0 || !(p.revents & due)) {
		if (now_ms() > until)
			break;
		give_time();
	}
}

void ring_count(const struct m_file *file, int fd)
{
	const struct m_dir *in = m_in(file);
	const uint64_t got = in->got + in->other, tcp = kernel_received(fd);
	const uint64_t free = got - in->flood; /* behind a full ring all comes by TCP */
	const uint64_t ring = tcp && got > tcp ? got - tcp : 0;

	w->bytes += free;
	w->ring_bytes += ring < free ? ring : free;
}

/* Calls on what is no stream answer at once, or are not made. */
static bool answers(const struct m_file *file)
{
	return !file || file->kind == FK_OTHER || file->kind == FK_EPOLL || file->kind == FK_LISTEN;
}

/* What is sent to it is answered by a reset: closed, or shut down both ways. */
static bool deaf(const struct m_end *end)
{
	return end->closed || (end->rd_shut && end->wr_shut);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

struct recv {
	struct m_file *file;
	enum recv_call call;
	int fd, letters;
	bool nonblock, peek;
	uint64_t want; /* bytes that must come */
	uint64_t done;
	bool pieces; /* it took more calls than one, though all was there */
	const char *wrong;
};

/* One call; what it gave is checked and counted. */
static ssize_t recv_once(struct recv *r, size_t len)
{
	const uint64_t place = m_in(r->file)->got + r->done;
	ssize_t n;

	if (len > CHUNK * 4)
		len = CHUNK * 4;
	if (r->letters & F_TRUNC)
		memset(buffer, 0, len);
	n = io_recv(r->call, r->fd, buffer, len, r->letters);
	if (n <= 0)
		return n;
	if ((size_t)n > len)
		r->wrong = "more than asked";
	else if (!(r->letters & F_TRUNC) &&
		 t_same(buffer, (size_t)n, m_seed(r->file, false), place) != (size_t)n)
		r->wrong = wrong_content;
	if (!r->peek)
		r->done += (uint64_t)n;
	return n;
}

/* Not there yet, though due? */
static bool late(const struct recv *r, ssize_t n, int64_t until)
{
	if (r->done >= r->want || now_ms() > until)
		return false;
	/* A receive that was shut down says "end" as long as nothing has come. */
	if (n == 0 ? !m_end(r->file)->rd_shut : errno != EAGAIN && errno != EINTR)
		return false;
	give_time();
	return true;
}

/* Until all that must come is there; the first call's answer is @n. */
static ssize_t gather(struct recv *r, ssize_t n)
{
	const int64_t until = now_ms() + w->late_ms;

	while (r->done < r->want && !r->wrong) {
		if (n <= 0 && !late(r, n, until))
			break;
		n = recv_once(r, (size_t)(r->want - r->done));
	}
	return n;
}

static void recv_said(struct recv *r, ssize_t n)
{
	m_in(r->file)->got += r->done;
	if (r->wrong)
		say("%s at %llu", r->wrong, (unsigned long long)m_in(r->file)->got);
	else if (!r->want)
		say("%s", answer(n));
	else if (r->done < r->want)
		say("%llu of %llu, then %s", (unsigned long long)r->done,
		    (unsigned long long)r->want, answer(n));
	else
		say("%llu%s", (unsigned long long)r->done, r->pieces ? " in pieces" : "");
}

/* A peek that waits for nothing shows all there is; so it does if it is asked again. */
static void recv_peek(struct recv *r, size_t len, bool all, bool overlap)
{
	int64_t until = now_ms() + w->late_ms;
	ssize_t n;

	if (overlap)
		call_begin(r->file, NULL, NULL);
	n = recv_once(r, len);
	if (overlap) {
		call_end();
		r->want = m_unread(m_in(r->file)) < len ? m_unread(m_in(r->file)) : len;
		/* A signal may have ended it with less than there was; not if all was there. */
		all = r->want == len;
		r->letters = F_PEEK | F_DONTWAIT;
		until = now_ms() + w->late_ms;
	}
	while (!all && !r->wrong && now_ms() < until &&
	       (n <= 0 ? late(r, n, until) : (uint64_t)n < r->want)) {
		if (n > 0)
			give_time();
		n = recv_once(r, len);
	}
	if (r->wrong)
		say("%s at %llu", r->wrong, (unsigned long long)m_in(r->file)->got);
	else
		say("%s", answer(n));
}

/* Would it wait for more than will come? */
static bool would_wait(const struct recv *r, uint64_t unread, uint64_t len, bool all)
{
	uint64_t least = m_end(r->file)->lowat > 1 ? (uint64_t)m_end(r->file)->lowat : 1;

	if (m_over(r->file) || r->nonblock)
		return false;
	/* splice looks at no low-water mark, nor do those that give zero bytes to zero. */
	if (all || least > len)
		least = len ? len : 1;
	return unread < least;
}

/*
 * What its sender's kernel holds back ends a time-out, or comes to a sleeper that the kernel does
 * not wake: of one that wants less than the low-water mark it takes no notice (tcp_data_ready).
 */
static bool minds_delay(const struct recv *r)
{
	const struct m_end *end = m_end(r->file);

	return end->rcvtimeo || (end->lowat > 1 && !r->nonblock);
}

static void recv_zero(struct recv *r, uint64_t unread)
{
	const bool reads = r->call == R_READ || r->call == R_READV || r->call == R_PREADV2;
	const int64_t until = now_ms() + w->late_ms;
	ssize_t n;

	if (r->call == R_SPLICE || (!reads && would_wait(r, unread, 0, false))) {
		skip();
		return;
	}
	r->want = 0;
	n = io_recv(r->call, r->fd, buffer, 0, r->letters);
	if (n < 0 && errno == EAGAIN && unread) { /* has not come yet */
		r->want = 1;
		while (n < 0 && late(r, n, until))
			n = io_recv(r->call, r->fd, buffer, 0, r->letters);
	}
	say("%s", answer(n));
}

void op_recv(const struct op *op)
{
	struct recv r = {
		.file = m_file(me, op->arg[0]),
		.call = (enum recv_call)op->arg[1],
		.fd = m_fd(me, op->arg[0]),
	};
	const size_t len = (size_t)op->arg[2] < CHUNK ? (size_t)op->arg[2] : CHUNK;
	uint64_t unread;
	bool all, waits;
	ssize_t n;

	r.letters = io_recv_flags(r.call, op->arg[3]);
	if (answers(r.file)) {
		if (op->overlap)
			skip();
		else
			say("%s", answer(io_recv(r.call, r.fd, buffer, len, r.letters)));
		return;
	}
	m_use(me, op->arg[0]);
	unread = m_unread(m_in(r.file));
	/* SPLICE_F_NONBLOCK is about the pipe. */
	r.nonblock = r.file->nonblock || (r.call != R_SPLICE && (r.letters & F_DONTWAIT));
	r.peek = r.letters & F_PEEK;
	/* Shut down, it does not wait for what the sender's kernel still holds back. */
	all = (r.letters & F_WAITALL) && !r.nonblock &&
	      !(m_end(r.file)->rd_shut && m_in(r.file)->lazy);
	waits = would_wait(&r, unread, len, all);
	if (m_busy(r.file) || m_in(r.file)->full || m_in(r.file)->sending ||
	    (r.peek && op->overlap && !all) || (r.call == R_SPLICE && m_end(r.file)->lowat > 1) ||
	    (waits && !op->overlap && !m_end(r.file)->rcvtimeo) ||
	    (unread && m_in(r.file)->lazy && minds_delay(&r)) ||
	    (op->overlap && (r.nonblock || m_end(r.file)->rcvtimeo || m_over(r.file)))) {
		skip();
		return;
	}
	all_arrived(r.file, r.fd);
	if (!len) {
		if (op->overlap)
			skip();
		else
			recv_zero(&r, unread);
		return;
	}
	r.want = unread < len ? unread : len;
	if (r.peek) {
		recv_peek(&r, len, all, op->overlap);
		return;
	}
	if (op->overlap)
		call_begin(r.file, NULL, NULL);
	n = recv_once(&r, len);
	/* Programs take a short receive for the last one. One that was shut down waits for nothing
	 * that the sender's kernel still holds back, so plain TCP itself gives it in pieces. */
	r.pieces = !op->overlap && n > 0 && r.done < r.want && !m_in(r.file)->lazy &&
		   r.call != R_SPLICE && !m_end(r.file)->rd_shut;
	if (op->overlap) {
		call_end();
		unread = m_unread(m_in(r.file));
		r.want = unread < len ? unread : len;
	}
	/* Of its messages recvmmsg tells an error first, the bytes before it after that. */
	if (r.call == R_RECVMMSG && m_end(r.file)->rst && n <= 0)
		r.want = 0;
	/* MSG_WAITALL is one call, unless a signal or a time-out ended it. */
	if (!all || r.want < len)
		n = gather(&r, n);
	recv_said(&r, n);
}

void op_recvbad(const struct op *op)
{
	struct recv r = {
		.file = m_file(me, op->arg[0]),
		.call = (enum recv_call)op->arg[1],
		.fd = m_fd(me, op->arg[0]),
		.want = 1,
	};
	static uint8_t *nowhere;
	int64_t until = now_ms() + w->late_ms;
	ssize_t n;

	/* One page that nobody may touch, and the vectors that point at it are good. */
	if (!nowhere)
		nowhere = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r.call == R_SPLICE || r.call == R_RECVMMSG ||
	    (!answers(r.file) &&
	     (m_busy(r.file) || m_in(r.file)->full || m_in(r.file)->sending ||
	      (!m_over(r.file) && m_unread(m_in(r.file)) < (uint64_t)m_end(r.file)->lowat + 1)))) {
		skip();
		return;
	}
	if (!answers(r.file))
		all_arrived(r.file, r.fd);
	do {
		n = io_recv(r.call, r.fd, nowhere, 64, 0);
	} while (!answers(r.file) && m_unread(m_in(r.file)) && late(&r, n, until));
	say("%s", answer(n));
}

void op_drain(const struct op *op)
{
	struct recv r = {
		.file = m_file(me, op->arg[0]),
		.fd = m_fd(me, op->arg[0]),
		.letters = F_DONTWAIT,
	};
	uint64_t state = w->prog.seed + at;
	int64_t until;
	bool full;
	ssize_t n = 0;

	if (!r.file || r.file->kind != FK_STREAM || m_busy(r.file)) {
		skip();
		return;
	}
	m_use(me, op->arg[0]);
	full = m_in(r.file)->full;
	if (!full)
		all_arrived(r.file, r.fd);
	r.want = m_unread(m_in(r.file));
	for (until = now_ms() + 2 * w->late_ms; r.done < r.want && !r.wrong;) {
		r.call = below(&state, 2) ? R_RECV : R_RECVMSG;
		n = recv_once(&r, below(&state, 2) ? 60000 : 1 + below(&state, 20000));
		if (n <= 0 && !late(&r, n, until))
			break;
	}
	if (!full || r.wrong || r.done < r.want) {
		recv_said(&r, n);
	} else {
		m_in(r.file)->got += r.done;
		m_in(r.file)->flood += r.done;
		say("all");
	}
	if (full && r.done >= r.want) {
		m_in(r.file)->full = 0;
		m_writable_again(r.file);
	}
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static bool gathers(enum send_call call, bool nonblock)
{
	return nonblock || call == S_SENDFILE || call == S_SENDFILE_AT || call == S_SPLICE;
}

/* Bytes that the model knows of from now on. */
static void sent(struct m_file *file, int fd, size_t bytes, int letters)
{
	const struct m_end *end = m_end(file);

	if (!bytes)
		return;
	m_out(file)->by_tcp = kernel_sent(fd);
	m_out(file)->sent += bytes;
	m_out(file)->lazy = !end->nodelay || end->cork || (letters & F_MORE);
	m_arrived(file);
}

static ssize_t send_all(struct m_file *file, enum send_call call, int fd, size_t len, int letters,
			bool nonblock, size_t *ret_done)
{
	const int64_t until = now_ms() + w->late_ms;
	ssize_t n;

	t_fill(buffer, len, m_seed(file, true), m_out(file)->sent);
	for (*ret_done = 0;;) {
		n = io_send(call, fd, buffer + *ret_done, len - *ret_done, letters);
		if (n > 0)
			*ret_done += (size_t)n;
		if (*ret_done >= len || !gathers(call, nonblock) || (n < 0 && errno != EAGAIN) ||
		    now_ms() > until)
			return n;
		if (n < 0)
			give_time();
	}
}

void op_send(const struct op *op)
{
	struct m_file *file = m_file(me, op->arg[0]);
	const enum send_call call = (enum send_call)op->arg[1];
	const size_t len = (size_t)op->arg[2] < SAFE_BYTES ? (size_t)op->arg[2] : SAFE_BYTES;
	const int letters = io_send_flags(call, op->arg[3]), fd = m_fd(me, op->arg[0]);
	struct m_dir *out;
	struct m_end *end;
	size_t done;
	bool nonblock;
	ssize_t n;

	memset(buffer, 1, len);
	if (answers(file)) {
		if (op->overlap)
			skip();
		else
			say("%s", answer(io_send(call, fd, buffer, len, letters)));
		return;
	}
	m_use(me, op->arg[0]);
	out = m_out(file);
	end = m_end(file);
	nonblock = file->nonblock || (letters & F_DONTWAIT);
	/* Whether a time-out comes before the reader is nobody's to say. */
	if (out->sending || (call == S_SPLICE && !len) ||
	    (op->overlap ? !out->full || nonblock || end->sndtimeo || end->wr_shut || end->rst ||
				   !len || deaf(m_peer(file))
			 : out->full)) {
		skip();
		return;
	}
	if (end->wr_shut || end->rst || !len) {
		all_arrived(file, fd);
		say("%s", answer(io_send(call, fd, buffer, len, letters)));
		return;
	}
	/* One segment, that leaves at once, provokes the reset. */
	if (deaf(m_peer(file)) && (len > 4000 || !end->nodelay || end->cork || (letters & F_MORE) ||
				   call == S_SENDMMSG)) {
		skip();
		return;
	}
	if (!op->overlap && m_unread(out) + len > SAFE_BYTES) {
		skip();
		return;
	}
	if (op->overlap) {
		/* Certain to come once somebody reads; what a signal leaves of it is not. */
		t_fill(buffer, len, m_seed(file, true), out->sent);
		sent(file, fd, len, letters);
		call_begin(file, NULL, NULL);
		n = io_send(call, fd, buffer, len, letters);
		done = n > 0 ? (size_t)n : 0;
		call_end();
		out->by_tcp = kernel_sent(fd);
		out->sent -= len - done;
		if (out->full && (n < 0 ? errno == EINTR : done < len))
			say("interrupted");
		else
			say("%s", answer(n));
		return;
	}
	n = send_all(file, call, fd, len, letters, nonblock, &done);
	if (deaf(m_peer(file))) {
		say("%s", answer(n));
		if (n > 0) {
			m_reset(file);
			end->rst = 1;
			all_arrived(file, fd);
		}
		return;
	}
	sent(file, fd, done, letters);
	if (done == len)
		say("%zu%s", done, pipe_signals ? " SIGPIPE" : "");
	else
		say("%zu of %zu, then %s", done, len, answer(n));
}

void op_sendbad(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]);
	const enum send_call call = (enum send_call)op->arg[1];
	static uint8_t *nowhere;

	if (!nowhere)
		nowhere = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (call == S_SENDFILE || call == S_SENDFILE_AT || call == S_SPLICE ||
	    (!answers(file) && (m_out(file)->full || m_out(file)->sending || deaf(m_peer(file))))) {
		skip();
		return;
	}
	if (!answers(file))
		all_arrived(file, m_fd(me, op->arg[0]));
	say("%s", answer(io_send(call, m_fd(me, op->arg[0]), nowhere, 64, 0)));
}

/* Does somebody wait for what it sends? */
static bool awaited(const struct m_file *file)
{
	struct m_file peer = *file;

	peer.side = !file->side;
	return m_busy(&peer);
}

/* Full is when the kernel takes nothing for some time and says that it is not writable. */
void op_fill(const struct op *op)
{
	struct m_file *file = m_file(me, op->arg[0]);
	const int fd = m_fd(me, op->arg[0]);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	const int64_t until = now_ms() + w->late_ms;
	int quiet = 0;
	ssize_t n;

	if (!file || file->kind != FK_STREAM || m_out(file)->full || m_out(file)->sending ||
	    m_end(file)->wr_shut || m_end(file)->rst || deaf(m_peer(file)) ||
	    m_peer(file)->rd_shut || m_peer(file)->lowat > 1 || awaited(file)) {
		skip();
		return;
	}
	m_use(me, op->arg[0]);
	while (quiet < 10 && now_ms() < until) {
		t_fill(buffer, CHUNK, m_seed(file, true), m_out(file)->sent);
		n = send(fd, buffer, CHUNK, MSG_DONTWAIT);
		if (n > 0) {
			sent(file, fd, (size_t)n, 0);
			quiet = 0;
		} else if (n == 0 || errno != EAGAIN) {
			break;
		} else {
			quiet += poll(&p, 1, 0) == 0;
			give_time();
		}
	}
	m_out(file)->full = quiet >= 10;
	say("%s", quiet >= 10 ? "full" : "not full");
}
