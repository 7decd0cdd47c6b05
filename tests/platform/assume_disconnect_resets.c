/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: connect() to AF_UNSPEC on an established TCP socket sends a reset, which the other side
 * sees at once: how a stream ends whose ring was broken. So does a close with SO_LINGER of zero.
 */
#include "t.h"

static void expect_reset(const char *how, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	T_EQ(poll(&p, 1, 1000), 1);
	T_CHECK(p.revents & (POLLERR | POLLHUP));
	T_ERR(recv(fd, &byte, 1, 0), ECONNRESET);
	printf("%s: the other side sees ECONNRESET\n", how);
}

int main(void)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct t_pair pair;

	t_open(&pair, T_V4);
	T_OK(connect(pair.a, &nobody, sizeof(nobody)));
	expect_reset("connect to AF_UNSPEC", pair.b);
	t_close(&pair);

	t_open(&pair, T_V4);
	T_OK(setsockopt(pair.a, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	T_OK(close(pair.a));
	expect_reset("close with SO_LINGER 0", pair.b);
	T_OK(close(pair.b));
	return 0;
}
