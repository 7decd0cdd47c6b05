/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h - inside the interpreter: what the operations share
 *
 * run.c has turns and actors, ops_*.c one function an operation. Waiting for what the kernel must
 * have done, and everything else that is not under test, goes by raw(): no hook sees it.
 */
#ifndef OPS_H
#define OPS_H

#include <errno.h>
#include <poll.h>
#include <sys/types.h>

#include "world.h"

/* This thread: its actor, and the operation that it is at. */
extern __thread int me;
extern __thread uint32_t at;
extern __thread uint8_t *buffer; /* CHUNK * 4 bytes of its own */
extern __thread volatile int pipe_signals;

long raw(long number, long a, long b, long c, long d, long e, long f);

/** say() - the result of the operation that this actor is at, once */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void skip(void);
/** answer() - what a call returned, as text: the number, or -1 and errno */
const char *answer(ssize_t rc);
/**
 * answer_number() - the same of a new descriptor. Which number it is, is not said once one was made
 * while another thread of the process was in a call: that may have needed one for a moment.
 */
const char *answer_number(int fd);
int64_t now_ms(void);
/** give_time() - to whatever is still to come; some hundred microseconds */
void give_time(void);

/** call_begin() - the turn goes on while this actor is in a call that waits for these files */
void call_begin(const struct m_file *a, const struct m_file *b, const struct m_file *c);
/** call_end() - the call is over: wait until it is this actor's turn again */
void call_end(void);
/** partner_wait() - until the partner of this operation has done its part; its text */
const char *partner_wait(void);

/**
 * all_arrived() - wait until the kernel has what it is to get at @file: the bytes that were given
 * to it, and the connection's end if that is due. Loopback delivers when a processor has time for
 * it.
 */
void all_arrived(const struct m_file *file, int fd);

/* ops_io.c, ops_call.c */
ssize_t io_send(enum send_call call, int fd, const uint8_t *data, size_t len, int flags);
ssize_t io_recv(enum recv_call call, int fd, uint8_t *data, size_t len, int flags);
/** io_flags() - those letters that the call has room for */
int io_send_flags(enum send_call call, int letters);
int io_recv_flags(enum recv_call call, int letters);
/** ring_count() - before an end is closed: how much of what it received did not come by TCP */
void ring_count(const struct m_file *file, int fd);
uint64_t kernel_received(int fd);
uint64_t kernel_sent(int fd);

typedef void op_fn(const struct op *op);
#define OP(name, args) op_fn op_##name;
#include "ops.def"
#undef OP
/* what the partner does meanwhile */
op_fn partner_warm, partner_pump;

/** close_all() - the end of a process: everything it still has */
void close_all(void);

#endif
