// SPDX-License-Identifier: Apache-2.0
/*
 * A program whose stdout is a stream writes to it by stdio and by write(2), in turns and in pieces
 * of all sizes: stdio's bytes are sent by TCP without a hook, beside a ring that is used. Every way
 * to read gets all of it, in order and at once: now and then the writer waits until everything has
 * been read. HAZARDS 4.
 */
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "t.h"

#define STEPS	  600
#define SEED	  77
#define PIECE_MAX 70000u

/* Shared by the two processes. */
static struct {
	uint64_t got; /* by the reader */
	bool at_once; /* the writer waits for it at times */
} * common;

static struct t_pair pair;

/* ---- the writer --------------------------------------------------------------------------------
 */

static size_t piece(unsigned int *rnd)
{
	static const unsigned int most[] = {8, 600, 5000, PIECE_MAX};

	return 1 + (unsigned int)rand_r(rnd) % most[rand_r(rnd) % T_LEN(most)];
}

static void by_write(const char *buf, size_t len)
{
	size_t done;
	ssize_t n;

	for (done = 0; done < len; done += (size_t)n) {
		n = write(STDOUT_FILENO, buf + done, len - done);
		T_CHECK(n > 0);
	}
}

static void write_all(void *unused)
{
	static char buf[PIECE_MAX];
	uint64_t at = 0, moved;
	unsigned int rnd = SEED;
	int i;

	(void)unused;
	T_EQ(close(pair.a), 0);
	T_EQ(dup2(pair.b, STDOUT_FILENO), STDOUT_FILENO);
	T_EQ(close(pair.b), 0);
	moved = t_moved_begin(STDOUT_FILENO);
	for (i = 0; i < STEPS; i++) {
		const size_t len = piece(&rnd);

		t_fill(buf, len, SEED, at);
		if (rand_r(&rnd) % 4) {
			by_write(buf, len);
		} else {
			T_EQ(fwrite(buf, 1, len, stdout), len);
			T_EQ(fflush(stdout), 0);
		}
		at += len;
		if (common->at_once && rand_r(&rnd) % 4 == 0)
			while (__atomic_load_n(&common->got, __ATOMIC_ACQUIRE) < at)
				sched_yield();
	}
	t_moved_end(STDOUT_FILENO, moved);
}

/* ---- readers: each returns at the end of the stream --------------------------------------------
 */

static char buf[4 * PIECE_MAX];
static unsigned int reader_rnd;

static size_t room(void)
{
	return 1 + (unsigned int)rand_r(&reader_rnd) %
			   (unsigned int)(rand_r(&reader_rnd) % 3 ? sizeof(buf) : 100);
}

static void take(size_t n)
{
	t_verify(buf, n, SEED, common->got);
	__atomic_store_n(&common->got, common->got + n, __ATOMIC_RELEASE);
}

/* One receive. false: the end; *ret_n: bytes, or -1 for EAGAIN */
static bool receive(int fd, size_t len, int flags, ssize_t *ret_n)
{
	*ret_n = recv(fd, buf, len, flags);
	T_CHECK(*ret_n >= 0 || errno == EAGAIN);
	if (*ret_n > 0)
		take((size_t)*ret_n);
	return *ret_n != 0;
}

static void blocking(int fd)
{
	ssize_t n;

	while (receive(fd, room(), 0, &n))
		;
}

static void wait_all(int fd)
{
	ssize_t n;

	while (receive(fd, room(), MSG_WAITALL, &n))
		;
}

static void polling(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n;

	do
		T_EQ(poll(&p, 1, -1), 1);
	while (receive(fd, room(), MSG_DONTWAIT, &n));
}

/* All that is queued can be peeked at, and then read. */
static void peeking(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int queued;
	ssize_t n;

	for (;;) {
		T_EQ(poll(&p, 1, -1), 1);
		T_EQ(ioctl(fd, FIONREAD, &queued), 0);
		if (queued > (int)sizeof(buf))
			queued = sizeof(buf);
		n = recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
		T_CHECK(n >= queued);
		if (!n)
			return;
		t_verify(buf, (size_t)n, SEED, common->got);
		T_EQ(recv(fd, buf, (size_t)n, MSG_WAITALL), n);
		take((size_t)n);
	}
}

static int set_of(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events};
	const int set = epoll_create1(0);

	T_CHECK(set >= 0);
	T_EQ(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
	t_set_nonblock(fd, true);
	return set;
}

static void level(int fd)
{
	const int set = set_of(fd, EPOLLIN);
	struct epoll_event event;
	ssize_t n;

	do
		T_EQ(epoll_wait(set, &event, 1, -1), 1);
	while (receive(fd, room(), 0, &n));
	T_EQ(close(set), 0);
}

/* Reads on until there is nothing, or until a receive got less than it had room for. */
static void edges(int fd, bool until_short)
{
	const int set = set_of(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
	struct epoll_event event;
	bool over = false;
	size_t len;
	ssize_t n;

	while (!over) {
		T_EQ(epoll_wait(set, &event, 1, -1), 1);
		do {
			len = room();
			over = !receive(fd, len, 0, &n);
			/* The end makes an edge, too; it may have been told with the last bytes. */
		} while (!over && n > 0 &&
			 !(until_short && (size_t)n < len && !(event.events & EPOLLRDHUP)));
	}
	T_EQ(close(set), 0);
}

static void edge(int fd)
{
	edges(fd, false);
}

static void edge_short(int fd)
{
	edges(fd, true);
}

/* A reader that is stopped while it sleeps in the kernel takes all that comes there meanwhile. */
static void read_stopped(void *unused)
{
	ssize_t n;

	(void)unused;
	T_EQ(close(pair.b), 0);
	while (receive(pair.a, sizeof(buf), 0, &n))
		;
}

static void run_stopped(void)
{
	const int before = dup(STDOUT_FILENO);
	char bytes[30000];
	int i, status;
	pid_t pid;

	t_open_hot(&pair);
	common->got = 0;
	pid = t_child(read_stopped, NULL);
	T_EQ(close(pair.a), 0);
	T_EQ(dup2(pair.b, STDOUT_FILENO), STDOUT_FILENO);
	T_EQ(close(pair.b), 0);
	t_fill(bytes, sizeof(bytes), SEED, 0);
	for (i = 0; i < 3; i++) {
		t_wait_asleep(pid);
		T_EQ(kill(pid, SIGSTOP), 0);
		T_EQ(waitpid(pid, &status, WUNTRACED), pid);
		T_CHECK(WIFSTOPPED(status));
		by_write(bytes + i * 10000, 9000);
		T_EQ(fwrite(bytes + i * 10000 + 9000, 1, 1000, stdout), 1000);
		T_EQ(fflush(stdout), 0);
		T_EQ(kill(pid, SIGCONT), 0);
		while (__atomic_load_n(&common->got, __ATOMIC_ACQUIRE) <
		       (unsigned int)(i + 1) * 10000)
			T_EQ(waitpid(pid, NULL, WNOHANG), 0);
	}
	T_EQ(dup2(before, STDOUT_FILENO), STDOUT_FILENO);
	T_EQ(close(before), 0);
	t_join(pid);
}

int main(void)
{
	static const struct {
		void (*read)(int fd);
		bool at_once;
	} readers[] = {{blocking, true}, {wait_all, false}, {polling, true},   {peeking, true},
		       {level, true},	 {edge, true},	    {edge_short, true}};
	pid_t pid;
	size_t i;

	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	T_CHECK(common != MAP_FAILED);
	for (i = 0; i < T_LEN(readers); i++) {
		common->got = 0;
		common->at_once = readers[i].at_once;
		reader_rnd = SEED + (unsigned int)i;
		t_open_hot(&pair);
		pid = t_child(write_all, NULL);
		T_EQ(close(pair.b), 0);
		readers[i].read(pair.a);
		T_EQ(close(pair.a), 0);
		t_join(pid);
	}
	run_stopped();
	return 0;
}
