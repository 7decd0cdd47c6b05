// SPDX-License-Identifier: Apache-2.0
/* echo_static.c - linked statically, so never preloaded: what comes on 0 goes out on 1 */

#include <unistd.h>

int main(void)
{
	char buf[4096];
	ssize_t n, done;

	while ((n = read(0, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n; at += done)
			if ((done = write(1, buf + at, (size_t)(n - at))) <= 0)
				return 1;
	return n < 0;
}
