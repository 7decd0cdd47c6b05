// SPDX-License-Identifier: Apache-2.0
/*
 * Non-blocking connect, refused connect, accept and accept4 with their flags, what is not
 * inherited, and a socket connected again. HAZARDS 6.
 */

#include "t.h"

static struct sockaddr_storage addr;
static socklen_t len;

static int new_socket(int flags)
{
	return (int)T_OK(socket(AF_INET, SOCK_STREAM | flags, 0));
}

static void check_flags(int fd, bool nonblock, bool cloexec)
{
	T_EQ(!!(T_OK(fcntl(fd, F_GETFL)) & O_NONBLOCK), nonblock);
	T_EQ(!!(T_OK(fcntl(fd, F_GETFD)) & FD_CLOEXEC), cloexec);
}

static void nonblocking_connect(void)
{
	const int listener = t_listen(T_V4, &addr, &len);
	struct pollfd set = {new_socket(SOCK_NONBLOCK), POLLOUT, 0};
	struct t_pair pair = {.a = set.fd};
	socklen_t size = sizeof(int);
	int error = -1;

	T_ERR(connect(pair.a, (struct sockaddr *)&addr, len), EINPROGRESS);
	T_EQ(T_OK(poll(&set, 1, 2000)), 1);
	T_EQ(set.revents, POLLOUT);
	T_OK(getsockopt(pair.a, SOL_SOCKET, SO_ERROR, &error, &size));
	T_EQ(error, 0);
	T_OK(connect(pair.a, (struct sockaddr *)&addr, len)); /* done: said once, then EISCONN */
	T_ERR(connect(pair.a, (struct sockaddr *)&addr, len), EISCONN);
	pair.b = (int)T_OK(accept(listener, NULL, NULL));
	t_set_nonblock(pair.a, false);
	t_warm(&pair);
	t_hot(&pair);
	T_ERR(connect(pair.a, (struct sockaddr *)&addr, len), EISCONN);
	t_close(&pair);
	T_OK(close(listener));
}

static void refused(void)
{
	const int fd = new_socket(0);

	/* The listener of the last step is closed: nobody is there. */
	T_ERR(connect(fd, (struct sockaddr *)&addr, len), ECONNREFUSED);
	T_OK(close(fd));
}

static void accept_flags(void)
{
	const int listener = t_listen(T_V4, &addr, &len);
	struct sockaddr_in peer;
	socklen_t peer_len = sizeof(peer);
	struct t_pair pair;

	t_set_nonblock(listener, true);
	T_ERR(accept(listener, NULL, NULL), EAGAIN);
	for (int i = 0; i < 4; i++) {
		const int flags = (i & 1 ? SOCK_NONBLOCK : 0) | (i & 2 ? SOCK_CLOEXEC : 0);
		struct pollfd set = {listener, POLLIN, 0};

		pair.a = new_socket(0);
		T_OK(connect(pair.a, (struct sockaddr *)&addr, len));
		T_EQ(T_OK(poll(&set, 1, 1000)), 1);
		pair.b = (int)T_OK(accept4(listener, (struct sockaddr *)&peer, &peer_len, flags));
		check_flags(pair.b, i & 1, i & 2);
		T_EQ(peer_len, sizeof(peer));
		T_EQ(peer.sin_family, AF_INET);
		t_set_nonblock(pair.b, false);
		t_warm(&pair);
		check_flags(pair.b, false, i & 2);
		t_close(&pair);
	}
	/* O_NONBLOCK of the listener is not handed down. */
	pair.a = new_socket(0);
	T_OK(connect(pair.a, (struct sockaddr *)&addr, len));
	pair.b = (int)T_OK(accept(listener, NULL, NULL));
	check_flags(pair.b, false, false);
	t_close(&pair);
	T_ERR(accept4(listener, NULL, NULL, 0x7f), EINVAL);
	T_OK(close(listener));
}

/* Dissolved with AF_UNSPEC and connected anew, a socket starts a stream of its own. */
static void connected_again(void)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	int listener = t_listen(T_V4, &addr, &len);
	struct t_pair pair;

	pair.a = new_socket(0);
	for (int i = 0; i < 2; i++) {
		uint8_t byte;

		T_OK(connect(pair.a, (struct sockaddr *)&addr, len));
		pair.b = (int)T_OK(accept(listener, NULL, NULL));
		t_warm(&pair);
		t_hot(&pair);
		T_OK(connect(pair.a, &none, sizeof(none)));
		T_ERR(recv(pair.b, &byte, 1, 0), ECONNRESET);
		T_ERR(recv(pair.a, &byte, 1, 0), ECONNRESET);
		T_ERR(recv(pair.a, &byte, 1, 0), ENOTCONN);
		T_OK(close(pair.b));
	}
	T_OK(close(pair.a));
	T_OK(close(listener));
}

int main(void)
{
	nonblocking_connect();
	refused();
	accept_flags();
	connected_again();
	return 0;
}
