/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl_ask.c - one question to the agent
 *
 * A connection per question: CONTROL goes out, DATA packets come back until END. Nothing here
 * trusts the other side: lengths are checked against what was received, the whole answer is bounded
 * by ANSWER_MAX_BYTES, and a silent agent ends in a time-out.
 */
#include "colocctl.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX_BYTES (256u << 20)
#define ANSWER_TIMEOUT_S 5
#define ERROR_BYTES	 256

static int connect_once(const char *path)
{
	const struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* SO_SNDTIMEO bounds connect as well, which waits while the backlog is full. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Waits for something to happen in the socket's folder. The folder itself may not exist yet, and
 * listen() after bind() is no event: hence also a short limit.
 */
static void wait_for_change(int watch_fd, const char *path)
{
	struct pollfd item = {.fd = watch_fd, .events = POLLIN};
	const char *slash = strrchr(path, '/');
	char folder[108] = ".", events[4096];
	ssize_t ignored;

	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path),
			 path);
	inotify_add_watch(watch_fd, folder, IN_CREATE | IN_MOVED_TO);
	if (poll(&item, 1, 20) > 0) {
		ignored = read(watch_fd, events, sizeof(events));
		(void)ignored;
	}
}

static int connect_wait(const char *path, int wait_s)
{
	const int64_t deadline = now_ms() + (int64_t)wait_s * 1000;
	int fd = connect_once(path), watch_fd;

	if (fd >= 0 || wait_s == 0)
		return fd;
	watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	while ((fd == -ENOENT || fd == -ECONNREFUSED) && now_ms() < deadline) {
		wait_for_change(watch_fd, path);
		fd = connect_once(path);
	}
	if (watch_fd >= 0)
		close(watch_fd);
	return fd;
}

static void explain_connect(const char *path, int rc, char *error)
{
	const char *hint = "";

	if (rc == -ENOENT)
		hint = " (no agent has been started there)";
	else if (rc == -ECONNREFUSED)
		hint = " (the agent that made the socket has ended)";
	else if (rc == -EACCES)
		hint = " (see group in section [access] of coloc.conf)";
	else if (rc == -EPROTOTYPE)
		hint = " (a socket of something else)";
	snprintf(error, ERROR_BYTES, "agent socket %s: %s%s", path, strerror(-rc), hint);
}

static bool header_fits(const struct coloc_header_wire *header)
{
	return header->magic == COLOC_PROTO_MAGIC && header->version == COLOC_PROTO_VERSION &&
	       (header->type == COLOC_MSG_DATA || header->type == COLOC_MSG_END);
}

/*
 * receive_answer() - gather DATA up to END
 * @ret_text: malloc'ed, NULL if there was none
 * @ret_refusal: 0, or an -errno of the agent's: then the text is what it says of it
 */
static int receive_answer(int fd, char **ret_text, size_t *ret_length, int *ret_refusal)
{
	const size_t head_bytes = offsetof(struct coloc_data_wire, text);
	struct coloc_data_wire packet;
	char *text = NULL, *grown;
	size_t length = 0;
	ssize_t got;
	int rc;

	for (;;) {
		got = recv(fd, &packet, sizeof(packet), MSG_TRUNC);
		rc = got < 0 ? -errno : -EPROTO;
		if (got < (ssize_t)head_bytes || got > (ssize_t)sizeof(packet) ||
		    !header_fits(&packet.header) || packet.bytes > (size_t)got - head_bytes ||
		    packet.bytes > ANSWER_MAX_BYTES - length ||
		    (packet.header.type == COLOC_MSG_END && packet.status > 0))
			goto fail;
		if (packet.bytes > 0) {
			grown = realloc(text, length + packet.bytes);
			rc = -ENOMEM;
			if (!grown)
				goto fail;
			text = grown;
			memcpy(text + length, packet.text, packet.bytes);
			length += packet.bytes;
		}
		if (packet.header.type == COLOC_MSG_END)
			break;
	}
	*ret_text = text;
	*ret_length = length;
	*ret_refusal = packet.status;
	return 0;

fail:
	free(text);
	return rc;
}

/* An answer that says why not: {"error": "..."}, or plain text. */
static void explain_refusal(int rc, const char *text, size_t length, char *error)
{
	json_t *answer = text ? json_loadb(text, length, 0, NULL) : NULL;
	const char *why = answer ? ctl_string(answer, "error") : "";

	if (*why)
		snprintf(error, ERROR_BYTES, "the agent refused: %s", why);
	else if (!answer && length > 0)
		snprintf(error, ERROR_BYTES, "the agent refused: %.*s",
			 (int)(length < 200 ? length : 200), text);
	else
		snprintf(error, ERROR_BYTES, "the agent refused: %s", strerror(-rc));
	json_decref(answer);
}

int ctl_ask(const struct ctl_options *options, enum coloc_verb verb, json_t **ret_answer,
	    char *error)
{
	const struct coloc_control_wire question = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_CONTROL},
		.verb = verb,
	};
	char *text = NULL;
	size_t length = 0;
	json_error_t where = {.text = "out of memory"};
	json_t *answer;
	int fd, rc, refusal = 0;

	fd = connect_wait(options->socket, options->wait_s);
	if (fd < 0) {
		explain_connect(options->socket, fd, error);
		return fd;
	}
	if (send(fd, &question, sizeof(question), MSG_NOSIGNAL) < 0) {
		rc = -errno;
		snprintf(error, ERROR_BYTES, "agent socket %s: send: %s", options->socket,
			 strerror(-rc));
		goto out;
	}
	rc = receive_answer(fd, &text, &length, &refusal);
	if (rc == 0 && refusal < 0) {
		explain_refusal(refusal, text, length, error);
		rc = 1;
		goto out;
	}
	if (rc < 0) {
		if (rc == -EPROTO)
			snprintf(error, ERROR_BYTES,
				 "agent socket %s: the answer is not of protocol version %u",
				 options->socket, COLOC_PROTO_VERSION);
		else if (rc == -EAGAIN)
			snprintf(error, ERROR_BYTES, "agent socket %s: no answer within %d s",
				 options->socket, ANSWER_TIMEOUT_S);
		else
			snprintf(error, ERROR_BYTES, "agent socket %s: %s", options->socket,
				 strerror(-rc));
		goto out;
	}
	/* A verb that has nothing to tell may answer with nothing. */
	answer = length > 0 ? json_loadb(text, length, 0, &where) : json_object();
	if (!answer) {
		snprintf(error, ERROR_BYTES, "agent socket %s: answer byte %d: %s", options->socket,
			 where.position, where.text);
		rc = -EPROTO;
		goto out;
	}
	*ret_answer = answer;
	rc = 0;
out:
	free(text);
	close(fd);
	return rc;
}

json_t *ctl_ask_or_complain(const struct ctl_options *options, enum coloc_verb verb, int *ret_exit)
{
	char error[ERROR_BYTES];
	json_t *answer = NULL;
	const int rc = ctl_ask(options, verb, &answer, error);

	if (rc != 0) {
		fprintf(stderr, "colocctl: %s\n", error);
		if (ret_exit)
			*ret_exit = rc > 0 ? CTL_EXIT_NO : CTL_EXIT_AGENT;
	}
	return answer;
}
