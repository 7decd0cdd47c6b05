/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.c - which addresses are this guest's
 *
 * Any rtnetlink event about a link or an address leads to one dump of all links and addresses, and
 * the directory gets the difference. That is right after lost events, renamed links and changed
 * patterns alike. Published is what another guest can reach us by: no loopback and no link-local
 * address (it means something on its link only), and no tentative one (it may be a duplicate).
 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "log.h"

struct dump {
	struct ra_agent *agent;
	RA_LIST(int) links; /* index of each interface that counts */
};

/* ---- the dump ----------------------------------------------------------------------------------
 */

static int on_link(const struct nlmsghdr *header, void *data)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;
	struct dump *dump = data;

	ra_list_add(&dump->agent->links, (uint32_t)link->ifi_index);
	if (link->ifi_flags & IFF_LOOPBACK)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, header, sizeof(*link))
	{
		if (mnl_attr_get_type(attr) == IFLA_IFNAME &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
		    ra_conf_interface_counts(&dump->agent->conf, mnl_attr_get_str(attr)))
			ra_list_add(&dump->links, link->ifi_index);
	}
	return MNL_CB_OK;
}

static bool link_counts(const struct dump *dump, int index)
{
	uint32_t i;

	for (i = 0; i < dump->links.count; i++)
		if (dump->links.at[i] == index)
			return true;
	return false;
}

static bool may_be_published(const uint8_t addr[16])
{
	struct in6_addr in6;

	memcpy(&in6, addr, sizeof(in6));
	if (IN6_IS_ADDR_V4MAPPED(&in6))
		return addr[12] != 127 && addr[12] != 0 && !(addr[12] == 169 && addr[13] == 254);
	return !IN6_IS_ADDR_LOOPBACK(&in6) && !IN6_IS_ADDR_LINKLOCAL(&in6) &&
	       !IN6_IS_ADDR_MULTICAST(&in6) && !IN6_IS_ADDR_UNSPECIFIED(&in6);
}

static void see_address(struct ra_agent *agent, const uint8_t addr[16])
{
	struct ra_address fresh = {.seen = true};
	uint32_t i;

	for (i = 0; i < agent->addresses.count; i++) {
		if (!memcmp(agent->addresses.at[i].addr, addr, 16)) {
			agent->addresses.at[i].seen = true;
			return;
		}
	}
	memcpy(fresh.addr, addr, 16);
	ra_list_add(&agent->addresses, fresh);
}

static int on_address(const struct nlmsghdr *header, void *data)
{
	const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr, *local = NULL;
	const size_t want = message->ifa_family == AF_INET ? 4 : 16;
	uint32_t flags = message->ifa_flags;
	struct dump *dump = data;
	uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};

	if (message->ifa_family != AF_INET && message->ifa_family != AF_INET6)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, header, sizeof(*message))
	{
		/* IFA_ADDRESS is the peer's on a point-to-point link: IFA_LOCAL goes before it. */
		if (mnl_attr_get_type(attr) == IFA_LOCAL ||
		    (mnl_attr_get_type(attr) == IFA_ADDRESS && !local))
			local = attr;
		else if (mnl_attr_get_type(attr) == IFA_FLAGS &&
			 mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			flags = mnl_attr_get_u32(attr);
	}
	if (!local || mnl_attr_get_payload_len(local) != want ||
	    flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) ||
	    !link_counts(dump, (int)message->ifa_index))
		return MNL_CB_OK;
	memcpy(addr + 16 - want, mnl_attr_get_payload(local), want);
	if (may_be_published(addr))
		see_address(dump->agent, addr);
	return MNL_CB_OK;
}

static int dump_table(struct ra_agent *agent, uint16_t type, mnl_cb_t on_row, struct dump *dump)
{
	static uint32_t sequence;
	char buffer[32768];
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct rtgenmsg *body;
	ssize_t got;
	int rc = MNL_CB_OK;

	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = ++sequence;
	body = mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	body->rtgen_family = AF_UNSPEC;
	if (send(agent->dump_fd, header, header->nlmsg_len, 0) < 0)
		return -errno;
	while (rc > MNL_CB_STOP) {
		/* The kernel has the next piece ready when it is asked for: this does not wait. */
		got = recv(agent->dump_fd, buffer, sizeof(buffer), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		rc = mnl_cb_run(buffer, (size_t)got, sequence, 0, on_row, dump);
		if (rc < 0 && errno == EPROTO)
			rc = MNL_CB_OK; /* the rest of a dump that was given up */
		else if (rc < 0)
			return -errno;
	}
	return 0;
}

/* ---- the directory -----------------------------------------------------------------------------
 */

static void say(const char *what, const uint8_t addr[16], int rc)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, addr, text, sizeof(text));
	if (rc < 0)
		ra_log(SD_WARNING, "address %s is not %s: %s", text, what, strerror(-rc));
	else
		ra_log(SD_INFO, "address %s is %s", text, what);
}

static void publish(struct ra_agent *agent)
{
	struct ra_address *address;
	uint32_t i = 0;
	int rc;

	while (i < agent->addresses.count) {
		address = &agent->addresses.at[i];
		if (!address->seen) {
			if (address->published) {
				rc = shmt_address_remove(&agent->region, &agent->guest,
							 address->addr);
				say("withdrawn", address->addr, rc);
			}
			ra_list_drop(&agent->addresses, i);
			continue;
		}
		if (!address->published && agent->region.base) {
			rc = shmt_address_add(&agent->region, &agent->guest, address->addr);
			address->published = rc == 0 || rc == -EEXIST;
			say("published", address->addr, rc == -EEXIST ? 0 : rc);
		}
		i++;
	}
}

void ra_residency_update(struct ra_agent *agent)
{
	struct dump dump = {.agent = agent};
	uint32_t i;
	int rc;

	for (i = 0; i < agent->addresses.count; i++)
		agent->addresses.at[i].seen = false;
	agent->links.count = 0;
	rc = dump_table(agent, RTM_GETLINK, on_link, &dump);
	if (rc == 0)
		rc = dump_table(agent, RTM_GETADDR, on_address, &dump);
	if (rc < 0)
		ra_log(SD_ERR, "rtnetlink: %s: addresses stay as they were", strerror(-rc));
	else
		publish(agent);
	free(dump.links.at);
}

/* An earlier agent of this life published these; the first dump tells which of them are still ours.
 */
static void inherit(struct ra_agent *agent)
{
	struct ra_address old = {.published = true};
	const struct shmt_addr_shared *entry;
	uint64_t word;
	uint32_t i;

	for (i = 0; i < agent->region.addr_count; i++) {
		entry = &agent->region.addrs[i];
		word = shmt_load_acquire(&entry->word);
		if (word != SHMT_ADDR_WORD(agent->guest.epoch, agent->guest.slot, SHMT_ADDR_LIVE))
			continue;
		memcpy(old.addr, entry->addr, 16);
		ra_list_add(&agent->addresses, old);
	}
}

static void on_event(struct ev_loop *loop, ev_io *io, int events)
{
	struct ra_agent *agent = io->data;
	char buffer[8192];
	bool any = false;
	ssize_t got;

	(void)loop;
	(void)events;
	do {
		got = recv(agent->route_fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		any = any || got > 0 || (got < 0 && errno == ENOBUFS);
	} while (got > 0 || (got < 0 && (errno == EINTR || errno == ENOBUFS)));
	if (any)
		ra_residency_update(agent);
}

void ra_residency_leave(struct ra_agent *agent)
{
	agent->addresses.count = 0;
}

void ra_residency_enter(struct ra_agent *agent)
{
	agent->addresses.count = 0;
	inherit(agent);
	ra_residency_update(agent);
}

int ra_residency_start(struct ra_agent *agent)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
	};

	agent->dump_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	agent->route_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (agent->dump_fd < 0 || agent->route_fd < 0 ||
	    bind(agent->route_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (agent->region.base)
		inherit(agent);
	ev_io_init(&agent->route_io, on_event, agent->route_fd, EV_READ);
	agent->route_io.data = agent;
	ev_io_start(agent->loop, &agent->route_io);
	ra_residency_update(agent);
	return 0;
}

void ra_residency_stop(struct ra_agent *agent)
{
	ev_io_stop(agent->loop, &agent->route_io);
	if (agent->dump_fd >= 0)
		close(agent->dump_fd);
	if (agent->route_fd >= 0)
		close(agent->route_fd);
	free(agent->addresses.at);
	free(agent->links.at);
}
