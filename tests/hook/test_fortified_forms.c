// SPDX-License-Identifier: Apache-2.0
/* Programs built with _FORTIFY_SOURCE call __read_chk and its like: same bytes. HAZARDS 2. */

#ifndef __SANITIZE_ADDRESS__
#undef _FORTIFY_SOURCE
#define _FORTIFY_SOURCE 2
#endif

#include "t.h"

#define LEN 2000u

/* Known to the compiler as a bounded buffer, of which an unknown part is asked for. */
static uint8_t buf[LEN];

int main(void)
{
	volatile size_t want = LEN;
	volatile nfds_t one = 1;
	struct t_pair pair;
	struct pollfd set;
	uint64_t at = 0, moved;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);
	for (int round = 0; round < 3; round++) {
		t_send(pair.a, LEN, 3, at);
		set = (struct pollfd){pair.b, POLLIN, 0};
		if (round == 0) {
			T_EQ(T_OK(poll(&set, one, 1000)), 1);
		} else {
			const struct timespec second = {.tv_sec = 1};

			T_EQ(T_OK(ppoll(&set, one, &second, NULL)), 1);
		}
		for (size_t got = 0; got < LEN;) {
			ssize_t n;

			want = LEN - got;
			if (round == 0)
				n = (ssize_t)T_OK(read(pair.b, buf, want));
			else if (round == 1)
				n = (ssize_t)T_OK(recv(pair.b, buf, want, 0));
			else
				n = (ssize_t)T_OK(recvfrom(pair.b, buf, want, 0, NULL, NULL));
			t_verify(buf, (size_t)n, 3, at + got);
			got += (size_t)n;
		}
		at += LEN;
	}
	t_moved_end(pair.a, moved);
	t_close(&pair);
	return 0;
}
