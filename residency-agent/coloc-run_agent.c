/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coloc-run_agent.c - a private agent where none runs
 *
 * A private agent belongs to a user and is shared by that user's runs: its folder is
 * $XDG_RUNTIME_DIR/coloc or /tmp/coloc-UID, its region lies in /dev/shm/coloc-UID. Both are used
 * only if they are folders of this user that nobody else may enter: whoever comes first to /tmp
 * could otherwise listen in. A lock file there makes two runs that begin at once start one agent.
 * The agent is a daemon: started through a process that ends, so that the program never has a child
 * that it did not make; it says that it is ready by the socket in NOTIFY_SOCKET, and a pipe that it
 * keeps open tells if it dies before.
 */
#include "coloc-run.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "beside.h"
#include "settings.h"
#include "shmt_layout.h"

#define READY_LIMIT_MS 10000
#define AGENT_ALIVE_FD 3 /* in the agent: the pipe's end that it keeps open */

/* ---- a folder or a socket that may be trusted -------------------------------------------------
 */

int run_connect_agent(const char *path, pid_t *ret_pid)
{
	const struct timeval limit = {.tv_sec = 2};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	int fd, rc = 0;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		rc = -errno;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
		*ret_pid = peer.pid;
	close(fd);
	return rc;
}

/* Makes @path if need be. Return: descriptor of a folder that is this user's alone, or -errno */
static int open_own_folder(const char *path)
{
	struct stat facts;
	int fd, rc;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &facts) < 0 ? -errno : 0;
	if (rc == 0 && (facts.st_uid != geteuid() || (facts.st_mode & 077) != 0))
		rc = -EPERM;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* $XDG_RUNTIME_DIR survives su and sudo, where it is another user's. */
static bool runtime_dir_is_ours(const char *path)
{
	struct stat facts;

	return path && path[0] == '/' && stat(path, &facts) == 0 && S_ISDIR(facts.st_mode) &&
	       facts.st_uid == geteuid() && (facts.st_mode & 022) == 0;
}

/* ---- the private agent ------------------------------------------------------------------------
 */

struct private_agent {
	char folder[PATH_MAX - 32];
	char socket[PATH_MAX];
	char region[PATH_MAX];
	char log[PATH_MAX];
	int folder_fd;
};

/* Return: 0, or -errno with what it is about in @why */
static int choose_places(struct private_agent *ret, char *why)
{
	const char *const runtime = getenv("XDG_RUNTIME_DIR");
	char memory[64];
	int fd;

	if (runtime_dir_is_ours(runtime))
		snprintf(ret->folder, sizeof(ret->folder), "%s/coloc", runtime);
	else
		snprintf(ret->folder, sizeof(ret->folder), "/tmp/coloc-%u", geteuid());
	ret->folder_fd = open_own_folder(ret->folder);
	if (ret->folder_fd < 0) {
		snprintf(why, RUN_WHY_BYTES, "%s%s", ret->folder,
			 ret->folder_fd == -EPERM ? " (must be this user's, mode 0700)" : "");
		return ret->folder_fd;
	}
	snprintf(ret->socket, sizeof(ret->socket), "%s/agent.sock", ret->folder);
	snprintf(ret->log, sizeof(ret->log), "%s/agent.log", ret->folder);

	snprintf(memory, sizeof(memory), "/dev/shm/coloc-%u", geteuid());
	fd = open_own_folder(memory);
	/* By version: what an earlier one has left there does not stand in the way. */
	snprintf(ret->region, sizeof(ret->region), "%s/region-%u", fd < 0 ? ret->folder : memory,
		 SHMT_VERSION);
	if (fd >= 0)
		close(fd);
	return 0;
}

/*
 * The agent lives longer than the run that starts it. What this run's environment says of the
 * preloaded processes is for this run's processes, which read it themselves.
 */
static void forget_own_settings(void)
{
	static const char *const names[] = {
#define RUN_SETTING_NAME(section, key, def, min, max, text) "COLOC_" #section "_" #key,
		COLOC_SHIM_SETTINGS(RUN_SETTING_NAME)
#undef RUN_SETTING_NAME
			"LD_PRELOAD",
		"COLOC_AGENT", "COLOC_POLICY"};
	char name[64];
	size_t i, j;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (j = 0; names[i][j] && j + 1 < sizeof(name); j++)
			name[j] = (char)toupper((unsigned char)names[i][j]);
		name[j] = '\0';
		unsetenv(name);
	}
}

/* In the process that becomes the agent. Its complaints go to the log, whose last line is shown. */
static void exec_agent(const struct private_agent *agent, const char *program, const char *config,
		       const char *notify, int alive_fd)
{
	const char *args[10] = {"residency-agent", "--foreground", "--socket",
				agent->socket,	   "--region",	   agent->region};
	size_t count = 6;
	int log_fd;

	setsid();
	umask(077);
	log_fd = open(agent->log, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
	dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO);
	dup2(log_fd, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	if (log_fd > STDERR_FILENO)
		close(log_fd);
	if (chdir("/") < 0)
		_exit(RUN_EXIT_CANNOT);
	forget_own_settings();
	setenv("NOTIFY_SOCKET", notify, 1);
	if (config) {
		args[count++] = "--config";
		args[count++] = config;
	}
	/* It outlives this run: what else the caller has open, pipes above all, must not stay open.
	 */
	if (alive_fd != AGENT_ALIVE_FD)
		dup2(alive_fd, AGENT_ALIVE_FD);
	fcntl(AGENT_ALIVE_FD, F_SETFD, 0);
	close_range(AGENT_ALIVE_FD + 1, ~0u, 0);
	execv(program, (char *const *)args);
	dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
	_exit(RUN_EXIT_CANNOT);
}

/* Receives until the agent says READY=1. Return: 0; -ECHILD it ended; -ETIMEDOUT */
static int wait_until_ready(int notify_fd, int alive_fd)
{
	struct pollfd items[2] = {{.fd = notify_fd, .events = POLLIN}, {.fd = alive_fd}};
	struct timespec now, begin;
	char text[512];
	ssize_t got;
	int spent = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (spent < READY_LIMIT_MS) {
		if (poll(items, 2, READY_LIMIT_MS - spent) < 0 && errno != EINTR)
			return -errno;
		/* Looked at before the pipe: an agent that was ready and ended is a later matter.
		 */
		while ((got = recv(notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
			text[got] = '\0';
			if (strstr(text, "READY=1"))
				return 0;
		}
		if (items[1].revents)
			return -ECHILD;
		clock_gettime(CLOCK_MONOTONIC, &now);
		spent = (int)((now.tv_sec - begin.tv_sec) * 1000 +
			      (now.tv_nsec - begin.tv_nsec) / 1000000);
	}
	return -ETIMEDOUT;
}

static void last_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	char text[1024];

	snprintf(line, size, "it said nothing");
	while (file && fgets(text, sizeof(text), file)) {
		text[strcspn(text, "\n")] = '\0';
		if (*text)
			snprintf(line, size, "%s", text);
	}
	if (file)
		fclose(file);
}

/* Through a child that ends at once: the agent is nobody's child but init's. */
static int spawn_agent(const struct private_agent *agent, const char *program, const char *config,
		       char *why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int alive[2] = {-1, -1}, notify_fd, rc;
	pid_t pid;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/ready.%d", agent->folder,
		     getpid()) >= (int)sizeof(address.sun_path)) {
		snprintf(why, RUN_WHY_BYTES, "%s", agent->folder);
		return -ENAMETOOLONG;
	}
	snprintf(why, RUN_WHY_BYTES, "%s", address.sun_path);
	unlink(address.sun_path);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	rc = -errno;
	if (notify_fd < 0)
		return rc;
	if (bind(notify_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    pipe2(alive, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		rc = -errno;
		goto out;
	}
	if (pid == 0) {
		if (fork() == 0)
			exec_agent(agent, program, config, address.sun_path, alive[1]);
		_exit(0);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(alive[1]);
	alive[1] = -1;
	rc = wait_until_ready(notify_fd, alive[0]);
	if (rc == -ECHILD)
		last_line(agent->log, why, RUN_WHY_BYTES);
	else if (rc == -ETIMEDOUT)
		snprintf(why, RUN_WHY_BYTES, "it was not ready within %d s, see %s",
			 READY_LIMIT_MS / 1000, agent->log);
out:
	unlink(address.sun_path);
	close(notify_fd);
	if (alive[0] >= 0)
		close(alive[0]);
	if (alive[1] >= 0)
		close(alive[1]);
	return rc;
}

int run_private_agent(const struct run_options *options, char *socket, char *why)
{
	char program[PATH_MAX], config[PATH_MAX];
	struct private_agent agent;
	pid_t pid = 0;
	int lock_fd, rc;

	rc = choose_places(&agent, why);
	if (rc < 0)
		return rc;
	snprintf(socket, PATH_MAX, "%s", agent.socket);
	lock_fd = openat(agent.folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0) {
		rc = -errno;
		snprintf(why, RUN_WHY_BYTES, "%s/lock", agent.folder);
		goto out;
	}
	if (run_connect_agent(agent.socket, &pid) == 0) {
		if (options->config)
			fprintf(stderr, "coloc-run: --config ignored: agent %d runs already\n",
				pid);
		goto out;
	}
	rc = tool_find_beside("residency-agent", COLOC_SBINDIR, X_OK, program);
	if (rc < 0) {
		snprintf(why, RUN_WHY_BYTES, "%s", program);
		goto out;
	}
	if (options->config && !realpath(options->config, config)) {
		rc = -errno;
		snprintf(why, RUN_WHY_BYTES, "%s", options->config);
		goto out;
	}
	rc = spawn_agent(&agent, program, options->config ? config : NULL, why);
	if (rc == 0)
		run_connect_agent(agent.socket, &pid);
out:
	/* Closing the lock file gives it to the next run. */
	if (lock_fd >= 0)
		close(lock_fd);
	close(agent.folder_fd);
	if (rc == 0 && options->verbose)
		fprintf(stderr, "coloc-run: private agent %d at %s; end it with 'kill %d'\n", pid,
			socket, pid);
	return rc;
}
