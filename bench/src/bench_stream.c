// SPDX-License-Identifier: Apache-2.0
/*
 * bench_stream.c - our own sender and receiver: bulk and request-response over stream sockets
 *
 *   bench_stream serve WHERE... [--sockbuf N]
 *   bench_stream bulk|rr WHERE... [--size N] [--seconds S] [--sockbuf N]
 *   bench_stream self WHERE [--size N] [--seconds S]
 *
 * WHERE is "ADDR:PORT" or "unix:PATH"; one thread and one stream for each, so the same place given
 * twice is two streams. The client tells the server with its first 16 bytes what is to come.
 *
 * bulk: messages of --size, one send() each, for --seconds; the receiver reads into a buffer of the
 *       same size; the clock stops when it has said that it has all.
 * rr:   a message of --size there, the same back; median and 99th percentile are of a round trip.
 * self: both ends in one thread, send() and recv() by turns: nobody sleeps and nobody is woken, so
 *       what a call costs is seen to a hundredth.
 */
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAMS_MAX = 64 };

struct greeting {
	uint32_t rr;
	uint32_t zero;
	uint64_t size;
};

struct stream {
	pthread_t thread;
	const char *where;
	uint64_t count, bytes, ns;
	struct b_times times;
};

static struct greeting greeting = {.size = 64};
static double seconds = 1;
static int sockbuf;
static pthread_barrier_t barrier;

static void *buffer(size_t size)
{
	void *buf;

	/* Page-aligned: where malloc puts it would differ from run to run. */
	if (posix_memalign(&buf, 4096, size))
		b_die("posix_memalign");
	memset(buf, 'x', size);
	return buf;
}

/* ---- server ---------------------------------------------------------------------------------- */

static void *serve(void *arg)
{
	const int fd = (int)(intptr_t)arg;
	struct greeting hello;
	uint64_t bytes = 0;
	ssize_t n;
	char *buf;

	if (b_recv_all(fd, &hello, sizeof(hello)) != sizeof(hello)) {
		close(fd);
		return NULL;
	}
	buf = buffer(hello.size);
	if (hello.rr) {
		while (b_recv_all(fd, buf, hello.size))
			b_send_all(fd, buf, hello.size);
	} else {
		while ((n = recv(fd, buf, hello.size, 0)) > 0)
			bytes += (uint64_t)n;
		if (n < 0)
			b_die("recv");
		b_send_all(fd, &bytes, sizeof(bytes));
	}
	free(buf);
	close(fd);
	return NULL;
}

static void *listen_at(void *where)
{
	const int listener = b_listen(where, sockbuf);
	pthread_t thread;

	for (;;) {
		const int fd = b_accept(listener);

		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			b_die("pthread_create");
		pthread_detach(thread);
	}
	return NULL;
}

/* ---- client ---------------------------------------------------------------------------------- */

static void *client(void *arg)
{
	struct stream *stream = arg;
	const int fd = b_connect(stream->where, sockbuf);
	char *buf = buffer(greeting.size);
	uint64_t begin, end, now, got;

	if (greeting.rr)
		b_times_init(&stream->times);
	b_send_all(fd, &greeting, sizeof(greeting));
	pthread_barrier_wait(&barrier);
	begin = now = b_now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	if (greeting.rr) {
		while (now < end) {
			const uint64_t sent = now;

			b_send_all(fd, buf, greeting.size);
			if (!b_recv_all(fd, buf, greeting.size))
				b_die("the server has closed");
			now = b_now_ns();
			b_times_add(&stream->times, now - sent);
			stream->count++;
		}
	} else {
		do {
			b_send_all(fd, buf, greeting.size);
			stream->count++;
			/* For small messages the clock would be part of the figure. */
			if (greeting.size >= 4096 || stream->count % 64 == 0)
				now = b_now_ns();
		} while (now < end);
		shutdown(fd, SHUT_WR);
		if (b_recv_all(fd, &got, sizeof(got)) != sizeof(got) ||
		    got != stream->count * greeting.size) {
			fprintf(stderr, "the receiver has not had all\n");
			exit(1);
		}
	}
	stream->ns = b_now_ns() - begin;
	stream->bytes = stream->count * greeting.size;
	close(fd);
	free(buf);
	return NULL;
}

static void run(char **where, int streams)
{
	static struct stream stream[STREAMS_MAX];
	uint64_t count = 0;
	double gbit = 0;
	int i;

	if (pthread_barrier_init(&barrier, NULL, (unsigned int)streams))
		b_die("pthread_barrier_init");
	for (i = 0; i < streams; i++) {
		stream[i].where = where[i];
		if (pthread_create(&stream[i].thread, NULL, client, &stream[i]))
			b_die("pthread_create");
	}
	for (i = 0; i < streams; i++)
		pthread_join(stream[i].thread, NULL);
	for (i = 0; i < streams; i++) {
		count += stream[i].count;
		gbit += (double)stream[i].bytes * 8 / (double)stream[i].ns;
	}
	printf("{\"gbit\": %.6f, \"messages\": %llu, \"per_second\": %.1f, \"each\": [", gbit,
	       (unsigned long long)count, gbit * 1e9 / 8 / (double)greeting.size);
	for (i = 0; i < streams; i++)
		printf("%s%.6f", i ? ", " : "", (double)stream[i].bytes * 8 / (double)stream[i].ns);
	printf("]");
	if (greeting.rr) {
		b_times_sort(&stream[0].times);
		printf(", \"p50_us\": %.4f, \"p99_us\": %.4f, \"p999_us\": %.4f",
		       b_times_at(&stream[0].times, 0.5) / 1e3,
		       b_times_at(&stream[0].times, 0.99) / 1e3,
		       b_times_at(&stream[0].times, 0.999) / 1e3);
	}
	printf("}\n");
}

static void self(const char *where)
{
	const int listener = b_listen(where, sockbuf), out = b_connect(where, sockbuf);
	const int in = b_accept(listener);
	const uint64_t begin = b_now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	char *buf = buffer(greeting.size);
	uint64_t now = begin, count = 0;
	int i;

	while (now < end) {
		for (i = 0; i < 16; i++, count++) {
			b_send_all(out, buf, greeting.size);
			if (!b_recv_all(in, buf, greeting.size))
				b_die("the other end has closed");
		}
		now = b_now_ns();
	}
	printf("{\"per_second\": %.1f}\n", (double)count * 1e9 / (double)(now - begin));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
						{"seconds", required_argument, NULL, 't'},
						{"sockbuf", required_argument, NULL, 'b'},
						{NULL, 0, NULL, 0}};
	pthread_t thread;
	int option, i;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			greeting.size = b_number(optarg);
		else if (option == 't')
			seconds = strtod(optarg, NULL);
		else if (option == 'b')
			sockbuf = (int)b_number(optarg);
		else
			return 2;
	}
	argv += optind;
	argc -= optind;
	if (argc < 2 || argc > STREAMS_MAX || !greeting.size) {
		fprintf(stderr, "usage: bench_stream serve|bulk|rr|self WHERE... [--size N] "
				"[--seconds S] [--sockbuf N]\n");
		return 2;
	}
	if (!strcmp(argv[0], "serve")) {
		for (i = 2; i < argc; i++)
			if (pthread_create(&thread, NULL, listen_at, argv[i]))
				b_die("pthread_create");
		listen_at(argv[1]);
	}
	if (!strcmp(argv[0], "self")) {
		self(argv[1]);
		return 0;
	}
	greeting.rr = !strcmp(argv[0], "rr");
	run(argv + 1, argc - 1);
	return 0;
}
