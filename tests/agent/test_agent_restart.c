/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: an agent that is killed and started again keeps the guest's slot and epoch, the records
 * and their rings; what was in the air is put right; an agent that nobody uses leaves nothing
 * behind when it is stopped, and one that somebody uses leaves everything.
 */
#include "agent_harness.h"
#include "segment.h"

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
	agent_stop(&agent, SIGTERM);
	return remove_folder(state);
}

static void open_both(struct shim *shim, struct stream streams[2])
{
	int fds[2];

	connect_pair("127.0.0.1", "127.0.0.1", fds);
	streams[0] = make_record(shim, fds[0]);
	streams[1] = make_record(shim, fds[1]);
}

static void close_both(struct shim *shim, struct stream streams[2])
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(streams[i].fd);
		shmt_and(&record_of(shim, &streams[i])->procs[0], 0);
		send_record(shim, &streams[i], COLOC_MSG_CLOSED);
	}
	wait_for(ended(shim, &streams[0]) && ended(shim, &streams[1]));
	wait_for(status_of(&agent, "segments.used") == 0);
}

static void life_goes_on_after_kill(void **state)
{
	uint64_t epoch, starts, heartbeat;
	struct shmt_seg_shared *seg;
	struct stream streams[2];
	struct shim shim, again;
	int64_t slot;

	(void)state;
	shim_start(&shim, &agent);
	open_both(&shim, streams);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	seg = seg_of(&shim, &streams[0]);
	slot = status_of(&agent, "guest.slot");
	epoch = (uint64_t)status_of(&agent, "guest.epoch");
	starts = shmt_load(&shim.local->agent_starts);
	heartbeat = shmt_load(&shim.local->heartbeat);

	agent_stop(&agent, SIGKILL);
	agent_start(&agent);
	assert_int_equal(status_of(&agent, "guest.slot"), slot);
	assert_int_equal(status_of(&agent, "guest.epoch"), epoch);
	assert_int_equal(status_of(&agent, "segments.used"), 1);
	assert_int_equal(status_of(&agent, "records"), 2);
	assert_int_equal(shmt_load(&shim.local->agent_starts), starts + 1);
	assert_true(shmt_load(&shim.local->heartbeat) >= heartbeat);
	assert_true(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	assert_int_equal(shmt_load(&seg->state), SHMT_SEG_USED);
	assert_int_equal(shmt_load(&seg->dir[0].flags), 0);

	shim_start(&again, &agent);
	again.local->totals.bypasses = 77; /* the same memory */
	assert_int_equal(shim.local->totals.bypasses, 77);
	close_both(&again, streams);
	shim_stop(&again);
	shim_stop(&shim);
}

/* Every sweep of the leak finder must leave the segments of the last agent's records alone. */
static void rings_outlive_the_sweeps(void **state)
{
	const int64_t until = now_ms() + 12000;
	struct stream streams[2];
	struct shim shim;

	(void)state;
	shim_start(&shim, &agent);
	open_both(&shim, streams);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	agent_stop(&agent, SIGKILL);
	agent_start(&agent);
	shim_stop(&shim);
	shim_start(&shim, &agent);
	while (look_again(until))
		assert_int_equal(shmt_load(&seg_of(&shim, &streams[0])->end[0].gone),
				 seg_of(&shim, &streams[0])->generation - 1);
	assert_int_equal(status_of(&agent, "segments.used"), 1);
	close_both(&shim, streams);
	shim_stop(&shim);
}

/* A wish that the last agent never read is open again. */
static void unread_join_is_asked_again(void **state)
{
	struct stream streams[2];
	struct shim shim, again;

	(void)state;
	shim_start(&shim, &agent);
	open_both(&shim, streams);
	assert_int_equal(kill(agent.pid, SIGSTOP), 0);
	join(&shim, &streams[0]);
	agent_stop(&agent, SIGKILL);
	agent_start(&agent);
	assert_int_equal(shmt_load(&record_of(&shim, &streams[0])->grant), COLOC_GRANT_IDLE);
	shim_start(&again, &agent);
	join(&again, &streams[0]);
	wait_for(granted(&again, &streams[0]) && granted(&again, &streams[1]));
	close_both(&again, streams);
	shim_stop(&again);
	shim_stop(&shim);
}

/* Closed while no agent looked. */
static void closed_meanwhile_is_found(void **state)
{
	struct stream streams[2];
	struct shim shim;

	(void)state;
	shim_start(&shim, &agent);
	open_both(&shim, streams);
	join(&shim, &streams[0]);
	wait_for(granted(&shim, &streams[0]) && granted(&shim, &streams[1]));
	agent_stop(&agent, SIGKILL);
	close(streams[0].fd);
	close(streams[1].fd);
	agent_start(&agent);
	wait_for(ended(&shim, &streams[0]) && ended(&shim, &streams[1]));
	wait_for(status_of(&agent, "segments.used") == 0);
	shim_stop(&shim);
}

static void drain_outlives_the_agent(void **state)
{
	(void)state;
	json_decref(ask(&agent, COLOC_VERB_DRAIN, NULL));
	agent_stop(&agent, SIGKILL);
	agent_start(&agent);
	assert_int_equal(status_of(&agent, "draining.requested"), 1);
	json_decref(ask(&agent, COLOC_VERB_RESUME, NULL));
	assert_int_equal(status_of(&agent, "draining.requested"), 0);
}

/* The segment of an agent that died between making it and telling anybody. */
static void lost_segment_is_found(void **state)
{
	const struct shmt_guest guest = {(uint32_t)status_of(&agent, "guest.slot"),
					 (uint64_t)status_of(&agent, "guest.epoch")};
	const struct shmt_guest ends[2] = {guest, guest};
	struct shim shim;
	uint32_t seg;

	(void)state;
	shim_start(&shim, &agent);
	assert_int_equal(kill(agent.pid, SIGSTOP), 0);
	assert_int_equal(shmt_segment_alloc(&shim.region, &guest, 65536, ends, &seg), 0);
	agent_stop(&agent, SIGKILL);
	agent_start(&agent);
	assert_int_equal(status_of(&agent, "segments.used"), 1);
	wait_for(status_of(&agent, "segments.used") == 0); /* two passes, five seconds apart */
	shim_stop(&shim);
}

static bool exists(const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", agent.folder, name);
	return access(path, F_OK) == 0;
}

static void used_agent_leaves_all(void **state)
{
	struct shim shim;
	int64_t epoch;

	(void)state;
	shim_start(&shim, &agent);
	epoch = status_of(&agent, "guest.epoch");
	assert_int_equal(agent_stop(&agent, SIGTERM), 0);
	assert_true(exists("guest"));
	assert_false(exists("s"));
	agent_start(&agent);
	assert_int_equal(status_of(&agent, "guest.epoch"), epoch);
	shim_stop(&shim);
}

/* The process that used it lives on, but has no connection: it is this test. Another one: none. */
static void unused_agent_leaves_nothing(void **state)
{
	struct agent other;
	int64_t epoch;

	(void)state;
	agent_init(&other, "other", "[region]\nsize = 16M\n");
	agent_start(&other);
	epoch = status_of(&other, "guest.epoch");
	wait_for(status_of(&agent, "guests") == 2);
	assert_int_equal(agent_stop(&other, SIGTERM), 0);
	wait_for(status_of(&agent, "guests") == 1);
	agent_start(&other);
	assert_true(status_of(&other, "guest.epoch") > epoch);
	assert_int_equal(agent_stop(&other, SIGTERM), 0);
}

/* Without a region the agent serves all the same, and says why nothing moves. */
static void no_region_is_said(void **state)
{
	struct agent none;
	struct shim shim;
	json_t *json;

	(void)state;
	agent_init(&none, "none", "");
	none.region = "/nonexistent/region";
	agent_start(&none);
	shim_start(&shim, &none);
	assert_int_equal(shim.welcome.region_bytes, 0);
	assert_int_equal(shmt_load(&shim.local->region_reason), COLOC_REASON_NO_REGION);
	assert_int_equal(shmt_load(&shim.local->guest), SHMT_NO_GUEST);
	json = ask(&none, COLOC_VERB_STATUS, NULL);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json, "region"), "reason")),
		"no-region");
	json_decref(json);
	json_decref(ask(&none, COLOC_VERB_DRAIN, NULL));
	json_decref(ask(&none, COLOC_VERB_RESUME, NULL));
	shim_stop(&shim);
	assert_int_equal(agent_stop(&none, SIGTERM), 0);
}

/* Nothing reads at 1 TB/s: such a region counts as uncached, is not used, and the reason says so.
 */
static void slow_region_is_said(void **state)
{
	struct agent slow;
	struct shim shim;

	(void)state;
	agent_init(&slow, "slow", "[region]\nsize = 16M\nmin_read_mbps = 1000000\n");
	agent_start(&slow);
	shim_start(&shim, &slow);
	assert_int_equal(shim.welcome.region_bytes, 0);
	assert_int_equal(shmt_load(&shim.local->region_reason), COLOC_REASON_REGION_SLOW);
	assert_true(status_of(&slow, "region.read_mbps") > 0);
	shim_stop(&shim);
	assert_int_equal(agent_stop(&slow, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life_goes_on_after_kill),
		cmocka_unit_test(rings_outlive_the_sweeps),
		cmocka_unit_test(unread_join_is_asked_again),
		cmocka_unit_test(closed_meanwhile_is_found),
		cmocka_unit_test(drain_outlives_the_agent),
		cmocka_unit_test(lost_segment_is_found),
		cmocka_unit_test(used_agent_leaves_all),
		cmocka_unit_test(unused_agent_leaves_nothing),
		cmocka_unit_test(no_region_is_said),
		cmocka_unit_test(slow_region_is_said),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
