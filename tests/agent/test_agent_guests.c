/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: two agents on one region see each other; a stream between their guests gets a ring
 * whichever end asks first; a silent or unwilling peer costs no memory; a guest of which nobody is
 * left is found dead and what it held is taken back.
 */
#include "agent_harness.h"

static struct agent red, blue;
static struct shim red_shim, blue_shim;

static int start(void **state)
{
	if (make_folder(state) < 0)
		return -1;
	guests_init(&red, &blue);
	agent_start(&red);
	agent_start(&blue);
	shim_start(&red_shim, &red);
	shim_start(&blue_shim, &blue);
	return 0;
}

static int stop(void **state)
{
	shim_stop(&red_shim);
	assert_int_equal(agent_stop(&red, SIGTERM), 0);
	return remove_folder(state);
}

static void they_see_each_other(void **state)
{
	json_t *json, *list;

	(void)state;
	wait_for(status_of(&red, "guests") == 2);
	json = ask(&red, COLOC_VERB_STATUS, NULL);
	list = json_object_get(json, "addresses");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_array_get(list, 0)), RED_ADDRESS);
	json_decref(json);
	assert_int_not_equal(red_shim.local->guest, blue_shim.local->guest);
}

/* @red_end, @blue_end: the two ends of one connection; red's is end 0, as its address is lower. */
static void open_both(struct stream *red_end, struct stream *blue_end)
{
	int fds[2];

	connect_pair(RED_ADDRESS, BLUE_ADDRESS, fds);
	*red_end = make_record(&red_shim, fds[0]);
	*blue_end = make_record(&blue_shim, fds[1]);
}

static void close_one(struct shim *shim, struct stream *stream)
{
	close(stream->fd);
	shmt_and(&record_of(shim, stream)->procs[shim->welcome.proc / 64],
		 ~(1ULL << shim->welcome.proc % 64));
	send_record(shim, stream, COLOC_MSG_CLOSED);
}

static void close_both(struct stream *red_end, struct stream *blue_end)
{
	close_one(&red_shim, red_end);
	close_one(&blue_shim, blue_end);
	wait_for(ended(&red_shim, red_end) && ended(&blue_shim, blue_end));
	wait_for(status_of(&red, "segments.used") == 0);
	wait_for(status_of(&red, "offers") == 0 && status_of(&blue, "offers") == 0);
}

static void check_granted(struct stream *red_end, struct stream *blue_end)
{
	const struct coloc_record_shared *a = record_of(&red_shim, red_end);
	const struct coloc_record_shared *b = record_of(&blue_shim, blue_end);
	const struct shmt_seg_shared *seg;

	wait_for(granted(&red_shim, red_end) && granted(&blue_shim, blue_end));
	assert_int_equal(a->seg, b->seg);
	assert_int_equal(a->seg_generation, b->seg_generation);
	assert_int_equal(a->side, 0);
	assert_int_equal(b->side, 1);
	seg = seg_of(&red_shim, red_end);
	assert_int_equal(seg->end[0].guest, red_shim.local->guest);
	assert_int_equal(seg->end[1].guest, blue_shim.local->guest);
	assert_int_equal(status_of(&red, "segments.used"), 1); /* end 0's agent made it */
	assert_int_equal(status_of(&blue, "segments.used"), 0);
}

static void end_0_asks(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	open_both(&red_end, &blue_end);
	join(&red_shim, &red_end);
	check_granted(&red_end, &blue_end);
	close_both(&red_end, &blue_end);
}

static void end_1_asks(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	open_both(&red_end, &blue_end);
	join(&blue_shim, &blue_end);
	check_granted(&red_end, &blue_end);
	close_both(&red_end, &blue_end);
}

static void both_ask(void **state)
{
	struct stream red_end, blue_end;
	unsigned int i;

	(void)state;
	for (i = 0; i < 6; i++) {
		open_both(&red_end, &blue_end);
		join(i % 2 ? &red_shim : &blue_shim, i % 2 ? &red_end : &blue_end);
		join(i % 2 ? &blue_shim : &red_shim, i % 2 ? &blue_end : &red_end);
		check_granted(&red_end, &blue_end);
		close_both(&red_end, &blue_end);
	}
}

static void silent_peer_costs_nothing(void **state)
{
	struct shim *shims[2] = {&red_shim, &blue_shim};
	struct stream stream;
	unsigned int i;
	int fds[2];

	(void)state;
	for (i = 0; i < 2; i++) {
		connect_pair(RED_ADDRESS, BLUE_ADDRESS, fds);
		stream = make_record(shims[i], fds[i]);
		join(shims[i], &stream);
		wait_for(shmt_load(&record_of(shims[i], &stream)->grant) == COLOC_GRANT_OFFERED);
		wait_for(refused(shims[i], &stream));
		assert_int_equal(shmt_load(&record_of(shims[i], &stream)->reason),
				 COLOC_REASON_PEER_SILENT);
		assert_int_equal(status_of(&red, "segments.used"), 0);
		assert_int_equal(status_of(&red, "offers"), 0);
		assert_int_equal(status_of(&blue, "offers"), 0);
		close(fds[!i]);
		close_one(shims[i], &(struct stream){fds[i], stream.record, stream.generation});
		wait_for(ended(shims[i], &stream));
	}
}

static void unwilling_peer_declines(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	open_both(&red_end, &blue_end);
	shmt_or(&record_of(&blue_shim, &blue_end)->flags, COLOC_RECORD_STAYS);
	join(&red_shim, &red_end);
	wait_for(refused(&red_shim, &red_end));
	assert_int_equal(shmt_load(&record_of(&red_shim, &red_end)->reason),
			 COLOC_REASON_PEER_DRAINING);
	close_both(&red_end, &blue_end);
}

static void drained_peer_is_not_asked(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	json_decref(ask(&blue, COLOC_VERB_DRAIN, NULL));
	open_both(&red_end, &blue_end);
	join(&red_shim, &red_end);
	wait_for(refused(&red_shim, &red_end));
	assert_int_equal(shmt_load(&record_of(&red_shim, &red_end)->reason),
			 COLOC_REASON_PEER_DRAINING);
	json_decref(ask(&blue, COLOC_VERB_RESUME, NULL));
	join(&red_shim, &red_end);
	check_granted(&red_end, &blue_end);
	close_both(&red_end, &blue_end);
}

static bool blue_is(const char *key)
{
	json_t *json = ask(&red, COLOC_VERB_STATUS, NULL), *guest;
	bool is = false;
	size_t i;

	json_array_foreach(
		json_object_get(json, "guests"), i,
		guest) if (!strcmp(json_string_value(json_object_get(guest, "name")), "blue")) is =
		json_is_true(json_object_get(guest, key));
	json_decref(json);
	return is;
}

/* Stopped is not dead; killed with a process left is not dead either: that one has the lock. */
static void silence_makes_a_suspect(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	open_both(&red_end, &blue_end);
	assert_int_equal(kill(blue.pid, SIGSTOP), 0);
	wait_for(blue_is("suspect"));
	join(&red_shim, &red_end);
	wait_for(refused(&red_shim, &red_end));
	assert_int_equal(shmt_load(&record_of(&red_shim, &red_end)->reason),
			 COLOC_REASON_PEER_SUSPECT);
	assert_int_equal(kill(blue.pid, SIGCONT), 0);
	wait_for(!blue_is("suspect"));
	close_both(&red_end, &blue_end);
}

static void dead_guest_is_buried(void **state)
{
	struct stream red_end, blue_end;

	(void)state;
	open_both(&red_end, &blue_end);
	join(&red_shim, &red_end);
	check_granted(&red_end, &blue_end);
	agent_stop(&blue, SIGKILL);
	wait_for(blue_is("suspect"));
	assert_int_equal(status_of(&red, "guests"), 2);
	/* Now the last mapping goes, and with it the lock. */
	close(blue_end.fd);
	shim_stop(&blue_shim);
	wait_for(status_of(&red, "guests") == 1);
	close_one(&red_shim, &red_end);
	wait_for(status_of(&red, "segments.used") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_see_each_other),
		cmocka_unit_test(end_0_asks),
		cmocka_unit_test(end_1_asks),
		cmocka_unit_test(both_ask),
		cmocka_unit_test(silent_peer_costs_nothing),
		cmocka_unit_test(unwilling_peer_declines),
		cmocka_unit_test(drained_peer_is_not_asked),
		cmocka_unit_test(silence_makes_a_suspect),
		cmocka_unit_test(dead_guest_is_buried),
	};
	const char *why = private_network();

	if (why) {
		puts(why);
		return 77;
	}
	return cmocka_run_group_tests(tests, start, stop);
}
