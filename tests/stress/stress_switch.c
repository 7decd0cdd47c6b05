// SPDX-License-Identifier: Apache-2.0
/*
 * stress_switch - the switch by itself: switch.h and ring.h over a real TCP connection, no preload
 *
 * A round joins two ends by a loopback connection and a segment in shared memory, lets senders and
 * receivers work as docs/protocol.md says, and has a third party interfere as an agent does: it
 * leaves for S, settles or pushes out for R, refuses, stops, and takes both back. Rounds differ in
 * shape: two processes with one stream each way, or one process with several senders and receivers
 * of one stream (which the thread sanitizer can follow). Ring and socket buffers are small in some.
 *
 *   stress_switch [--seed N] [--seconds S]
 *
 * Content: with one sender and one receiver each byte is known by its place. With several senders a
 * byte is {sender, 7 bits of its number}, and each sender's come in order. With several receivers
 * their counts must add up. A sender stops now and then until all that it sent was received: so a
 * lost wake-up is a hang, and a hang of 10 s is shown with the state of the words and is a failure.
 */
#include <getopt.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "switch.h"
#include "t.h"

#define RING_MAX  65536u
#define PIECE_MAX 20000u
#define STUCK_MS  10000
#define WORKERS	  8
#define NO_OPEN	  (SHMT_DIR_REFUSED | SHMT_DIR_STOPPED)

/* One direction beside the segment: what the records of its two ends would hold, and counts. */
struct way {
	uint32_t tx_lock, rx_lock, tx_in_kernel; /* atomic, as all here */
	uint32_t senders_left;
	uint64_t tcp_sent, sent, received;
	uint64_t ring_bytes, opened, settled, pushed, left;
	uint64_t by_value[256]; /* several receivers: sent less received */
};

struct ground {
	struct shmt_seg_shared seg;
	struct way way[2];
	uint32_t done; /* processes that have ended well: the third party may go */
	uint8_t data[2 * RING_MAX];
};

struct shape {
	const char *name;
	unsigned int processes, ways, senders, receivers;
};

static const struct shape shapes[] = {
	{"two processes, both ways", 2, 2, 1, 1},
	{"two processes, one way", 2, 1, 1, 1},
	{"one process, two senders", 1, 1, 2, 1},
	{"one process, two receivers", 1, 1, 1, 2},
	{"one process, two of each, both ways", 1, 2, 2, 2},
};

struct worker {
	unsigned int way, index;
	uint64_t rng;
};

static struct ground *ground;
static struct shape shape;
static struct t_pair pair;
static uint64_t content_seed;
static int64_t until_ms;

static uint64_t random_below(uint64_t *rng, uint64_t bound)
{
	uint64_t x = *rng += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return (x ^ x >> 31) % bound;
}

static size_t random_len(uint64_t *rng)
{
	static const uint32_t most[] = {1, 8, 100, 1500, 5000, PIECE_MAX};

	return 1 + random_below(rng, most[random_below(rng, T_LEN(most))]);
}

static bool take_lock(uint32_t *lock, bool wait)
{
	while (!shmt_cas(lock, 0, 1)) {
		if (!wait)
			return false;
		sched_yield();
	}
	return true;
}

static void drop_lock(uint32_t *lock)
{
	shmt_store_release(lock, 0);
}

static struct shmt_dir direction(unsigned int way)
{
	return (struct shmt_dir){
		.shared = &ground->seg.dir[way],
		.ring = {.data = ground->data + way * RING_MAX, .size = ground->seg.ring_bytes},
	};
}

static bool by_ring(uint64_t ctl)
{
	return SHMT_CTL_MODE(ctl) == SHMT_WAKING || SHMT_CTL_MODE(ctl) == SHMT_RING;
}

/* ---- sender ------------------------------------------------------------------------------------
 */

/* Modes TCP and LEAVING: bytes sent, or -ESTALE: look again */
static ssize_t send_tcp(struct worker *me, const struct shmt_dir *dir, int fd, const void *buf,
			size_t len)
{
	struct way *way = &ground->way[me->way];
	ssize_t n = 0;

	if (random_below(&me->rng, 4) && take_lock(&way->tx_lock, false)) {
		if (shmt_load(&way->tx_in_kernel) == 0 &&
		    shmt_tx_open(dir, shmt_load(&way->tcp_sent) + len)) {
			n = random_below(&me->rng, 8) ? send(fd, buf, len, MSG_DONTWAIT) : 0;
			if (n > 0)
				shmt_add(&way->tcp_sent, (uint64_t)n);
			if (n == (ssize_t)len)
				shmt_add(&way->opened, 1);
			else
				shmt_tx_unopen(dir);
		}
		drop_lock(&way->tx_lock);
		if (n > 0)
			return n;
	}
	take_lock(&way->tx_lock, true);
	if (by_ring(shmt_load(&dir->shared->ctl))) {
		drop_lock(&way->tx_lock);
		return -ESTALE;
	}
	shmt_add(&way->tx_in_kernel, 1);
	drop_lock(&way->tx_lock);
	n = send(fd, buf, len, random_below(&me->rng, 2) ? MSG_DONTWAIT : 0);
	if (n < 0 && errno == EAGAIN)
		n = send(fd, buf, len, 0);
	T_CHECK(n > 0);
	shmt_add(&way->tcp_sent, (uint64_t)n);
	shmt_sub(&way->tx_in_kernel, 1);
	return n;
}

/* Modes WAKING and RING: bytes published, 0: full or to leave, -ESTALE */
static ssize_t send_ring(struct worker *me, struct shmt_dir *dir, const void *buf, size_t len)
{
	struct way *way = &ground->way[me->way];
	ssize_t n = -ESTALE;
	int64_t space;
	uint64_t ctl;

	take_lock(&way->tx_lock, true);
	ctl = shmt_load(&dir->shared->ctl);
	if (!by_ring(ctl))
		goto out;
	n = 0;
	if (shmt_load(&dir->shared->flags) & NO_OPEN)
		goto out;
	space = shmt_tx_room(dir, ctl, len);
	T_CHECK(space >= 0);
	if (space == 0)
		goto out;
	if (len > (size_t)space)
		len = (size_t)space;
	shmt_ring_copy_in(&dir->ring, SHMT_CTL_VALUE(ctl), buf, len);
	n = shmt_tx_publish(dir, ctl, len) ? (ssize_t)len : -ESTALE;
	if (n > 0)
		shmt_add(&way->ring_bytes, len);
out:
	drop_lock(&way->tx_lock);
	return n;
}

static void leave(struct way *way, const struct shmt_dir *dir)
{
	uint64_t ctl;

	take_lock(&way->tx_lock, true);
	ctl = shmt_load(&dir->shared->ctl);
	if (by_ring(ctl) && shmt_tx_leave(dir, ctl) == 0)
		shmt_add(&way->left, 1);
	drop_lock(&way->tx_lock);
}

static ssize_t send_some(struct worker *me, struct shmt_dir *dir, int fd, const void *buf,
			 size_t len)
{
	ssize_t n;

	for (;;) {
		if (!by_ring(shmt_load(&dir->shared->ctl)))
			n = send_tcp(me, dir, fd, buf, len);
		else
			n = send_ring(me, dir, buf, len);
		if (n > 0)
			return n;
		if (n == 0 &&
		    (random_below(&me->rng, 8) == 0 || (shmt_load(&dir->shared->flags) & NO_OPEN)))
			leave(&ground->way[me->way], dir);
		else if (n == 0)
			sched_yield();
	}
}

static void make_bytes(const struct worker *me, uint8_t *buf, size_t len, uint64_t at)
{
	size_t i;

	if (shape.senders == 1)
		t_fill(buf, len, content_seed + me->way, at);
	for (i = 0; i < len && shape.senders > 1; i++)
		buf[i] = (uint8_t)(me->index << 7 | ((at + i) & 127));
}

static void sender(void *arg)
{
	struct worker *me = arg;
	struct way *way = &ground->way[me->way];
	struct shmt_dir dir = direction(me->way);
	const int fd = me->way ? pair.b : pair.a;
	uint8_t buf[PIECE_MAX];
	uint64_t at = 0, goal;
	size_t len, i;
	ssize_t n;

	/* On a busy machine a round is too short for anything: the ring must be used at least once.
	 */
	while (t_now_ms() < until_ms || shmt_load(&way->ring_bytes) == 0) {
		len = random_len(&me->rng);
		make_bytes(me, buf, len, at);
		n = send_some(me, &dir, fd, buf, len);
		at += (uint64_t)n;
		for (i = 0; i < (size_t)n && shape.receivers > 1; i++)
			shmt_add(&way->by_value[buf[i]], 1);
		goal = shmt_add(&way->sent, (uint64_t)n) + (uint64_t)n;
		if (random_below(&me->rng, 16) == 0)
			while (shmt_load(&way->received) < goal)
				sched_yield();
	}
	if (shmt_sub(&way->senders_left, 1) == 1)
		T_OK(shutdown(fd, SHUT_WR));
}

/* ---- receiver ----------------------------------------------------------------------------------
 */

static ssize_t receive_tcp(const struct shmt_dir *dir, int fd, void *buf, size_t len, int flags)
{
	ssize_t n;

	if (!shmt_rx_enter(dir))
		return -ESTALE;
	n = recv(fd, buf, len, flags);
	n = n < 0 ? -errno : n;
	shmt_rx_exit(dir, n > 0 ? (size_t)n : 0);
	if (n <= 0 && SHMT_CTL_MODE(shmt_load(&dir->shared->ctl)) != SHMT_TCP)
		return -ESTALE;
	return n;
}

/* Modes RING and LEAVING, under the lock. -ESTALE: look again, -EBUSY: another one's bytes first */
static ssize_t receive_ring(struct way *way, struct shmt_dir *dir, int fd, void *buf, size_t len,
			    bool wait, uint64_t *ret_ctl)
{
	const uint64_t tail = shmt_load(&dir->shared->tail);
	const uint64_t ctl = shmt_load(&dir->shared->ctl);
	const uint32_t inside = shmt_load(&dir->shared->in_kernel);
	const uint64_t missing = shmt_rx_missing(dir);
	const int64_t avail = shmt_rx_avail(dir, ctl, tail);
	ssize_t n;

	*ret_ctl = ctl;
	if (SHMT_CTL_MODE(ctl) == SHMT_TCP || SHMT_CTL_MODE(ctl) == SHMT_WAKING)
		return -ESTALE;
	if (missing && inside && (avail || !wait))
		return -EBUSY;
	if (missing && !inside) {
		n = recv(fd, buf, missing < len ? missing : len, wait && avail ? 0 : MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && wait && !avail)
			goto empty;
		if (n < 0)
			return -errno;
		T_CHECK(n > 0);
		shmt_rx_took(dir, (size_t)n);
		return n;
	}
	T_CHECK(avail >= 0);
	if (avail > 0) {
		if (!missing)
			shmt_rx_seen(dir, ctl);
		if (len > (size_t)avail)
			len = (size_t)avail;
		shmt_ring_copy_out(&dir->ring, tail, buf, len);
		T_CHECK(shmt_rx_consume(dir, tail, len));
		return (ssize_t)len;
	}
	if (SHMT_CTL_MODE(ctl) != SHMT_LEAVING && !wait)
		return -EAGAIN;
empty:
	shmt_add(&way->settled, shmt_rx_settle(dir, ctl));
	return -ESTALE;
}

/* What an earlier look has seen, by whichever word there is now; 0: not enough of that. */
static ssize_t receive_seen(struct way *way, const struct shmt_dir *dir, void *buf, size_t len)
{
	ssize_t n = 0;
	uint64_t tail;

	take_lock(&way->rx_lock, true);
	tail = shmt_load(&dir->shared->tail);
	if (shmt_rx_ahead(dir, tail) >= len) {
		shmt_ring_copy_out(&dir->ring, tail, buf, len);
		T_CHECK(shmt_rx_consume(dir, tail, len));
		n = (ssize_t)len;
	}
	drop_lock(&way->rx_lock);
	return n;
}

/* Bytes, 0 at the end, -EAGAIN without @wait */
static ssize_t receive(struct worker *me, struct shmt_dir *dir, int fd, void *buf, size_t len,
		       bool wait)
{
	struct way *way = &ground->way[me->way];
	unsigned int turns = (unsigned int)random_below(&me->rng, 200);
	uint64_t ctl;
	ssize_t n;

	for (;;) {
		n = receive_seen(way, dir, buf, len);
		if (n > 0)
			return n;
		ctl = shmt_load(&dir->shared->ctl);
		if (SHMT_CTL_MODE(ctl) == SHMT_TCP) {
			n = receive_tcp(dir, fd, buf, len, wait ? 0 : MSG_DONTWAIT);
		} else if (SHMT_CTL_MODE(ctl) == SHMT_WAKING) {
			shmt_rx_answer(dir, ctl);
			continue;
		} else {
			take_lock(&way->rx_lock, true);
			n = receive_ring(way, dir, fd, buf, len, wait && !turns, &ctl);
			drop_lock(&way->rx_lock);
			if (n == -EAGAIN && wait && turns) {
				turns--; /* spins before it settles */
				continue;
			}
		}
		if (n == -EBUSY && wait)
			sched_yield();
		else if (n == -EBUSY)
			return -EAGAIN;
		else if (n != -ESTALE)
			return n;
	}
}

/* A level-triggered poll: settles, and then sleeps in the kernel unless something is ready. */
static void wait_readable(struct worker *me, const struct shmt_dir *dir, int fd)
{
	struct way *way = &ground->way[me->way];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool ready = false;
	uint64_t ctl;

	take_lock(&way->rx_lock, true);
	while (!ready && (ctl = shmt_load(&dir->shared->ctl), SHMT_CTL_MODE(ctl) != SHMT_TCP)) {
		if (SHMT_CTL_MODE(ctl) == SHMT_WAKING)
			shmt_rx_answer(dir, ctl);
		else if (shmt_rx_avail(dir, ctl, shmt_load(&dir->shared->tail)) == 0)
			shmt_add(&way->settled, shmt_rx_settle(dir, ctl));
		else
			ready = true;
	}
	drop_lock(&way->rx_lock);
	if (!ready)
		T_EQ(poll(&p, 1, -1), 1);
}

static void check_bytes(const struct worker *me, const uint8_t *buf, size_t len, uint64_t at,
			uint64_t next[2])
{
	struct way *way = &ground->way[me->way];
	size_t i;

	if (shape.senders == 1 && shape.receivers == 1)
		t_verify(buf, len, content_seed + me->way, at);
	for (i = 0; i < len; i++) {
		if (shape.senders > 1 && shape.receivers == 1)
			T_EQ(buf[i] & 127, next[buf[i] >> 7]++ & 127);
		if (shape.receivers > 1)
			shmt_sub(&way->by_value[buf[i]], 1);
	}
}

static void receiver(void *arg)
{
	struct worker *me = arg;
	struct way *way = &ground->way[me->way];
	struct shmt_dir dir = direction(me->way);
	const int fd = me->way ? pair.a : pair.b;
	uint8_t buf[PIECE_MAX];
	uint64_t at = 0, next[2] = {0};
	ssize_t n;

	for (;;) {
		const uint64_t how = random_below(&me->rng, 4);

		/* Beside another receiver a sleeper in poll would want to be kicked. */
		if (how == 0 && shape.receivers == 1)
			wait_readable(me, &dir, fd);
		n = receive(me, &dir, fd, buf, random_len(&me->rng), how > 1);
		if (n == 0)
			break;
		if (n == -EAGAIN)
			continue;
		T_CHECK(n > 0);
		check_bytes(me, buf, (size_t)n, at, next);
		at += (uint64_t)n;
		shmt_add(&way->received, (uint64_t)n);
	}
}

/* ---- the third party ---------------------------------------------------------------------------
 */

static void for_the_sender(struct worker *me, struct way *way, const struct shmt_dir *dir)
{
	if (random_below(&me->rng, 8) == 0)
		shmt_or(&dir->shared->flags, SHMT_DIR_STOPPED);
	else
		shmt_and(&dir->shared->flags, ~(uint32_t)SHMT_DIR_STOPPED);
	leave(way, dir);
}

static void for_the_receiver(struct worker *me, struct way *way, const struct shmt_dir *dir)
{
	uint64_t ctl;

	if (random_below(&me->rng, 8) == 0)
		shmt_rx_refuse(dir);
	else
		shmt_and(&dir->shared->flags, ~(uint32_t)SHMT_DIR_REFUSED);
	if (!take_lock(&way->rx_lock, false))
		return;
	ctl = shmt_load(&dir->shared->ctl);
	if (SHMT_CTL_MODE(ctl) == SHMT_RING || SHMT_CTL_MODE(ctl) == SHMT_LEAVING) {
		if (shmt_rx_avail(dir, ctl, shmt_load(&dir->shared->tail)) == 0)
			shmt_add(&way->settled, shmt_rx_settle(dir, ctl));
		else if (SHMT_CTL_MODE(ctl) == SHMT_RING)
			shmt_add(&way->pushed, shmt_rx_push_out(dir, ctl) == 0);
	}
	drop_lock(&way->rx_lock);
}

static void interfere(void *arg)
{
	struct worker *me = arg;

	while (shmt_load(&ground->done) < shape.processes) {
		const struct timespec pace = {.tv_nsec = (long)random_below(&me->rng, 300000)};
		struct way *way = &ground->way[random_below(&me->rng, shape.ways)];
		const struct shmt_dir dir = direction((unsigned int)(way - ground->way));

		nanosleep(&pace, NULL);
		if (random_below(&me->rng, 2))
			for_the_sender(me, way, &dir);
		else
			for_the_receiver(me, way, &dir);
	}
}

/* ---- rounds ------------------------------------------------------------------------------------
 */

struct process {
	unsigned int number;
	uint64_t rng;
};

/* Process 0 has the end that connected: sends way 0, receives way 1. */
static void run_process(void *arg)
{
	const struct process *process = arg;
	struct t_thread threads[WORKERS];
	struct worker workers[WORKERS];
	unsigned int count = 0, way, i;

	for (way = 0; way < shape.ways; way++) {
		for (i = 0; i < shape.senders + shape.receivers; i++) {
			const bool sends = i < shape.senders;

			if (shape.processes == 2 && process->number != (sends ? way : 1 - way))
				continue;
			workers[count] = (struct worker){
				.way = way,
				.index = sends ? i : i - shape.senders,
				.rng = process->rng + count,
			};
			t_thread_start(&threads[count], sends ? sender : receiver, &workers[count]);
			count++;
		}
	}
	while (count)
		t_thread_join(&threads[--count]);
	shmt_add(&ground->done, 1);
}

static void show(void)
{
	static const char *const modes[] = {"TCP", "WAKING", "RING", "LEAVING"};
	unsigned int i;

	for (i = 0; i < shape.ways; i++) {
		const struct shmt_dir_shared *d = &ground->seg.dir[i];
		const struct way *w = &ground->way[i];
		const uint64_t ctl = shmt_load(&d->ctl);

		printf("  way %u: %llu bytes, %llu by the ring; opened %llu, settled %llu, pushed out "
		       "%llu, left %llu\n",
		       i, (unsigned long long)w->sent, (unsigned long long)w->ring_bytes,
		       (unsigned long long)w->opened, (unsigned long long)w->settled,
		       (unsigned long long)w->pushed, (unsigned long long)w->left);
		printf("    received %llu; {%llu, %s} tail %llu open_at %llu tcp_read %llu tcp_sent "
		       "%llu in_kernel %u tx.in_kernel %u flags %x locks %u %u\n",
		       (unsigned long long)w->received, (unsigned long long)SHMT_CTL_VALUE(ctl),
		       modes[SHMT_CTL_MODE(ctl)], (unsigned long long)d->tail,
		       (unsigned long long)d->open_at, (unsigned long long)d->tcp_read,
		       (unsigned long long)w->tcp_sent, d->in_kernel, w->tx_in_kernel, d->flags,
		       w->tx_lock, w->rx_lock);
	}
	fflush(stdout);
}

/* Until all have ended; nothing moving for STUCK_MS is a hang. */
static void watch(const pid_t *pids, unsigned int count)
{
	const struct timespec pace = {.tv_nsec = 20000000};
	int64_t moved_ms = t_now_ms();
	uint64_t last = 0, now;
	unsigned int left = count, i;
	bool ended[3] = {false};
	int status;

	while (left) {
		nanosleep(&pace, NULL);
		now = shmt_load(&ground->way[0].received) + shmt_load(&ground->way[1].received) +
		      left;
		if (now != last)
			moved_ms = t_now_ms();
		last = now;
		for (i = 0; i < count; i++) {
			if (ended[i] || waitpid(pids[i], &status, WNOHANG) != pids[i])
				continue;
			ended[i] = true;
			left--;
			if (status)
				moved_ms = -STUCK_MS; /* the others may wait for it in vain */
		}
		if (t_now_ms() - moved_ms < STUCK_MS)
			continue;
		show();
		for (i = 0; i < count; i++)
			if (!ended[i])
				kill(pids[i], SIGKILL);
		t_fail(__FILE__, __LINE__, "%s", moved_ms < 0 ? "a process failed" : "it hangs");
	}
}

static void check_round(void)
{
	unsigned int i, value;

	for (i = 0; i < shape.ways; i++) {
		const struct way *w = &ground->way[i];

		T_EQ(w->received, w->sent);
		T_CHECK(w->ring_bytes > 0 && w->opened > 0);
		for (value = 0; value < T_LEN(w->by_value); value++)
			T_EQ(w->by_value[value], 0);
	}
}

static void round_of(const struct shape *which, uint64_t seed, int64_t ms)
{
	static const uint32_t rings[] = {64, 1024, 4096, RING_MAX};
	uint64_t rng = seed;
	const int buffer = (int)(4096u << random_below(&rng, 8));
	struct worker third = {.rng = seed + 100};
	struct process processes[2];
	pid_t pids[3];
	unsigned int i, count = 0;

	shape = *which;
	content_seed = seed;
	memset(ground, 0, sizeof(*ground));
	ground->seg.ring_bytes = rings[random_below(&rng, T_LEN(rings))];
	t_open(&pair, T_V4);
	T_OK(setsockopt(pair.a, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)));
	T_OK(setsockopt(pair.b, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)));
	for (i = 0; i < shape.ways; i++) {
		const struct shmt_dir dir = direction(i);

		ground->way[i].senders_left = shape.senders;
		shmt_rx_attach(&dir, 0);
	}
	printf("%s: seed %llu, ring %llu, socket buffer %d\n", shape.name, (unsigned long long)seed,
	       (unsigned long long)ground->seg.ring_bytes, buffer);
	fflush(stdout);
	until_ms = t_now_ms() + ms;
	for (i = 0; i < shape.processes; i++) {
		processes[i] = (struct process){.number = i, .rng = seed + 10 * (i + 1)};
		pids[count++] = t_child(run_process, &processes[i]);
	}
	pids[count++] = t_child(interfere, &third);
	watch(pids, count);
	show();
	check_round();
	t_close(&pair);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 't'},
		{0},
	};
	uint64_t seed = (uint64_t)t_now_ms();
	int64_t end_ms, ms = 5000;
	size_t n = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (option == 't')
			ms = strtoll(optarg, NULL, 0) * 1000;
		else
			return 2;
	}
	ground = mmap(NULL, sizeof(*ground), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	T_CHECK(ground != MAP_FAILED);
	end_ms = t_now_ms() + ms;
	/* Each shape at least once, however short the time. */
	for (n = 0; n < T_LEN(shapes) || t_now_ms() < end_ms; n++)
		round_of(&shapes[n % T_LEN(shapes)], seed + n * 1000, ms / 10 + 1);
	printf("%zu rounds, seed %llu\n", n, (unsigned long long)seed);
	return 0;
}
