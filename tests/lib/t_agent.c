// SPDX-License-Identifier: Apache-2.0
/*
 * t_agent.c - ask the agent, in its own language
 *
 * The agent's socket rather than colocctl: starting a program would have descriptors inherited, and
 * that alone is a reason for streams to leave their rings.
 */

#include <sys/un.h>

#include "agent_proto.h"
#include "t.h"

char *t_control(unsigned int verb)
{
	const struct coloc_control_wire ask = {
		.header = {COLOC_PROTO_MAGIC, COLOC_PROTO_VERSION, COLOC_MSG_CONTROL},
		.verb = verb,
	};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *path = getenv("COLOC_AGENT");
	struct coloc_data_wire data;
	size_t used = 0;
	char *text = calloc(1, 1), *longer;
	int fd;

	T_CHECK(path && strlen(path) < sizeof(addr.sun_path) && text);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	T_CHECK(fd >= 0);
	T_CHECK(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	T_EQ(send(fd, &ask, sizeof(ask), MSG_NOSIGNAL), sizeof(ask));
	for (;;) {
		const ssize_t n = recv(fd, &data, sizeof(data), 0);

		T_CHECK(n >= (ssize_t)offsetof(struct coloc_data_wire, text));
		if (data.header.type == COLOC_MSG_END)
			break;
		T_EQ(data.header.type, COLOC_MSG_DATA);
		T_CHECK(data.bytes <= sizeof(data.text));
		longer = realloc(text, used + data.bytes + 1);
		T_CHECK(longer);
		text = longer;
		memcpy(text + used, data.text, data.bytes);
		used += data.bytes;
		text[used] = '\0';
	}
	close(fd);
	T_EQ(data.status, 0);
	return text;
}

static unsigned int port_of(int fd, bool peer)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	const int saved = errno;

	if (peer ? getpeername(fd, (struct sockaddr *)&addr, &len)
		 : getsockname(fd, (struct sockaddr *)&addr, &len)) {
		errno = saved;
		return 0;
	}
	return ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
					       : ((struct sockaddr_in6 *)&addr)->sin6_port);
}

/* The value of @key inside one object [from, end), or NULL. Keys are unique within it. */
static const char *value_of(const char *from, const char *end, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	at = strstr(from, quoted);
	if (!at || at >= end)
		return NULL;
	at += strlen(quoted);
	return at + strspn(at, ": \t\n");
}

static uint64_t number_of(const char *from, const char *end, const char *key)
{
	const char *at = value_of(from, end, key);

	return at ? strtoull(at, NULL, 10) : 0;
}

static void word_of(const char *from, const char *end, const char *key, char *dst, size_t size)
{
	const char *at = value_of(from, end, key);

	snprintf(dst, size, "%.*s", at && *at == '"' ? (int)strcspn(at + 1, "\"") : 0,
		 at ? at + 1 : "");
}

/* The port behind the last colon of an address. */
static unsigned int port_in(const char *from, const char *end, const char *key)
{
	char address[80];
	const char *colon;

	word_of(from, end, key, address, sizeof(address));
	colon = strrchr(address, ':');
	return colon ? (unsigned int)atoi(colon + 1) : 0;
}

bool t_stream(int fd, struct t_stream *ret_stream)
{
	const unsigned int local = port_of(fd, false), remote = port_of(fd, true);
	const int saved = errno;
	bool found = false;
	char *text;

	memset(ret_stream, 0, sizeof(*ret_stream));
	if (t_mode() == T_TCP || !local || !remote)
		return false;
	text = t_control(COLOC_VERB_STREAMS);
	for (const char *at = strchr(text, '{'); at && !found; at = strchr(at + 1, '{')) {
		const char *end = strchr(at, '}');

		if (!end)
			break;
		if (port_in(at, end, "local") != local || port_in(at, end, "remote") != remote)
			continue;
		found = true;
		ret_stream->tx_ring_bytes = number_of(at, end, "tx_ring_bytes");
		ret_stream->tx_tcp_bytes = number_of(at, end, "tx_tcp_bytes");
		ret_stream->rx_ring_bytes = number_of(at, end, "rx_ring_bytes");
		ret_stream->rx_tcp_bytes = number_of(at, end, "rx_tcp_bytes");
		word_of(at, end, "tx_mode", ret_stream->tx_mode, sizeof(ret_stream->tx_mode));
		word_of(at, end, "rx_mode", ret_stream->rx_mode, sizeof(ret_stream->rx_mode));
		word_of(at, end, "reason", ret_stream->reason, sizeof(ret_stream->reason));
	}
	free(text);
	errno = saved;
	return found;
}

uint64_t t_moved_begin(int fd)
{
	struct t_stream stream;

	return t_stream(fd, &stream) ? stream.tx_ring_bytes : 0;
}

void t_moved_end(int fd, uint64_t begin)
{
	struct t_stream stream = {0};

	if (t_mode() != T_RING)
		return;
	T_CHECK(t_stream(fd, &stream));
	if (stream.tx_ring_bytes <= begin)
		t_fail(__FILE__, __LINE__, "nothing went by the ring: tx %s, reason %s",
		       stream.tx_mode, stream.reason);
}
