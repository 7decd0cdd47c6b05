// SPDX-License-Identifier: Apache-2.0
/* FIONREAD counts what can be read now; SIOCOUTQ goes to 0 when all has arrived. HAZARDS 7. */

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "t.h"

int main(void)
{
	struct t_pair pair;
	uint64_t moved;
	int64_t start;
	int n;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);
	for (int i = 0; i < 20; i++) {
		T_OK(ioctl(pair.b, FIONREAD, &n));
		T_EQ(n, 0);
		t_send(pair.a, 1000, 3, 0);
		T_OK(ioctl(pair.b, FIONREAD, &n));
		T_EQ(n, 1000);
		t_recv(pair.b, 300, 3, 0);
		T_OK(ioctl(pair.b, FIONREAD, &n));
		T_EQ(n, 700);
		t_recv(pair.b, 700, 3, 300);
		t_hot(&pair);
	}
	t_moved_end(pair.a, moved);
	/* Acknowledgements may be delayed, but they come. */
	start = t_now_ms();
	do {
		T_OK(ioctl(pair.a, SIOCOUTQ, &n));
		T_CHECK(t_now_ms() - start < 2000);
	} while (n);
	t_close(&pair);
	return 0;
}
