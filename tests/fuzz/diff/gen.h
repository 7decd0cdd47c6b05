/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.h - inside the generator: what a program has so far, and single operations that fit it
 *
 * gen_op.c has the operations, gen.c the phrases that are made of them.
 */
#ifndef GEN_H
#define GEN_H

#include "prog.h"

/* What a variable probably is when its turn comes. */
enum guess { G_NONE, G_STREAM, G_EPOLL, G_OTHER };

struct guessed {
	uint8_t what, conn, side;
};

struct gen {
	struct prog *prog;
	uint64_t rng;
	struct guessed var[ACTORS][VARS]; /* by process */
	int proc[ACTORS];		  /* of each actor, or NONE */
	int parent[ACTORS];
	int conns, listeners;
};

/* An actor, and its variable for something; or NONE, and then the functions below do nothing. */
struct holder {
	int actor, var;
};

uint32_t gen_pick(struct gen *g, uint32_t bound);
bool gen_once_in(struct gen *g, uint32_t n);
/** gen_put() - one more operation; gen_last(): that one */
void gen_put(struct gen *g, int actor, bool overlap, enum op_kind kind, int a, int b, int c, int d);
struct op *gen_last(struct gen *g);

int gen_some_actor(struct gen *g);
/** gen_free_var() - a number that is free in @actor's process, or NONE */
int gen_free_var(struct gen *g, int actor);
/** gen_some_var() - one that is @what there; or NONE; or now and then any */
int gen_some_var(struct gen *g, int actor, enum guess what);
/** gen_holder() - some actor that has this end of this connection */
struct holder gen_holder(struct gen *g, int conn, int side);
int gen_length(struct gen *g);
int gen_send_call(struct gen *g);
int gen_events(struct gen *g);

void gen_send(struct gen *g, struct holder h, int len);
void gen_recv(struct gen *g, struct holder h, int len, bool overlap);
void gen_poll(struct gen *g, struct holder h, bool overlap);
/** gen_set() - a set in the process of @h's actor that has @h in it, made if need be; or NONE */
int gen_set(struct gen *g, struct holder h);
void gen_epwait(struct gen *g, int actor, int set, bool overlap);
void gen_close(struct gen *g, struct holder h);
void gen_make(struct gen *g, int actor);
void gen_dup(struct gen *g, struct holder h);
void gen_option(struct gen *g, struct holder h);

#endif
