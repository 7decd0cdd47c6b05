/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.c - a random program from a seed
 *
 * Phrases rather than single operations: what belongs together (send, ask, receive; fill, block,
 * drain; end one side, look from the other) comes together often enough, at random between them
 * everything else. What a variable is, is guessed here; where the guess is wrong the interpreter
 * says what the call answers, or skips it.
 */
#include <string.h>

#include "prog.h"

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
	int actors, conns, listeners;
};

static uint32_t pick(struct gen *g, uint32_t bound)
{
	return below(&g->rng, bound);
}

static bool once_in(struct gen *g, uint32_t n)
{
	return !pick(g, n);
}

static void put(struct gen *g, int actor, bool overlap, enum op_kind kind, int a, int b, int c,
		int d)
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

static struct op *last(struct gen *g)
{
	return &g->prog->op[g->prog->count - 1];
}

/* ---- who, and what -----------------------------------------------------------------------------
 */

static int some_actor(struct gen *g)
{
	int actor;

	do {
		actor = (int)pick(g, ACTORS);
	} while (g->proc[actor] < 0);
	return actor;
}

/* A number that is free in @actor's process, or NONE. */
static int free_var(struct gen *g, int actor)
{
	const int start = (int)pick(g, VARS);
	int i;

	for (i = 0; i < VARS; i++)
		if (g->var[g->proc[actor]][(start + i) % VARS].what == G_NONE)
			return (start + i) % VARS;
	return NONE;
}

static int some_var(struct gen *g, int actor, enum guess what)
{
	const int start = (int)pick(g, VARS);
	int i;

	for (i = 0; i < VARS; i++)
		if (g->var[g->proc[actor]][(start + i) % VARS].what == what)
			return (start + i) % VARS;
	return once_in(g, 4) ? (int)pick(g, VARS) : NONE;
}

struct holder {
	int actor, var;
};

/* Some actor that has this end of this connection. */
static struct holder holder_of(struct gen *g, int conn, int side)
{
	const int start = (int)pick(g, ACTORS * VARS);
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

static int length(struct gen *g)
{
	static const uint32_t most[] = {1, 10, 100, 100, 1000, 1000, 3000, 6000, 20000, 39000};

	if (once_in(g, 25))
		return 0;
	return 1 + (int)pick(g, most[pick(g, 10)]);
}

static int send_call(struct gen *g)
{
	/* splice leaves the ring for good. */
	return once_in(g, 60) ? S_SPLICE
	       : pick(g, 3)   ? (int)pick(g, S_SENDFILE)
			      : (int)pick(g, S_SPLICE);
}

static int recv_call(struct gen *g)
{
	return once_in(g, 60) ? R_SPLICE
	       : pick(g, 12)  ? (int)pick(g, R_SPLICE)
			      : R_PREADV2 + (int)pick(g, 2);
}

static int send_letters(struct gen *g)
{
	return (once_in(g, 4) ? F_DONTWAIT : 0) | (once_in(g, 4) ? F_NOSIGNAL : 0) |
	       (once_in(g, 40) ? F_MORE : 0);
}

static int recv_letters(struct gen *g)
{
	return (once_in(g, 3) ? F_DONTWAIT : 0) | (once_in(g, 8) ? F_PEEK : 0) |
	       (once_in(g, 5) ? F_WAITALL : 0) | (once_in(g, 12) ? F_TRUNC : 0);
}

static int events(struct gen *g)
{
	static const int some[] = {E_IN,  E_IN,		  E_IN,	   E_IN | E_OUT,
				   E_OUT, E_IN | E_RDHUP, E_RDHUP, E_IN | E_OUT | E_RDHUP,
				   0};

	return some[pick(g, 9)];
}

/* ---- single operations -------------------------------------------------------------------------
 */

static void do_send(struct gen *g, struct holder h, int len)
{
	if (h.actor != NONE)
		put(g, h.actor, false, OP_send, h.var, send_call(g), len, send_letters(g));
}

static void do_recv(struct gen *g, struct holder h, int len, bool overlap)
{
	if (h.actor == NONE)
		return;
	put(g, h.actor, overlap, OP_recv, h.var, recv_call(g), len, recv_letters(g));
	if (overlap)
		last(g)->arg[3] &= F_WAITALL | (once_in(g, 2) ? F_PEEK : 0);
}

static void do_poll(struct gen *g, struct holder h, bool overlap)
{
	if (h.actor == NONE)
		return;
	put(g, h.actor, overlap, OP_poll, (int)pick(g, W_CALLS), events(g), h.var,
	    once_in(g, 3) ? some_var(g, h.actor, G_STREAM) : NONE);
	last(g)->arg[4] = once_in(g, 6) ? some_var(g, h.actor, G_EPOLL) : NONE;
	last(g)->arg[5] = once_in(g, 3) ? (int)pick(g, 3) : 0;
	if (overlap)
		last(g)->arg[1] |= E_IN;
}

/* A set in the process of @h's actor that has @h in it; made if need be. */
static int do_set(struct gen *g, struct holder h)
{
	struct guessed *vars = g->var[g->proc[h.actor]];
	int set = some_var(g, h.actor, G_EPOLL);

	if (set == NONE || vars[set].what != G_EPOLL || once_in(g, 5)) {
		set = free_var(g, h.actor);
		if (set == NONE)
			return NONE;
		put(g, h.actor, false, OP_epnew, set, 0, 0, 0);
		vars[set].what = G_EPOLL;
	}
	put(g, h.actor, false, OP_epadd, set, h.var,
	    events(g) | E_IN | (pick(g, 2) ? E_EDGE : 0) | (once_in(g, 6) ? E_ONESHOT : 0), 0);
	if (once_in(g, 8)) { /* the set in another one */
		const int outer = free_var(g, h.actor);

		if (outer != NONE) {
			put(g, h.actor, false, OP_epnew, outer, 0, 0, 0);
			vars[outer].what = G_EPOLL;
			put(g, h.actor, false, OP_epadd, outer, set, E_IN, 0);
		}
	}
	return set;
}

static void do_epwait(struct gen *g, int actor, int set, bool overlap)
{
	if (actor != NONE && set != NONE)
		put(g, actor, overlap, OP_epwait, set, (int)pick(g, 8),
		    once_in(g, 3) ? (int)pick(g, 3) : 0, 0);
}

static void do_close(struct gen *g, struct holder h)
{
	if (h.actor == NONE)
		return;
	put(g, h.actor, false, OP_close, h.var, 0, 0, 0);
	g->var[g->proc[h.actor]][h.var].what = G_NONE;
}

static void do_make(struct gen *g, int actor)
{
	const int var = free_var(g, actor);

	if (var == NONE)
		return;
	put(g, actor, false, OP_make, var, (int)pick(g, K_KINDS), 0, 0);
	g->var[g->proc[actor]][var].what = G_OTHER;
}

static void do_dup(struct gen *g, struct holder h)
{
	const int to = h.actor == NONE ? NONE : free_var(g, h.actor);

	if (to == NONE)
		return;
	put(g, h.actor, false, OP_dup, h.var, to, (int)pick(g, C_CALLS), 0);
	g->var[g->proc[h.actor]][to] = g->var[g->proc[h.actor]][h.var];
}

static void do_option(struct gen *g, struct holder h)
{
	const int option = (int)pick(g, O_OPTIONS);
	int value = (int)pick(g, 2);

	if (h.actor == NONE)
		return;
	if (option == O_RCVTIMEO || option == O_SNDTIMEO)
		value = once_in(g, 3) ? 0 : 1 + (int)pick(g, 15);
	/* Those two have their price: 200 ms a time, and no ring from then on. */
	if ((option == O_CORK || option == O_RCVLOWAT) && pick(g, 4))
		return;
	if (option == O_RCVLOWAT)
		value = (int)pick(g, 200);
	put(g, h.actor, false, OP_option, h.var, option, value, 0);
}

/* ---- phrases -----------------------------------------------------------------------------------
 */

struct ends {
	struct holder tx, rx;
};

static struct ends some_ends(struct gen *g)
{
	const int conn = g->conns ? (int)pick(g, (uint32_t)g->conns) : 0, side = (int)pick(g, 2);

	return (struct ends){holder_of(g, conn, side), holder_of(g, conn, !side)};
}

static void phrase_exchange(struct gen *g)
{
	struct ends e = some_ends(g), back;
	uint32_t rounds = 1 + pick(g, 8);

	while (rounds--) {
		const int len = length(g);

		if (once_in(g, 3)) {
			back = e;
			e.tx = back.rx;
			e.rx = back.tx;
		}
		do_send(g, e.tx, len);
		if (once_in(g, 4))
			do_send(g, e.tx, length(g));
		if (once_in(g, 5))
			do_poll(g, e.rx, false);
		do_recv(g, e.rx, pick(g, 3) ? len : length(g), false);
		if (once_in(g, 6))
			do_recv(g, e.rx, length(g), false);
		if (once_in(g, 8))
			put(g, some_actor(g), false, OP_pause,
			    1 + (int)pick(g, once_in(g, 4) ? 8000 : 300), 0, 0, 0);
	}
}

static void phrase_set(struct gen *g)
{
	const struct ends e = some_ends(g);
	uint32_t rounds = 2 + pick(g, 6);
	int set;

	if (e.rx.actor == NONE)
		return;
	set = do_set(g, e.rx);
	while (rounds--) {
		if (pick(g, 4))
			do_send(g, e.tx, length(g));
		do_epwait(g, e.rx.actor, set, false);
		if (pick(g, 3))
			do_recv(g, e.rx, length(g), false);
		if (once_in(g, 4))
			put(g, e.rx.actor, false, OP_recv, e.rx.var, R_RECV, 60000, F_DONTWAIT);
		if (once_in(g, 8) && set != NONE)
			put(g, e.rx.actor, false, OP_epmod, set, e.rx.var,
			    events(g) | (pick(g, 2) ? E_EDGE : 0) | (once_in(g, 4) ? E_ONESHOT : 0),
			    0);
		if (once_in(g, 20) && set != NONE)
			put(g, e.rx.actor, false, OP_epdel, set, e.rx.var, 0, 0);
	}
}

/* Somebody waits, somebody else sends. */
static void phrase_blocked(struct gen *g)
{
	const struct ends e = some_ends(g);
	const int other = some_actor(g), kind = (int)pick(g, 4);
	uint32_t rounds = pick(g, 4);
	struct holder tx = e.tx;

	if (e.rx.actor == NONE)
		return;
	/* Everybody in its process may have the descriptor. */
	if (g->proc[other] == g->proc[e.rx.actor] && kind == 3)
		tx.actor = e.tx.actor;
	if (pick(g, 3))
		put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	if (kind < 2)
		do_recv(g, e.rx, length(g), true);
	else if (kind == 2)
		do_poll(g, e.rx, true);
	else
		do_epwait(g, e.rx.actor, do_set(g, e.rx), true);
	if (once_in(g, 3))
		put(g, other, false, OP_pause, 1 + (int)pick(g, 3000), 0, 0, 0);
	while (rounds--)
		do_send(g, tx, length(g));
	if (pick(g, 2))
		put(g, e.rx.actor, false, OP_join, 0, 0, 0, 0);
}

static void phrase_full(struct gen *g)
{
	const struct ends e = some_ends(g);
	const bool sender = e.tx.actor != e.rx.actor && pick(g, 2);

	if (e.tx.actor == NONE || e.rx.actor == NONE)
		return;
	if (once_in(g, 3))
		do_epwait(g, e.tx.actor, do_set(g, e.tx), false);
	put(g, e.tx.actor, false, OP_fill, e.tx.var, 0, 0, 0);
	do_poll(g, e.tx, false);
	if (sender)
		put(g, e.tx.actor, true, OP_send, e.tx.var, send_call(g), length(g), 0);
	if (once_in(g, 6))
		put(g, e.tx.actor, false, OP_join, 0, 0, 0, 0);
	put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	if (sender)
		put(g, e.tx.actor, false, OP_join, 0, 0, 0, 0);
	do_poll(g, e.tx, false);
}

static void phrase_bulk(struct gen *g)
{
	const struct ends e = some_ends(g);

	if (e.tx.actor == NONE || e.rx.actor == NONE)
		return;
	put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	put(g, e.tx.actor, false, OP_drain, e.tx.var, 0, 0, 0);
	if (pick(g, 2))
		put(g, e.tx.actor, false, OP_warm, e.rx.actor, e.tx.var, e.rx.var, 0);
	if (pick(g, 2))
		return;
	put(g, e.tx.actor, false, OP_pump, e.rx.actor, e.tx.var, e.rx.var,
	    1 + (int)pick(g, once_in(g, 4) ? 2000000 : 200000));
	last(g)->arg[4] = (int)pick(g, 1 << 30);
}

static void look(struct gen *g, struct holder h)
{
	switch (pick(g, 5)) {
	case 0:
		do_send(g, h, length(g));
		break;
	case 1:
		do_poll(g, h, false);
		break;
	case 2:
		if (h.actor != NONE)
			put(g, h.actor, false, OP_fionread, h.var, 0, 0, 0);
		break;
	default:
		do_recv(g, h, length(g), false);
		break;
	}
}

static void phrase_end(struct gen *g)
{
	const struct ends e = some_ends(g);
	uint32_t looks = 2 + pick(g, 5);

	if (e.tx.actor == NONE)
		return;
	if (pick(g, 2))
		do_send(g, e.tx, length(g));
	if (once_in(g, 3))
		do_send(g, e.rx, length(g));
	if (once_in(g, 4))
		put(g, e.tx.actor, false, OP_linger, e.tx.var, 0, 0, 0);
	if (pick(g, 2))
		put(g, e.tx.actor, false, OP_shut, e.tx.var,
		    (int)(pick(g, 4) ? H_WR : pick(g, H_HALVES)), 0, 0);
	else
		do_close(g, e.tx);
	if (once_in(g, 3))
		do_make(g, e.tx.actor);
	while (looks--)
		look(g, pick(g, 3) ? e.rx : e.tx);
}

static void phrase_descriptor(struct gen *g)
{
	const struct ends e = some_ends(g);
	const int actor = some_actor(g);
	struct holder h = e.rx;

	if (h.actor == NONE)
		return;
	switch (pick(g, 8)) {
	case 0:
	case 1:
		do_dup(g, h);
		break;
	case 2: { /* what it was goes on under another number, or not at all */
		const int onto = some_var(g, h.actor, once_in(g, 3) ? G_STREAM : G_OTHER);

		if (onto == NONE)
			break;
		put(g, h.actor, false, OP_dup2on, h.var, onto, (int)pick(g, 3), 0);
		g->var[g->proc[h.actor]][onto] = g->var[g->proc[h.actor]][h.var];
		do_send(g, e.tx, length(g));
		look(g, (struct holder){h.actor, onto});
		look(g, (struct holder){h.actor, onto});
		break;
	}
	case 3: {
		const int with = some_var(g, h.actor, G_OTHER);

		if (with == NONE)
			break;
		put(g, h.actor, false, OP_dup2on, with, h.var, (int)pick(g, 3), 0);
		g->var[g->proc[h.actor]][h.var] = g->var[g->proc[h.actor]][with];
		break;
	}
	case 4:
		put(g, h.actor, false, OP_nonblock, h.var, (int)pick(g, 2), (int)pick(g, 2), 0);
		break;
	case 5:
		do_option(g, h);
		break;
	case 6: {
		const int other = some_var(g, actor, pick(g, 2) ? G_OTHER : G_STREAM);

		if (other != NONE && once_in(g, 2)) {
			put(g, actor, false, OP_closerange, other, other, 0, 0);
			g->var[g->proc[actor]][other].what = G_NONE;
		}
		do_make(g, actor);
		break;
	}
	default:
		put(g, h.actor, false, OP_outq, h.var, 0, 0, 0);
		break;
	}
}

static void phrase_bad(struct gen *g)
{
	const int actor = some_actor(g);
	const struct holder any = {actor, (int)pick(g, VARS)};
	const struct ends e = some_ends(g);

	switch (pick(g, 4)) {
	case 0:
		do_send(g, any, length(g));
		break;
	case 1:
		do_recv(g, any, length(g), false);
		break;
	case 2:
		if (e.tx.actor != NONE)
			put(g, e.tx.actor, false, OP_sendbad, e.tx.var, (int)pick(g, S_CALLS), 0,
			    0);
		break;
	default:
		do_send(g, e.tx, length(g));
		if (e.rx.actor != NONE)
			put(g, e.rx.actor, false, OP_recvbad, e.rx.var, (int)pick(g, R_CALLS), 0,
			    0);
		break;
	}
}

/* ---- beginnings and ends -----------------------------------------------------------------------
 */

static void new_pair(struct gen *g, int actor)
{
	static const int families[] = {4, 4, 4, 6, 46};
	const int a = free_var(g, actor);
	int b;

	if (a == NONE || g->conns >= 8)
		return;
	g->var[g->proc[actor]][a] = (struct guessed){G_STREAM, (uint8_t)g->conns, 0};
	b = free_var(g, actor);
	if (b == NONE)
		return;
	g->var[g->proc[actor]][b] = (struct guessed){G_STREAM, (uint8_t)g->conns, 1};
	g->conns++;
	put(g, actor, false, OP_pair, a, b, families[pick(g, 5)], pick(g, 8) != 0);
	if (pick(g, 8))
		put(g, actor, false, OP_warm, actor, a, b, 0);
}

static void new_actor(struct gen *g, bool process)
{
	const int maker = some_actor(g);
	int actor;

	for (actor = 1; actor < ACTORS && g->proc[actor] >= 0; actor++)
		;
	if (actor == ACTORS)
		return;
	put(g, maker, false, process ? OP_fork : OP_thread, actor, 0, 0, 0);
	g->proc[actor] = process ? actor : g->proc[maker];
	if (process) {
		memcpy(g->var[actor], g->var[g->proc[maker]], sizeof(g->var[actor]));
		g->parent[actor] = maker;
	}
}

/* Between two processes of which none has the other's end. */
static void new_connection(struct gen *g)
{
	const int connector = some_actor(g), listener = g->listeners - 1;
	int a, b;

	if (listener < 0 || g->conns >= 8)
		return;
	a = free_var(g, connector);
	if (a == NONE)
		return;
	g->var[g->proc[connector]][a] = (struct guessed){G_STREAM, (uint8_t)g->conns, 0};
	b = free_var(g, 0);
	if (b == NONE)
		return;
	g->var[g->proc[0]][b] = (struct guessed){G_STREAM, (uint8_t)g->conns, 1};
	g->conns++;
	put(g, connector, false, OP_connect, a, listener, pick(g, 8) != 0, 0);
	put(g, 0, false, OP_accept, b, listener, 0, 0);
	if (pick(g, 4))
		put(g, 0, false, OP_option, b, O_NODELAY_, 1, 0);
	if (pick(g, 8))
		put(g, connector, false, OP_warm, 0, a, b, 0);
}

static void end_actor(struct gen *g)
{
	const int actor = 1 + (int)pick(g, ACTORS - 1);

	if (g->proc[actor] != actor || g->proc[g->parent[actor]] < 0)
		return;
	put(g, g->parent[actor], false, pick(g, 2) ? OP_exit : OP_kill, actor, 0, 0, 0);
	for (int i = 0; i < ACTORS; i++)
		if (g->proc[i] == actor)
			g->proc[i] = NONE;
}

static void phrase(struct gen *g)
{
	const uint32_t what = pick(g, 100);

	if (what < 36)
		phrase_exchange(g);
	else if (what < 50)
		phrase_set(g);
	else if (what < 63)
		phrase_blocked(g);
	else if (what < 66)
		phrase_full(g);
	else if (what < 73)
		phrase_bulk(g);
	else if (what < 79)
		phrase_end(g);
	else if (what < 91)
		phrase_descriptor(g);
	else if (what < 95)
		phrase_bad(g);
	else if (what < 96)
		end_actor(g);
	else if (what < 98)
		new_pair(g, some_actor(g));
	else if (what < 99)
		new_connection(g);
	else
		new_actor(g, pick(g, 2));
}

/* Both ways to the end. */
static void finish(struct gen *g, int conn)
{
	const struct holder h[2] = {holder_of(g, conn, 0), holder_of(g, conn, 1)};
	int i;

	for (i = 0; i < 2; i++)
		if (h[i].actor != NONE && pick(g, 4))
			put(g, h[i].actor, false, OP_drain, h[i].var, 0, 0, 0);
	for (i = 0; i < 2; i++) {
		if (h[i].actor != NONE && pick(g, 3))
			put(g, h[i].actor, false, OP_shut, h[i].var, H_WR, 0, 0);
		else
			do_close(g, h[i]);
		look(g, h[!i]);
		look(g, h[!i]);
	}
}

void prog_make(struct prog *prog, uint64_t seed)
{
	struct gen g = {.prog = prog, .rng = seed};
	uint32_t phrases, shape, i;

	/* Neighbours have nothing in common. */
	g.rng = rnd(&g.rng);
	shape = pick(&g, 6);
	memset(prog, 0, sizeof(*prog));
	prog->seed = seed;
	for (i = 0; i < ACTORS; i++)
		g.proc[i] = i ? NONE : 0;
	if (shape == 0) { /* processes that share nothing but a listener */
		put(&g, 0, false, OP_listen, 0, pick(&g, 2) ? 4 : 46, 0, 0);
		g.listeners = 1;
		new_actor(&g, true);
		if (pick(&g, 2))
			new_actor(&g, pick(&g, 2));
		for (i = 1 + pick(&g, 3); i; i--)
			new_connection(&g);
	} else {
		for (i = 1 + pick(&g, 3); i; i--)
			new_pair(&g, 0);
		if (shape < 3)
			new_actor(&g, true);
		if (shape == 2 || shape == 3)
			new_actor(&g, false);
	}
	phrases = 3 + pick(&g, 14);
	for (i = 0; i < phrases; i++)
		phrase(&g);
	for (i = 0; i < (uint32_t)g.conns; i++)
		if (pick(&g, 3))
			finish(&g, (int)i);
}
