/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: drain marks every ring, takes idle directions back to TCP, closes those with unread bytes
 * behind them, and respects the shim's locks; no ring is given meanwhile; resume undoes it, but not
 * for streams that stay on TCP of their own.
 */
#include "agent_harness.h"
#include "switch.h"

static struct agent agent;
static struct shim shim;
static struct stream streams[2];
static struct shmt_seg_shared *seg;

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

/* A stream with a ring; streams[i] is end i. */
static int open_stream(void **state)
{
	struct stream swap;
	int fds[2];

	(void)state;
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(&shim, fds[0]);
	streams[1] = make_record(&shim, fds[1]);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	if (record_of(&shim, &streams[0])->side == 1) {
		swap = streams[0];
		streams[0] = streams[1];
		streams[1] = swap;
	}
	seg = seg_of(&shim, &streams[0]);
	return 0;
}

static int close_stream(void **state)
{
	unsigned int i;

	(void)state;
	json_decref(ask(&agent, COLOC_VERB_RESUME, NULL));
	for (i = 0; i < 2; i++) {
		close(streams[i].fd);
		shmt_and(&record_of(&shim, &streams[i])->procs[0], 0);
		send_record(&shim, &streams[i], COLOC_MSG_CLOSED);
	}
	wait_for(ended(&shim, &streams[0]) && ended(&shim, &streams[1]));
	return 0;
}

static void drain(void)
{
	json_decref(ask(&agent, COLOC_VERB_DRAIN, NULL));
}

static enum shmt_mode mode(unsigned int dir)
{
	return SHMT_CTL_MODE(shmt_load(&seg->dir[dir].ctl));
}

static void set_mode(unsigned int dir, uint64_t head, enum shmt_mode to)
{
	shmt_store(&seg->dir[dir].ctl, SHMT_CTL(head, to));
}

static void flags_are_set_and_cleared(void **state)
{
	unsigned int i;

	(void)state;
	drain();
	assert_int_equal(shmt_load(&shim.local->draining), 1);
	assert_int_equal(SHMT_GUEST_STATE(shmt_load(&shim.region.guests[shim.local->guest].word)),
			 SHMT_GUEST_DRAINING);
	for (i = 0; i < 2; i++)
		assert_int_equal(shmt_load(&seg->dir[i].flags),
				 SHMT_DIR_REFUSED | SHMT_DIR_STOPPED);
	json_decref(ask(&agent, COLOC_VERB_RESUME, NULL));
	assert_int_equal(shmt_load(&shim.local->draining), 0);
	assert_int_equal(SHMT_GUEST_STATE(shmt_load(&shim.region.guests[shim.local->guest].word)),
			 SHMT_GUEST_LIVE);
	for (i = 0; i < 2; i++)
		assert_int_equal(shmt_load(&seg->dir[i].flags), 0);
}

static void empty_ring_goes_to_tcp(void **state)
{
	const uint64_t switches = (uint64_t)fact(&agent, COLOC_VERB_STATS, "switches_to_tcp");

	(void)state;
	shmt_store(&seg->dir[0].tail, 100);
	set_mode(0, 100, SHMT_RING);
	shmt_store(&seg->dir[1].tail, 7);
	set_mode(1, 7, SHMT_LEAVING);
	assert_int_equal(status_of(&agent, "draining.streams_on_ring"), 2); /* both ends' */
	drain();
	wait_for(mode(0) == SHMT_TCP && mode(1) == SHMT_TCP);
	wait_for(status_of(&agent, "draining.streams_on_ring") == 0);
	assert_true(fact(&agent, COLOC_VERB_STATS, "switches_to_tcp") >= (int64_t)switches + 1);
	assert_int_equal(shmt_load(&record_of(&shim, &streams[0])->tx.lock), 0);
	assert_int_equal(shmt_load(&record_of(&shim, &streams[1])->rx.lock), 0);
}

static void unread_bytes_stay_readable(void **state)
{
	(void)state;
	set_mode(0, 100, SHMT_RING);
	set_mode(1, 10, SHMT_WAKING);
	drain();
	wait_for(mode(0) == SHMT_LEAVING && mode(1) == SHMT_LEAVING);
	assert_int_equal(SHMT_CTL_VALUE(shmt_load(&seg->dir[0].ctl)), 100);
	assert_int_equal(status_of(&agent, "draining.streams_on_ring"), 2);
	/* The receiver comes and reads; then the agent finds it empty. */
	shmt_store(&seg->dir[0].tail, 100);
	shmt_store(&seg->dir[1].tail, 10);
	wait_for(mode(0) == SHMT_TCP && mode(1) == SHMT_TCP);
}

static void held_lock_is_respected(void **state)
{
	struct coloc_record_shared *sender = record_of(&shim, &streams[0]);
	struct coloc_record_shared *receiver = record_of(&shim, &streams[1]);
	const int64_t until = now_ms() + 100;

	(void)state;
	shmt_store(&sender->tx.lock, 1ULL << 32 | 1);
	shmt_store(&receiver->rx.lock, 1ULL << 32 | 1);
	set_mode(0, 0, SHMT_RING);
	drain();
	while (look_again(until))
		assert_int_equal(mode(0), SHMT_RING);
	shmt_store(&receiver->rx.lock, 0);
	wait_for(mode(0) == SHMT_TCP);
	assert_int_equal(shmt_load(&sender->tx.lock), 1ULL << 32 | 1);
	shmt_store(&sender->tx.lock, 0);
}

/* A receiver is inside the kernel: nobody may close the ring behind its back. */
static void receiver_in_kernel_is_waited_for(void **state)
{
	const int64_t until = now_ms() + 100;

	(void)state;
	shmt_store(&seg->dir[0].in_kernel, 1);
	set_mode(0, 10, SHMT_WAKING);
	drain();
	while (look_again(until))
		assert_int_equal(mode(0), SHMT_WAKING);
	shmt_store(&seg->dir[0].in_kernel, 0);
	wait_for(mode(0) == SHMT_LEAVING);
	shmt_store(&seg->dir[0].tail, 10);
	wait_for(mode(0) == SHMT_TCP);
}

static void nothing_is_granted_meanwhile(void **state)
{
	struct stream late[2];
	int fds[2];

	(void)state;
	drain();
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	late[0] = make_record(&shim, fds[0]);
	late[1] = make_record(&shim, fds[1]);
	join(&shim, &late[0]);
	wait_for(refused(&shim, &late[0]));
	assert_int_equal(shmt_load(&record_of(&shim, &late[0])->reason), COLOC_REASON_DRAINING);
	json_decref(ask(&agent, COLOC_VERB_RESUME, NULL));
	assert_int_equal(shmt_load(&record_of(&shim, &late[0])->not_before), 0);
	join(&shim, &late[0]);
	wait_for(granted(&shim, &late[0]) && granted(&shim, &late[1]));
	close(fds[0]);
	close(fds[1]);
	wait_for(ended(&shim, &late[0]) && ended(&shim, &late[1]));
}

static void who_stays_keeps_its_flags(void **state)
{
	(void)state;
	shmt_or(&record_of(&shim, &streams[0])->flags, COLOC_RECORD_STAYS);
	drain();
	json_decref(ask(&agent, COLOC_VERB_RESUME, NULL));
	assert_true(shmt_load(&seg->dir[0].flags) & SHMT_DIR_STOPPED);
	assert_true(shmt_load(&seg->dir[1].flags) & SHMT_DIR_REFUSED);
}

static void strangers_may_not(void **state)
{
	const struct coloc_control_wire control = {header(COLOC_MSG_CONTROL), COLOC_VERB_DRAIN, 0};
	struct coloc_data_wire data;
	int status, fd;
	pid_t child;

	(void)state;
	if (getuid() != 0)
		skip();
	child = fork();
	if (child == 0) {
		/* Folders above may be closed to others: the socket is reached from where it is. */
		strcpy(agent.socket, "s");
		if (chdir(agent.folder) < 0 || setuid(65534) < 0)
			_exit(1);
		fd = agent_connect(&agent);
		(void)!send(fd, &control, sizeof(control), MSG_NOSIGNAL);
		do {
			if (recv(fd, &data, sizeof(data), 0) <= 0)
				_exit(2);
		} while (data.header.type != COLOC_MSG_END);
		_exit(data.status == -EPERM ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(status_of(&agent, "draining.requested"), 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, open_stream, close_stream)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(flags_are_set_and_cleared),	test(empty_ring_goes_to_tcp),
		test(unread_bytes_stay_readable),	test(held_lock_is_respected),
		test(receiver_in_kernel_is_waited_for), test(nothing_is_granted_meanwhile),
		test(who_stays_keeps_its_flags),	test(strangers_may_not),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
