/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - the interpreter: the only part that runs preloaded
 *
 *	diff_run		the program lies in the file that DIFF_WORLD names (world.h)
 *
 * Actors are threads and processes. They take turns in the order of the program; an actor that has
 * begun a call with "&" is under way beside the others until its next operation. When its turn
 *comes and the model says that nothing will end the call, a signal does: EINTR is its result.
 */
#include "ops.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__thread int me;
__thread uint32_t at;
__thread uint8_t *buffer;
__thread volatile int pipe_signals;

static pthread_t threads[ACTORS];
static op_fn *const ops[OP_KINDS] = {
#define OP(name, args) op_##name,
#include "ops.def"
#undef OP
};

long raw(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return rc;
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void give_time(void)
{
	const struct timespec some = {.tv_nsec = 200000};

	raw(SYS_nanosleep, (long)&some, 0, 0, 0, 0, 0);
}

/* ---- results -----------------------------------------------------------------------------------
 */

void say(const char *format, ...)
{
	struct result *result = &w->result[at];
	va_list args;

	va_start(args, format);
	vsnprintf(result->text, sizeof(result->text), format, args);
	va_end(args);
	__atomic_store_n(&result->state, RES_DONE, __ATOMIC_RELEASE);
}

void skip(void)
{
	w->result[at].state = RES_SKIPPED;
}

const char *answer(ssize_t rc)
{
	static __thread char text[48];
	const char *name = rc < 0 ? strerrorname_np(errno) : NULL;

	if (rc < 0)
		snprintf(text, sizeof(text), "-1 %s%s", name ? name : "?",
			 pipe_signals ? " SIGPIPE" : "");
	else
		snprintf(text, sizeof(text), "%zd%s", rc, pipe_signals ? " SIGPIPE" : "");
	return text;
}

const char *answer_number(int fd)
{
	struct m_proc *proc = &w->proc[w->actor[me].proc];
	int i;

	for (i = 0; i < ACTORS; i++)
		if (i != me && w->actor[i].proc == w->actor[me].proc && w->actor[i].pending >= 0)
			proc->shuffled = true;
	return fd >= 0 && proc->shuffled ? "a number" : answer(fd);
}

/* ---- turns -------------------------------------------------------------------------------------
 */

static void futex_wait(uint32_t *word, uint32_t seen)
{
	raw(SYS_futex, (long)word, FUTEX_WAIT, seen, 0, 0, 0);
}

static void futex_wake(uint32_t *word)
{
	raw(SYS_futex, (long)word, FUTEX_WAKE, ACTORS, 0, 0, 0);
}

/* Who takes part beside the operation's own actor. */
static int partner_of(const struct op *op)
{
	return op->kind == OP_warm || op->kind == OP_pump ? op->arg[0] : NONE;
}

static bool runnable(const struct op *op)
{
	const int partner = partner_of(op);

	return w->actor[op->actor].proc >= 0 && (partner == NONE || w->actor[partner].proc >= 0);
}

/* Its turn has come, and it is still in the call that it has begun. */
static void rescue(int number)
{
	struct m_actor *actor = &w->actor[number];

	if (actor->pending < 0 || m_can_end(actor))
		return;
	while (!__atomic_load_n(&actor->done, __ATOMIC_ACQUIRE)) {
		raw(SYS_tgkill, actor->pid, actor->tid, SIGUSR1, 0, 0, 0);
		give_time();
	}
}

static void turn_pass(void)
{
	uint32_t next = w->turn + 1;

	while (next < w->prog.count && !runnable(&w->prog.op[next]))
		w->result[next++].state = RES_SKIPPED;
	if (next < w->prog.count) {
		rescue(w->prog.op[next].actor);
		if (partner_of(&w->prog.op[next]) >= 0)
			rescue(partner_of(&w->prog.op[next]));
	}
	w->partner_done = 0;
	__atomic_store_n(&w->turn, next, __ATOMIC_RELEASE);
	futex_wake(&w->turn);
}

/* Return: the operation, from @from on, that this actor takes part in; prog.count at the end */
static uint32_t turn_wait(uint32_t from)
{
	uint32_t turn;

	for (;;) {
		turn = __atomic_load_n(&w->turn, __ATOMIC_ACQUIRE);
		if (turn >= w->prog.count)
			return turn;
		if (turn >= from &&
		    (w->prog.op[turn].actor == me || partner_of(&w->prog.op[turn]) == me))
			return turn;
		futex_wait(&w->turn, turn);
	}
}

void call_begin(const struct m_file *a, const struct m_file *b, const struct m_file *c)
{
	const struct m_file *const files[3] = {a, b, c};
	struct m_actor *actor = &w->actor[me];
	int i;

	for (i = 0; i < 3; i++) {
		actor->file[i] = files[i] ? m_index(files[i]) : NONE;
		if (!files[i])
			continue;
		if (w->prog.op[at].kind == OP_send)
			m_out(files[i])->sending = 1;
		else if (files[i]->kind == FK_EPOLL)
			w->file[actor->file[i]].waiting = 1;
		else if (files[i]->kind == FK_STREAM)
			m_in(files[i])->waiting = 1;
		if (w->prog.op[at].kind == OP_recv)
			m_in(files[i])->taking = 1;
	}
	actor->done = 0;
	actor->pending = (int32_t)at;
	w->result[at].state = RES_BEGUN;
	turn_pass();
}

void call_end(void)
{
	const int saved = errno;

	__atomic_store_n(&w->actor[me].done, 1, __ATOMIC_RELEASE);
	turn_wait(at + 1);
	m_unmark(&w->actor[me]);
	errno = saved;
}

const char *partner_wait(void)
{
	while (!__atomic_load_n(&w->partner_done, __ATOMIC_ACQUIRE))
		futex_wait(&w->partner_done, 0);
	return w->partner_text;
}

/* Nobody comes between what is begun now and this actor's next operation. */
static bool next_is_own(void)
{
	uint32_t next = at + 1;

	while (next < w->prog.count && !runnable(&w->prog.op[next]))
		next++;
	return next == w->prog.count || w->prog.op[next].actor == me ||
	       partner_of(&w->prog.op[next]) == me;
}

static void act(void)
{
	for (at = turn_wait(0); at < w->prog.count;) {
		const struct op *op = &w->prog.op[at];
		const bool own = op->actor == me;

		const uint32_t number = at;
		const int64_t begun = now_ms();

		pipe_signals = 0;
		if (own) {
			if (!op->overlap)
				w->result[at].state = RES_BEGUN;
			if (op->overlap && next_is_own())
				skip();
			else
				ops[op->kind](op);
			if (w->result[number].state == RES_BEGUN)
				say("nothing said");
			w->result[number].ms = (uint32_t)(now_ms() - begun);
			/* What was begun ends with the turn at this actor's next operation. */
			if (w->turn != at) {
				at = turn_wait(w->turn);
				continue;
			}
		} else {
			(op->kind == OP_warm ? partner_warm : partner_pump)(op);
			__atomic_store_n(&w->partner_done, 1, __ATOMIC_RELEASE);
			futex_wake(&w->partner_done);
		}
		if (own)
			turn_pass();
		at = turn_wait(at + 1);
	}
}

/* ---- actors ------------------------------------------------------------------------------------
 */

static void on_signal(int number)
{
	if (number == SIGPIPE)
		pipe_signals++;
}

static void enter(int actor)
{
	me = actor;
	w->actor[me].pid = (int32_t)raw(SYS_getpid, 0, 0, 0, 0, 0, 0);
	w->actor[me].tid = (int32_t)raw(SYS_gettid, 0, 0, 0, 0, 0, 0);
	buffer = malloc(CHUNK * 4);
	if (!buffer)
		abort();
}

static void *thread_main(void *arg)
{
	enter((int)(intptr_t)arg);
	act();
	return NULL;
}

static bool exists(int actor)
{
	int i;

	/* A process's number is the actor that it began with. */
	for (i = 0; i < ACTORS; i++)
		if (w->actor[i].proc == actor)
			return true;
	return w->actor[actor].proc >= 0;
}

void op_fork(const struct op *op)
{
	const int child = op->arg[0], parent = w->actor[me].proc;
	const struct m_proc *from = &w->proc[parent];
	pid_t pid;
	int i;

	if (exists(child)) {
		skip();
		return;
	}
	w->proc[child] = *from;
	w->proc[child].parent = parent;
	m_forked(parent);
	say("ok");
	pid = fork();
	if (!pid) {
		memset(threads, 0, sizeof(threads));
		enter(child);
		w->proc[child].pid = w->actor[me].pid;
		__atomic_store_n(&w->actor[me].proc, child, __ATOMIC_RELEASE);
		futex_wake((uint32_t *)&w->actor[me].proc);
		act();
		for (i = 0; i < ACTORS; i++)
			if (threads[i])
				pthread_join(threads[i], NULL);
		close_all();
		while (wait(NULL) > 0)
			;
		_exit(0);
	}
	if (pid < 0)
		abort();
	while (__atomic_load_n(&w->actor[child].proc, __ATOMIC_ACQUIRE) < 0)
		futex_wait((uint32_t *)&w->actor[child].proc, (uint32_t)NONE);
}

void op_thread(const struct op *op)
{
	const int actor = op->arg[0];

	if (exists(actor)) {
		skip();
		return;
	}
	w->actor[actor].proc = w->actor[me].proc;
	w->actor[actor].tid = 0;
	if (pthread_create(&threads[actor], NULL, thread_main, (void *)(intptr_t)actor))
		abort();
	say("ok");
}

/* @proc ends: by itself, or by a signal at once. Its parent waits, so it is over when we go on. */
static void end_process(int victim, int number)
{
	const struct timespec some = {.tv_nsec = 30000000};
	const int proc = w->actor[victim].proc;
	int status = 0, rc, i;

	/* Threads of it may sleep in a call, as long as nothing that they wait for is lost. */
	for (i = 0; i < ACTORS; i++)
		if (w->actor[i].proc == proc && w->actor[i].pending >= 0)
			break;
	if (proc < 0 || w->proc[proc].parent != w->actor[me].proc || proc == w->actor[me].proc ||
	    !m_proc_may_end(proc, number == SIGKILL) || i < ACTORS) {
		skip();
		return;
	}
	for (i = 0; i < ACTORS; i++)
		if (i != proc && w->actor[i].proc >= 0 &&
		    w->proc[w->actor[i].proc].parent == proc) {
			skip();
			return;
		}
	raw(SYS_kill, w->proc[proc].pid, number, 0, 0, 0, 0);
	rc = waitpid(w->proc[proc].pid, &status, 0);
	/* A killed process says nothing: until its agent has noticed, a ring has no end. */
	if (number == SIGKILL)
		raw(SYS_nanosleep, (long)&some, 0, 0, 0, 0, 0);
	if (rc < 0)
		say("waitpid: %s", strerrorname_np(errno));
	else
		say("%s", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "ended");
	m_proc_ended(proc, number == SIGKILL);
}

void op_kill(const struct op *op)
{
	end_process(op->arg[0], SIGKILL);
}

/* An ordinary exit, with what libraries do then: by the handler, which runs between operations. */
static void on_term(int number)
{
	(void)number;
	_exit(0);
}

void op_exit(const struct op *op)
{
	end_process(op->arg[0], SIGTERM);
}

void op_pause(const struct op *op)
{
	const struct timespec some = {.tv_nsec = op->arg[0] * 1000L};

	raw(SYS_nanosleep, (long)&some, 0, 0, 0, 0, 0);
	say("ok");
}

void op_join(const struct op *op)
{
	(void)op;
	say("ok");
}

/* ---- begin and end -----------------------------------------------------------------------------
 */

static void set_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigemptyset(&action.sa_mask);
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = on_term;
	sigaction(SIGTERM, &action, NULL);
}

int main(void)
{
	const char *path = getenv("DIFF_WORLD");
	const int fd = path ? open(path, O_RDWR) : -1;
	int i;

	w = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (w == MAP_FAILED) {
		fprintf(stderr, "diff_run: DIFF_WORLD names no program; run diff instead\n");
		return 2;
	}
	close(fd);
	set_signals();
	for (i = 0; i < ITEMS; i++)
		w->item[i].set = NONE;
	for (i = 0; i < VARS; i++)
		w->proc[0].var[i] = (struct m_var){.fd = -1, .file = NONE};
	for (i = 0; i < ACTORS; i++)
		w->actor[i] = (struct m_actor){.proc = i ? NONE : 0, .pending = NONE};
	w->proc[0].parent = NONE;
	enter(0);
	w->proc[0].pid = w->actor[0].pid;
	act();
	for (i = 0; i < ACTORS; i++)
		if (threads[i])
			pthread_join(threads[i], NULL);
	close_all();
	while (wait(NULL) > 0)
		;
	return 0;
}
