// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes that lie unread in a ring when the agent drains: the program reads them when it comes, in
 * order, by whatever call. Where the region is taken away (T_GONE) they are moved out of it before
 * the program comes. HAZARDS 32.
 */

#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "agent_proto.h"
#include "t.h"

#define BYTES  30000
#define ROUNDS 60
#define ENOUGH 4

static char buf[BYTES];

static bool gone(void)
{
	return getenv("T_GONE") != NULL;
}

static void control(unsigned int verb)
{
	free(t_control(verb));
}

/*
 * Until this end is on TCP. Where the region goes, others drain and resume all the time: they know
 * when it is there. Else not for long, as it may not be on TCP before all is read.
 */
static bool drain(int fd)
{
	const struct timespec pace = {.tv_nsec = 10000000};
	const int64_t end = t_now_ms() + (gone() ? 5000 : 50);
	struct t_stream stream = {0};

	while (t_now_ms() < end) {
		if (!gone())
			control(COLOC_VERB_DRAIN);
		if (!t_stream(fd, &stream)) /* it began while the region was away */
			return false;
		if (strcmp(stream.rx_mode, "ring") != 0 && strcmp(stream.rx_mode, "leaving") != 0 &&
		    strcmp(stream.rx_mode, "waking") != 0)
			return true;
		nanosleep(&pace, NULL);
	}
	return false;
}

static void by_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t done = 0;

	while (done < BYTES) {
		T_EQ(T_OK(poll(&p, 1, 10000)), 1);
		T_EQ(p.revents & POLLIN, POLLIN);
		done += (size_t)T_OK(recv(fd, buf + done, BYTES - done < 7000 ? BYTES - done : 7000,
					  MSG_DONTWAIT));
	}
}

static void by_epoll(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	const int set = (int)T_OK(epoll_create1(0));
	size_t done = 0;

	T_OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	while (done < BYTES) {
		T_EQ(T_OK(epoll_wait(set, &event, 1, 10000)), 1);
		done += (size_t)T_OK(read(fd, buf + done, BYTES - done));
	}
	T_OK(close(set));
}

static void by_peek(int fd)
{
	const size_t n = (size_t)T_OK(recv(fd, buf, 100, MSG_PEEK));

	t_verify(buf, n, 1, 0);
	T_EQ(T_OK(recv(fd, buf, BYTES, MSG_WAITALL)), BYTES);
}

static void by_waitall(int fd)
{
	struct iovec iov[2] = {{buf, 11}, {buf + 11, BYTES - 11}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	T_EQ(T_OK(recvmsg(fd, &msg, MSG_WAITALL)), BYTES);
}

static void one_round(unsigned int number, unsigned int *moved_out)
{
	static void (*const ways[])(int) = {by_poll, by_epoll, by_peek, by_waitall};
	struct t_stream before = {0}, after = {0};
	struct t_pair pair;
	bool drained = false;
	int queued = 0;

	t_open_hot(&pair);
	t_send(pair.b, BYTES, 1, 0);
	if (t_mode() == T_BACK)
		drained = drain(pair.a);
	while (queued < BYTES) /* what goes by the kernel is on its way */
		T_OK(ioctl(pair.a, FIONREAD, &queued));
	T_EQ(queued, BYTES);
	(void)t_stream(pair.a, &before);
	ways[number % T_LEN(ways)](pair.a);
	t_verify(buf, BYTES, 1, 0);
	T_ERR(recv(pair.a, buf, 1, MSG_DONTWAIT), EAGAIN);
	(void)t_stream(pair.a, &after);
	*moved_out += drained && after.rx_ring_bytes > before.rx_ring_bytes;
	if (t_mode() == T_BACK && !gone())
		control(COLOC_VERB_RESUME);
	/* Both ways it goes on, and onto a ring again if it likes. */
	t_send(pair.b, BYTES, 1, BYTES);
	t_recv(pair.a, BYTES, 1, BYTES);
	t_send(pair.a, BYTES, 2, 0);
	t_recv(pair.b, BYTES, 2, 0);
	t_close(&pair);
}

int main(void)
{
	unsigned int number, moved_out = 0;

	for (number = 0; number < (gone() ? ROUNDS : 8) && moved_out < ENOUGH; number++)
		one_round(number, &moved_out);
	if (gone())
		T_CHECK(moved_out > 0);
	return 0;
}
