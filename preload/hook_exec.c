/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_exec.c - programs and libraries that go on with a stream without us
 *
 * exec, and posix_spawn, of a program that will not be preloaded (program.c): streams that it
 * inherits (no FD_CLOEXEC, or handed on by a file action) leave the ring first and stay on TCP.
 * Bytes that lie unread in a ring at that moment cannot be handed to such a program; see
 * docs/support-matrix.md. stdio: fdopen() brings the stream home first; what lay unread in the ring
 * is pushed back into the FILE.
 *
 * An exec in a vfork child runs here on its parent's memory: it makes the parent's inheritable
 * streams stay on TCP, which is right, for from now on two programs hold them.
 */
#include "hook.h"

#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "epset.h"
#include "pass.h"
#include "program.h"
#include "ready.h"
#include "sandbox.h"

#define ARGS_MAX 256

void pl_stream_handed_on(int fd)
{
	struct pl_stream *s = pl_hook_get(fd);

	if (pl_epset_of(fd) >= 0)
		pl_epset_exact((uint32_t)pl_epset_of(fd));
	if (!s)
		return;
	shmt_or(&s->rec->flags, COLOC_RECORD_SPAWNED);
	pl_stream_put(s);
}

/* It may be a stream, and is inherited. Return: it is to be looked at now. */
static bool look_at(int fd, enum pl_kind kind, int flags, bool has_us)
{
	if (kind == PL_STREAM)
		return !has_us;
	if (flags & FD_CLOEXEC)
		return false;
	if (has_us)
		pl_pass_shared(fd);
	else if (pl_is_vfork_child())
		(void)pl_fd_note(fd, PL_UNKNOWN, PL_FD_STAYS);
	return !has_us && !pl_is_vfork_child() && shmt_load_acquire(&pl.local);
}

/* @spawned: what was handed on is inherited in spite of FD_CLOEXEC. */
static bool inherited(const struct pl_stream *s, int flags, bool spawned)
{
	return !(flags & FD_CLOEXEC) ||
	       (spawned && (shmt_load(&s->rec->flags) & COLOC_RECORD_SPAWNED));
}

/* A spawned process that has us is to have it, too, which puts its name down when it looks at it.
 */
static void second_holder(int fd, int flags)
{
	struct pl_stream *s = pl_stream_get(fd);

	if (!s)
		return;
	if (inherited(s, flags, true))
		pl_stream_strangers(s);
	pl_stream_put(s);
}

static void bring_home(const struct pl_program *program, char *const envp[], bool spawned)
{
	const int saved = errno;
	uint32_t top, fd;
	bool has_us, second;

	if (!pl_enter()) {
		pl_sandbox_share();
		return;
	}
	pl_epset_exec();
	has_us = pl_program_has_us(program, envp);
	top = shmt_load(&pl_fdtable_top);
	for (fd = 0; fd < top; fd++) {
		const enum pl_kind kind = PL_ENTRY_KIND(pl_fd_entry((int)fd));
		struct pl_stream *s;
		int flags;

		second = has_us && spawned && kind == PL_STREAM;
		if (kind != PL_NEW && !second &&
		    (has_us || (kind != PL_STREAM && kind != PL_UNKNOWN)))
			continue;
		flags = pl_real.fcntl((int)fd, F_GETFD);
		if (second && flags >= 0)
			second_holder((int)fd, flags);
		if (second || flags < 0 || !look_at((int)fd, kind, flags, has_us) ||
		    !(s = pl_stream_get((int)fd)))
			continue;
		if (inherited(s, flags, spawned)) {
			pl_stream_stay(s, COLOC_REASON_EXEC);
			pl_stream_strangers(s);
			(void)pl_tx_leave(s, (int)fd, false);
			PL_IN_REGION;
			if (pl_ready_follows(s))
				(void)pl_ready_settle(s);
		}
		pl_stream_put(s);
	}
	errno = saved;
}

static void before_exec(int dir, const char *path, bool search, char *const envp[])
{
	const bool child = pl_enter() && pl_is_vfork_child();
	const int saved = errno;

	bring_home(&(struct pl_program){dir, path, search}, envp, child);
	if (pl_enter() && !child)
		pl_streams_exec();
	errno = saved;
}

/* There is no new program. */
static int exec_failed(int rc)
{
	const int saved = errno;

	if (pl_owner())
		pl_streams_exec_failed();
	errno = saved;
	return rc;
}

PL_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	before_exec(AT_FDCWD, path, false, envp);
	return exec_failed(pl_real.execve(path, argv, envp));
}

PL_EXPORT int execv(const char *path, char *const argv[])
{
	before_exec(AT_FDCWD, path, false, environ);
	return exec_failed(pl_real.execv(path, argv));
}

PL_EXPORT int execvp(const char *file, char *const argv[])
{
	before_exec(AT_FDCWD, file, true, environ);
	return exec_failed(pl_real.execvp(file, argv));
}

PL_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	before_exec(AT_FDCWD, file, true, envp);
	return exec_failed(pl_real.execvpe(file, argv, envp));
}

PL_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	before_exec(fd, NULL, false, envp);
	return exec_failed(pl_real.fexecve(fd, argv, envp));
}

PL_EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	before_exec(dir, path, false, envp);
	return exec_failed(pl_real.execveat(dir, path, argv, envp, flags));
}

/* execl and its like: the arguments as an array. More than ARGS_MAX: E2BIG. */
#define COLLECT_ARGS(argv, first, args)                      \
	do {                                                 \
		size_t n_ = 0;                               \
		(argv)[0] = (char *)(uintptr_t)(first);      \
		while ((argv)[n_] && n_ < ARGS_MAX - 1)      \
			(argv)[++n_] = va_arg(args, char *); \
		if ((argv)[n_]) {                            \
			va_end(args);                        \
			errno = E2BIG;                       \
			return -1;                           \
		}                                            \
	} while (0)

PL_EXPORT int execl(const char *path, const char *arg, ...)
{
	char *argv[ARGS_MAX];
	va_list args;

	va_start(args, arg);
	COLLECT_ARGS(argv, arg, args);
	va_end(args);
	return execv(path, argv);
}

PL_EXPORT int execlp(const char *file, const char *arg, ...)
{
	char *argv[ARGS_MAX];
	va_list args;

	va_start(args, arg);
	COLLECT_ARGS(argv, arg, args);
	va_end(args);
	return execvp(file, argv);
}

PL_EXPORT int execle(const char *path, const char *arg, ...)
{
	char *argv[ARGS_MAX];
	char *const *envp;
	va_list args;

	va_start(args, arg);
	COLLECT_ARGS(argv, arg, args);
	envp = va_arg(args, char *const *);
	va_end(args);
	return execve(path, argv, envp);
}

PL_EXPORT void _exit(int status)
{
	pl_process_ends();
	pl_real._exit(status);
	__builtin_unreachable();
}

PL_EXPORT void _Exit(int status)
{
	pl_process_ends();
	pl_real._Exit(status);
	__builtin_unreachable();
}

PL_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
			  const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	bring_home(&(struct pl_program){AT_FDCWD, path, false}, envp, actions);
	return pl_real.posix_spawn(pid, path, actions, attr, argv, envp);
}

PL_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			   const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	bring_home(&(struct pl_program){AT_FDCWD, file, true}, envp, actions);
	return pl_real.posix_spawnp(pid, file, actions, attr, argv, envp);
}

/* Noted here, as the list of actions is libc's own. */
PL_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int to)
{
	pl_stream_handed_on(fd);
	return pl_real.posix_spawn_file_actions_adddup2(actions, fd, to);
}

/* ---- stdio -------------------------------------------------------------------------------------
 */

/* What lies in the ring, until it is empty and the stream is back on TCP. Return: bytes, in *ret.
 */
static size_t empty_ring(struct pl_stream *s, int fd, char **ret)
{
	size_t have = 0, room = 0;
	char *buf = NULL, *bigger;

	PL_IN_REGION;
	while (pl_stashed(s) || (pl_ready_follows(s) && !pl_ready_settle(s))) {
		const uint64_t queued = pl_rx_queued(s, UINT64_MAX);
		struct iovec iov;
		struct pl_vec v;
		ssize_t n;

		if (have + queued > room) {
			bigger = realloc(buf, have + queued);
			if (!bigger)
				break;
			buf = bigger;
			room = have + queued;
		}
		iov = (struct iovec){buf + have, room - have};
		if (!pl_vec_one(&v, &iov, 0))
			break;
		n = pl_rx(s, fd, &v, MSG_DONTWAIT, NULL);
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	*ret = buf;
	return have;
}

PL_EXPORT FILE *fdopen(int fd, const char *mode)
{
	const int entry_errno = errno;
	struct pl_stream *s = pl_hook_get(fd);
	char *unread = NULL;
	size_t n = 0;
	FILE *file;

	if (!s)
		return pl_real.fdopen(fd, mode);
	pl_stream_stay(s, COLOC_REASON_STDIO);
	(void)pl_tx_leave(s, fd, false);
	if (*mode == 'r' || strchr(mode, '+'))
		n = empty_ring(s, fd, &unread);
	/* The number is stdio's now, whose close is out of our sight. */
	pl_stream_strangers(s);
	pl_stream_forget(fd);
	(void)pl_fd_set(fd, PL_ENTRY_CLOSED, PL_PASS);
	pl_stream_put(s);
	errno = entry_errno;
	file = pl_real.fdopen(fd, mode);
	while (file && n) /* glibc takes back as many as one likes */
		(void)ungetc((unsigned char)unread[--n], file);
	free(unread);
	return file;
}

/* libc writes out of our sight */
static void before_dprintf(int fd)
{
	struct pl_stream *s = pl_hook_get(fd);

	if (!s)
		return;
	pl_stream_stay(s, COLOC_REASON_STDIO);
	(void)pl_tx_leave(s, fd, false);
	pl_stream_put(s);
}

PL_EXPORT int vdprintf(int fd, const char *format, va_list args)
{
	before_dprintf(fd);
	return pl_real.vdprintf(fd, format, args);
}

PL_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
	before_dprintf(fd);
	return pl_real.__vdprintf_chk(fd, flag, format, args);
}

PL_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = __vdprintf_chk(fd, flag, format, args);
	va_end(args);
	return n;
}

PL_EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vdprintf(fd, format, args);
	va_end(args);
	return n;
}
