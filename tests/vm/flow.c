// SPDX-License-Identifier: Apache-2.0
/*
 * flow - bytes both ways at once, as fast as they go, until somebody says that it is enough
 *
 *   flow --listen PORT | --connect ADDRESS --port PORT [--user-timeout MS]
 *
 * For guests that are paused, killed, moved and unplugged meanwhile: it waits as long as it takes.
 * Each byte received is compared with what it must be. SIGTERM to one end, or the end of the
 * other's stream, ends what is sent; what the other one still sends is received to its end. Twice a
 * second "at SENT RECEIVED" is printed, at the end "sent N received N"; if the stream is cut, also
 * how and how long after the last byte either way: "cut ETIMEDOUT 5000 ms".
 *
 * Exit status: 0 ended in good order, 3 cut.
 */

#include <getopt.h>

#include "t.h"

/*
 * Byte i of a stream is TABLE[i % TABLE_BYTES]: a prime, so that no page, segment or ring fits into
 * it. Filling and checking are then as fast as copying, in an emulated guest too.
 */
#define TABLE_BYTES 1000003u
#define PIECE_BYTES 65536u
#define TELL_MS	    500

struct flow {
	uint8_t *table, *buf;
	uint64_t sent, received;
	int64_t moved_ms, told_ms;
	int fd;
	bool enough; /* nothing more is sent */
	bool ended;  /* nothing more comes */
};

static void tell(struct flow *flow, int64_t now_ms)
{
	printf("at %llu %llu\n", (unsigned long long)flow->sent,
	       (unsigned long long)flow->received);
	fflush(stdout);
	flow->told_ms = now_ms;
}

static void end_with(const struct flow *flow, int error)
{
	printf("sent %llu received %llu\n", (unsigned long long)flow->sent,
	       (unsigned long long)flow->received);
	if (!error)
		exit(0);
	printf("cut %s %lld ms\n", strerrorname_np(error),
	       (long long)(t_now_ms() - flow->moved_ms));
	exit(3);
}

static void stop_sending(struct flow *flow)
{
	flow->enough = true;
	if (shutdown(flow->fd, SHUT_WR))
		end_with(flow, errno);
}

/* What a call moved; false: nothing for now. */
static bool moved(struct flow *flow, ssize_t n)
{
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		end_with(flow, errno);
	flow->moved_ms = t_now_ms();
	return true;
}

static void send_piece(struct flow *flow)
{
	const size_t at = flow->sent % TABLE_BYTES;
	const size_t len = TABLE_BYTES - at < PIECE_BYTES ? TABLE_BYTES - at : PIECE_BYTES;
	const ssize_t n = send(flow->fd, flow->table + at, len, MSG_NOSIGNAL);

	if (moved(flow, n))
		flow->sent += (uint64_t)n;
}

static void receive_piece(struct flow *flow)
{
	const size_t at = flow->received % TABLE_BYTES;
	const size_t len = TABLE_BYTES - at < PIECE_BYTES ? TABLE_BYTES - at : PIECE_BYTES;
	const ssize_t n = recv(flow->fd, flow->buf, len, 0);

	if (!moved(flow, n))
		return;
	if (memcmp(flow->buf, flow->table + at, (size_t)n)) {
		printf("wrong content at %llu\n", (unsigned long long)flow->received);
		exit(1);
	}
	flow->received += (uint64_t)n;
	flow->ended = !n;
}

static void run(struct flow *flow)
{
	struct pollfd set = {.fd = flow->fd};
	int64_t now_ms;

	t_set_nonblock(flow->fd, true);
	flow->moved_ms = flow->told_ms = t_now_ms();
	while (!flow->enough || !flow->ended) {
		if (!flow->enough && (t_signals || flow->ended))
			stop_sending(flow);
		set.events = (short)((flow->ended ? 0 : POLLIN) | (flow->enough ? 0 : POLLOUT));
		if (poll(&set, 1, TELL_MS) < 0)
			T_EQ(errno, EINTR);
		if (set.revents & ~POLLOUT && !flow->ended)
			receive_piece(flow);
		if (set.revents & POLLOUT && !flow->enough)
			send_piece(flow);
		now_ms = t_now_ms();
		if (now_ms - flow->told_ms >= TELL_MS)
			tell(flow, now_ms);
	}
	end_with(flow, 0);
}

static int open_end(const char *address, uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	const int fd = (int)T_OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), on = 1;
	int stream;

	if (address) {
		T_EQ(inet_pton(AF_INET, address, &addr.sin_addr), 1);
		T_OK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
		return fd;
	}
	T_OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	T_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	T_OK(listen(fd, 1));
	stream = (int)T_OK(accept(fd, NULL, NULL));
	T_OK(close(fd));
	return stream;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"listen", required_argument, NULL, 'p'},
						{"port", required_argument, NULL, 'p'},
						{"connect", required_argument, NULL, 'c'},
						{"user-timeout", required_argument, NULL, 'u'},
						{0}};
	static struct flow flow;
	const char *address = NULL;
	unsigned int user_timeout_ms = 0;
	uint16_t port = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'p':
			port = (uint16_t)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			address = optarg;
			break;
		case 'u':
			user_timeout_ms = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	flow.table = malloc(TABLE_BYTES);
	flow.buf = malloc(PIECE_BYTES);
	T_CHECK(port && flow.table && flow.buf);
	t_fill(flow.table, TABLE_BYTES, 1, 0);
	t_on_signal(SIGTERM, 0);
	flow.fd = open_end(address, port);
	if (user_timeout_ms)
		T_OK(setsockopt(flow.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
				sizeof(user_timeout_ms)));
	run(&flow);
}
