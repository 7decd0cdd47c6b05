/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - what the shim did and why, for people; off unless COLOC_LOG is set
 *
 * COLOC_LOG=1 says why streams stay on TCP and when they are attached; 2 adds each switch. Written
 * to standard error by one write(2) per line from a buffer on the stack: no stdio, no malloc, errno
 * kept.
 */
#ifndef PL_LOG_H
#define PL_LOG_H

extern int pl_log_level;

void pl_log_write(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define pl_log(level, ...)                                        \
	do {                                                      \
		if (__builtin_expect(pl_log_level >= (level), 0)) \
			pl_log_write(__VA_ARGS__);                \
	} while (0)

#endif
