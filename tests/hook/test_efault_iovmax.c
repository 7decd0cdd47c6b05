// SPDX-License-Identifier: Apache-2.0
/* Bad arguments get the kernel's answer and cost no byte of the stream. HAZARDS 7. */

#include <limits.h>
#include <sys/mman.h>

#include "t.h"

int main(void)
{
	static struct iovec many[IOV_MAX + 1];
	uint8_t *const wall = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t buf[IOV_MAX];
	volatile int negative = -1;
	struct t_pair pair;

	T_CHECK(wall != MAP_FAILED);
	t_open_hot(&pair);
	t_hot(&pair);
	T_ERR(send(pair.a, wall, 100, 0), EFAULT);
	T_ERR(write(pair.a, wall, 100), EFAULT);
	T_ERR(writev(pair.a, (struct iovec *)wall, 1), EFAULT);
	t_send(pair.a, 100, 3, 0);
	T_ERR(recv(pair.b, wall, 100, 0), EFAULT);
	t_recv(pair.b, 100, 3, 0);

	for (size_t i = 0; i < T_LEN(many); i++)
		many[i] = (struct iovec){&buf[i % IOV_MAX], 1};
	t_hot(&pair);
	T_ERR(writev(pair.a, many, IOV_MAX + 1), EINVAL);
	T_ERR(readv(pair.b, many, IOV_MAX + 1), EINVAL);
	T_ERR(writev(pair.a, many, negative), EINVAL);
	t_fill(buf, sizeof(buf), 3, 0);
	T_EQ(T_OK(writev(pair.a, many, IOV_MAX)), IOV_MAX);
	t_recv(pair.b, IOV_MAX, 3, 0);

	many[0].iov_len = (size_t)-1;
	T_ERR(writev(pair.a, many, 2), EINVAL);
	t_hot(&pair);
	t_close(&pair);
	T_ERR(send(pair.a, buf, 1, 0), EBADF);
	T_ERR(recv(pair.a, buf, 1, 0), EBADF);
	return 0;
}
