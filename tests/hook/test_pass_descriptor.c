// SPDX-License-Identifier: Apache-2.0
/* SCM_RIGHTS: a moved stream goes to another process, which goes on where the first was.
 * HAZARDS 15. */

#include "t.h"

static int channel[2];

static void give(int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char byte = 'f';
	struct iovec vec = {&byte, 1};
	struct msghdr msg = {.msg_iov = &vec,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	T_EQ(T_OK(sendmsg(channel[0], &msg, 0)), 1);
}

static int take(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec vec = {&byte, 1};
	struct msghdr msg = {.msg_iov = &vec,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int fd;

	T_EQ(T_OK(recvmsg(channel[1], &msg, 0)), 1);
	T_CHECK(CMSG_FIRSTHDR(&msg) && CMSG_FIRSTHDR(&msg)->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Forked before the stream exists: all that it knows of it is the descriptor. */
static void worker(void *arg)
{
	int fd;

	(void)arg;
	T_OK(close(channel[0]));
	fd = take();
	t_recv(fd, 5000, 3, 0);
	t_send(fd, 5000, 4, 0);
	for (int i = 0; i < 50; i++) {
		t_recv(fd, 500, 5, 0);
		t_send(fd, 500, 6, 0);
	}
	T_OK(close(fd));
}

int main(void)
{
	struct t_pair pair;
	uint8_t byte;
	pid_t pid;

	for (int unread = 0; unread < 2; unread++) {
		T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, channel));
		pid = t_child(worker, NULL);
		T_OK(close(channel[1]));
		t_open_hot(&pair);
		if (unread)
			t_send(pair.a, 5000, 3, 0);
		give(pair.b);
		T_OK(close(pair.b));
		if (!unread)
			t_send(pair.a, 5000, 3, 0);
		t_recv(pair.a, 5000, 4, 0);
		for (int i = 0; i < 50; i++) {
			t_send(pair.a, 500, 5, 0);
			t_recv(pair.a, 500, 6, 0);
		}
		T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
		t_join(pid);
		T_OK(close(pair.a));
		T_OK(close(channel[0]));
	}
	return 0;
}
