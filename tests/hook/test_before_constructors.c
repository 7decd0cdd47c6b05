// SPDX-License-Identifier: Apache-2.0
/*
 * Socket calls made before the library's own constructor has run, as other libraries' constructors
 * make them; the streams opened then go on in main(). HAZARDS 39.
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
	uint64_t moved;

	T_EQ(early_errno, EAGAIN);
	t_warm(&early);
	t_hot(&early);
	moved = t_moved_begin(early.a);
	for (int i = 0; i < 20; i++) {
		t_send(early.a, 1000, 3, 0);
		t_recv(early.b, 1000, 3, 0);
	}
	t_moved_end(early.a, moved);
	t_close(&early);
	return 0;
}
