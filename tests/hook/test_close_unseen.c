// SPDX-License-Identifier: Apache-2.0
/*
 * A moved number that is closed out of the library's sight, by fclose or by a bare instruction, and
 * handed out again by each call that hands out numbers: it means the new thing only. And
 * close_range with flags. HAZARDS 4, 16, 19.
 */

#include <linux/close_range.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "t.h"

static struct t_pair pair;

/* As Go's runtime, or a JIT, would do it. */
static long bare_close(int fd)
{
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"((long)SYS_close), "D"((long)fd)
			 : "rcx", "r11", "memory");
	return rc;
}

static int dev_null(void)
{
	return open("/dev/null", O_RDWR);
}

static int at_dev_null(void)
{
	return openat(AT_FDCWD, "/dev/null", O_RDWR);
}

static int a_socket(void)
{
	return socket(AF_UNIX, SOCK_DGRAM, 0);
}

static int a_pair(void)
{
	int fds[2];

	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	T_OK(close(fds[1]));
	return fds[0];
}

static int a_pipe(void)
{
	int fds[2];

	T_OK(pipe(fds));
	T_OK(close(fds[1]));
	return fds[0];
}

static int an_eventfd(void)
{
	return eventfd(0, 0);
}

static int a_timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, 0);
}

static int a_set(void)
{
	return epoll_create1(0);
}

static int a_copy(void)
{
	return dup(0);
}

static int a_copy_from(void)
{
	return fcntl(0, F_DUPFD, 3);
}

static int a_connection(void)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, other, listener;

	/* The number under test is the lowest: keep it free until accept takes it. */
	const int first = dev_null();

	listener = t_listen(T_V4, &addr, &len);
	other = (int)T_OK(socket(AF_INET, SOCK_STREAM, 0));
	T_OK(connect(other, (struct sockaddr *)&addr, len));
	T_EQ(bare_close(first), 0);
	fd = (int)T_OK(accept(listener, NULL, NULL));
	T_EQ(T_OK(send(other, "new", 3, 0)), 3);
	{
		char buf[8] = "";

		T_EQ(T_OK(recv(fd, buf, sizeof(buf), 0)), 3);
		T_CHECK(!memcmp(buf, "new", 3));
		T_EQ(T_OK(send(fd, "back", 4, 0)), 4);
		T_EQ(T_OK(recv(other, buf, sizeof(buf), 0)), 4);
		T_CHECK(!memcmp(buf, "back", 4));
	}
	T_OK(close(other));
	T_OK(close(listener));
	return fd;
}

static int (*const makers[])(void) = {dev_null, at_dev_null, a_socket,	  a_pair,
				      a_pipe,	an_eventfd,  a_timer,	  a_set,
				      a_copy,	a_copy_from, a_connection};

/* Not the old stream: that would say 0 or take the bytes. */
static void is_new(int fd, size_t maker)
{
	struct stat st;
	uint8_t byte;

	T_OK(fstat(fd, &st));
	if (!S_ISSOCK(st.st_mode))
		T_ERR(recv(fd, &byte, 1, MSG_DONTWAIT), ENOTSOCK);
	else if (makers[maker] == a_socket)
		T_ERR(recv(fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
	else
		T_EQ(T_OK(recv(fd, &byte, 1, MSG_DONTWAIT)), 0);
}

static void handed_out_again(bool by_stdio)
{
	for (size_t i = 0; i < T_LEN(makers); i++) {
		uint8_t byte;
		int plug, fd;

		t_open_hot(&pair);
		plug = (int)T_OK(dup(0)); /* the listener's number */
		if (by_stdio) {
			FILE *file = fdopen(pair.b, "r");

			T_CHECK(file);
			T_EQ(fclose(file), 0);
		} else {
			T_EQ(bare_close(pair.b), 0);
		}
		fd = (int)T_OK(makers[i]());
		T_EQ(fd, pair.b);
		T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
		is_new(fd, i);
		T_OK(close(fd));
		T_OK(close(pair.a));
		T_OK(close(plug));
	}
}

/* To be closed at exec: until then it is the stream. */
static void range_flags(void)
{
	uint8_t byte;

	t_open_hot(&pair);
	T_OK(dup2(pair.b, 100));
	T_OK(close_range(100, 100, CLOSE_RANGE_CLOEXEC));
	T_EQ(T_OK(fcntl(100, F_GETFD)), FD_CLOEXEC);
	for (int i = 0; i < 10; i++) {
		t_send(pair.a, 500, 3, 0);
		t_recv(100, 500, 3, 0);
	}
	T_OK(close_range(100, 100, CLOSE_RANGE_UNSHARE));
	T_ERR(recv(100, &byte, 1, 0), EBADF);
	T_ERR(close_range(101, 100, 0), EINVAL);
	T_ERR(close_range(100, 101, 1u << 20), EINVAL);
	t_hot(&pair);
	t_close(&pair);
}

int main(void)
{
	handed_out_again(false);
	handed_out_again(true);
	range_flags();
	return 0;
}
