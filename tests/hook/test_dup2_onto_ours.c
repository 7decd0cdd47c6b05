// SPDX-License-Identifier: Apache-2.0
/*
 * dup2 and dup3 onto numbers that are free to the program, but taken by the library: they mean the
 * program's file from then on, nothing of the library's is ever written to it, and the library goes
 * on with what it had there: a stream still gets its ring, sleepers in poll and epoll still wake
 * up. HAZARDS 16, 17.
 */

#include <sys/epoll.h>
#include <sys/stat.h>

#include "t.h"

#define FIRST 64 /* the test's own numbers lie below */
#define LAST  1100

static struct t_pair pair;

static void sleep_in_poll(void *arg)
{
	struct pollfd p = {.fd = pair.b, .events = POLLIN};

	(void)arg;
	T_EQ(T_OK(poll(&p, 1, 4000)), 1);
	t_recv(pair.b, 100, 3, 0);
}

static void sleep_in_epoll(void *arg)
{
	const int epfd = *(int *)arg;
	struct epoll_event event;

	T_EQ(T_OK(epoll_wait(epfd, &event, 1, 4000)), 1);
	t_recv(pair.b, 100, 3, 0);
}

/* Each time the stream is made busy under the sleeper, who must be told. */
static void under_sleepers(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epfd = (int)T_OK(epoll_create1(0));
	struct t_thread sleeper;

	for (int i = 0; i < 5; i++) {
		t_thread_start(&sleeper, sleep_in_poll, NULL);
		t_wait_asleep(sleeper.tid);
		t_send(pair.a, 100, 3, 0);
		t_thread_join(&sleeper);

		t_hot(&pair);
		t_send(pair.a, 100, 3, 0);
		t_thread_start(&sleeper, sleep_in_epoll, &epfd);
		t_wait_asleep(sleeper.tid);
		T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
		t_thread_join(&sleeper);
		T_OK(epoll_ctl(epfd, EPOLL_CTL_DEL, pair.b, NULL));
	}
	T_OK(close(epfd));
}

int main(void)
{
	const int file = (int)T_OK(open(".", O_TMPFILE | O_RDWR, 0600));
	struct stat want, st;
	static bool taken[LAST];
	int ours = 0;

	t_open_hot(&pair);
	under_sleepers();
	T_OK(fstat(file, &want));
	for (int fd = FIRST; fd < LAST; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		taken[fd] = true;
		T_EQ(T_OK(ours++ % 2 ? dup2(file, fd) : dup3(file, fd, O_CLOEXEC)), fd);
	}
	T_CHECK(t_mode() == T_TCP || ours);

	under_sleepers();
	t_close(&pair);
	t_open_hot(&pair);
	under_sleepers();
	t_close(&pair);
	for (int fd = FIRST; fd < LAST; fd++) {
		if (!taken[fd])
			continue;
		T_OK(fstat(fd, &st));
		T_EQ(st.st_ino, want.st_ino);
		T_EQ(st.st_size, 0);
		T_OK(close(fd));
	}
	return 0;
}
