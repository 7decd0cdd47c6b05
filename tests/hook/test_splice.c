// SPDX-License-Identifier: Apache-2.0
/*
 * splice out of a moved stream and into one: the bytes in order with those of the other calls, and
 * for what cannot be the kernel's answer, with nothing taken out. HAZARDS 1, 9.
 */

#include "t.h"

#define LEN 9000u

static struct t_pair pair;
static int ends[2];

static void out_of_it(void)
{
	t_open_hot(&pair);
	t_send(pair.a, LEN, 3, 0);
	t_recv(pair.b, 1000, 3, 0);
	for (size_t at = 1000; at < LEN - 500;) {
		const size_t n =
			(size_t)T_OK(splice(pair.b, NULL, ends[1], NULL, LEN - 500 - at, 0));
		uint8_t buf[LEN];

		T_CHECK(n && n <= LEN - 500 - at);
		T_EQ(T_OK(read(ends[0], buf, sizeof(buf))), n);
		t_verify(buf, n, 3, at);
		at += n;
	}
	t_recv(pair.b, 500, 3, LEN - 500);
	t_set_nonblock(pair.b, true);
	T_ERR(splice(pair.b, NULL, ends[1], NULL, 10, 0), EAGAIN);
	t_set_nonblock(pair.b, false);
	t_hot(&pair);
	t_send(pair.a, 100, 4, 0);
	T_EQ(T_OK(splice(pair.b, NULL, ends[1], NULL, 1000, 0)), 100);
	T_OK(shutdown(pair.a, SHUT_WR));
	T_EQ(T_OK(splice(pair.b, NULL, ends[1], NULL, 1000, 0)), 0);
	{
		uint8_t buf[100];

		T_EQ(T_OK(read(ends[0], buf, sizeof(buf))), 100);
		t_verify(buf, 100, 4, 0);
	}
	t_close(&pair);
}

static void into_it(void)
{
	uint8_t buf[1000];

	t_open_hot(&pair);
	for (int i = 0; i < 10; i++) {
		t_fill(buf, sizeof(buf), 3, 500);
		t_send(pair.a, 500, 3, 0);
		T_EQ(T_OK(write(ends[1], buf, sizeof(buf))), sizeof(buf));
		T_EQ(T_OK(splice(ends[0], NULL, pair.a, NULL, sizeof(buf), SPLICE_F_MORE)),
		     sizeof(buf));
		t_send(pair.a, 500, 3, 1500);
		t_recv(pair.b, 2000, 3, 0);
	}
	t_close(&pair);
}

/* Each refusal leaves every byte where it is. */
static void refused(void)
{
	off64_t off = 0;
	struct t_pair other;
	const int null = (int)T_OK(open("/dev/null", O_WRONLY));

	t_open_hot(&pair);
	t_open_hot(&other);
	t_send(pair.a, LEN, 3, 0);
	T_ERR(splice(pair.b, &off, ends[1], NULL, 10, 0), EINVAL);
	T_ERR(splice(pair.b, NULL, ends[1], &off, 10, 0), ESPIPE);
	T_ERR(splice(pair.b, NULL, ends[1], NULL, 10, 0x80), EINVAL);
	T_ERR(splice(pair.b, NULL, null, NULL, 10, 0), EINVAL);
	T_ERR(splice(pair.b, NULL, other.a, NULL, 10, 0), EINVAL);
	T_ERR(splice(pair.b, NULL, ends[0], NULL, 10, 0), EBADF);
	T_ERR(splice(pair.b, NULL, 777, NULL, 10, 0), EBADF);
	T_EQ(T_OK(splice(pair.b, NULL, ends[1], NULL, 0, 0)), 0);
	T_ERR(splice(ends[0], &off, pair.a, NULL, 10, 0), ESPIPE);
	t_recv(pair.b, LEN, 3, 0);
	t_hot(&pair);
	t_hot(&other);
	t_close(&other);
	t_close(&pair);
	T_OK(close(null));
}

int main(void)
{
	T_OK(pipe(ends));
	out_of_it();
	into_it();
	refused();
	return 0;
}
