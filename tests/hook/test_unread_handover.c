// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes that were sent but not yet read belong to whoever reads next, also when that is code which
 * knows no ring: stdio after fdopen. HAZARDS 4.
 */

#include "t.h"

static struct t_pair pair;

static void by_stdio(void)
{
	char line[64];
	FILE *in;

	t_open_hot(&pair);
	T_EQ(T_OK(send(pair.b, "first line\nsecond line\n", 23, 0)), 23);
	in = fdopen(dup(pair.a), "r");
	T_CHECK(in);
	T_CHECK(fgets(line, sizeof(line), in) && !strcmp(line, "first line\n"));
	T_CHECK(fgets(line, sizeof(line), in) && !strcmp(line, "second line\n"));
	T_EQ(fclose(in), 0);
	t_close(&pair);
}

int main(void)
{
	by_stdio();
	return 0;
}
