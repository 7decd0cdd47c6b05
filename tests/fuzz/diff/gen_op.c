/* SPDX-License-Identifier: Apache-2.0 */
/* gen_op.c - random actors, descriptors and single operations; see gen.h */
#include "gen.h"

uint32_t gen_pick(struct gen *g, uint32_t bound)
{
	return below(&g->rng, bound);
}

bool gen_once_in(struct gen *g, uint32_t n)
{
	return !gen_pick(g, n);
}

void gen_put(struct gen *g, int actor, bool overlap, enum op_kind kind, int a, int b, int c, int d)
{
	struct op *op;

	if (g->prog->count >= OPS_MAX - ACTORS - 1)
		return;
	op = &g->prog->op[g->prog->count++];
	*op = (struct op){.kind = (uint8_t)kind,
			  .actor = (uint8_t)actor,
			  .overlap = overlap,
			  .arg = {a, b, c, d}};
}

struct op *gen_last(struct gen *g)
{
	return &g->prog->op[g->prog->count - 1];
}

/* ---- who, and what -----------------------------------------------------------------------------
 */

int gen_some_actor(struct gen *g)
{
	int actor;

	do {
		actor = (int)gen_pick(g, ACTORS);
	} while (g->proc[actor] < 0);
	return actor;
}

/* A number that is free in @actor's process, or NONE. */
int gen_free_var(struct gen *g, int actor)
{
	const int start = (int)gen_pick(g, VARS);
	int i;

	for (i = 0; i < VARS; i++)
		if (g->var[g->proc[actor]][(start + i) % VARS].what == G_NONE)
			return (start + i) % VARS;
	return NONE;
}

int gen_some_var(struct gen *g, int actor, enum guess what)
{
	const int start = (int)gen_pick(g, VARS);
	int i;

	for (i = 0; i < VARS; i++)
		if (g->var[g->proc[actor]][(start + i) % VARS].what == what)
			return (start + i) % VARS;
	return gen_once_in(g, 4) ? (int)gen_pick(g, VARS) : NONE;
}

/* Some actor that has this end of this connection. */
struct holder gen_holder(struct gen *g, int conn, int side)
{
	const int start = (int)gen_pick(g, ACTORS * VARS);
	int i;

	for (i = 0; i < ACTORS * VARS; i++) {
		const int actor = (start + i) % (ACTORS * VARS) / VARS, var = (start + i) % VARS;
		const struct guessed *v;

		if (g->proc[actor] < 0)
			continue;
		v = &g->var[g->proc[actor]][var];
		if (v->what == G_STREAM && v->conn == conn && v->side == side)
			return (struct holder){actor, var};
	}
	return (struct holder){NONE, NONE};
}

int gen_length(struct gen *g)
{
	static const uint32_t most[] = {1, 10, 100, 100, 1000, 1000, 3000, 6000, 20000, 39000};

	if (gen_once_in(g, 25))
		return 0;
	return 1 + (int)gen_pick(g, most[gen_pick(g, 10)]);
}

int gen_send_call(struct gen *g)
{
	/* splice leaves the ring for good. */
	return gen_once_in(g, 60) ? S_SPLICE
	       : gen_pick(g, 3)	  ? (int)gen_pick(g, S_SENDFILE)
				  : (int)gen_pick(g, S_SPLICE);
}

static int recv_call(struct gen *g)
{
	return gen_once_in(g, 60) ? R_SPLICE
	       : gen_pick(g, 12)  ? (int)gen_pick(g, R_SPLICE)
				  : R_PREADV2 + (int)gen_pick(g, 2);
}

static int send_letters(struct gen *g)
{
	return (gen_once_in(g, 4) ? F_DONTWAIT : 0) | (gen_once_in(g, 4) ? F_NOSIGNAL : 0) |
	       (gen_once_in(g, 40) ? F_MORE : 0);
}

static int recv_letters(struct gen *g)
{
	return (gen_once_in(g, 3) ? F_DONTWAIT : 0) | (gen_once_in(g, 8) ? F_PEEK : 0) |
	       (gen_once_in(g, 5) ? F_WAITALL : 0) | (gen_once_in(g, 12) ? F_TRUNC : 0);
}

int gen_events(struct gen *g)
{
	static const int some[] = {E_IN,  E_IN,		  E_IN,	   E_IN | E_OUT,
				   E_OUT, E_IN | E_RDHUP, E_RDHUP, E_IN | E_OUT | E_RDHUP,
				   0};

	return some[gen_pick(g, 9)];
}

/* ---- single operations -------------------------------------------------------------------------
 */

void gen_send(struct gen *g, struct holder h, int len)
{
	if (h.actor != NONE)
		gen_put(g, h.actor, false, OP_send, h.var, gen_send_call(g), len, send_letters(g));
}

void gen_recv(struct gen *g, struct holder h, int len, bool overlap)
{
	if (h.actor == NONE)
		return;
	gen_put(g, h.actor, overlap, OP_recv, h.var, recv_call(g), len, recv_letters(g));
	if (overlap)
		gen_last(g)->arg[3] &= F_WAITALL | (gen_once_in(g, 2) ? F_PEEK : 0);
}

void gen_poll(struct gen *g, struct holder h, bool overlap)
{
	if (h.actor == NONE)
		return;
	gen_put(g, h.actor, overlap, OP_poll, (int)gen_pick(g, W_CALLS), gen_events(g), h.var,
		gen_once_in(g, 3) ? gen_some_var(g, h.actor, G_STREAM) : NONE);
	gen_last(g)->arg[4] = gen_once_in(g, 6) ? gen_some_var(g, h.actor, G_EPOLL) : NONE;
	gen_last(g)->arg[5] = gen_once_in(g, 3) ? (int)gen_pick(g, 3) : 0;
	if (overlap)
		gen_last(g)->arg[1] |= E_IN;
}

/* A set in the process of @h's actor that has @h in it; made if need be. */
int gen_set(struct gen *g, struct holder h)
{
	struct guessed *vars = g->var[g->proc[h.actor]];
	int set = gen_some_var(g, h.actor, G_EPOLL);

	if (set == NONE || vars[set].what != G_EPOLL || gen_once_in(g, 5)) {
		set = gen_free_var(g, h.actor);
		if (set == NONE)
			return NONE;
		gen_put(g, h.actor, false, OP_epnew, set, 0, 0, 0);
		vars[set].what = G_EPOLL;
	}
	gen_put(g, h.actor, false, OP_epadd, set, h.var,
		gen_events(g) | E_IN | (gen_pick(g, 2) ? E_EDGE : 0) |
			(gen_once_in(g, 6) ? E_ONESHOT : 0),
		0);
	if (gen_once_in(g, 8)) { /* the set in another one */
		const int outer = gen_free_var(g, h.actor);

		if (outer != NONE) {
			gen_put(g, h.actor, false, OP_epnew, outer, 0, 0, 0);
			vars[outer].what = G_EPOLL;
			gen_put(g, h.actor, false, OP_epadd, outer, set, E_IN, 0);
		}
	}
	return set;
}

void gen_epwait(struct gen *g, int actor, int set, bool overlap)
{
	if (actor != NONE && set != NONE)
		gen_put(g, actor, overlap, OP_epwait, set, (int)gen_pick(g, 8),
			gen_once_in(g, 3) ? (int)gen_pick(g, 3) : 0, 0);
}

void gen_close(struct gen *g, struct holder h)
{
	if (h.actor == NONE)
		return;
	gen_put(g, h.actor, false, OP_close, h.var, 0, 0, 0);
	g->var[g->proc[h.actor]][h.var].what = G_NONE;
}

void gen_make(struct gen *g, int actor)
{
	const int var = gen_free_var(g, actor);

	if (var == NONE)
		return;
	gen_put(g, actor, false, OP_make, var, (int)gen_pick(g, K_KINDS), 0, 0);
	g->var[g->proc[actor]][var].what = G_OTHER;
}

void gen_dup(struct gen *g, struct holder h)
{
	const int to = h.actor == NONE ? NONE : gen_free_var(g, h.actor);

	if (to == NONE)
		return;
	gen_put(g, h.actor, false, OP_dup, h.var, to, (int)gen_pick(g, C_CALLS), 0);
	g->var[g->proc[h.actor]][to] = g->var[g->proc[h.actor]][h.var];
}

void gen_option(struct gen *g, struct holder h)
{
	const int option = (int)gen_pick(g, O_OPTIONS);
	int value = (int)gen_pick(g, 2);

	if (h.actor == NONE)
		return;
	if (option == O_RCVTIMEO || option == O_SNDTIMEO)
		value = gen_once_in(g, 3) ? 0 : 1 + (int)gen_pick(g, 15);
	/* Those two have their price: 200 ms a time, and no ring from then on. */
	if ((option == O_CORK || option == O_RCVLOWAT) && gen_pick(g, 4))
		return;
	if (option == O_RCVLOWAT)
		value = (int)gen_pick(g, 200);
	gen_put(g, h.actor, false, OP_option, h.var, option, value, 0);
}
