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

#include "gen.h"

/* ---- phrases -----------------------------------------------------------------------------------
 */

struct ends {
	struct holder tx, rx;
};

static struct ends some_ends(struct gen *g)
{
	const int conn = g->conns ? (int)gen_pick(g, (uint32_t)g->conns) : 0,
		  side = (int)gen_pick(g, 2);

	return (struct ends){gen_holder(g, conn, side), gen_holder(g, conn, !side)};
}

static void phrase_exchange(struct gen *g)
{
	struct ends e = some_ends(g), back;
	uint32_t rounds = 1 + gen_pick(g, 8);

	while (rounds--) {
		const int len = gen_length(g);

		if (gen_once_in(g, 3)) {
			back = e;
			e.tx = back.rx;
			e.rx = back.tx;
		}
		gen_send(g, e.tx, len);
		if (gen_once_in(g, 4))
			gen_send(g, e.tx, gen_length(g));
		if (gen_once_in(g, 5))
			gen_poll(g, e.rx, false);
		gen_recv(g, e.rx, gen_pick(g, 3) ? len : gen_length(g), false);
		if (gen_once_in(g, 6))
			gen_recv(g, e.rx, gen_length(g), false);
		if (gen_once_in(g, 8))
			gen_put(g, gen_some_actor(g), false, OP_pause,
				1 + (int)gen_pick(g, gen_once_in(g, 4) ? 8000 : 300), 0, 0, 0);
	}
}

static void phrase_set(struct gen *g)
{
	const struct ends e = some_ends(g);
	uint32_t rounds = 2 + gen_pick(g, 6);
	int set;

	if (e.rx.actor == NONE)
		return;
	set = gen_set(g, e.rx);
	while (rounds--) {
		if (gen_pick(g, 4))
			gen_send(g, e.tx, gen_length(g));
		gen_epwait(g, e.rx.actor, set, false);
		if (gen_pick(g, 3))
			gen_recv(g, e.rx, gen_length(g), false);
		if (gen_once_in(g, 4))
			gen_put(g, e.rx.actor, false, OP_recv, e.rx.var, R_RECV, 60000, F_DONTWAIT);
		if (gen_once_in(g, 8) && set != NONE)
			gen_put(g, e.rx.actor, false, OP_epmod, set, e.rx.var,
				gen_events(g) | (gen_pick(g, 2) ? E_EDGE : 0) |
					(gen_once_in(g, 4) ? E_ONESHOT : 0),
				0);
		if (gen_once_in(g, 20) && set != NONE)
			gen_put(g, e.rx.actor, false, OP_epdel, set, e.rx.var, 0, 0);
	}
}

/* Somebody waits, somebody else sends. */
static void phrase_blocked(struct gen *g)
{
	const struct ends e = some_ends(g);
	const int other = gen_some_actor(g), kind = (int)gen_pick(g, 4);
	uint32_t rounds = gen_pick(g, 4);
	struct holder tx = e.tx;

	if (e.rx.actor == NONE)
		return;
	/* Everybody in its process may have the descriptor. */
	if (g->proc[other] == g->proc[e.rx.actor] && kind == 3)
		tx.actor = e.tx.actor;
	if (gen_pick(g, 3))
		gen_put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	if (kind < 2)
		gen_recv(g, e.rx, gen_length(g), true);
	else if (kind == 2)
		gen_poll(g, e.rx, true);
	else
		gen_epwait(g, e.rx.actor, gen_set(g, e.rx), true);
	if (gen_once_in(g, 3))
		gen_put(g, other, false, OP_pause, 1 + (int)gen_pick(g, 3000), 0, 0, 0);
	while (rounds--)
		gen_send(g, tx, gen_length(g));
	if (gen_pick(g, 2))
		gen_put(g, e.rx.actor, false, OP_join, 0, 0, 0, 0);
}

static void phrase_full(struct gen *g)
{
	const struct ends e = some_ends(g);
	const bool sender = e.tx.actor != e.rx.actor && gen_pick(g, 2);

	if (e.tx.actor == NONE || e.rx.actor == NONE)
		return;
	if (gen_once_in(g, 3))
		gen_epwait(g, e.tx.actor, gen_set(g, e.tx), false);
	gen_put(g, e.tx.actor, false, OP_fill, e.tx.var, 0, 0, 0);
	gen_poll(g, e.tx, false);
	if (sender)
		gen_put(g, e.tx.actor, true, OP_send, e.tx.var, gen_send_call(g), gen_length(g), 0);
	if (gen_once_in(g, 6))
		gen_put(g, e.tx.actor, false, OP_join, 0, 0, 0, 0);
	gen_put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	if (sender)
		gen_put(g, e.tx.actor, false, OP_join, 0, 0, 0, 0);
	gen_poll(g, e.tx, false);
}

static void phrase_bulk(struct gen *g)
{
	const struct ends e = some_ends(g);

	if (e.tx.actor == NONE || e.rx.actor == NONE)
		return;
	gen_put(g, e.rx.actor, false, OP_drain, e.rx.var, 0, 0, 0);
	gen_put(g, e.tx.actor, false, OP_drain, e.tx.var, 0, 0, 0);
	if (gen_pick(g, 2))
		gen_put(g, e.tx.actor, false, OP_warm, e.rx.actor, e.tx.var, e.rx.var, 0);
	if (gen_pick(g, 2))
		return;
	gen_put(g, e.tx.actor, false, OP_pump, e.rx.actor, e.tx.var, e.rx.var,
		1 + (int)gen_pick(g, gen_once_in(g, 4) ? 2000000 : 200000));
	gen_last(g)->arg[4] = (int)gen_pick(g, 1 << 30);
}

static void look(struct gen *g, struct holder h)
{
	switch (gen_pick(g, 5)) {
	case 0:
		gen_send(g, h, gen_length(g));
		break;
	case 1:
		gen_poll(g, h, false);
		break;
	case 2:
		if (h.actor != NONE)
			gen_put(g, h.actor, false, OP_fionread, h.var, 0, 0, 0);
		break;
	default:
		gen_recv(g, h, gen_length(g), false);
		break;
	}
}

static void phrase_end(struct gen *g)
{
	const struct ends e = some_ends(g);
	uint32_t looks = 2 + gen_pick(g, 5);

	if (e.tx.actor == NONE)
		return;
	if (gen_pick(g, 2))
		gen_send(g, e.tx, gen_length(g));
	if (gen_once_in(g, 3))
		gen_send(g, e.rx, gen_length(g));
	if (gen_once_in(g, 4))
		gen_put(g, e.tx.actor, false, OP_linger, e.tx.var, 0, 0, 0);
	if (gen_pick(g, 2))
		gen_put(g, e.tx.actor, false, OP_shut, e.tx.var,
			(int)(gen_pick(g, 4) ? H_WR : gen_pick(g, H_HALVES)), 0, 0);
	else
		gen_close(g, e.tx);
	if (gen_once_in(g, 3))
		gen_make(g, e.tx.actor);
	while (looks--)
		look(g, gen_pick(g, 3) ? e.rx : e.tx);
}

static void phrase_descriptor(struct gen *g)
{
	const struct ends e = some_ends(g);
	const int actor = gen_some_actor(g);
	struct holder h = e.rx;

	if (h.actor == NONE)
		return;
	switch (gen_pick(g, 8)) {
	case 0:
	case 1:
		gen_dup(g, h);
		break;
	case 2: { /* what it was goes on under another number, or not at all */
		const int onto = gen_some_var(g, h.actor, gen_once_in(g, 3) ? G_STREAM : G_OTHER);

		if (onto == NONE)
			break;
		gen_put(g, h.actor, false, OP_dup2on, h.var, onto, (int)gen_pick(g, 3), 0);
		g->var[g->proc[h.actor]][onto] = g->var[g->proc[h.actor]][h.var];
		gen_send(g, e.tx, gen_length(g));
		look(g, (struct holder){h.actor, onto});
		look(g, (struct holder){h.actor, onto});
		break;
	}
	case 3: {
		const int with = gen_some_var(g, h.actor, G_OTHER);

		if (with == NONE)
			break;
		gen_put(g, h.actor, false, OP_dup2on, with, h.var, (int)gen_pick(g, 3), 0);
		g->var[g->proc[h.actor]][h.var] = g->var[g->proc[h.actor]][with];
		break;
	}
	case 4:
		gen_put(g, h.actor, false, OP_nonblock, h.var, (int)gen_pick(g, 2),
			(int)gen_pick(g, 2), 0);
		break;
	case 5:
		gen_option(g, h);
		break;
	case 6: {
		const int other = gen_some_var(g, actor, gen_pick(g, 2) ? G_OTHER : G_STREAM);

		if (other != NONE && gen_once_in(g, 2)) {
			gen_put(g, actor, false, OP_closerange, other, other, 0, 0);
			g->var[g->proc[actor]][other].what = G_NONE;
		}
		gen_make(g, actor);
		break;
	}
	default:
		gen_put(g, h.actor, false, OP_outq, h.var, 0, 0, 0);
		break;
	}
}

static void phrase_bad(struct gen *g)
{
	const int actor = gen_some_actor(g);
	const struct holder any = {actor, (int)gen_pick(g, VARS)};
	const struct ends e = some_ends(g);

	switch (gen_pick(g, 4)) {
	case 0:
		gen_send(g, any, gen_length(g));
		break;
	case 1:
		gen_recv(g, any, gen_length(g), false);
		break;
	case 2:
		if (e.tx.actor != NONE)
			gen_put(g, e.tx.actor, false, OP_sendbad, e.tx.var,
				(int)gen_pick(g, S_CALLS), 0, 0);
		break;
	default:
		gen_send(g, e.tx, gen_length(g));
		if (e.rx.actor != NONE)
			gen_put(g, e.rx.actor, false, OP_recvbad, e.rx.var,
				(int)gen_pick(g, R_CALLS), 0, 0);
		break;
	}
}

/* ---- beginnings and ends -----------------------------------------------------------------------
 */

static void new_pair(struct gen *g, int actor)
{
	static const int families[] = {4, 4, 4, 6, 46};
	const int a = gen_free_var(g, actor);
	int b;

	if (a == NONE || g->conns >= 8)
		return;
	g->var[g->proc[actor]][a] = (struct guessed){G_STREAM, (uint8_t)g->conns, 0};
	b = gen_free_var(g, actor);
	if (b == NONE)
		return;
	g->var[g->proc[actor]][b] = (struct guessed){G_STREAM, (uint8_t)g->conns, 1};
	g->conns++;
	gen_put(g, actor, false, OP_pair, a, b, families[gen_pick(g, 5)], gen_pick(g, 8) != 0);
	if (gen_pick(g, 8))
		gen_put(g, actor, false, OP_warm, actor, a, b, 0);
}

static void new_actor(struct gen *g, bool process)
{
	const int maker = gen_some_actor(g);
	int actor;

	for (actor = 1; actor < ACTORS && g->proc[actor] >= 0; actor++)
		;
	if (actor == ACTORS)
		return;
	gen_put(g, maker, false, process ? OP_fork : OP_thread, actor, 0, 0, 0);
	g->proc[actor] = process ? actor : g->proc[maker];
	if (process) {
		memcpy(g->var[actor], g->var[g->proc[maker]], sizeof(g->var[actor]));
		g->parent[actor] = maker;
	}
}

/* Between two processes of which none has the other's end. */
static void new_connection(struct gen *g)
{
	const int connector = gen_some_actor(g), listener = g->listeners - 1;
	int a, b;

	if (listener < 0 || g->conns >= 8)
		return;
	a = gen_free_var(g, connector);
	if (a == NONE)
		return;
	g->var[g->proc[connector]][a] = (struct guessed){G_STREAM, (uint8_t)g->conns, 0};
	b = gen_free_var(g, 0);
	if (b == NONE)
		return;
	g->var[g->proc[0]][b] = (struct guessed){G_STREAM, (uint8_t)g->conns, 1};
	g->conns++;
	gen_put(g, connector, false, OP_connect, a, listener, gen_pick(g, 8) != 0, 0);
	gen_put(g, 0, false, OP_accept, b, listener, 0, 0);
	if (gen_pick(g, 4))
		gen_put(g, 0, false, OP_option, b, O_NODELAY_, 1, 0);
	if (gen_pick(g, 8))
		gen_put(g, connector, false, OP_warm, 0, a, b, 0);
}

static void end_actor(struct gen *g)
{
	const int actor = 1 + (int)gen_pick(g, ACTORS - 1);

	if (g->proc[actor] != actor || g->proc[g->parent[actor]] < 0)
		return;
	gen_put(g, g->parent[actor], false, gen_pick(g, 2) ? OP_exit : OP_kill, actor, 0, 0, 0);
	for (int i = 0; i < ACTORS; i++)
		if (g->proc[i] == actor)
			g->proc[i] = NONE;
}

static void phrase(struct gen *g)
{
	const uint32_t what = gen_pick(g, 100);

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
		new_pair(g, gen_some_actor(g));
	else if (what < 99)
		new_connection(g);
	else
		new_actor(g, gen_pick(g, 2));
}

/* Both ways to the end. */
static void finish(struct gen *g, int conn)
{
	const struct holder h[2] = {gen_holder(g, conn, 0), gen_holder(g, conn, 1)};
	int i;

	for (i = 0; i < 2; i++)
		if (h[i].actor != NONE && gen_pick(g, 4))
			gen_put(g, h[i].actor, false, OP_drain, h[i].var, 0, 0, 0);
	for (i = 0; i < 2; i++) {
		if (h[i].actor != NONE && gen_pick(g, 3))
			gen_put(g, h[i].actor, false, OP_shut, h[i].var, H_WR, 0, 0);
		else
			gen_close(g, h[i]);
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
	shape = gen_pick(&g, 6);
	memset(prog, 0, sizeof(*prog));
	prog->seed = seed;
	for (i = 0; i < ACTORS; i++)
		g.proc[i] = i ? NONE : 0;
	if (shape == 0) { /* processes that share nothing but a listener */
		gen_put(&g, 0, false, OP_listen, 0, gen_pick(&g, 2) ? 4 : 46, 0, 0);
		g.listeners = 1;
		new_actor(&g, true);
		if (gen_pick(&g, 2))
			new_actor(&g, gen_pick(&g, 2));
		for (i = 1 + gen_pick(&g, 3); i; i--)
			new_connection(&g);
	} else {
		for (i = 1 + gen_pick(&g, 3); i; i--)
			new_pair(&g, 0);
		if (shape < 3)
			new_actor(&g, true);
		if (shape == 2 || shape == 3)
			new_actor(&g, false);
	}
	phrases = 3 + gen_pick(&g, 14);
	for (i = 0; i < phrases; i++)
		phrase(&g);
	for (i = 0; i < (uint32_t)g.conns; i++)
		if (gen_pick(&g, 3))
			finish(&g, (int)i);
}
