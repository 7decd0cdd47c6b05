/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: a guest's lock lasts as long as any process has the descriptor or a mapping made from it,
 * the descriptor itself closed, and ends with the last of them, however that dies.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit_region.h"

static char path[64];

static int make(void **state)
{
	int fd;

	(void)state;
	strcpy(path, "/tmp/test_directory_lock.XXXXXX");
	fd = mkstemp(path);
	return fd < 0 || ftruncate(fd, 4 * MIB) < 0 || close(fd) < 0;
}

static int drop(void **state)
{
	(void)state;
	return unlink(path);
}

static int open_it(void)
{
	const int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_descriptor(void **state)
{
	const int fd = open_it(), second = open_it(), own = open_it();

	(void)state;
	assert_int_equal(shmt_guest_lock_test(own, 3), 1);
	assert_int_equal(shmt_guest_lock(fd, 3), 0);
	assert_int_equal(shmt_guest_lock_test(own, 3), 0);
	assert_int_equal(shmt_guest_lock_test(own, 2), 1);
	assert_int_equal(shmt_guest_lock_test(own, 4), 1);
	assert_int_equal(shmt_guest_lock_test(fd, 3), 1); /* why own_fd must be own */
	assert_int_equal(shmt_guest_lock(second, 3), 0);  /* an agent that was restarted */
	close(fd);
	assert_int_equal(shmt_guest_lock_test(own, 3), 0);
	close(second);
	assert_int_equal(shmt_guest_lock_test(own, 3), 1);
	assert_int_equal(shmt_guest_lock_test(-1, 3), -EBADF);
	assert_int_equal(shmt_guest_lock(-1, 3), -EBADF);
	close(own);
}

static void test_mapping(void **state)
{
	const int fd = open_it(), own = open_it();
	void *base;

	(void)state;
	assert_int_equal(shmt_guest_lock(fd, 5), 0);
	base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	close(fd);
	assert_int_equal(shmt_guest_lock_test(own, 5), 0);
	munmap(base, 4096);
	assert_int_equal(shmt_guest_lock_test(own, 5), 1);
	close(own);
}

/* A process that got the descriptor maps it, closes it, outlives the agent, and is killed. */
static void test_process(void **state)
{
	const int fd = open_it(), own = open_it();
	int ready[2], status;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(shmt_guest_lock(fd, 6), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		void *base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		close(fd);
		if (base != MAP_FAILED && write(ready[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(fd);
	assert_int_equal(shmt_guest_lock_test(own, 6), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(shmt_guest_lock_test(own, 6), 1);
	close(ready[0]);
	close(ready[1]);
	close(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_descriptor, make, drop),
		cmocka_unit_test_setup_teardown(test_mapping, make, drop),
		cmocka_unit_test_setup_teardown(test_process, make, drop),
	};

	return cmocka_run_group_tests_name("directory_lock", tests, NULL, NULL);
}
