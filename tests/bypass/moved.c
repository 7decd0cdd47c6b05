/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved.c - is a descriptor of another process a stream that has moved?
 *
 * The process is not asked: its socket is duplicated, the kernel says what its cookie is, and the
 * records that the library shares with its agent (record_layout.h) are searched for that cookie.
 * Everything is looked up anew each time: numbers, processes and records come and go, and few calls
 * without the mark are on TCP sockets.
 */
#include "moved.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"
#include "record_layout.h"

static char folder[PATH_MAX];
struct moved_counts moved_counts;

void moved_init(const char *socket)
{
	const char *slash = strrchr(socket, '/');

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - socket) : 1,
		 slash ? socket : ".");
}

/* A number from the thread's status, as "Tgid:" */
static pid_t status_of(pid_t tid, const char *key)
{
	char path[64], line[128];
	int pid = -1;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	status = fopen(path, "re");
	while (status && pid < 0 && fgets(line, sizeof(line), status))
		if (!strncmp(line, key, 5))
			pid = atoi(line + 5);
	if (status)
		fclose(status);
	return pid;
}

/* Return: 0 if it is no TCP socket */
static uint64_t tcp_cookie(pid_t tid, int fd)
{
	char path[64], target[64];
	uint64_t cookie = 0;
	socklen_t len = sizeof(int);
	int pidfd, copy, protocol = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", tid, fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 7 || memcmp(target, "socket:", 7))
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, status_of(tid, "Tgid:"), 0);
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (getsockopt(copy, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	    protocol == IPPROTO_TCP) {
		len = sizeof(cookie);
		if (getsockopt(copy, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
			cookie = 0;
	}
	close(copy);
	close(pidfd);
	return cookie;
}

static bool is_moved(const struct coloc_record_shared *rec, uint64_t cookie)
{
	return shmt_load(&rec->state) == COLOC_RECORD_LIVE && rec->cookie == cookie &&
	       shmt_load(&rec->grant) == COLOC_GRANT_ATTACHED &&
	       !(shmt_load(&rec->flags) & (COLOC_RECORD_STAYS | COLOC_RECORD_STANDARD));
}

static bool moved_in(const char *name, uint64_t cookie)
{
	const struct coloc_record_shared *records;
	struct coloc_local_shared *local;
	char path[PATH_MAX + NAME_MAX + 2];
	bool found = false;
	struct stat st;
	uint32_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	local = fstat(fd, &st) < 0 || (size_t)st.st_size < sizeof(*local)
			? MAP_FAILED
			: mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (local == MAP_FAILED)
		return false;
	records = (const void *)((const char *)local + local->records_off);
	if (shmt_load(&local->magic) == COLOC_LOCAL_MAGIC && local->version == COLOC_LOCAL_VERSION)
		for (i = 0; i < local->record_count && !found; i++)
			if (shmt_load(&local->used[i / 64]) & (1ull << i % 64))
				found = is_moved(&records[i], cookie);
	munmap(local, (size_t)st.st_size);
	return found;
}

bool moved_fd(pid_t tid, int fd)
{
	const uint64_t cookie = tcp_cookie(tid, fd);
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	if (!cookie)
		return false;
	moved_counts.tcp++;
	dir = opendir(folder);
	while (dir && !found && (entry = readdir(dir)))
		found = !strncmp(entry->d_name, "records.", 8) && moved_in(entry->d_name, cookie);
	if (dir)
		closedir(dir);
	return found;
}

int moved_any(pid_t tid, unsigned int first, unsigned int last)
{
	struct dirent *entry;
	char path[64];
	int found = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", tid);
	dir = opendir(path);
	while (dir && found < 0 && (entry = readdir(dir))) {
		const unsigned int fd = (unsigned int)strtoul(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && fd >= first && fd <= last && moved_fd(tid, (int)fd))
			found = (int)fd;
	}
	if (dir)
		closedir(dir);
	return found;
}

bool moved_vfork_child(pid_t tid)
{
	return syscall(SYS_kcmp, tid, status_of(tid, "PPid:"), KCMP_VM, 0, 0) == 0;
}
