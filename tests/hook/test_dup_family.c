// SPDX-License-Identifier: Apache-2.0
/*
 * dup, dup2, dup3, F_DUPFD: all numbers are the same stream; it ends with the last one; flags of
 * the descriptor are its own, flags of the file are shared. HAZARDS 6, 17.
 */

#include "t.h"

static struct t_pair pair;

static void same_stream(int copy)
{
	for (int i = 0; i < 4; i++) {
		t_hot(&pair);
		t_send(pair.a, 100, 3, 0);
		t_recv(copy, 40, 3, 0);
		t_recv(pair.b, 60, 3, 40);
		t_send(copy, 100, 4, 0);
		t_recv(pair.a, 100, 4, 0);
	}
	/* O_NONBLOCK belongs to the file: set by one, seen by the other. */
	t_set_nonblock(copy, true);
	T_ERR(recv(pair.b, &copy, 1, 0), EAGAIN);
	t_set_nonblock(pair.b, false);
	T_CHECK(!(T_OK(fcntl(copy, F_GETFL)) & O_NONBLOCK));
}

int main(void)
{
	uint64_t moved;
	uint8_t byte;
	int copy;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);

	copy = (int)T_OK(dup(pair.b));
	same_stream(copy);
	T_OK(close(copy));

	T_EQ(T_OK(dup2(pair.b, 100)), 100);
	same_stream(100);
	T_EQ(T_OK(dup2(pair.b, pair.b)), pair.b);
	same_stream(100);

	T_EQ(T_OK(dup3(pair.b, 100, O_CLOEXEC)), 100);
	T_EQ(T_OK(fcntl(100, F_GETFD)), FD_CLOEXEC);
	same_stream(100);
	T_ERR(dup3(pair.b, pair.b, 0), EINVAL);
	T_ERR(dup2(pair.b, -1), EBADF);
	T_ERR(dup(777), EBADF);

	T_EQ(T_OK(fcntl(pair.b, F_DUPFD, 200)), 200);
	T_EQ(T_OK(fcntl(200, F_GETFD)), 0);
	same_stream(200);
	T_EQ(T_OK(fcntl(pair.b, F_DUPFD_CLOEXEC, 200)), 201);
	T_EQ(T_OK(fcntl(201, F_GETFD)), FD_CLOEXEC);
	same_stream(201);
	t_moved_end(pair.a, moved);

	/* The original is gone, the copies carry on; the last close ends it. */
	T_OK(close(pair.b));
	T_OK(close(201));
	T_OK(close(200));
	pair.b = 100;
	t_hot(&pair);
	T_ERR(recv(pair.a, &byte, 1, MSG_DONTWAIT), EAGAIN);
	T_OK(close(100));
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(pair.a));
	return 0;
}
