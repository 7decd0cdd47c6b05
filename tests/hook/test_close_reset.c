// SPDX-License-Identifier: Apache-2.0
/*
 * close() as the other end sees it: with everything read an end of stream; with unread bytes, or
 * with SO_LINGER 0, a reset. HAZARDS 33.
 */

#include "t.h"

/* The reader closes with unread bytes, wherever they lie: the writer gets a reset. */
static void close_with_unread(size_t len)
{
	struct t_pair pair;
	struct pollfd set;
	uint8_t byte;

	t_open_hot(&pair);
	t_send(pair.a, len, 3, 0);
	t_recv(pair.b, len / 2, 3, 0);
	T_OK(close(pair.b));
	set = (struct pollfd){pair.a, POLLIN, 0};
	T_EQ(T_OK(poll(&set, 1, 2000)), 1);
	T_CHECK(set.revents & POLLERR && set.revents & POLLHUP);
	T_ERR(recv(pair.a, &byte, 1, 0), ECONNRESET);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_ERR(send(pair.a, &byte, 1, MSG_NOSIGNAL), EPIPE);
	T_OK(close(pair.a));
}

static void linger_zero(void)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct t_pair pair;
	uint8_t byte;

	t_open_hot(&pair);
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	T_OK(close(pair.b));
	T_ERR(recv(pair.a, &byte, 1, 0), ECONNRESET);
	T_OK(close(pair.a));
}

/* All read, then closed: end of stream; the first write provokes the reset, the next fails. */
static void plain_close(void)
{
	struct t_pair pair;
	struct pollfd set;
	uint8_t byte = 0;

	t_open_hot(&pair);
	t_send(pair.a, 5000, 3, 0);
	t_send(pair.b, 5000, 4, 0);
	t_recv(pair.b, 5000, 3, 0);
	T_OK(close(pair.b));
	t_recv(pair.a, 5000, 4, 0);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_EQ(T_OK(send(pair.a, &byte, 1, MSG_NOSIGNAL)), 1);
	set = (struct pollfd){pair.a, 0, 0};
	T_EQ(T_OK(poll(&set, 1, 2000)), 1);
	T_ERR(send(pair.a, &byte, 1, MSG_NOSIGNAL), EPIPE);
	T_OK(close(pair.a));
}

int main(void)
{
	close_with_unread(1000);
	close_with_unread(100000);
	linger_zero();
	plain_close();
	return 0;
}
