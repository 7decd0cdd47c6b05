// SPDX-License-Identifier: Apache-2.0
/*
 * A number that is handed out again means the new thing only: after close and open, dup2 of a file
 * onto a moved number (a log file once landed in a ring), close_range, closefrom, pipe, accept, and
 * the JDK's dup2 of a shut-down socket that wakes a blocked reader. HAZARDS 4, 16, 17, 18, 19.
 */

#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "t.h"

static struct t_pair pair;

/* @fd is a regular file: what is written to it is found in it. */
static void is_file(int fd)
{
	char back[8] = "";

	T_EQ(T_OK(write(fd, "to file", 7)), 7);
	T_EQ(T_OK(pread(fd, back, 7, 0)), 7);
	T_CHECK(!strcmp(back, "to file"));
	T_ERR(send(fd, "x", 1, 0), ENOTSOCK);
}

static int temp_file(void)
{
	return (int)T_OK(open(".", O_TMPFILE | O_RDWR, 0600));
}

/* A moved pair, and no free number below it: what is opened after a close gets that number. */
static int open_plugged(void)
{
	t_open_hot(&pair);
	return (int)T_OK(dup(0)); /* the listener's */
}

static void reopened(void)
{
	const int plug = open_plugged();
	uint8_t byte;
	int fd;

	T_OK(close(pair.b));
	fd = temp_file();
	T_EQ(fd, pair.b);
	is_file(fd);
	T_OK(close(fd));
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);

	fd = (int)T_OK(eventfd(3, 0));
	T_EQ(fd, pair.b);
	T_OK(close(fd));
	T_OK(close(pair.a));
	T_OK(close(plug));
}

static void file_over_stream(void)
{
	const int file = temp_file();
	uint8_t byte;

	t_open_hot(&pair);
	T_EQ(T_OK(dup2(file, pair.b)), pair.b);
	is_file(pair.b);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	t_close(&pair);
	T_OK(close(file));
}

static void stream_over_stream(void)
{
	struct t_pair other;
	uint8_t byte;

	t_open_hot(&pair);
	t_open_hot(&other);
	T_EQ(T_OK(dup2(other.b, pair.b)), pair.b);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(other.b));
	T_OK(close(pair.a));
	other.b = pair.b;
	t_hot(&other);
	t_send(other.a, 5000, 3, 0);
	t_recv(other.b, 5000, 3, 0);
	t_close(&other);
}

/* The next stream that gets the number of an earlier one is its own. */
static void next_stream(void)
{
	struct t_pair again;

	t_open_hot(&pair);
	t_send(pair.a, 1000, 3, 0); /* left unread */
	t_close(&pair);
	for (int i = 0; i < 20; i++) {
		t_open(&again, T_V4);
		t_send(again.a, 1000, 4, 0);
		t_recv(again.b, 1000, 4, 0);
		t_send(again.b, 1000, 5, 0);
		t_recv(again.a, 1000, 5, 0);
		t_close(&again);
	}
}

static void ranges(void)
{
	uint8_t byte;
	int plug;

	t_open_hot(&pair);
	T_EQ(T_OK(dup2(pair.b, 100)), 100);
	T_OK(close(pair.b));
	T_OK(close_range(90, 110, 0));
	T_ERR(recv(100, &byte, 1, 0), EBADF);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(pair.a));

	t_open_hot(&pair);
	T_OK(dup2(pair.b, 100));
	T_OK(close(pair.b));
	closefrom(100);
	T_ERR(recv(100, &byte, 1, 0), EBADF);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(pair.a));

	/* By the bare system call, as libuv does. HAZARDS 3 */
	plug = open_plugged();
	T_OK(syscall(SYS_close, pair.b));
	T_EQ(temp_file(), pair.b);
	is_file(pair.b);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	t_close(&pair);
	T_OK(close(plug));

	/* A program that closes everything: later streams are just streams. */
	T_OK(close_range(3, ~0U, 0));
	t_open(&pair, T_V4);
	T_EQ(pair.a, 4);
	t_send(pair.a, 1000, 3, 0);
	t_recv(pair.b, 1000, 3, 0);
	t_close(&pair);
}

static void read_nothing(void *arg)
{
	uint8_t byte;

	(void)arg;
	T_EQ(T_OK(recv(pair.b, &byte, 1, 0)), 0);
}

/* The kernel's call goes on with the old socket: only its end wakes the reader. */
static void dup2_under_reader(void)
{
	struct t_thread reader;
	int dead[2];
	uint8_t byte;

	t_open_hot(&pair);
	T_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, dead));
	T_OK(shutdown(dead[0], SHUT_RDWR));
	t_thread_start(&reader, read_nothing, NULL);
	t_wait_asleep(reader.tid);
	T_EQ(T_OK(dup2(dead[0], pair.b)), pair.b);
	T_EQ(T_OK(recv(pair.b, &byte, 1, 0)), 0); /* the new meaning */
	T_OK(shutdown(pair.a, SHUT_WR));
	t_thread_join(&reader);
	t_close(&pair);
	T_OK(close(dead[0]));
	T_OK(close(dead[1]));
}

int main(void)
{
	reopened();
	file_over_stream();
	stream_over_stream();
	next_stream();
	dup2_under_reader();
	ranges();
	return 0;
}
