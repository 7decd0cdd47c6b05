// SPDX-License-Identifier: Apache-2.0
/*
 * A non-blocking writer without a reader: short writes, then EAGAIN and not writable; as the reader
 * drains, writable again; nothing lost. HAZARDS 1, 34.
 */

#include "t.h"

static uint8_t buf[200000];

static uint64_t fill_up(int fd, uint64_t at)
{
	struct pollfd set = {fd, POLLOUT, 0};

	for (;;) {
		ssize_t n;

		t_fill(buf, sizeof(buf), 3, at);
		errno = 4242;
		n = send(fd, buf, sizeof(buf), 0);
		if (n > 0) {
			T_EQ(errno, 4242);
			at += (uint64_t)n;
			T_CHECK(at < 256u << 20);
			continue;
		}
		T_EQ(n, -1);
		T_EQ(errno, EAGAIN);
		/* The kernel may still move bytes to the receiver's side: full is full for a while.
		 */
		if (!T_OK(poll(&set, 1, 20)))
			return at;
	}
}

int main(void)
{
	uint64_t sent = 0, got = 0;
	struct t_pair pair;
	struct pollfd set;

	t_open_hot(&pair);
	t_set_nonblock(pair.a, true);
	for (int round = 0; round < 3; round++) {
		sent = fill_up(pair.a, sent);
		T_CHECK(sent > got);
		t_recv(pair.b, sent - got, 3, got);
		got = sent;
		set = (struct pollfd){pair.a, POLLOUT, 0};
		T_EQ(T_OK(poll(&set, 1, 1000)), 1);
		T_EQ(set.revents, POLLOUT);
		t_hot(&pair);
	}
	/* The reader's side is non-blocking too: EAGAIN when it is dry, never 0. */
	t_set_nonblock(pair.b, true);
	T_ERR(recv(pair.b, buf, 1, 0), EAGAIN);
	T_ERR(read(pair.b, buf, 1), EAGAIN);
	t_close(&pair);
	return 0;
}
