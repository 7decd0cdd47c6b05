/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl.c - ask the guest's agent, for people and for scripts
 *
 * A table of verbs. Those that only show what the agent answers need no code of their own: a verb
 * of the protocol and how to print it is all. Facts go to stdout, complaints to stderr; what it
 * ends with is enum ctl_exit.
 */
#include "colocctl.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static void show_done(FILE *out, const json_t *answer)
{
	if (json_object_size(answer) > 0)
		ctl_show(out, answer);
	else
		fputs("done\n", out);
}

static const struct verb {
	const char *name;
	const char *text;
	enum coloc_verb ask;		      /* if there is no run */
	void (*show)(FILE *, const json_t *); /* the answer to ask */
	int (*run)(const struct ctl_options *);
} verbs[] = {
	{"status", "the guest, the region, the guests beside it", COLOC_VERB_STATUS, ctl_show,
	 NULL},
	{"streams", "every co-resident stream: where it runs, and why", COLOC_VERB_STREAMS,
	 ctl_show_streams, NULL},
	{"stats", "totals since the agent started", 0, NULL, ctl_stats},
	{"top", "streams and rates, refreshed each second until ^C", 0, NULL, ctl_top},
	{"drain", "move every stream back to TCP, and wait until they are there", 0, NULL,
	 ctl_drain},
	{"resume", "after drain: let streams on rings again", COLOC_VERB_RESUME, show_done, NULL},
	{"reload", "read the configuration file again; a bad one changes nothing",
	 COLOC_VERB_RELOAD, show_done, NULL},
	{"doctor", "look for what is in the way, and name the cure", 0, NULL, ctl_doctor},
	{"check", "move a stream of its own over loopback, and say why not", 0, NULL, ctl_check},
};

/* One end of "check", run as a process of its own: not for people, so not in the table. */
#define CHECK_PEER_VERB "check-peer"

static void print_help(FILE *out)
{
	size_t i;

	fputs("usage: colocctl [OPTION...] VERB\n\n", out);
	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].text);
	fprintf(out,
		"\n"
		"  --json         print facts as JSON\n"
		"  --socket PATH  the agent's socket; else $COLOC_AGENT, else %s\n"
		"  --timeout S    drain: give up after S seconds (30)\n"
		"  --since FILE   stats: the difference to an earlier 'stats --json' in FILE\n"
		"  --count N      top: end after N refreshes\n"
		"  --wait S       wait up to S seconds for an agent that is starting\n"
		"  --help, --version\n"
		"\n"
		"ends with 0; 1 if the answer is bad (streams left, a check failed, refused); 2 for a wrong\n"
		"command line; 3 if the agent does not answer\n",
		COLOC_DEFAULT_SOCKET);
}

static const struct verb *find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int run_verb(const struct verb *verb, const struct ctl_options *options)
{
	json_t *answer;
	int failed;

	if (verb->run)
		return verb->run(options);
	answer = ctl_ask_or_complain(options, verb->ask, &failed);
	if (!answer)
		return failed;
	if (options->json)
		ctl_show_json(stdout, answer);
	else
		verb->show(stdout, answer);
	json_decref(answer);
	return CTL_EXIT_OK;
}

static int parse_count(const char *option, const char *text, int min, int *ret_value)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end || value < min || value > 86400) {
		fprintf(stderr, "colocctl: --%s %s: not a whole number from %d to 86400\n", option,
			text, min);
		return -EINVAL;
	}
	*ret_value = (int)value;
	return 0;
}

static int usage(void)
{
	fputs("colocctl: 'colocctl --help' lists the verbs\n", stderr);
	return CTL_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"socket", required_argument, NULL, 's'},
		{"timeout", required_argument, NULL, 't'},
		{"since", required_argument, NULL, 'd'},
		{"count", required_argument, NULL, 'n'},
		{"wait", required_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	const char *const agent = getenv("COLOC_AGENT");
	struct ctl_options options = {
		.socket = agent && *agent ? agent : COLOC_DEFAULT_SOCKET,
		.timeout_s = 30,
	};
	const struct verb *verb;
	int option, rc = 0;

	if (argc == 4 && !strcmp(argv[1], CHECK_PEER_VERB))
		return ctl_check_peer(argv[2], argv[3]);

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (option) {
		case 'j':
			options.json = true;
			break;
		case 's':
			options.socket = optarg;
			break;
		case 't':
			rc = parse_count("timeout", optarg, 0, &options.timeout_s);
			break;
		case 'd':
			options.since = optarg;
			break;
		case 'n':
			rc = parse_count("count", optarg, 1, &options.count);
			break;
		case 'w':
			rc = parse_count("wait", optarg, 0, &options.wait_s);
			break;
		case 'h':
			print_help(stdout);
			return CTL_EXIT_OK;
		case 'V':
			puts("colocctl " COLOC_VERSION);
			return CTL_EXIT_OK;
		default:
			return usage();
		}
		if (rc < 0)
			return CTL_EXIT_USAGE;
	}
	if (optind == argc) {
		print_help(stderr);
		return CTL_EXIT_USAGE;
	}
	verb = find_verb(argv[optind]);
	if (!verb) {
		fprintf(stderr, "colocctl: unknown verb '%s'\n", argv[optind]);
		return usage();
	}
	if (optind + 1 < argc) {
		fprintf(stderr, "colocctl: %s: '%s' is one word too many\n", verb->name,
			argv[optind + 1]);
		return usage();
	}
	rc = run_verb(verb, &options);
	if (fflush(stdout) != 0 && rc == CTL_EXIT_OK) {
		perror("colocctl: standard output");
		rc = CTL_EXIT_NO;
	}
	return rc;
}
