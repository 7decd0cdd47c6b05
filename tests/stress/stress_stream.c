// SPDX-License-Identifier: Apache-2.0
/*
 * stress_stream - random bytes both ways at once between two processes, by ordinary socket calls
 *
 * In each round a child connects to its parent; each sends a stream of its own while it receives
 * the other's. The seed decides everything but timing: how much, in which sizes, by which calls,
 * blocking in two threads or non-blocking in one loop, waiting by poll, select or epoll (level or
 * edge). Every byte received is compared with what the seed says it must be (more than a hash would
 * tell: the place of the first wrong byte is shown), then the end of stream must come. Nothing may
 * hang: a wait of 20 s is a failure, a round of 100 s ends by SIGALRM.
 *
 *   stress_stream [--seed N] [--seconds S] [--bytes MOST_PER_DIRECTION_AND_ROUND] [--rounds N]
 *
 * Or one round between two programs that were started apart, with exactly --bytes each way:
 *
 *   stress_stream --listen PORT | --connect ADDRESS --port PORT [--seed N] [--bytes N]
 *                 [--progress N] [--cut] [--until-told]
 *
 * --progress prints N lines "progress I" on the way; --cut allows the stream to end early, as it
 * does when the other end is killed: what came must be right up to there, and how it ended is
 * told. --until-told, at both ends: they go on, however much it is, until one of them gets SIGTERM.
 * Both print a hash of what they sent and of what they received.
 *
 * It knows nothing of rings; tests/run.sh runs it plain, preloaded, and preloaded while the agent
 * drains and resumes, also under sanitizers. Preloaded it says how much went by the ring.
 */

#include <getopt.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "atomic.h"
#include "t.h"

#define BUF_BYTES     (1u << 20)
#define STUCK_MS      20000
#define ROUND_SECONDS 100

/* What one direction of one end has to do, and how far it is. */
struct way {
	uint64_t rng; /* its own: two threads may work on one end */
	uint64_t seed, total, done;
	uint64_t marks; /* --progress */
	uint64_t ring;	/* sender: the stream's ring bytes both ways, when it had sent all */
	uint64_t hash;
	uint8_t *buf;
	bool ended; /* sender: has shut down; receiver: has seen the end */
};

enum style { THREADS, POLL, PPOLL, SELECT, EPOLL_LEVEL, EPOLL_EDGE, STYLES };

/* The two halves of --listen and --connect. */
static struct {
	bool cut;
	bool hashing;
	bool until_told;
	bool told;	 /* to end, by the signal or by the other end */
	const char *how; /* the stream ended early */
} apart;

struct end {
	int fd, epfd;
	struct way tx, rx;
};

static uint64_t random_next(uint64_t *rng)
{
	uint64_t x = *rng += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t random_below(uint64_t *rng, uint64_t bound)
{
	return random_next(rng) % bound;
}

/* 1 byte to 1 MiB: small, page-sized, large, very large ones, each often enough. */
static size_t random_size(uint64_t *rng)
{
	static const uint32_t most[] = {1,    64,    64,    1500,  1500,
					4096, 16384, 65536, 65536, BUF_BYTES};

	return 1 + random_below(rng, most[random_below(rng, T_LEN(most))]);
}

/* Now and then one side is slow, for shorter or longer than anybody spins. */
static void random_pause(uint64_t *rng)
{
	const struct timespec gap = {.tv_nsec = (long)random_below(rng, 300000)};

	switch (random_below(rng, 40)) {
	case 0:
		nanosleep(&gap, NULL);
		break;
	case 1:
		sched_yield();
		break;
	}
}

static int cut(uint64_t *rng, struct iovec vec[3], uint8_t *buf, size_t len)
{
	const size_t first = random_below(rng, len + 1);
	const size_t second = random_below(rng, len - first + 1);

	vec[0] = (struct iovec){buf, first};
	vec[1] = (struct iovec){buf + first, second};
	vec[2] = (struct iovec){buf + first + second, len - first - second};
	return 3;
}

/* ---- one call -------------------------------------------------------------------------------- */

static ssize_t some_send(int fd, struct way *way, size_t len, int flags)
{
	struct iovec vec[3];
	struct msghdr msg = {.msg_iov = vec};
	struct mmsghdr one;

	switch (random_below(&way->rng, flags ? 3 : 5)) {
	case 0:
		return send(fd, way->buf, len, flags | MSG_NOSIGNAL);
	case 1:
		msg.msg_iovlen = (size_t)cut(&way->rng, vec, way->buf, len);
		return sendmsg(fd, &msg, flags);
	case 2:
		/* One message: after a short first, a second would leave a hole. */
		vec[0] = (struct iovec){way->buf, len};
		one = (struct mmsghdr){.msg_hdr = {.msg_iov = vec, .msg_iovlen = 1}};
		return sendmmsg(fd, &one, 1, flags) < 0 ? -1 : (ssize_t)one.msg_len;
	case 3:
		return write(fd, way->buf, len);
	default:
		return writev(fd, vec, cut(&way->rng, vec, way->buf, len));
	}
}

static ssize_t some_recv(int fd, struct way *way, size_t len, int flags)
{
	struct iovec vec[3];
	struct msghdr msg = {.msg_iov = vec};
	struct mmsghdr one;
	ssize_t peeked, n;

	switch (random_below(&way->rng, flags ? 5 : 8)) {
	case 0:
		return recv(fd, way->buf, len, flags);
	case 1:
		return recvfrom(fd, way->buf, len, flags, NULL, NULL);
	case 2:
		msg.msg_iovlen = (size_t)cut(&way->rng, vec, way->buf, len);
		return recvmsg(fd, &msg, flags);
	case 3:
		vec[0] = (struct iovec){way->buf, len};
		one = (struct mmsghdr){.msg_hdr = {.msg_iov = vec, .msg_iovlen = 1}};
		return recvmmsg(fd, &one, 1, flags, NULL) < 0 ? -1 : (ssize_t)one.msg_len;
	case 4:
		/* A look first; what it saw is what comes. */
		peeked = recv(fd, way->buf, len, flags | MSG_PEEK);
		if (peeked <= 0)
			return peeked;
		t_verify(way->buf, (size_t)peeked, way->seed, way->done);
		n = recv(fd, way->buf, len, flags);
		T_CHECK(n >= peeked || (n > 0 && (size_t)n == len));
		return n;
	case 5:
		return read(fd, way->buf, len);
	case 6:
		return readv(fd, vec, cut(&way->rng, vec, way->buf, len));
	default:
		if (len > way->total - way->done)
			return recv(fd, way->buf, len, 0);
		return recv(fd, way->buf, len, MSG_WAITALL);
	}
}

/* Bytes of @way have moved: hash them, and tell how far it is. */
static void moved(struct way *way, size_t len)
{
	const uint64_t mark = way->marks ? way->total / (way->marks + 1) + 1 : 0;

	if (apart.hashing) {
		for (size_t i = 0; i < len; i++)
			way->hash = (way->hash ^ way->buf[i]) * 0x100000001b3ULL;
	}
	if (mark && (way->done + len) / mark > way->done / mark) {
		printf("progress %llu\n", (unsigned long long)((way->done + len) / mark));
		fflush(stdout);
	}
	way->done += len;
}

/* True if a stream that is allowed to end early just did. */
static bool was_cut(struct way *way, ssize_t n)
{
	if (!apart.cut || n > 0 || (n < 0 && errno != ECONNRESET && errno != EPIPE))
		return false;
	if (!n && way->done == way->total)
		return false;
	if (!apart.how || n < 0)
		apart.how = !n ? "eof" : errno == EPIPE ? "epipe" : "reset";
	way->ended = true;
	return true;
}

/* Blocked, and asked for now and then: no wait is interrupted by it. */
static const sigset_t *only_term(void)
{
	static sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	return &set;
}

static bool is_told(void)
{
	const struct timespec none = {0};

	if (apart.until_told && sigtimedwait(only_term(), NULL, &none) == SIGTERM)
		shmt_store(&apart.told, true);
	return shmt_load(&apart.told);
}

/* ---- one step: false = the call would have blocked --------------------------------------------
 */

static bool send_step(int fd, struct way *way, int flags)
{
	size_t len = random_size(&way->rng);
	struct t_stream stream;
	ssize_t n;

	random_pause(&way->rng);
	if (is_told())
		way->total = way->done;
	if (way->done == way->total) {
		/* Asked while the socket still knows its peer. */
		if (t_stream(fd, &stream))
			way->ring = stream.tx_ring_bytes + stream.rx_ring_bytes;
		if (!apart.hashing || apart.until_told) /* else see run_apart() */
			T_OK(shutdown(fd, SHUT_WR));
		way->ended = true;
		return true;
	}
	len = len < way->total - way->done ? len : way->total - way->done;
	t_fill(way->buf, len, way->seed, way->done);
	n = some_send(fd, way, len, flags);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (was_cut(way, n))
		return true;
	T_CHECK(n > 0 && (size_t)n <= len);
	moved(way, (size_t)n);
	return true;
}

static bool recv_step(int fd, struct way *way, int flags)
{
	const size_t len = random_size(&way->rng);
	ssize_t n;

	random_pause(&way->rng);
	n = some_recv(fd, way, len, flags);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (was_cut(way, n))
		return true;
	T_CHECK(n >= 0 && (size_t)n <= len);
	if (!n) {
		if (apart.until_told) {
			shmt_store(&apart.told, true);
			way->total = way->done;
		}
		T_EQ(way->done, way->total);
		way->ended = true;
		return true;
	}
	t_verify(way->buf, (size_t)n, way->seed, way->done);
	moved(way, (size_t)n);
	T_CHECK(way->done <= way->total);
	way->ended = apart.hashing && way->done == way->total;
	return true;
}

/* ---- two threads, blocking calls, sometimes a poll and a call that does not wait ---------------
 */

static bool wait_first(int fd, struct way *way, short events)
{
	struct pollfd set = {fd, events, 0};

	if (random_below(&way->rng, 4))
		return false;
	T_EQ(poll(&set, 1, STUCK_MS), 1);
	return true;
}

static void send_thread(void *arg)
{
	struct end *end = arg;

	while (!end->tx.ended)
		send_step(end->fd, &end->tx,
			  wait_first(end->fd, &end->tx, POLLOUT) ? MSG_DONTWAIT : 0);
}

static void recv_thread(void *arg)
{
	struct end *end = arg;

	while (!end->rx.ended)
		recv_step(end->fd, &end->rx,
			  wait_first(end->fd, &end->rx, POLLIN) ? MSG_DONTWAIT : 0);
}

static void run_threads(struct end *end)
{
	struct t_thread sender;

	t_thread_start(&sender, send_thread, end);
	recv_thread(end);
	t_thread_join(&sender);
}

/* ---- one loop, non-blocking -------------------------------------------------------------------
 */

static short interest(const struct end *end)
{
	return (short)((end->rx.ended ? 0 : POLLIN) | (end->tx.ended ? 0 : POLLOUT));
}

static short wait_select(const struct end *end)
{
	struct timeval time = {.tv_sec = STUCK_MS / 1000};
	fd_set in, out;

	FD_ZERO(&in);
	FD_ZERO(&out);
	if (!end->rx.ended)
		FD_SET(end->fd, &in);
	if (!end->tx.ended)
		FD_SET(end->fd, &out);
	T_CHECK(select(end->fd + 1, &in, &out, NULL, &time) > 0);
	return (short)((FD_ISSET(end->fd, &in) ? POLLIN : 0) |
		       (FD_ISSET(end->fd, &out) ? POLLOUT : 0));
}

static short wait_epoll(const struct end *end, uint32_t extra)
{
	struct epoll_event event = {.events = (uint32_t)interest(end) | extra};

	if (!extra)
		T_OK(epoll_ctl(end->epfd, EPOLL_CTL_MOD, end->fd, &event));
	T_EQ(epoll_wait(end->epfd, &event, 1, STUCK_MS), 1);
	return (short)(event.events & (EPOLLIN | EPOLLOUT));
}

static short wait_events(const struct end *end, enum style style)
{
	const struct timespec time = {.tv_sec = STUCK_MS / 1000};
	struct pollfd set = {end->fd, interest(end), 0};

	switch (style) {
	case POLL:
		T_EQ(poll(&set, 1, STUCK_MS), 1);
		return set.revents;
	case PPOLL:
		T_EQ(ppoll(&set, 1, &time, NULL), 1);
		return set.revents;
	case SELECT:
		return wait_select(end);
	case EPOLL_LEVEL:
		return wait_epoll(end, 0);
	default:
		return wait_epoll(end, EPOLLET);
	}
}

/* Edge-triggered, a way is used until it would block; else once per event. */
static void run_loop(struct end *end, enum style style)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
	short ready = 0;

	t_set_nonblock(end->fd, true);
	end->epfd = (int)T_OK(epoll_create1(EPOLL_CLOEXEC));
	if (style == EPOLL_EDGE)
		event.events |= EPOLLET;
	T_OK(epoll_ctl(end->epfd, EPOLL_CTL_ADD, end->fd, &event));
	while (interest(end)) {
		if (style != EPOLL_EDGE || !(ready & interest(end)))
			ready = (short)((style == EPOLL_EDGE ? ready : 0) |
					wait_events(end, style));
		if (ready & POLLOUT && !end->tx.ended && !send_step(end->fd, &end->tx, 0))
			ready &= ~POLLOUT;
		if (ready & POLLIN && !end->rx.ended && !recv_step(end->fd, &end->rx, 0))
			ready &= ~POLLIN;
	}
	T_OK(close(end->epfd));
}

/* ---- rounds -----------------------------------------------------------------------------------
 */

static void way_init(struct way *way, uint64_t seed, uint64_t salt, uint64_t most, bool exact)
{
	uint64_t rng = seed;

	/* Both ends derive the content from the seed alone, each its own calls from the salt. */
	way->seed = random_next(&rng);
	way->total =
		random_below(&rng, 8) ? random_below(&rng, most + 1) : random_below(&rng, 9000);
	if (exact)
		way->total = most;
	way->rng = rng ^ salt * 0x632be59bd9b4e019ULL;
	way->hash = 0xcbf29ce484222325ULL;
	way->done = way->ring = 0;
	way->ended = false;
}

/* Ring bytes of the round as this end counts them. */
static uint64_t run_end(struct end *end, uint64_t seed, unsigned int side, uint64_t most,
			bool exact)
{
	uint64_t rng = seed + side + 1;
	const enum style style = (enum style)random_below(&rng, STYLES);

	way_init(&end->tx, seed * 2 + side, 1, most, exact);
	way_init(&end->rx, seed * 2 + !side, 2, most, exact);
	if (style == THREADS)
		run_threads(end);
	else
		run_loop(end, style);
	return end->tx.ring;
}

static uint64_t one_round(struct end *end, uint64_t seed, uint64_t most, uint64_t *ret_bytes)
{
	struct sockaddr_storage addr;
	socklen_t len;
	const int listener = t_listen(seed % 3 ? T_V4 : T_MAPPED, &addr, &len);
	const int nodelay = seed % 2;
	uint64_t ring;
	pid_t pid;

	pid = (pid_t)T_OK(fork());
	alarm(ROUND_SECONDS);
	if (!pid) {
		T_OK(close(listener));
		end->fd = (int)T_OK(socket(addr.ss_family, SOCK_STREAM, 0));
		T_OK(connect(end->fd, (struct sockaddr *)&addr, len));
	} else {
		end->fd = (int)T_OK(accept(listener, NULL, NULL));
		T_OK(close(listener));
	}
	T_OK(setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay)));
	ring = run_end(end, seed, !pid, most, false);
	T_OK(close(end->fd));
	if (!pid)
		_exit(0);
	t_join(pid);
	*ret_bytes += end->tx.done + end->rx.done;
	return ring;
}

/* One end of a round between two programs. */
static void run_apart(struct end *end, const char *address, uint16_t port, uint64_t seed,
		      uint64_t bytes)
{
	struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	const int fd = (int)T_OK(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)), on = 1;
	char mapped[64];
	uint64_t ring;

	if (address) {
		snprintf(mapped, sizeof(mapped), "%s%s",
			 strchr(address, ':') ? "" : "::ffff:", address);
		T_EQ(inet_pton(AF_INET6, mapped, &addr.sin6_addr), 1);
		T_OK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
		end->fd = fd;
	} else {
		T_OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
		T_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
		T_OK(listen(fd, 1));
		end->fd = (int)T_OK(accept(fd, NULL, NULL));
		T_OK(close(fd));
	}
	ring = run_end(end, seed, !!address, bytes, true);
	/* Not before: while one direction is shut down the other one does not open a ring. */
	if (!apart.how && !apart.until_told) {
		struct pollfd p = {.fd = end->fd, .events = POLLIN};

		T_OK(shutdown(end->fd, SHUT_WR));
		T_EQ(poll(&p, 1, STUCK_MS), 1);
		T_EQ(T_OK(recv(end->fd, end->rx.buf, 1, 0)), 0);
	}
	printf("sent %llu hash %016llx\n", (unsigned long long)end->tx.done,
	       (unsigned long long)end->tx.hash);
	printf("received %llu hash %016llx\n", (unsigned long long)end->rx.done,
	       (unsigned long long)end->rx.hash);
	printf("by ring %llu\n", (unsigned long long)ring);
	if (apart.how)
		printf("cut %s\n", apart.how);
	T_OK(close(end->fd));
}

static uint64_t number(const char *text)
{
	char *rest;
	const uint64_t value = strtoull(text, &rest, 0);

	if (*rest || rest == text) {
		fprintf(stderr, "stress_stream: not a number: %s\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'},
						{"seconds", required_argument, NULL, 't'},
						{"bytes", required_argument, NULL, 'b'},
						{"rounds", required_argument, NULL, 'r'},
						{"listen", required_argument, NULL, 'l'},
						{"connect", required_argument, NULL, 'c'},
						{"port", required_argument, NULL, 'p'},
						{"progress", required_argument, NULL, 'g'},
						{"cut", no_argument, NULL, 'x'},
						{"until-told", no_argument, NULL, 'u'},
						{0}};
	uint64_t seed = (uint64_t)time(NULL), seconds = 5, most = 8u << 20, rounds = UINT64_MAX;
	uint64_t bytes = 0, ring = 0, done;
	const int64_t start = t_now_ms();
	struct end end = {0};
	const char *address = NULL;
	uint16_t port = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 's':
			seed = number(optarg);
			break;
		case 't':
			seconds = number(optarg);
			break;
		case 'b':
			most = number(optarg);
			break;
		case 'r':
			rounds = number(optarg);
			break;
		case 'l':
		case 'p':
			port = (uint16_t)number(optarg);
			break;
		case 'c':
			address = optarg;
			break;
		case 'g':
			end.tx.marks = number(optarg);
			break;
		case 'x':
			apart.cut = true;
			signal(SIGPIPE, SIG_IGN);
			break;
		case 'u':
			apart.until_told = true;
			most = UINT64_MAX >> 1;
			sigprocmask(SIG_BLOCK, only_term(), NULL);
			alarm(ROUND_SECONDS);
			break;
		default:
			return 2;
		}
	}
	end.tx.buf = malloc(BUF_BYTES);
	end.rx.buf = malloc(BUF_BYTES);
	T_CHECK(end.tx.buf && end.rx.buf);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	if (port) {
		apart.hashing = true;
		run_apart(&end, address, port, seed, most);
		return 0;
	}
	for (done = 0; done < rounds && t_now_ms() - start < (int64_t)seconds * 1000; done++) {
		uint64_t of_round = seed + done * 0x2545f4914f6cdd1dULL;

		ring += one_round(&end, random_next(&of_round) >> 1, most, &bytes);
	}
	printf("%llu rounds, %llu bytes, %llu by ring\n", (unsigned long long)done,
	       (unsigned long long)bytes, (unsigned long long)ring);
	if (t_mode() == T_RING)
		T_CHECK(ring);
	free(end.tx.buf);
	free(end.rx.buf);
	return 0;
}
