// SPDX-License-Identifier: Apache-2.0
/*
 * Who asks twice in a row for what is not there, without waiting, is told by the kernel from then
 * on: it alone knows of an end of stream. That is so until something comes. What is sent after that
 * goes by the ring again, for a receiver that asks once, waits, and receives: event loops and
 * database servers all do.
 */

#include <poll.h>

#include "t.h"

#define ROUNDS 50
#define BYTES  100

static void ask_in_vain(int fd)
{
	char buf[BYTES];

	T_ERR(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
}

static void receive(int fd, uint64_t at)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char buf[2 * BYTES];

	T_EQ(T_OK(poll(&p, 1, 5000)), 1);
	T_EQ(T_OK(recv(fd, buf, sizeof(buf), MSG_DONTWAIT)), BYTES);
	t_verify(buf, BYTES, 1, at);
}

int main(void)
{
	struct t_pair pair;
	uint64_t ring, at = 0;
	int i;

	t_open_hot(&pair);
	for (i = 0; i < 5; i++)
		ask_in_vain(pair.b);
	/* Behind the first the ring is opened. */
	t_send(pair.a, BYTES, 1, at);
	receive(pair.b, at);
	at += BYTES;
	ring = t_moved_begin(pair.a);
	for (i = 0; i < ROUNDS; i++, at += BYTES) {
		ask_in_vain(pair.b);
		t_send(pair.a, BYTES, 1, at);
		receive(pair.b, at);
	}
	t_moved_end(pair.a, ring);
	t_close(&pair);
	return 0;
}
