/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops_wait.c - readiness: poll, select, epoll
 *
 * Compared are the events that must be reported (all of them in the end, the first by one call that
 * waits) and those that must not. Where nothing is due, one call with a short time-out says so.
 * Edge-triggered: an event is due once after each arrival; again without one, it is allowed while
 * it is true, as two segments would tell twice.
 */
#include "ops.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#define EVENTS_MAX 8

static short poll_bits(int letters)
{
	return (short)((letters & E_IN ? POLLIN : 0) | (letters & E_OUT ? POLLOUT : 0) |
		       (letters & E_RDHUP ? POLLRDHUP : 0));
}

static size_t add_bits(char *text, size_t used, size_t size, short bits)
{
	static const struct {
		short bit;
		char letter;
	} letters[] = {{POLLIN, 'i'},  {POLLOUT, 'o'}, {POLLRDHUP, 'r'}, {POLLHUP, 'h'},
		       {POLLERR, 'e'}, {POLLPRI, 'p'}, {POLLNVAL, 'n'}};
	size_t i;

	for (i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if ((bits & letters[i].bit) && used + 1 < size)
			text[used++] = letters[i].letter;
	text[used] = '\0';
	return used;
}

/* ---- arrays ------------------------------------------------------------------------------------
 */

static int wait_select(struct pollfd *p, int n, int timeout_ms, bool with_mask)
{
	struct timeval time = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
	const struct timespec spec = {.tv_sec = time.tv_sec, .tv_nsec = time.tv_usec * 1000L};
	fd_set in, out, ex;
	int i, top = 0, rc;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	for (i = 0; i < n; i++) {
		p[i].revents = 0;
		if (p[i].fd < 0)
			continue;
		if (p[i].events & POLLIN)
			FD_SET(p[i].fd, &in);
		if (p[i].events & POLLOUT)
			FD_SET(p[i].fd, &out);
		FD_SET(p[i].fd, &ex);
		top = p[i].fd >= top ? p[i].fd + 1 : top;
	}
	rc = with_mask ? pselect(top, &in, &out, &ex, timeout_ms < 0 ? NULL : &spec, NULL)
		       : select(top, &in, &out, &ex, timeout_ms < 0 ? NULL : &time);
	for (i = 0; rc > 0 && i < n; i++)
		if (p[i].fd >= 0)
			p[i].revents = (short)((FD_ISSET(p[i].fd, &in) ? POLLIN : 0) |
					       (FD_ISSET(p[i].fd, &out) ? POLLOUT : 0) |
					       (FD_ISSET(p[i].fd, &ex) ? POLLPRI : 0));
	return rc;
}

static int wait_array(enum wait_call call, struct pollfd *p, int n, int timeout_ms)
{
	const struct timespec spec = {.tv_sec = timeout_ms / 1000,
				      .tv_nsec = timeout_ms % 1000 * 1000000L};
	sigset_t mask;

	switch (call) {
	case W_POLL:
		return poll(p, (nfds_t)n, timeout_ms);
	case W_PPOLL:
		sigemptyset(&mask);
		return ppoll(p, (nfds_t)n, timeout_ms < 0 ? NULL : &spec, &mask);
	default:
		return wait_select(p, n, timeout_ms, call == W_PSELECT);
	}
}

/* What select() makes of the events that poll() reports. */
static struct m_ready as_select(struct m_ready ready)
{
	const struct m_ready same = {
		(short)((ready.must & (POLLIN | POLLHUP) ? POLLIN : 0) | (ready.must & POLLOUT)),
		(short)((ready.may & (POLLIN | POLLHUP | POLLERR) ? POLLIN : 0) |
			(ready.may & (POLLOUT | POLLERR) ? POLLOUT : 0))};

	return same;
}

static struct m_ready due(enum wait_call call, const struct m_file *file, short asked)
{
	struct m_ready ready = {POLLNVAL, 0};

	if (!file)
		return ready;
	ready = m_ready(file);
	ready.must &= (short)(asked | POLLHUP);
	ready.may = (short)((ready.may & (asked | POLLHUP)) | POLLERR);
	if (call == W_SELECT || call == W_PSELECT) {
		ready = as_select(ready);
		ready.must &= asked;
		ready.may &= asked;
	}
	return ready;
}

/* Edges of a set are for those that wait in it: asking from outside does not use them up. */
static bool can_ask(const struct m_file *file, bool select_)
{
	if (!file)
		return !select_;
	return file->kind == FK_STREAM ||
	       (file->kind == FK_EPOLL && file->proc == w->actor[me].proc);
}

/* All that is due, one call after the other; in @seen what was reported. */
static int ask(enum wait_call call, struct pollfd *p, const struct m_ready *ready, int n,
	       int timeout_ms, short *seen)
{
	const int64_t until = now_ms() + w->late_ms;
	bool any = false, all = false;
	int i, rc;

	for (i = 0; i < n; i++)
		any |= ready[i].must != 0;
	do {
		rc = wait_array(call, p, n, any ? w->late_ms : timeout_ms);
		if (rc < 0 || !any)
			break;
		for (all = true, i = 0; i < n; i++) {
			seen[i] |= p[i].revents;
			all = all && !(ready[i].must & ~seen[i]);
		}
		if (!all)
			give_time();
	} while (!all && now_ms() < until);
	for (i = 0; i < n && rc > 0; i++)
		seen[i] |= p[i].revents;
	return rc;
}

void op_poll(const struct op *op)
{
	const enum wait_call call = (enum wait_call)op->arg[0];
	const short asked = poll_bits(op->arg[1]);
	const struct m_file *file[3] = {NULL, NULL, NULL};
	struct m_ready ready[3];
	struct pollfd p[3];
	short seen[3] = {0}, bits, must = 0;
	int i, n, rc;
	char text[64] = "";
	size_t used = 0;

	for (i = n = 0; i < 3; i++) {
		if (op->arg[2 + i] == NONE)
			continue;
		file[n] = m_file(me, op->arg[2 + i]);
		p[n] = (struct pollfd){.fd = m_fd(me, op->arg[2 + i]), .events = asked};
		if (!can_ask(file[n], call >= W_SELECT) || (op->overlap && !file[n]) ||
		    (file[n] && m_busy(file[n]))) {
			skip();
			return;
		}
		if (!file[n])
			p[n].fd = 999; /* open nowhere */
		if (file[n] && file[n]->kind == FK_STREAM)
			all_arrived(file[n], p[n].fd);
		ready[n] = due(call, file[n], asked);
		n++;
	}
	if (!n) {
		skip();
		return;
	}
	if (op->overlap) {
		call_begin(file[0], file[1], file[2]);
		rc = wait_array(call, p, n, -1);
		call_end();
		for (i = 0; i < n; i++) {
			ready[i] = due(call, file[i], asked);
			must |= ready[i].must;
		}
		if (rc < 0 && (must || errno != EINTR)) {
			say("%s", answer(rc));
			return;
		}
		for (i = 0; i < n && rc > 0; i++) {
			bits = (short)(p[i].revents & ~(ready[i].must | ready[i].may));
			used = add_bits(text, used, sizeof(text), bits);
		}
		say("%s%s%s", must ? "woken" : "open", used ? ", wrongly " : "", text);
		return;
	}
	rc = ask(call, p, ready, n, op->arg[5] % 10, seen);
	if (rc < 0) {
		say("%s", answer(rc));
		return;
	}
	for (i = 0; i < n; i++) {
		bits = (short)(seen[i] & ~(ready[i].may & ~POLLERR));
		used = add_bits(text, used, sizeof(text), bits);
		if (used + 2 < sizeof(text) && i + 1 < n)
			text[used++] = ',';
	}
	text[used] = '\0';
	say("%s", used ? text : "-");
}

/* ---- epoll sets --------------------------------------------------------------------------------
 */

void op_epnew(const struct op *op)
{
	int fd;

	if (!m_var_free(me, op->arg[0])) {
		skip();
		return;
	}
	fd = epoll_create1(EPOLL_CLOEXEC);
	say("%s", answer_number(fd));
	if (fd >= 0)
		(void)m_new_file(me, op->arg[0], fd, FK_EPOLL);
}

static struct m_item *item_of(const struct m_file *set, int var)
{
	const struct m_file *file = m_file(me, var);
	struct m_item *item;

	for (item = w->item; file && item < w->item + ITEMS; item++)
		if (item->set >= 0 && item->set == m_index(set) && item->file == m_index(file) &&
		    item->fd == m_fd(me, var) && !item->ghost)
			return item;
	return NULL;
}

/* A set that is not this process's own is not changed: see docs/support-matrix.md. */
static struct m_file *own_set(int var)
{
	struct m_file *set = m_file(me, var);

	return set && set->kind == FK_EPOLL && set->proc == w->actor[me].proc ? set : NULL;
}

static uint32_t epoll_bits(int letters)
{
	return (uint32_t)poll_bits(letters & (E_IN | E_OUT | E_RDHUP)) |
	       (letters & E_EDGE ? EPOLLET : 0) | (letters & E_ONESHOT ? EPOLLONESHOT : 0);
}

static bool holds(const struct m_file *outer, const struct m_file *inner)
{
	const struct m_item *item;

	for (item = w->item; item < w->item + ITEMS; item++)
		if (item->set >= 0 && item->set == m_index(outer) && item->file == m_index(inner))
			return true;
	return false;
}

/* Sets two deep, level-triggered: their order of edges is the kernel's own affair. */
static bool may_hold(const struct m_file *set, const struct m_file *file, int letters)
{
	const struct m_item *item;

	if (file->kind == FK_STREAM)
		return true;
	if (file->kind != FK_EPOLL || set == file || file->proc != set->proc ||
	    (letters & (E_EDGE | E_ONESHOT)))
		return false;
	for (item = w->item; item < w->item + ITEMS; item++)
		if (item->set >= 0 &&
		    ((item->set == m_index(file) && w->file[item->file].kind == FK_EPOLL) ||
		     item->file == m_index(set)))
			return false;
	return !holds(file, set);
}

void op_epadd(const struct op *op)
{
	const struct m_file *set = own_set(op->arg[0]), *file = m_file(me, op->arg[1]);
	const int fd = m_fd(me, op->arg[1]), letters = op->arg[2];
	struct epoll_event event = {.events = epoll_bits(letters)};
	struct m_item *item = w->item;
	bool known;
	int rc;

	while (item < w->item + ITEMS && item->set >= 0)
		item++;
	if (!set || !file || item == w->item + ITEMS || !may_hold(set, file, letters)) {
		skip();
		return;
	}
	known = item_of(set, op->arg[1]);
	event.data.u64 = (uint64_t)(item - w->item) | 0xabcd000000000000u;
	if (!known)
		*item = (struct m_item){.set = m_index(set),
					.file = m_index(file),
					.var = op->arg[1],
					.fd = fd,
					.events = (uint8_t)letters,
					.edges = E_IN | E_OUT | E_RDHUP};
	rc = epoll_ctl(m_fd(me, op->arg[0]), EPOLL_CTL_ADD, fd, &event);
	if (rc && !known)
		item->set = NONE;
	say("%s", answer(rc));
}

void op_epmod(const struct op *op)
{
	const struct m_file *set = own_set(op->arg[0]), *file = m_file(me, op->arg[1]);
	struct epoll_event event = {.events = epoll_bits(op->arg[2])};
	struct m_item *item = set ? item_of(set, op->arg[1]) : NULL;

	if (!set || !file || m_busy(set) || (item && !may_hold(set, file, op->arg[2]))) {
		skip();
		return;
	}
	event.data.u64 = (uint64_t)(item ? item - w->item : 0) | 0xabcd000000000000u;
	say("%s",
	    answer(epoll_ctl(m_fd(me, op->arg[0]), EPOLL_CTL_MOD, m_fd(me, op->arg[1]), &event)));
	if (!item)
		return;
	item->events = (uint8_t)op->arg[2];
	item->edges = E_IN | E_OUT | E_RDHUP;
	item->disarmed = 0;
}

void op_epdel(const struct op *op)
{
	const struct m_file *set = own_set(op->arg[0]), *file = m_file(me, op->arg[1]);
	struct m_item *item = set ? item_of(set, op->arg[1]) : NULL;
	struct epoll_event event = {0};

	if (!set || !file || m_busy(set)) {
		skip();
		return;
	}
	if (item)
		item->set = NONE;
	say("%s",
	    answer(epoll_ctl(m_fd(me, op->arg[0]), EPOLL_CTL_DEL, m_fd(me, op->arg[1]), &event)));
}

/* Everything that is known of one wait: by item. */
struct seen {
	struct m_ready ready[ITEMS];
	short bits[ITEMS], wrong[ITEMS];
	bool any, maybe, unknown;
	bool once; /* a ONESHOT item may report, and then never again */
};

static void look_at_set(const struct m_file *set, struct seen *seen)
{
	int i;

	seen->any = seen->maybe = seen->once = false;
	for (i = 0; i < ITEMS; i++) {
		seen->ready[i] = (struct m_ready){0, 0};
		if (w->item[i].set < 0 || w->item[i].set != m_index(set))
			continue;
		seen->ready[i] = m_item_ready(&w->item[i]);
		seen->any |= seen->ready[i].must != 0;
		seen->maybe |= seen->ready[i].may != 0;
		seen->once |= (w->item[i].events & E_ONESHOT) && !w->item[i].ghost &&
			      !seen->ready[i].must && (seen->ready[i].may & ~POLLERR);
	}
}

/* Returns how many events were about something else than ghosts. */
static int take_events(const struct m_file *set, struct seen *seen,
		       const struct epoll_event *events, int n)
{
	int i, told = 0;

	for (i = 0; i < n; i++) {
		const uint64_t number = events[i].data.u64 ^ 0xabcd000000000000u;
		struct m_item *item = &w->item[number % ITEMS];
		const short bits = (short)events[i].events;

		if (number >= ITEMS || item->set < 0 || item->set != m_index(set)) {
			seen->unknown = true;
			continue;
		}
		told += !item->ghost;
		seen->bits[number] |= bits;
		seen->wrong[number] |= (short)(bits & ~(seen->ready[number].must |
							seen->ready[number].may | POLLERR));
		/* Something else must be there to be reported with. */
		if (!seen->ready[number].must && !seen->ready[number].may)
			seen->wrong[number] |= bits;
		item->edges = 0;
		if (item->events & E_ONESHOT)
			item->disarmed = 1;
	}
	return told;
}

static bool all_seen(const struct seen *seen)
{
	int i;

	for (i = 0; i < ITEMS; i++) {
		const short must = seen->ready[i].must;

		/* A ONESHOT item reports once, whatever part of it is there by then. */
		if (w->item[i].set >= 0 && (w->item[i].events & E_ONESHOT) ? must && !seen->bits[i]
									   : must & ~seen->bits[i])
			return false;
	}
	return true;
}

static void seen_said(const struct seen *seen, bool overlapped)
{
	char text[80] = "";
	size_t used = 0;
	int i, var;

	for (var = 0; var < VARS; var++)
		for (i = 0; i < ITEMS; i++) {
			const struct m_item *item = &w->item[i];
			const short bits =
				(short)(seen->bits[i] & ~(seen->ready[i].may & ~POLLERR));
			/* Edges may be told again as long as they are true; so may their error. */
			const short shown = (short)((item->events & E_EDGE) && !seen->ready[i].must
							    ? bits & ~POLLERR
							    : bits);
			const bool loose = overlapped || (item->events & E_ONESHOT);

			if (item->set < 0 || item->var != var || used + 16 > sizeof(text) ||
			    !(overlapped ? seen->wrong[i] : (shown | seen->wrong[i])))
				continue;
			used += (size_t)snprintf(text + used, sizeof(text) - used,
						 "%sd%d:", used ? " " : "", var);
			if (!overlapped && loose)
				used += (size_t)snprintf(text + used, sizeof(text) - used, "once%s",
							 shown & POLLOUT ? "-o" : "");
			else if (!loose)
				used = add_bits(text, used, sizeof(text), shown);
			if (seen->wrong[i]) {
				text[used++] = '!';
				used = add_bits(text, used, sizeof(text), seen->wrong[i]);
			}
		}
	say("%s%s%s",
	    !overlapped ? ""
	    : seen->any ? "woken "
			: "open ",
	    seen->unknown ? "unknown data " : "", used || overlapped ? text : "-");
}

static void arrive_all(const struct m_file *set)
{
	int i, var;

	for (i = 0; i < ITEMS; i++) {
		const struct m_item *item = &w->item[i];

		if (item->set < 0 || item->set != m_index(set))
			continue;
		for (var = 0; var < VARS; var++)
			if (m_file(me, var) == &w->file[item->file] &&
			    w->file[item->file].kind == FK_STREAM) {
				all_arrived(m_file(me, var), m_fd(me, var));
				break;
			}
	}
}

void op_epwait(const struct op *op)
{
	struct m_file *set = own_set(op->arg[0]);
	const int fd = m_fd(me, op->arg[0]), short_ms = op->arg[2] % 10;
	const int max = 1 + op->arg[1] % EVENTS_MAX;
	const int64_t until = now_ms() + w->late_ms;
	struct epoll_event events[EVENTS_MAX];
	struct seen seen = {0};
	int rc, told;

	if (!set || m_busy(set)) {
		skip();
		return;
	}
	arrive_all(set);
	look_at_set(set, &seen);
	/*
	 * Of something that is ready nobody knows whether the call looks before more comes. What a
	 * call under way may take before this one looks disarms an item, or does not.
	 */
	if (op->overlap ? seen.any || seen.maybe : seen.once) {
		skip();
		return;
	}
	if (op->overlap) {
		call_begin(set, NULL, NULL);
		rc = epoll_wait(fd, events, max, -1);
		call_end();
		look_at_set(set, &seen);
		if (rc < 0 && (seen.any || errno != EINTR)) {
			say("%s", answer(rc));
			return;
		}
		take_events(set, &seen, events, rc);
		seen_said(&seen, true);
		return;
	}
	do {
		rc = epoll_wait(fd, events, max, seen.any ? w->late_ms : short_ms);
		told = rc > 0 ? take_events(set, &seen, events, rc) : 0;
	} while (rc >= 0 && seen.any && !all_seen(&seen) && now_ms() < until && (told || rc != 0));
	if (rc < 0)
		say("%s", answer(rc));
	else
		seen_said(&seen, false);
}
