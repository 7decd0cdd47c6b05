/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prog.h - a program: a list of socket operations in one order, each done by one of some actors
 *
 * Text, one operation a line: "ACTOR [&] NAME ARGUMENT...". With & the operation is begun and the
 * next one follows at once; the actor's next operation waits for its end.
 */
#ifndef PROG_H
#define PROG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPS_MAX = 256, ARGS_MAX = 6, ACTORS = 5, VARS = 20, LISTENERS = 3, NONE = -1 };

enum op_kind {
#define OP(name, args) OP_##name,
#include "ops.def"
#undef OP
	OP_KINDS
};

enum send_call {
	S_WRITE,
	S_SEND,
	S_SENDTO,
	S_WRITEV,
	S_SENDMSG,
	S_SENDMMSG,
	S_SENDFILE,
	S_SENDFILE_AT,
	S_SPLICE,
	S_PWRITEV2,
	S_SYSCALL,
	S_CALLS
};
enum recv_call {
	R_READ,
	R_RECV,
	R_RECVFROM,
	R_READV,
	R_RECVMSG,
	R_RECVMMSG,
	R_SPLICE,
	R_PREADV2,
	R_SYSCALL,
	R_CALLS
};
enum wait_call { W_POLL, W_PPOLL, W_SELECT, W_PSELECT, W_CALLS };
enum dup_call { C_DUP, C_DUP2, C_DUP3, C_FDUPFD, C_FDUPFD_CLOEXEC, C_CALLS };
enum make_kind { K_NULL, K_PIPE, K_EVENTFD, K_SOCKET, K_UNIX, K_FILE, K_KINDS };
enum half { H_RD, H_WR, H_RDWR, H_HALVES };
enum sockopt {
	O_NODELAY_,
	O_CORK,
	O_RCVTIMEO,
	O_SNDTIMEO,
	O_RCVLOWAT,
	O_QUICKACK,
	O_KEEPALIVE,
	O_OPTIONS
};

/* Letters of a set, in the order of their bits. */
#define FLAG_LETTERS "npwtsm" /* DONTWAIT PEEK WAITALL TRUNC NOSIGNAL MORE */
enum { F_DONTWAIT = 1, F_PEEK = 2, F_WAITALL = 4, F_TRUNC = 8, F_NOSIGNAL = 16, F_MORE = 32 };
#define EVENT_LETTERS "iohe1" /* in, out, rdhup, edge, oneshot */
enum { E_IN = 1, E_OUT = 2, E_RDHUP = 4, E_EDGE = 8, E_ONESHOT = 16 };

struct op {
	uint8_t kind;
	uint8_t actor;
	uint8_t overlap; /* & */
	int32_t arg[ARGS_MAX];
};

struct prog {
	uint64_t seed;
	uint32_t count;
	struct op op[OPS_MAX];
};

struct op_info {
	const char *name, *args;
};
extern const struct op_info op_info[OP_KINDS];

/** prog_line() - one operation as text, without a newline */
void prog_line(const struct op *op, char *dst, size_t size);
/** prog_print() - the whole program to standard output or a file */
int prog_write(const struct prog *prog, const char *path);
/** prog_read() - false: said on standard error what is wrong, and where */
bool prog_read(struct prog *prog, const char *path);
/** prog_make() - the program of a seed (gen.c) */
void prog_make(struct prog *prog, uint64_t seed);

/** rnd() - the next of a sequence; below(): less than @bound */
uint64_t rnd(uint64_t *state);
uint32_t below(uint64_t *state, uint32_t bound);

#endif
