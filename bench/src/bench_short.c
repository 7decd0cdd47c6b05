// SPDX-License-Identifier: Apache-2.0
/*
 * bench_short.c - short connections: connect, one request, one answer, closed
 *
 *   bench_short serve ADDR:PORT [--size N]
 *   bench_short run ADDR:PORT [--size N] [--seconds S]
 *
 * One thread on either side, one connection after the other. The server closes first, so that the
 * client does not run out of ports: TIME_WAIT is at the server.
 */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buf[1 << 20];

static void serve(const char *where, size_t size)
{
	const int listener = b_listen(where, 0);

	for (;;) {
		const int fd = b_accept(listener);

		if (b_recv_all(fd, buf, size))
			b_send_all(fd, buf, size);
		close(fd);
	}
}

static void run(const char *where, size_t size, double seconds)
{
	const uint64_t begin = b_now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	struct b_times times;
	uint64_t now = begin, count = 0;

	b_times_init(&times);
	while (now < end) {
		const uint64_t from = now;
		const int fd = b_connect(where, 0);

		b_send_all(fd, buf, size);
		if (!b_recv_all(fd, buf, size))
			b_die("the server has closed");
		if (b_recv_all(fd, buf, 1))
			b_die("more than was sent");
		close(fd);
		now = b_now_ns();
		b_times_add(&times, now - from);
		count++;
	}
	b_times_sort(&times);
	printf("{\"connections\": %llu, \"per_second\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
	       (unsigned long long)count, (double)count / ((double)(now - begin) / 1e9),
	       b_times_at(&times, 0.5) / 1e3, b_times_at(&times, 0.99) / 1e3);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
						{"seconds", required_argument, NULL, 't'},
						{NULL, 0, NULL, 0}};
	size_t size = 64;
	double seconds = 1;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			size = b_number(optarg);
		else if (option == 't')
			seconds = strtod(optarg, NULL);
		else
			return 2;
	}
	if (argc - optind != 2 || !size || size > sizeof(buf)) {
		fprintf(stderr,
			"usage: bench_short serve|run ADDR:PORT [--size N] [--seconds S]\n");
		return 2;
	}
	if (!strcmp(argv[optind], "serve"))
		serve(argv[optind + 1], size);
	run(argv[optind + 1], size, seconds);
	return 0;
}
