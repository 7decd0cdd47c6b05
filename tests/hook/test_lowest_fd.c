// SPDX-License-Identifier: Apache-2.0
/* Programs rely on "the lowest free number": nothing of the library lies in between. HAZARDS 16. */

#include "t.h"

#define LIMIT 100

static void next_is(int want)
{
	const int fd = (int)T_OK(dup(0));

	T_EQ(fd, want);
	T_OK(close(fd));
}

int main(void)
{
	struct t_pair pair;

	for (int fd = 3; fd < LIMIT; fd++)
		close(fd);
	next_is(3);
	t_open_hot(&pair);
	T_EQ(pair.a, 4); /* behind the listener */
	T_EQ(pair.b, 5);
	next_is(3);
	T_OK(close(pair.b));
	T_OK(close(pair.a));
	for (int fd = 3; fd < LIMIT; fd++)
		T_ERR(fcntl(fd, F_GETFD), EBADF);
	next_is(3);
	return 0;
}
