// SPDX-License-Identifier: Apache-2.0
/*
 * Writing to a stream that is shut: EPIPE, and SIGPIPE unless MSG_NOSIGNAL, for each form.
 * HAZARDS 33.
 */

#include "t.h"

int main(void)
{
	uint8_t buf[100] = {0};
	struct iovec vec = {buf, sizeof(buf)};
	struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
	struct t_pair pair;
	int seen = 0;

	t_open_hot(&pair);
	t_on_signal(SIGPIPE, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	T_ERR(write(pair.a, buf, sizeof(buf)), EPIPE);
	T_EQ(t_signals, ++seen);
	T_ERR(writev(pair.a, &vec, 1), EPIPE);
	T_EQ(t_signals, ++seen);
	T_ERR(send(pair.a, buf, sizeof(buf), 0), EPIPE);
	T_EQ(t_signals, ++seen);
	T_ERR(sendto(pair.a, buf, sizeof(buf), 0, NULL, 0), EPIPE);
	T_EQ(t_signals, ++seen);
	T_ERR(sendmsg(pair.a, &msg, 0), EPIPE);
	T_EQ(t_signals, ++seen);
	T_ERR(send(pair.a, buf, sizeof(buf), MSG_NOSIGNAL), EPIPE);
	T_ERR(sendmsg(pair.a, &msg, MSG_NOSIGNAL), EPIPE);
	T_EQ(t_signals, seen);
	t_close(&pair);

	/* The other end reset the stream under a writer that is on the ring. */
	t_open_hot(&pair);
	t_send(pair.a, 1000, 3, 0);
	T_OK(close(pair.b));
	t_signals = 0;
	T_ERR(send(pair.a, buf, sizeof(buf), 0), ECONNRESET);
	T_EQ(t_signals, 0);
	T_ERR(send(pair.a, buf, sizeof(buf), 0), EPIPE);
	T_EQ(t_signals, 1);
	T_OK(close(pair.a));
	return 0;
}
