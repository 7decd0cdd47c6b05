// SPDX-License-Identifier: Apache-2.0
/*
 * A receive that returns less than it was asked for has taken all that was there. Programs conclude
 * from POLLRDHUP and a short read that nothing follows (haproxy), and drop what does. HAZARDS 32.
 */

#include "t.h"

#define BIG 60000u

static uint8_t buf[2 * BIG];

static void wait_for_end(int fd)
{
	struct pollfd set = {fd, POLLRDHUP, 0};

	T_EQ(T_OK(poll(&set, 1, 5000)), 1);
	T_CHECK(set.revents & POLLRDHUP);
}

/* A reader that has slept is woken by TCP: what it is sent then begins there, and goes on by ring.
 */
static void fall_asleep(int fd)
{
	struct pollfd set = {fd, POLLIN, 0};

	T_EQ(T_OK(poll(&set, 1, 20)), 0);
}

/* One receive after the end was told gets all of it, however it was sent. */
static void end_behind(const size_t *pieces, size_t n, bool vectors)
{
	struct iovec iov[2] = {{buf, 5000}, {buf + 5000, sizeof(buf) - 5000}};
	struct t_pair pair;
	size_t sum = 0, i;

	t_open_hot(&pair);
	fall_asleep(pair.b);
	for (i = 0; i < n; i++) {
		t_send(pair.a, pieces[i], 7, sum);
		sum += pieces[i];
	}
	T_OK(shutdown(pair.a, SHUT_WR));
	wait_for_end(pair.b);
	if (vectors)
		T_EQ(T_OK(readv(pair.b, iov, 2)), sum);
	else
		T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), sum);
	t_verify(buf, sum, 7, 0);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), 0);
	t_close(&pair);
}

int main(void)
{
	static const size_t one[] = {BIG}, small_big[] = {100, BIG},
			    many[] = {100, 5000, 100, 20000};
	uint64_t moved;
	struct t_pair pair;

	for (int i = 0; i < 3; i++) {
		end_behind(one, T_LEN(one), false);
		end_behind(small_big, T_LEN(small_big), false);
		end_behind(many, T_LEN(many), true);
	}
	/* It did go by both ways. */
	t_open_hot(&pair);
	fall_asleep(pair.b);
	moved = t_moved_begin(pair.a);
	t_send(pair.a, BIG, 7, 0);
	T_OK(shutdown(pair.a, SHUT_WR));
	wait_for_end(pair.b);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), BIG);
	t_moved_end(pair.a, moved);
	t_close(&pair);
	return 0;
}
