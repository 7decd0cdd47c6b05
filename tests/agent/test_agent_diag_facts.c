/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the facts about NETLINK_SOCK_DIAG that the agent's diag.c leans on, by asking through it:
 * which sockets the kernel finds, and that neither "not found" nor TIME_WAIT means that nobody has
 * it.
 */
#include "agent_harness.h"
#include "agent.h"

#include <net/if.h>

static struct ra_agent agent;
static struct ra_user user;
static struct coloc_record_shared record;
static int fds[2]; /* connected, accepted */

static int start(void **state)
{
	(void)state;
	return ra_diag_start(&agent);
}

static void describe(int fd)
{
	struct sockaddr_in6 here, there;
	socklen_t len = sizeof(here);

	memset(&record, 0, sizeof(record));
	assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &len), 0);
	len = sizeof(there);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&there, &len), 0);
	if (here.sin6_family == AF_INET) {
		record.local = endpoint_of((struct sockaddr_in *)&here);
		record.remote = endpoint_of((struct sockaddr_in *)&there);
	} else {
		memcpy(record.local.addr, &here.sin6_addr, 16);
		memcpy(record.remote.addr, &there.sin6_addr, 16);
		record.local.port = ntohs(here.sin6_port);
		record.remote.port = ntohs(there.sin6_port);
	}
	len = sizeof(record.cookie);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &record.cookie, &len), 0);
	record.netns = agent.netns;
}

static enum ra_held ask_kernel(struct ra_sock *sock)
{
	ra_diag_ask(&agent, &user, &record, sock);
	return sock->held;
}

static void open_pair(void)
{
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	describe(fds[1]);
}

static void close_fd(int i)
{
	close(fds[i]);
}

static void held_with_evidence(void **state)
{
	struct ra_sock here, there;
	struct stat st;

	(void)state;
	open_pair();
	assert_int_equal(write(fds[0], "hello", 5), 5);
	assert_int_equal(ask_kernel(&here), RA_HELD);
	assert_int_equal(fstat(fds[1], &st), 0);
	assert_int_equal(here.inode, st.st_ino);
	assert_int_equal(here.evidence.valid, 1);
	assert_int_equal(here.evidence.bytes_received, 5);
	describe(fds[0]);
	assert_int_equal(ask_kernel(&there), RA_HELD);
	assert_true(shmt_evidence_fits(&here.evidence, &there.evidence));
	record.cookie++;
	assert_int_equal(ask_kernel(&here), RA_CLOSED);
	close_fd(0);
	close_fd(1);
}

static void mapped_address(void **state)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
	struct sockaddr_in there = {.sin_family = AF_INET};
	const int listener = socket(AF_INET6, SOCK_STREAM, 0);
	socklen_t len = sizeof(any);
	struct ra_sock sock;

	(void)state;
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) < 0)
		skip(); /* no IPv6 here */
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&any, &len), 0);
	there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	there.sin_port = any.sin6_port;
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&there, sizeof(there)), 0);
	fds[1] = accept(listener, NULL, NULL);
	describe(fds[1]);
	assert_int_equal(record.local.addr[10], 0xff);
	assert_int_equal(ask_kernel(&sock), RA_HELD);
	close(listener);
	close_fd(0);
	close_fd(1);
}

static void orphan(void **state)
{
	struct ra_sock sock;

	(void)state;
	open_pair();
	close_fd(1);
	assert_int_equal(ask_kernel(&sock), RA_ORPHAN);
	close_fd(0);
	assert_int_equal(ask_kernel(&sock), RA_CLOSED); /* TIME_WAIT */
}

static void time_wait_with_an_owner(void **state)
{
	struct ra_sock sock;

	(void)state;
	open_pair();
	assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
	close_fd(0);
	assert_int_equal(ask_kernel(&sock), RA_CLOSED);
	close_fd(1);
}

static void reset_with_an_owner(void **state)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct ra_sock sock;

	(void)state;
	open_pair();
	setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close_fd(0);
	assert_int_equal(ask_kernel(&sock), RA_CLOSED);
	close_fd(1);
}

static void held_by_a_child(void **state)
{
	struct ra_sock sock;
	pid_t child;

	(void)state;
	open_pair();
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	close_fd(1);
	assert_int_equal(ask_kernel(&sock), RA_HELD);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(ask_kernel(&sock), RA_ORPHAN);
	close_fd(0);
}

static void bound_to_a_device(void **state)
{
	uint32_t lo = if_nametoindex("lo");
	struct ra_sock sock;

	(void)state;
	open_pair();
	if (setsockopt(fds[1], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0) {
		assert_int_equal(ask_kernel(&sock), RA_CLOSED);
		agent.links.at = &lo;
		agent.links.count = 1;
		assert_int_equal(ask_kernel(&sock), RA_HELD);
		agent.links.count = 0;
	}
	close_fd(0);
	close_fd(1);
}

static void other_namespace(void **state)
{
	struct ra_sock sock;

	(void)state;
	open_pair();
	record.netns++;
	assert_int_equal(ask_kernel(&sock), RA_UNKNOWN);
	ra_diag_offer(&agent, &user, record.netns, socket(AF_NETLINK, SOCK_DGRAM, 4));
	assert_int_equal(ask_kernel(&sock), RA_HELD); /* asked through the socket that was given */
	ra_diag_forget(&user);
	assert_int_equal(ask_kernel(&sock), RA_UNKNOWN);
	ra_diag_offer(&agent, &user, record.netns, socket(AF_INET, SOCK_STREAM, 0));
	assert_int_equal(ask_kernel(&sock), RA_UNKNOWN); /* not a socket of that kind */
	close_fd(0);
	close_fd(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_with_evidence),
		cmocka_unit_test(mapped_address),
		cmocka_unit_test(orphan),
		cmocka_unit_test(time_wait_with_an_owner),
		cmocka_unit_test(reset_with_an_owner),
		cmocka_unit_test(held_by_a_child),
		cmocka_unit_test(bound_to_a_device),
		cmocka_unit_test(other_namespace),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
