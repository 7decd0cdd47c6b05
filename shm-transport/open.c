/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.c - find and open the memory of a region, and hold a guest's lock on it: agents only
 *
 * Apart from region.c because it calls open, read, fcntl and close by their names, which
 * libcoloc.so interposes: no part of the preload may pull this file in.
 *
 * A region file is made with its full size before anybody can map it: creation goes on under flock,
 * and whoever opens the file passes that lock once. On ivshmem the memory has its size from the
 * host.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "directory.h"

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110

/* The beginning of a small text file, as sysfs has them; -errno. */
static int read_text(const char *path, char *ret_text, size_t size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, ret_text, size - 1);
	if (got < 0) {
		got = -errno;
		close(fd);
		return (int)got;
	}
	close(fd);
	ret_text[got] = '\0';
	return 0;
}

static int read_number(const char *dir, const char *name, int base, uint64_t *ret_value)
{
	char path[PATH_MAX], text[32];
	char *end;
	int rc;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	rc = read_text(path, text, sizeof(text));
	if (rc < 0)
		return rc;
	errno = 0;
	*ret_value = strtoull(text, &end, base);
	return end == text || errno ? -EINVAL : 0;
}

/*
 * A device that no driver took may have its memory switched off; its "enable" says 0 then, and its
 * mapping would read as all ones. Writing counts, so only if need be. Failing shows as "no magic".
 */
static void switch_on_pci(const char *resource_path)
{
	char dir[SHMT_REGION_PATH_BYTES], path[SHMT_REGION_PATH_BYTES + 8];
	const char *const slash = strrchr(resource_path, '/');
	uint64_t enabled;
	int fd;

	if (!slash || strncmp(slash + 1, "resource", 8) != 0)
		return;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - resource_path), resource_path);
	if (read_number(dir, "enable", 10, &enabled) < 0 || enabled != 0)
		return;
	snprintf(path, sizeof(path), "%s/enable", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0) {
		/* Not allowed: the memory may be on all the same. */
	}
	close(fd);
}

/* BAR 2 of the device in @dir: write-combining if the kernel offers it; -ENODEV no such device. */
static int ivshmem_resource(const char *dir, char *ret_path)
{
	static const char *const names[] = {"resource2_wc", "resource2"};
	uint64_t vendor, device;

	if (read_number(dir, "vendor", 16, &vendor) < 0 ||
	    read_number(dir, "device", 16, &device) < 0 || vendor != IVSHMEM_VENDOR ||
	    device != IVSHMEM_DEVICE)
		return -ENODEV;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (snprintf(ret_path, SHMT_REGION_PATH_BYTES, "%s/%s", dir, names[i]) >=
		    SHMT_REGION_PATH_BYTES)
			return -ENAMETOOLONG;
		if (access(ret_path, F_OK) == 0)
			return 0;
	}
	return -ENODEV;
}

static int find_ivshmem(const char *pci_root, char *ret_path)
{
	struct dirent **entries;
	char dir[PATH_MAX];
	int count, rc = -ENODEV;

	/* Sorted: the first one is the same one each time. */
	count = scandir(pci_root, &entries, NULL, alphasort);
	if (count < 0)
		return errno == ENOENT ? -ENODEV : -errno;
	for (int i = 0; i < count; i++) {
		if (rc == -ENODEV && entries[i]->d_name[0] != '.' &&
		    snprintf(dir, sizeof(dir), "%s/%s", pci_root, entries[i]->d_name) <
			    (int)sizeof(dir))
			rc = ivshmem_resource(dir, ret_path);
		free(entries[i]);
	}
	free(entries);
	return rc;
}

/*
 * O_CREAT only after a plain open said ENOENT: on a file of another owner in a sticky directory the
 * kernel refuses O_CREAT (fs.protected_regular), even to root.
 */
static int open_or_create(const char *path, uint64_t create_bytes)
{
	int fd;

	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0 || errno != ENOENT || create_bytes == 0)
		return fd < 0 ? -errno : fd;
	fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Gives an empty file its size; whoever comes second finds it done. */
static int set_size(int fd, uint64_t create_bytes)
{
	struct stat st;
	int rc = 0;

	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	if (fstat(fd, &st) < 0 || (st.st_size == 0 && ftruncate(fd, (off_t)create_bytes) < 0))
		rc = -errno;
	flock(fd, LOCK_UN);
	return rc;
}

int shmt_region_open(const char *path, uint64_t create_bytes, const char *pci_root, char *ret_path)
{
	char found[SHMT_REGION_PATH_BYTES];
	struct stat st;
	int fd, rc;

	if (strcmp(path, "auto") == 0) {
		rc = find_ivshmem(pci_root, found);
		if (rc < 0)
			return rc;
		create_bytes = 0;
	} else if (snprintf(found, sizeof(found), "%s", path) >= (int)sizeof(found)) {
		return -ENAMETOOLONG;
	}
	if (create_bytes != 0 && (create_bytes < SHMT_REGION_MIN_BYTES || create_bytes > INT64_MAX))
		return -EINVAL;

	switch_on_pci(found);
	fd = open_or_create(found, create_bytes);
	if (fd < 0)
		return fd;
	rc = fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		rc = -EINVAL;
	if (rc == 0 && S_ISREG(st.st_mode) && create_bytes != 0)
		rc = set_size(fd, create_bytes);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	strcpy(ret_path, found); /* both are SHMT_REGION_PATH_BYTES long */
	return fd;
}

int64_t shmt_region_fd_bytes(int fd)
{
	char dir[64];
	uint64_t bytes;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode))
		return st.st_size;
	snprintf(dir, sizeof(dir), "/sys/dev/char/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	rc = read_number(dir, "size", 10, &bytes);
	if (rc < 0)
		return rc;
	return bytes > INT64_MAX ? -EINVAL : (int64_t)bytes;
}

static struct flock slot_lock(short type, uint32_t slot)
{
	return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
}

int shmt_guest_lock(int fd, uint32_t slot)
{
	struct flock lock = slot_lock(F_RDLCK, slot);

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int shmt_guest_lock_test(int own_fd, uint32_t slot)
{
	struct flock lock = slot_lock(F_WRLCK, slot);

	if (fcntl(own_fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type == F_UNLCK;
}
