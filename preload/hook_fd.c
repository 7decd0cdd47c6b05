/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_fd.c - the life of descriptors: what hands a number out, copies it, or ends it
 *
 * A number that is handed out forgets what it was, even if its close was out of our sight (stdio, a
 * raw system call). In a vfork child nothing changes: it runs on its parent's table.
 */
#include "hook.h"

#include <stdarg.h>
#include <sys/prctl.h>

#include "epset.h"
#include "pass.h"
#include "pollset.h"
#include "sandbox.h"
#include "ready.h"

static bool own_fd(int fd)
{
	return pl_process_own_fd(fd) || pl_epset_own_fd(fd) || pl_poll_own_fd(fd);
}

/* A call of ours returned @fd: whatever was known of the number is over. */
static int fresh(int fd)
{
	const int saved = errno;

	/* Closed by us before: it is new, and a vfork child may say so, too. */
	if (fd >= 0 && pl_enter() && !pl_fd_set(fd, PL_ENTRY_CLOSED, PL_NEW) &&
	    !pl_is_vfork_child())
		pl_stream_fresh(fd);
	errno = saved;
	return fd;
}

PL_EXPORT int socket(int domain, int type, int protocol)
{
	pl_enter();
	return fresh(pl_real.socket(domain, type, protocol));
}

PL_EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
	int rc;

	pl_enter();
	rc = pl_real.socketpair(domain, type, protocol, fds);
	if (rc == 0) {
		fresh(fds[0]);
		fresh(fds[1]);
	}
	return rc;
}

PL_EXPORT int accept(int fd, __SOCKADDR_ARG addr, socklen_t *len)
{
	pl_enter();
	return fresh(pl_real.accept(fd, addr, len));
}

PL_EXPORT int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
	pl_enter();
	return fresh(pl_real.accept4(fd, addr, len, flags));
}

PL_EXPORT int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	int rc, saved;

	pl_enter();
	rc = pl_real.connect(fd, addr, len);
	saved = errno;
	/* Now, or soon (EINPROGRESS), it may be a stream; its epoll items stay with it. */
	if (!pl_enter())
		;
	else if (PL_ENTRY_KIND(pl_fd_entry(fd)) == PL_UNCONNECTED && !pl_is_vfork_child())
		(void)pl_fd_set(fd, pl_fd_entry(fd), PL_NEW);
	else if (rc == 0 && addr.__sockaddr__->sa_family == AF_UNSPEC && !pl_is_vfork_child()) {
		/* Dissolved: it may be connected anew. */
		pl_stream_flush_interest(fd);
		pl_stream_fresh(fd);
	}
	errno = saved;
	return rc;
}

PL_EXPORT int shutdown(int fd, int how)
{
	const uint32_t halves =
		(how != SHUT_RD ? PL_FD_SHUT_WR : 0u) | (how != SHUT_WR ? PL_FD_SHUT_RD : 0u);
	struct pl_stream *s;
	int rc, saved;

	/* The kernel's FIN follows everything: a reader takes it only when the ring is empty. */
	pl_enter();
	rc = pl_real.shutdown(fd, how);
	saved = errno;
	s = NULL;
	if (rc == 0 && pl_enter()) {
		if (!pl_pass_unseen(fd))
			s = pl_hook_get(fd);
		/* Not looked at, or nothing can be found out yet: for when that is so. */
		if (!s && !pl_fd_note(fd, PL_NEW, halves))
			s = pl_hook_get(fd);
	}
	if (s) {
		/* Another process may have it on a ring: the flags say it to all. */
		if (pl_stream_wants_attach(s))
			pl_stream_attach(s, fd);
		if (how != SHUT_RD)
			pl_stream_shut(s);
		if (how != SHUT_WR)
			pl_stream_shut_rd(s);
		pl_stream_put(s);
	}
	errno = saved;
	return rc;
}

/*
 * A NEW number that no set has ends without a question: in a vfork child, too, for the parent then
 * looks at it when it uses it next.
 */
static bool end_new(int fd)
{
	const uint64_t entry = pl_fd_entry(fd);

	if (PL_ENTRY_KIND(entry) != PL_NEW || own_fd(fd) || pl_epset_has(fd) ||
	    !pl_fd_set(fd, entry, PL_ENTRY(PL_UNKNOWN, 0, PL_ENTRY_INDEX(entry) | PL_FD_CLOSED)))
		return false;
	shmt_store_relaxed(&pl_fdtable[fd].calls, 0);
	return true;
}

PL_EXPORT int close(int fd)
{
	const int saved = errno;

	if (pl_enter() && !end_new(fd) && !pl_is_vfork_child()) {
		if (PL_UNLIKELY(own_fd(fd))) { /* the program never got it: as if not open */
			errno = EBADF;
			return -1;
		}
		pl_stream_forget(fd);
		errno = saved;
	}
	if (PL_UNLIKELY(pl_sandbox_left))
		pl_sandbox_forget(fd);
	return pl_real.close(fd);
}

PL_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	unsigned int fd, from = first, top;
	int rc;

	if (!pl_owner() || first > last || flags)
		return pl_real.close_range(first, last, flags);
	top = shmt_load(&pl_fdtable_top);
	for (fd = first; fd <= last && fd < top; fd++)
		pl_stream_forget((int)fd);
	/* Leave our own descriptors out, piece by piece. */
	for (fd = first < 3 ? 3 : first; fd <= last && fd < PL_FD_MAX; fd++) {
		if (!own_fd((int)fd))
			continue;
		if (fd > from) {
			rc = pl_real.close_range(from, fd - 1, 0);
			if (rc < 0)
				return rc;
		}
		from = fd + 1;
	}
	return from <= last ? pl_real.close_range(from, last, 0) : 0;
}

PL_EXPORT void closefrom(int first)
{
	(void)close_range(first < 0 ? 0 : (unsigned int)first, ~0u, 0);
}

/*
 * libc's stdin, stdout and stderr read and write at these numbers, out of our sight: a stream that
 * gets one of them, by dup2() or from whoever exec'd the program, comes home. From then on it
 * receives by TCP, and is sent on as tx.c says.
 */
static void standard(int fd)
{
	struct pl_stream *s = fd >= 0 && fd <= STDERR_FILENO ? pl_hook_get(fd) : NULL;

	if (!s)
		return;
	pl_tx_standard(s, fd);
	{
		PL_IN_REGION;
		if (pl_ready_follows(s))
			(void)pl_ready_settle(s);
	}
	pl_stream_put(s);
}

__attribute__((constructor)) static void standard_inherited(void)
{
	const int saved = errno;
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		standard(fd);
	errno = saved;
}

static int copied(int from, int to)
{
	const int saved = errno;

	if (to >= 0 && to != from && pl_owner()) {
		pl_stream_copy(from, to);
		standard(to);
	} else if (to >= 0 && to != from && pl_enter()) {
		pl_stream_handed_on(from); /* in a vfork child: for the program to come */
	}
	errno = saved;
	return to;
}

PL_EXPORT int dup(int fd)
{
	pl_enter();
	return copied(fd, pl_real.dup(fd));
}

/*
 * dup2 onto a number closes what it was. The old entry goes first, so that no thread uses it for
 * the new file; if the call then fails, it is looked at anew. A number of ours is free to the
 * program: ours moves away. false: it cannot, and errno is set as by the kernel for a number that
 * another thread is about to open.
 */
static bool before_onto(int from, int to)
{
	const int saved = errno;

	if (from != to && pl_owner() && pl_real.fcntl(from, F_GETFD) >= 0) {
		if (PL_UNLIKELY(own_fd(to)) &&
		    !(pl_process_vacate(to) && pl_epset_vacate(to) && pl_poll_vacate(to))) {
			errno = EBUSY;
			return false;
		}
		pl_stream_forget(to);
	}
	errno = saved;
	return true;
}

PL_EXPORT int dup2(int from, int to)
{
	pl_enter();
	return before_onto(from, to) ? copied(from, pl_real.dup2(from, to)) : -1;
}

PL_EXPORT int dup3(int from, int to, int flags)
{
	pl_enter();
	return before_onto(from, to) ? copied(from, pl_real.dup3(from, to, flags)) : -1;
}

/* ---- flags and options -------------------------------------------------------------------------
 */

static void set_nonblock(int fd, bool on)
{
	struct pl_stream *s;

	/* Whoever looks later asks the kernel; who is about to begins anew. */
	if (pl_enter() && pl_pass_unseen(fd) && pl_fd_note(fd, PL_NEW, 0))
		return;
	s = pl_hook_get(fd);
	if (!s)
		return;
	if (on)
		shmt_or(&s->rec->flags, COLOC_RECORD_NONBLOCK);
	else
		shmt_and(&s->rec->flags, ~COLOC_RECORD_NONBLOCK);
	pl_stream_put(s);
}

/* For what matters only on a ring. */
static struct pl_stream *seen(int fd)
{
	return pl_enter() && pl_pass_unseen(fd) ? NULL : pl_hook_get(fd);
}

static void stay(int fd, enum coloc_reason reason)
{
	struct pl_stream *s = pl_hook_get(fd);

	if (!s)
		return;
	pl_stream_stay(s, reason);
	pl_stream_put(s);
}

static int do_fcntl(int fd, int cmd, void *arg)
{
	int rc = pl_real.fcntl(fd, cmd, arg);
	const int saved = errno;

	if (rc >= 0 && pl_enter()) {
		switch (cmd) {
		case F_DUPFD:
		case F_DUPFD_CLOEXEC:
			copied(fd, rc);
			break;
		case F_SETFL:
			set_nonblock(fd, (long)arg & O_NONBLOCK);
			if ((long)arg & O_ASYNC)
				stay(fd, COLOC_REASON_ASYNC_IO);
			break;
		}
	}
	errno = saved;
	return rc;
}

/* Whatever the third argument is, it came in one register: handed on as one. */
#define ONE_ARGUMENT(last, ret)                \
	do {                                   \
		va_list args_;                 \
		va_start(args_, last);         \
		(ret) = va_arg(args_, void *); \
		va_end(args_);                 \
	} while (0)

PL_EXPORT int fcntl(int fd, int cmd, ...)
{
	void *arg;

	ONE_ARGUMENT(cmd, arg);
	pl_enter();
	return do_fcntl(fd, cmd, arg);
}

PL_EXPORT int fcntl64(int fd, int cmd, ...)
{
	void *arg;

	ONE_ARGUMENT(cmd, arg);
	pl_enter();
	return do_fcntl(fd, cmd, arg);
}

PL_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct pl_stream *s;
	void *arg;
	int rc, saved;

	ONE_ARGUMENT(request, arg);
	pl_enter();
	rc = pl_real.ioctl(fd, request, arg);
	saved = errno;
	if (rc < 0)
		return rc;
	switch (request) {
	case FIONBIO:
		set_nonblock(fd, *(int *)arg != 0);
		break;
	case FIOASYNC:
		if (*(int *)arg)
			stay(fd, COLOC_REASON_ASYNC_IO);
		break;
	case FIONREAD: /* SIOCINQ */
		s = seen(fd);
		if (s) {
			if (pl_stream_wants_attach(s)) /* another process may have it on a ring */
				pl_stream_attach(s, fd);
			*(int *)arg += (int)pl_rx_queued(s, (uint64_t) * (int *)arg);
			/* One that the program has had, but for this. */
			*(int *)arg -= *(int *)arg > 0 ? (int)pl_ready_held(s) : 0;
			pl_stream_put(s);
		}
		break;
	case TIOCOUTQ: /* SIOCOUTQ */
		s = seen(fd);
		if (s) {
			if (pl_stream_wants_attach(s))
				pl_stream_attach(s, fd);
			*(int *)arg += (int)pl_tx_queued(s);
			pl_stream_put(s);
		}
		break;
	}
	errno = saved;
	return rc;
}

/* Options that take the socket out of plain stream use, or that the ring cannot honour. */
static bool takes_off_ring(int level, int name, const void *value, socklen_t len)
{
	const int on = value && len >= sizeof(int) ? *(const int *)value : 1;

	if (level == SOL_SOCKET)
		switch (name) {
		case SO_RCVLOWAT:
			return on > 1;
		case SO_PEEK_OFF:
			return on >= 0;
		case SO_OOBINLINE:
		case SO_ZEROCOPY:
		case SO_TIMESTAMP:
		case SO_TIMESTAMPNS:
		case SO_TIMESTAMPING:
			return on != 0;
		}
	if (level == 6 /* IPPROTO_TCP */)
		switch (name) {
		case 19: /* TCP_REPAIR */
		case 31: /* TCP_ULP: kTLS */
		case 36: /* TCP_INQ */
			return on != 0;
		}
	return false;
}

PL_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int rc, saved;

	pl_enter();
	rc = pl_real.setsockopt(fd, level, name, value, len);
	saved = errno;
	if (rc == 0 && takes_off_ring(level, name, value, len))
		stay(fd, COLOC_REASON_SOCKET_OPTION);
	errno = saved;
	return rc;
}

/* ---- other calls that hand out numbers ----------------------------------------------------------
 */

#define MODE_OF(flags, last, ret)                        \
	do {                                             \
		(ret) = 0;                               \
		if ((flags) & (O_CREAT | __O_TMPFILE)) { \
			va_list args_;                   \
			va_start(args_, last);           \
			(ret) = va_arg(args_, mode_t);   \
			va_end(args_);                   \
		}                                        \
	} while (0)

PL_EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	pl_enter();
	return fresh(pl_real.open(path, flags, mode));
}

PL_EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	pl_enter();
	return fresh(pl_real.open64(path, flags, mode));
}

PL_EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	pl_enter();
	return fresh(pl_real.openat(dir, path, flags, mode));
}

PL_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode;

	MODE_OF(flags, flags, mode);
	pl_enter();
	return fresh(pl_real.openat64(dir, path, flags, mode));
}

PL_EXPORT int pipe2(int fds[2], int flags)
{
	int rc;

	pl_enter();
	rc = pl_real.pipe2(fds, flags);
	if (rc == 0) {
		fresh(fds[0]);
		fresh(fds[1]);
	}
	return rc;
}

PL_EXPORT int pipe(int fds[2])
{
	return pipe2(fds, 0);
}

PL_EXPORT int eventfd(unsigned int count, int flags)
{
	pl_enter();
	return fresh(pl_real.eventfd(count, flags));
}

PL_EXPORT int timerfd_create(int clock, int flags)
{
	pl_enter();
	return fresh(pl_real.timerfd_create(clock, flags));
}

/* A filter is made for the program's own calls. */
PL_EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list args;
	int i;

	va_start(args, option);
	for (i = 0; i < 4; i++)
		a[i] = va_arg(args, unsigned long);
	va_end(args);
	pl_enter();
	if (option == PR_SET_SECCOMP)
		pl_sandbox_enter();
	return pl_real.prctl(option, a[0], a[1], a[2], a[3]);
}
