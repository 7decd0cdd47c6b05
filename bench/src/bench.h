/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - what the measuring programs share
 *
 * They are ordinary programs of sockets and know nothing of the library: whoever runs them decides
 * whether it is preloaded. What they measured they print as one JSON object on a line. Anything
 * that goes wrong ends them with 1 and a text: a figure with a failure in it is none.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

void b_die(const char *what) __attribute__((noreturn));

/** b_now_ns() - CLOCK_MONOTONIC */
uint64_t b_now_ns(void);

/** b_number() - a whole number of the command line, with K or M for 1024 and its square */
uint64_t b_number(const char *text);

/** b_pin() - this thread to one processor; -1 = leave it */
void b_pin(int cpu);

/** b_files() - as many descriptors as we may have */
void b_files(void);

/**
 * b_connect(), b_listen() - at "ADDR:PORT" or "unix:PATH"; TCP_NODELAY where it is TCP
 * @sockbuf: SO_SNDBUF and SO_RCVBUF; 0 = the kernel's choice
 * b_accept() - with the same option set
 */
int b_connect(const char *where, int sockbuf);
int b_listen(const char *where, int sockbuf);
int b_accept(int listener);

/** b_send_all(), b_recv_all() - all of it; b_recv_all() returns 0 at an end before the first byte
 */
void b_send_all(int fd, const void *buf, size_t len);
size_t b_recv_all(int fd, void *buf, size_t len);

/** struct b_times - samples in nanoseconds; of more than fit every second, fourth ... is kept */
struct b_times {
	uint32_t *ns;
	size_t count, stride, skip;
};

void b_times_init(struct b_times *times);
void b_times_add(struct b_times *times, uint64_t ns);
/** b_times_sort() - before b_times_at(), which gives the sample below which @part of all lie */
void b_times_sort(struct b_times *times);
double b_times_at(const struct b_times *times, double part);

#endif
