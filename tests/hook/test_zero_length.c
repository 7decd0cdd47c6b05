// SPDX-License-Identifier: Apache-2.0
/* Zero bytes to send or to receive: nothing moves, and nothing ends. HAZARDS 7. */

#include "t.h"

int main(void)
{
	struct iovec none[2] = {{NULL, 0}, {NULL, 0}};
	struct msghdr msg = {.msg_iov = none, .msg_iovlen = 2};
	uint8_t byte;
	struct t_pair pair;

	t_open_hot(&pair);
	for (int i = 0; i < 3; i++) {
		T_EQ(T_OK(write(pair.a, &byte, 0)), 0);
		T_EQ(T_OK(send(pair.a, NULL, 0, 0)), 0);
		T_EQ(T_OK(writev(pair.a, none, 2)), 0);
		T_EQ(T_OK(writev(pair.a, none, 0)), 0);
		T_EQ(T_OK(sendmsg(pair.a, &msg, 0)), 0);
		T_ERR(recv(pair.b, &byte, 1, MSG_DONTWAIT), EAGAIN);

		t_hot(&pair);
		t_send(pair.a, 10, 3, 0);
		T_EQ(T_OK(read(pair.b, &byte, 0)), 0);
		T_EQ(T_OK(recv(pair.b, NULL, 0, 0)), 0);
		T_EQ(T_OK(readv(pair.b, none, 2)), 0);
		T_EQ(T_OK(recvmsg(pair.b, &msg, 0)), 0);
		t_recv(pair.b, 10, 3, 0);
	}
	/* With nothing to read the two families differ: recv waits for something, read does not. */
	T_ERR(recv(pair.b, NULL, 0, MSG_DONTWAIT), EAGAIN);
	T_ERR(recvmsg(pair.b, &msg, MSG_DONTWAIT), EAGAIN);
	T_EQ(T_OK(read(pair.b, &byte, 0)), 0);
	T_EQ(T_OK(readv(pair.b, none, 2)), 0);
	t_close(&pair);
	return 0;
}
