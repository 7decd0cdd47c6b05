/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t.h - what the hook tests and the stress test share
 *
 * A hook test is an ordinary socket program: it knows nothing of rings. It runs three times with
 * the same assertions, told apart by T_MODE: "tcp" without preload (the oracle: what the kernel
 * does), "ring" preloaded with a private agent and the policy "always", "back" the same while the
 * agent is drained and resumed all the time. Only two things look at the mode: the warm-up, which
 * goes on until the stream has moved, and t_moved_*(), which proves in mode "ring" that bytes under
 * test really went by the ring. Both ask the agent (t_agent.c).
 *
 * A failed check prints where and ends the process with 1; in a child of t_child() the parent's
 * t_join() fails in turn.
 */
#ifndef T_H
#define T_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define T_LEN(array) (sizeof(array) / sizeof((array)[0]))

enum t_mode { T_TCP, T_RING, T_BACK };
enum t_mode t_mode(void);

/* ---- checks ---------------------------------------------------------------------------------- */

void t_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));
/** t_skip() - end with 77: this machine cannot show it, and why */
void t_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#define T_CHECK(cond)                                                              \
	do {                                                                       \
		if (!(cond))                                                       \
			t_fail(__FILE__, __LINE__, "%s (errno %d)", #cond, errno); \
	} while (0)

#define T_EQ(got, want)                                                                         \
	do {                                                                                    \
		const long long t_got_ = (long long)(got), t_want_ = (long long)(want);         \
		if (t_got_ != t_want_)                                                          \
			t_fail(__FILE__, __LINE__, "%s = %lld, not %s = %lld (errno %d)", #got, \
			       t_got_, #want, t_want_, errno);                                  \
	} while (0)

/* T_OK() - the call returns >= 0 and leaves errno as it was. Value: what it returned. */
#define T_OK(call)                                                                           \
	__extension__({                                                                      \
		errno = 4242;                                                                \
		const long long t_rc_ = (long long)(call);                                   \
		if (t_rc_ < 0)                                                               \
			t_fail(__FILE__, __LINE__, "%s failed: %s", #call, strerror(errno)); \
		if (errno != 4242)                                                           \
			t_fail(__FILE__, __LINE__, "%s left errno %d", #call, errno);        \
		t_rc_;                                                                       \
	})

/* T_ERR() - the call returns -1 with this errno. */
#define T_ERR(call, want)                                                                         \
	do {                                                                                      \
		errno = 0;                                                                        \
		const long long t_rc_ = (long long)(call);                                        \
		if (t_rc_ != -1 || errno != (want))                                               \
			t_fail(__FILE__, __LINE__, "%s = %lld errno %d, not -1 %s", #call, t_rc_, \
			       errno, #want);                                                     \
	} while (0)

/* T_ELAPSED() - milliseconds since @start_ms are at least @least and below @most. */
#define T_ELAPSED(start_ms, least, most)                                                           \
	do {                                                                                       \
		const int64_t t_ms_ = t_now_ms() - (start_ms);                                     \
		if (t_ms_ < (least) || t_ms_ >= (most))                                            \
			t_fail(__FILE__, __LINE__, "took %lld ms, not %d to %d", (long long)t_ms_, \
			       (int)(least), (int)(most));                                         \
	} while (0)

int64_t t_now_ms(void);

/* ---- pairs: a has connected, b was accepted; both in this process ---------------------------- */

enum t_family { T_V4, T_V6, T_MAPPED /* AF_INET to a dual-stack listener */ };

struct t_pair {
	int a, b;
};

/** t_listen() - a listening socket on a free loopback port, and the address to connect to */
int t_listen(enum t_family family, struct sockaddr_storage *ret_addr, socklen_t *ret_len);
/** t_open() - a connected pair, TCP_NODELAY set: tests should not take delayed ACKs' 40 ms each */
void t_open(struct t_pair *pair, enum t_family family);
/** t_open_hot() - an IPv4 pair after t_warm() */
void t_open_hot(struct t_pair *pair);
void t_close(struct t_pair *pair);

/** t_warm() - exchange data until both directions have moved (mode ring); bounded in the others */
void t_warm(const struct t_pair *pair);
/** t_hot() - some quick exchanges, so that what is sent next goes by the ring if anything does */
void t_hot(const struct t_pair *pair);

/* ---- content: byte i of stream @seed is known, so any piece can be made and checked -----------
 */

void t_fill(void *buf, size_t len, uint64_t seed, uint64_t at);
/** t_verify() - fails with the place of the first wrong byte */
void t_verify(const void *buf, size_t len, uint64_t seed, uint64_t at);
/** t_same() - offset of the first wrong byte, or @len */
size_t t_same(const void *buf, size_t len, uint64_t seed, uint64_t at);

/** t_send() and t_recv() - all of it, checking content and errno; blocking descriptors */
void t_send(int fd, size_t len, uint64_t seed, uint64_t at);
void t_recv(int fd, size_t len, uint64_t seed, uint64_t at);
/** t_recv_rest() - verify and count until end of stream */
uint64_t t_recv_rest(int fd, uint64_t seed, uint64_t at);
void t_set_nonblock(int fd, bool on);

/* ---- did it go by the ring? (the agent's word, t_agent.c) -------------------------------------
 */

/* One end of a stream, as "streams" tells it. */
struct t_stream {
	uint64_t tx_ring_bytes, tx_tcp_bytes, rx_ring_bytes, rx_tcp_bytes;
	char tx_mode[16], rx_mode[16], reason[32];
};

/** t_stream() - what the agent knows of the stream at @fd; false: nothing (or mode tcp) */
bool t_stream(int fd, struct t_stream *ret_stream);
/** t_moved_begin() - bytes that @fd has sent by the ring so far */
uint64_t t_moved_begin(int fd);
/** t_moved_end() - mode ring: fails unless @fd has sent more by the ring since */
void t_moved_end(int fd, uint64_t begin);
/** t_control() - a verb of agent_proto.h to the agent; the answer, which the caller frees */
char *t_control(unsigned int verb);

/* ---- processes and threads --------------------------------------------------------------------
 */

/** t_child() - run @fn in a child, which ends with 0 if it returns */
pid_t t_child(void (*fn)(void *arg), void *arg);
/** t_join() - the child ended with 0; t_join_killed(): by @signal */
void t_join(pid_t pid);
void t_join_killed(pid_t pid, int signal);

struct t_thread {
	pthread_t thread;
	pid_t tid; /* set when the thread runs; read by t_wait_asleep() */
	void (*fn)(void *arg);
	void *arg;
};

void t_thread_start(struct t_thread *thread, void (*fn)(void *arg), void *arg);
void t_thread_join(struct t_thread *thread);
/** t_wait_asleep() - until thread or process @tid of this PID namespace sleeps in the kernel */
void t_wait_asleep(pid_t tid);
/** t_cpu_ms() - processor time that process @pid has used */
int64_t t_cpu_ms(pid_t pid);

/** t_on_signal() - count @signal in t_signals, with these sigaction flags */
void t_on_signal(int signal, int flags);
extern volatile sig_atomic_t t_signals;

#endif
