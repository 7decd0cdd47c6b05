// SPDX-License-Identifier: Apache-2.0
/* t.c - checks, content, pairs and warm-up; see t.h */

#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "t.h"

#define PIECE	     16384u /* fits into any socket buffer: one thread can hold both ends */
#define WARM_MS	     5000   /* longest warm-up in mode ring */
#define WARM_BACK_MS 100    /* in mode back the agent may be drained at any moment */

/* What ends a test that takes too long: where was it? The offsets are for addr2line. */
static void on_term(int number)
{
	void *frames[32];
	char line[64];
	const int length = snprintf(line, sizeof(line), "pid %d is ended at\n", (int)getpid());

	(void)!write(STDERR_FILENO, line, (size_t)length);
	backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
	signal(number, SIG_DFL);
	raise(number);
}

__attribute__((constructor)) static void tell_where_ended(void)
{
	void *frame;

	(void)backtrace(&frame, 1); /* loads what it needs */
	signal(SIGTERM, on_term);
}

enum t_mode t_mode(void)
{
	const char *mode = getenv("T_MODE");

	if (mode && !strcmp(mode, "ring"))
		return T_RING;
	return mode && !strcmp(mode, "back") ? T_BACK : T_TCP;
}

void t_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: pid %d: ", file, line, (int)getpid());
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

void t_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(77);
}

int64_t t_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- content --------------------------------------------------------------------------------- */

static uint64_t word_at(uint64_t seed, uint64_t index)
{
	uint64_t x = seed * 0xd1342543de82ef95ULL + (index + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void t_fill(void *buf, size_t len, uint64_t seed, uint64_t at)
{
	uint8_t *dst = buf;

	while (len) {
		const uint64_t word = word_at(seed, at / 8);
		const size_t skip = at % 8;
		const size_t n = len < 8 - skip ? len : 8 - skip;

		memcpy(dst, (const uint8_t *)&word + skip, n);
		dst += n;
		at += n;
		len -= n;
	}
}

size_t t_same(const void *buf, size_t len, uint64_t seed, uint64_t at)
{
	const uint8_t *src = buf;
	size_t done = 0;

	while (done < len) {
		const uint64_t word = word_at(seed, (at + done) / 8);
		const size_t skip = (at + done) % 8;
		const size_t n = len - done < 8 - skip ? len - done : 8 - skip;

		if (memcmp(src + done, (const uint8_t *)&word + skip, n)) {
			while (src[done] == ((const uint8_t *)&word)[(at + done) % 8])
				done++;
			return done;
		}
		done += n;
	}
	return len;
}

/* Where in the stream the bytes at @buf stand; -1: nowhere near @at. */
static int64_t place_of(const uint8_t *buf, size_t len, uint64_t seed, uint64_t at)
{
	const int64_t far = 4 << 20;
	int64_t by;

	len = len < 32 ? len : 32;
	for (by = -far; by <= far; by++)
		if ((int64_t)at + by >= 0 && t_same(buf, len, seed, at + (uint64_t)by) == len)
			return (int64_t)at + by;
	return -1;
}

void t_verify(const void *buf, size_t len, uint64_t seed, uint64_t at)
{
	const size_t same = t_same(buf, len, seed, at);

	if (same != len)
		t_fail(__FILE__, __LINE__,
		       "stream %llu: byte %llu is wrong, here stands %lld (piece of %zu at %llu)",
		       (unsigned long long)seed, (unsigned long long)(at + same),
		       (long long)place_of((const uint8_t *)buf + same, len - same, seed,
					   at + same),
		       len, (unsigned long long)at);
}

void t_send(int fd, size_t len, uint64_t seed, uint64_t at)
{
	uint8_t buf[PIECE];

	while (len) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);

		t_fill(buf, n, seed, at);
		n = (size_t)T_OK(send(fd, buf, n, 0));
		at += n;
		len -= n;
	}
}

void t_recv(int fd, size_t len, uint64_t seed, uint64_t at)
{
	uint8_t buf[PIECE];

	while (len) {
		const size_t n =
			(size_t)T_OK(recv(fd, buf, len < sizeof(buf) ? len : sizeof(buf), 0));

		if (!n)
			t_fail(__FILE__, __LINE__, "end of stream %llu at %llu, %zu missing",
			       (unsigned long long)seed, (unsigned long long)at, len);
		t_verify(buf, n, seed, at);
		at += n;
		len -= n;
	}
}

uint64_t t_recv_rest(int fd, uint64_t seed, uint64_t at)
{
	const uint64_t begin = at;
	uint8_t buf[PIECE];

	for (;;) {
		const size_t n = (size_t)T_OK(recv(fd, buf, sizeof(buf), 0));

		if (!n)
			return at - begin;
		t_verify(buf, n, seed, at);
		at += n;
	}
}

void t_set_nonblock(int fd, bool on)
{
	const int flags = (int)T_OK(fcntl(fd, F_GETFL));

	T_OK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

/* ---- pairs ----------------------------------------------------------------------------------- */

int t_listen(enum t_family family, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	const int fd = socket(family == T_V4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 && errno == EAFNOSUPPORT)
		t_skip("no IPv6 here");
	T_CHECK(fd >= 0);
	if (family == T_MAPPED)
		v6.sin6_addr = in6addr_any;
	if (family == T_V4)
		T_OK(bind(fd, (struct sockaddr *)&v4, sizeof(v4)));
	else if (bind(fd, (struct sockaddr *)&v6, sizeof(v6)) < 0)
		t_skip("no IPv6 address here");
	T_OK(listen(fd, 64));
	T_OK(getsockname(fd, (struct sockaddr *)&bound, &len));

	memset(ret_addr, 0, sizeof(*ret_addr));
	if (family == T_V6) {
		memcpy(ret_addr, &bound, sizeof(v6));
		*ret_len = sizeof(v6);
	} else {
		v4.sin_port = family == T_V4 ? ((struct sockaddr_in *)&bound)->sin_port
					     : ((struct sockaddr_in6 *)&bound)->sin6_port;
		memcpy(ret_addr, &v4, sizeof(v4));
		*ret_len = sizeof(v4);
	}
	return fd;
}

void t_open(struct t_pair *pair, enum t_family family)
{
	struct sockaddr_storage addr;
	socklen_t len;
	const int listener = t_listen(family, &addr, &len), on = 1;

	pair->a = (int)T_OK(socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	T_OK(connect(pair->a, (struct sockaddr *)&addr, len));
	pair->b = (int)T_OK(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	T_OK(close(listener));
	T_OK(setsockopt(pair->a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	T_OK(setsockopt(pair->b, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}

void t_open_hot(struct t_pair *pair)
{
	t_open(pair, T_V4);
	t_warm(pair);
	t_hot(pair);
}

void t_close(struct t_pair *pair)
{
	T_OK(close(pair->a));
	T_OK(close(pair->b));
}

static void exchange(const struct t_pair *pair, size_t len)
{
	t_send(pair->a, len, 1, 0);
	t_recv(pair->b, len, 1, 0);
	t_send(pair->b, len, 2, 0);
	t_recv(pair->a, len, 2, 0);
}

void t_warm(const struct t_pair *pair)
{
	const enum t_mode mode = t_mode();
	const int64_t start = t_now_ms();
	struct t_stream a, b;

	for (;;) {
		exchange(pair, PIECE);
		if (mode == T_TCP)
			return;
		if (t_stream(pair->a, &a) && t_stream(pair->b, &b) && a.tx_ring_bytes &&
		    b.tx_ring_bytes)
			return;
		if (mode == T_BACK && t_now_ms() - start > WARM_BACK_MS)
			return;
		if (t_now_ms() - start > WARM_MS)
			t_fail(__FILE__, __LINE__, "the stream does not move: %s", a.reason);
	}
}

void t_hot(const struct t_pair *pair)
{
	for (int i = 0; i < 4; i++)
		exchange(pair, 64);
}
