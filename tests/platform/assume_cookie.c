/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: SO_COOKIE names a socket, not a descriptor (the same for dup, a forked child and a passed
 * descriptor), and no two sockets share one, in this network namespace and in another. A stream's
 * record is found by it.
 */
#include <sched.h>

#include "t.h"

#define MANY 2000

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	T_OK(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len));
	return cookie;
}

static uint64_t cookie_of_new(void)
{
	const int fd = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));
	const uint64_t cookie = cookie_of(fd);

	T_OK(close(fd));
	return cookie;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int passed(int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c;
	int ends[2], got;

	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	T_EQ(sendmsg(ends[0], &msg, 0), 1);
	T_EQ(recvmsg(ends[1], &msg, 0), 1);
	c = CMSG_FIRSTHDR(&msg);
	T_CHECK(c && c->cmsg_type == SCM_RIGHTS);
	memcpy(&got, CMSG_DATA(c), sizeof(got));
	T_OK(close(ends[0]));
	T_OK(close(ends[1]));
	return got;
}

/* The other half of the cookies are made in a network namespace of its own. */
static void in_other_namespace(void *arg)
{
	const int out = *(int *)arg;
	uint64_t cookie;
	int i;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		exit(0); /* writes nothing: not permitted here */
	for (i = 0; i < MANY; i++) {
		cookie = cookie_of_new();
		T_EQ(write(out, &cookie, sizeof(cookie)), (ssize_t)sizeof(cookie));
	}
}

static void check_child(void *arg)
{
	const uint64_t *want = arg;

	T_EQ(cookie_of((int)want[0]), want[1]);
}

int main(void)
{
	static uint64_t all[2 * MANY];
	uint64_t known[2];
	struct t_pair pair;
	int pipe_fds[2];
	size_t count = MANY, i;
	FILE *in;
	pid_t pid;

	t_open(&pair, T_V4);
	known[0] = (uint64_t)pair.a;
	known[1] = cookie_of(pair.a);
	T_EQ(cookie_of((int)T_OK(dup(pair.a))), known[1]);
	T_EQ(cookie_of(passed(pair.a)), known[1]);
	t_join(t_child(check_child, known));
	T_CHECK(cookie_of(pair.b) != known[1]);
	printf("dup, fork and SCM_RIGHTS keep cookie %llx\n", (unsigned long long)known[1]);

	T_OK(pipe(pipe_fds));
	pid = t_child(in_other_namespace, &pipe_fds[1]);
	T_OK(close(pipe_fds[1]));
	for (i = 0; i < MANY; i++)
		all[i] = cookie_of_new();
	in = fdopen(pipe_fds[0], "r");
	T_CHECK(in);
	count += fread(&all[MANY], sizeof(all[0]), MANY, in);
	t_join(pid);
	qsort(all, count, sizeof(all[0]), by_value);
	for (i = 1; i < count; i++)
		T_CHECK(all[i] != all[i - 1]);
	printf("%zu sockets, %zu of them in another network namespace: no cookie twice\n", count,
	       count - MANY);
	if (count == MANY)
		t_skip("no network namespace may be made here");
	T_EQ(count, 2 * MANY);
	return 0;
}
