// SPDX-License-Identifier: Apache-2.0
/*
 * A moved stream is inherited by a program that the library is not in though the environment names
 * it: linked statically, run by way of a script, set-user-ID, or told never to. What is sent once
 * it runs comes back. HAZARDS 14, 42.
 */

#include <limits.h>
#include <sys/stat.h>

#include "t.h"

extern char **environ;

static struct t_pair pair;
static char echo_static[PATH_MAX];

static void copy_program(const char *from, const char *to, uid_t owner, mode_t mode)
{
	char buf[4096];
	const int in = (int)T_OK(open(from, O_RDONLY | O_CLOEXEC));
	const int out = (int)T_OK(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
	ssize_t n;

	while ((n = (ssize_t)T_OK(read(in, buf, sizeof(buf)))) > 0)
		T_EQ(T_OK(write(out, buf, (size_t)n)), n);
	T_OK(close(in));
	T_OK(close(out));
	T_OK(chown(to, owner, (gid_t)-1));
	T_OK(chmod(to, mode));
}

enum how { EXECV, EXECVP, FEXECVE, EXECVEAT, HOWS };

static void execute(enum how how, const char *dir, const char *name)
{
	char *args[] = {(char *)(uintptr_t)name, NULL};
	char path[2 * PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	switch (how) {
	case EXECV:
		execv(path, args);
		break;
	case EXECVP:
		setenv("PATH", dir, 1);
		execvp(name, args);
		break;
	case FEXECVE:
		fd = open(path, O_RDONLY); /* a script's number must stay open */
		fexecve(fd, args, environ);
		break;
	default:
		fd = open(dir, O_RDONLY | O_DIRECTORY); /* so must that of a script's folder */
		execveat(fd, name, args, environ, 0);
		break;
	}
	_exit(126);
}

static void run(enum how how, const char *dir, const char *name)
{
	int gone[2];
	uint8_t byte;
	pid_t pid;

	t_open_hot(&pair);
	T_OK(pipe2(gone, O_CLOEXEC));
	pid = (pid_t)T_OK(fork());
	if (!pid) {
		dup2(pair.b, 0);
		dup2(pair.b, 1);
		close(pair.a);
		close(pair.b);
		execute(how, dir, name);
	}
	T_OK(close(gone[1]));
	T_EQ(T_OK(read(gone[0], &byte, 1)), 0); /* it runs */
	T_OK(close(gone[0]));
	for (int i = 0; i < 10; i++) {
		t_send(pair.a, 3000, 3, 0);
		t_recv(pair.a, 3000, 3, 0);
	}
	T_OK(shutdown(pair.a, SHUT_WR));
	t_join(pid);
	T_EQ(t_recv_rest(pair.b, 3, 0), 0);
	t_close(&pair);
}

static void make_script(const char *interpreter)
{
	const int fd = (int)T_OK(open("script", O_WRONLY | O_CREAT | O_CLOEXEC, 0700));

	T_CHECK(write(fd, "#! ", 3) == 3);
	T_CHECK(write(fd, interpreter, strlen(interpreter)) == (ssize_t)strlen(interpreter));
	T_CHECK(write(fd, "\n", 1) == 1);
	T_OK(close(fd));
}

int main(void)
{
	const ssize_t n = readlink("/proc/self/exe", echo_static, sizeof(echo_static) - 32);
	char here[PATH_MAX];

	T_CHECK(n > 0);
	strcpy(strrchr(echo_static, '/') + 1, "echo_static");
	T_CHECK(getcwd(here, sizeof(here)));
	copy_program(echo_static, "echo_here", (uid_t)-1, 0755);
	make_script(echo_static);
	for (int how = 0; how < HOWS; how++) {
		run((enum how)how, here, "echo_here");
		run((enum how)how, here, "script");
	}
	/* It becomes another user: the loader drops what the environment says. */
	if (geteuid() == 0) {
		copy_program("/bin/cat", "cat_suid", 65534, 04755);
		run(EXECV, here, "cat_suid");
	}
	T_OK(setenv("COLOC_POLICY", "never", 1));
	run(EXECV, "/bin", "cat");
	return 0;
}
