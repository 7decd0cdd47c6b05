// SPDX-License-Identifier: Apache-2.0
/*
 * Pre-fork servers: workers that inherit the listener wait for it in epoll sets of their own and
 * serve what they accept; and two processes that use one stream at once, one reading and one
 * writing, two reading, both sides going on. HAZARDS 10, 46.
 */

#include <sys/epoll.h>

#include "t.h"

#define WORKERS	    3
#define CONNECTIONS 30
#define PART	    7000u

static struct t_pair pair;
static struct sockaddr_storage addr;
static socklen_t addr_len;
static int listener, stop[2];

static void serve(int fd)
{
	for (int i = 0; i < 4; i++) {
		t_recv(fd, PART, 3, 0);
		t_send(fd, PART, 4, 0);
	}
	T_OK(close(fd));
}

static void worker(void *arg)
{
	const int epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listener};

	(void)arg;
	t_set_nonblock(listener, true);
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event));
	event = (struct epoll_event){.events = EPOLLIN, .data.fd = stop[0]};
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, stop[0], &event));
	for (;;) {
		int fd;

		T_EQ(T_OK(epoll_wait(epfd, &event, 1, 10000)), 1);
		if (event.data.fd == stop[0])
			break;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			serve(fd);
		else
			T_EQ(errno, EAGAIN);
	}
}

static void pre_fork(void)
{
	pid_t pid[WORKERS];
	uint8_t byte;

	listener = t_listen(T_V4, &addr, &addr_len);
	T_OK(pipe(stop));
	for (int i = 0; i < WORKERS; i++)
		pid[i] = t_child(worker, NULL);
	for (int i = 0; i < CONNECTIONS; i++) {
		const int fd = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));

		T_OK(connect(fd, (struct sockaddr *)&addr, addr_len));
		for (int k = 0; k < 4; k++) {
			t_send(fd, PART, 3, 0);
			t_recv(fd, PART, 4, 0);
		}
		T_EQ(T_OK(recv(fd, &byte, 1, 0)), 0);
		T_OK(close(fd));
	}
	T_EQ(T_OK(write(stop[1], "x", 1)), 1);
	for (int i = 0; i < WORKERS; i++)
		t_join(pid[i]);
	T_OK(close(listener));
	T_OK(close(stop[0]));
	T_OK(close(stop[1]));
}

#define BULK 3000000u

static void child_writes(void *arg)
{
	(void)arg;
	t_send(pair.b, BULK, 5, 0);
}

static void child_echoes(void *arg)
{
	(void)arg;
	t_recv(pair.a, BULK, 5, 0);
	t_send(pair.a, BULK, 6, 0);
}

/* One end's writing half in a child, its reading half here; the other end in another child. */
static void halves(void)
{
	pid_t writes, echoes;

	t_open_hot(&pair);
	writes = t_child(child_writes, NULL);
	echoes = t_child(child_echoes, NULL);
	t_recv(pair.b, BULK, 6, 0);
	t_join(writes);
	t_join(echoes);
	t_close(&pair);
}

/* Each takes single bytes until the end; all of them together took all. */
static int counts[2];

static void child_counts(void *arg)
{
	uint64_t mine = 0;
	uint8_t buf[64];
	ssize_t n;

	(void)arg;
	T_OK(close(pair.a));
	while ((n = (ssize_t)T_OK(recv(pair.b, buf, sizeof(buf), 0))) > 0)
		mine += (uint64_t)n;
	T_EQ(T_OK(write(counts[1], &mine, sizeof(mine))), sizeof(mine));
}

static void two_readers(void)
{
	uint64_t sum = 0, one;
	pid_t pid[2];

	t_open_hot(&pair);
	T_OK(pipe(counts));
	for (int i = 0; i < 2; i++)
		pid[i] = t_child(child_counts, NULL);
	for (int i = 0; i < 300; i++) {
		if (i % 50 == 0)
			for (int k = 0; k < 2; k++)
				t_wait_asleep(pid[k]);
		t_send(pair.a, 1000, 3, 0);
	}
	T_OK(shutdown(pair.a, SHUT_WR));
	for (int i = 0; i < 2; i++) {
		t_join(pid[i]);
		T_EQ(T_OK(read(counts[0], &one, sizeof(one))), sizeof(one));
		sum += one;
	}
	T_EQ(sum, 300 * 1000);
	T_OK(close(counts[0]));
	T_OK(close(counts[1]));
	t_close(&pair);
}

int main(void)
{
	pre_fork();
	halves();
	two_readers();
	return 0;
}
