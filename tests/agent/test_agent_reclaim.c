/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: what a killed process leaves is taken back; a socket that another process holds keeps its
 * record; one that is closed but not yet read to its end keeps it too, also when the only holder is
 * a child that nobody knows of; a record that its shim left half made is freed when nobody can be
 * at it.
 */
#include "agent_harness.h"
#include "switch.h"

static struct agent agent;
static struct shim shim;

static int start(void **state)
{
	if (make_folder(state) < 0)
		return -1;
	agent_init(&agent, "a", "[region]\nsize = 16M\n");
	agent_start(&agent);
	shim_start(&shim, &agent);
	return 0;
}

static int stop(void **state)
{
	shim_stop(&shim);
	assert_int_equal(agent_stop(&agent, SIGTERM), 0);
	return remove_folder(state);
}

static void forget_bits(const struct stream *stream)
{
	unsigned int i;

	for (i = 0; i < COLOC_PROCS_MAX / 64; i++)
		shmt_store(&record_of(&shim, stream)->procs[i], 0);
}

/* A child with a shim of its own makes a stream with a ring and waits to be killed. */
static pid_t start_child(int to_parent, bool with_ring)
{
	const pid_t child = fork();
	struct stream streams[2];
	struct shim own;
	int fds[2];

	if (child != 0)
		return child;
	shim_start(&own, &agent);
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(&own, fds[0]);
	streams[1] = make_record(&own, fds[1]);
	if (with_ring) {
		join(&own, &streams[0]);
		wait_for(granted(&own, &streams[0]) && granted(&own, &streams[1]));
	}
	(void)!write(to_parent, streams, sizeof(streams));
	for (;;)
		pause();
}

static void killed_process(void **state)
{
	struct stream streams[2];
	int pipe_fds[2];
	pid_t child;
	unsigned int i;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	for (i = 0; i < 4; i++) {
		child = start_child(pipe_fds[1], i % 2);
		assert_int_equal(read(pipe_fds[0], streams, sizeof(streams)), sizeof(streams));
		assert_int_equal(status_of(&agent, "segments.used"), i % 2);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, NULL, 0), child);
		wait_for(ended(&shim, &streams[0]) && ended(&shim, &streams[1]));
		wait_for(status_of(&agent, "segments.used") == 0);
		assert_int_equal(status_of(&agent, "records"), 0);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void open_both(struct stream streams[2])
{
	int fds[2];

	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(&shim, fds[0]);
	streams[1] = make_record(&shim, fds[1]);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
}

/* The agent looks at each of the next beats: after two seconds it has looked. */
static void stays_for_two_seconds(const struct stream *stream)
{
	const int64_t until = now_ms() + 2000;

	while (look_again(until))
		assert_false(ended(&shim, stream));
}

static void held_elsewhere(void **state)
{
	struct stream streams[2];
	pid_t child;

	(void)state;
	open_both(streams);
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	close(streams[0].fd);
	forget_bits(&streams[0]);
	send_record(&shim, &streams[0], COLOC_MSG_CLOSED);
	stays_for_two_seconds(&streams[0]);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	wait_for(ended(&shim, &streams[0]));
	close(streams[1].fd);
	wait_for(ended(&shim, &streams[1]));
}

/* After both directions have ended the kernel no longer knows the socket that is still open here.
 */
static void closed_but_open(void **state)
{
	struct stream streams[2];

	(void)state;
	open_both(streams);
	assert_int_equal(shutdown(streams[0].fd, SHUT_WR), 0);
	close(streams[1].fd);
	forget_bits(&streams[1]);
	send_record(&shim, &streams[1], COLOC_MSG_CLOSED);
	wait_for(ended(&shim, &streams[1]));
	send_record(&shim, &streams[0], COLOC_MSG_CLOSED); /* a lie: it has it still */
	stays_for_two_seconds(&streams[0]);
	/* Behind the shim's back: the bit is left. */
	close(streams[0].fd);
	wait_for(ended(&shim, &streams[0]));
	wait_for(status_of(&agent, "segments.used") == 0);
}

static void unread_bytes_and_unknown_holder(void **state)
{
	struct coloc_record_shared *record;
	struct stream streams[2];
	struct shmt_seg_shared *seg;
	pid_t child;

	(void)state;
	open_both(streams);
	record = record_of(&shim, &streams[0]);
	seg = seg_of(&shim, &streams[0]);
	shmt_store(&seg->dir[!record->side].ctl, SHMT_CTL(5, SHMT_RING)); /* five bytes, unread */
	assert_int_equal(shutdown(streams[0].fd, SHUT_WR), 0);
	child = fork();
	if (child == 0) {
		close(streams[1].fd);
		for (;;)
			pause();
	}
	close(streams[0].fd);
	close(streams[1].fd);
	forget_bits(&streams[0]);
	send_record(&shim, &streams[0], COLOC_MSG_CLOSED);
	stays_for_two_seconds(&streams[0]);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	wait_for(ended(&shim, &streams[0]) && ended(&shim, &streams[1]));
	wait_for(status_of(&agent, "segments.used") == 0);
}

static void reset_is_no_end(void **state)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct stream streams[2];

	(void)state;
	open_both(streams);
	setsockopt(streams[1].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(streams[1].fd);
	wait_for(ended(&shim, &streams[1]));
	stays_for_two_seconds(&streams[0]); /* what was received can still be read */
	close(streams[0].fd);
	wait_for(ended(&shim, &streams[0]));
}

/* In the agent's eyes this process ends and another begins. */
static bool born_again(void)
{
	close(shim.fd);
	munmap(shim.local, shim.welcome.local_bytes);
	shmt_region_unmap(&shim.region);
	shim_start(&shim, &agent);
	return true;
}

static void half_made_record(void **state)
{
	const uint32_t record = 4711;
	int pipe_fds[2];
	pid_t child;
	char byte;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	if (child == 0) {
		struct shim own;

		shim_start(&own, &agent);
		shmt_or(&own.local->used[record / 64], 1ULL << record % 64);
		shmt_store(&own.records[record].state, COLOC_RECORD_CLAIMED);
		(void)!write(pipe_fds[1], "x", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	assert_int_equal(status_of(&agent, "records"), 1);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	/* Everybody who could be at it has to be gone: this process too, after the sweep saw it. */
	wait_for(born_again() && shmt_load(&shim.records[record].state) == COLOC_RECORD_FREE);
	assert_int_equal(status_of(&agent, "records"), 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_process),
		cmocka_unit_test(held_elsewhere),
		cmocka_unit_test(closed_but_open),
		cmocka_unit_test(unread_bytes_and_unknown_holder),
		cmocka_unit_test(reset_is_no_end),
		cmocka_unit_test(half_made_record),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
