// SPDX-License-Identifier: Apache-2.0
/*
 * A handler that uses the very stream its own thread is using: no deadlock, and no byte
 * is lost. HAZARDS 21.
 */

#include <sys/time.h>

#include "t.h"

#define RUN_MS 700

static struct t_pair pair;
static volatile uint64_t pings; /* one-byte messages that the handler sent */

static uint64_t dots, marks; /* received */

static void count(const uint8_t *buf, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++) {
		T_CHECK(buf[i] == '.' || buf[i] == '!');
		if (buf[i] == '.')
			dots++;
		else
			marks++;
	}
}

/* The handler writes on b -> a, the direction the main thread also writes to. */
static void handler(int signal)
{
	const int saved = errno;

	(void)signal;
	if (send(pair.b, "!", 1, MSG_DONTWAIT) == 1)
		pings++;
	errno = saved;
}

int main(void)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	uint64_t sent = 0, moved;
	uint8_t buf[4096];
	int64_t start;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.b);
	T_OK(sigaction(SIGALRM, &action, NULL));
	T_OK(setitimer(ITIMER_REAL, &often, NULL));
	memset(buf, '.', sizeof(buf));
	start = t_now_ms();
	while (t_now_ms() - start < RUN_MS) {
		ssize_t n = send(pair.b, buf, 1 + sent % 2000, 0);

		T_CHECK(n > 0);
		sent += (uint64_t)n;
		while ((n = recv(pair.a, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			count(buf, n);
		T_CHECK(n < 0 && (errno == EAGAIN || errno == EINTR));
		memset(buf, '.', sizeof(buf));
	}
	T_OK(setitimer(ITIMER_REAL, &off, NULL));
	T_OK(shutdown(pair.b, SHUT_WR));
	t_moved_end(pair.b, moved);
	for (;;) {
		const ssize_t n = (ssize_t)T_OK(recv(pair.a, buf, sizeof(buf), 0));

		if (!n)
			break;
		count(buf, n);
	}
	T_EQ(dots, sent);
	T_EQ(marks, pings);
	T_CHECK(pings);
	t_close(&pair);
	return 0;
}
