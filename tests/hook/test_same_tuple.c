// SPDX-License-Identifier: Apache-2.0
/*
 * The same two addresses and ports, at once in two network namespaces, and again and again in one:
 * each connection has its own bytes. HAZARDS 45.
 */

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "t.h"

#define PORT_A 20101
#define PORT_B 20102

static const struct sockaddr_in *address(int port)
{
	static struct sockaddr_in addr = {.sin_family = AF_INET};

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons((uint16_t)port);
	return &addr;
}

static void bind_to(int fd, int port)
{
	const int on = 1;

	T_OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	T_OK(bind(fd, (const struct sockaddr *)address(port), sizeof(struct sockaddr_in)));
}

static int listener(void)
{
	const int fd = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));

	bind_to(fd, PORT_B);
	T_OK(listen(fd, 8));
	return fd;
}

static void open_pair(struct t_pair *pair, int fd)
{
	const int on = 1;

	pair->a = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));
	bind_to(pair->a, PORT_A);
	T_OK(connect(pair->a, (const struct sockaddr *)address(PORT_B),
		     sizeof(struct sockaddr_in)));
	pair->b = (int)T_OK(accept(fd, NULL, NULL));
	T_OK(setsockopt(pair->a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	T_OK(setsockopt(pair->b, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}

static void exchange(const struct t_pair *pair, uint64_t seed)
{
	t_send(pair->a, 3000, seed, 0);
	t_recv(pair->b, 3000, seed, 0);
	t_send(pair->b, 3000, seed + 1, 0);
	t_recv(pair->a, 3000, seed + 1, 0);
}

/* Ends by a reset, so that no TIME_WAIT keeps the ports; now and then with bytes unread. */
static void used_again(void)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	const int fd = listener();
	struct t_pair pair;

	for (uint64_t round = 0; round < 60; round++) {
		open_pair(&pair, fd);
		for (int i = 0; i < 20; i++)
			exchange(&pair, 100 + 10 * round);
		if (round % 3 == 0)
			t_send(pair.a, 2000, 7, 0);
		T_OK(setsockopt(pair.a, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
		if (round % 2) {
			T_OK(close(pair.a));
			T_OK(close(pair.b));
		} else {
			T_OK(setsockopt(pair.b, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
			T_OK(close(pair.b));
			T_OK(close(pair.a));
		}
	}
	T_OK(close(fd));
}

static void own_namespace(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd;

	T_OK(unshare(CLONE_NEWNET));
	fd = (int)T_OK(socket(AF_INET, SOCK_DGRAM, 0));
	T_OK(ioctl(fd, SIOCGIFFLAGS, &request));
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	T_OK(ioctl(fd, SIOCSIFFLAGS, &request));
	T_OK(close(fd));
}

static int turn[2][2]; /* each waits until the other has its connection, too */

static void one_of_two(void *arg)
{
	const int me = *(int *)arg;
	struct t_pair pair;
	char byte;
	int fd;

	own_namespace();
	fd = listener();
	open_pair(&pair, fd);
	T_EQ(T_OK(write(turn[1 - me][1], "x", 1)), 1);
	T_EQ(T_OK(read(turn[me][0], &byte, 1)), 1);
	for (int i = 0; i < 2000; i++)
		exchange(&pair, (uint64_t)(1000 + 10 * me));
	t_close(&pair);
	T_OK(close(fd));
}

static void in_two_namespaces(void)
{
	pid_t pid[2];
	int me[2] = {0, 1};

	for (int i = 0; i < 2; i++)
		T_OK(pipe(turn[i]));
	for (int i = 0; i < 2; i++)
		pid[i] = t_child(one_of_two, &me[i]);
	for (int i = 0; i < 2; i++)
		t_join(pid[i]);
}

static void inside(void *arg)
{
	(void)arg;
	own_namespace();
	used_again();
}

int main(void)
{
	const pid_t probe = (pid_t)T_OK(fork());
	int status;

	if (!probe)
		_exit(unshare(CLONE_NEWNET) < 0);
	T_EQ(waitpid(probe, &status, 0), probe);
	if (status)
		t_skip("no network namespaces here");
	in_two_namespaces();
	t_join(t_child(inside, NULL)); /* where the ports are certainly free */
	return 0;
}
