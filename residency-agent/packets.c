/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packets.c - the agent's UNIX socket: connections, and packets on them
 *
 * Whoever breaks the protocol loses the connection, and the log says who it was. A packet is read
 * whole or not at all (MSG_TRUNC); descriptors that come with one that may carry none are closed.
 * How many connections one user may have is limited, so that nobody can use up the descriptors.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define CONNS_PER_USER	 (2 * COLOC_PROCS_MAX)
#define PACKETS_PER_TURN 64 /* then the others' turn */

/* ---- answers -----------------------------------------------------------------------------------
 */

static void watch(struct ra_agent *agent, struct ra_conn *conn, int events)
{
	ev_io_stop(agent->loop, &conn->io);
	ev_io_set(&conn->io, conn->fd, events);
	ev_io_start(agent->loop, &conn->io);
}

static int send_piece(struct ra_conn *conn)
{
	struct coloc_data_wire data = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_DATA},
	};
	const size_t left = conn->answer_bytes - conn->answer_sent;

	data.bytes = (uint32_t)(left < sizeof(data.text) ? left : sizeof(data.text));
	if (data.bytes == 0) {
		data.header.type = COLOC_MSG_END;
		data.status = conn->answer_status;
	}
	memcpy(data.text, conn->answer + conn->answer_sent, data.bytes);
	if (send(conn->fd, &data, offsetof(struct coloc_data_wire, text) + data.bytes,
		 MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	conn->answer_sent += data.bytes;
	return data.header.type == COLOC_MSG_END;
}

/* Nothing is read from a tool while its answer is on the way: it cannot pile up work here. */
static void send_answer(struct ra_agent *agent, struct ra_conn *conn)
{
	int rc;

	do {
		rc = send_piece(conn);
	} while (rc == 0 || rc == -EINTR);
	if (rc == -EAGAIN) {
		watch(agent, conn, EV_WRITE);
		return;
	}
	free(conn->answer);
	conn->answer = NULL;
	if (rc < 0)
		ra_conn_drop(agent, conn, NULL);
	else
		watch(agent, conn, EV_READ);
}

void ra_conn_answer(struct ra_agent *agent, struct ra_conn *conn, char *json, int status)
{
	if (!json) {
		ra_conn_drop(agent, conn, "no memory for an answer");
		return;
	}
	conn->answer = json;
	conn->answer_bytes = strlen(json);
	conn->answer_sent = 0;
	conn->answer_status = status;
	send_answer(agent, conn);
}

/* ---- connections -------------------------------------------------------------------------------
 */

void ra_conn_drop(struct ra_agent *agent, struct ra_conn *conn, const char *why)
{
	if (why)
		ra_log(SD_WARNING, "process %d of user %u is disconnected: %s", (int)conn->pid,
		       (unsigned int)conn->uid, why);
	ev_io_stop(agent->loop, &conn->io);
	if (conn->proc) {
		conn->proc->conn = NULL;
		ra_proc_disconnected(agent, conn->proc);
	}
	*conn->at = conn->next;
	if (conn->next)
		conn->next->at = conn->at;
	agent->conn_count--;
	close(conn->fd);
	free(conn->answer);
	free(conn);
}

/* A version that is not ours is told so before the connection ends. */
static const char *refuse_version(struct ra_conn *conn)
{
	const struct coloc_welcome_wire welcome = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_WELCOME},
		.reason = COLOC_REASON_AGENT_VERSION,
	};

	(void)send(conn->fd, &welcome, sizeof(welcome), MSG_NOSIGNAL | MSG_DONTWAIT);
	return "it speaks another version of the protocol";
}

/* NULL, or why the connection has to end. *fd: the descriptor that came along; taken over: -1 */
static const char *take_packet(struct ra_agent *agent, struct ra_conn *conn, const void *packet,
			       size_t bytes, int *fd)
{
	const struct coloc_header_wire *header = packet;
	const struct coloc_record_wire *record = packet;
	const struct coloc_control_wire *control = packet;
	const struct coloc_hello_wire *hello = packet;
	int rc;

	if (bytes < sizeof(*header) || header->magic != COLOC_PROTO_MAGIC)
		return "not a packet of this protocol";
	if (header->version != COLOC_PROTO_VERSION)
		return refuse_version(conn);
	if (*fd >= 0 && header->type != COLOC_MSG_HELLO)
		return "a descriptor where none belongs";
	switch (header->type) {
	case COLOC_MSG_HELLO:
		if (bytes != sizeof(*hello) || conn->proc)
			return conn->proc ? "a second HELLO" : "HELLO of a wrong length";
		rc = ra_proc_hello(agent, conn, hello, *fd);
		*fd = -1;
		return rc < 0 ? "it could not be welcomed" : NULL;
	case COLOC_MSG_JOIN:
	case COLOC_MSG_CLOSED:
		if (bytes != sizeof(*record) || !conn->proc)
			return conn->proc ? "JOIN or CLOSED of a wrong length"
					  : "JOIN or CLOSED before HELLO";
		if (record->record >= conn->proc->user->record_count)
			return "a record that does not exist";
		if (header->type == COLOC_MSG_JOIN)
			ra_join(agent, conn->proc->user, record->record, record->generation);
		else
			ra_reclaim_soon(agent, conn->proc->user, record->record);
		return NULL;
	case COLOC_MSG_CONTROL:
		if (bytes != sizeof(*control))
			return "CONTROL of a wrong length";
		if (conn->answer)
			return "CONTROL before the last one was answered";
		ra_control(agent, conn, control->verb);
		return NULL;
	default:
		return "a packet of an unknown type";
	}
}

/* Takes the first descriptor out of @message and closes what came beside it. -EPROTO: too many. */
static int take_fds(struct msghdr *message, int *ret_fd)
{
	struct cmsghdr *control;
	size_t count, i;
	int fds[16], total = 0;

	*ret_fd = -1;
	for (control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count && i < sizeof(fds) / sizeof(fds[0]); i++) {
			memcpy(&fds[i], CMSG_DATA(control) + i * sizeof(int), sizeof(int));
			if (total++ == 0)
				*ret_fd = fds[i];
			else
				close(fds[i]);
		}
	}
	return total > 1 || message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
}

/* false: the connection is gone, or there is nothing more to read now. */
static bool read_packet(struct ra_agent *agent, struct ra_conn *conn)
{
	char packet[COLOC_PROTO_MAX_BYTES] __attribute__((aligned(8)));
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {packet, sizeof(packet)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	const char *why = NULL;
	ssize_t got;
	int fd;

	got = recvmsg(conn->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0 && errno == EINTR)
		return true;
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) {
		ra_conn_drop(agent, conn, NULL);
		return false;
	}
	if (take_fds(&message, &fd) < 0)
		why = "more descriptors than one";
	else if (message.msg_flags & MSG_TRUNC)
		why = "an oversized packet";
	if (!why)
		why = take_packet(agent, conn, packet, (size_t)got, &fd);
	if (fd >= 0)
		close(fd);
	if (why)
		ra_conn_drop(agent, conn, why);
	/* After CONTROL the connection may be gone: its answer may have failed to go out. */
	return !why && ((const struct coloc_header_wire *)packet)->type != COLOC_MSG_CONTROL;
}

static void on_conn(struct ev_loop *loop, ev_io *io, int events)
{
	struct ra_agent *agent = ev_userdata(loop);
	struct ra_conn *conn = io->data;
	int i;

	if (events & EV_WRITE) {
		send_answer(agent, conn);
		return;
	}
	for (i = 0; i < PACKETS_PER_TURN && read_packet(agent, conn); i++)
		;
}

static uint32_t count_conns(const struct ra_agent *agent, uid_t uid)
{
	const struct ra_conn *conn;
	uint32_t count = 0;

	for (conn = agent->conns; conn; conn = conn->next)
		count += conn->uid == uid;
	return count;
}

static void take_connection(struct ra_agent *agent, int fd)
{
	struct ra_conn *conn;
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    count_conns(agent, peer.uid) >= CONNS_PER_USER) {
		close(fd);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (!conn) {
		close(fd);
		return;
	}
	conn->fd = fd;
	conn->uid = peer.uid;
	conn->gid = peer.gid;
	conn->pid = peer.pid;
	conn->next = agent->conns;
	conn->at = &agent->conns;
	if (conn->next)
		conn->next->at = &conn->next;
	agent->conns = conn;
	agent->conn_count++;
	ev_io_init(&conn->io, on_conn, fd, EV_READ);
	conn->io.data = conn;
	ev_io_start(agent->loop, &conn->io);
}

static void on_listen(struct ev_loop *loop, ev_io *io, int events)
{
	struct ra_agent *agent = io->data;
	int fd, i;

	(void)events;
	for (i = 0; i < PACKETS_PER_TURN; i++) {
		fd = accept4(agent->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			take_connection(agent, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			ra_log(SD_ERR, "%s: accept: %s", agent->socket_path, strerror(errno));
			ev_io_stop(loop, io);
			agent->accept_paused = true;
		}
		return;
	}
}

void ra_packets_resume(struct ra_agent *agent)
{
	if (!agent->accept_paused || agent->heartbeat % RA_BEATS_PER_S)
		return;
	agent->accept_paused = false;
	ev_io_start(agent->loop, &agent->listen_io);
}

/* ---- the socket --------------------------------------------------------------------------------
 */

int ra_packets_mode(const struct ra_agent *agent)
{
	const bool limited = agent->conf.access_group_set;

	if (chown(agent->socket_path, (uid_t)-1, limited ? agent->conf.access_group : getegid()) <
		    0 ||
	    chmod(agent->socket_path, limited ? 0660 : 0666) < 0)
		return -errno;
	return 0;
}

static int make_socket(struct ra_agent *agent, const struct sockaddr_un *address)
{
	const mode_t old = umask(0077); /* nobody gets in before the mode is right */
	int rc = 0;

	unlink(agent->socket_path); /* an earlier agent's: ra_attach_lock() says that none runs */
	if (bind(agent->listen_fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		rc = -errno;
	umask(old);
	if (rc == 0)
		rc = ra_packets_mode(agent);
	if (rc == 0 && listen(agent->listen_fd, 1024) < 0)
		rc = -errno;
	return rc;
}

int ra_packets_listen(struct ra_agent *agent)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int rc;

	if (strlen(agent->socket_path) >= sizeof(address.sun_path)) {
		rc = -ENAMETOOLONG;
		goto fail;
	}
	strcpy(address.sun_path, agent->socket_path);
	agent->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = agent->listen_fd < 0 ? -errno : make_socket(agent, &address);
	if (rc < 0)
		goto fail;
	return 0;
fail:
	ra_log(SD_ERR, "socket %s: %s", agent->socket_path, strerror(-rc));
	return rc;
}

void ra_packets_start(struct ra_agent *agent)
{
	ev_io_init(&agent->listen_io, on_listen, agent->listen_fd, EV_READ);
	agent->listen_io.data = agent;
	ev_io_start(agent->loop, &agent->listen_io);
}

void ra_packets_stop(struct ra_agent *agent)
{
	ev_io_stop(agent->loop, &agent->listen_io);
	close(agent->listen_fd);
	unlink(agent->socket_path);
	while (agent->conns) {
		if (agent->conns->proc)
			ra_proc_free(agent, agent->conns->proc);
		ra_conn_drop(agent, agent->conns, NULL);
	}
}
