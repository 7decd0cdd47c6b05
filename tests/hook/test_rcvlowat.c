// SPDX-License-Identifier: Apache-2.0
/* SO_RCVLOWAT: recv and poll wait for that many bytes, wherever they lie. HAZARDS 7. */

#include "t.h"

static struct t_pair pair;

static void send_parts(void *arg)
{
	(void)arg;
	t_wait_asleep(getpid());
	t_send(pair.a, 40, 3, 0);
	t_send(pair.a, 60, 3, 40);
}

int main(void)
{
	struct pollfd set;
	struct t_thread sender;
	int low = 100;
	uint8_t buf[200];

	t_open_hot(&pair);
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));

	/* Too little to be readable for poll; a call that does not wait still gets it. */
	t_hot(&pair);
	t_send(pair.a, 40, 3, 0);
	set = (struct pollfd){pair.b, POLLIN, 0};
	T_EQ(T_OK(poll(&set, 1, 50)), 0);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), MSG_DONTWAIT)), 40);
	t_verify(buf, 40, 3, 0);

	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	t_recv(pair.b, 100, 3, 0);

	/* A blocking recv that began before they came returns with all of them. */
	t_thread_start(&sender, send_parts, NULL);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), 100);
	t_verify(buf, 100, 3, 0);
	t_thread_join(&sender);

	/* And less, if less is asked for. */
	t_send(pair.a, 10, 3, 0);
	T_EQ(T_OK(recv(pair.b, buf, 10, 0)), 10);

	low = 1;
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
	t_send(pair.a, 1, 3, 0);
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	t_recv(pair.b, 1, 3, 0);
	t_close(&pair);
	return 0;
}
