/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.h - will the library be in a program that is about to be executed?
 *
 * Any thread, signal handlers, vfork children; errno may change. What cannot be told (a file that
 * may be executed but not read, one that is not there) counts as yes: such an exec mostly fails.
 */
#ifndef PL_PROGRAM_H
#define PL_PROGRAM_H

#include <stdbool.h>

struct pl_program {
	int dir;	  /* descriptor or AT_FDCWD */
	const char *path; /* NULL: @dir is the program itself */
	bool search;	  /* in PATH, if there is no slash in it */
};

bool pl_program_has_us(const struct pl_program *program, char *const envp[]);

#endif
