/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beside.h - where colocctl and coloc-run find the other parts of the same build
 *
 * A part beside the running program wins, so that a build folder works as it stands; then the
 * folder that it was installed to.
 */
#ifndef COLOC_BESIDE_H
#define COLOC_BESIDE_H

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/**
 * tool_find_beside() - absolute path of @name, beside this program or in @installed_dir
 * @installed_dir: NULL = it is always installed beside this program
 * @mode: of access(2), what it must be good for
 * @ret_path: PATH_MAX bytes; on failure the last place that was looked at
 * Return: 0 or -errno
 */
static inline int tool_find_beside(const char *name, const char *installed_dir, int mode,
				   char *ret_path)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length > 0) {
		self[length] = '\0';
		slash = strrchr(self, '/');
		if (slash &&
		    snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)(slash - self), self, name) <
			    PATH_MAX &&
		    access(ret_path, mode) == 0)
			return 0;
	}
	if (!installed_dir)
		return -ENOENT;
	if (snprintf(ret_path, PATH_MAX, "%s/%s", installed_dir, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return access(ret_path, mode) == 0 ? 0 : -errno;
}

#endif
