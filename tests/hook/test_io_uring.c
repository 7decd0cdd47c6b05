// SPDX-License-Identifier: Apache-2.0
/*
 * A process that sets up io_uring: what its rings send and receive is the stream, in one order with
 * the ordinary calls before and after; and a number that io_uring closed means the new thing only.
 * HAZARDS 3, 4.
 */

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "t.h"

static struct t_pair pair;
static int uring;
static struct io_uring_params params;
static uint8_t *sq, *cq;
static struct io_uring_sqe *sqes;

static void *map(size_t len, off_t what)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, uring, what);

	T_CHECK(p != MAP_FAILED);
	return p;
}

static void set_up(void)
{
	memset(&params, 0, sizeof(params));
	uring = (int)syscall(SYS_io_uring_setup, 4, &params);
	if (uring < 0)
		t_skip("no io_uring here: %s", strerror(errno));
	sq = map(params.sq_off.array + params.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	cq = map(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
		 IORING_OFF_CQ_RING);
	sqes = map(params.sq_entries * sizeof(*sqes), (off_t)IORING_OFF_SQES);
}

static uint32_t *word(uint8_t *ring, uint32_t off)
{
	return (uint32_t *)(void *)(ring + off);
}

/* One operation, waited for; its result. */
static int operation(int op, int fd, void *buf, size_t len)
{
	const uint32_t tail = *word(sq, params.sq_off.tail);
	const uint32_t slot = tail & *word(sq, params.sq_off.ring_mask);
	const uint32_t head = *word(cq, params.cq_off.head);
	const struct io_uring_cqe *cqe;

	sqes[slot] = (struct io_uring_sqe){.opcode = (uint8_t)op,
					   .fd = fd,
					   .addr = (uintptr_t)buf,
					   .len = (uint32_t)len,
					   .user_data = 1};
	word(sq, params.sq_off.array)[slot] = slot;
	__atomic_store_n(word(sq, params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	T_EQ(syscall(SYS_io_uring_enter, uring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
	T_EQ(__atomic_load_n(word(cq, params.cq_off.tail), __ATOMIC_ACQUIRE), head + 1);
	cqe = (const struct io_uring_cqe *)(void *)(cq + params.cq_off.cqes) +
	      (head & *word(cq, params.cq_off.ring_mask));
	__atomic_store_n(word(cq, params.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return cqe->res;
}

static void mixed(void)
{
	uint8_t buf[2000];

	for (int i = 0; i < 20; i++) {
		t_fill(buf, 1000, 3, 0);
		T_EQ(operation(i % 2 ? IORING_OP_SEND : IORING_OP_WRITE, pair.a, buf, 1000), 1000);
		t_send(pair.a, 1000, 3, 1000);
		t_recv(pair.b, 2000, 3, 0);
		t_send(pair.b, 1000, 4, 0);
		T_EQ(operation(i % 2 ? IORING_OP_RECV : IORING_OP_READ, pair.a, buf, 400), 400);
		t_verify(buf, 400, 4, 0);
		t_recv(pair.a, 600, 4, 400);
		t_hot(&pair);
	}
}

static void closed_by_it(void)
{
	uint8_t byte;
	int fd;

	T_EQ(operation(IORING_OP_CLOSE, pair.b, NULL, 0), 0);
	fd = (int)T_OK(open("/dev/null", O_RDWR));
	T_EQ(fd, pair.b);
	T_EQ(T_OK(read(fd, &byte, 1)), 0);
	T_ERR(recv(fd, &byte, 1, 0), ENOTSOCK);
	T_EQ(T_OK(recv(pair.a, &byte, 1, 0)), 0);
	T_OK(close(fd));
	T_OK(close(pair.a));
}

int main(void)
{
	int plug;

	t_open_hot(&pair);
	plug = (int)T_OK(dup(0)); /* the listener's number, so that pair.b's is the lowest */
	set_up();
	mixed();
	closed_by_it();
	/* A stream that comes later. */
	t_open(&pair, T_V4);
	mixed();
	t_close(&pair);
	T_OK(close(plug));
	return 0;
}
