// SPDX-License-Identifier: Apache-2.0
/*
 * bench_many.c - many idle streams beside one busy one, in one process on either side
 *
 *   bench_many serve WHERE
 *   bench_many run WHERE [--streams N] [--warm N] [--idle S] [--seconds S]
 *
 * The server echoes what it gets, all streams in one epoll set. The client opens --streams, has
 * --warm round trips of 64 bytes on each, one after the other, says "idle" and does nothing for
 * --idle seconds, says "busy", and then has round trips on the first stream, waiting in an epoll
 * set that holds them all.
 */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 64, EVENTS = 64 };

static int add(int set, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
		b_die("epoll_ctl");
	return fd;
}

static void serve(const char *where)
{
	const int set = epoll_create1(EPOLL_CLOEXEC);
	const int listener = add(set, b_listen(where, 0));
	struct epoll_event events[EVENTS];
	char buf[SIZE];
	int i, n;

	for (;;) {
		n = epoll_wait(set, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			b_die("epoll_wait");
		for (i = 0; i < n; i++) {
			const int fd = events[i].data.fd;

			if (fd == listener)
				add(set, b_accept(listener));
			else if (b_recv_all(fd, buf, SIZE))
				b_send_all(fd, buf, SIZE);
			else
				close(fd);
		}
	}
}

static void round_trip(int fd, char *buf)
{
	b_send_all(fd, buf, SIZE);
	if (!b_recv_all(fd, buf, SIZE))
		b_die("the server has closed");
}

static void busy(int set, int fd, double seconds)
{
	const uint64_t begin = b_now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	struct epoll_event events[EVENTS];
	struct b_times times;
	uint64_t now = begin, count = 0;
	char buf[SIZE] = "";

	b_times_init(&times);
	now = b_now_ns();
	while (now < end) {
		const uint64_t sent = now;

		b_send_all(fd, buf, SIZE);
		if (epoll_wait(set, events, EVENTS, 10000) != 1 || events[0].data.fd != fd)
			b_die("epoll_wait");
		if (!b_recv_all(fd, buf, SIZE))
			b_die("the server has closed");
		now = b_now_ns();
		b_times_add(&times, now - sent);
		count++;
	}
	b_times_sort(&times);
	printf("{\"messages\": %llu, \"p50_us\": %.4f, \"p99_us\": %.4f}\n",
	       (unsigned long long)count, b_times_at(&times, 0.5) / 1e3,
	       b_times_at(&times, 0.99) / 1e3);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"streams", required_argument, NULL, 'n'},
						{"warm", required_argument, NULL, 'w'},
						{"idle", required_argument, NULL, 'i'},
						{"seconds", required_argument, NULL, 't'},
						{NULL, 0, NULL, 0}};
	double seconds = 1, idle = 0;
	int streams = 1, warm = 1, option, set, i, j;
	char buf[SIZE] = "";
	int *fds;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			streams = (int)b_number(optarg);
		else if (option == 'w')
			warm = (int)b_number(optarg);
		else if (option == 'i')
			idle = strtod(optarg, NULL);
		else if (option == 't')
			seconds = strtod(optarg, NULL);
		else
			return 2;
	}
	if (argc - optind != 2 || streams < 1) {
		fprintf(stderr, "usage: bench_many serve|run WHERE [--streams N] [--warm N] "
				"[--idle S] [--seconds S]\n");
		return 2;
	}
	b_files();
	if (!strcmp(argv[optind], "serve"))
		serve(argv[optind + 1]);
	fds = calloc((size_t)streams, sizeof(*fds));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!fds || set < 0)
		b_die("epoll_create1");
	for (i = 0; i < streams; i++)
		fds[i] = add(set, b_connect(argv[optind + 1], 0));
	for (j = 0; j < warm; j++)
		for (i = 0; i < streams; i++)
			round_trip(fds[i], buf);
	printf("idle\n");
	fflush(stdout);
	if (idle > 0)
		usleep((useconds_t)(idle * 1e6));
	printf("busy\n");
	fflush(stdout);
	busy(set, fds[0], seconds);
	return 0;
}
