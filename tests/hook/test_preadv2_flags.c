// SPDX-License-Identifier: Apache-2.0
/*
 * preadv2 and pwritev2 with flags and offsets: not waiting (where the kernel knows that for
 * sockets), flags without a meaning for a socket, and refusals that cost no byte. HAZARDS 1, 7.
 */

#include "t.h"

static struct t_pair pair;
static uint8_t buf[1000];
static const struct iovec vec = {buf, sizeof(buf)};

int main(void)
{
	uint64_t moved;

	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);
	for (int i = 0; i < 10; i++) {
		t_hot(&pair);
		errno = 0;
		T_EQ(preadv2(pair.b, &vec, 1, -1, RWF_NOWAIT), -1);
		if (errno == EOPNOTSUPP)
			t_skip("this kernel has no RWF_NOWAIT for sockets");
		T_EQ(errno, EAGAIN);
		t_send(pair.a, 700, 3, 0);
		T_EQ(T_OK(preadv2(pair.b, &vec, 1, -1, RWF_NOWAIT)), 700);
		t_verify(buf, 700, 3, 0);
		t_fill(buf, sizeof(buf), 4, 0);
		T_EQ(T_OK(pwritev2(pair.a, &vec, 1, -1, i % 2 ? RWF_NOWAIT : RWF_DSYNC)), 1000);
		T_EQ(T_OK(preadv2(pair.b, &vec, 1, -1, RWF_HIPRI)), 1000);
		t_verify(buf, sizeof(buf), 4, 0);
		t_send(pair.a, 10, 3, 0);
		T_ERR(preadv2(pair.b, &vec, 1, 0, 0), ESPIPE);
		T_ERR(pwritev2(pair.a, &vec, 1, 5, 0), ESPIPE);
		T_ERR(preadv2(pair.b, &vec, 1, -1, 1 << 30), EOPNOTSUPP);
		T_ERR(pwritev2(pair.a, &vec, 1, -1, 1 << 30), EOPNOTSUPP);
		T_ERR(preadv(pair.b, &vec, 1, 0), ESPIPE);
		T_ERR(pwritev(pair.a, &vec, 1, 0), ESPIPE);
		T_ERR(pread(pair.b, buf, 1, 0), ESPIPE);
		T_ERR(pwrite(pair.a, buf, 1, 0), ESPIPE);
		T_ERR(lseek(pair.a, 0, SEEK_CUR), ESPIPE);
		t_recv(pair.b, 10, 3, 0);
	}
	t_moved_end(pair.a, moved);
	t_close(&pair);
	return 0;
}
