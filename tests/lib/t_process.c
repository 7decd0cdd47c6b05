// SPDX-License-Identifier: Apache-2.0
/* t_process.c - children, threads, and whether they sleep; see t.h */

#include <sys/syscall.h>
#include <time.h>

#include "t.h"

#define SLEEP_MS 5000 /* longest wait for somebody to fall asleep */

volatile sig_atomic_t t_signals;

pid_t t_child(void (*fn)(void *arg), void *arg)
{
	const pid_t pid = (pid_t)T_OK(fork());

	if (!pid) {
		fn(arg);
		_exit(0);
	}
	return pid;
}

void t_join(pid_t pid)
{
	int status;

	T_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		t_fail(__FILE__, __LINE__, "child %d ended with status %#x", (int)pid, status);
}

void t_join_killed(pid_t pid, int signal)
{
	int status;

	T_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != signal)
		t_fail(__FILE__, __LINE__, "child %d ended with status %#x, not signal %d",
		       (int)pid, status, signal);
}

static void *thread_main(void *arg)
{
	struct t_thread *thread = arg;

	__atomic_store_n(&thread->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	thread->fn(thread->arg);
	return NULL;
}

void t_thread_start(struct t_thread *thread, void (*fn)(void *arg), void *arg)
{
	*thread = (struct t_thread){.fn = fn, .arg = arg};
	T_EQ(pthread_create(&thread->thread, NULL, thread_main, thread), 0);
	while (!__atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE))
		sched_yield();
}

void t_thread_join(struct t_thread *thread)
{
	T_EQ(pthread_join(thread->thread, NULL), 0);
}

/* Text of /proc/@tid/stat behind the command's closing parenthesis: state, ppid, ... */
static bool read_stat(pid_t tid, char *buf, size_t size)
{
	char path[64], *close_paren;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	close_paren = strrchr(buf, ')');
	T_CHECK(close_paren);
	memmove(buf, close_paren + 2, strlen(close_paren + 2) + 1);
	return true;
}

void t_wait_asleep(pid_t tid)
{
	const struct timespec step = {.tv_nsec = 200000};
	const int64_t start = t_now_ms();
	char stat[512];

	/* Twice in a row: a page fault sleeps too, but not for long. */
	for (int seen = 0; seen < 2;) {
		T_CHECK(read_stat(tid, stat, sizeof(stat)));
		seen = stat[0] == 'S' ? seen + 1 : 0;
		T_CHECK(t_now_ms() - start < SLEEP_MS);
		nanosleep(&step, NULL);
	}
}

int64_t t_cpu_ms(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	T_EQ(clock_getcpuclockid(pid, &clock), 0);
	T_OK(clock_gettime(clock, &used));
	return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static void count_signal(int signal)
{
	(void)signal;
	t_signals++;
}

void t_on_signal(int signal, int flags)
{
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};

	t_signals = 0;
	T_OK(sigaction(signal, &action, NULL));
}
