// SPDX-License-Identifier: Apache-2.0
/*
 * A handler that jumps out of a blocking receive, of a poll and of a wait for all leaves the stream
 * as it was: no lock is held for ever, no byte is lost. HAZARDS 21.
 */

#include <setjmp.h>
#include <sys/time.h>

#include "t.h"

static struct t_pair pair;
static sigjmp_buf back;

static void jump(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

/* Armed when the main thread sleeps, so that the jump is out of the kernel's wait. */
static void alarm_when_asleep(void *arg)
{
	(void)arg;
	t_wait_asleep(getpid());
	T_OK(kill(getpid(), SIGALRM));
}

static void block(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	T_EQ(pthread_sigmask(how, &set, NULL), 0);
}

static void out_of(int call)
{
	static uint8_t buf[1 << 20];
	static struct t_thread thread;
	struct pollfd set = {pair.b, POLLIN, 0};

	block(SIG_BLOCK);
	t_thread_start(&thread, alarm_when_asleep, NULL);
	if (!sigsetjmp(back, 1)) {
		block(SIG_UNBLOCK);
		if (call == 0)
			recv(pair.b, buf, sizeof(buf), 0);
		else if (call == 1)
			poll(&set, 1, -1);
		else
			recv(pair.b, buf, sizeof(buf), MSG_WAITALL);
		t_fail(__FILE__, __LINE__, "call %d returned", call);
	}
	t_thread_join(&thread);
	block(SIG_UNBLOCK);
}

int main(void)
{
	const struct sigaction action = {.sa_handler = jump};

	T_OK(sigaction(SIGALRM, &action, NULL));
	t_open_hot(&pair);
	for (int i = 0; i < 9; i++) {
		out_of(i % 3);
		t_hot(&pair);
		t_send(pair.a, 5000, 3, 0);
		t_recv(pair.b, 5000, 3, 0);
		t_send(pair.b, 5000, 4, 0);
		t_recv(pair.a, 5000, 4, 0);
	}
	t_close(&pair);
	return 0;
}
