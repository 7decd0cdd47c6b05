/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coloc-run.c - run a program preloaded, with an agent
 *
 * It sets the environment and becomes the program, so that pid, signals, terminal and exit status
 * are the program's own; only --stats stays behind as its parent. Nothing that goes wrong here may
 * keep the program from running: it is said in one line, and the program runs by TCP alone.
 *
 * Which agent: --agent, $COLOC_AGENT, the one of the system, else a private one
 * (coloc-run_agent.c).
 */
#include "coloc-run.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_proto.h"
#include "beside.h"

#define EXIT_USAGE 2

/* ---- environment ------------------------------------------------------------------------------
 */

static bool is_sanitizer_runtime(const char *entry, size_t length)
{
	static const char *const names[] = {"libasan.", "libtsan.", "liblsan.", "libubsan.",
					    "libclang_rt."};
	const char *base = memrchr(entry, '/', length);
	size_t i;

	base = base ? base + 1 : entry;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(base, names[i], strlen(names[i])))
			return true;
	return false;
}

/* Before what is there already; a sanitizer's runtime must stay the first. */
static int preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD"), *rest;
	size_t size;
	char *list;
	int rc;

	if (!before)
		before = "";
	size = strlen(before) + strlen(library) + 3;
	rest = before;

	for (;;) {
		const size_t skip = strspn(rest, ": "), length = strcspn(rest + skip, ": ");

		if (!is_sanitizer_runtime(rest + skip, length))
			break;
		rest += skip + length;
	}
	list = malloc(size);
	if (!list)
		return -ENOMEM;
	snprintf(list, size, "%.*s%s%s%s%s", (int)(rest - before), before, rest > before ? ":" : "",
		 library, *rest && *rest != ':' ? ":" : "", rest);
	rc = setenv("LD_PRELOAD", list, 1) < 0 ? -errno : 0;
	free(list);
	return rc;
}

/* Everything that makes the program's streams move. @socket: PATH_MAX bytes, which agent it is */
static int prepare(const struct run_options *options, char *socket)
{
	char library[PATH_MAX], why[RUN_WHY_BYTES] = "";
	const char *const policy = options->policy ? options->policy : getenv("COLOC_POLICY");
	const char *agent = options->agent ? options->agent : getenv("COLOC_AGENT");
	pid_t pid = 0;
	int rc;

	rc = tool_find_beside("libcoloc.so", COLOC_LIBDIR, R_OK, library);
	if (rc < 0) {
		fprintf(stderr, "coloc-run: %s: %s; running without it\n", library, strerror(-rc));
		return rc;
	}
	if (agent && *agent) {
		snprintf(socket, PATH_MAX, "%s", agent);
		rc = run_connect_agent(socket, &pid);
		/* It may come later, and the preloaded program would find it then. */
		if (rc < 0)
			fprintf(stderr,
				"coloc-run: agent %s: %s; until it comes streams stay on TCP\n",
				socket, strerror(-rc));
	} else {
		snprintf(socket, PATH_MAX, "%s", COLOC_DEFAULT_SOCKET);
		if ((policy && !strcmp(policy, "never")) || run_connect_agent(socket, &pid) == 0)
			rc = 0;
		else
			rc = run_private_agent(options, socket, why);
		if (rc == -ECHILD || rc == -ETIMEDOUT)
			fprintf(stderr, "coloc-run: private agent: %s; running without it\n", why);
		else if (rc < 0)
			fprintf(stderr, "coloc-run: private agent: %s: %s; running without it\n",
				why, strerror(-rc));
		if (rc < 0)
			return rc;
	}
	if (options->verbose)
		fprintf(stderr, "coloc-run: %s, agent %s\n", library, socket);
	if (options->policy)
		setenv("COLOC_POLICY", options->policy, 1);
	setenv("COLOC_AGENT", socket, 1);
	return preload(library);
}

/* ---- running it -------------------------------------------------------------------------------
 */

static int exec_command(char **command)
{
	execvp(command[0], command);
	fprintf(stderr, "coloc-run: %s: %s\n", command[0], strerror(errno));
	return errno == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT;
}

static volatile sig_atomic_t command_pid;

static void forward(int number)
{
	kill(command_pid, number);
}

static const int passed_on[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

/*
 * The command as a child. ^C reaches it by the terminal, so it is ignored here; what is sent to us
 * is passed on to it, from its first moment on: until then these signals are held back.
 */
static pid_t start_command(char **command)
{
	sigset_t held, before;
	size_t i;
	pid_t pid;

	sigemptyset(&held);
	for (i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&held, passed_on[i]);
	sigprocmask(SIG_BLOCK, &held, &before);
	pid = fork();
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		_exit(exec_command(command));
	}
	if (pid > 0) {
		command_pid = pid;
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		for (i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
			signal(passed_on[i], forward);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

/* The command is gone and its pid may be another's soon: signals are for us again. */
static void stop_forwarding(void)
{
	size_t i;

	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	for (i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		signal(passed_on[i], SIG_DFL);
}

/* colocctl of the same build, its output to @out_fd. Return: what it ended with, 127 if not found
 */
static int run_colocctl(int out_fd, const char *socket, const char *option, const char *value)
{
	char program[PATH_MAX];
	int status;
	pid_t pid;

	if (tool_find_beside("colocctl", NULL, X_OK, program) < 0)
		return RUN_EXIT_NOT_FOUND;
	pid = fork();
	if (pid == 0) {
		unsetenv("LD_PRELOAD");
		dup2(out_fd, STDOUT_FILENO);
		execl(program, "colocctl", "--socket", socket, "stats", option, value,
		      (char *)NULL);
		_exit(RUN_EXIT_NOT_FOUND);
	}
	if (pid < 0)
		return RUN_EXIT_NOT_FOUND;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return RUN_EXIT_NOT_FOUND;
	return WIFEXITED(status) ? WEXITSTATUS(status) : RUN_EXIT_CANNOT;
}

/* The command as a child, and what the agent counted while it ran. */
static int run_with_stats(char **command, const char *socket)
{
	const int before_fd = memfd_create("stats", MFD_CLOEXEC);
	siginfo_t facts;
	char before[32];
	int status, rc;
	pid_t pid;

	rc = before_fd < 0 ? RUN_EXIT_CANNOT : run_colocctl(before_fd, socket, "--json", NULL);

	pid = start_command(command);
	if (pid < 0) {
		fprintf(stderr, "coloc-run: fork: %s\n", strerror(errno));
		return RUN_EXIT_CANNOT;
	}
	/* Left as a zombie until the signals are ours again, so that its pid stays its own. */
	while (waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	stop_forwarding();
	waitpid(pid, &status, 0);
	if (rc == 0) {
		snprintf(before, sizeof(before), "/proc/%d/fd/%d", getpid(), before_fd);
		run_colocctl(STDERR_FILENO, socket, "--since", before);
	} else {
		fputs("coloc-run: no statistics: the agent did not answer\n", stderr);
	}
	if (before_fd >= 0)
		close(before_fd);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void print_help(FILE *out)
{
	fprintf(out,
		"usage: coloc-run [OPTION...] [--] COMMAND [ARGUMENT...]\n"
		"\n"
		"Runs COMMAND with libcoloc.so preloaded, so that its TCP streams to co-resident\n"
		"peers may move onto shared memory.\n"
		"\n"
		"  --policy=auto|always|never  move what pays; everything at once; nothing\n"
		"  --agent SOCKET   else $COLOC_AGENT, else %s,\n"
		"                   else a private agent of this user, started if it does not run\n"
		"  --config FILE    for a private agent that has to be started\n"
		"  --stats          afterwards print what moved meanwhile, to standard error\n"
		"  --verbose        say which library and agent are used\n"
		"  --help, --version\n"
		"\n"
		"Ends as COMMAND does (128 + number if a signal killed it under --stats); 127 if it\n"
		"is not found, 126 if it cannot be run, 2 for a wrong command line.\n",
		COLOC_DEFAULT_SOCKET);
}

static bool policy_is_known(const char *policy)
{
	return !strcmp(policy, "auto") || !strcmp(policy, "always") || !strcmp(policy, "never");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"policy", required_argument, NULL, 'p'}, {"agent", required_argument, NULL, 'a'},
		{"config", required_argument, NULL, 'c'}, {"stats", no_argument, NULL, 's'},
		{"verbose", no_argument, NULL, 'v'},	  {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	  {0},
	};
	struct run_options options = {0};
	char socket[PATH_MAX] = "";
	int option, rc;

	while ((option = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		switch (option) {
		case 'p':
			if (!policy_is_known(optarg)) {
				fprintf(stderr,
					"coloc-run: --policy=%s: not auto, always or never\n",
					optarg);
				return EXIT_USAGE;
			}
			options.policy = optarg;
			break;
		case 'a':
			options.agent = optarg;
			break;
		case 'c':
			options.config = optarg;
			break;
		case 's':
			options.stats = true;
			break;
		case 'v':
			options.verbose = true;
			break;
		case 'h':
			print_help(stdout);
			return 0;
		case 'V':
			puts("coloc-run " COLOC_VERSION);
			return 0;
		default:
			fputs("coloc-run: 'coloc-run --help' lists the options\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs("coloc-run: no command given; 'coloc-run --help' lists the options\n",
		      stderr);
		return EXIT_USAGE;
	}
	rc = prepare(&options, socket);
	if (options.stats && rc == 0)
		return run_with_stats(argv + optind, socket);
	return exec_command(argv + optind);
}
