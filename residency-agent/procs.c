/* SPDX-License-Identifier: Apache-2.0 */
/*
 * procs.c - the processes that said HELLO
 *
 * A process has a slot in its user's memory: its bit in the records that it uses. The slot lasts as
 * long as the process, which is not as long as its connection: a fork child inherits the parent's
 * connection (so it may outlast the process), and exec or a loop of close() ends it early. Hence
 * the pidfd counts; the connection alone only where the process cannot be seen from here. A process
 * that connects again gets another slot, and its bits of the earlier one are taken out.
 */
#include "agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

/* ---- access ------------------------------------------------------------------------------------
 */

static bool in_groups_of_peer(int fd, gid_t group)
{
	gid_t groups[256];
	socklen_t len = sizeof(groups);
	size_t i;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == group)
			return true;
	return false;
}

bool ra_access_allowed(const struct ra_agent *agent, int fd, uid_t uid, gid_t gid)
{
	return !agent->conf.access_group_set || uid == 0 || uid == geteuid() ||
	       gid == agent->conf.access_group || in_groups_of_peer(fd, agent->conf.access_group);
}

/* ---- death -------------------------------------------------------------------------------------
 */

void ra_proc_free(struct ra_agent *agent, struct ra_proc *proc)
{
	if (proc->pid_fd >= 0) {
		ev_io_stop(agent->loop, &proc->dead);
		close(proc->pid_fd);
	}
	if (proc->conn)
		proc->conn->proc = NULL;
	proc->user->procs[proc->slot] = NULL;
	free(proc);
}

static void end_proc(struct ra_agent *agent, struct ra_proc *proc)
{
	struct ra_user *user = proc->user;

	ra_log(SD_DEBUG, "process %d '%s' is gone", (int)proc->pid, proc->command);
	if (!proc->goes_on)
		ra_removal_forget(proc);
	ra_reclaim_proc(agent, proc);
	ra_proc_free(agent, proc);
	ra_diag_forget(user);
}

static void on_dead(struct ev_loop *loop, ev_io *io, int events)
{
	struct ra_proc *proc = io->data;
	struct ra_conn *conn = proc->conn;

	(void)events;
	end_proc(ev_userdata(loop), proc);
	/* Children that inherited the connection have no use for it. */
	if (conn)
		ra_conn_drop(ev_userdata(loop), conn, NULL);
}

void ra_proc_disconnected(struct ra_agent *agent, struct ra_proc *proc)
{
	if (proc->pid_fd < 0)
		end_proc(agent, proc);
}

/* ---- HELLO -------------------------------------------------------------------------------------
 */

static int peer_pid_fd(const struct ra_conn *conn)
{
	int fd = -1;
	socklen_t len = sizeof(fd);

	if (conn->pid <= 0)
		return -1;
	/* The first is certain to be the peer; the second could be a later process of that number.
	 */
	if (getsockopt(conn->fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	return (int)syscall(SYS_pidfd_open, conn->pid, 0);
}

static int send_welcome(const struct ra_agent *agent, const struct ra_conn *conn,
			enum coloc_reason reason, uint32_t attach)
{
	struct coloc_welcome_wire welcome = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_WELCOME},
		.reason = reason,
	};
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {&welcome, sizeof(welcome)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *rights;
	int fds[2];
	size_t count = 1;

	if (reason == COLOC_REASON_NONE) {
		welcome.proc = conn->proc->slot;
		welcome.local_bytes = conn->proc->user->bytes;
		fds[0] = conn->proc->user->fd;
		welcome.region_attach = attach;
		if (agent->region.base && attach) {
			welcome.region_bytes = agent->region.bytes;
			fds[count++] = agent->region_fd;
		}
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
	}
	return sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int ra_proc_welcome(const struct ra_agent *agent, const struct ra_conn *conn, uint32_t attach)
{
	return send_welcome(agent, conn, COLOC_REASON_NONE, attach);
}

/* The same process said HELLO before and lost that connection: exec, or closed it. */
static void end_earlier(struct ra_agent *agent, struct ra_user *user, pid_t pid, bool same_program)
{
	uint32_t i;

	for (i = 0; pid > 0 && i < COLOC_PROCS_MAX; i++) {
		if (!user->procs[i] || user->procs[i]->pid != pid || user->procs[i]->conn)
			continue;
		user->procs[i]->goes_on = same_program;
		end_proc(agent, user->procs[i]);
	}
}

static int free_slot(const struct ra_user *user)
{
	int slot;

	for (slot = 0; slot < (int)COLOC_PROCS_MAX; slot++)
		if (!user->procs[slot])
			return slot;
	return -ENOSPC;
}

static void copy_command(struct ra_proc *proc, const char *command)
{
	size_t i;

	memcpy(proc->command, command, sizeof(proc->command) - 1);
	for (i = 0; proc->command[i]; i++)
		if (proc->command[i] < ' ' || proc->command[i] > '~')
			proc->command[i] = '?';
}

static struct ra_proc *make_proc(struct ra_agent *agent, struct ra_conn *conn, struct ra_user *user,
				 const struct coloc_hello_wire *hello)
{
	const int slot = free_slot(user);
	struct ra_proc *proc = slot < 0 ? NULL : calloc(1, sizeof(*proc));

	if (!proc)
		return NULL;
	proc->user = user;
	proc->slot = (uint32_t)slot;
	proc->birth = ++user->births;
	proc->pid = conn->pid;
	proc->netns = hello->netns;
	proc->conn = conn;
	copy_command(proc, hello->command);
	proc->pid_fd = peer_pid_fd(conn);
	if (proc->pid_fd >= 0) {
		ev_io_init(&proc->dead, on_dead, proc->pid_fd, EV_READ);
		proc->dead.data = proc;
		ev_io_start(agent->loop, &proc->dead);
	}
	user->shared->gates[slot].line[0].pid = (uint32_t)conn->pid;
	user->procs[slot] = proc;
	conn->proc = proc;
	return proc;
}

int ra_proc_hello(struct ra_agent *agent, struct ra_conn *conn,
		  const struct coloc_hello_wire *hello, int diag_fd)
{
	enum coloc_reason reason = COLOC_REASON_NONE;
	struct ra_user *user = NULL;

	if (!ra_access_allowed(agent, conn->fd, conn->uid, conn->gid))
		reason = COLOC_REASON_AGENT_DENIED;
	else
		user = ra_user_get(agent, conn->uid);
	if (user) {
		end_earlier(agent, user, conn->pid, hello->again);
		if (make_proc(agent, conn, user, hello))
			ra_diag_offer(agent, user, hello->netns, diag_fd);
		else
			reason = COLOC_REASON_TABLE_FULL;
	} else if (reason == COLOC_REASON_NONE) {
		reason = COLOC_REASON_NO_MEMORY;
	}
	if ((!user || reason != COLOC_REASON_NONE) && diag_fd >= 0)
		close(diag_fd);
	if (reason != COLOC_REASON_NONE)
		ra_log(SD_NOTICE, "process %d of user %u is not served: %s", (int)conn->pid,
		       (unsigned int)conn->uid, coloc_reason_text(reason));
	return send_welcome(agent, conn, reason,
			    user ? shmt_load(&user->shared->region_attach) : 0);
}
