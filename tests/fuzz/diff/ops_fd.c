/* SPDX-License-Identifier: Apache-2.0 */
/* ops_fd.c - the life of descriptors and connections, options, what is queued */
#include "ops.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- connections -------------------------------------------------------------------------------
 */

static int listen_on(int family, uint16_t *ret_port)
{
	struct sockaddr_storage addr = {.ss_family = family == 4 ? AF_INET : AF_INET6};
	socklen_t len = family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	const int fd = socket(addr.ss_family, SOCK_STREAM, 0);

	if (family == 4)
		((struct sockaddr_in *)&addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (family == 6)
		((struct sockaddr_in6 *)&addr)->sin6_addr = in6addr_loopback;
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) || listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&addr, &len))
		return -1;
	*ret_port = family == 4 ? ((struct sockaddr_in *)&addr)->sin_port
				: ((struct sockaddr_in6 *)&addr)->sin6_port;
	return fd;
}

static int connect_to(int family, uint16_t port, int nodelay)
{
	struct sockaddr_in addr4 = {
		.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 addr6 = {
		.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	const int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || (family == 6 ? connect(fd, (struct sockaddr *)&addr6, sizeof(addr6))
				   : connect(fd, (struct sockaddr *)&addr4, sizeof(addr4))))
		return -1;
	if (nodelay)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	return fd;
}

static void end_of(struct m_file *file, int conn, int side, bool nodelay)
{
	file->conn = (uint8_t)conn;
	file->side = (uint8_t)side;
	w->conn[conn].end[side].nodelay = nodelay;
}

static int family_of(int32_t arg)
{
	return arg == 6 || arg == 46 ? arg : 4;
}

void op_pair(const struct op *op)
{
	const int family = family_of(op->arg[2]), nodelay = op->arg[3] != 0;
	struct m_file *a, *b;
	uint16_t port;
	int listener, fds[2] = {-1, -1};

	if (!m_var_free(me, op->arg[0]) || !m_var_free(me, op->arg[1]) ||
	    op->arg[0] == op->arg[1] || w->conns == CONNS) {
		skip();
		return;
	}
	listener = listen_on(family, &port);
	if (listener >= 0)
		fds[0] = connect_to(family, port, nodelay);
	if (fds[0] >= 0)
		fds[1] = accept(listener, NULL, NULL);
	close(listener);
	if (fds[1] < 0) {
		say("no connection: %s", answer(-1));
		return;
	}
	if (nodelay)
		(void)setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	a = m_new_file(me, op->arg[0], fds[0], FK_STREAM);
	b = m_new_file(me, op->arg[1], fds[1], FK_STREAM);
	if (!a || !b) {
		say("too many files");
		return;
	}
	end_of(a, w->conns, 0, nodelay);
	end_of(b, w->conns++, 1, nodelay);
	say("%s", answer_number(fds[0]));
}

void op_listen(const struct op *op)
{
	struct m_listener *listener = &w->listener[op->arg[0]];
	uint16_t port;
	int fd;

	/* In the main process, kept there; everybody connects to it, children accept from it. */
	if (listener->port) {
		skip();
		return;
	}
	listener->family = (uint16_t)family_of(op->arg[1]);
	fd = listen_on(listener->family, &port);
	listener->port = fd < 0 ? 0 : port;
	listener->fd = fd;
	listener->proc = w->actor[me].proc;
	say("%s", answer_number(fd));
}

void op_connect(const struct op *op)
{
	struct m_listener *listener = &w->listener[op->arg[1]];
	struct m_file *file;
	int fd;

	if (!listener->port || listener->queued == BACKLOG || w->conns == CONNS ||
	    !m_var_free(me, op->arg[0]) || w->actor[0].proc < 0) {
		skip();
		return;
	}
	fd = connect_to(listener->family, listener->port, op->arg[2] != 0);
	say("%s", answer_number(fd));
	if (fd < 0)
		return;
	file = m_new_file(me, op->arg[0], fd, FK_STREAM);
	if (!file)
		return;
	end_of(file, w->conns, 0, op->arg[2] != 0);
	listener->queue[listener->queued++] = w->conns++;
}

void op_accept(const struct op *op)
{
	struct m_listener *listener = &w->listener[op->arg[1]];
	struct m_file *file;
	int fd;

	if (!listener->queued || !m_var_free(me, op->arg[0]) ||
	    w->actor[me].proc != listener->proc) {
		skip();
		return;
	}
	fd = accept4(listener->fd, NULL, NULL, 0);
	say("%s", answer_number(fd));
	if (fd < 0)
		return;
	file = m_new_file(me, op->arg[0], fd, FK_STREAM);
	if (file)
		end_of(file, listener->queue[0], 1, false);
	memmove(listener->queue, listener->queue + 1, sizeof(listener->queue) - sizeof(int32_t));
	listener->queued--;
}

void op_shut(const struct op *op)
{
	static const int hows[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
	struct m_file *file = m_file(me, op->arg[0]);
	const int how = op->arg[1], fd = m_fd(me, op->arg[0]);
	bool rst;
	int rc;

	if (!file || file->kind != FK_STREAM) {
		say("%s", answer(shutdown(fd, hows[how])));
		return;
	}
	if (m_out(file)->sending || m_out(file)->full || m_in(file)->sending || m_in(file)->full ||
	    (m_in(file)->lazy && m_unread(m_in(file)))) {
		skip();
		return;
	}
	all_arrived(file, fd);
	rst = m_end(file)->rst;
	rc = shutdown(fd, hows[how]);
	say("%s", answer(rc));
	if (rc)
		return;
	if (how != H_WR)
		m_end(file)->rd_shut = 1;
	if (how != H_RD && !m_end(file)->wr_shut) {
		m_end(file)->wr_shut = 1;
		if (!rst && !m_peer(file)->closed && !m_peer(file)->rst)
			m_fin(file);
	}
}

/* ---- descriptors -------------------------------------------------------------------------------
 */

static void count_last(const struct m_file *file, int fd)
{
	if (file && file->kind == FK_STREAM && file->refs == 1)
		ring_count(file, fd);
}

void op_close(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]);
	const int fd = m_fd(me, op->arg[0]);

	if (!m_may_close(me, op->arg[0])) {
		skip();
		return;
	}
	if (file && file->kind == FK_STREAM)
		all_arrived(file, fd);
	count_last(file, fd);
	say("%s", answer(close(fd)));
	m_closed(me, op->arg[0]);
}

void close_all(void)
{
	int i;

	for (i = 0; i < VARS; i++) {
		count_last(m_file(me, i), m_fd(me, i));
		if (m_file(me, i))
			close(m_fd(me, i));
		m_closed(me, i);
	}
}

void op_linger(const struct op *op)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct m_file *file = m_file(me, op->arg[0]);
	const int rc = setsockopt(m_fd(me, op->arg[0]), SOL_SOCKET, SO_LINGER, &now, sizeof(now));

	if (!rc && file && file->kind == FK_STREAM)
		m_end(file)->linger = 1;
	say("%s", answer(rc));
}

static int copy(int from, int to, enum dup_call call)
{
	switch (call) {
	case C_DUP:
		return dup(from);
	case C_DUP2:
		return dup2(from, to);
	case C_DUP3:
		return dup3(from, to, O_CLOEXEC);
	case C_FDUPFD:
		return fcntl(from, F_DUPFD, to);
	default:
		return fcntl(from, F_DUPFD_CLOEXEC, to);
	}
}

/* To a number of its own, far from those that open() and socket() give. */
void op_dup(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]);
	int fd;

	if (!m_var_free(me, op->arg[1]) || (file && file->kind == FK_EPOLL)) {
		skip();
		return;
	}
	fd = copy(m_fd(me, op->arg[0]), 100 + op->arg[1], (enum dup_call)op->arg[2]);
	say("%s", answer_number(fd));
	if (fd >= 0)
		m_ref(me, op->arg[1], fd, m_index(file));
}

void op_dup2on(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]), *old = m_file(me, op->arg[1]);
	const int from = m_fd(me, op->arg[0]), to = m_fd(me, op->arg[1]);
	int fd;

	if (!old || (file && file->kind == FK_EPOLL) || from == to ||
	    (file && !m_may_close(me, op->arg[1]))) {
		skip();
		return;
	}
	if (file && old->kind == FK_STREAM)
		all_arrived(old, to);
	if (file && old != file)
		count_last(old, to);
	fd = copy(from, to, op->arg[2] == C_DUP3 ? C_DUP3 : C_DUP2);
	say("%s", answer(fd));
	if (fd < 0)
		return;
	m_closed(me, op->arg[1]);
	m_ref(me, op->arg[1], fd, m_index(file));
}

void op_closerange(const struct op *op)
{
	const int first = m_fd(me, op->arg[0]), last = m_fd(me, op->arg[1]);
	bool may = m_file(me, op->arg[0]) && m_file(me, op->arg[1]) && first <= last;
	const struct m_file *file;
	int count[FILES] = {0}, i, fd;

	/* Several numbers of one file among them: whether it is the last is too much to tell. */
	for (i = 0; may && i < VARS; i++) {
		file = m_file(me, i);
		fd = m_fd(me, i);
		if (file && fd >= first && fd <= last)
			may = m_may_close(me, i) && !count[m_index(file)]++;
	}
	for (i = 0; i < LISTENERS; i++)
		may = may && !(w->listener[i].port && w->listener[i].fd >= first &&
			       w->listener[i].fd <= last);
	if (!may) {
		skip();
		return;
	}
	for (i = 0; i < VARS; i++) {
		file = m_file(me, i);
		fd = m_fd(me, i);
		if (file && fd >= first && fd <= last) {
			if (file->kind == FK_STREAM)
				all_arrived(file, fd);
			count_last(file, fd);
		}
	}
	say("%s", answer(close_range((unsigned int)first, (unsigned int)last, 0)));
	/* In the order of the numbers, as the kernel does it. */
	for (fd = first; fd <= last; fd++)
		for (i = 0; i < VARS; i++)
			if (m_file(me, i) && m_fd(me, i) == fd)
				m_closed(me, i);
}

void op_make(const struct op *op)
{
	int fds[2] = {-1, -1};

	if (!m_var_free(me, op->arg[0])) {
		skip();
		return;
	}
	switch (op->arg[1]) {
	case K_NULL:
		fds[0] = open("/dev/null", O_RDWR);
		break;
	case K_PIPE:
		(void)!pipe2(fds, O_NONBLOCK);
		break;
	case K_EVENTFD:
		fds[0] = eventfd(0, EFD_NONBLOCK);
		break;
	case K_SOCKET:
		fds[0] = socket(AF_INET, SOCK_STREAM, 0);
		break;
	case K_UNIX:
		(void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
		break;
	default:
		fds[0] = memfd_create("file", 0);
		break;
	}
	if (fds[1] >= 0)
		close(fds[1]);
	say("%s", answer_number(fds[0]));
	if (fds[0] >= 0)
		(void)m_new_file(me, op->arg[0], fds[0], FK_OTHER);
}

/* ---- options and counts ------------------------------------------------------------------------
 */

void op_nonblock(const struct op *op)
{
	struct m_file *file = m_file(me, op->arg[0]);
	const int fd = m_fd(me, op->arg[0]);
	int on = op->arg[1] != 0, rc;

	/* What is under way began with the flag as it was. */
	if (!file || file->kind != FK_STREAM || m_busy(file) || m_out(file)->sending) {
		skip();
		return;
	}
	rc = op->arg[2] ? ioctl(fd, FIONBIO, &on) : fcntl(fd, F_SETFL, on ? O_NONBLOCK : 0);
	if (!rc)
		file->nonblock = (uint8_t)on;
	say("%s", answer(rc));
}

static void remember(struct m_end *end, int option, int value)
{
	switch (option) {
	case O_NODELAY_:
		end->nodelay = value != 0;
		break;
	case O_CORK:
		end->cork = value != 0;
		break;
	case O_RCVTIMEO:
		end->rcvtimeo = value;
		break;
	case O_SNDTIMEO:
		end->sndtimeo = value;
		break;
	case O_RCVLOWAT:
		end->lowat = value;
		break;
	}
}

void op_option(const struct op *op)
{
	static const int names[O_OPTIONS][2] = {[O_NODELAY_] = {IPPROTO_TCP, TCP_NODELAY},
						[O_CORK] = {IPPROTO_TCP, TCP_CORK},
						[O_RCVTIMEO] = {SOL_SOCKET, SO_RCVTIMEO},
						[O_SNDTIMEO] = {SOL_SOCKET, SO_SNDTIMEO},
						[O_RCVLOWAT] = {SOL_SOCKET, SO_RCVLOWAT},
						[O_QUICKACK] = {IPPROTO_TCP, TCP_QUICKACK},
						[O_KEEPALIVE] = {SOL_SOCKET, SO_KEEPALIVE}};
	struct m_file *file = m_file(me, op->arg[0]);
	const int option = op->arg[1], value = op->arg[2];
	const struct timeval time = {.tv_usec = value % 1000 * 1000L};
	const bool timed = option == O_RCVTIMEO || option == O_SNDTIMEO;
	int rc;

	if (file && file->kind == FK_STREAM &&
	    (m_busy(file) || m_out(file)->sending || m_out(file)->full || m_in(file)->full)) {
		skip();
		return;
	}
	/* What lies in a ring by then is readable whatever its number: a limit. */
	if (file && file->kind == FK_STREAM && option == O_RCVLOWAT && value > 1 &&
	    m_unread(m_in(file))) {
		skip();
		return;
	}
	rc = setsockopt(m_fd(me, op->arg[0]), names[option][0], names[option][1],
			timed ? (const void *)&time : &value, timed ? sizeof(time) : sizeof(value));
	say("%s", answer(rc));
	if (!rc && file && file->kind == FK_STREAM)
		remember(m_end(file), option, value);
}

void op_fionread(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]);
	const int64_t until = now_ms() + w->late_ms;
	const int fd = m_fd(me, op->arg[0]);
	uint64_t unread;
	int value, rc;

	if (!file || file->kind != FK_STREAM || m_busy(file) || m_in(file)->full ||
	    m_in(file)->sending) {
		skip();
		return;
	}
	all_arrived(file, fd);
	unread = m_unread(m_in(file));
	do {
		value = 4242;
		rc = ioctl(fd, FIONREAD, &value);
		if (!rc && (uint64_t)value < unread)
			give_time();
	} while (!rc && (uint64_t)value < unread && now_ms() < until);
	say("%s", answer(rc ? rc : value));
}

/* What the other end has read is not queued here; the acknowledgement may take its time. */
void op_outq(const struct op *op)
{
	const struct m_file *file = m_file(me, op->arg[0]);
	const int64_t until = now_ms() + w->late_ms;
	const int fd = m_fd(me, op->arg[0]);
	int value = 0, rc;

	if (!file || file->kind != FK_STREAM || m_unread(m_out(file)) || m_end(file)->wr_shut ||
	    m_end(file)->rst || m_peer(file)->closed) {
		skip();
		return;
	}
	do {
		rc = ioctl(fd, SIOCOUTQ, &value);
		if (!rc && value)
			give_time();
	} while (!rc && value && now_ms() < until);
	if (rc)
		say("%s", answer(rc));
	else
		say("%d", value);
}
