/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: a region file is made once with its size and mode, found again, and mapped only as far as
 * it goes; "auto" finds the ivshmem device by its id and takes the right resource; full memory is
 * an error number and not SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sched.h>
#include <unistd.h>

#include "segment.h"
#include "unit_region.h"

static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_region_open.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static const char *in_folder(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_file(void **state)
{
	char path[SHMT_REGION_PATH_BYTES];
	struct shmt_region region, again;
	enum coloc_reason reason;
	struct stat st;
	int fd, fd2;

	(void)state;
	assert_int_equal(shmt_region_open(in_folder("region"), 0, "", path), -ENOENT);
	assert_int_equal(shmt_region_open(in_folder("region"), 4096, "", path), -EINVAL);
	fd = shmt_region_open(in_folder("region"), 8 * MIB, "", path);
	assert_true(fd >= 0);
	assert_string_equal(path, in_folder("region"));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 8 * MIB);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(shmt_region_fd_bytes(fd), 8 * MIB);

	assert_int_equal(shmt_region_map(fd, 0, 0, &region, &reason), -EPROTO);
	assert_int_equal(reason, COLOC_REASON_NO_REGION);
	assert_int_equal(shmt_region_map(fd, 0, 1, &region, &reason), 0);
	assert_int_equal(region.bytes, 8 * MIB);
	assert_true(shmt_region_read_mbps(&region) > 0);

	/* Another agent: another size asked for changes nothing. */
	fd2 = shmt_region_open(in_folder("region"), 64 * MIB, "", path);
	assert_true(fd2 >= 0);
	assert_int_equal(shmt_region_map(fd2, 0, 1, &again, &reason), 0);
	assert_int_equal(again.bytes, 8 * MIB);
	assert_memory_equal(again.domain_id, region.domain_id, 16);
	assert_int_equal(shmt_region_map(fd2, 16 * MIB, 0, &again, &reason), -EINVAL);
	assert_int_equal(shmt_region_map(fd2, 4096, 0, &again, &reason), -EINVAL);
	shmt_region_unmap(&again);
	assert_null(again.base);
	shmt_region_unmap(&again);

	/* The file grew: what lies behind the region is not kept mapped. */
	assert_int_equal(ftruncate(fd, 16 * MIB), 0);
	assert_int_equal(shmt_region_map(fd2, 0, 1, &again, &reason), 0);
	assert_int_equal(again.bytes, 8 * MIB);
	shmt_region_unmap(&again);
	shmt_region_unmap(&region);
	close(fd);
	close(fd2);
}

static void test_not_a_region(void **state)
{
	char path[SHMT_REGION_PATH_BYTES], too_long[300];
	struct shmt_region region;
	enum coloc_reason reason;
	int fd;

	(void)state;
	assert_int_equal(shmt_region_open(folder, 8 * MIB, "", path), -EISDIR);
	assert_int_equal(shmt_region_open("/no/such/folder/x", 8 * MIB, "", path), -ENOENT);
	assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
	assert_int_equal(shmt_region_open(in_folder("fifo"), 8 * MIB, "", path), -EINVAL);
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	assert_int_equal(shmt_region_open(too_long, 0, "", path), -ENAMETOOLONG);
	fd = shmt_region_open("/dev/null", 0, "", path);
	assert_true(fd >= 0);
	assert_true(shmt_region_fd_bytes(fd) < 0);
	assert_true(shmt_region_map(fd, 0, 0, &region, &reason) < 0);
	close(fd);
	assert_int_equal(shmt_region_map(-1, 0, 0, &region, &reason), -EBADF);

	/* An empty file that somebody made beforehand, for its owner and mode. */
	put("empty", "");
	fd = shmt_region_open(in_folder("empty"), 8 * MIB, "", path);
	assert_int_equal(shmt_region_fd_bytes(fd), 8 * MIB);
	close(fd);
	put("short", "some text");
	fd = shmt_region_open(in_folder("short"), 8 * MIB, "", path);
	assert_int_equal(shmt_region_map(fd, 0, 1, &region, &reason), -EINVAL);
	close(fd);
}

static void device(const char *name, const char *vendor, const char *id)
{
	char file[128];

	assert_int_equal(mkdir(in_folder(name), 0700), 0);
	snprintf(file, sizeof(file), "%s/vendor", name);
	put(file, vendor);
	snprintf(file, sizeof(file), "%s/device", name);
	put(file, id);
	snprintf(file, sizeof(file), "%s/resource2", name);
	put(file, "");
	assert_int_equal(truncate(in_folder(file), 8 * MIB), 0);
}

static void test_auto(void **state)
{
	char path[SHMT_REGION_PATH_BYTES], text[8] = "";
	FILE *file;
	int fd;

	(void)state;
	assert_int_equal(shmt_region_open("auto", 8 * MIB, in_folder("none"), path), -ENODEV);
	assert_int_equal(mkdir(in_folder("pci"), 0700), 0);
	assert_int_equal(shmt_region_open("auto", 8 * MIB, in_folder("pci"), path), -ENODEV);
	device("pci/0000:00:01.0", "0x8086\n", "0x1110\n");
	device("pci/0000:00:02.0", "0x1af4\n", "0x1000\n");
	assert_int_equal(mkdir(in_folder("pci/0000:00:03.0"), 0700), 0);
	assert_int_equal(shmt_region_open("auto", 8 * MIB, in_folder("pci"), path), -ENODEV);
	device("pci/0000:00:05.0", "0x1af4\n", "0x1110\n");
	device("pci/0000:00:04.0", "0x1af4\n", "0x1110\n");

	put("pci/0000:00:04.0/enable", "0\n");
	fd = shmt_region_open("auto", 64 * MIB, in_folder("pci"), path);
	assert_true(fd >= 0);
	assert_string_equal(path, in_folder("pci/0000:00:04.0/resource2"));
	assert_int_equal(shmt_region_fd_bytes(fd), 8 * MIB);
	close(fd);
	file = fopen(in_folder("pci/0000:00:04.0/enable"), "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(text[0], '1');

	put("pci/0000:00:04.0/resource2_wc", "");
	fd = shmt_region_open("auto", 0, in_folder("pci"), path);
	assert_true(fd >= 0);
	assert_string_equal(path, in_folder("pci/0000:00:04.0/resource2_wc"));
	close(fd);
}

static void test_created_at_once(void **state)
{
	enum { COMERS = 6 };

	(void)state;
	for (int round = 0; round < 20; round++) {
		pid_t pids[COMERS];

		unlink(in_folder("race"));
		for (int i = 0; i < COMERS; i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0) {
				char path[SHMT_REGION_PATH_BYTES];
				struct shmt_region region;
				enum coloc_reason reason;
				int fd = shmt_region_open(in_folder("race"),
							  (uint64_t)(4 + i) * MIB, "", path);

				_exit(fd < 0 || shmt_region_map(fd, 0, 1, &region, &reason) < 0 ||
				      shmt_region_fd_bytes(fd) != (int64_t)region.bytes);
			}
		}
		for (int i = 0; i < COMERS; i++) {
			int status;

			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			assert_int_equal(status, 0);
		}
	}
}

/* In a mount namespace of its own: a file system smaller than the file that lies on it. */
static int full_memory(void)
{
	char path[SHMT_REGION_PATH_BYTES];
	struct shmt_guest guest, ends[2];
	struct shmt_region region;
	enum coloc_reason reason;
	uint8_t identity[16] = {1};
	uint32_t index, got = 0;
	int fd, rc;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", folder, "tmpfs", 0, "size=64k") < 0)
		return 77;
	fd = shmt_region_open(in_folder("full"), 16 * MIB, "", path);
	if (fd < 0 || shmt_region_map(fd, 0, 1, &region, &reason) != -ENOMEM)
		return 1;
	if (mount("none", folder, "tmpfs", MS_REMOUNT, "size=4m") < 0 ||
	    shmt_region_map(fd, 0, 1, &region, &reason) < 0 ||
	    shmt_guest_register(&region, identity, 1, "g", 0, &guest) < 0)
		return 2;
	ends[0] = ends[1] = guest;
	while ((rc = shmt_segment_alloc(&region, &guest, 128 << 10, ends, &index)) == 0)
		got++;
	return rc == -ENOSPC && got >= 8 && got <= 15 ? 0 : 3;
}

static void test_full_memory(void **state)
{
	const pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(full_memory());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_not_a_region, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_auto, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_created_at_once, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_full_memory, make_folder, remove_folder),
	};

	return cmocka_run_group_tests_name("region_open", tests, NULL, NULL);
}
