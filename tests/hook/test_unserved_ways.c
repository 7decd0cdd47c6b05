// SPDX-License-Identifier: Apache-2.0
/*
 * Ways that go past the ring must not split the stream: stdio, dprintf, bare system calls, urgent
 * data, signal-driven I/O, options that take the socket out of plain use. HAZARDS 1, 3, 4, 9.
 */

#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "t.h"

static struct t_pair pair;

static void stdio_stream(void)
{
	char line[64];
	FILE *in, *out;

	t_open_hot(&pair);
	in = fdopen(dup(pair.a), "r");
	out = fdopen(dup(pair.a), "w");
	T_CHECK(in && out);
	for (int i = 0; i < 20; i++) {
		char want[64];

		snprintf(want, sizeof(want), "line %d\n", i);
		T_CHECK(fprintf(out, "%s", want) > 0 && !fflush(out));
		T_EQ(T_OK(recv(pair.b, line, sizeof(line), 0)), strlen(want));
		T_CHECK(!memcmp(line, want, strlen(want)));
		T_EQ(T_OK(send(pair.b, want, strlen(want), 0)), strlen(want));
		T_CHECK(fgets(line, sizeof(line), in) && !strcmp(line, want));
	}
	T_EQ(fclose(in), 0);
	T_EQ(fclose(out), 0);
	T_CHECK(dprintf(pair.a, "%s\n", "by dprintf") == 11);
	T_EQ(T_OK(recv(pair.b, line, sizeof(line), 0)), 11);
	t_hot(&pair);
	t_close(&pair);
}

static void bare_calls(void)
{
	uint8_t buf[1000];

	t_open_hot(&pair);
	for (int i = 0; i < 20; i++) {
		t_hot(&pair);
		t_fill(buf, sizeof(buf), 3, 0);
		T_EQ(T_OK(syscall(SYS_sendto, pair.a, buf, 500, 0, NULL, 0)), 500);
		T_EQ(T_OK(syscall(SYS_write, pair.a, buf + 500, 500)), 500);
		T_EQ(T_OK(syscall(SYS_read, pair.b, buf, 300)), 300);
		t_verify(buf, 300, 3, 0);
		t_recv(pair.b, 700, 3, 300);
		t_send(pair.b, 100, 4, 0);
		T_EQ(T_OK(syscall(SYS_recvfrom, pair.a, buf, 100, 0, NULL, NULL)), 100);
		t_verify(buf, 100, 4, 0);
	}
	t_close(&pair);
}

static void urgent(void)
{
	int at_mark = 0;
	uint8_t byte;

	t_open_hot(&pair);
	t_send(pair.a, 1000, 3, 0);
	T_EQ(T_OK(send(pair.a, "U", 1, MSG_OOB)), 1);
	t_send(pair.a, 1000, 4, 0);
	t_recv(pair.b, 1000, 3, 0);
	T_OK(ioctl(pair.b, SIOCATMARK, &at_mark));
	T_EQ(at_mark, 1);
	T_EQ(T_OK(recv(pair.b, &byte, 1, MSG_OOB)), 1);
	T_EQ(byte, 'U');
	t_recv(pair.b, 1000, 4, 0);
	t_hot(&pair);
	t_close(&pair);
}

static void signal_driven(void)
{
	const int64_t start = t_now_ms();

	t_open_hot(&pair);
	t_on_signal(SIGIO, SA_RESTART);
	T_OK(fcntl(pair.b, F_SETOWN, getpid()));
	T_OK(fcntl(pair.b, F_SETFL, O_RDWR | O_ASYNC));
	for (int i = 0; i < 10; i++) {
		t_hot(&pair);
		t_signals = 0;
		t_send(pair.a, 100, 3, 0);
		while (!t_signals)
			T_CHECK(t_now_ms() - start < 3000);
		t_recv(pair.b, 100, 3, 0);
	}
	t_close(&pair);
}

/* Options that TCP programs set in mid-stream change nothing of the content. */
static void options(void)
{
	static const struct {
		int level, name;
	} toggled[] = {{IPPROTO_TCP, TCP_CORK},
		       {SOL_SOCKET, SO_KEEPALIVE},
		       {IPPROTO_TCP, TCP_QUICKACK},
		       {SOL_SOCKET, SO_ZEROCOPY},
		       {IPPROTO_TCP, TCP_NODELAY}};
	const int on = 1;

	t_open_hot(&pair);
	for (size_t i = 0; i < 2 * T_LEN(toggled); i++) {
		const int value = i % 2 == 0;

		T_OK(setsockopt(pair.a, toggled[i / 2].level, toggled[i / 2].name, &value,
				sizeof(value)));
		t_hot(&pair);
		t_send(pair.a, 5000, 3, 0);
		t_recv(pair.b, 5000, 3, 0);
	}
	T_OK(setsockopt(pair.a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	/* More to come: held by the kernel for 200 ms at most, or until the next. HAZARDS 48 */
	for (int i = 0; i < 20; i++) {
		uint8_t buf[200];

		t_fill(buf, sizeof(buf), 3, 0);
		T_EQ(T_OK(send(pair.a, buf, 100, MSG_MORE)), 100);
		T_EQ(T_OK(send(pair.a, buf + 100, 100, 0)), 100);
		t_recv(pair.b, 200, 3, 0);
		t_hot(&pair);
	}
	t_close(&pair);
}

int main(void)
{
	stdio_stream();
	bare_calls();
	urgent();
	signal_driven();
	options();
	return 0;
}
