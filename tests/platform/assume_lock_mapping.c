/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: an open-file-description lock lives on with a mapping of the file when the descriptor has
 * been closed, also in a forked child, and ends with the last mapping. So the lock on a guest's
 * slot tells whether any of its processes still has the region.
 */
#include <sys/mman.h>

#include "t.h"

static bool locked(const char *path)
{
	const int fd = (int)T_OK(open(path, O_RDWR | O_CLOEXEC));
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};

	T_OK(fcntl(fd, F_OFD_GETLK, &lock));
	T_OK(close(fd));
	return lock.l_type != F_UNLCK;
}

static void hold(void *arg)
{
	char byte;

	/* Until the parent closes its end. */
	T_EQ(read(*(int *)arg, &byte, 1), 0);
}

int main(void)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
	char path[] = "lock.XXXXXX";
	int fd, pipe_fds[2];
	void *memory;
	pid_t pid;

	fd = (int)T_OK(mkostemp(path, O_CLOEXEC));
	T_OK(ftruncate(fd, 4096));
	T_OK(fcntl(fd, F_OFD_SETLK, &lock));
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	T_CHECK(memory != MAP_FAILED);
	T_OK(close(fd));
	T_CHECK(locked(path));
	printf("descriptor closed, mapping left: locked\n");

	T_OK(pipe(pipe_fds));
	pid = fork();
	T_CHECK(pid >= 0);
	if (pid == 0) {
		close(pipe_fds[1]);
		hold(&pipe_fds[0]);
		_exit(0);
	}
	T_OK(munmap(memory, 4096));
	T_CHECK(locked(path));
	printf("mapping left in a child only: locked\n");

	T_OK(close(pipe_fds[1]));
	t_join(pid);
	T_CHECK(!locked(path));
	printf("last mapping gone: free\n");
	T_OK(unlink(path));
	return 0;
}
