// SPDX-License-Identifier: Apache-2.0
/*
 * Interest in a stream that changes all the time: what is told is what was set last, errors are the
 * kernel's, and whoever may look at the set by another way finds it as it is: a poll on it, a set
 * around it, a thread asleep in it, a child, a program, a receiver of SCM_RIGHTS. HAZARDS 27, 28,
 * 29.
 */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#include "t_turns.h"

#define TOGGLES 1000

static struct t_pair pair;
static int epfd;
static uint64_t at; /* bytes of stream 1 so far */

static int control(int op, uint32_t events, uint64_t tag)
{
	struct epoll_event event = {.events = events, .data.u64 = tag};

	return epoll_ctl(epfd, op, pair.b, op == EPOLL_CTL_DEL ? NULL : &event);
}

/* What is told within @ms; no tag of another change may be. */
static uint32_t told(uint64_t tag, int ms)
{
	struct epoll_event event[2] = {0};
	const int n = (int)T_OK(epoll_wait(epfd, event, 2, ms));

	T_CHECK(n <= 1);
	if (n)
		T_EQ(event[0].data.u64, tag);
	return n ? event[0].events : 0;
}

/* As the kernel has it: (uint32_t)-1 = not in the set. */
static uint32_t in_kernel(void)
{
	char path[64], line[256];
	uint32_t found = (uint32_t)-1;
	unsigned int tfd, events;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfd);
	file = fopen(path, "r");
	T_CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "tfd: %u events: %x", &tfd, &events) == 2 &&
		    tfd == (unsigned)pair.b)
			found = events & (EPOLLIN | EPOLLOUT);
	fclose(file);
	return found;
}

static void begin(void)
{
	t_open_hot(&pair);
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 1));
	at = 0;
	/* So that the stream is known as one of the set while it is on its ring. */
	for (int i = 0; i < 3; i++, at += 100) {
		t_send(pair.a, 100, 1, at);
		T_EQ(told(1, 1000), EPOLLIN);
		t_recv(pair.b, 100, 1, at);
	}
}

static void end(void)
{
	T_OK(close(epfd));
	t_close(&pair);
}

static void errors(void)
{
	begin();
	T_ERR(control(EPOLL_CTL_ADD, EPOLLIN, 2), EEXIST);
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_ERR(control(EPOLL_CTL_DEL, 0, 0), ENOENT);
	T_ERR(control(EPOLL_CTL_MOD, EPOLLIN, 3), ENOENT);
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 4));
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 5));
	T_ERR(control(EPOLL_CTL_ADD, EPOLLIN, 6), EEXIST);
	T_ERR(epoll_ctl(epfd, EPOLL_CTL_MOD, pair.b, (struct epoll_event *)8), EFAULT);
	T_ERR(control(77, EPOLLIN, 7), EINVAL);
	T_EQ(told(5, 0), 0);
	end();
}

/* As an event loop does that first waits to write, and then for the answer. */
static void toggles(bool by_mod)
{
	begin();
	for (int i = 0; i < TOGGLES; i++, at += 100) {
		const uint64_t tag = 10 + (uint64_t)i;

		if (by_mod) {
			T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, tag));
		} else {
			T_OK(control(EPOLL_CTL_DEL, 0, 0));
			T_OK(control(EPOLL_CTL_ADD, EPOLLOUT, tag));
		}
		T_EQ(told(tag, 1000), EPOLLOUT);
		t_send(pair.a, 100, 1, at);
		if (i % 3 == 0)
			T_EQ(told(tag, 0), EPOLLOUT);
		T_OK(control(EPOLL_CTL_MOD, EPOLLIN, tag + 1));
		T_EQ(told(tag + 1, 1000), EPOLLIN);
		T_OK(control(EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT, tag + 2));
		T_EQ(told(tag + 2, 1000), EPOLLIN | EPOLLOUT);
		T_OK(control(EPOLL_CTL_DEL, 0, 0));
		T_EQ(told(0, i % 100 ? 0 : 2), 0);
		T_OK(control(EPOLL_CTL_ADD, EPOLLIN, tag + 3));
		T_EQ(told(tag + 3, i % 100 ? 0 : 2), EPOLLIN);
		t_recv(pair.b, 100, 1, at);
	}
	end();
}

static void poll_looks(void)
{
	struct pollfd p;

	begin();
	p = (struct pollfd){.fd = epfd, .events = POLLIN};
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	t_send(pair.a, 100, 1, at);
	T_EQ(T_OK(poll(&p, 1, 5)), 0);
	T_EQ(in_kernel(), (uint32_t)-1);
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 2));
	T_EQ(in_kernel(), EPOLLIN);
	T_EQ(T_OK(poll(&p, 1, 1000)), 1);
	end();
}

static void set_around_looks(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
	int outer;

	begin();
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 2));
	outer = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(epoll_ctl(outer, EPOLL_CTL_ADD, epfd, &event));
	T_EQ(in_kernel(), EPOLLOUT);
	T_EQ(T_OK(epoll_wait(outer, &event, 1, 1000)), 1);
	T_EQ(event.data.u64, 77);
	T_OK(control(EPOLL_CTL_MOD, EPOLLIN, 3));
	T_EQ(in_kernel(), EPOLLIN);
	T_OK(close(outer));
	end();
}

struct expected {
	uint64_t tag;
	uint32_t events;
};

static void *sleeper(void *arg)
{
	const struct expected *expected = arg;

	say(to_parent);
	T_EQ(told(expected->tag, -1), expected->events);
	return NULL;
}

static void thread_sleeps(void)
{
	pthread_t thread;

	make_pipes();
	begin();
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_EQ(pthread_create(&thread, NULL, sleeper, &(struct expected){3, EPOLLOUT}), 0);
	hear(to_parent);
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 2));
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 3));
	T_EQ(pthread_join(thread, NULL), 0);
	end();
	drop_pipes();
}

static void child_waits(void *arg)
{
	(void)arg;
	T_EQ(told(0, 5), 0);
	say(to_parent);
	hear(to_child);
	T_EQ(told(3, 5000), EPOLLOUT);
}

static void child_looks(void)
{
	pid_t pid;

	make_pipes();
	begin();
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 2));
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	pid = t_child(child_waits, NULL);
	hear(to_parent);
	T_OK(control(EPOLL_CTL_ADD, EPOLLOUT, 3));
	say(to_child);
	t_join(pid);
	end();
	drop_pipes();
}

/* Taken out of the set, then closed: its other number tells nothing there. */
static void number_closed(void)
{
	struct pollfd p;
	int other;

	begin();
	other = (int)T_OK(dup(pair.b));
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_OK(close(pair.b));
	pair.b = other;
	p = (struct pollfd){.fd = other, .events = POLLIN};
	T_EQ(T_OK(poll(&p, 1, 5)), 0);
	/* After a sleep: by TCP, where the kernel would tell. */
	t_send(pair.a, 100, 1, at);
	T_EQ(told(0, 5), 0);
	T_EQ(in_kernel(), (uint32_t)-1);
	t_recv(pair.b, 100, 1, at);
	end();
}

/* The same in two sets: both are up to date when the number goes. */
static void number_closed_in_two(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
	int first, other;
	struct pollfd p;

	begin();
	first = epfd;
	epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	T_OK(epoll_ctl(epfd, EPOLL_CTL_ADD, pair.b, &event));
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_OK(epoll_ctl(first, EPOLL_CTL_DEL, pair.b, NULL));
	other = (int)T_OK(dup(pair.b));
	T_OK(close(pair.b));
	p = (struct pollfd){.fd = other, .events = POLLIN};
	T_EQ(T_OK(poll(&p, 1, 5)), 0);
	pair.b = other;
	t_send(pair.a, 100, 1, at);
	T_EQ(told(0, 5), 0);
	T_OK(close(epfd));
	epfd = first;
	T_EQ(told(0, 5), 0);
	t_recv(pair.b, 100, 1, at);
	end();
}

/* The number that the set was made by is closed. */
static void set_renamed(void)
{
	pthread_t thread;
	int other;

	begin();
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 2));
	other = (int)T_OK(dup(epfd));
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_OK(close(epfd));
	epfd = other;
	T_EQ(told(0, 0), 0);
	T_EQ(in_kernel(), (uint32_t)-1);
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 3));
	T_EQ(told(3, 0), 0);
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 4));
	T_EQ(told(4, 1000), EPOLLOUT);
	T_EQ(in_kernel(), EPOLLOUT);
	/* Who sleeps in it is woken for what lies in a ring. */
	make_pipes();
	T_OK(control(EPOLL_CTL_MOD, 0, 5));
	t_send(pair.a, 100, 1, at);
	T_EQ(pthread_create(&thread, NULL, sleeper, &(struct expected){6, EPOLLIN}), 0);
	hear(to_parent);
	T_EQ(told(0, 1), 0);
	T_OK(control(EPOLL_CTL_MOD, EPOLLIN, 6));
	T_EQ(pthread_join(thread, NULL), 0);
	t_recv(pair.b, 100, 1, at);
	drop_pipes();
	end();
}

/* A vfork child has other descriptors, and its parent's memory. */
static void child_execs(void)
{
	struct pollfd p;
	pid_t pid;

	begin();
	T_OK(fcntl(epfd, F_SETFD, 0));
	T_OK(control(EPOLL_CTL_MOD, EPOLLOUT, 2));
	pid = vfork();
	if (pid == 0) {
		close(pair.b);
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	t_join(pid);
	T_EQ(told(2, 1000), EPOLLOUT);
	p = (struct pollfd){.fd = epfd, .events = POLLIN};
	T_EQ(T_OK(poll(&p, 1, 1000)), 1);
	T_EQ(in_kernel(), EPOLLOUT);
	T_OK(control(EPOLL_CTL_DEL, 0, 0));
	T_EQ(in_kernel(), (uint32_t)-1);
	T_OK(control(EPOLL_CTL_ADD, EPOLLIN, 3));
	T_EQ(in_kernel(), EPOLLIN);
	T_EQ(told(3, 5), 0);
	end();
}

int main(void)
{
	errors();
	toggles(true);
	toggles(false);
	poll_looks();
	set_around_looks();
	thread_sleeps();
	child_looks();
	number_closed();
	number_closed_in_two();
	set_renamed();
	child_execs();
	return 0;
}
