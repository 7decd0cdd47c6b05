/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl_check.c - a live self-test: does a stream of this guest move?
 *
 * Two processes of this very program, a server and a client, talk over loopback: once plain and
 * once preloaded with policy always. The client warms up (a stream needs a moment to be paired),
 * sends a bulk and plays ping-pong, prints what it measured and keeps the stream open until its
 * standard input ends, so that the agent can be asked about a stream that is alive.
 *
 * The children end with this process (PR_SET_PDEATHSIG) and by a clock of their own.
 */
#include "colocctl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "beside.h"
#include "reason.h"

#define PEER_LIMIT_S 30
#define WARM_UP_MS   500
#define BULK_BYTES   (256u << 20)
#define CHUNK_BYTES  (128u << 10)
#define PING_BYTES   64u
#define PINGS	     5000

/* Every message begins with it: how long it is, this head included, and how much comes back. */
struct message_head {
	uint32_t bytes;
	uint32_t reply_bytes;
};

/* ---- the two ends ---------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The first or the last processor this process may use, so that the two ends do not share one. */
static void pin(bool last)
{
	cpu_set_t may, one;
	int cpu, chosen = -1;

	if (sched_getaffinity(0, sizeof(may), &may) < 0)
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && (chosen < 0 || last))
			chosen = cpu;
	if (chosen < 0)
		return;
	CPU_ZERO(&one);
	CPU_SET(chosen, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static int send_all(int fd, const char *data, size_t bytes)
{
	ssize_t sent;

	while (bytes > 0) {
		sent = send(fd, data, bytes, MSG_NOSIGNAL);
		if (sent <= 0)
			return -1;
		data += sent;
		bytes -= (size_t)sent;
	}
	return 0;
}

/* Receives at least @least bytes, at most @most, into @data. Return: how many, or -1 */
static ssize_t receive_some(int fd, char *data, size_t least, size_t most)
{
	size_t got = 0;
	ssize_t more;

	while (got < least) {
		more = recv(fd, data + got, most - got, 0);
		if (more <= 0)
			return -1;
		got += (size_t)more;
	}
	return (ssize_t)got;
}

static int serve(int fd, char *buffer)
{
	struct message_head head;
	ssize_t got;
	size_t left;

	/* The client sends nothing behind a message before the reply: no byte read is the next
	 * one's. */
	while ((got = receive_some(fd, buffer, sizeof(head), CHUNK_BYTES)) > 0) {
		memcpy(&head, buffer, sizeof(head));
		for (left = head.bytes - (size_t)got; left > 0; left -= (size_t)got) {
			got = receive_some(fd, buffer, 1, left < CHUNK_BYTES ? left : CHUNK_BYTES);
			if (got < 0)
				return -1;
		}
		if (send_all(fd, buffer, head.reply_bytes) < 0)
			return -1;
	}
	return 0;
}

static int run_server(char *buffer)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd;

	pin(false);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		return 1;
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		return 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	return serve(fd, buffer) < 0;
}

/* One message out and its reply back; nanoseconds, or -1. */
static int64_t exchange(int fd, char *buffer, uint32_t bytes, uint32_t reply_bytes)
{
	const struct message_head head = {bytes, reply_bytes};
	const int64_t begin = now_ns();
	uint32_t sent, piece;

	memcpy(buffer, &head, sizeof(head));
	for (sent = 0; sent < bytes; sent += piece) {
		piece = bytes - sent < CHUNK_BYTES ? bytes - sent : CHUNK_BYTES;
		if (send_all(fd, buffer, piece) < 0)
			return -1;
	}
	if (receive_some(fd, buffer, reply_bytes, reply_bytes) < 0)
		return -1;
	return now_ns() - begin;
}

static int compare_ns(const void *a, const void *b)
{
	const int64_t *const x = a, *const y = b;

	return *x < *y ? -1 : *x > *y;
}

static int run_client(const char *port, char *buffer)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	static int64_t pings[PINGS];
	int64_t begin, bulk_ns;
	size_t i;
	char end;

	pin(true);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)atoi(port));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	begin = now_ns();
	while (now_ns() - begin < WARM_UP_MS * INT64_C(1000000))
		if (exchange(fd, buffer, CHUNK_BYTES, PING_BYTES) < 0)
			return 1;
	bulk_ns = exchange(fd, buffer, BULK_BYTES, 1);
	if (bulk_ns < 0)
		return 1;
	for (i = 0; i < PINGS; i++) {
		pings[i] = exchange(fd, buffer, PING_BYTES, PING_BYTES);
		if (pings[i] < 0)
			return 1;
	}
	qsort(pings, PINGS, sizeof(pings[0]), compare_ns);
	printf("%lld %lld\n", (long long)bulk_ns, (long long)pings[PINGS / 2]);
	fflush(stdout);
	return read(STDIN_FILENO, &end, 1) != 0;
}

int ctl_check_peer(const char *role, const char *port)
{
	static char buffer[CHUNK_BYTES];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PEER_LIMIT_S);
	return !strcmp(role, "server") ? run_server(buffer) : run_client(port, buffer);
}

/* ---- who starts and judges them -------------------------------------------------------------- */

struct peer {
	pid_t pid;
	FILE *from; /* its standard output */
	int to_fd;  /* its standard input */
};

/* @library: NULL = plain */
static void exec_peer(const struct ctl_options *options, const char *library, const char *role,
		      const char *port)
{
	char list[2 * PATH_MAX];

	if (library) {
		ctl_library_list(list, library);
		setenv("LD_PRELOAD", list, 1);
		setenv("COLOC_AGENT", options->socket, 1);
		setenv("COLOC_POLICY", "always", 1);
	} else {
		setenv("COLOC_POLICY", "never", 1);
	}
	execl("/proc/self/exe", "colocctl", "check-peer", role, port, (char *)NULL);
	_exit(127);
}

static int start_peer(const struct ctl_options *options, const char *library, const char *role,
		      const char *port, struct peer *ret_peer)
{
	int in[2], out[2], rc;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0) {
		rc = -errno;
		goto close_in;
	}
	pid = fork();
	if (pid < 0) {
		rc = -errno;
		goto close_out;
	}
	if (pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		exec_peer(options, library, role, port);
	}
	close(in[0]);
	close(out[1]);
	*ret_peer = (struct peer){.pid = pid, .from = fdopen(out[0], "r"), .to_fd = in[1]};
	return 0;

close_out:
	close(out[0]);
	close(out[1]);
close_in:
	close(in[0]);
	close(in[1]);
	return rc;
}

/* End of its standard input is its cue; its own clock bounds the wait. */
static void end_peer(struct peer *peer)
{
	int status;

	if (peer->pid <= 0)
		return;
	close(peer->to_fd);
	if (peer->from)
		fclose(peer->from);
	while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR)
		;
}

static bool ends_with(const char *text, const char *end)
{
	const size_t length = strlen(text), end_length = strlen(end);

	return length >= end_length && !strcmp(text + length - end_length, end);
}

/* The client's end: its remote port is the server's. New reference, or NULL. */
static json_t *ask_for_stream(const struct ctl_options *options, const char *port)
{
	json_t *streams = ctl_ask_or_complain(options, COLOC_VERB_STREAMS, NULL);
	json_t *stream, *found = NULL;
	char end[16];
	size_t i;

	snprintf(end, sizeof(end), ":%s", port);
	json_array_foreach(streams, i, stream)
	{
		if (ends_with(ctl_string(stream, "remote"), end))
			found = json_incref(stream);
	}
	json_decref(streams);
	return found;
}

/* @ret_stream: only when preloaded; NULL if the agent does not know it */
static int run_pair(const struct ctl_options *options, const char *library, json_t **ret_speed,
		    json_t **ret_stream)
{
	struct peer server = {0}, client = {0};
	long long bulk_ns, ping_ns;
	char port[8] = "";
	int rc;

	rc = start_peer(options, library, "server", "0", &server);
	if (rc < 0)
		return rc;
	rc = -ECONNABORTED;
	if (!server.from || fscanf(server.from, "%7s", port) != 1)
		goto out;
	rc = start_peer(options, library, "client", port, &client);
	if (rc < 0)
		goto out;
	rc = -ECONNABORTED;
	if (!client.from || fscanf(client.from, "%lld %lld", &bulk_ns, &ping_ns) != 2)
		goto out;
	*ret_speed = json_pack("{s:f, s:f}", "gbit_per_s", (double)BULK_BYTES * 8 / (double)bulk_ns,
			       "round_trip_us", (double)ping_ns / 1000);
	if (library)
		*ret_stream = ask_for_stream(options, port);
	rc = 0;
out:
	/* The server ends when the client's end of the stream does. */
	end_peer(&client);
	if (rc < 0 && server.pid > 0)
		kill(server.pid, SIGKILL);
	end_peer(&server);
	return rc;
}

static const char *reason_text(const char *name)
{
	unsigned int code;

	for (code = 0; code < COLOC_REASON_COUNT; code++)
		if (!strcmp(name, coloc_reason_name(code)))
			return coloc_reason_text(code);
	return name;
}

static json_t *make_verdict(json_t *plain, json_t *preloaded, const json_t *stream)
{
	const double ring =
		ctl_number(stream, "tx_ring_bytes") + ctl_number(stream, "rx_ring_bytes");
	const double tcp = ctl_number(stream, "tx_tcp_bytes") + ctl_number(stream, "rx_tcp_bytes");
	const char *const reason = ctl_string(stream, "reason");

	return json_pack("{s:b, s:s, s:s, s:I, s:I, s:O, s:O}", "moved", ring > 0, "reason",
			 stream ? reason : "unknown", "text",
			 ring > 0 ? "the stream moved"
			 : stream ? reason_text(reason)
				  : "the agent knows no such stream: did the preload reach it? "
				    "COLOC_LOG=1 tells",
			 "ring_bytes", (json_int_t)ring, "tcp_bytes", (json_int_t)tcp, "plain",
			 plain, "preloaded", preloaded);
}

static void show_verdict(const json_t *verdict)
{
	const json_t *plain = json_object_get(verdict, "plain");
	const json_t *preloaded = json_object_get(verdict, "preloaded");
	const bool moved = json_is_true(json_object_get(verdict, "moved"));
	char ring[24], tcp[24];

	printf("%s: %s\n", moved ? "ok" : "NOT MOVED", ctl_string(verdict, "text"));
	if (!moved)
		printf("reason     %s\n", ctl_string(verdict, "reason"));
	printf("by ring    %s\nby TCP     %s\n",
	       ctl_format_bytes(ring, ctl_number(verdict, "ring_bytes")),
	       ctl_format_bytes(tcp, ctl_number(verdict, "tcp_bytes")));
	printf("plain      %8.2f Gbit/s  %8.2f us per round trip of %u bytes\n",
	       ctl_number(plain, "gbit_per_s"), ctl_number(plain, "round_trip_us"), PING_BYTES);
	printf("preloaded  %8.2f Gbit/s  %8.2f us\n", ctl_number(preloaded, "gbit_per_s"),
	       ctl_number(preloaded, "round_trip_us"));
}

void ctl_library_list(char *list, const char *library)
{
	const char *const before = getenv("LD_PRELOAD");

	snprintf(list, 2 * PATH_MAX, "%s%s%s", before ? before : "", before && *before ? ":" : "",
		 library);
}

int ctl_check(const struct ctl_options *options)
{
	json_t *plain = NULL, *preloaded = NULL, *stream = NULL, *verdict = NULL, *status;
	char library[PATH_MAX];
	int rc, result = CTL_EXIT_NO;

	/* Asked first, so that a missing agent is named as such. */
	status = ctl_ask_or_complain(options, COLOC_VERB_STATUS, NULL);
	if (!status)
		return CTL_EXIT_AGENT;
	json_decref(status);
	rc = tool_find_beside("libcoloc.so", COLOC_LIBDIR, R_OK, library);
	if (rc < 0) {
		fprintf(stderr, "colocctl: %s: %s\n", library, strerror(-rc));
		return CTL_EXIT_NO;
	}
	rc = run_pair(options, NULL, &plain, &stream);
	if (rc == 0)
		rc = run_pair(options, library, &preloaded, &stream);
	if (rc < 0) {
		fprintf(stderr, "colocctl: %s pair over loopback: %s\n",
			plain ? "preloaded" : "plain", strerror(-rc));
		goto out;
	}
	verdict = make_verdict(plain, preloaded, stream);
	if (options->json)
		ctl_show_json(stdout, verdict);
	else
		show_verdict(verdict);
	if (json_is_true(json_object_get(verdict, "moved")))
		result = CTL_EXIT_OK;
out:
	json_decref(plain);
	json_decref(preloaded);
	json_decref(stream);
	json_decref(verdict);
	return result;
}
