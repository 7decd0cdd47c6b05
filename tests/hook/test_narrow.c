// SPDX-License-Identifier: Apache-2.0
/*
 * Streams in narrow places: no free descriptor is left, the root is an empty folder, the user has
 * changed, no file may be written. The connection carries every byte, and the program meets the
 * kernel's errors only. HAZARDS 42.
 */

#include <sys/resource.h>
#include <sys/stat.h>

#include "t.h"

static void use(const struct t_pair *pair)
{
	for (int i = 0; i < 20; i++) {
		t_send(pair->a, 9000, 3, 0);
		t_recv(pair->b, 9000, 3, 0);
		t_send(pair->b, 9000, 4, 0);
		t_recv(pair->a, 9000, 4, 0);
	}
}

/* The streams are moved before and made within. */
static void in_place(void (*narrow)(void))
{
	struct t_pair before, within;

	t_open_hot(&before);
	narrow();
	use(&before);
	t_open(&within, T_V4);
	use(&within);
	t_close(&within);
	t_close(&before);
}

static void few_descriptors(void)
{
	const int next = (int)T_OK(dup(0));
	struct rlimit limit;

	T_OK(close(next));
	T_OK(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = (rlim_t)next + 5; /* two ends that are open, a listener, two more */
	T_OK(setrlimit(RLIMIT_NOFILE, &limit));
}

static void empty_root(void)
{
	T_OK(mkdir("empty", 0755));
	T_OK(chroot("empty"));
	T_OK(chdir("/"));
}

static void other_user(void)
{
	T_OK(setgid(65534));
	T_OK(setuid(65534));
}

static void no_files(void)
{
	const struct rlimit none = {0, 0};

	T_EQ(signal(SIGXFSZ, SIG_IGN) == SIG_ERR, 0);
	T_OK(setrlimit(RLIMIT_FSIZE, &none));
}

static void (*const places[])(void) = {few_descriptors, no_files, empty_root, other_user};

static void child(void *arg)
{
	in_place(places[(size_t)(intptr_t)arg]);
}

int main(void)
{
	struct t_pair pair;

	for (size_t i = 0; i < T_LEN(places); i++) {
		if (i >= 2 && geteuid() != 0)
			break; /* these take root */
		t_join(t_child(child, (void *)(intptr_t)i));
	}
	t_open_hot(&pair);
	use(&pair);
	t_close(&pair);
	return 0;
}
