/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: HELLO is answered with the memory of the user and the region; each process gets a slot,
 * which is free again when it is dead; whoever breaks the protocol loses the connection and nobody
 * else notices; a second agent does not take over the socket.
 */
#include "agent_harness.h"

static struct agent agent;

static int start(void **state)
{
	if (make_folder(state) < 0)
		return -1;
	agent_init(&agent, "a", "[region]\nsize = 16M\n");
	agent_start(&agent);
	return 0;
}

static int stop(void **state)
{
	assert_int_equal(agent_stop(&agent, SIGTERM), 0);
	return remove_folder(state);
}

static void welcome_brings_memory(void **state)
{
	struct shim shim;
	struct stat st;
	char path[200];

	(void)state;
	shim_start(&shim, &agent);
	assert_int_equal(shim.welcome.region_bytes, 16 << 20);
	assert_int_equal(shim.local->uid, getuid());
	assert_int_equal(shim.local->region_reason, COLOC_REASON_NONE);
	assert_int_equal(shim.local->guest, status_of(&agent, "guest.slot"));
	assert_int_equal(shim.local->settings.switch_bytes, 65536);
	assert_int_equal(shim.local->rule_count, 1);
	assert_int_equal(shim.local->rules[0].bits, 0);
	assert_int_equal(shim.local->rules[0].allow, 1);
	snprintf(path, sizeof(path), "%s/records.%u", agent.folder, (unsigned int)getuid());
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	shim_stop(&shim);
}

static void heartbeat_runs(void **state)
{
	struct shim shim;
	uint64_t local, region;

	(void)state;
	shim_start(&shim, &agent);
	local = shmt_load(&shim.local->heartbeat);
	region = shmt_load(&shim.region.guests[shim.local->guest].heartbeat);
	wait_for(shmt_load(&shim.local->heartbeat) >= local + 3);
	wait_for(shmt_load(&shim.region.guests[shim.local->guest].heartbeat) >= region + 3);
	shim_stop(&shim);
}

/* A child holds the connection open that it inherited: its parent is dead all the same. */
static void slot_ends_with_the_process(void **state)
{
	int to_child[2];
	struct shim shim;
	pid_t parent;

	(void)state;
	assert_int_equal(pipe(to_child), 0);
	wait_for(status_of(&agent, "processes") == 0 || status_of(&agent, "processes") == 1);
	parent = fork();
	if (parent == 0) {
		char byte;

		close(to_child[1]);
		shim_start(&shim, &agent);
		if (fork() == 0) {
			(void)!read(to_child[0], &byte, 1);
			_exit(0);
		}
		_exit(0);
	}
	close(to_child[0]);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	shim_start(&shim, &agent);
	wait_for(status_of(&agent, "processes") == 1);
	shim_stop(&shim);
	close(to_child[1]);
}

/* true: the agent has closed the connection without an answer */
static bool is_dropped(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0;
}

static void bad_packets_end_the_connection(void **state)
{
	struct coloc_hello_wire hello = {.header = header(COLOC_MSG_HELLO)};
	struct coloc_record_wire record = {header(COLOC_MSG_JOIN), 0, 0};
	char big[COLOC_PROTO_MAX_BYTES + 1] = {0};
	struct coloc_header_wire head;
	struct shim shim;
	size_t i;
	struct {
		const void *packet;
		size_t bytes;
	} bad[] = {
		{"x", 1},	    {&hello, sizeof(hello) - 1}, {&record, sizeof(record)},
		{big, sizeof(big)}, {&head, sizeof(head)},
	};

	(void)state;
	head = header(77);
	memcpy(big, &hello, sizeof(hello));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const int fd = agent_connect(&agent);

		assert_int_equal(send(fd, bad[i].packet, bad[i].bytes, MSG_NOSIGNAL), bad[i].bytes);
		assert_true(is_dropped(fd));
		close(fd);
	}
	shim_start(&shim, &agent);
	record.record = shim.local->record_count;
	assert_int_equal(send(shim.fd, &record, sizeof(record), MSG_NOSIGNAL), sizeof(record));
	assert_true(is_dropped(shim.fd));
	shim_stop(&shim);
	shim_start(&shim, &agent);
	send_hello(shim.fd);
	assert_true(is_dropped(shim.fd));
	shim_stop(&shim);
}

static void other_version_is_told(void **state)
{
	struct coloc_hello_wire hello = {.header = header(COLOC_MSG_HELLO)};
	const int fd = agent_connect(&agent);
	struct coloc_welcome_wire welcome;
	int fds[4];

	(void)state;
	hello.header.version = COLOC_PROTO_VERSION + 1;
	assert_int_equal(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
	assert_int_equal(take_welcome(fd, &welcome, fds), 0);
	assert_int_equal(welcome.reason, COLOC_REASON_AGENT_VERSION);
	assert_true(is_dropped(fd));
	close(fd);
}

static void stray_descriptors_are_closed(void **state)
{
	const struct coloc_control_wire control = {header(COLOC_MSG_CONTROL), COLOC_VERB_STATUS, 0};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} rights = {{0}};
	struct iovec iov = {(void *)&control, sizeof(control)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = rights.bytes,
				 .msg_controllen = sizeof(rights.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	const int fd = agent_connect(&agent);
	int pipe_fds[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pipe_fds[1], sizeof(int));
	assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), sizeof(control));
	assert_true(is_dropped(fd));
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 0); /* nobody holds the other end */
	close(pipe_fds[0]);
	close(fd);
}

static void unknown_verb_is_an_error(void **state)
{
	json_t *json;
	int status;

	(void)state;
	json = ask(&agent, 99, &status);
	assert_int_equal(status, -ENOSYS);
	assert_non_null(json_object_get(json, "error"));
	json_decref(json);
}

static void second_agent_keeps_out(void **state)
{
	struct agent second = agent;
	char text[1024];

	(void)state;
	assert_int_equal(agent_fails(&second, text, sizeof(text)), 4);
	assert_non_null(strstr(text, "another agent serves it"));
	assert_int_equal(status_of(&agent, "pid"), agent.pid);
}

/* Somebody cuts the file that he may write: only his processes are cut off. */
static void truncated_memory_is_survived(void **state)
{
	struct shim shim;
	char path[200];

	(void)state;
	shim_start(&shim, &agent);
	snprintf(path, sizeof(path), "%s/records.%u", agent.folder, (unsigned int)getuid());
	assert_int_equal(truncate(path, 0), 0);
	assert_true(is_dropped(shim.fd));
	shim_stop(&shim);
	shim_start(&shim, &agent);
	assert_int_equal(status_of(&agent, "pid"), agent.pid);
	shim_stop(&shim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(welcome_brings_memory),
		cmocka_unit_test(heartbeat_runs),
		cmocka_unit_test(slot_ends_with_the_process),
		cmocka_unit_test(bad_packets_end_the_connection),
		cmocka_unit_test(other_version_is_told),
		cmocka_unit_test(stray_descriptors_are_closed),
		cmocka_unit_test(unknown_verb_is_an_error),
		cmocka_unit_test(second_agent_keeps_out),
		cmocka_unit_test(truncated_memory_is_survived),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
