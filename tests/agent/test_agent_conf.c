/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: an error in the configuration is refused with file, line and reason, at the start and by
 * a reload, which leaves the old values in use; the environment goes before the file;
 * config/coloc.conf is what the option table says.
 */
#include "agent_harness.h"
#include "conf.h"

static struct ra_conf conf;
static char error[RA_CONF_ERROR_BYTES];

static int load(const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/coloc.conf", test_folder);
	file = fopen(path, "w");
	fputs(text, file);
	fclose(file);
	return ra_conf_load(path, true, &conf, error);
}

static void values_are_read(void **state)
{
	(void)state;
	assert_int_equal(load("; comment\n[region]\npath = /dev/shm/x\nsize = 1G\nring_bytes=64k\n"
			      "[guest]\nname = red\n[residency]\nloopback = no\n"
			      "[switch]\nbytes = 0\n[access]\nmax_streams = 64\n"),
			 0);
	assert_string_equal(conf.region_path, "/dev/shm/x");
	assert_int_equal(conf.region_size, 1 << 30);
	assert_int_equal(conf.region_ring_bytes, 65536);
	assert_string_equal(conf.guest_name, "red");
	assert_false(conf.residency_loopback);
	assert_int_equal(conf.shim.switch_bytes, 0);
	assert_int_equal(conf.access_max_streams, 64);
	assert_int_equal(conf.shim.wait_spin_us, 100); /* a default */
}

static void errors_name_line_and_reason(void **state)
{
	static const struct {
		const char *text, *where, *why;
	} bad[] = {
		{"[region]\nsize = 1X\n", ":2:", "not a size"},
		{"[region]\nsize = 1M\n", ":2:", "is not from"},
		{"[region]\nring_bytes = 96K\n", ":2:", "power of two"},
		{"[region]\npath = relative\n", ":2:", "absolute"},
		{"\n[nothing]\nx = 1\n", ":2:", "no section [nothing]"},
		{"[empty]\n", ":1:", "no section [empty]"},
		{"[switch]\nbyte = 1\n", ":2:", "no 'byte' in section [switch]"},
		{"[switch]\nbytes = -1\n", ":2:", "below 0"},
		{"[switch]\nbytes = many\n", ":2:", "not a number"},
		{"[wait]\nspin_us = 10001\n", ":2:", "from 0 to 10000"},
		{"[wait]\nspin_us = 1\nspin_us = 2\n", ":3:", "given in line 2"},
		{"spin_us = 1\n", ":1:", "before the first"},
		{"[wait]\nspin_us\n", ":2:", "not 'key = value'"},
		{"[wait]\nspin_us = 1\n  7\n", ":3:", "begin with a space"},
		{"[wait\n", ":1:", "[name]"},
		{"[residency]\nloopback = perhaps\n", ":2:", "neither yes nor no"},
		{"[residency]\npeers = 10.0.0.0/33\n", ":2:", "from 0 to 32"},
		{"[residency]\npeers = host\n", ":2:", "not an address"},
		{"[access]\ngroup = no-such-group\n", ":2:", "no group"},
		{"[access]\nmax_streams = 100\n", ":2:", "power of two"},
		{"[guest]\nname = a-name-that-is-longer-than-23\n", ":2:", "longer"},
	};
	struct ra_conf before;
	size_t i;

	(void)state;
	assert_int_equal(load(""), 0);
	before = conf;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(load(bad[i].text), -EINVAL);
		assert_non_null(strstr(error, "/coloc.conf"));
		if (!strstr(error, bad[i].where) || !strstr(error, bad[i].why))
			fail_msg("'%s' says: %s", bad[i].text, error);
		assert_memory_equal(&conf, &before, sizeof(conf));
	}
}

static void long_lines_are_refused(void **state)
{
	char text[600];

	(void)state;
	snprintf(text, sizeof(text), "[residency]\npeers = %0500d\n", 1);
	assert_int_equal(load(text), -EINVAL);
	assert_non_null(strstr(error, ":2: the line is longer"));
}

static void missing_file(void **state)
{
	(void)state;
	assert_int_equal(ra_conf_load("/nonexistent/c", true, &conf, error), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/c"));
	assert_int_equal(ra_conf_load("/nonexistent/c", false, &conf, error), 0);
}

static void environment_goes_first(void **state)
{
	(void)state;
	setenv("COLOC_SWITCH_BYTES", "4711", 1);
	setenv("COLOC_REGION_SIZE", "8M", 1);
	assert_int_equal(load("[switch]\nbytes = 1\n"), 0);
	assert_int_equal(conf.shim.switch_bytes, 4711);
	assert_int_equal(conf.region_size, 8 << 20);
	setenv("COLOC_SWITCH_BYTES", "many", 1);
	assert_int_equal(load(""), -EINVAL);
	assert_non_null(strstr(error, "environment: COLOC_SWITCH_BYTES"));
	unsetenv("COLOC_SWITCH_BYTES");
	unsetenv("COLOC_REGION_SIZE");
}

static void patterns_of_interfaces(void **state)
{
	(void)state;
	assert_int_equal(load("[residency]\ninterfaces = eth*, !eth1\n"), 0);
	assert_true(ra_conf_interface_counts(&conf, "eth0"));
	assert_false(ra_conf_interface_counts(&conf, "eth1"));
	assert_false(ra_conf_interface_counts(&conf, "docker0"));
	assert_int_equal(load("[residency]\ninterfaces = !docker*\n"), 0);
	assert_true(ra_conf_interface_counts(&conf, "eth0"));
	assert_false(ra_conf_interface_counts(&conf, "docker0"));
}

static bool allowed(const char *text)
{
	uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, text, addr + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, text, addr), 1);
	return ra_conf_peer_allowed(&conf, addr);
}

static void rules_of_peers(void **state)
{
	(void)state;
	assert_int_equal(load("[residency]\npeers = 10.0.0.0/12 !10.1.0.0/16 10.1.2.3 fd00::/8\n"),
			 0);
	assert_true(allowed("10.15.255.255"));
	assert_false(allowed("10.16.0.0"));
	assert_false(allowed("10.1.2.4"));
	assert_true(allowed("10.1.2.3"));
	assert_true(allowed("fd12::1"));
	assert_false(allowed("2001:db8::1"));
	assert_int_equal(load("[residency]\npeers = !192.0.2.1\n"), 0);
	assert_false(allowed("192.0.2.1"));
	assert_true(allowed("192.0.2.2"));
	assert_int_equal(load("[residency]\npeers =\n"), 0);
	assert_false(allowed("192.0.2.2"));
}

/* Where the sources are: beside the folder of the programs, unless T_SOURCE says. */
static FILE *open_default_file(void)
{
	const char *source = getenv("T_SOURCE"), *build = getenv("T_BUILD");
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%.400s/config/coloc.conf", source ? source : ".");
	file = fopen(path, "r");
	if (!file && build) {
		snprintf(path, sizeof(path), "%.400s/../config/coloc.conf", build);
		file = fopen(path, "r");
	}
	return file;
}

static void default_file_is_current(void **state)
{
	char *want = NULL, *have;
	size_t want_bytes, have_bytes;
	FILE *file = open_default_file(), *memory;

	(void)state;
	if (!file)
		skip(); /* the sources are elsewhere */
	memory = open_memstream(&want, &want_bytes);
	ra_conf_print_default(memory);
	fclose(memory);
	have = calloc(1, want_bytes + 2);
	have_bytes = fread(have, 1, want_bytes + 1, file);
	fclose(file);
	assert_int_equal(have_bytes, want_bytes);
	assert_memory_equal(have, want, want_bytes);
	assert_int_equal(load(want), 0); /* and it is a valid file */
	free(want);
	free(have);
}

/* ---- the daemon --------------------------------------------------------------------------------
 */

static void start_refuses(void **state)
{
	struct agent agent;
	char text[1024];

	(void)state;
	agent_init(&agent, "bad", "[switch]\n\nbytes = x\n");
	assert_int_equal(agent_fails(&agent, text, sizeof(text)), 3);
	assert_non_null(strstr(text, "coloc.conf:3: bytes: 'x' is not a number"));
}

static void reload_keeps_or_takes(void **state)
{
	struct agent agent;
	struct shim shim;
	json_t *json;
	int status;

	(void)state;
	agent_init(&agent, "reload", "[region]\nsize = 8M\n[switch]\nbytes = 1000\n");
	agent_start(&agent);
	shim_start(&shim, &agent);
	assert_int_equal(shim.local->settings.switch_bytes, 1000);

	write_config(&agent, "[switch]\nbytes = 2000\nspeed = 1\n");
	json = ask(&agent, COLOC_VERB_RELOAD, &status);
	assert_int_equal(status, -EINVAL);
	assert_non_null(strstr(json_string_value(json_object_get(json, "error")),
			       "coloc.conf:3: there is no 'speed'"));
	json_decref(json);
	assert_int_equal(shmt_load(&shim.local->settings.switch_bytes), 1000);

	write_config(&agent, "[switch]\nbytes = 2000\n[residency]\npeers = !10.0.0.0/8\n");
	json_decref(ask(&agent, COLOC_VERB_RELOAD, NULL));
	assert_int_equal(shmt_load(&shim.local->settings.switch_bytes), 2000);
	assert_int_equal(shim.local->rule_count, 1);
	assert_int_equal(shim.local->rules_default, 1);
	assert_int_equal(shmt_load(&shim.local->rules_version) % 2, 0);

	write_config(&agent, "[switch]\nbytes = 3000\n");
	assert_int_equal(kill(agent.pid, SIGHUP), 0);
	wait_for(shmt_load(&shim.local->settings.switch_bytes) == 3000);
	shim_stop(&shim);
	assert_int_equal(agent_stop(&agent, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_read),
		cmocka_unit_test(errors_name_line_and_reason),
		cmocka_unit_test(long_lines_are_refused),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(environment_goes_first),
		cmocka_unit_test(patterns_of_interfaces),
		cmocka_unit_test(rules_of_peers),
		cmocka_unit_test(default_file_is_current),
		cmocka_unit_test(start_refuses),
		cmocka_unit_test(reload_keeps_or_takes),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
