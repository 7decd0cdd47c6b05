// SPDX-License-Identifier: Apache-2.0
/* SO_RCVTIMEO and SO_SNDTIMEO end a blocking call in time, with EAGAIN or with a part. HAZARDS 20.
 */

#include "t.h"

#define SHORT_MS 150

static struct t_pair pair;

static void set_timeout(int fd, int option, int ms)
{
	const struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	T_OK(setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)));
}

static void receive(void)
{
	uint8_t buf[100];
	int64_t start;

	set_timeout(pair.b, SO_RCVTIMEO, SHORT_MS);
	t_hot(&pair);
	start = t_now_ms();
	T_ERR(recv(pair.b, buf, sizeof(buf), 0), EAGAIN);
	T_ELAPSED(start, SHORT_MS - 5, SHORT_MS + 500);

	/* Something arrived: a wait for all gives the part when the time is over. */
	t_hot(&pair);
	t_send(pair.a, 30, 3, 0);
	start = t_now_ms();
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_WAITALL)), 30);
	T_ELAPSED(start, SHORT_MS - 5, SHORT_MS + 500);
	t_verify(buf, 30, 3, 0);
	set_timeout(pair.b, SO_RCVTIMEO, 0);
}

/* Nobody reads: the writer fills what there is to fill, gets short counts, then EAGAIN. */
static void transmit(void)
{
	static uint8_t buf[1 << 20];
	uint64_t at = 0;
	int64_t start;
	ssize_t n;

	set_timeout(pair.a, SO_SNDTIMEO, SHORT_MS);
	t_hot(&pair);
	for (;;) {
		t_fill(buf, sizeof(buf), 3, at);
		errno = 0;
		start = t_now_ms();
		n = send(pair.a, buf, sizeof(buf), 0);
		if (n < 0)
			break;
		T_CHECK(n > 0);
		at += (uint64_t)n;
		T_CHECK(at < 64u << 20);
	}
	T_EQ(errno, EAGAIN);
	T_ELAPSED(start, SHORT_MS - 5, SHORT_MS + 500);
	t_recv(pair.b, at, 3, 0);
	t_hot(&pair);
}

int main(void)
{
	t_open_hot(&pair);
	receive();
	transmit();
	t_close(&pair);
	return 0;
}
