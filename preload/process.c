/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.c - see process.h
 *
 * Threads: the connection is made and WELCOME read under connect_lock, by try-lock: whoever finds
 * it taken goes on without. A signal handler that interrupts the holder does the same. What WELCOME
 * brings is published by one release store of pl.local and is never unmapped.
 */
#include "process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <linux/netlink.h>

#include "agent_proto.h"
#include "clock.h"
#include "fdtable.h"
#include "gate.h"
#include "lock.h"
#include "log.h"
#include "pollset.h"
#include "stream.h"
#include "undo.h"

#define RETRY_NS	  1000000000u
#define ANSWER_MS	  1000
#define FD_HIGH		  1024 /* our descriptors lie below, where select() can still take them */
#define SOCKET_PATH_BYTES 108

struct pl_process pl = {.proc = COLOC_PROCS_MAX};

static char agent_path[SOCKET_PATH_BYTES];
static int agent_fd = -1; /* atomic */
static uint32_t welcomed; /* the connection has been answered */
static uint32_t waited;	  /* atomic; for the answer to a HELLO */
static uint64_t next_try_ns;
static uint64_t agent_starts; /* of the local memory when we were welcomed */
static uint32_t connect_lock; /* atomic */
static ino_t local_ino;
static enum coloc_reason no_agent_said = COLOC_REASON_NONE;

/* The lists spell a setting in lower case, its variable is in upper case. */
static const char *setting_from_environment(const char *name)
{
	char upper[64];
	char *c;

	snprintf(upper, sizeof(upper), "%s", name);
	for (c = upper; *c; c++)
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	return getenv(upper);
}

static void read_environment(void)
{
	const char *policy = getenv("COLOC_POLICY");
	const char *log_level = getenv("COLOC_LOG");
	const char *path = getenv("COLOC_AGENT");
	const char *value;
	char *end;
	int64_t number;

	if (log_level)
		pl_log_level = atoi(log_level);
	if (!path || strlen(path) >= sizeof(agent_path))
		path = COLOC_DEFAULT_SOCKET;
	strcpy(agent_path, path);
	if (policy && !strcmp(policy, "always"))
		pl.policy = PL_POLICY_ALWAYS;
	else if (policy && !strcmp(policy, "never"))
		pl.policy = PL_POLICY_NEVER;
	else if (policy && strcmp(policy, "auto"))
		pl_log_write("COLOC_POLICY=%s: not auto, always or never; auto is used", policy);

#define SETTING(section, key, def, min, max, text)                                             \
	value = setting_from_environment("COLOC_" #section "_" #key);                          \
	if (value) {                                                                           \
		errno = 0;                                                                     \
		number = strtoll(value, &end, 10);                                             \
		if (errno || end == value || *end || number < (min) || number > (max))         \
			pl_log_write("COLOC_" #section "_" #key "=%s: not a number from " #min \
				     " to " #max "; ignored",                                  \
				     value);                                                   \
		else                                                                           \
			pl.over.section##_##key = number, pl.over_set.section##_##key = 1;     \
	}
	COLOC_SHIM_SETTINGS(SETTING)
#undef SETTING
}

static uint64_t own_netns(void)
{
	struct stat st;

	return stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
}

void pl_process_start(void)
{
	const int saved = errno;
	static uint32_t begun; /* atomic */

	pl_real_resolve();
	if (!shmt_cas(&begun, 0, 1))
		return; /* another thread's, or ours further up: pass through meanwhile */
	pl_clock_init();
	pl.owner = getpid();
	read_environment();
	if (pl.policy == PL_POLICY_NEVER)
		goto out;
	pl.canary =
		mmap(NULL, SHMT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pl.canary == MAP_FAILED || madvise(pl.canary, SHMT_PAGE, MADV_WIPEONFORK) < 0 ||
	    pl_fdtable_init() < 0) {
		pl_log(1, "no memory for the descriptor table: every stream stays on TCP");
		goto out;
	}
	pl.canary[0] = pl.canary[1] = 1;
	shmt_store_release(&pl.enabled, 1);
out:
	errno = saved;
}

/* A copy out of the program's way; -1: there is no room for one. */
static int copy_high(int fd)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= 128)
		return -1;
	/* Not higher: each fork copies the kernel's table up to the highest number. */
	return pl_real.fcntl(fd, F_DUPFD_CLOEXEC,
			     (int)(limit.rlim_cur < FD_HIGH ? limit.rlim_cur : FD_HIGH) - 64);
}

int pl_fd_high(int fd)
{
	const int high = fd < 0 ? -1 : copy_high(fd);

	if (high < 0)
		return fd;
	pl_real.close(fd);
	return high;
}

bool pl_fd_vacate(int *own, int fd)
{
	int to;

	if (shmt_load(own) != fd)
		return true;
	to = copy_high(fd);
	if (to < 0)
		to = pl_real.fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (to >= 0)
		shmt_store(own, to);
	return to >= 0;
}

/* The agent cannot look into another network namespace: it gets a socket of ours to ask through. */
static int send_hello(int fd)
{
	struct coloc_hello_wire hello = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_HELLO},
		.pid = (uint32_t)getpid(),
		.again = pl.local != NULL,
		.netns = pl.netns,
	};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {&hello, sizeof(hello)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	const int diag =
		pl_real.socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 4 /* NETLINK_SOCK_DIAG */);
	int rc;

	snprintf(hello.command, sizeof(hello.command), "%.15s", program_invocation_short_name);
	if (diag >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &diag, sizeof(int));
	}
	rc = pl_real.sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
	if (diag >= 0)
		pl_real.close(diag);
	return rc;
}

static void disconnect(void)
{
	const int fd = agent_fd;

	shmt_store(&agent_fd, -1);
	shmt_store(&welcomed, 0);
	if (fd >= 0)
		pl_real.close(fd);
}

static void say_no_agent(enum coloc_reason reason)
{
	if (reason == no_agent_said)
		return;
	no_agent_said = reason;
	pl_log(1, "%s: %s (%s): streams stay on TCP", agent_path, coloc_reason_text(reason),
	       coloc_reason_name(reason));
}

static void connect_agent(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	memcpy(addr.sun_path, agent_path, sizeof(addr.sun_path));
	pl.netns = own_netns();
	fd = pl_real.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fd = pl_fd_high(fd);
	if (fd < 0)
		return;
	if (pl_real.connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		say_no_agent(errno == EACCES || errno == EPERM ? COLOC_REASON_AGENT_DENIED
							       : COLOC_REASON_NO_AGENT);
		pl_real.close(fd);
		return;
	}
	if (send_hello(fd) < 0) {
		say_no_agent(COLOC_REASON_NO_AGENT);
		pl_real.close(fd);
		return;
	}
	shmt_store(&welcomed, 0);
	shmt_store(&agent_fd, fd);
}

static bool local_is_sane(const struct coloc_local_shared *local, uint64_t bytes)
{
	return shmt_load_acquire(&local->magic) == COLOC_LOCAL_MAGIC &&
	       local->version == COLOC_LOCAL_VERSION && local->header_bytes == sizeof(*local) &&
	       local->record_bytes == sizeof(struct coloc_record_shared) &&
	       local->record_count >= COLOC_RECORD_WINDOW && local->record_count <= 262144 &&
	       (local->record_count & (local->record_count - 1)) == 0 &&
	       local->records_off >= sizeof(*local) && local->records_off % SHMT_LINE == 0 &&
	       local->records_off <= bytes &&
	       (uint64_t)local->record_count * local->record_bytes <= bytes - local->records_off &&
	       local->stash_off <= bytes && local->stash_bytes <= bytes - local->stash_off;
}

/*
 * Nobody uses what was mapped before: the agent has waited for that. Counted in, so that this one
 * does not go while it is looked at (gate.h).
 */
static void map_region(struct coloc_local_shared *local, const struct coloc_welcome_wire *welcome,
		       int region_fd)
{
	enum coloc_reason reason = COLOC_REASON_NONE;

	PL_IN_REGION;
	if (region_fd < 0 || !welcome->region_bytes || !welcome->region_attach ||
	    welcome->region_attach != shmt_load(&local->region_attach) ||
	    welcome->region_attach == pl.region_attach)
		return;
	shmt_store(&pl.region_attach, 0);
	shmt_region_unmap(&pl.region);
	if (shmt_region_map(region_fd, welcome->region_bytes, 0, &pl.region, &reason) == 0)
		shmt_store_release(&pl.region_attach, welcome->region_attach);
	else
		pl_log(1, "%s: %s", agent_path, coloc_reason_text(reason));
}

static enum coloc_reason map_memories(const struct coloc_welcome_wire *welcome, int local_fd,
				      int region_fd)
{
	struct coloc_local_shared *local;
	struct stat st;

	if (fstat(local_fd, &st) < 0 || (uint64_t)st.st_size < sizeof(*local))
		return COLOC_REASON_AGENT_VERSION;
	if (pl.local) { /* the agent was restarted: same file, or we cannot follow it */
		if (st.st_ino != local_ino)
			return COLOC_REASON_AGENT_VERSION;
		shmt_store(&pl.proc, welcome->proc);
		map_region(pl.local, welcome, region_fd);
		return COLOC_REASON_NONE;
	}
	local = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, local_fd, 0);
	if (local == MAP_FAILED)
		return COLOC_REASON_AGENT_VERSION;
	if (!local_is_sane(local, st.st_size) || pl_streams_init(local->record_count) < 0) {
		munmap(local, st.st_size);
		return COLOC_REASON_AGENT_VERSION;
	}
	local_ino = st.st_ino;
	pl.records = (struct coloc_record_shared *)((uint8_t *)local + local->records_off);
	pl.record_count = local->record_count;
	pl.stash = (uint8_t *)local + local->stash_off;
	pl.stash_bytes = local->stash_bytes;
	shmt_store(&pl.proc, welcome->proc);
	shmt_store_release(&pl.local, local);
	shmt_store_release(&pl.removable, local->region_removable);
	map_region(local, welcome, region_fd);
	if (region_fd < 0 || !welcome->region_bytes)
		pl_log(1, "%s: %s", agent_path,
		       coloc_reason_text(shmt_load_acquire(&local->region_reason)));
	return COLOC_REASON_NONE;
}

/* false: nothing has come, or it ended the connection */
static bool take_welcome(void)
{
	struct coloc_welcome_wire welcome = {.proc = COLOC_PROCS_MAX};
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {&welcome, sizeof(welcome)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	enum coloc_reason reason = COLOC_REASON_AGENT_VERSION;
	int fds[4] = {-1, -1, -1, -1};
	struct cmsghdr *c;
	ssize_t n;
	int i;

	n = pl_real.recvmsg(agent_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n > 0)
		for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
			if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
			    c->cmsg_len <= CMSG_LEN(sizeof(fds)))
				memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	if (n == 0) {
		reason = COLOC_REASON_AGENT_DENIED;
	} else if (n == sizeof(welcome) && welcome.header.magic == COLOC_PROTO_MAGIC &&
		   welcome.header.version == COLOC_PROTO_VERSION &&
		   welcome.header.type == COLOC_MSG_WELCOME) {
		reason = welcome.reason < COLOC_REASON_COUNT ? welcome.reason
							     : COLOC_REASON_AGENT_VERSION;
		if (reason == COLOC_REASON_NONE && fds[0] >= 0 && welcome.proc < COLOC_PROCS_MAX)
			reason = map_memories(&welcome, fds[0], fds[1]);
	}
	for (i = 0; i < 4; i++)
		if (fds[i] >= 0)
			pl_real.close(fds[i]);
	if (reason != COLOC_REASON_NONE) {
		say_no_agent(reason);
		disconnect();
		return false;
	}
	shmt_store(&welcomed, 1);
	no_agent_said = COLOC_REASON_NONE;
	shmt_store(&agent_starts, shmt_load_acquire(&pl.local->agent_starts));
	pl_streams_claim();
	return true;
}

static bool new_agent(const struct coloc_local_shared *local)
{
	return shmt_load_relaxed(&local->agent_starts) != shmt_load(&agent_starts);
}

static bool new_region(const struct coloc_local_shared *local)
{
	const uint32_t attach = shmt_load_relaxed(&local->region_attach);

	return attach && attach != shmt_load_relaxed(&pl.region_attach);
}

void pl_process_follow(void)
{
	if (new_region(pl.local))
		(void)pl_process_agent();
}

struct coloc_local_shared *pl_process_agent(void)
{
	struct coloc_local_shared *local = shmt_load_acquire(&pl.local);
	const int saved = errno;
	uint64_t now;

	if (local && shmt_load(&welcomed) && !new_agent(local) && !new_region(local))
		return local;
	if (!shmt_cas(&connect_lock, 0, 1))
		return local;
	if (local && shmt_load(&welcomed)) {
		if (new_agent(local))
			disconnect();
		else
			while (new_region(local) && take_welcome())
				;
	}
	if (shmt_load(&agent_fd) < 0) {
		now = pl_now_ns();
		if (now >= shmt_load(&next_try_ns)) {
			shmt_store(&next_try_ns, now + RETRY_NS);
			connect_agent();
		}
	}
	if (shmt_load(&agent_fd) >= 0 && !shmt_load(&welcomed))
		(void)take_welcome();
	shmt_store(&connect_lock, 0);
	errno = saved;
	return shmt_load_acquire(&pl.local);
}

/* Once in a process, and only if it was sent: an agent that is stopped holds nobody up for long. */
static void await_answer(void)
{
	struct pollfd p = {.fd = shmt_load(&agent_fd), .events = POLLIN};
	const uint64_t end_ns = pl_now_ns() + ANSWER_MS * 1000000ull;
	const int saved = errno;
	int n;

	if (p.fd < 0 || shmt_load(&welcomed) || !shmt_cas(&waited, 0, 1))
		return;
	do
		n = pl_real.poll(&p, 1, ANSWER_MS);
	while (n < 0 && errno == EINTR && pl_now_ns() < end_ns);
	if (n > 0)
		(void)pl_process_agent();
	errno = saved;
}

struct coloc_local_shared *pl_process_wait_agent(void)
{
	if (!shmt_load_acquire(&pl.local))
		await_answer();
	return shmt_load_acquire(&pl.local);
}

uint32_t pl_process_number(void)
{
	if (shmt_load(&pl.proc) == COLOC_PROCS_MAX)
		(void)pl_process_agent();
	if (shmt_load(&pl.proc) == COLOC_PROCS_MAX)
		await_answer();
	return shmt_load(&pl.proc);
}

void pl_process_tell(unsigned int type, uint32_t record, uint32_t generation)
{
	const struct coloc_record_wire wire = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, (uint16_t)type},
		.record = record,
		.generation = generation,
	};
	const int saved = errno;

	(void)pl_process_agent();
	if (shmt_load(&welcomed) &&
	    pl_real.send(shmt_load(&agent_fd), &wire, sizeof(wire), MSG_NOSIGNAL | MSG_DONTWAIT) <
		    0 &&
	    errno != EAGAIN && errno != EINTR && shmt_cas(&connect_lock, 0, 1)) {
		disconnect();
		shmt_store(&connect_lock, 0);
	}
	errno = saved;
}

void pl_process_unserved(enum coloc_reason reason)
{
	if (!pl.enabled)
		return;
	shmt_store(&pl.unserved, reason);
	pl_streams_stay(reason);
}

bool pl_process_waits(void)
{
	/* In this order: whoever sees that it was tried, and nobody at it, sees what came of it. */
	const uint64_t next_ns = shmt_load(&next_try_ns);

	return pl_now_ns() < next_ns && !shmt_load(&connect_lock) && shmt_load(&agent_fd) < 0 &&
	       !shmt_load_acquire(&pl.local);
}

bool pl_process_own_fd(int fd)
{
	return fd >= 0 && fd == shmt_load_relaxed(&agent_fd);
}

bool pl_process_vacate(int fd)
{
	bool vacant = false;

	if (!pl_process_own_fd(fd))
		return true;
	if (shmt_cas(&connect_lock, 0, 1)) {
		vacant = pl_fd_vacate(&agent_fd, fd);
		shmt_store(&connect_lock, 0);
	}
	return vacant;
}

void pl_process_renumber(void)
{
	if (pl.canary[1])
		return;
	pl.canary[1] = 1;
	pl_lock_forked();
}

void pl_process_fork_noticed(void)
{
	*pl.canary = 1;
	pl.owner = getpid();
	pl_process_renumber();
	pl_gate = (struct pl_gate){0}; /* counted for the parent's thread */
	connect_lock = 0;
	disconnect(); /* our copy only: the parent's connection lives on */
	shmt_store(&next_try_ns, 0);
	waited = 0;
	pl.proc = COLOC_PROCS_MAX;
	pl_streams_forked();
	pl_pollset_forked();
	pl_undo_forked();
}

void pl_process_forked(void)
{
	pl_process_fork_noticed();
	if (shmt_load_acquire(&pl.local))
		(void)pl_process_agent();
}

void pl_process_ends(void)
{
	if (!shmt_load_acquire(&pl_real_ready))
		pl_process_start();
	if (!shmt_load_acquire(&pl.enabled))
		return;
	if (!*pl.canary)
		pl_process_fork_noticed();
	else if (pl_is_vfork_child())
		return;
	shmt_store(&waited, 1); /* not any more */
	pl_streams_end();
}

/* exit(), a return from main(), and quick_exit(); _exit() is hooked. */
__attribute__((destructor)) static void end(void)
{
	pl_process_ends();
}

__attribute__((constructor)) static void start(void)
{
	pl_process_start();
	(void)at_quick_exit(end);
}
