// SPDX-License-Identifier: Apache-2.0
/*
 * bench_moves.c - when does a new stream's first byte go by ring, and what do moving and leaving
 * cost?
 *
 *   bench_moves ADDR:PORT [--streams N] [--pause US]
 *
 * Against "bench_stream serve". Whether a message went by TCP is asked of the kernel after each
 * round trip, out of the measured time and past any library: it counts the bytes that a socket has
 * sent.
 *
 * Each of --streams connections has round trips of 64 bytes until one of them went by ring, and a
 * few hundred more. Then a hundred times a pause of --pause microseconds, long enough for both
 * sides to fall asleep, and round trips until one goes by ring again: what wakes the server goes by
 * TCP, and that is the cost of a leave; how many do so before the ring is open is the cost of a
 * move.
 *
 * Without the library nothing ever goes by ring: then each loop ends after so many round trips, and
 * the figures are those of TCP in the same places.
 */
#include "bench.h"

#include <getopt.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, TRIES = 1000, AFTER = 500, PAUSES = 100, TRIES_AWAKE = 8 };

static struct b_times first_us, first_messages, by_tcp, moving, by_ring, woken, until_ring;
static uint64_t sent_before;

static uint64_t sent_by_tcp(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof(info.tcpi_bytes_sent))
		b_die("TCP_INFO");
	return info.tcpi_bytes_sent;
}

/* Return: nanoseconds; @ret_ring: it went by ring. */
static uint64_t round_trip(int fd, bool *ret_ring)
{
	uint64_t begin, end, sent;
	char buf[SIZE] = "";

	begin = b_now_ns();
	b_send_all(fd, buf, SIZE);
	if (!b_recv_all(fd, buf, SIZE))
		b_die("the server has closed");
	end = b_now_ns();
	sent = sent_by_tcp(fd);
	*ret_ring = sent == sent_before;
	sent_before = sent;
	return end - begin;
}

static void one(const char *where, long pause_us)
{
	const struct {
		uint32_t rr, zero;
		uint64_t size;
	} greeting = {.rr = 1, .size = SIZE};
	const int fd = b_connect(where, 0);
	const uint64_t begin = b_now_ns();
	uint64_t ns;
	bool ring;
	int i, j;

	b_send_all(fd, &greeting, sizeof(greeting));
	sent_before = sent_by_tcp(fd);
	for (i = 0; i < TRIES; i++) {
		ns = round_trip(fd, &ring);
		if (ring) {
			b_times_add(&first_us, b_now_ns() - begin);
			b_times_add(&first_messages, (uint64_t)i);
			b_times_add(&moving, ns);
			break;
		}
		if (i > 0)
			b_times_add(&by_tcp, ns);
	}
	for (i = 0; i < AFTER; i++) {
		ns = round_trip(fd, &ring);
		if (ring)
			b_times_add(&by_ring, ns);
	}
	for (i = 0; i < PAUSES; i++) {
		const struct timespec pause = {.tv_nsec = pause_us * 1000};

		nanosleep(&pause, NULL);
		for (j = 0; j < TRIES_AWAKE; j++) {
			ns = round_trip(fd, &ring);
			if (j == 0)
				b_times_add(&woken, ns);
			if (ring)
				break;
		}
		b_times_add(&until_ring, (uint64_t)j);
	}
	close(fd);
}

static void print(const char *name, struct b_times *times, double unit)
{
	b_times_sort(times);
	if (times->count)
		printf("\"%s\": %.3f, ", name, b_times_at(times, 0.5) / unit);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"streams", required_argument, NULL, 'n'},
						{"pause", required_argument, NULL, 'p'},
						{NULL, 0, NULL, 0}};
	struct b_times *all[] = {&first_us, &first_messages, &by_tcp,	 &moving,
				 &by_ring,  &woken,	     &until_ring};
	int streams = 20, option, i;
	long pause_us = 2000;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			streams = (int)b_number(optarg);
		else if (option == 'p')
			pause_us = (long)b_number(optarg);
		else
			return 2;
	}
	if (argc - optind != 1) {
		fprintf(stderr, "usage: bench_moves ADDR:PORT [--streams N] [--pause US]\n");
		return 2;
	}
	for (i = 0; i < (int)(sizeof(all) / sizeof(all[0])); i++)
		b_times_init(all[i]);
	for (i = 0; i < streams; i++)
		one(argv[optind], pause_us);
	printf("{");
	print("first_by_ring_us", &first_us, 1e3);
	print("messages_before", &first_messages, 1);
	print("first_ring_message_us", &moving, 1e3);
	print("tcp_message_us", &by_tcp, 1e3);
	print("ring_message_us", &by_ring, 1e3);
	print("woken_message_us", &woken, 1e3);
	print("messages_until_ring", &until_ring, 1);
	printf("\"streams\": %d}\n", streams);
	return 0;
}
