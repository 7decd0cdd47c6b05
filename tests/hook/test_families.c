// SPDX-License-Identifier: Apache-2.0
/* IPv4, IPv6, and IPv4 to a dual-stack listener, which names its peer ::ffff:a.b.c.d. HAZARDS 5. */

#include "t.h"

int main(void)
{
	for (int family = T_V4; family <= T_MAPPED; family++) {
		struct sockaddr_in6 name;
		socklen_t len = sizeof(name);
		struct t_pair pair;
		uint64_t moved_a, moved_b;

		t_open(&pair, (enum t_family)family);
		t_warm(&pair);
		t_hot(&pair);
		moved_a = t_moved_begin(pair.a);
		moved_b = t_moved_begin(pair.b);
		for (int i = 0; i < 20; i++) {
			t_send(pair.a, 3000, 3, 0);
			t_recv(pair.b, 3000, 3, 0);
			t_send(pair.b, 3000, 4, 0);
			t_recv(pair.a, 3000, 4, 0);
		}
		t_moved_end(pair.a, moved_a);
		t_moved_end(pair.b, moved_b);
		T_OK(getpeername(pair.b, (struct sockaddr *)&name, &len));
		T_EQ(name.sin6_family, family == T_V4 ? AF_INET : AF_INET6);
		if (family == T_MAPPED)
			T_CHECK(IN6_IS_ADDR_V4MAPPED(&name.sin6_addr));
		t_close(&pair);
	}
	return 0;
}
