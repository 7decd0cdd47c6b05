// SPDX-License-Identifier: Apache-2.0
/*
 * A program made to bypass: opens a stream that moves, then makes one call on it that no hook sees.
 *
 *   loud WAY     see ways[]; "hooks" does as much as the others, by hooks alone
 *
 * Nothing is asked of what the calls return: the watcher shall see them.
 */
#include <aio.h>
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "t.h"

extern char **environ;

static struct t_pair pair;
static char buf[64];

/* As inlined assembly, or a runtime without libc, does it. */
static long bare(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return rc;
}

static void bare_write(void)
{
	bare(SYS_write, pair.a, (long)buf, 1, 0, 0, 0);
}

static void bare_read(void)
{
	bare_write();
	bare(SYS_read, pair.b, (long)buf, 1, 0, 0, 0);
}

static void bare_recvfrom(void)
{
	bare(SYS_recvfrom, pair.a, (long)buf, 1, MSG_DONTWAIT, 0, 0);
}

static void bare_sendmsg(void)
{
	struct iovec iov = {buf, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	bare(SYS_sendmsg, pair.a, (long)&msg, 0, 0, 0, 0);
}

static void bare_poll(void)
{
	struct pollfd pfd = {.fd = pair.a, .events = POLLOUT};

	bare(SYS_poll, (long)&pfd, 1, 0, 0, 0, 0);
}

static void bare_select(void)
{
	struct timeval zero = {0};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pair.a, &set);
	bare(SYS_select, pair.a + 1, 0, (long)&set, 0, (long)&zero, 0);
}

static void bare_epoll_wait(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	const int set = epoll_create1(0);

	T_EQ(epoll_ctl(set, EPOLL_CTL_ADD, pair.a, &event), 0);
	bare(SYS_epoll_wait, set, (long)&event, 1, 0, 0, 0);
}

static void bare_epoll_ctl(void)
{
	struct epoll_event event = {.events = EPOLLIN};

	bare(SYS_epoll_ctl, epoll_create1(0), EPOLL_CTL_ADD, pair.a, (long)&event, 0, 0);
}

static void bare_dup(void)
{
	bare(SYS_dup, pair.a, 0, 0, 0, 0, 0);
}

static void bare_close(void)
{
	bare(SYS_close, pair.a, 0, 0, 0, 0, 0);
}

static void bare_close_range(void)
{
	bare(SYS_close_range, pair.a, pair.a, 0, 0, 0, 0);
}

static void bare_shutdown(void)
{
	bare(SYS_shutdown, pair.a, SHUT_WR, 0, 0, 0, 0);
}

static void bare_sendfile(void)
{
	bare(SYS_sendfile, pair.a, memfd_create("empty", 0), 0, 1, 0, 0);
}

static void bare_splice(void)
{
	int ends[2];

	T_EQ(pipe(ends), 0);
	T_EQ(write(ends[1], buf, 1), 1);
	bare(SYS_splice, ends[0], 0, pair.a, 0, 1, 0);
}

/* A number that syscall()'s hook passes on unseen. */
static void by_syscall(void)
{
	syscall(SYS_dup, pair.a);
}

/* stdio on a number that was another file's when the FILE was made. */
static void by_stdio(void)
{
	FILE *file = fopen("/dev/null", "w");

	T_CHECK(file && dup2(pair.a, fileno(file)) >= 0);
	T_CHECK(fputs("x", file) >= 0 && !fflush(file));
}

/* libc's own threads, which find that a socket has no position. */
static void by_aio(void)
{
	struct aiocb cb = {.aio_fildes = pair.a, .aio_buf = buf, .aio_nbytes = 1};
	const struct aiocb *list[] = {&cb};

	T_EQ(aio_write(&cb), 0);
	T_EQ(aio_suspend(list, 1, NULL), 0);
}

/* Another libc, with symbols of its own. */
static void by_dlmopen(void)
{
	void *libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
	ssize_t (*other)(int, const void *, size_t);

	T_CHECK(libc);
	other = (ssize_t(*)(int, const void *, size_t))dlsym(libc, "write");
	T_CHECK(other);
	other(pair.a, buf, 1);
}

static int cloned(void *arg)
{
	(void)arg;
	bare_write();
	return 0;
}

/* A thread that libc knows nothing of. */
static void by_clone(void)
{
	const size_t bytes = 65536;
	char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	T_CHECK(stack != MAP_FAILED);
	pid = clone(cloned, stack + bytes, CLONE_VM | CLONE_FILES | SIGCHLD, NULL);
	T_EQ(waitpid(pid, &status, 0), pid);
}

static void *in_thread(void *arg)
{
	(void)arg;
	bare_write();
	return NULL;
}

static void by_thread(void)
{
	pthread_t thread;

	T_EQ(pthread_create(&thread, NULL, in_thread, NULL), 0);
	T_EQ(pthread_join(thread, NULL), 0);
}

static void by_fork(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		bare_write();
		_exit(0);
	}
	T_EQ(waitpid(pid, &status, 0), pid);
}

static void handler(int signal)
{
	(void)signal;
	bare_write();
}

/* While the thread is inside a hook, asleep in the kernel. */
static void by_signal(void)
{
	struct itimerval soon = {.it_value = {.tv_usec = 100000}};

	T_EQ(sigaction(SIGALRM, &(struct sigaction){.sa_handler = handler}, NULL), 0);
	T_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
	recv(pair.a, buf, 1, 0);
}

/* A program that is exec'd with the library, but writes without it. */
static void by_exec(void)
{
	static char way[] = "write-inherited", number[16];
	char self[] = "/proc/self/exe";
	char *argv[] = {self, way, number, NULL};
	int status;
	pid_t pid;

	snprintf(number, sizeof(number), "%d", dup(pair.a));
	T_EQ(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
	T_EQ(waitpid(pid, &status, 0), pid);
}

static void by_io_uring(void)
{
	struct io_uring_params params = {0};

	if (bare(SYS_io_uring_setup, 1, (long)&params, 0, 0, 0, 0) == -ENOSYS)
		t_skip("no io_uring in this kernel");
}

/* By the library that makes its calls itself: its hook brings the streams home first. */
static void by_liburing(void)
{
	int (*init)(unsigned int, void *, unsigned int) =
		(int (*)(unsigned int, void *, unsigned int))dlsym(RTLD_DEFAULT,
								   "io_uring_queue_init");
	static char ring[4096]; /* more than a struct io_uring */
	int rc;

	T_CHECK(init);
	rc = init(1, ring, 0);
	if (rc == -ENOSYS || rc == -EPERM)
		t_skip("no io_uring here");
	T_EQ(rc, 0);
	t_hot(&pair);
}

/* Closed or copied where it changes nothing of ours; brought home by a hook; used as ever. */
static void by_hooks(void)
{
	posix_spawn_file_actions_t actions;
	char path[] = "/bin/true";
	char *argv[] = {path, NULL};
	int status;
	pid_t pid;
	FILE *file;

	T_EQ(posix_spawn_file_actions_init(&actions), 0);
	T_EQ(posix_spawn_file_actions_addclose(&actions, pair.a), 0);
	T_EQ(posix_spawn(&pid, path, &actions, NULL, argv, environ), 0);
	T_EQ(waitpid(pid, &status, 0), pid);
	T_EQ(status, 0);
	T_EQ(posix_spawn_file_actions_destroy(&actions), 0);
	t_hot(&pair);
	T_EQ(syscall(SYS_write, pair.a, buf, 1), 1);
	T_EQ(read(pair.b, buf, 1), 1);
	T_CHECK((file = fdopen(dup(pair.a), "w")));
	T_CHECK(fputs("x", file) >= 0 && !fclose(file));
	T_EQ(read(pair.b, buf, 1), 1);
	t_close(&pair);
}

static const struct {
	const char *name;
	void (*go)(void);
} ways[] = {
	{"write", bare_write},
	{"read", bare_read},
	{"recvfrom", bare_recvfrom},
	{"sendmsg", bare_sendmsg},
	{"poll", bare_poll},
	{"select", bare_select},
	{"epoll_wait", bare_epoll_wait},
	{"epoll_ctl", bare_epoll_ctl},
	{"dup", bare_dup},
	{"close", bare_close},
	{"close_range", bare_close_range},
	{"shutdown", bare_shutdown},
	{"sendfile", bare_sendfile},
	{"splice", bare_splice},
	{"syscall", by_syscall},
	{"stdio", by_stdio},
	{"aio", by_aio},
	{"dlmopen", by_dlmopen},
	{"clone", by_clone},
	{"thread", by_thread},
	{"fork", by_fork},
	{"signal", by_signal},
	{"exec", by_exec},
	{"io_uring", by_io_uring},
	{"liburing", by_liburing},
	{"hooks", by_hooks},
};

int main(int argc, char **argv)
{
	size_t i;

	T_CHECK(argc >= 2);
	if (argc == 3) { /* exec'd: see by_exec() */
		pair.a = atoi(argv[2]);
		bare_write();
		return 0;
	}
	for (i = 0; i < T_LEN(ways) && strcmp(ways[i].name, argv[1]); i++)
		;
	T_CHECK(i < T_LEN(ways));
	t_open_hot(&pair);
	ways[i].go();
	return 0;
}
