/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: setting TCP_NODELAY sends what a cork or MSG_MORE holds back, also where it was set
 * before, and the cork itself stays. So the payload behind which a ring opens has really left.
 */
#include "facts.h"
#include "t.h"

static uint32_t held(int fd)
{
	struct facts f;

	facts_of(fd, &f);
	return f.notsent;
}

static void set(int fd, int option, int value)
{
	T_OK(setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)));
}

static void arrives(const char *how, const struct t_pair *pair, int flags)
{
	struct pollfd p = {.fd = pair->b, .events = POLLIN};
	char buf[64];

	T_EQ(send(pair->a, "0123456789", 10, flags), 10);
	T_EQ(held(pair->a), 10);
	T_EQ(poll(&p, 1, 0), 0);
	set(pair->a, TCP_NODELAY, 1);
	T_EQ(held(pair->a), 0);
	T_EQ(poll(&p, 1, 100), 1);
	T_EQ(recv(pair->b, buf, sizeof(buf), 0), 10);
	printf("%s: held, then sent\n", how);
}

int main(void)
{
	struct t_pair pair;

	t_open(&pair, T_V4);
	arrives("MSG_MORE with TCP_NODELAY", &pair, MSG_MORE);
	set(pair.a, TCP_NODELAY, 0);
	arrives("MSG_MORE without", &pair, MSG_MORE);
	set(pair.a, TCP_CORK, 1);
	arrives("TCP_CORK", &pair, 0);
	arrives("TCP_CORK, which is still set", &pair, 0);
	set(pair.a, TCP_NODELAY, 0);
	arrives("TCP_CORK without TCP_NODELAY", &pair, 0);
	t_close(&pair);
	return 0;
}
