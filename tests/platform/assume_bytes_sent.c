/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: tcpi_bytes_sent - tcpi_bytes_retrans + tcpi_notsent_bytes is exactly what the program has
 * passed to send, on both sides, with full buffers, a closed window and its probes, and under loss:
 * the transport takes open_at from there. After a FIN it still is, but notsent may count the FIN
 * until that has left. The other formula, tcpi_bytes_acked + SIOCOUTQ, counts the SYN on the side
 * that connected and the FIN on either; it is printed beside.
 */
#include "facts.h"
#include "t.h"

#define BULK (4u << 20)

static void say(const char *when, int fd, uint64_t total)
{
	struct facts f;

	facts_of(fd, &f);
	printf("%s: passed to send %llu; sent %llu - retrans %llu + notsent %u = %llu; acked %llu + "
	       "outq %d = %llu; backoff %u\n",
	       when, (unsigned long long)total, (unsigned long long)f.sent,
	       (unsigned long long)f.retrans, f.notsent,
	       (unsigned long long)(f.sent - f.retrans + f.notsent), (unsigned long long)f.acked,
	       f.outq, (unsigned long long)(f.acked + (uint64_t)f.outq), f.backoff);
}

static void check(const char *when, int fd, uint64_t total)
{
	say(when, fd, total);
	T_EQ(facts_sent(fd), total);
}

static void wait_acked(int fd)
{
	struct facts f;

	do {
		facts_of(fd, &f);
	} while (f.outq > 0);
}

/* Sends until the window is closed and the kernel has probed it; the new total. */
static uint64_t fill(int fd, uint64_t total)
{
	static char buf[65536];
	struct facts f;
	ssize_t n;

	t_set_nonblock(fd, true);
	do {
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		while ((n = send(fd, buf, sizeof(buf), 0)) > 0)
			total += (uint64_t)n;
		T_EQ(errno, EAGAIN);
		if (poll(&p, 1, 100) > 0)
			continue;
		facts_of(fd, &f);
		T_EQ(f.sent - f.retrans + f.notsent, total);
	} while (f.backoff < 2);
	t_set_nonblock(fd, false);
	return total;
}

static void drain(int fd, uint64_t len)
{
	static char buf[65536];

	while (len) {
		const ssize_t n = recv(fd, buf, len < sizeof(buf) ? len : sizeof(buf), 0);

		T_CHECK(n > 0);
		len -= (uint64_t)n;
	}
}

static void phases(enum t_family family, int reverse)
{
	const char *who = reverse ? "accepted" : "connected";
	struct t_pair pair;
	uint64_t total = 0;
	int from, to;

	t_open(&pair, family);
	from = reverse ? pair.b : pair.a;
	to = reverse ? pair.a : pair.b;
	printf("-- the sender %s\n", who);
	check("at first", from, 0);
	t_send(from, 3000, 1, 0);
	total = 3000;
	check("after a send", from, total);
	wait_acked(from);
	check("acknowledged", from, total);
	total = fill(from, total);
	check("window closed and probed", from, total);
	drain(to, total);
	wait_acked(from);
	check("all of it read", from, total);
	T_OK(shutdown(from, SHUT_WR));
	drain(to, 0);
	wait_acked(from);
	check("FIN acknowledged", from, total);
	t_close(&pair);
}

/* FIN while the window is closed: it waits unsent. */
static void fin_waits(void)
{
	struct t_pair pair;
	uint64_t total;

	t_open(&pair, T_V4);
	total = fill(pair.a, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	say("FIN behind a closed window", pair.a, total);
	T_CHECK(facts_sent(pair.a) == total || facts_sent(pair.a) == total + 1);
	t_close(&pair);
}

static void receive_bulk(void *arg)
{
	drain(*(int *)arg, BULK);
}

static void bulk(unsigned int loss)
{
	static char buf[65536];
	struct t_thread receiver;
	struct t_pair pair;
	uint64_t total = 0;

	t_open(&pair, T_V4);
	facts_lossy(pair.a, loss);
	facts_lossy(pair.b, loss);
	t_thread_start(&receiver, receive_bulk, &pair.b);
	while (total < BULK) {
		size_t len = 1 + (total * 7919) % sizeof(buf);
		ssize_t n;

		if (len > BULK - total)
			len = BULK - total;
		n = send(pair.a, buf, len, 0);
		T_CHECK(n > 0);
		total += (uint64_t)n;
		T_EQ(facts_sent(pair.a), total);
	}
	t_thread_join(&receiver);
	printf("-- %u %% loss on both sides\n", loss);
	check("bulk: equal after each send, and now", pair.a, total);
	t_close(&pair);
}

int main(void)
{
	phases(T_V4, 0);
	phases(T_V4, 1);
	phases(T_V6, 0);
	phases(T_MAPPED, 1);
	fin_waits();
	bulk(0);
	bulk(5);
	return 0;
}
