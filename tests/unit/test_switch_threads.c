/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: a sender and a receiver that follow the protocol beside a queue that stands for the
 * kernel lose, repeat and reorder nothing and never sleep past bytes, while runs are opened,
 * filled, left and settled at random. The seed is printed; give it as the first argument to repeat
 * a run.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "switch.h"
#include "unit_region.h"

enum { RING = 1024, KERNEL = 4096, PIECE = 700 };

static const uint64_t total = 3 << 20;
static unsigned int first_seed;

/* The kernel's stream: a bounded queue, its receiver sleeps. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t more, room;
	uint8_t bytes[KERNEL];
	uint64_t in, out;
	bool fin;
} tcp;

static struct shmt_dir_shared shared;
static uint8_t ring_bytes[RING];
static const struct shmt_dir dir = {&shared, {ring_bytes, RING}, 0};
static uint64_t by_ring, by_tcp, runs;

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 0x9e3779b97f4a7c15ULL >> 56);
}

static size_t fill(uint8_t *to, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = byte_at(at + i);
	return len;
}

static void kernel_send(const uint8_t *from, size_t len)
{
	pthread_mutex_lock(&tcp.lock);
	for (size_t i = 0; i < len; i++) {
		while (tcp.in - tcp.out == KERNEL)
			pthread_cond_wait(&tcp.room, &tcp.lock);
		tcp.bytes[tcp.in++ % KERNEL] = from[i];
		pthread_cond_signal(&tcp.more);
	}
	pthread_mutex_unlock(&tcp.lock);
}

/* Sleeps until there is something; 0 = end of stream. */
static size_t kernel_receive(uint8_t *to, size_t len)
{
	size_t got = 0;

	pthread_mutex_lock(&tcp.lock);
	while (tcp.in == tcp.out && !tcp.fin)
		pthread_cond_wait(&tcp.more, &tcp.lock);
	for (; got < len && tcp.out < tcp.in; got++)
		to[got] = tcp.bytes[tcp.out++ % KERNEL];
	pthread_cond_signal(&tcp.room);
	pthread_mutex_unlock(&tcp.lock);
	return got;
}

static void *sender(void *arg)
{
	unsigned int seed = *(unsigned int *)arg;
	uint64_t sent = 0, tcp_sent = 0;
	uint8_t piece[PIECE];

	while (sent < total) {
		const uint64_t ctl = shmt_load(&shared.ctl);
		size_t len = 1 + (size_t)rand_r(&seed) % PIECE;
		int64_t space;

		if (len > total - sent)
			len = total - sent;
		if (SHMT_CTL_MODE(ctl) == SHMT_TCP || SHMT_CTL_MODE(ctl) == SHMT_LEAVING) {
			fill(piece, sent, len);
			if (SHMT_CTL_MODE(ctl) == SHMT_TCP && rand_r(&seed) % 4 &&
			    shmt_tx_open(&dir, tcp_sent + len)) {
				runs++;
				if (rand_r(&seed) % 8 == 0)
					shmt_tx_unopen(&dir);
			}
			kernel_send(piece, len);
			tcp_sent += len;
			sent += len;
			by_tcp += len;
			continue;
		}
		space = shmt_tx_space(&dir, ctl);
		UNIT_CHECK(space >= 0);
		/* The word may have changed since it was read; only a publish that succeeds counts.
		 */
		if (space == 0 || rand_r(&seed) % 64 == 0) {
			if (rand_r(&seed) % 2 == 0)
				(void)shmt_tx_leave(&dir, ctl);
			sched_yield();
			continue;
		}
		if (len > (size_t)space)
			len = (size_t)space;
		shmt_ring_copy_in(&dir.ring, SHMT_CTL_VALUE(ctl), piece, fill(piece, sent, len));
		if (shmt_tx_publish(&dir, ctl, len)) {
			sent += len;
			by_ring += len;
		}
	}
	pthread_mutex_lock(&tcp.lock);
	tcp.fin = true;
	pthread_cond_signal(&tcp.more);
	pthread_mutex_unlock(&tcp.lock);
	return NULL;
}

static void check(const uint8_t *bytes, size_t len, uint64_t *got)
{
	for (size_t i = 0; i < len; i++)
		UNIT_CHECK(bytes[i] == byte_at(*got + i));
	*got += len;
}

static void *receiver(void *arg)
{
	unsigned int seed = *(unsigned int *)arg + 1;
	uint64_t got = 0;
	uint8_t piece[PIECE];

	while (got < total) {
		const uint64_t ctl = shmt_load(&shared.ctl);
		const uint64_t tail = shmt_load_relaxed(&shared.tail);
		size_t len = 1 + (size_t)rand_r(&seed) % PIECE;
		uint64_t missing;
		int64_t avail;

		if (SHMT_CTL_MODE(ctl) == SHMT_TCP) {
			if (!shmt_rx_enter(&dir))
				continue;
			len = kernel_receive(piece, len);
			shmt_rx_exit(&dir, len);
			check(piece, len, &got);
			continue;
		}
		if (SHMT_CTL_MODE(ctl) == SHMT_WAKING) {
			shmt_rx_answer(&dir, ctl);
			continue;
		}
		missing = shmt_rx_missing(&dir);
		if (missing > 0) {
			if (len > missing)
				len = missing;
			len = kernel_receive(piece, len);
			UNIT_CHECK(len > 0); /* these bytes are certain to come */
			shmt_rx_took(&dir, len);
			check(piece, len, &got);
			continue;
		}
		avail = shmt_rx_avail(&dir, ctl, tail);
		UNIT_CHECK(avail >= 0);
		if (avail > 0) {
			if (len > (size_t)avail)
				len = (size_t)avail;
			shmt_ring_copy_out(&dir.ring, tail, piece, len);
			UNIT_CHECK(shmt_rx_consume(&dir, tail, len));
			check(piece, len, &got);
		} else if (SHMT_CTL_MODE(ctl) == SHMT_LEAVING || rand_r(&seed) % 8 == 0) {
			(void)shmt_rx_settle(&dir,
					     ctl); /* if it fails there is something to read */
		} else {
			sched_yield();
		}
	}
	UNIT_CHECK(kernel_receive(piece, sizeof(piece)) == 0);
	return NULL;
}

static void test_stream(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 4; round++) {
		unsigned int seed = first_seed + round * 100;
		pthread_t threads[2];

		memset(&tcp, 0, sizeof(tcp));
		pthread_mutex_init(&tcp.lock, NULL);
		pthread_cond_init(&tcp.more, NULL);
		pthread_cond_init(&tcp.room, NULL);
		memset(&shared, 0, sizeof(shared));
		shmt_rx_attach(&dir, 0);
		by_ring = by_tcp = runs = 0;
		pthread_create(&threads[0], NULL, sender, &seed);
		pthread_create(&threads[1], NULL, receiver, &seed);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		print_message("seed %u: %llu bytes by ring in %llu runs, %llu by TCP\n", seed,
			      (unsigned long long)by_ring, (unsigned long long)runs,
			      (unsigned long long)by_tcp);
		assert_int_equal(by_ring + by_tcp, total);
		assert_true(runs > 0 && by_ring > 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
	};

	first_seed = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : (unsigned int)time(NULL);
	return cmocka_run_group_tests_name("switch_threads", tests, NULL, NULL);
}
