// SPDX-License-Identifier: Apache-2.0
/*
 * The agent is stopped: connect, accept and everything on a new stream go on by TCP as if it were
 * not there, in both directions and whoever sends first; streams on a ring go on, too. When it
 * continues, so does all else. HAZARDS 31, 47.
 */

#include <sys/prctl.h>
#include <sys/un.h>

#include "t.h"

/* The agent's process, 0 if there is none in this mode. */
static pid_t agent_pid(void)
{
	const char *path = getenv("COLOC_AGENT");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	int fd;

	if (t_mode() != T_RING || !path)
		return 0;
	fd = (int)T_OK(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	T_OK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	T_OK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len));
	T_OK(close(fd));
	T_CHECK(peer.pid > 0);
	return peer.pid;
}

static void use(const struct t_pair *pair)
{
	for (int i = 0; i < 10; i++) {
		t_send(pair->a, 20000, 3, 0);
		t_recv(pair->b, 20000, 3, 0);
		t_send(pair->b, 20000, 4, 0);
		t_recv(pair->a, 20000, 4, 0);
	}
}

/* Ends when the parent does, however that is, and lets the agent go on then. */
static void guardian(pid_t agent, int alive)
{
	uint8_t byte;

	(void)!read(alive, &byte, 1);
	kill(agent, SIGCONT);
	_exit(0);
}

int main(void)
{
	const pid_t agent = agent_pid();
	struct t_pair pair, later[20];
	int alive[2];
	pid_t pid = 0;

	t_open_hot(&pair);
	T_OK(pipe2(alive, O_CLOEXEC));
	if (agent) {
		pid = (pid_t)T_OK(fork());
		if (!pid) {
			close(alive[1]);
			guardian(agent, alive[0]);
		}
		T_OK(kill(agent, SIGSTOP));
	}
	use(&pair);
	for (size_t i = 0; i < T_LEN(later); i++) {
		t_open(&later[i], i % 2 ? T_V6 : T_V4);
		use(&later[i]);
	}
	T_OK(close(alive[1]));
	if (pid)
		t_join(pid);
	for (size_t i = 0; i < T_LEN(later); i++) {
		use(&later[i]);
		t_close(&later[i]);
	}
	t_close(&pair);
	t_open_hot(&pair);
	t_close(&pair);
	return 0;
}
