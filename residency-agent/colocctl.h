/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl.h - what the files of colocctl share
 *
 *   colocctl.c         the table of verbs, the command line
 *   colocctl_ask.c     one question to the agent
 *   colocctl_show.c    tables for people, made from the agent's JSON
 *   colocctl_watch.c   verbs that ask again and again: stats, top, drain
 *   colocctl_doctor.c  what is in the way on this machine, and the cure
 *   colocctl_check.c   a live self-test over loopback
 *
 * The agent answers in JSON and is the only one that knows the facts; whatever it adds is shown
 * here without a change. Functions return >= 0 or -Exxx unless they say otherwise.
 */
#ifndef COLOCCTL_H
#define COLOCCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "agent_proto.h"

/* What colocctl ends with; scripts rely on it. */
enum ctl_exit {
	CTL_EXIT_OK = 0,
	CTL_EXIT_NO =
		1, /* asked and answered, but the answer is bad: streams remain, a check failed */
	CTL_EXIT_USAGE = 2, /* the command line */
	CTL_EXIT_AGENT = 3, /* no answer from the agent */
};

struct ctl_options {
	const char *socket;
	int timeout_s;	   /* drain; how long to wait for the last stream */
	int wait_s;	   /* for an agent that is still starting */
	int count;	   /* top: refreshes; 0 = until ^C */
	const char *since; /* stats: an earlier answer, as a file of JSON */
	bool json;
};

/**
 * ctl_ask() - one verb to the agent, its whole answer
 * @ret_answer: owned by the caller, json_decref()
 * @error: at least 256 bytes; on failure a sentence that names what and where
 * Blocks for at most a few seconds (and options->wait_s for the socket to come up).
 * Return: 0; 1: the agent refused; -EPROTO: an answer that is not the protocol's; -errno of socket,
 * connect, send or receive
 */
int ctl_ask(const struct ctl_options *options, enum coloc_verb verb, json_t **ret_answer,
	    char *error);

/**
 * ctl_ask_or_complain() - the same; on failure NULL, and the sentence went to stderr
 * @ret_exit: set on failure, to what the program should end with; may be NULL
 */
json_t *ctl_ask_or_complain(const struct ctl_options *options, enum coloc_verb verb, int *ret_exit);

/* ---- colocctl_show.c --- */

/** ctl_show() - any JSON as text: scalars as aligned "key  value", lists of objects as tables */
void ctl_show(FILE *out, const json_t *value);

/** ctl_show_json() - for scripts */
void ctl_show_json(FILE *out, const json_t *value);

/** ctl_show_streams() - the streams as a table, and a legend of the reasons that occur in it */
void ctl_show_streams(FILE *out, const json_t *streams);

/** ctl_format_bytes() - "1.50 GiB"; @text: at least 24 bytes. Return: @text */
const char *ctl_format_bytes(char *text, double bytes);

/** ctl_number() - number @key of @object, 0 if it is not there */
double ctl_number(const json_t *object, const char *key);

/** ctl_string() - string @key of @object, "" if it is not there; lives as long as @object */
const char *ctl_string(const json_t *object, const char *key);

/** ctl_mode_is_ring() - whether the ring still matters in this mode: all but tcp */
bool ctl_mode_is_ring(const char *mode);

/* ---- verbs; each returns enum ctl_exit --- */
int ctl_stats(const struct ctl_options *options);
int ctl_top(const struct ctl_options *options);
int ctl_drain(const struct ctl_options *options);
int ctl_doctor(const struct ctl_options *options);
int ctl_check(const struct ctl_options *options);

/** ctl_check_peer() - one end of the self-test, in a process of its own; @role: "server" or
 * "client" */
int ctl_check_peer(const char *role, const char *port);

/** ctl_library_list() - LD_PRELOAD for a child: what is in it now, then @library. @list: 2 *
 * PATH_MAX */
void ctl_library_list(char *list, const char *library);

#endif
