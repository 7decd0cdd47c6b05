// SPDX-License-Identifier: Apache-2.0
/*
 * A process forbids itself all system calls but those that it makes, as sshd's does: the library
 * makes none of its own from then on, and what lay unread in a ring is still read. HAZARDS 42.
 */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "t.h"

#define BYTES 20000

static struct t_pair pair;

#define ALLOW(call)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* What is not named ends the process with SIGSYS. */
static void forbid(bool by_syscall)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read),
		ALLOW(write),
		ALLOW(poll),
		ALLOW(close),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {T_LEN(filter), filter};

	T_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (by_syscall)
		T_OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	else
		T_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void sandboxed(void *by_syscall)
{
	struct pollfd p = {.fd = pair.a, .events = POLLIN};
	static char buf[BYTES];
	size_t done = 0;
	ssize_t n;

	T_OK(close(pair.b));
	forbid(by_syscall != NULL);
	while (done < BYTES) {
		T_EQ(T_OK(poll(&p, 1, 10000)), 1);
		n = read(pair.a, buf + done, BYTES - done);
		T_CHECK(n > 0);
		done += (size_t)n;
	}
	T_EQ(t_same(buf, BYTES, 1, 0), BYTES);
	T_EQ(write(pair.a, "seen", 4), 4);
	T_EQ(poll(&p, 1, 10000), 1);
	T_EQ(read(pair.a, buf, 100), 5);
	T_EQ(close(pair.a), 0);
	_exit(0);
}

static void one(bool by_syscall)
{
	char buf[16];
	pid_t pid;

	t_open_hot(&pair);
	t_send(pair.b, BYTES, 1, 0);
	pid = t_child(sandboxed, by_syscall ? &pair : NULL);
	T_OK(close(pair.a));
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), 4);
	T_EQ(T_OK(send(pair.b, "again", 5, 0)), 5);
	t_join(pid);
	T_EQ(T_OK(recv(pair.b, buf, sizeof(buf), 0)), 0);
	T_OK(close(pair.b));
}

int main(void)
{
	unsigned int i;

	for (i = 0; i < 6; i++)
		one(i % 2);
	return 0;
}
