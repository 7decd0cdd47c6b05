// SPDX-License-Identifier: Apache-2.0
/*
 * The other process is killed: a reader gets everything that was written and then the end of
 * stream, a writer a reset and then EPIPE, soon; a stopped process is not a dead one. HAZARDS
 * 34, 35. Whoever was killed while it looked at the region does not hold up a drain.
 */

#include "agent_proto.h"
#include "t.h"

#define BULK 150000u

static struct t_pair pair;
static int ready[2]; /* pipe: the child has done its part */

static void tell(void)
{
	T_EQ(T_OK(write(ready[1], "r", 1)), 1);
}

static void await(void)
{
	char byte;

	T_EQ(T_OK(read(ready[0], &byte, 1)), 1);
}

static void write_and_hang(void *arg)
{
	(void)arg;
	T_OK(close(pair.b));
	t_send(pair.a, BULK, 3, 0);
	tell();
	for (;;)
		pause();
}

/* Killed or ended after its last send: the tail is there. */
static void writer_gone(void)
{
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(write_and_hang, NULL);
	T_OK(close(pair.a));
	t_recv(pair.b, 10000, 3, 0);
	await();
	T_OK(kill(pid, SIGKILL));
	t_join_killed(pid, SIGKILL);
	T_EQ(t_recv_rest(pair.b, 3, 10000), BULK - 10000);
	T_OK(close(pair.b));
}

static void write_and_exit(void *arg)
{
	(void)arg;
	T_OK(close(pair.b));
	t_send(pair.a, BULK, 3, 0);
}

static void writer_exits(void)
{
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(write_and_exit, NULL);
	T_OK(close(pair.a));
	T_EQ(t_recv_rest(pair.b, 3, 0), BULK);
	t_join(pid);
	T_OK(close(pair.b));
}

/* Killed in the middle of writing: a prefix of the stream, then its end or a reset. */
static void write_for_ever(void *arg)
{
	(void)arg;
	T_OK(close(pair.b));
	for (uint64_t at = 0;; at += 8000)
		t_send(pair.a, 8000, 3, at);
}

static void writer_killed_writing(void)
{
	uint64_t at = 0;
	uint8_t buf[8192];
	ssize_t n;
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(write_for_ever, NULL);
	T_OK(close(pair.a));
	for (;;) {
		n = recv(pair.b, buf, sizeof(buf), 0);
		if (n <= 0)
			break;
		t_verify(buf, (size_t)n, 3, at);
		at += (uint64_t)n;
		if (at > 1000000 && pid) {
			T_OK(kill(pid, SIGKILL));
			t_join_killed(pid, SIGKILL);
			pid = 0;
		}
	}
	T_EQ(n, 0);
	T_CHECK(!pid);
	T_OK(close(pair.b));
}

static void read_some_and_hang(void *arg)
{
	T_OK(close(pair.a));
	t_recv(pair.b, 1000, 3, 0);
	tell();
	if (arg) {
		for (;;)
			pause();
	}
	for (uint64_t at = 1000;; at += 1000)
		t_recv(pair.b, 1000, 3, at);
}

/*
 * @idle: the reader is killed with unread bytes before it, and the writer is (soon) blocked; else
 * it is killed in the middle of reading. The writer's end comes within seconds, as an error.
 */
static void reader_killed(bool idle)
{
	const int64_t bound_ms = 3000;
	uint64_t at = 1000;
	uint8_t buf[8000];
	int64_t start;
	pid_t pid;

	t_open_hot(&pair);
	t_on_signal(SIGPIPE, 0);
	pid = t_child(read_some_and_hang, idle ? &idle : NULL);
	T_OK(close(pair.b));
	t_send(pair.a, 1000, 3, 0);
	await();
	t_send(pair.a, 100000, 3, at);
	at += 100000;
	T_OK(kill(pid, SIGKILL));
	start = t_now_ms();
	for (;;) {
		t_fill(buf, sizeof(buf), 3, at);
		if (send(pair.a, buf, sizeof(buf), 0) < 0)
			break;
		at += sizeof(buf);
		T_CHECK(t_now_ms() - start < bound_ms);
	}
	T_CHECK(errno == ECONNRESET || errno == EPIPE);
	if (errno == ECONNRESET) {
		T_EQ(t_signals, 0);
		T_ERR(send(pair.a, buf, 1, 0), EPIPE);
	}
	T_EQ(t_signals, 1);
	t_join_killed(pid, SIGKILL);
	T_OK(close(pair.a));
}

static void echo(void *arg)
{
	(void)arg;
	T_OK(close(pair.a));
	for (;;) {
		uint8_t buf[1000];
		const ssize_t n = (ssize_t)T_OK(recv(pair.b, buf, sizeof(buf), 0));

		if (!n)
			return;
		T_EQ(T_OK(send(pair.b, buf, (size_t)n, 0)), n);
	}
}

static void stopped(void)
{
	struct pollfd set = {.events = POLLIN};
	pid_t pid;

	t_open_hot(&pair);
	pid = t_child(echo, NULL);
	T_OK(close(pair.b));
	set.fd = pair.a;
	for (int i = 0; i < 3; i++) {
		t_send(pair.a, 500, 3, 0);
		t_recv(pair.a, 500, 3, 0);
		T_OK(kill(pid, SIGSTOP));
		t_send(pair.a, 100000, 3, 0);
		T_OK(poll(&set, 1, 200)); /* time passes; what it had read may come back */
		T_OK(kill(pid, SIGCONT));
		t_recv(pair.a, 100000, 3, 0);
	}
	T_OK(shutdown(pair.a, SHUT_WR));
	T_EQ(t_recv_rest(pair.a, 3, 0), 0);
	t_join(pid);
	T_OK(close(pair.a));
}

/* Each drain of mode "back" is over one day. */
static void drain_ends(void)
{
	bool over = t_mode() != T_BACK;

	while (!over) {
		char *status = t_control(COLOC_VERB_STATUS);
		const char *asked = strstr(status, "\"requested\":");

		T_CHECK(asked);
		asked += strlen("\"requested\":");
		over = !strncmp(asked + strspn(asked, " "), "false", 5);
		free(status);
	}
}

int main(void)
{
	T_OK(pipe(ready));
	writer_gone();
	writer_exits();
	for (int i = 0; i < 10; i++) {
		writer_killed_writing();
		drain_ends();
	}
	reader_killed(true);
	reader_killed(false);
	stopped();
	return 0;
}
