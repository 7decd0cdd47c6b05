/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>

#include "real.h"

int pl_log_level;

/*
 * A limit on file sizes, or a pipe that nobody reads, must not end a program that has nothing to do
 * with our line: the signal that the write itself makes is taken back before it is delivered.
 */
static void write_quietly(const char *line, size_t len)
{
	const struct timespec none = {0};
	sigset_t mine, before, pending;

	sigemptyset(&mine);
	sigaddset(&mine, SIGPIPE);
	sigaddset(&mine, SIGXFSZ);
	if (pthread_sigmask(SIG_BLOCK, &mine, &before) != 0)
		return;
	sigpending(&pending);
	/* One that was pending already is the program's. */
	if (sigismember(&pending, SIGPIPE))
		sigdelset(&mine, SIGPIPE);
	if (sigismember(&pending, SIGXFSZ))
		sigdelset(&mine, SIGXFSZ);
	if (pl_real.write(STDERR_FILENO, line, len) < 0 && (errno == EPIPE || errno == EFBIG))
		(void)sigtimedwait(&mine, NULL, &none);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pl_log_write(const char *format, ...)
{
	const int saved = errno;
	char line[256];
	va_list args;
	int n, m;

	n = snprintf(line, sizeof(line), "coloc[%d]: ", (int)getpid());
	va_start(args, format);
	m = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	va_end(args);
	if (m > 0) {
		n = n + m < (int)sizeof(line) - 1 ? n + m : (int)sizeof(line) - 2;
		line[n++] = '\n';
		write_quietly(line, (size_t)n);
	}
	errno = saved;
}
