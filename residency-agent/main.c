/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - residency-agent: options, signals, the loop, the end
 *
 * Order at the start: configuration, lock, region, memories of earlier streams, then the socket;
 * READY when a process can be welcomed. At the end everything stays in place for the next agent as
 * long as a stream may live on; only an agent that nobody uses clears its guest out of the region.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = 3, EXIT_RUNS = 4 };

struct options {
	const char *config, *socket, *region;
	bool foreground;
};

static void print_help(FILE *out)
{
	fputs("usage: residency-agent [OPTION]...\n"
	      "The daemon of one guest: pairs the streams of local programs with those of co-resident\n"
	      "guests, and hands out the memory that they share.\n"
	      "\n"
	      "  --config FILE    configuration (default " COLOC_DEFAULT_CONFIG ", may be absent)\n"
	      "  --socket PATH    where processes and tools connect (default " COLOC_DEFAULT_SOCKET
	      ")\n"
	      "  --region PATH    memory to share, instead of region.path of the configuration\n"
	      "  --foreground     do not detach\n"
	      "  --dump-config    print the commented default configuration and exit\n"
	      "  --check-config   read the configuration, say what is wrong with it, and exit\n"
	      "  --help, --version\n"
	      "\n"
	      "SIGHUP reads the configuration again, SIGTERM ends the agent. Streams live on without it.\n"
	      "Exit status: 0 ended as asked, 1 failed, 2 usage, 3 configuration, 4 another agent runs.\n",
	      out);
}

/* -1: go on; else the exit status */
static int parse_options(int argc, char **argv, struct options *options)
{
	enum { CONFIG = 256, SOCKET, REGION, FOREGROUND, DUMP, CHECK, HELP, VERSION };
	static const struct option table[] = {
		{"config", required_argument, NULL, CONFIG},
		{"socket", required_argument, NULL, SOCKET},
		{"region", required_argument, NULL, REGION},
		{"foreground", no_argument, NULL, FOREGROUND},
		{"dump-config", no_argument, NULL, DUMP},
		{"check-config", no_argument, NULL, CHECK},
		{"help", no_argument, NULL, HELP},
		{"version", no_argument, NULL, VERSION},
		{NULL, 0, NULL, 0},
	};
	char error[RA_CONF_ERROR_BYTES];
	struct ra_conf conf;
	bool check = false;
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case CONFIG:
			options->config = optarg;
			break;
		case SOCKET:
			options->socket = optarg;
			break;
		case REGION:
			options->region = optarg;
			break;
		case FOREGROUND:
			options->foreground = true;
			break;
		case DUMP:
			ra_conf_print_default(stdout);
			return EXIT_OK;
		case CHECK:
			check = true;
			break;
		case HELP:
			print_help(stdout);
			return EXIT_OK;
		case VERSION:
			puts("residency-agent " COLOC_VERSION);
			return EXIT_OK;
		default:
			fputs("Try 'residency-agent --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "residency-agent: unexpected argument '%s'\n", argv[optind]);
		return EXIT_USAGE;
	}
	if (!check)
		return -1;
	if (ra_conf_load(options->config ? options->config : COLOC_DEFAULT_CONFIG,
			 options->config != NULL, &conf, error) == 0)
		return EXIT_OK;
	fprintf(stderr, "%s\n", error);
	return EXIT_CONFIG;
}

/* ---- reload ------------------------------------------------------------------------------------
 */

static void say_what_waits(const struct ra_conf *old, const struct ra_conf *fresh)
{
	if (strcmp(old->region_path, fresh->region_path) ||
	    old->region_size != fresh->region_size ||
	    old->region_min_read_mbps != fresh->region_min_read_mbps ||
	    strcmp(old->guest_name, fresh->guest_name) ||
	    old->access_max_streams != fresh->access_max_streams)
		ra_log(SD_NOTICE, "region.path, size and min_read_mbps, guest.name and "
				  "access.max_streams count from the next start on");
}

int ra_reload(struct ra_agent *agent, char *error)
{
	struct timespec now;
	struct ra_conf fresh;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		   (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	rc = ra_conf_load(agent->config_path, agent->config_must_exist, &fresh, error);
	if (rc < 0) {
		ra_log(SD_ERR, "%s: refused, the old values stay", error);
	} else {
		say_what_waits(&agent->conf, &fresh);
		agent->conf = fresh;
		ra_local_publish(agent);
		ra_residency_update(agent);
		if (ra_packets_mode(agent) < 0)
			ra_log(SD_ERR, "socket %s: mode and group stay as they were",
			       agent->socket_path);
		ra_log(SD_INFO, "configuration %s is in use", agent->config_path);
	}
	sd_notify(0, "READY=1");
	return rc;
}

/* ---- signals and timers ------------------------------------------------------------------------
 */

static void on_end(struct ev_loop *loop, ev_signal *signal, int events)
{
	(void)signal;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void on_reload(struct ev_loop *loop, ev_signal *signal, int events)
{
	char error[RA_CONF_ERROR_BYTES];

	(void)signal;
	(void)events;
	(void)ra_reload(ev_userdata(loop), error);
}

static void on_watchdog(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)timer;
	(void)events;
	sd_notify(0, "WATCHDOG=1");
}

static void start_signals(struct ra_agent *agent)
{
	uint64_t watchdog_us = 0;

	signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&agent->on_term, on_end, SIGTERM);
	ev_signal_init(&agent->on_int, on_end, SIGINT);
	ev_signal_init(&agent->on_hup, on_reload, SIGHUP);
	ev_signal_start(agent->loop, &agent->on_term);
	ev_signal_start(agent->loop, &agent->on_int);
	ev_signal_start(agent->loop, &agent->on_hup);
	if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
		ev_timer_init(&agent->watchdog, on_watchdog, 0, (double)watchdog_us / 2e6);
		ev_timer_start(agent->loop, &agent->watchdog);
	}
}

/* ---- begin -------------------------------------------------------------------------------------
 */

static int open_folder(struct ra_agent *agent)
{
	const char *slash = strrchr(agent->socket_path, '/');
	const size_t len = slash ? (size_t)(slash - agent->socket_path) : 0;

	if (len >= sizeof(agent->folder))
		return -ENAMETOOLONG;
	if (slash)
		snprintf(agent->folder, sizeof(agent->folder), "%.*s", len ? (int)len : 1,
			 agent->socket_path);
	else
		strcpy(agent->folder, ".");
	if (mkdir(agent->folder, 0755) < 0 && errno != EEXIST)
		return -errno;
	agent->folder_fd = open(agent->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return agent->folder_fd < 0 ? -errno : 0;
}

/* -1: go on; else the exit status */
static int claim_folder(struct ra_agent *agent)
{
	int rc = open_folder(agent);

	if (rc == 0)
		rc = ra_attach_lock(agent);
	if (rc == 0)
		return -1;
	if (rc == -EEXIST) {
		ra_log(SD_ERR, "socket %s: another agent serves it", agent->socket_path);
		return EXIT_RUNS;
	}
	ra_log(SD_ERR, "folder %s: %s", agent->folder, strerror(-rc));
	return EXIT_FAILED;
}

/* One descriptor per process and connection. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Files keep their locks across the fork; the loop is made after it. */
static int detach(void)
{
	int null_fd;

	if (daemon(1, 1) < 0)
		return -errno;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	dup2(null_fd, STDIN_FILENO);
	dup2(null_fd, STDOUT_FILENO);
	close(null_fd);
	return 0;
}

static int begin(struct ra_agent *agent, bool foreground)
{
	int rc;

	raise_limits();
	rc = ra_packets_listen(agent);
	if (rc == 0 && !foreground)
		rc = detach();
	if (rc < 0)
		return rc;
	agent->loop = ev_default_loop(0);
	if (!agent->loop)
		return -ENOMEM;
	ev_set_userdata(agent->loop, agent);
	ra_attach(agent);
	rc = ra_diag_start(agent);
	if (rc < 0)
		ra_log(SD_ERR, "sock_diag: %s: no stream can be moved%s", strerror(-rc),
		       rc == -ENOENT ? "; modprobe tcp_diag, then start the agent again" : "");
	ra_local_start(agent);
	rc = ra_residency_start(agent);
	if (rc < 0)
		ra_log(SD_ERR, "rtnetlink: %s: no address is published", strerror(-rc));
	ra_offers_start(agent);
	ra_guests_start(agent);
	ra_reclaim_start(agent);
	ra_drain_start(agent);
	start_signals(agent);
	ra_packets_start(agent);
	sd_notifyf(0, "READY=1\nSTATUS=serving %s", agent->socket_path);
	return 0;
}

/* Nobody of ours lives, and no record has a ring: nothing is lost by going for good. */
static bool is_unused(const struct ra_agent *agent)
{
	const struct ra_user *user;
	uint32_t slot;

	for (user = agent->users; user; user = user->next)
		for (slot = 0; slot < COLOC_PROCS_MAX; slot++)
			if (user->procs[slot])
				return false;
	return !ra_any_used(agent) && agent->exit_code == EXIT_OK;
}

static void end(struct ra_agent *agent)
{
	const bool forget = is_unused(agent);

	sd_notify(0, "STOPPING=1");
	while (agent->waits.count > 0)
		ra_offer_cancel(agent, 0);
	ra_packets_stop(agent);
	ra_residency_stop(agent);
	ra_local_stop(agent, forget);
	ra_detach(agent, forget);
	free(agent->waits.at);
	ra_offers_stop(agent);
	free(agent->inbox.at);
	free(agent->rechecks.at);
	free(agent->leaks.at);
	close(agent->diag_fd);
	close(agent->folder_fd);
	ev_loop_destroy(agent->loop);
}

int main(int argc, char **argv)
{
	static struct ra_agent agent = {
		.guest_fd = -1,
		.folder_fd = -1,
		.region_fd = -1,
		.region_test_fd = -1,
		.guest.slot = SHMT_NO_GUEST,
		.listen_fd = -1,
		.diag_fd = -1,
		.route_fd = -1,
		.dump_fd = -1,
	};
	struct options options = {0};
	char error[RA_CONF_ERROR_BYTES];
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	agent.config_path = options.config ? options.config : COLOC_DEFAULT_CONFIG;
	agent.config_must_exist = options.config != NULL;
	agent.socket_path = options.socket ? options.socket : COLOC_DEFAULT_SOCKET;
	agent.region_override = options.region;
	if (ra_conf_load(agent.config_path, agent.config_must_exist, &agent.conf, error) < 0) {
		ra_log(SD_ERR, "%s", error);
		return EXIT_CONFIG;
	}
	status = claim_folder(&agent);
	if (status >= 0)
		return status;
	if (begin(&agent, options.foreground) < 0)
		return EXIT_FAILED;
	ev_run(agent.loop, 0);
	end(&agent);
	return agent.exit_code;
}
