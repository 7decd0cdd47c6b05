// SPDX-License-Identifier: Apache-2.0
/*
 * Socket calls from another library's constructor, before the preloaded library's own has run
 * (early.c): they work, the streams opened there go on in main(), and main()'s own move.
 * HAZARDS 39.
 */

#include "early.h"

int main(void)
{
	struct t_pair later;

	T_CHECK(early.a > 0 && early.b > 0);
	t_hot(&early);
	for (int i = 0; i < 20; i++) {
		t_send(early.a, 5000, 3, 0);
		t_recv(early.b, 5000, 3, 0);
	}
	t_close(&early);
	t_open_hot(&later);
	t_close(&later);
	return 0;
}
