/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_harness.h - real agents in a temporary folder, and processes that talk to them as the shim
 * does
 *
 * An agent is started with a notification socket, as systemd would, so that its READY is waited for
 * and not guessed. A fake shim claims records, sends JOIN and looks at grants. What happens in
 * shared memory is awaited by looking, every millisecond, for a bounded time.
 */
#ifndef AGENT_HARNESS_H
#define AGENT_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "agent_proto.h"
#include "atomic.h"
#include "record_hash.h"
#include "region.h"

#define UNUSED	    __attribute__((unused))
#define PATIENCE_MS 15000

/* ---- waiting -----------------------------------------------------------------------------------
 */

static UNUSED int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static UNUSED bool look_again(int64_t deadline_ms)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	nanosleep(&pause, NULL);
	return now_ms() < deadline_ms;
}

/* wait_for() - until @cond, which others make true; fails after PATIENCE_MS */
#define wait_for(cond)                                                    \
	do {                                                              \
		const int64_t deadline_ = now_ms() + PATIENCE_MS;         \
		while (!(cond))                                           \
			if (!look_again(deadline_))                       \
				fail_msg("waited in vain for %s", #cond); \
	} while (0)

/* ---- agents ------------------------------------------------------------------------------------
 */

struct agent {
	char folder[128]; /* of its socket */
	char socket[160], config[160];
	const char *region;
	const char *const *environment; /* pairs, ends with NULL; may be NULL */
	pid_t pid;
};

static char test_folder[96], test_region[128];

static UNUSED int make_folder(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(test_folder, sizeof(test_folder), "%.60s/agent.XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(test_folder))
		return -1;
	snprintf(test_region, sizeof(test_region), "%s/region", test_folder);
	return 0;
}

static UNUSED int remove_folder(void **state)
{
	char command[160];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", test_folder);
	return system(command);
}

static UNUSED const char *program(const char *name)
{
	static char path[512];
	const char *build = getenv("T_BUILD");

	snprintf(path, sizeof(path), "%.400s/%s", build ? build : "build", name);
	return path;
}

static UNUSED void write_config(const struct agent *agent, const char *text)
{
	FILE *file = fopen(agent->config, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static UNUSED void agent_init(struct agent *agent, const char *name, const char *config)
{
	memset(agent, 0, sizeof(*agent));
	snprintf(agent->folder, sizeof(agent->folder), "%s/%s", test_folder, name);
	assert_int_equal(mkdir(agent->folder, 0755), 0);
	snprintf(agent->socket, sizeof(agent->socket), "%s/s", agent->folder);
	snprintf(agent->config, sizeof(agent->config), "%s/coloc.conf", agent->folder);
	agent->region = test_region;
	write_config(agent, config);
}

static UNUSED int notify_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	unlink(path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static UNUSED void exec_agent(const struct agent *agent, const char *notify, int output)
{
	const char *const *pair = agent->environment;

	setenv("NOTIFY_SOCKET", notify, 1);
	for (; pair && pair[0]; pair += 2)
		setenv(pair[0], pair[1], 1);
	if (output >= 0)
		dup2(output, STDERR_FILENO);
	execl(program("residency-agent"), "residency-agent", "--config", agent->config, "--socket",
	      agent->socket, "--region", agent->region, "--foreground", (char *)NULL);
	_exit(99);
}

/* Its output goes to the file "log" beside the socket. */
static UNUSED void agent_start(struct agent *agent)
{
	struct pollfd ready = {.events = POLLIN};
	char notify[160], log[160], text[256];
	int64_t deadline = now_ms() + PATIENCE_MS;
	ssize_t got;
	int output;

	snprintf(notify, sizeof(notify), "%s/n", agent->folder);
	snprintf(log, sizeof(log), "%s/log", agent->folder);
	output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	ready.fd = notify_socket(notify);
	agent->pid = fork();
	assert_true(agent->pid >= 0);
	if (agent->pid == 0)
		exec_agent(agent, notify, output);
	close(output);
	do {
		assert_true(now_ms() < deadline);
		got = poll(&ready, 1, 100) == 1 ? recv(ready.fd, text, sizeof(text) - 1, 0) : 0;
		text[got > 0 ? got : 0] = 0;
		assert_int_equal(waitpid(agent->pid, NULL, WNOHANG), 0);
	} while (!strstr(text, "READY=1"));
	close(ready.fd);
}

/* For those that do not get as far as READY. Return: exit status; @text: what it said */
static UNUSED int agent_fails(struct agent *agent, char *text, size_t size)
{
	int pipe_fds[2], status;
	size_t used = 0;
	ssize_t got;

	assert_int_equal(pipe(pipe_fds), 0);
	agent->pid = fork();
	if (agent->pid == 0)
		exec_agent(agent, "", pipe_fds[1]);
	close(pipe_fds[1]);
	while (used < size - 1 && (got = read(pipe_fds[0], text + used, size - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = 0;
	close(pipe_fds[0]);
	assert_int_equal(waitpid(agent->pid, &status, 0), agent->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static UNUSED int agent_stop(struct agent *agent, int signal)
{
	int status;

	assert_int_equal(kill(agent->pid, signal), 0);
	assert_int_equal(waitpid(agent->pid, &status, 0), agent->pid);
	agent->pid = 0;
	return status;
}

/* ---- packets -----------------------------------------------------------------------------------
 */

static UNUSED int agent_connect(const struct agent *agent)
{
	const struct timeval limit = {.tv_sec = 10};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, agent->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static UNUSED struct coloc_header_wire header(unsigned int type)
{
	return (struct coloc_header_wire){COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, (uint16_t)type};
}

/* A verb; the answer as JSON, and its status. */
static UNUSED json_t *ask(const struct agent *agent, uint32_t verb, int *ret_status)
{
	const struct coloc_control_wire control = {header(COLOC_MSG_CONTROL), verb, 0};
	const int fd = agent_connect(agent);
	struct coloc_data_wire data;
	char *text = calloc(1, 1 << 20);
	size_t used = 0;
	json_t *json;
	ssize_t got;

	assert_int_equal(send(fd, &control, sizeof(control), MSG_NOSIGNAL), sizeof(control));
	do {
		got = recv(fd, &data, sizeof(data), 0);
		assert_true(got >= (ssize_t)offsetof(struct coloc_data_wire, text));
		assert_int_equal(got, offsetof(struct coloc_data_wire, text) + data.bytes);
		assert_true(used + data.bytes < 1 << 20);
		memcpy(text + used, data.text, data.bytes);
		used += data.bytes;
	} while (data.header.type == COLOC_MSG_DATA);
	assert_int_equal(data.header.type, COLOC_MSG_END);
	if (ret_status)
		*ret_status = data.status;
	else
		assert_int_equal(data.status, 0);
	close(fd);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	free(text);
	return json;
}

/* A number of STATUS or STATS, by path "a.b". */
static UNUSED int64_t fact(const struct agent *agent, uint32_t verb, const char *path)
{
	json_t *json = ask(agent, verb, NULL), *at = json;
	char copy[64], *rest = copy, *key;
	int64_t value;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((key = strsep(&rest, ".")))
		at = json_object_get(at, key);
	if (json_is_array(at))
		value = (int64_t)json_array_size(at);
	else
		value = json_is_boolean(at) ? json_is_true(at) : json_integer_value(at);
	json_decref(json);
	return value;
}

#define status_of(agent, path) fact((agent), COLOC_VERB_STATUS, (path))

/* ---- a process as the agent sees it ------------------------------------------------------------
 */

struct shim {
	int fd;
	struct coloc_welcome_wire welcome;
	struct coloc_local_shared *local;
	struct coloc_record_shared *records;
	struct shmt_region region;
};

static UNUSED void send_hello(int fd)
{
	struct coloc_hello_wire hello = {.header = header(COLOC_MSG_HELLO),
					 .pid = (uint32_t)getpid()};
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	hello.netns = st.st_ino;
	strcpy(hello.command, "test");
	assert_int_equal(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
}

/* Number of descriptors that came with WELCOME, in @fds. */
static UNUSED int take_welcome(int fd, struct coloc_welcome_wire *welcome, int fds[4])
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {welcome, sizeof(*welcome)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	const struct cmsghdr *rights;
	int count = 0;

	assert_int_equal(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), sizeof(*welcome));
	assert_int_equal(welcome->header.type, COLOC_MSG_WELCOME);
	rights = CMSG_FIRSTHDR(&message);
	if (rights) {
		count = (int)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(rights), (size_t)count * sizeof(int));
	}
	return count;
}

static UNUSED void shim_start(struct shim *shim, const struct agent *agent)
{
	enum coloc_reason reason;
	int fds[4], count;

	memset(shim, 0, sizeof(*shim));
	shim->fd = agent_connect(agent);
	send_hello(shim->fd);
	count = take_welcome(shim->fd, &shim->welcome, fds);
	assert_int_equal(shim->welcome.reason, COLOC_REASON_NONE);
	assert_int_equal(count, shim->welcome.region_bytes ? 2 : 1);
	shim->local = mmap(NULL, shim->welcome.local_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fds[0], 0);
	assert_ptr_not_equal(shim->local, MAP_FAILED);
	assert_true(shmt_load_acquire(&shim->local->magic) == COLOC_LOCAL_MAGIC);
	shim->records = (void *)((char *)shim->local + shim->local->records_off);
	close(fds[0]);
	if (count == 2) {
		assert_int_equal(shmt_region_map(fds[1], shim->welcome.region_bytes, 0,
						 &shim->region, &reason),
				 0);
		close(fds[1]);
	}
}

static UNUSED void shim_stop(struct shim *shim)
{
	close(shim->fd);
	munmap(shim->local, shim->welcome.local_bytes);
	shmt_region_unmap(&shim->region);
}

/* ---- two guests in one network namespace of our own
 ------------------------------------------------

 * A veth pair gives each an interface whose address it publishes; the other one's is excluded. The
 * connection itself goes over the loopback interface: pairing does not know the difference.
 */
#define RED_ADDRESS  "10.9.0.1"
#define BLUE_ADDRESS "10.9.0.2"

/* 0, or why not */
static UNUSED const char *private_network(void)
{
	static const char setup[] = "exec 2>/dev/null; ip link set lo up && "
				    "ip link add red type veth peer name blue && "
				    "ip addr add " RED_ADDRESS "/24 dev red && "
				    "ip addr add " BLUE_ADDRESS "/24 dev blue && "
				    "ip link set red up && ip link set blue up";

	if (unshare(CLONE_NEWNET) < 0)
		return "needs a network namespace of its own (root)";
	return system(setup) ? "cannot make a veth pair" : NULL;
}

static UNUSED void guests_init(struct agent *red, struct agent *blue)
{
	agent_init(red, "red",
		   "[region]\nsize = 16M\n[guest]\nname = red\nsuspect_ms = 500\n"
		   "[residency]\ninterfaces = red\n[pairing]\noffer_ms = 300\n");
	agent_init(blue, "blue",
		   "[region]\nsize = 16M\n[guest]\nname = blue\nsuspect_ms = 500\n"
		   "[residency]\ninterfaces = blue\n[pairing]\noffer_ms = 300\n");
}

/* ---- streams -----------------------------------------------------------------------------------
 */

struct stream {
	int fd;
	uint32_t record, generation;
};

static UNUSED void connect_pair(const char *from, const char *to, int fds[2])
{
	struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET};
	const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(there);

	assert_int_equal(inet_pton(AF_INET, from, &here.sin_addr), 1);
	assert_int_equal(inet_pton(AF_INET, to, &there.sin_addr), 1);
	assert_int_equal(bind(listener, (struct sockaddr *)&there, sizeof(there)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&there, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fds[0], (struct sockaddr *)&here, sizeof(here)), 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&there, sizeof(there)), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
}

static UNUSED struct shmt_endpoint endpoint_of(const struct sockaddr_in *address)
{
	struct shmt_endpoint end = {.addr = {[10] = 0xff, [11] = 0xff},
				    .port = ntohs(address->sin_port)};

	memcpy(end.addr + 12, &address->sin_addr, 4);
	return end;
}

/* As the shim does: the record of @fd, claimed and filled in. */
static UNUSED struct stream make_record(struct shim *shim, int fd)
{
	struct coloc_local_shared *local = shim->local;
	struct coloc_record_shared *record = NULL;
	struct sockaddr_in here, there;
	struct stream stream = {.fd = fd};
	struct shmt_endpoint ends[2];
	socklen_t len = sizeof(here);
	struct stat st;
	uint32_t i, first;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &len), 0);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&there, &len), 0);
	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	ends[0] = endpoint_of(&here);
	ends[1] = endpoint_of(&there);
	first = (uint32_t)coloc_record_hash(&ends[0], &ends[1]);
	for (i = 0; i < COLOC_RECORD_WINDOW; i++) {
		stream.record = (first + i) & (local->record_count - 1);
		record = &shim->records[stream.record];
		if (shmt_cas(&record->state, COLOC_RECORD_FREE, COLOC_RECORD_CLAIMED))
			break;
	}
	assert_true(i < COLOC_RECORD_WINDOW);
	shmt_or(&local->used[stream.record / 64], 1ULL << stream.record % 64);
	memset((char *)record + offsetof(struct coloc_record_shared, cookie), 0,
	       sizeof(*record) - offsetof(struct coloc_record_shared, cookie));
	len = sizeof(record->cookie);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &record->cookie, &len), 0);
	record->local = ends[0];
	record->remote = ends[1];
	record->netns = st.st_ino;
	record->pid = (uint32_t)getpid();
	strcpy(record->command, "test");
	shmt_or(&record->procs[shim->welcome.proc / 64], 1ULL << shim->welcome.proc % 64);
	stream.generation = shmt_load(&record->generation);
	shmt_store(&record->state, COLOC_RECORD_LIVE);
	return stream;
}

static UNUSED struct coloc_record_shared *record_of(const struct shim *shim,
						    const struct stream *stream)
{
	return &shim->records[stream->record];
}

static UNUSED void send_record(const struct shim *shim, const struct stream *stream,
			       unsigned int type)
{
	const struct coloc_record_wire wire = {header(type), stream->record, stream->generation};

	assert_int_equal(send(shim->fd, &wire, sizeof(wire), MSG_NOSIGNAL), sizeof(wire));
}

static UNUSED void join(const struct shim *shim, const struct stream *stream)
{
	struct coloc_record_shared *record = record_of(shim, stream);

	assert_true(shmt_cas(&record->grant, COLOC_GRANT_IDLE, COLOC_GRANT_WANTED));
	send_record(shim, stream, COLOC_MSG_JOIN);
}

static UNUSED bool granted(const struct shim *shim, const struct stream *stream)
{
	return shmt_load_acquire(&record_of(shim, stream)->grant) >= COLOC_GRANT_GRANTED;
}

static UNUSED bool refused(const struct shim *shim, const struct stream *stream)
{
	return shmt_load_acquire(&record_of(shim, stream)->grant) == COLOC_GRANT_IDLE &&
	       shmt_load(&record_of(shim, stream)->not_before) != 0;
}

static UNUSED struct shmt_seg_shared *seg_of(const struct shim *shim, const struct stream *stream)
{
	struct shmt_seg_shared *seg = shmt_region_seg(&shim->region, record_of(shim, stream)->seg);

	assert_non_null(seg);
	assert_int_equal(seg->generation, record_of(shim, stream)->seg_generation);
	return seg;
}

/* The life of the record that @stream was is over. */
static UNUSED bool ended(const struct shim *shim, const struct stream *stream)
{
	return shmt_load(&record_of(shim, stream)->generation) != stream->generation;
}

#endif
