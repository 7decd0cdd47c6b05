/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: tcpi_bytes_received - FIONREAD is exactly what the program has read from a TCP socket, in
 * every phase and on both sides: the transport takes tcp_read from there. MSG_PEEK does not count,
 * MSG_TRUNC (discard) does. A FIN that has come, read or not, counts as one byte: the number is one
 * too large from then on.
 */
#include "facts.h"
#include "t.h"

#define BULK (4u << 20)

static const char *const families[] = {"IPv4", "IPv6", "IPv4-mapped"};

/* Sent bytes arrive soon, not at once. */
static void wait_queued(int fd, int want)
{
	struct facts f;

	do {
		facts_of(fd, &f);
	} while (f.inq < want);
	T_EQ(f.inq, want);
}

static void wait_fin(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	T_EQ(poll(&p, 1, 5000), 1);
}

static void phases(enum t_family family, int reverse)
{
	struct t_pair pair;
	char buf[4096];
	int from, to;

	t_open(&pair, family);
	from = reverse ? pair.b : pair.a;
	to = reverse ? pair.a : pair.b;
	T_EQ(facts_read(to), 0);
	t_send(from, 3000, 1, 0);
	wait_queued(to, 3000);
	T_EQ(facts_read(to), 0);
	t_recv(to, 1000, 1, 0);
	T_EQ(facts_read(to), 1000);
	T_EQ(recv(to, buf, 500, MSG_PEEK), 500);
	T_EQ(facts_read(to), 1000);
	T_EQ(recv(to, NULL, 200, MSG_TRUNC), 200);
	T_EQ(facts_read(to), 1200);
	T_OK(shutdown(from, SHUT_WR));
	wait_fin(to);
	T_EQ(facts_read(to), 1200 + 1);
	t_recv(to, 1800, 1, 1200);
	T_EQ(facts_read(to), 3000 + 1);
	T_EQ(recv(to, buf, sizeof(buf), 0), 0);
	printf("%s, read by the side that %s: 3000 bytes and the FIN, the kernel says %llu\n",
	       families[family], reverse ? "connected" : "accepted",
	       (unsigned long long)facts_read(to));
	T_EQ(facts_read(to), 3000 + 1);
	t_close(&pair);
}

static void send_bulk(void *arg)
{
	t_send(*(int *)arg, BULK, 7, 0);
}

/* While bytes arrive, with and without loss: the number is right at any moment. */
static uint64_t bulk(unsigned int loss)
{
	static char buf[65536];
	struct t_thread sender;
	struct t_pair pair;
	uint64_t read = 0;
	struct facts f;
	ssize_t n;

	t_open(&pair, T_V4);
	facts_lossy(pair.b, loss);
	t_thread_start(&sender, send_bulk, &pair.a);
	while (read < BULK) {
		n = recv(pair.b, buf, 1 + (read * 7919) % sizeof(buf), 0);
		T_CHECK(n > 0);
		t_verify(buf, (size_t)n, 7, read);
		read += (uint64_t)n;
		T_EQ(facts_read(pair.b), read);
	}
	t_thread_join(&sender);
	facts_of(pair.a, &f);
	printf("bulk with %u %% loss: equal after each receive; %llu bytes sent again\n", loss,
	       (unsigned long long)f.retrans);
	t_close(&pair);
	return f.retrans;
}

int main(void)
{
	enum t_family family;
	uint64_t again = 0;

	for (family = T_V4; family <= T_MAPPED; family++) {
		phases(family, 0);
		phases(family, 1);
	}
	bulk(0);
	/* Chance decides what is lost: on until something was. */
	while (!again)
		again = bulk(5);
	return 0;
}
