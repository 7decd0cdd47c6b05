/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diag.c - what the kernel knows of a socket
 *
 * One exact question per socket through NETLINK_SOCK_DIAG: addresses, ports, cookie. The kernel
 * answers within send(), so nothing here waits. Seen on Linux 6.18, and kept by
 * tests/agent/test_agent_diag_facts.c:
 *
 *   - An IPv4-mapped IPv6 socket is found by its IPv4 addresses; which family is asked for does not
 *     matter for IPv4. The cookie must fit, else ENOENT.
 *   - Inode 0 means that no process holds the socket - unless the state is TIME_WAIT: then what
 *     answers is a stand-in with the cookie of a socket that a process may still hold.
 *   - ENOENT likewise does not mean that nobody holds it: after a reset, or when both directions
 *     have ended, the socket is out of the tables while the descriptor is open and what was
 *     received can still be read.
 *   - A socket bound to a device is not found without naming the device: after ENOENT all of them
 *     are tried, up to LINKS_MAX, for the agent's own namespace.
 *   - ENOENT is also the answer to everything where the module tcp_diag is missing, and may not be
 *     loaded. A dump of sockets in no state at all tells: it ends well, or with ENOENT.
 */
#include "agent.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#define STATE_TIME_WAIT 6
#define LINKS_MAX	64

static int netlink_diag(void)
{
	const int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

/* 0, or -errno: no question can be answered */
static int try_dump(int fd)
{
	char buffer[8192] __attribute__((aligned(8)));
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *ask;
	int64_t got;

	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	ask = mnl_nlmsg_put_extra_header(header, sizeof(*ask));
	ask->sdiag_family = AF_INET;
	ask->sdiag_protocol = IPPROTO_TCP;
	if (send(fd, header, header->nlmsg_len, 0) < 0)
		return -errno;
	got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (got < 0)
		return -errno;
	/* NLMSG_ERROR with 0 would do as well; NLMSG_DONE carries a number, too. */
	if ((size_t)got >= sizeof(*header) + sizeof(int) && mnl_nlmsg_ok(header, (int)got))
		return *(int *)mnl_nlmsg_get_payload(header);
	return -EPROTO;
}

int ra_diag_start(struct ra_agent *agent)
{
	struct stat st;
	int rc;

	agent->netns = stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
	agent->diag_fd = netlink_diag();
	if (agent->diag_fd < 0)
		return agent->diag_fd;
	rc = try_dump(agent->diag_fd);
	if (rc < 0) {
		close(agent->diag_fd);
		agent->diag_fd = -1;
	}
	return rc;
}

/* ---- other network namespaces ------------------------------------------------------------------
 */

static struct ra_netns *find_netns(const struct ra_user *user, uint64_t inode)
{
	struct ra_netns *netns = user->netns;

	while (netns && netns->inode != inode)
		netns = netns->next;
	return netns;
}

static bool is_diag_socket(int fd)
{
	int domain = 0, protocol = -1;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
	       getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       protocol == NETLINK_SOCK_DIAG;
}

void ra_diag_offer(struct ra_agent *agent, struct ra_user *user, uint64_t inode, int fd)
{
	struct ra_netns *netns;

	if (fd < 0)
		return;
	if (inode == agent->netns || find_netns(user, inode) || !is_diag_socket(fd))
		goto close;
	netns = calloc(1, sizeof(*netns));
	if (!netns)
		goto close;
	netns->inode = inode;
	netns->diag_fd = fd;
	netns->next = user->netns;
	user->netns = netns;
	return;
close:
	close(fd);
}

static bool netns_in_use(const struct ra_user *user, uint64_t inode)
{
	uint32_t i;

	for (i = 0; i < COLOC_PROCS_MAX; i++)
		if (user->procs[i] && user->procs[i]->netns == inode)
			return true;
	return false;
}

/* A socket of a namespace keeps the namespace alive: not for longer than its processes. */
void ra_diag_forget(struct ra_user *user)
{
	struct ra_netns **at = &user->netns, *netns;

	while ((netns = *at)) {
		if (netns_in_use(user, netns->inode)) {
			at = &netns->next;
			continue;
		}
		*at = netns->next;
		close(netns->diag_fd);
		free(netns);
	}
}

static int diag_fd_of(const struct ra_agent *agent, const struct ra_user *user, uint64_t inode)
{
	const struct ra_netns *netns;

	if (inode == agent->netns)
		return agent->diag_fd;
	netns = find_netns(user, inode);
	return netns ? netns->diag_fd : -1;
}

/* ---- the question ------------------------------------------------------------------------------
 */

static int send_question(int fd, const struct coloc_record_shared *record, uint32_t link,
			 uint32_t sequence)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint64_t cookie = record->cookie;
	char buffer[256];
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *ask;
	unsigned int from = 0;

	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_flags = NLM_F_REQUEST;
	header->nlmsg_seq = sequence;
	ask = mnl_nlmsg_put_extra_header(header, sizeof(*ask));
	ask->sdiag_family = AF_INET6;
	if (!memcmp(record->local.addr, mapped, 12) && !memcmp(record->remote.addr, mapped, 12)) {
		ask->sdiag_family = AF_INET;
		from = 12;
	}
	ask->sdiag_protocol = IPPROTO_TCP;
	ask->idiag_ext = 1 << (INET_DIAG_INFO - 1);
	ask->idiag_states = UINT32_MAX;
	ask->id.idiag_sport = htons(record->local.port);
	ask->id.idiag_dport = htons(record->remote.port);
	memcpy(ask->id.idiag_src, record->local.addr + from, 16 - from);
	memcpy(ask->id.idiag_dst, record->remote.addr + from, 16 - from);
	ask->id.idiag_if = link;
	ask->id.idiag_cookie[0] = (uint32_t)cookie;
	ask->id.idiag_cookie[1] = (uint32_t)(cookie >> 32);
	return send(fd, header, header->nlmsg_len, MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Every field is compared with its place, for a kernel older than the header gives fewer of them.
 */
#define TCP_INFO_HAS(len, field) \
	((len) >=                \
	 offsetof(struct tcp_info_here, field) + sizeof(((struct tcp_info_here *)0)->field))

/* The kernel's struct tcp_info as far as it is needed; libc's ends too early. */
struct tcp_info_here {
	uint8_t state, ca_state, retransmits, probes, backoff, options;
	uint8_t snd_wscale : 4, rcv_wscale : 4;
	uint8_t flags;
	uint32_t words[24];
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
};

static void read_info(const struct nlattr *attr, struct shmt_evidence *ret_evidence)
{
	struct tcp_info_here info = {0};
	const uint16_t len = mnl_attr_get_payload_len(attr);

	if (!TCP_INFO_HAS(len, bytes_received))
		return;
	memcpy(&info, mnl_attr_get_payload(attr), sizeof(info));
	ret_evidence->bytes_received = info.bytes_received;
	ret_evidence->bytes_acked = info.bytes_acked;
	ret_evidence->snd_wscale = info.snd_wscale;
	ret_evidence->rcv_wscale = info.rcv_wscale;
	ret_evidence->valid = 1;
}

static void read_answer(const struct nlmsghdr *header, struct ra_sock *sock)
{
	const struct inet_diag_msg *answer = mnl_nlmsg_get_payload(header);
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	if (header->nlmsg_type == NLMSG_ERROR) {
		if (mnl_nlmsg_get_payload_len(header) >= sizeof(*error) &&
		    (error->error == -ENOENT || error->error == -ESTALE))
			sock->held = RA_CLOSED;
		return;
	}
	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    mnl_nlmsg_get_payload_len(header) < sizeof(*answer))
		return;
	sock->inode = answer->idiag_inode;
	if (answer->idiag_state == STATE_TIME_WAIT)
		sock->held = RA_CLOSED;
	else
		sock->held = answer->idiag_inode ? RA_HELD : RA_ORPHAN;
	mnl_attr_for_each(attr, header,
			  sizeof(*answer)) if (mnl_attr_get_type(attr) == INET_DIAG_INFO)
		read_info(attr, &sock->evidence);
}

static void ask_once(int fd, const struct coloc_record_shared *record, uint32_t link,
		     struct ra_sock *ret_sock)
{
	static uint32_t sequence;
	char buffer[8192] __attribute__((aligned(8)));
	const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
	ssize_t got;

	memset(ret_sock, 0, sizeof(*ret_sock));
	ret_sock->held = RA_UNKNOWN;
	if (fd < 0 || send_question(fd, record, link, ++sequence) < 0)
		return;
	/* A process's socket may hold answers to its own questions; ours has our number. */
	while ((got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0 || errno == EINTR ||
	       errno == ENOBUFS) {
		if (got >= (ssize_t)sizeof(*header) && mnl_nlmsg_ok(header, (int)got) &&
		    header->nlmsg_seq == sequence) {
			read_answer(header, ret_sock);
			return;
		}
	}
}

void ra_diag_ask(struct ra_agent *agent, const struct ra_user *user,
		 const struct coloc_record_shared *record, struct ra_sock *ret_sock)
{
	const int fd = diag_fd_of(agent, user, record->netns);
	struct ra_sock bound;
	uint32_t i;

	ask_once(fd, record, 0, ret_sock);
	if (ret_sock->held != RA_CLOSED || fd != agent->diag_fd)
		return;
	for (i = 0; i < agent->links.count && i < LINKS_MAX; i++) {
		ask_once(fd, record, agent->links.at[i], &bound);
		if (bound.held == RA_HELD || bound.held == RA_ORPHAN) {
			*ret_sock = bound;
			return;
		}
	}
}
