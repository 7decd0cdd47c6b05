/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - reports every system call on a moved stream that did not come through a hook
 *
 *   LD_PRELOAD=.../libcoloc.so COLOC_AGENT=SOCKET watch FILE PROGRAM ARGS...
 *
 * Adds libmark.so, which lies beside this program, to LD_PRELOAD: what comes through a hook then
 * bears a mark (mark.c). A seccomp filter lets marked calls through at full speed; each call of
 * calls.def without the mark waits until the watcher has looked at its descriptors (moved.c), and
 * goes on unchanged. The filter is kept over fork, clone by any means and exec of any program.
 *
 * The program keeps its pid, parent and exit status: the watcher is a process of its own, no child
 * of the program's, which ends when the last process under the filter has.
 *
 * FILE is appended to: one line "watching COMMAND" at the start, then one per bypass:
 *
 *   bypass: read(5) by COMMAND PID at /usr/lib/.../libc.so.6+0x10d3a1 from /usr/bin/x+0x1f2 ...
 *
 * with the place of the call, and the code addresses that lie on top of the stack, some of which
 * are its callers. At the end one line with what has been looked at.
 *
 * Not a bypass: closing and copying in a vfork child, which runs on its parent's memory and where a
 * hook would change nothing either. Not seen: a stream that a bare sendmsg() passes on.
 *
 * Linked statically, so that LD_PRELOAD is the program's alone.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mark.h"
#include "moved.h"

enum kind { FIRST, FIRST_TWO, THIRD, SPLICE, IOCTL, FCNTL, RANGE, POLL, SELECT, EPOLL, ANY };

static const struct call {
	int number;
	enum kind kind;
	const char *name;
} calls[] = {
#define CALL(name, kind) {SYS_##name, kind, #name},
#include "calls.def"
#undef CALL
};

#define CALLS	   (sizeof(calls) / sizeof(calls[0]))
#define STACK_LOOK 64
#define STACK_SHOW 6

static FILE *report;

static void die(const char *what)
{
	perror(what);
	exit(125);
}

/* ---- the filter --------------------------------------------------------------------------------
 */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUAL(k, t, f) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), (uint8_t)(t), (uint8_t)(f))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_##what)
#define UPPER	     4 /* of a little-endian argument */

/* Three steps, one per call, "any other is allowed", and a test for each place of the mark. */
static int install_filter(void)
{
	enum { HEAD = 3, OTHER = HEAD + CALLS, TEST = OTHER + 1, TEST_STEPS = 4 };
	struct sock_filter f[TEST + 2 * TEST_STEPS] = {
		LOAD(arch),
		EQUAL(AUDIT_ARCH_X86_64, 0, OTHER - 2),
		LOAD(nr),
		[OTHER] = RETURN(ALLOW),
		[TEST] = LOAD(args[0]),
		EQUAL(MARK, 0, 1),
		RETURN(ALLOW),
		RETURN(USER_NOTIF),
		LOAD(args[1]),
		EQUAL(MARK, 0, 1),
		RETURN(ALLOW),
		RETURN(USER_NOTIF),
	};
	const struct sock_fprog program = {sizeof(f) / sizeof(f[0]), f};
	const unsigned int flags =
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	size_t i;
	int fd;

	static_assert(sizeof(f) / sizeof(f[0]) < UINT8_MAX, "jumps have eight bits");
	for (i = 0; i < CALLS; i++) {
		const size_t test = TEST + (calls[i].kind == POLL ? TEST_STEPS : 0);

		f[HEAD + i] = (struct sock_filter)EQUAL(calls[i].number, test - (HEAD + i) - 1, 0);
	}
	f[TEST].k += UPPER;
	f[TEST + TEST_STEPS].k += UPPER;
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (fd < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (fd < 0)
		die("seccomp");
	return fd;
}

/* ---- what a call is about ----------------------------------------------------------------------
 */

static bool peek(pid_t tid, uint64_t address, void *to, size_t len)
{
	const struct iovec here = {to, len}, there = {(void *)address, len};

	return address && process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)len;
}

static int moved_in_poll(pid_t tid, uint64_t address, uint32_t n)
{
	struct pollfd entry = {0};
	uint32_t i;

	for (i = 0; i < n && peek(tid, address + i * sizeof(entry), &entry, sizeof(entry)); i++)
		if (entry.fd >= 0 && moved_fd(tid, entry.fd))
			return entry.fd;
	return -1;
}

static int moved_in_select(pid_t tid, const uint64_t *args)
{
	const int n = (int)args[0];
	uint8_t bits = 0;
	int set, fd;

	for (set = 1; set <= 3; set++)
		for (fd = 0; fd < n &&
			     peek(tid, args[set] ? args[set] + (unsigned int)fd / 8 : 0, &bits, 1);
		     fd++)
			if ((bits & 1u << fd % 8) && moved_fd(tid, fd))
				return fd;
	return -1;
}

static int moved_in_epoll(pid_t tid, int epfd)
{
	char path[64], line[256];
	int fd, found = -1;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", tid, epfd);
	info = fopen(path, "re");
	while (info && found < 0 && fgets(line, sizeof(line), info))
		if (sscanf(line, "tfd: %d", &fd) == 1 && moved_fd(tid, fd))
			found = fd;
	if (info)
		fclose(info);
	return found;
}

/* The others ask, or set what the ring does not know. */
static bool is_served(const struct call *call, uint32_t command)
{
	if (call->kind == FCNTL)
		return command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_SETFL;
	return command == FIONBIO || command == FIONREAD || command == FIOASYNC;
}

/* Return: a moved stream that the call is about, or -1 */
static int subject(const struct call *call, pid_t tid, const uint64_t *args)
{
	const int first = (int)args[0];
	int second = -1;

	switch (call->kind) {
	case FIRST:
		break;
	case FIRST_TWO:
		second = (int)args[1];
		break;
	case SPLICE:
		second = (int)args[2];
		break;
	case THIRD:
		return moved_fd(tid, (int)args[2]) ? (int)args[2] : -1;
	case IOCTL:
	case FCNTL:
		if (!is_served(call, (uint32_t)args[1]))
			return -1;
		break;
	case RANGE:
		return moved_any(tid, (unsigned int)args[0], (unsigned int)args[1]);
	case POLL:
		return moved_in_poll(tid, args[0], (uint32_t)args[1]);
	case SELECT:
		return moved_in_select(tid, args);
	case EPOLL:
		return moved_in_epoll(tid, first);
	case ANY:
		return moved_any(tid, 0, UINT_MAX);
	}
	if (moved_fd(tid, first))
		return first;
	return second >= 0 && moved_fd(tid, second) ? second : -1;
}

/* A child that has its parent's memory until it execs; see the top. */
static bool is_harmless(const struct call *call, pid_t tid)
{
	static const int numbers[] = {SYS_close, SYS_close_range, SYS_dup,
				      SYS_dup2,	 SYS_dup3,	  SYS_fcntl};
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (call->number == numbers[i])
			return moved_vfork_child(tid);
	return false;
}

/* ---- telling -----------------------------------------------------------------------------------
 */

/* " FILE+offset" if @address is code; @word goes before it */
static bool show_code(pid_t tid, uint64_t address, const char *word)
{
	unsigned long from, to, offset;
	char path[64], line[PATH_MAX + 128], rights[8];
	bool shown = false;
	FILE *maps;
	int name;

	snprintf(path, sizeof(path), "/proc/%d/maps", tid);
	maps = fopen(path, "re");
	while (maps && !shown && fgets(line, sizeof(line), maps)) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %n", &from, &to, rights, &offset, &name) <
			    4 ||
		    address < from || address >= to)
			continue;
		if (rights[2] != 'x')
			break;
		fprintf(report, "%s %s+0x%lx", word, line[name] ? line + name : "anonymous",
			address - from + offset);
		shown = true;
	}
	if (maps)
		fclose(maps);
	return shown;
}

static void tell(const struct call *call, int fd, const struct seccomp_notif *req)
{
	const pid_t tid = (pid_t)req->pid;
	char path[64], line[512] = "", command[32] = "?";
	uint64_t sp = 0, words[STACK_LOOK];
	int i, shown = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", tid);
	if ((file = fopen(path, "re"))) {
		if (fgets(command, sizeof(command), file))
			command[strcspn(command, "\n")] = '\0';
		fclose(file);
	}
	fprintf(report, "bypass: %s(%d) by %s %d", call->name, fd, command, tid);
	show_code(tid, req->data.instruction_pointer, " at");
	/* "number six-arguments stack-pointer instruction-pointer" */
	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	if ((file = fopen(path, "re"))) {
		if (fgets(line, sizeof(line), file))
			(void)sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %lx", &sp);
		fclose(file);
	}
	if (peek(tid, sp, words, sizeof(words)))
		for (i = 0; i < STACK_LOOK && shown < STACK_SHOW; i++)
			shown += show_code(tid, words[i], shown ? "" : " from");
	fputc('\n', report);
	fflush(report);
}

/* ---- the watcher -------------------------------------------------------------------------------
 */

static unsigned long look(const struct seccomp_notif *req, int listener)
{
	const pid_t tid = (pid_t)req->pid;
	uint64_t args[6], id = req->id;
	size_t i;
	int fd;

	memcpy(args, req->data.args, sizeof(args));
	for (i = 0; i < CALLS; i++)
		if (calls[i].number == req->data.nr)
			break;
	moved_counts.calls++;
	fd = i < CALLS ? subject(&calls[i], tid, args) : -1;
	/* If it was killed meanwhile, its number may be another's. */
	if (fd < 0 || is_harmless(&calls[i], tid) ||
	    ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0)
		return 0;
	tell(&calls[i], fd, req);
	return 1;
}

static void watch(int listener, const char *name)
{
	/* The kernel's structure may be longer than ours. */
	union {
		struct seccomp_notif notif;
		char room[1024];
	} req;
	struct pollfd pfd = {.fd = listener, .events = POLLIN};
	struct seccomp_notif_resp answer;
	unsigned long bypasses = 0;

	for (;;) {
		if (poll(&pfd, 1, -1) < 0 || !(pfd.revents & POLLIN)) {
			if (pfd.revents & POLLHUP)
				break;
			continue;
		}
		memset(&req, 0, sizeof(req));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
			continue; /* it was killed first */
		bypasses += look(&req.notif, listener);
		answer = (struct seccomp_notif_resp){.id = req.notif.id,
						     .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	fprintf(report,
		"watched %s: %lu calls without the mark, %lu on TCP sockets, %lu bypasses\n", name,
		moved_counts.calls, moved_counts.tcp, bypasses);
	fflush(report);
}

/* The listener crosses from the program, which is under the filter already: by a marked call. */
static void listener_send(int to, int listener)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {(char[]){0}, 1};
	const struct msghdr msg = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = &control,
				   .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.head), &listener, sizeof(int));
	if (mark_syscall(SYS_sendmsg, MARKED(to), (long)&msg, 0, 0, 0, 0) != 1)
		_exit(125);
}

static int listener_receive(int from)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {(char[1]){0}, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int listener;

	if (recvmsg(from, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		exit(125); /* the program could not be started */
	memcpy(&listener, CMSG_DATA(&control.head), sizeof(int));
	return listener;
}

/* In the grandchild; holds nothing of the program's open. */
static void watcher(int from, const char *name)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int i, keep = 4;

	for (i = 0; i < 3; i++)
		dup2(null, i);
	dup3(fileno(report), 3, O_CLOEXEC);
	dup3(from, keep, O_CLOEXEC);
	close_range((unsigned int)keep + 1, ~0u, 0);
	report = fdopen(3, "ae");
	watch(listener_receive(keep), name);
	exit(0);
}

static void add_mark(void)
{
	const char *libs = getenv("LD_PRELOAD");
	char self[PATH_MAX], *both;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0 || !libs || !strstr(libs, "libcoloc"))
		die("watch: LD_PRELOAD does not name libcoloc.so");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	if (asprintf(&both, "%s:%s/libmark.so", libs, self) < 0 ||
	    setenv("LD_PRELOAD", both, 1) < 0)
		die("LD_PRELOAD");
}

int main(int argc, char **argv)
{
	const char *agent = getenv("COLOC_AGENT");
	int pair[2];
	pid_t pid;

	if (argc < 3 || !agent) {
		fprintf(stderr,
			"usage: LD_PRELOAD=libcoloc.so COLOC_AGENT=SOCKET %s FILE PROGRAM...\n",
			argv[0]);
		return 2;
	}
	report = fopen(argv[1], "ae");
	if (!report)
		die(argv[1]);
	moved_init(agent);
	add_mark();
	fprintf(report, "watching %s\n", argv[2]);
	fflush(report);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0)
		die("watch");
	if (pid == 0) {
		setsid();
		pid = fork();
		if (pid == 0)
			watcher(pair[0], argv[2]);
		_exit(pid < 0);
	}
	waitpid(pid, NULL, 0);
	listener_send(pair[1], install_filter());
	execvp(argv[2], argv + 2);
	die(argv[2]);
}
