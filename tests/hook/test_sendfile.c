// SPDX-License-Identifier: Apache-2.0
/*
 * sendfile and splice: with and without an offset, short at the end of the file, the file's own
 * position moved or not. HAZARDS 8.
 */

#include <sys/sendfile.h>

#include "t.h"

#define FILE_BYTES 50000u

static struct t_pair pair;
static int file;

static void with_offset(void)
{
	off_t offset = 1000;

	T_OK(lseek(file, 77, SEEK_SET));
	T_EQ(T_OK(sendfile(pair.a, file, &offset, 9000)), 9000);
	T_EQ(offset, 10000);
	T_EQ(T_OK(lseek(file, 0, SEEK_CUR)), 77);
	t_recv(pair.b, 9000, 3, 1000);
}

static void without_offset(void)
{
	T_OK(lseek(file, 2000, SEEK_SET));
	T_EQ(T_OK(sendfile(pair.a, file, NULL, 9000)), 9000);
	T_EQ(T_OK(lseek(file, 0, SEEK_CUR)), 11000);
	t_recv(pair.b, 9000, 3, 2000);
}

static void at_end(void)
{
	off_t offset = FILE_BYTES - 500;

	T_EQ(T_OK(sendfile(pair.a, file, &offset, 9000)), 500);
	T_EQ(offset, FILE_BYTES);
	T_EQ(T_OK(sendfile(pair.a, file, &offset, 9000)), 0);
	T_EQ(T_OK(sendfile(pair.a, file, NULL, 0)), 0);
	t_recv(pair.b, 500, 3, FILE_BYTES - 500);
}

static void send_all(void *arg)
{
	off_t offset = 0;

	(void)arg;
	while (offset < (off_t)FILE_BYTES)
		T_CHECK(T_OK(sendfile(pair.a, file, &offset, FILE_BYTES)) > 0);
}

static void whole(void)
{
	struct t_thread sender;

	for (int i = 0; i < 10; i++) {
		t_thread_start(&sender, send_all, NULL);
		t_recv(pair.b, FILE_BYTES, 3, 0);
		t_thread_join(&sender);
	}
}

/* Between ordinary sends: order is kept. */
static void mixed(void)
{
	off_t offset = 100;

	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(sendfile(pair.a, file, &offset, 4000)), 4000);
	t_send(pair.a, 100, 3, 4100);
	t_recv(pair.b, 4200, 3, 0);
}

static void errors(void)
{
	off_t negative = -1;

	T_ERR(sendfile(pair.a, pair.b, NULL, 10), EINVAL);
	T_ERR(sendfile(pair.a, file, &negative, 10), EINVAL);
	T_ERR(sendfile(pair.a, 777, NULL, 10), EBADF);
}

/* Out of the stream into a pipe, and out of a pipe into the stream. */
static void splices(void)
{
	uint8_t buf[3000];
	size_t got = 0;
	int ends[2];

	T_OK(pipe(ends));
	t_send(pair.a, sizeof(buf), 3, 0);
	while (got < sizeof(buf)) {
		const ssize_t n = (ssize_t)T_OK(splice(pair.b, NULL, ends[1], NULL, 3000 - got, 0));

		T_CHECK(n > 0);
		T_EQ(T_OK(read(ends[0], buf, (size_t)n)), n);
		t_verify(buf, (size_t)n, 3, got);
		got += (size_t)n;
	}
	t_fill(buf, sizeof(buf), 4, 0);
	T_EQ(T_OK(write(ends[1], buf, sizeof(buf))), sizeof(buf));
	T_EQ(T_OK(splice(ends[0], NULL, pair.a, NULL, sizeof(buf), 0)), sizeof(buf));
	t_recv(pair.b, sizeof(buf), 4, 0);
	T_OK(close(ends[0]));
	T_OK(close(ends[1]));
}

int main(void)
{
	static uint8_t content[FILE_BYTES];
	uint64_t moved;

	file = (int)T_OK(open(".", O_TMPFILE | O_RDWR, 0600));
	t_fill(content, sizeof(content), 3, 0);
	T_EQ(T_OK(write(file, content, sizeof(content))), sizeof(content));
	t_open_hot(&pair);
	moved = t_moved_begin(pair.a);
	for (int i = 0; i < 3; i++) {
		t_hot(&pair);
		with_offset();
		without_offset();
		at_end();
		mixed();
	}
	whole();
	t_moved_end(pair.a, moved);
	errors();
	t_hot(&pair);
	splices();
	t_hot(&pair);
	t_close(&pair);
	T_OK(close(file));
	return 0;
}
