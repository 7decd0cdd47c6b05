// SPDX-License-Identifier: Apache-2.0
/*
 * A request-response program of nothing but blocking send() and recv().
 *
 *   ping_pong serve PORT              one client, until it has ended
 *   ping_pong ask ADDRESS PORT N      N round trips
 */
#include "t.h"

#define BYTES 64

static char message[BYTES];

/* Return: false at the end of the stream */
static bool receive(int fd)
{
	size_t have = 0;
	ssize_t n;

	while (have < BYTES) {
		n = recv(fd, message + have, BYTES - have, 0);
		T_CHECK(n >= 0);
		if (n == 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	const int one = 1;
	long i, n;

	if (argc == 3 && !strcmp(argv[1], "serve")) {
		int stream;

		addr.sin_port = htons((uint16_t)atoi(argv[2]));
		T_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
		T_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
		T_EQ(listen(fd, 1), 0);
		stream = accept(fd, NULL, NULL);
		T_EQ(setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
		while (receive(stream))
			T_EQ(send(stream, message, BYTES, 0), BYTES);
		return 0;
	}
	T_EQ(argc, 5);
	T_EQ(inet_pton(AF_INET, argv[2], &addr.sin_addr), 1);
	addr.sin_port = htons((uint16_t)atoi(argv[3]));
	T_EQ(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	T_EQ(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	n = atol(argv[4]);
	for (i = 0; i < n; i++) {
		memcpy(message, &i, sizeof(i));
		T_EQ(send(fd, message, BYTES, 0), BYTES);
		T_CHECK(receive(fd) && !memcmp(message, &i, sizeof(i)));
	}
	return 0;
}
