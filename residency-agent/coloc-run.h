/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coloc-run.h - what the two files of coloc-run share
 *
 *   coloc-run.c        command line, environment, the program itself, --stats
 *   coloc-run_agent.c  a private agent where none runs
 */
#ifndef COLOC_RUN_H
#define COLOC_RUN_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define RUN_EXIT_CANNOT	   126
#define RUN_EXIT_NOT_FOUND 127
#define RUN_WHY_BYTES	   (PATH_MAX + 128) /* a path and what is wrong with it */

struct run_options {
	const char *policy; /* NULL = as in the environment */
	const char *config; /* for a private agent */
	const char *agent;
	bool stats, verbose;
};

/**
 * run_connect_agent() - does an agent answer at this socket?
 * @ret_pid: who it is. Return: 0 or -errno
 */
int run_connect_agent(const char *path, pid_t *ret_pid);

/**
 * run_private_agent() - find or start this user's private agent
 * @socket: PATH_MAX bytes; set on success
 * @why: RUN_WHY_BYTES; set on failure, with what -errno is about
 * Blocks until the agent is ready, for some seconds at most. Return: 0; -ECHILD it ended, and @why
 * is what it said; -ETIMEDOUT, @why likewise; -errno
 */
int run_private_agent(const struct run_options *options, char *socket, char *why);

#endif
