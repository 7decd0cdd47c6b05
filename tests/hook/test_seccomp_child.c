// SPDX-License-Identifier: Apache-2.0
/*
 * A forked child uses the stream in a sandbox, as sshd's does before it knows who asks, in a chroot
 * where that may be: while it lives the stream is on TCP, also where its parent uses it; when it is
 * gone, the parent goes on by ring. Or never, if the child has made another process.
 */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "t_turns.h"

#define BYTES	20000
#define ROUNDS	500
#define MESSAGE 1000

enum way { ENDS, STAYS, FORKS };

static struct t_pair pair;
static uint64_t there, back; /* where the two directions stand */

#define ALLOW(call)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* What is not named ends the process with SIGSYS: none of it is made by this test. */
static void forbid(bool forks)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read),
		ALLOW(write),
		ALLOW(recvfrom),
		ALLOW(sendto),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {T_LEN(filter), filter};

	if (forks)
		program = (struct sock_fprog){1, &all};
	T_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	T_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void exchange(int rounds)
{
	for (int i = 0; i < rounds; i++, there += MESSAGE, back += MESSAGE) {
		t_send(pair.a, MESSAGE, 1, there);
		t_recv(pair.b, MESSAGE, 1, there);
		t_send(pair.b, MESSAGE, 2, back);
		t_recv(pair.a, MESSAGE, 2, back);
	}
}

static void sandboxed(void *arg)
{
	const enum way way = *(const enum way *)arg;

	/* Not for every user; then it is the same without. */
	(void)!chroot("/proc/self/fdinfo");
	forbid(way == FORKS);
	t_recv(pair.b, BYTES, 1, there);
	t_send(pair.b, BYTES, 2, back);
	if (way == FORKS && fork() == 0) {
		hear(to_child);
		_exit(0);
	}
	say(to_parent);
	if (way == STAYS)
		hear(to_child);
}

static uint64_t by_ring(void)
{
	struct t_stream a, b;

	return t_stream(pair.a, &a) && t_stream(pair.b, &b) ? a.tx_ring_bytes + b.tx_ring_bytes : 0;
}

/* Of a stream that is not known yet a process in a sandbox cannot say that it has it. */
static void until_known(void)
{
	struct t_stream a, b;

	do
		exchange(1);
	while (t_mode() != T_TCP && !(t_stream(pair.a, &a) && t_stream(pair.b, &b)));
}

static void one(enum way way, bool hot)
{
	uint64_t before, after;
	pid_t pid;

	make_pipes();
	if (hot)
		t_open_hot(&pair);
	else
		t_open(&pair, T_V4);
	there = back = 0;
	until_known();
	pid = t_child(sandboxed, &way);
	t_send(pair.a, BYTES, 1, there);
	t_recv(pair.a, BYTES, 2, back);
	there += BYTES;
	back += BYTES;
	hear(to_parent);
	if (way != STAYS)
		t_join(pid);
	before = by_ring();
	exchange(ROUNDS);
	after = by_ring();
	if (way != ENDS) {
		T_EQ(after, before);
		say(to_child);
	} else if (t_mode() == T_RING) {
		T_CHECK(after > before);
	}
	if (way == STAYS)
		t_join(pid);
	/* Whatever it was: the rest is right. */
	exchange(ROUNDS);
	if (way != FORKS) {
		t_warm(&pair);
		if (t_mode() == T_RING)
			T_CHECK(by_ring() > before);
	}
	t_close(&pair);
	drop_pipes();
}

int main(void)
{
	for (int i = 0; i < 6; i++)
		one((enum way)(i / 2), i % 2);
	return 0;
}
