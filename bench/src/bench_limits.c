// SPDX-License-Identifier: Apache-2.0
/*
 * bench_limits.c - what the machine has: two threads on two processors, no kernel between them
 *
 *   bench_limits ring|memcpy|line CPU CPU [--size N] [--ring N] [--seconds S]
 *
 * ring:   the transport's ring (ring.c) with two indices beside it and nothing else: what the
 * switch, the hooks and the waiting cost is the distance to this. Each side keeps the other's index
 *         until it does not suffice, and publishes after each message, as a send() must.
 * memcpy: one processor writes --size bytes, the other copies them, by turns; only the copying is
 *         timed. From some KiB on no transport that copies out of shared memory is faster.
 * line:   a cache line there and back.
 */
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "atomic.h"
#include "ring.h"

static struct {
	_Alignas(128) uint64_t head;
	_Alignas(128) uint64_t tail;
	_Alignas(128) uint64_t turn;
	_Alignas(128) uint64_t stop;
} shared;

static struct shmt_ring ring = {.size = 512 << 10};
static size_t size = 4096;
static double seconds = 1;
static int cpus[2];

static inline void relax(void)
{
	__builtin_ia32_pause();
}

static void *mapped(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		b_die("mmap");
	return at;
}

/* ---- ring ------------------------------------------------------------------------------------ */

static void *ring_reader(void *arg)
{
	char *buf = mapped(size);
	uint64_t head = 0, tail = 0;

	b_pin(cpus[1]);
	for (;;) {
		while (head == tail) {
			head = shmt_load_acquire(&shared.head);
			if (head != tail)
				break;
			if (shmt_load_acquire(&shared.stop) == tail + 1)
				return arg;
			relax();
		}
		const size_t len = head - tail < size ? head - tail : size;

		shmt_ring_copy_out(&ring, tail, buf, len);
		tail += len;
		shmt_store_release(&shared.tail, tail);
	}
}

static void run_ring(void)
{
	char *buf = mapped(size);
	uint64_t head = 0, tail = 0, messages = 0, begin, now, end;
	pthread_t reader;

	memset(buf, 'x', size);
	ring.data = mapped(ring.size);
	if (pthread_create(&reader, NULL, ring_reader, NULL))
		b_die("pthread_create");
	b_pin(cpus[0]);
	begin = now = b_now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	do {
		size_t done = 0;

		/* As a send() of that size would: what has room goes at once. */
		while (done < size) {
			const uint64_t space = ring.size - (head - tail);
			const size_t len = space < size - done ? space : size - done;

			if (!len || (len < size - done && len < ring.size / 4)) {
				tail = shmt_load_acquire(&shared.tail);
				if (ring.size - (head - tail) == space)
					relax();
				continue;
			}
			shmt_ring_copy_in(&ring, head, buf + done, len);
			head += len;
			done += len;
			shmt_store_release(&shared.head, head);
		}
		if (size >= 4096 || ++messages % 64 == 0)
			now = b_now_ns();
	} while (now < end);
	/* No position can be this one: the head is what it is. */
	shmt_store_release(&shared.stop, head + 1);
	pthread_join(reader, NULL);
	printf("{\"gbit\": %.6f}\n", (double)head * 8 / (double)(b_now_ns() - begin));
}

/* ---- memcpy ---------------------------------------------------------------------------------- */

static char *block;
static uint64_t copied_ns, copies;

static void *copy_reader(void *arg)
{
	char *buf = mapped(size);
	uint64_t turn, begin;

	b_pin(cpus[1]);
	memset(buf, 1, size);
	for (turn = 1;; turn += 2) {
		while (shmt_load_acquire(&shared.turn) != turn) {
			if (shmt_load_acquire(&shared.stop))
				return arg;
			relax();
		}
		begin = b_now_ns();
		shmt_ring_copy_out(&ring, 0, buf, size);
		copied_ns += b_now_ns() - begin;
		copies++;
		shmt_store_release(&shared.turn, turn + 1);
	}
}

static void run_memcpy(void)
{
	const uint64_t end = b_now_ns() + (uint64_t)(seconds * 1e9);
	uint64_t turn, clock_ns = 0, i;
	pthread_t reader;

	block = mapped(size);
	ring.data = (uint8_t *)block;
	ring.size = size;
	for (i = 0; i < 1000; i++) {
		const uint64_t at = b_now_ns();

		clock_ns += b_now_ns() - at;
	}
	clock_ns /= 1000;
	if (pthread_create(&reader, NULL, copy_reader, NULL))
		b_die("pthread_create");
	b_pin(cpus[0]);
	for (turn = 0; b_now_ns() < end; turn += 2) {
		memset(block, (int)turn, size);
		shmt_store_release(&shared.turn, turn + 1);
		while (shmt_load_acquire(&shared.turn) != turn + 2)
			relax();
	}
	shmt_store_release(&shared.stop, 1);
	pthread_join(reader, NULL);
	copied_ns -= copies * clock_ns;
	printf("{\"gbit\": %.6f}\n", (double)(copies * size) * 8 / (double)copied_ns);
}

/* ---- a cache line ---------------------------------------------------------------------------- */

static void *line_answers(void *arg)
{
	uint64_t turn;

	b_pin(cpus[1]);
	for (turn = 1;; turn += 2) {
		while (shmt_load_acquire(&shared.turn) != turn)
			if (shmt_load_acquire(&shared.stop))
				return arg;
		shmt_store_release(&shared.turn, turn + 1);
	}
}

static void run_line(void)
{
	const uint64_t end = b_now_ns() + (uint64_t)(seconds * 1e9);
	uint64_t turn = 0, begin, now;
	struct b_times times;
	pthread_t reader;

	b_times_init(&times);
	if (pthread_create(&reader, NULL, line_answers, NULL))
		b_die("pthread_create");
	b_pin(cpus[0]);
	/* A hundred at once: the clock takes as long as a tenth of one. */
	do {
		int i;

		begin = b_now_ns();
		for (i = 0; i < 100; i++, turn += 2) {
			shmt_store_release(&shared.turn, turn + 1);
			while (shmt_load_acquire(&shared.turn) != turn + 2)
				;
		}
		now = b_now_ns();
		b_times_add(&times, now - begin);
	} while (now < end);
	shmt_store_release(&shared.stop, 1);
	pthread_join(reader, NULL);
	b_times_sort(&times);
	printf("{\"p50_us\": %.4f, \"p99_us\": %.4f}\n", b_times_at(&times, 0.5) / 1e5,
	       b_times_at(&times, 0.99) / 1e5);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
						{"ring", required_argument, NULL, 'r'},
						{"seconds", required_argument, NULL, 't'},
						{NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			size = b_number(optarg);
		else if (option == 'r')
			ring.size = b_number(optarg);
		else if (option == 't')
			seconds = strtod(optarg, NULL);
		else
			return 2;
	}
	if (argc - optind != 3 || !size || !ring.size || (ring.size & (ring.size - 1))) {
		fprintf(stderr,
			"usage: bench_limits ring|memcpy|line CPU CPU [--size N] [--ring N] "
			"[--seconds S]\n");
		return 2;
	}
	cpus[0] = (int)b_number(argv[optind + 1]);
	cpus[1] = (int)b_number(argv[optind + 2]);
	if (!strcmp(argv[optind], "ring"))
		run_ring();
	else if (!strcmp(argv[optind], "memcpy"))
		run_memcpy();
	else
		run_line();
	return 0;
}
