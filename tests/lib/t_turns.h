// SPDX-License-Identifier: Apache-2.0
/*
 * t_turns.h - a test's process and its child take turns: one says that it has done its part, the
 * other hears it. make_pipes() before the fork, drop_pipes() after the child has ended.
 */
#ifndef T_TURNS_H
#define T_TURNS_H

#include "t.h"

static int to_child[2], to_parent[2];

static void say(const int pipe[2])
{
	T_EQ(T_OK(write(pipe[1], "x", 1)), 1);
}

static void hear(const int pipe[2])
{
	char byte;

	T_EQ(T_OK(read(pipe[0], &byte, 1)), 1);
}

static void make_pipes(void)
{
	T_OK(pipe(to_child));
	T_OK(pipe(to_parent));
}

static void drop_pipes(void)
{
	for (int i = 0; i < 2; i++) {
		T_OK(close(to_child[i]));
		T_OK(close(to_parent[i]));
	}
}

#endif
