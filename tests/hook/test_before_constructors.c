// SPDX-License-Identifier: Apache-2.0
/*
 * Socket calls made before the library's own constructor has run, as other libraries' constructors
 * make them; the streams opened then go on in main() (whether they may move is left open).
 * HAZARDS 39.
 */

#include "t.h"

static struct t_pair early;
static int early_errno;

/* .preinit_array runs before the constructors of all shared objects, preloaded ones too. */
static void before_all(void)
{
	struct pollfd set;

	t_open(&early, T_V4);
	t_send(early.a, 5000, 3, 0);
	t_recv(early.b, 5000, 3, 0);
	t_send(early.b, 100, 4, 0);
	set = (struct pollfd){early.a, POLLIN, 0};
	T_EQ(T_OK(poll(&set, 1, 1000)), 1);
	t_recv(early.a, 100, 4, 0);
	T_ERR(recv(early.a, &set, 1, MSG_DONTWAIT), EAGAIN);
	early_errno = errno;
}

__attribute__((section(".preinit_array"), used)) static void (*const before)(void) = before_all;

int main(void)
{
	struct t_pair later;

	T_EQ(early_errno, EAGAIN);
	t_hot(&early);
	for (int i = 0; i < 20; i++) {
		t_send(early.a, 5000, 3, 0);
		t_recv(early.b, 5000, 3, 0);
	}
	t_close(&early);
	/* And a stream of main()'s own moves. */
	t_open_hot(&later);
	t_close(&later);
	return 0;
}
