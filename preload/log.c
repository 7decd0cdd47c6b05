/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>

#include "real.h"

int pl_log_level;

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
		(void)!pl_real.write(2, line, n);
	}
	errno = saved;
}
