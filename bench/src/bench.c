// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { TIMES_MAX = 1 << 20 };

void b_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t b_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t b_number(const char *text)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (end != text && !errno) {
		if (*end == 'K')
			n <<= 10, end++;
		else if (*end == 'M')
			n <<= 20, end++;
	}
	if (end == text || *end || errno) {
		fprintf(stderr, "%s: not a number\n", text);
		exit(2);
	}
	return n;
}

void b_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		b_die("sched_setaffinity");
}

void b_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		b_die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		b_die("setrlimit");
}

/* Return: length of the address. */
static socklen_t address(const char *where, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_un *un = (struct sockaddr_un *)ret;
	const char *colon = strrchr(where, ':');
	char host[64];

	memset(ret, 0, sizeof(*ret));
	if (!strncmp(where, "unix:", 5)) {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", where + 5);
		return sizeof(*un);
	}
	snprintf(host, sizeof(host), "%.*s", colon ? (int)(colon - where) : 0, where);
	in->sin_family = AF_INET;
	if (!colon || inet_pton(AF_INET, host, &in->sin_addr) != 1) {
		fprintf(stderr, "%s: neither ADDR:PORT nor unix:PATH\n", where);
		exit(2);
	}
	in->sin_port = htons((uint16_t)b_number(colon + 1));
	return sizeof(*in);
}

static void set_option(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		b_die("setsockopt");
}

static int make_socket(int family, int sockbuf)
{
	const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		b_die("socket");
	if (sockbuf) {
		set_option(fd, SOL_SOCKET, SO_SNDBUF, sockbuf);
		set_option(fd, SOL_SOCKET, SO_RCVBUF, sockbuf);
	}
	return fd;
}

int b_connect(const char *where, int sockbuf)
{
	struct sockaddr_storage addr;
	const socklen_t len = address(where, &addr);
	const int fd = make_socket(addr.ss_family, sockbuf);

	if (connect(fd, (struct sockaddr *)&addr, len) < 0)
		b_die(where);
	if (addr.ss_family == AF_INET)
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return fd;
}

int b_listen(const char *where, int sockbuf)
{
	struct sockaddr_storage addr;
	const socklen_t len = address(where, &addr);
	const int fd = make_socket(addr.ss_family, sockbuf);

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 4096) < 0)
		b_die(where);
	return fd;
}

int b_accept(int listener)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	const int fd = accept4(listener, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC);

	if (fd < 0)
		b_die("accept");
	if (addr.ss_family == AF_INET)
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return fd;
}

void b_send_all(int fd, const void *buf, size_t len)
{
	const char *at = buf;
	ssize_t n;

	for (; len; at += n, len -= (size_t)n) {
		n = send(fd, at, len, MSG_NOSIGNAL);
		if (n < 0)
			b_die("send");
	}
}

size_t b_recv_all(int fd, void *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		n = recv(fd, (char *)buf + got, len - got, 0);
		if (n < 0)
			b_die("recv");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	if (got && got < len) {
		errno = ECONNABORTED;
		b_die("recv");
	}
	return got;
}

void b_times_init(struct b_times *times)
{
	*times = (struct b_times){.stride = 1};
	times->ns = calloc(TIMES_MAX, sizeof(*times->ns));
	if (!times->ns)
		b_die("calloc");
	/* A page fault per thousand samples would be seen in the tail. */
	memset(times->ns, 1, TIMES_MAX * sizeof(*times->ns));
}

void b_times_add(struct b_times *times, uint64_t ns)
{
	size_t i;

	if (++times->skip < times->stride)
		return;
	times->skip = 0;
	if (times->count == TIMES_MAX) {
		for (i = 0; i < TIMES_MAX / 2; i++)
			times->ns[i] = times->ns[2 * i];
		times->count = TIMES_MAX / 2;
		times->stride *= 2;
	}
	times->ns[times->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int compare(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void b_times_sort(struct b_times *times)
{
	qsort(times->ns, times->count, sizeof(*times->ns), compare);
}

double b_times_at(const struct b_times *times, double part)
{
	if (!times->count)
		return 0;
	return times->ns[(size_t)(part * (double)(times->count - 1))];
}
