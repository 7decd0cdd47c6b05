// SPDX-License-Identifier: Apache-2.0
/*
 * Sets as long as the caller likes, on a small stack: thousands of entries in poll, numbers beyond
 * FD_SETSIZE in select, as many events as memory holds in epoll_wait; what is not told is not
 * touched. HAZARDS 27, 30.
 */

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>

#include "t.h"

#define ENTRIES	 16000
#define HIGH	 5000
#define STACK_KB 128

static struct t_pair pair;
static struct pollfd *set;
static nfds_t count;

static void by_poll(void)
{
	for (nfds_t i = 0; i < count; i++)
		set[i] = (struct pollfd){-1 - (int)i, POLLIN, 0x55};
	set[count - 1] = (struct pollfd){pair.b, POLLIN | POLLRDNORM, 0};
	set[count / 2] = (struct pollfd){pair.b, POLLOUT, 0};
	T_EQ(T_OK(poll(set, count, 0)), 1);
	t_send(pair.a, 100, 3, 0);
	set[count / 2].events = POLLPRI;
	T_EQ(T_OK(poll(set, count, 1000)), 1);
	T_EQ(set[count - 1].revents, POLLIN | POLLRDNORM);
	T_EQ(set[count / 2].revents, 0);
	for (nfds_t i = 0; i < count / 2; i++) {
		T_EQ(set[i].revents, 0);
		T_EQ(set[i].fd, -1 - (int)i);
		T_EQ(set[i].events, POLLIN);
	}
	t_recv(pair.b, 100, 3, 0);
}

static void by_select(void)
{
	static fd_set wide[(HIGH + FD_SETSIZE) / FD_SETSIZE];
	struct timeval second = {.tv_sec = 1};
	unsigned long *words = (unsigned long *)(void *)wide;
	const int bits = 8 * sizeof(*words);

	T_EQ(T_OK(dup2(pair.b, HIGH)), HIGH);
	memset(wide, 0, sizeof(wide));
	words[HIGH / bits] |= 1ul << HIGH % bits;
	words[pair.b / bits] |= 1ul << pair.b % bits;
	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(select(HIGH + 1, wide, NULL, NULL, &second)), 2);
	T_CHECK(words[HIGH / bits] == 1ul << HIGH % bits);
	t_recv(HIGH, 100, 3, 0);
	second = (struct timeval){0};
	T_EQ(T_OK(select(HIGH + 1, wide, NULL, NULL, &second)), 0);
	T_CHECK(!words[HIGH / bits]);
	T_OK(close(HIGH));
}

static void by_epoll(void)
{
	const int max = 100000, epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	volatile const int none = -1, too_many = 1 << 30; /* or the compiler complains */
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
	struct epoll_event *events = malloc((size_t)max * sizeof(*events));

	T_CHECK(events);
	memset(events, 0x55, (size_t)max * sizeof(*events));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	t_send(pair.a, 100, 3, 0);
	T_EQ(T_OK(epoll_wait(epfd, events, max, 1000)), 1);
	T_EQ(events[0].data.u64, 7);
	for (int i = 1; i < max; i++)
		T_EQ(events[i].events, 0x55555555);
	T_ERR(epoll_wait(epfd, events, none, 0), EINVAL);
	T_ERR(epoll_wait(epfd, events, too_many, 0), EINVAL);
	t_recv(pair.b, 100, 3, 0);
	free(events);
	T_OK(close(epfd));
}

static void *small_stack(void *arg)
{
	for (int i = 0; i < 5; i++) {
		t_hot(&pair);
		by_poll();
		t_hot(&pair);
		by_select();
		t_hot(&pair);
		by_epoll();
	}
	return arg;
}

int main(void)
{
	struct rlimit files;
	pthread_attr_t attr;
	pthread_t thread;

	T_OK(getrlimit(RLIMIT_NOFILE, &files));
	if (files.rlim_cur < ENTRIES && files.rlim_max > files.rlim_cur) {
		files.rlim_cur = files.rlim_max < ENTRIES ? files.rlim_max : ENTRIES;
		T_OK(setrlimit(RLIMIT_NOFILE, &files));
	}
	if (files.rlim_cur <= HIGH)
		t_skip("no more than %llu descriptors", (unsigned long long)files.rlim_cur);
	count = files.rlim_cur < ENTRIES ? files.rlim_cur : ENTRIES;
	set = calloc(count, sizeof(*set));
	T_CHECK(set);
	t_open_hot(&pair);
	T_EQ(pthread_attr_init(&attr), 0);
	T_EQ(pthread_attr_setstacksize(&attr, STACK_KB << 10), 0);
	T_EQ(pthread_create(&thread, &attr, small_stack, NULL), 0);
	T_EQ(pthread_join(thread, NULL), 0);
	free(set);
	t_close(&pair);
	return 0;
}
