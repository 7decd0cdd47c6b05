// SPDX-License-Identifier: Apache-2.0
/*
 * early.c - the foreign library of test_before_constructors.c
 *
 * A library that the program needs is initialised before a preloaded one.
 */

#include "early.h"

struct t_pair early;

__attribute__((constructor)) static void before_the_preloaded(void)
{
	struct pollfd set;

	t_open(&early, T_V4);
	t_send(early.a, 5000, 3, 0);
	t_recv(early.b, 5000, 3, 0);
	t_send(early.b, 100, 4, 0);
	set = (struct pollfd){early.a, POLLIN, 0};
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	t_recv(early.a, 100, 4, 0);
	T_ERR(recv(early.a, &set, 1, MSG_DONTWAIT), EAGAIN);
}
