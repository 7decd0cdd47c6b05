// SPDX-License-Identifier: Apache-2.0
/*
 * One thread closes a moved stream and opens the next one under the same number, again and again,
 * while others send and receive on that number: what arrives on a connection is one connection's
 * bytes, and a call that meets nothing says EBADF or the stream's end. HAZARDS 19.
 */

#include "t.h"

#define ROUNDS 300

static struct sockaddr_storage addr;
static socklen_t addr_len;
static int listener, number, stop;

/* Bytes of the connection that the call found: all alike. */
static void receive(void *arg)
{
	uint8_t buf[512];

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		const ssize_t n = recv(number, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			T_CHECK(errno == EAGAIN || errno == EBADF || errno == ECONNRESET ||
				errno == ENOTCONN);
		for (ssize_t i = 1; i < n; i++)
			T_EQ(buf[i], buf[0]);
	}
}

static void transmit(void *arg)
{
	static const uint8_t buf[100];

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		const ssize_t n = send(number, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			T_CHECK(errno == EAGAIN || errno == EBADF || errno == ECONNRESET ||
				errno == EPIPE || errno == ENOTCONN);
	}
}

int main(void)
{
	struct t_thread threads[2];
	uint8_t buf[4096];

	listener = t_listen(T_V4, &addr, &addr_len);
	number = 100;
	t_thread_start(&threads[0], receive, NULL);
	t_thread_start(&threads[1], transmit, NULL);
	for (int round = 0; round < ROUNDS; round++) {
		const int other = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));
		int fd;

		T_OK(connect(other, (struct sockaddr *)&addr, addr_len));
		fd = (int)T_OK(accept(listener, NULL, NULL));
		/* The new one takes the old one's place at once, or after a gap. */
		if (round % 2)
			close(number);
		T_EQ(dup2(fd, number), number);
		T_OK(close(fd));
		memset(buf, round, sizeof(buf));
		for (int i = 0; i < 20; i++) {
			ssize_t n;

			if (send(other, buf, sizeof(buf), MSG_NOSIGNAL) < 0)
				break;
			n = recv(other, buf, 64, MSG_DONTWAIT);
			for (ssize_t k = 0; k < n; k++)
				T_EQ(buf[k], 0);
			memset(buf, round, 64);
		}
		T_OK(close(other));
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		t_thread_join(&threads[i]);
	T_OK(close(number));
	T_OK(close(listener));
	return 0;
}
