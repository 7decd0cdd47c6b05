/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - what is known of descriptors and connections; see world.h */
#include <poll.h>
#include <string.h>

#include "world.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0x2000
#endif

struct world *w;

int m_index(const struct m_file *file)
{
	return (int)(file - w->file);
}

static struct m_var *var_of(int actor, int var)
{
	return &w->proc[w->actor[actor].proc].var[var];
}

struct m_file *m_file(int actor, int var)
{
	const int file = var < 0 ? NONE : var_of(actor, var)->file;

	return file < 0 ? NULL : &w->file[file];
}

/* A closed variable's old number, unless it means something else by now. */
int m_fd(int actor, int var)
{
	const struct m_proc *proc = &w->proc[w->actor[actor].proc];
	const struct m_var *v = &proc->var[var];
	int i;

	for (i = 0; v->file < 0 && i < VARS; i++)
		if (proc->var[i].file >= 0 && proc->var[i].fd == v->fd)
			return -1;
	return v->fd;
}

void m_use(int actor, int var)
{
	var_of(actor, var)->used = true;
}

void m_forked(int proc)
{
	const struct m_var *v;

	for (v = w->proc[proc].var; v < w->proc[proc].var + VARS; v++) {
		if (v->file < 0)
			continue;
		w->file[v->file].refs++;
		if (w->file[v->file].kind == FK_STREAM && !v->used)
			m_end(&w->file[v->file])->loose = 1;
	}
}

bool m_var_free(int actor, int var)
{
	return var_of(actor, var)->file < 0;
}

struct m_file *m_new_file(int actor, int var, int fd, enum file_kind kind)
{
	struct m_file *file = w->file;

	while (file < w->file + FILES && file->refs)
		file++;
	if (file == w->file + FILES || !m_var_free(actor, var))
		return NULL;
	memset(file, 0, sizeof(*file));
	file->kind = kind;
	file->proc = (uint8_t)w->actor[actor].proc;
	m_ref(actor, var, fd, m_index(file));
	return file;
}

void m_ref(int actor, int var, int fd, int file)
{
	*var_of(actor, var) = (struct m_var){.fd = fd, .file = file};
	w->file[file].refs++;
}

struct m_end *m_end(const struct m_file *file)
{
	return &w->conn[file->conn].end[file->side];
}

struct m_end *m_peer(const struct m_file *file)
{
	return &w->conn[file->conn].end[!file->side];
}

struct m_dir *m_in(const struct m_file *file)
{
	return &w->conn[file->conn].dir[!file->side];
}

struct m_dir *m_out(const struct m_file *file)
{
	return &w->conn[file->conn].dir[file->side];
}

uint64_t m_unread(const struct m_dir *dir)
{
	return dir->sent - dir->got;
}

bool m_over(const struct m_file *file)
{
	const struct m_end *end = m_end(file);

	return end->rst || end->rd_shut || m_in(file)->fin;
}

uint64_t m_seed(const struct m_file *file, bool out)
{
	return (uint64_t)file->conn * 2 + (out ? file->side : !file->side) + 1;
}

/* ---- edges -------------------------------------------------------------------------------------
 */

static void edge(int conn, int side, uint8_t edges)
{
	struct m_item *item;

	for (item = w->item; item < w->item + ITEMS; item++)
		if (item->set >= 0 && w->file[item->file].kind == FK_STREAM &&
		    w->file[item->file].conn == conn && w->file[item->file].side == side)
			item->edges |= edges;
}

void m_arrived(const struct m_file *file)
{
	edge(file->conn, !file->side, E_IN);
}

void m_writable_again(const struct m_file *file)
{
	edge(file->conn, !file->side, E_OUT);
}

void m_fin(const struct m_file *file)
{
	m_out(file)->fin = 1;
	edge(file->conn, !file->side, E_IN | E_RDHUP);
}

/* What @file's end does resets the other. */
void m_reset(const struct m_file *file)
{
	m_peer(file)->rst = 1;
	edge(file->conn, !file->side, E_IN | E_OUT | E_RDHUP);
}

/* ---- closing -----------------------------------------------------------------------------------
 */

bool m_busy(const struct m_file *file)
{
	const struct m_item *item;

	if (file->kind == FK_EPOLL)
		return file->waiting;
	if (file->kind != FK_STREAM)
		return false;
	if (m_in(file)->waiting)
		return true;
	for (item = w->item; item < w->item + ITEMS; item++)
		if (item->set >= 0 && w->file[item->file].kind == FK_STREAM &&
		    w->file[item->file].conn == file->conn &&
		    w->file[item->file].side == file->side) {
			const struct m_file *set = &w->file[item->set];
			const struct m_item *outer;

			if (set->waiting)
				return true;
			for (outer = w->item; outer < w->item + ITEMS; outer++)
				if (outer->set >= 0 && outer->file == item->set &&
				    w->file[outer->set].waiting)
					return true;
		}
	return false;
}

/* Closing it now would reset the connection. */
static bool would_reset(const struct m_file *file)
{
	return !m_end(file)->rst && (m_end(file)->linger || m_unread(m_in(file)));
}

static bool may_end(const struct m_file *file)
{
	if (file->kind == FK_EPOLL)
		return !file->waiting;
	if (file->kind != FK_STREAM)
		return true;
	if (m_busy(file) || m_out(file)->sending || m_in(file)->sending)
		return false;
	/* For all that the others know a killed process has it, so they send no reset: a limit. */
	if (file->refs == 1 && m_end(file)->haunted && m_unread(m_in(file)))
		return false;
	/* Nor do they know of each other if the fork came before any use. */
	if (m_end(file)->loose && m_unread(m_in(file)))
		return false;
	/* Bytes that come after the close make another end of it than those before. */
	if (file->refs == 1 && m_in(file)->lazy && m_unread(m_in(file)))
		return false;
	/* A reset drops what the kernel still holds back: how much that is, nobody knows. */
	return !(file->refs == 1 && would_reset(file) && !m_peer(file)->closed &&
		 m_unread(m_out(file)) && (m_out(file)->lazy || m_out(file)->full)) &&
	       !(m_in(file)->full || m_out(file)->full);
}

bool m_may_close(int actor, int var)
{
	const struct m_file *file = m_file(actor, var);

	return !file || may_end(file);
}

static void drop_items(int file)
{
	struct m_item *item;

	for (item = w->item; item < w->item + ITEMS; item++)
		if (item->set >= 0 && (item->set == file || item->file == file))
			item->set = NONE;
}

static void unref(struct m_file *file, int proc, int fd)
{
	struct m_item *item;

	if (--file->refs > 0) {
		/* An epoll item of a closed number goes on as long as the file does. */
		for (item = w->item; item < w->item + ITEMS; item++)
			if (item->set >= 0 && item->file == m_index(file) && item->fd == fd &&
			    w->file[item->set].proc == proc)
				item->ghost = 1;
		return;
	}
	drop_items(m_index(file));
	if (file->kind != FK_STREAM)
		return;
	m_end(file)->closed = 1;
	if (m_peer(file)->closed || m_peer(file)->rst)
		return;
	if (would_reset(file))
		m_reset(file);
	else if (!m_end(file)->wr_shut && !m_end(file)->rst)
		m_fin(file);
}

void m_closed(int actor, int var)
{
	struct m_file *file = m_file(actor, var);

	if (!file)
		return;
	var_of(actor, var)->file = NONE;
	unref(file, w->actor[actor].proc, var_of(actor, var)->fd);
}

bool m_proc_may_end(int proc, bool killed)
{
	int count[FILES] = {0}, i;

	for (i = 0; i < VARS; i++)
		if (w->proc[proc].var[i].file >= 0)
			count[w->proc[proc].var[i].file]++;
	for (i = 0; i < FILES; i++) {
		/* Several numbers of one file close together. */
		const int refs = w->file[i].refs;
		bool may;

		if (!count[i])
			continue;
		/* What a killed process leaves unread in a ring is an end, not a reset: a limit. */
		if (killed && refs == count[i] && w->file[i].kind == FK_STREAM &&
		    m_unread(m_in(&w->file[i])))
			return false;
		if (refs == count[i])
			w->file[i].refs = 1;
		may = may_end(&w->file[i]);
		w->file[i].refs = refs;
		if (!may)
			return false;
	}
	return true;
}

void m_proc_ended(int proc, bool killed)
{
	int i;

	for (i = 0; i < VARS; i++)
		if (w->proc[proc].var[i].file >= 0) {
			struct m_file *file = &w->file[w->proc[proc].var[i].file];

			w->proc[proc].var[i].file = NONE;
			if (killed && file->kind == FK_STREAM)
				m_end(file)->haunted = 1;
			unref(file, proc, w->proc[proc].var[i].fd);
		}
	for (i = 0; i < ACTORS; i++)
		if (w->actor[i].proc == proc)
			w->actor[i].proc = NONE;
}

/* ---- readiness ---------------------------------------------------------------------------------
 */

static struct m_ready stream_ready(const struct m_file *file)
{
	const struct m_end *end = m_end(file);
	const struct m_dir *in = m_in(file), *out = m_out(file);
	const uint64_t lowat = end->lowat > 1 ? (uint64_t)end->lowat : 1;
	struct m_ready ready = {0, 0};

	if (in->sending || out->sending) {
		ready.may = POLLIN | POLLOUT;
		return ready;
	}
	if (m_unread(in) >= lowat || m_over(file))
		ready.must |= POLLIN;
	if (!out->full || end->wr_shut || end->rst)
		ready.must |= POLLOUT;
	if (m_over(file))
		ready.must |= POLLRDHUP;
	if (end->rst || (end->wr_shut && m_over(file)))
		ready.must |= POLLHUP;
	if (in->taking && !m_over(file)) {
		ready.may |= ready.must & POLLIN;
		ready.must &= ~POLLIN;
	}
	return ready;
}

struct m_ready m_ready(const struct m_file *file)
{
	struct m_ready ready = {0, 0}, inner;
	const struct m_item *item;

	if (file->kind == FK_STREAM)
		return stream_ready(file);
	if (file->kind != FK_EPOLL)
		return ready;
	for (item = w->item; item < w->item + ITEMS; item++) {
		if (item->set != m_index(file))
			continue;
		inner = m_item_ready(item);
		if (inner.must)
			ready.must = POLLIN;
		else if (inner.may)
			ready.may = POLLIN;
	}
	ready.may &= (short)~ready.must;
	return ready;
}

struct m_ready m_item_ready(const struct m_item *item)
{
	const short asked =
		(short)((item->events & E_IN ? POLLIN : 0) | (item->events & E_OUT ? POLLOUT : 0) |
			(item->events & E_RDHUP ? POLLRDHUP : 0) | POLLHUP);
	struct m_ready ready = m_ready(&w->file[item->file]);

	ready.must &= asked;
	ready.may = (short)((ready.may & asked) | POLLERR);
	if (item->disarmed) /* ONESHOT: reported, not set again */
		return (struct m_ready){0, 0};
	if (item->ghost)
		return (struct m_ready){0, (short)(ready.must | ready.may)};
	if (item->events & E_EDGE) {
		const short due = (short)((item->edges & E_IN ? POLLIN : 0) |
					  (item->edges & E_OUT ? POLLOUT : 0) |
					  (item->edges & E_RDHUP ? POLLRDHUP | POLLHUP : 0));

		ready.may |= (short)(ready.must & ~due);
		ready.must &= due;
	}
	/* An end of a connection may be half done: that it errs is not told in advance. */
	if (!ready.must && ready.may == POLLERR)
		ready.may = 0;
	return ready;
}

/* ---- calls under way ---------------------------------------------------------------------------
 */

bool m_can_end(const struct m_actor *actor)
{
	const struct op *op = &w->prog.op[actor->pending];
	const struct m_file *file = actor->file[0] < 0 ? NULL : &w->file[actor->file[0]];
	struct m_ready ready;
	uint64_t unread, want;
	int i;

	switch (op->kind) {
	case OP_send:
		return !m_out(file)->full;
	case OP_recv:
		unread = m_unread(m_in(file));
		want = m_end(file)->lowat > 1 ? (uint64_t)m_end(file)->lowat : 1;
		if (op->arg[3] & F_WAITALL || want > (uint64_t)op->arg[2])
			want = (uint64_t)op->arg[2];
		return m_over(file) || (unread && unread >= want);
	default:
		for (i = 0; i < 3; i++) {
			const short asked =
				op->kind == OP_epwait
					? POLLIN
					: (short)((op->arg[1] & E_IN ? POLLIN : 0) |
						  (op->arg[1] & E_OUT ? POLLOUT : 0) |
						  (op->arg[1] & E_RDHUP ? POLLRDHUP : 0));

			if (actor->file[i] < 0)
				continue;
			ready = m_ready(&w->file[actor->file[i]]);
			if ((ready.must & (asked | POLLHUP)))
				return true;
		}
		return false;
	}
}

void m_unmark(struct m_actor *actor)
{
	int i;

	for (i = 0; i < 3; i++) {
		struct m_file *file = actor->file[i] < 0 ? NULL : &w->file[actor->file[i]];

		if (!file)
			continue;
		if (w->prog.op[actor->pending].kind == OP_send)
			m_out(file)->sending = 0;
		else if (file->kind == FK_EPOLL)
			file->waiting = 0;
		else if (file->kind == FK_STREAM)
			m_in(file)->waiting = m_in(file)->taking = 0;
		actor->file[i] = NONE;
	}
	actor->pending = NONE;
}
