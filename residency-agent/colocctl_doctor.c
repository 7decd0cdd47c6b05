/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl_doctor.c - what is in the way on this machine, and the cure
 *
 * A list of findings, each "ok", "note" (works, but not as well as it could) or "bad" (no stream
 * can move). A finding that is not ok names its cure. Nothing is changed.
 */
#include "colocctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beside.h"
#include "reason.h"

#define FOUND_BYTES 512

static void add(json_t *findings, const char *what, const char *verdict, const char *cure,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(json_t *findings, const char *what, const char *verdict, const char *cure,
		const char *format, ...)
{
	char found[FOUND_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(found, sizeof(found), format, args);
	va_end(args);
	json_array_append_new(findings, json_pack("{s:s, s:s, s:s, s:s}", "what", what, "verdict",
						  verdict, "found", found, "cure", cure));
}

/* ---- the library ----------------------------------------------------------------------------- */

/*
 * What the loader says when it preloads @library into a small program, first line; nothing if all
 * is well. This finds a wrong architecture or a missing dependency where looking at the file does
 * not.
 */
static int loader_says(const char *library, char *text, size_t size)
{
	char list[2 * PATH_MAX];
	size_t used = 0;
	ssize_t got;
	int out[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	ctl_library_list(list, library);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDERR_FILENO);
		setenv("LD_PRELOAD", list, 1);
		setenv("COLOC_POLICY", "never", 1);
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while (used + 1 < size && (got = read(out[0], text + used, size - used - 1)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	text[strcspn(text, "\n")] = '\0';
	close(out[0]);
	if (pid < 0 || waitpid(pid, NULL, 0) < 0)
		return -errno;
	return 0;
}

static void look_at_library(json_t *findings)
{
	char path[PATH_MAX], text[FOUND_BYTES] = "";
	int rc = tool_find_beside("libcoloc.so", COLOC_LIBDIR, R_OK, path);

	if (rc < 0) {
		add(findings, "library", "bad",
		    "run 'make install', or colocctl from the build folder", "%s: %s", path,
		    strerror(-rc));
		return;
	}
	rc = loader_says(path, text, sizeof(text));
	if (rc < 0 || *text)
		add(findings, "library", "bad", "rebuild it on this system", "%s: %s", path,
		    rc < 0 ? strerror(-rc) : text);
	else
		add(findings, "library", "ok", "", "%s", path);

	/* The short form of the manual, and of units that say Environment=LD_PRELOAD=libcoloc.so.
	 */
	if (loader_says("libcoloc.so", text, sizeof(text)) == 0 && *text)
		add(findings, "library by name", "note",
		    "run ldconfig, or give LD_PRELOAD the whole path, or use coloc-run",
		    "LD_PRELOAD=libcoloc.so alone is not found by the loader");
	else
		add(findings, "library by name", "ok", "", "LD_PRELOAD=libcoloc.so is enough");
}

/* ---- the machine ----------------------------------------------------------------------------- */

static bool read_line(const char *path, char *text, size_t size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return got > 0;
}

/* cpu.max of this process's own group: "max 100000", or a quota and its period. */
static bool read_quota(double *ret_processors)
{
	char group[PATH_MAX], path[PATH_MAX + 32], text[64];
	long quota, period;

	if (!read_line("/proc/self/cgroup", group, sizeof(group)) || strncmp(group, "0::", 3) != 0)
		return false;
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group + 3);
	if (!read_line(path, text, sizeof(text)) || sscanf(text, "%ld %ld", &quota, &period) != 2 ||
	    period <= 0)
		return false;
	*ret_processors = (double)quota / (double)period;
	return true;
}

static void look_at_processors(json_t *findings)
{
	cpu_set_t may;
	double quota;
	int count = 0;

	if (sched_getaffinity(0, sizeof(may), &may) == 0)
		count = CPU_COUNT(&may);
	if (read_quota(&quota) && quota < 2)
		add(findings, "processors", "note", "raise cpu.max, or set spin_us = 0 in [wait]",
		    "this cgroup may use %.2f of a processor: waiting by spinning costs its quota",
		    quota);
	else if (count == 1)
		add(findings, "processors", "note", "more processors, or a wider affinity mask",
		    "1: two ends in this guest share it, so their latency stays that of TCP");
	else
		add(findings, "processors", "ok", "", "%d may be used", count);
}

static void look_at_kernel(json_t *findings)
{
	char text[64];

	if (read_line("/proc/sys/net/ipv4/tcp_window_scaling", text, sizeof(text)) &&
	    !strcmp(text, "0"))
		add(findings, "tcp_window_scaling", "note", "sysctl net.ipv4.tcp_window_scaling=1",
		    "off: two connections are told apart by less");
	if (read_line("/proc/sys/kernel/osrelease", text, sizeof(text)))
		add(findings, "kernel", "ok", "", "Linux %s", text);
}

static void look_at_memory(json_t *findings)
{
	char free_text[24];
	struct statvfs facts;
	double bytes;

	if (statvfs("/dev/shm", &facts) < 0) {
		add(findings, "/dev/shm", "note", "mount a tmpfs there", "%s", strerror(errno));
		return;
	}
	bytes = (double)facts.f_bavail * (double)facts.f_frsize;
	ctl_format_bytes(free_text, bytes);
	if (bytes < 64 << 20)
		add(findings, "/dev/shm", "note",
		    "make it larger (mount -o remount,size=...; docker run --shm-size), or give "
		    "[region] a file elsewhere",
		    "%s free: a region file there would run out of memory", free_text);
	else
		add(findings, "/dev/shm", "ok", "", "%s free", free_text);
}

/* ---- the agent ------------------------------------------------------------------------------- */

static const char *cure_for_connect(int rc)
{
	switch (rc) {
	case -ENOENT:
		return "systemctl start residency-agent; or coloc-run, which starts a private one; "
		       "or --socket";
	case -ECONNREFUSED:
		return "systemctl restart residency-agent; its journal says why it ended";
	case -EACCES:
		return "join the group named in [access] of coloc.conf";
	case -EPROTO:
		return "colocctl and the agent are of different versions: restart the agent";
	default:
		return "journalctl -u residency-agent";
	}
}

static void look_at_region(json_t *findings, const json_t *status)
{
	const json_t *region = json_object_get(status, "region");
	const char *reason = ctl_string(region, "reason");
	const char *path = ctl_string(region, "path");
	char size[24];

	if (!strcmp(reason, coloc_reason_name(COLOC_REASON_REGION_SLOW)))
		add(findings, "region", "bad",
		    "offer it as a device-DAX node (virtio-pmem, NVDIMM), or by a driver that maps "
		    "it write-back; see [region] in coloc.conf(5)",
		    "%s is mapped uncached: %.0f MB/s when read", path,
		    ctl_number(region, "read_mbps"));
	else if (!strcmp(reason, coloc_reason_name(COLOC_REASON_REGION_VERSION)))
		add(findings, "region", "bad",
		    "run one version in all guests of this host, or give [region] a new file",
		    "%s is of another version", path);
	else if (*reason && strcmp(reason, coloc_reason_name(COLOC_REASON_NONE)) != 0)
		add(findings, "region", "bad",
		    "containers and host: [region] path = /dev/shm/coloc.region, the same file in "
		    "each; VMs: an ivshmem-plain device",
		    "none (%s)", reason);
	else
		add(findings, "region", "ok", "", "%s, %s, read at %.0f MB/s", path,
		    ctl_format_bytes(size, ctl_number(region, "bytes")),
		    ctl_number(region, "read_mbps"));
}

static void look_at_guests(json_t *findings, const json_t *status)
{
	const size_t count = json_array_size(json_object_get(status, "guests"));

	if (count <= 1)
		add(findings, "guests", "note",
		    "start the agents of the others, with the same region",
		    "this one alone: only streams inside it can move");
	else
		add(findings, "guests", "ok", "", "%zu share the region", count);
	if (json_is_true(json_object_get(json_object_get(status, "draining"), "requested")))
		add(findings, "drain", "bad", "colocctl resume", "this guest is being drained");
	if (json_is_false(json_object_get(status, "sock_diag")))
		add(findings, "sock_diag", "bad", "modprobe tcp_diag, then start the agent again",
		    "the kernel cannot be asked about TCP sockets: no stream moves");
}

static void look_at_agent(json_t *findings, const struct ctl_options *options)
{
	json_t *status = NULL;
	char error[256];
	int rc = ctl_ask(options, COLOC_VERB_STATUS, &status, error);

	if (rc != 0) {
		add(findings, "agent", "bad", cure_for_connect(rc), "%s", error);
		return;
	}
	if (strcmp(ctl_string(status, "version"), COLOC_VERSION) != 0)
		add(findings, "agent", "note", "restart it: streams survive that",
		    "it is of version %s, this is %s", ctl_string(status, "version"),
		    COLOC_VERSION);
	else
		add(findings, "agent", "ok", "", "answers at %s", options->socket);
	look_at_region(findings, status);
	look_at_guests(findings, status);
	json_decref(status);
}

int ctl_doctor(const struct ctl_options *options)
{
	json_t *findings = json_array();
	bool bad = false;
	json_t *finding;
	size_t i;

	look_at_library(findings);
	look_at_agent(findings, options);
	look_at_memory(findings);
	look_at_processors(findings);
	look_at_kernel(findings);

	json_array_foreach(findings, i, finding) bad |=
		!strcmp(ctl_string(finding, "verdict"), "bad");
	if (options->json) {
		ctl_show_json(stdout, findings);
	} else {
		json_array_foreach(findings, i, finding)
		{
			printf("%-4s  %s: %s\n", ctl_string(finding, "verdict"),
			       ctl_string(finding, "what"), ctl_string(finding, "found"));
			if (*ctl_string(finding, "cure"))
				printf("      cure: %s\n", ctl_string(finding, "cure"));
		}
		puts(bad ? "streams cannot move as things stand"
			 : "nothing is in the way; 'colocctl check' moves a stream to prove it");
	}
	json_decref(findings);
	return bad ? CTL_EXIT_NO : CTL_EXIT_OK;
}
