/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.c - see program.h
 *
 * The environment must name the library and not forbid its work, and the loader must heed it: it
 * does not in a program that is statically linked or of another word size, nor in one that gains
 * rights by being executed (set-user-ID, set-group-ID, file capabilities). Of a script the
 * interpreter counts.
 */
#include "program.h"

#include <elf.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "real.h"

#define SCRIPTS_MAX 5 /* as the kernel */
#define HEADERS_MAX 64

static const char *value_of(char *const envp[], const char *name)
{
	const size_t len = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

static bool environment_has_us(char *const envp[])
{
	const char *preload = value_of(envp, "LD_PRELOAD");
	const char *policy = value_of(envp, "COLOC_POLICY");
	const char *agent = value_of(envp, "COLOC_AGENT"), *own = getenv("COLOC_AGENT");

	if (!preload || !strstr(preload, "libcoloc") || (policy && !strcmp(policy, "never")))
		return false;
	/* Streams are known to the agent of whose memory they are. */
	return agent && own ? !strcmp(agent, own) : agent == own;
}

/* Only what is certainly a file is opened. Return: descriptor or -1 */
static int open_file(int dir, const char *path)
{
	struct stat st;

	if (fstatat(dir, path, &st, 0) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return pl_real.openat(dir, path, O_RDONLY | O_CLOEXEC);
}

static int open_in_path(const char *file)
{
	const char *path = getenv("PATH"), *end;
	char full[PATH_MAX];
	int fd = -1;

	for (path = path ? path : "/bin:/usr/bin"; fd < 0; path = end + 1) {
		const size_t len = (size_t)((end = strchrnul(path, ':')) - path);

		if (len + strlen(file) + 2 <= sizeof(full)) {
			memcpy(full, path, len);
			full[len] = '/';
			strcpy(full + len + (len != 0), file);
			if (access(full, X_OK) == 0)
				fd = open_file(AT_FDCWD, full);
		}
		if (!*end)
			break;
	}
	return fd;
}

static bool gains_rights(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	return ((st.st_mode & S_ISUID) && st.st_uid != getuid()) ||
	       ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid()) ||
	       (geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

static bool has_loader(int fd, const Elf64_Ehdr *elf)
{
	Elf64_Phdr headers[HEADERS_MAX];
	const size_t count = elf->e_phnum < HEADERS_MAX ? elf->e_phnum : HEADERS_MAX;
	ssize_t n;

	if (elf->e_phentsize != sizeof(headers[0]))
		return true;
	n = pread(fd, headers, count * sizeof(headers[0]), (off_t)elf->e_phoff);
	if (n != (ssize_t)(count * sizeof(headers[0])))
		return true;
	for (size_t i = 0; i < count; i++)
		if (headers[i].p_type == PT_INTERP)
			return true;
	return false;
}

/* The interpreter of a script, cut out of its first line in @head; NULL if it is none. */
static char *interpreter(char *head)
{
	char *begin = head + 2;

	if (head[0] != '#' || head[1] != '!')
		return NULL;
	begin += strspn(begin, " \t");
	begin[strcspn(begin, " \t\n")] = '\0';
	return *begin ? begin : NULL;
}

/* Closes @fd. */
static bool loader_heeds_us(int fd, int depth)
{
	union {
		char text[256];
		Elf64_Ehdr elf;
	} head = {{0}};
	const char *script = NULL;
	bool heeds = true;

	if (fd < 0)
		return true;
	if (pread(fd, head.text, sizeof(head.text) - 1, 0) >= (ssize_t)sizeof(head.elf) &&
	    !memcmp(head.elf.e_ident, ELFMAG, SELFMAG))
		heeds = head.elf.e_ident[EI_CLASS] == ELFCLASS64 && has_loader(fd, &head.elf) &&
			!gains_rights(fd);
	else
		script = interpreter(head.text);
	(void)pl_real.close(fd);
	return script && depth < SCRIPTS_MAX
		       ? loader_heeds_us(open_file(AT_FDCWD, script), depth + 1)
		       : heeds;
}

bool pl_program_has_us(const struct pl_program *program, char *const envp[])
{
	int fd;

	if (!environment_has_us(envp))
		return false;
	if (!program->path || !*program->path)
		fd = pl_real.fcntl(program->dir, F_DUPFD_CLOEXEC, 0);
	else if (program->search && !strchr(program->path, '/'))
		fd = open_in_path(program->path);
	else
		fd = open_file(program->dir, program->path);
	return loader_heeds_us(fd, 0);
}
