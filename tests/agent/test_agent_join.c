/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: the two ends of a stream inside one guest get the two halves of one segment, whichever
 * asked; an end that is alone, unwilling or not what its record says is refused with a reason and a
 * time before which asking again is useless; what is over is taken back.
 */
#include "agent_harness.h"

static struct agent agent;
static struct shim shim;

static int start(void **state)
{
	if (make_folder(state) < 0)
		return -1;
	agent_init(&agent, "a", "[region]\nsize = 16M\n[pairing]\noffer_ms = 200\n");
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

static void open_both(struct stream streams[2])
{
	int fds[2];

	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(&shim, fds[0]);
	streams[1] = make_record(&shim, fds[1]);
}

static void close_both(struct stream streams[2])
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(streams[i].fd);
		shmt_and(&record_of(&shim, &streams[i])->procs[shim.welcome.proc / 64],
			 ~(1ULL << shim.welcome.proc % 64));
		send_record(&shim, &streams[i], COLOC_MSG_CLOSED);
	}
	wait_for(ended(&shim, &streams[0]) && ended(&shim, &streams[1]));
	wait_for(status_of(&agent, "segments.used") == 0);
}

static void both_ends_are_granted(void **state)
{
	const struct coloc_record_shared *records[2];
	struct stream streams[2];
	const struct shmt_seg_shared *seg;

	(void)state;
	open_both(streams);
	join(&shim, &streams[1]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	records[0] = record_of(&shim, &streams[0]);
	records[1] = record_of(&shim, &streams[1]);
	assert_int_equal(records[0]->seg, records[1]->seg);
	assert_int_equal(records[0]->seg_generation, records[1]->seg_generation);
	assert_int_equal(records[0]->side + records[1]->side, 1);
	seg = seg_of(&shim, &streams[0]);
	assert_int_equal(seg->end[0].guest, shim.local->guest);
	assert_int_equal(seg->end[1].guest, shim.local->guest);
	assert_int_equal(seg->ring_bytes, 512 << 10);
	assert_int_equal(status_of(&agent, "segments.used"), 1);
	/* One address and port more on one end decides who is end 0: the lower. */
	assert_int_equal(records[0]->side, records[0]->local.port > records[0]->remote.port);
	close_both(streams);
}

static void streams_are_told(void **state)
{
	struct stream streams[2];
	json_t *list, *first;
	char local[32];
	size_t i;

	(void)state;
	open_both(streams);
	record_of(&shim, &streams[0])->tx.tcp_bytes = 1234;
	record_of(&shim, &streams[0])->rx.ring_bytes = 66;
	snprintf(local, sizeof(local), "127.0.0.1:%u", record_of(&shim, &streams[0])->local.port);
	list = ask(&agent, COLOC_VERB_STREAMS, NULL);
	assert_int_equal(json_array_size(list), 2);
	for (i = 0; i < 2; i++) {
		first = json_array_get(list, i);
		if (!strcmp(json_string_value(json_object_get(first, "local")), local))
			break;
	}
	assert_true(i < 2);
	assert_int_equal(json_integer_value(json_object_get(first, "pid")), getpid());
	assert_string_equal(json_string_value(json_object_get(first, "command")), "test");
	assert_string_equal(json_string_value(json_object_get(first, "tx_mode")), "tcp");
	assert_string_equal(json_string_value(json_object_get(first, "rx_mode")), "tcp");
	assert_int_equal(json_integer_value(json_object_get(first, "tx_tcp_bytes")), 1234);
	json_decref(list);
	assert_int_equal(fact(&agent, COLOC_VERB_STATS, "bytes_tcp"), 1234);
	close_both(streams);
	/* Counted on after the record is gone. */
	assert_int_equal(fact(&agent, COLOC_VERB_STATS, "bytes_tcp"), 1234);
	assert_int_equal(fact(&agent, COLOC_VERB_STATS, "bytes_ring"), 66);
}

static void alone_is_refused_ever_longer(void **state)
{
	uint64_t wait[3], before;
	struct stream stream;
	unsigned int i;
	int fds[2];

	(void)state;
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	stream = make_record(&shim, fds[0]);
	for (i = 0; i < 3; i++) {
		shmt_store(&record_of(&shim, &stream)->not_before, 0);
		join(&shim, &stream);
		wait_for(refused(&shim, &stream));
		before = shmt_load(&shim.local->heartbeat);
		wait[i] = shmt_load(&record_of(&shim, &stream)->not_before) - before;
		assert_int_equal(shmt_load(&record_of(&shim, &stream)->reason),
				 COLOC_REASON_PEER_SILENT);
	}
	assert_in_range(wait[0], 8, 10);
	assert_in_range(wait[1], 18, 20);
	assert_in_range(wait[2], 38, 40);
	assert_int_equal(status_of(&agent, "segments.used"), 0);
	assert_true(fact(&agent, COLOC_VERB_STATS, "reasons.peer-silent") >= 1);
	close(fds[0]);
	close(fds[1]);
	wait_for(ended(&shim, &stream));
}

/* accept() returns later than the connecting end asks. */
static void late_record_is_found(void **state)
{
	struct stream streams[2];
	int fds[2];

	(void)state;
	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(&shim, fds[0]);
	join(&shim, &streams[0]);
	wait_for(shmt_load(&record_of(&shim, &streams[0])->grant) == COLOC_GRANT_OFFERED);
	streams[1] = make_record(&shim, fds[1]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	close_both(streams);
}

static void unwilling_peer_is_respected(void **state)
{
	struct stream streams[2];

	(void)state;
	open_both(streams);
	shmt_or(&record_of(&shim, &streams[1])->flags, COLOC_RECORD_STAYS);
	join(&shim, &streams[0]);
	wait_for(refused(&shim, &streams[0]));
	assert_int_equal(shmt_load(&record_of(&shim, &streams[0])->reason),
			 COLOC_REASON_PEER_DRAINING);
	assert_false(granted(&shim, &streams[1]));
	close_both(streams);
}

static void false_cookie_is_refused(void **state)
{
	struct stream streams[2];

	(void)state;
	open_both(streams);
	record_of(&shim, &streams[0])->cookie += 1000000;
	join(&shim, &streams[0]);
	wait_for(refused(&shim, &streams[0]));
	assert_false(granted(&shim, &streams[0]));
	close_both(streams);
}

static void stale_join_is_ignored(void **state)
{
	struct stream streams[2], stale;

	(void)state;
	open_both(streams);
	stale = streams[0];
	stale.generation++;
	assert_true(
		shmt_cas(&record_of(&shim, &stale)->grant, COLOC_GRANT_IDLE, COLOC_GRANT_WANTED));
	send_record(&shim, &stale, COLOC_MSG_JOIN);
	assert_int_equal(status_of(&agent, "processes"), 1); /* it was read, and we live */
	assert_int_equal(shmt_load(&record_of(&shim, &stale)->grant), COLOC_GRANT_WANTED);
	send_record(&shim, &streams[0], COLOC_MSG_JOIN);
	wait_for(granted(&shim, &streams[0]));
	close_both(streams);
}

/* The other end of a connection that was on the ring can see that this one is gone. */
static void end_is_marked(void **state)
{
	struct stream streams[2];
	struct shmt_seg_shared *seg;
	unsigned int side;

	(void)state;
	open_both(streams);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[1]));
	seg = seg_of(&shim, &streams[0]);
	side = record_of(&shim, &streams[0])->side;
	shmt_store(&seg->dir[!side].in_kernel, 1);
	close(streams[0].fd);
	send_record(&shim, &streams[0], COLOC_MSG_CLOSED);
	wait_for(ended(&shim, &streams[0]));
	assert_int_equal(shmt_load(&seg->end[side].gone), seg->generation);
	assert_true(shmt_load(&seg->dir[side].flags) & SHMT_DIR_STOPPED);
	assert_true(shmt_load(&seg->dir[!side].flags) & SHMT_DIR_CLOSED);
	assert_int_equal(shmt_load(&seg->dir[!side].in_kernel), 0);
	assert_int_equal(shmt_load(&seg->end[!side].gone), seg->generation - 1);
	close(streams[1].fd);
	send_record(&shim, &streams[1], COLOC_MSG_CLOSED);
	wait_for(ended(&shim, &streams[1]));
	wait_for(status_of(&agent, "segments.used") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_are_granted),
		cmocka_unit_test(streams_are_told),
		cmocka_unit_test(alone_is_refused_ever_longer),
		cmocka_unit_test(late_record_is_found),
		cmocka_unit_test(unwilling_peer_is_respected),
		cmocka_unit_test(false_cookie_is_refused),
		cmocka_unit_test(stale_join_is_ignored),
		cmocka_unit_test(end_is_marked),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
