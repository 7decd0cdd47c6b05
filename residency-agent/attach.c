/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach.c - the region, and this guest's life in it
 *
 * A life of the guest is a slot and an epoch in the region. It lasts until the guest reboots,
 * however often its agent is restarted, because processes and their rings live on without an agent.
 * So the life is written down in the file "guest" beside the socket, with the boot id and the
 * region that it belongs to; if one of them is another now, or the file is gone, a new life begins
 * and what the old one left beside the socket is void. The file is also the lock that keeps a
 * second agent out.
 *
 * The identity lets a guest that rebooted bury its earlier life. It must never be that of another
 * living guest: it is made of what hypervisors promise to be unique (the product uuid) and the
 * socket's path, and counts only if it is not in use by somebody who lives. Where there is no such
 * thing it is random; then an earlier life is found dead by its lock (one kernel) or stays a
 * suspect.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "record_hash.h"
#include "region.h"

#define MEASUREMENTS 10

/* A life as the file tells it. */
struct life {
	uint8_t identity[16];
	uint8_t domain[16];
	char boot_id[40];
	uint64_t epoch;	   /* 0 = no region in that life */
	unsigned int away; /* 1 = the region was let go orderly; the life goes on */
};

static int read_text(int folder_fd, const char *path, char *text, size_t size)
{
	const int fd = openat(folder_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	close(fd);
	if (got < 0)
		return -EIO;
	text[got] = 0;
	text[strcspn(text, "\n")] = 0;
	return 0;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = coloc_hash_mix(hash ^ (uint8_t)*text);
	return hash;
}

static void hex_print(char *text, const uint8_t *bytes, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

static bool hex_scan(uint8_t *bytes, const char *text, size_t count)
{
	unsigned int byte;
	size_t i;

	for (i = 0; i < count; i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		bytes[i] = (uint8_t)byte;
	}
	return true;
}

/* ---- the file "guest" --------------------------------------------------------------------------
 */

static bool read_life(struct ra_agent *agent, struct life *ret_life)
{
	char text[512] = "", identity[33] = "", domain[33] = "";
	const ssize_t got = pread(agent->guest_fd, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return false;
	memset(ret_life, 0, sizeof(*ret_life));
	return sscanf(text, "identity %32s\nboot %39s\ndomain %32s\nepoch %" SCNu64 "\naway %u\n",
		      identity, ret_life->boot_id, domain, &ret_life->epoch,
		      &ret_life->away) == 5 &&
	       hex_scan(ret_life->identity, identity, 16) && hex_scan(ret_life->domain, domain, 16);
}

static void write_life(struct ra_agent *agent)
{
	char text[512], identity[33], domain[33];
	int len;

	hex_print(identity, agent->identity, 16);
	hex_print(domain, agent->region.domain_id, 16);
	len = snprintf(text, sizeof(text),
		       "identity %s\nboot %s\ndomain %s\nepoch %" PRIu64 "\naway %d\n", identity,
		       agent->boot_id, domain, agent->guest.epoch, agent->away);
	if (ftruncate(agent->guest_fd, 0) < 0 || pwrite(agent->guest_fd, text, len, 0) != len)
		ra_log(SD_WARNING, "%s/guest: cannot be written: a restart will begin a new life",
		       agent->folder);
}

int ra_attach_lock(struct ra_agent *agent)
{
	struct stat st;
	int rc, fd;

	do {
		fd = openat(agent->folder_fd, "guest", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			    0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0) {
			rc = errno == EWOULDBLOCK ? -EEXIST : -errno;
			close(fd);
			return rc;
		}
		/* An agent that went for good removed this very file: a lock on it keeps nobody
		 * out. */
		if (st.st_nlink == 0)
			close(fd);
	} while (st.st_nlink == 0);
	agent->guest_fd = fd;
	return 0;
}

/* ---- who we are --------------------------------------------------------------------------------
 */

static void find_names(struct ra_agent *agent)
{
	if (read_text(AT_FDCWD, "/proc/sys/kernel/random/boot_id", agent->boot_id,
		      sizeof(agent->boot_id)) < 0)
		strcpy(agent->boot_id, "unknown");
	agent->kernel_id = hash_text(1, agent->boot_id);
	if (*agent->conf.guest_name)
		snprintf(agent->name, sizeof(agent->name), "%.23s", agent->conf.guest_name);
	else if (gethostname(agent->name, sizeof(agent->name) - 1) < 0)
		strcpy(agent->name, "guest");
}

static void random_identity(uint8_t identity[16])
{
	uint64_t words[2];

	if (getrandom(identity, 16, 0) == 16)
		return;
	words[0] = coloc_hash_mix((uint64_t)getpid() ^ (uint64_t)(ev_time() * 1e6));
	words[1] = coloc_hash_mix(words[0]);
	memcpy(identity, words, 16);
}

/* Does somebody live under this identity who is not a dead life of our own? */
static bool identity_taken(const struct ra_agent *agent, const uint8_t identity[16])
{
	const struct shmt_guest_shared *entry;
	uint64_t word;
	uint32_t slot;

	for (slot = 0; slot < agent->region.guest_count; slot++) {
		entry = &agent->region.guests[slot];
		word = shmt_load_acquire(&entry->word);
		if (SHMT_GUEST_STATE(word) == SHMT_GUEST_FREE ||
		    memcmp(entry->identity, identity, 16))
			continue;
		/* On another kernel: the same machine before it rebooted. */
		if (entry->kernel_id == agent->kernel_id &&
		    shmt_guest_lock_test(agent->region_test_fd, slot) != 1)
			return true;
	}
	return false;
}

static void choose_identity(struct ra_agent *agent)
{
	uint64_t words[2];
	char uuid[64];

	if (read_text(AT_FDCWD, "/sys/class/dmi/id/product_uuid", uuid, sizeof(uuid)) == 0 &&
	    strlen(uuid) == 36) {
		words[0] = hash_text(hash_text(2, uuid), agent->socket_path);
		words[1] = hash_text(hash_text(3, uuid), agent->socket_path);
		memcpy(agent->identity, words, 16);
		if (!identity_taken(agent, agent->identity))
			return;
	}
	random_identity(agent->identity);
}

/* ---- the region --------------------------------------------------------------------------------
 */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void no_region(struct ra_agent *agent, enum coloc_reason reason)
{
	shmt_region_unmap(&agent->region);
	close_fd(&agent->region_fd);
	close_fd(&agent->region_test_fd);
	agent->region_reason = reason;
	agent->guest.slot = SHMT_NO_GUEST;
	agent->guest.epoch = 0;
}

/* The best of some: one that is uncached is slow each time, one that was interrupted is not. */
static uint64_t measure(const struct ra_agent *agent)
{
	uint64_t best = 0, mbps;
	int i;

	for (i = 0; i < MEASUREMENTS && (i == 0 || best < agent->conf.region_min_read_mbps); i++) {
		mbps = shmt_region_read_mbps(&agent->region);
		best = mbps > best ? mbps : best;
	}
	return best;
}

/* -errno: said why in the log and in region_reason. */
static int map_region(struct ra_agent *agent)
{
	const char *path =
		agent->region_override ? agent->region_override : agent->conf.region_path;
	enum coloc_reason reason = COLOC_REASON_NO_REGION;
	int64_t bytes;
	int rc;

	snprintf(agent->region_path, sizeof(agent->region_path), "%.255s", path);
	agent->region_fd = shmt_region_open(path, agent->conf.region_size, "/sys/bus/pci/devices",
					    agent->region_path);
	if (agent->region_fd == -ENODEV) {
		ra_log(SD_NOTICE, "no ivshmem device: no stream between guests can be moved");
		no_region(agent, COLOC_REASON_NO_REGION);
		return -ENODEV;
	}
	if (agent->region_fd < 0) {
		rc = agent->region_fd;
		ra_log(SD_ERR, "region %s: %s", path, strerror(-rc));
		goto none;
	}
	agent->region_test_fd = open(agent->region_path, O_RDWR | O_CLOEXEC);
	bytes = shmt_region_fd_bytes(agent->region_fd);
	if (agent->region_test_fd < 0 || bytes < 0) {
		rc = bytes < 0 ? (int)bytes : -errno;
		ra_log(SD_ERR, "region %s: %s", agent->region_path, strerror(-rc));
		goto none;
	}
	rc = shmt_region_map(agent->region_fd, (uint64_t)bytes, 1, &agent->region, &reason);
	if (rc < 0) {
		ra_log(SD_ERR, "region %s, %" PRId64 " bytes: %s: %s", agent->region_path, bytes,
		       coloc_reason_text(reason), strerror(-rc));
		goto none;
	}
	agent->region_mbps = measure(agent);
	if (agent->region_mbps < agent->conf.region_min_read_mbps) {
		ra_log(SD_ERR,
		       "region %s reads at %" PRIu64
		       " MB/s, less than region.min_read_mbps = %" PRIu64
		       ": it is mapped uncached and not used",
		       agent->region_path, agent->region_mbps, agent->conf.region_min_read_mbps);
		reason = COLOC_REASON_REGION_SLOW;
		rc = -EIO;
		goto none;
	}
	return 0;

none:
	no_region(agent, reason);
	return rc;
}

/* Takes up the earlier life, or begins a new one. */
static int enter_region(struct ra_agent *agent, const struct life *life)
{
	int rc = -ESTALE;

	if (life && life->epoch && !memcmp(life->domain, agent->region.domain_id, 16)) {
		memcpy(agent->identity, life->identity, 16);
		rc = shmt_guest_register(&agent->region, agent->identity, agent->kernel_id,
					 agent->name, life->epoch, &agent->guest);
	}
	if (rc == -ESTALE) {
		/* Records with rings of a life that is over are void; without rings they go on. */
		if (life && life->epoch)
			agent->new_life = true;
		choose_identity(agent);
		rc = shmt_guest_register(&agent->region, agent->identity, agent->kernel_id,
					 agent->name, 0, &agent->guest);
	}
	if (rc == 0)
		agent->draining = SHMT_GUEST_STATE(shmt_load(
					  &agent->region.guests[agent->guest.slot].word)) ==
				  SHMT_GUEST_DRAINING;
	if (rc == 0)
		rc = shmt_guest_lock(agent->region_fd, agent->guest.slot);
	if (rc < 0) {
		ra_log(SD_ERR, "region %s: no place in its guest table: %s", agent->region_path,
		       strerror(-rc));
		no_region(agent, COLOC_REASON_NO_REGION);
	}
	return rc;
}

static void say_attached(const struct ra_agent *agent)
{
	ra_log(SD_INFO,
	       "region %s: %" PRIu64 " MiB, %" PRIu64 " MB/s; guest %u '%s', epoch %" PRIu64,
	       agent->region_path, agent->region.bytes >> 20, agent->region_mbps, agent->guest.slot,
	       agent->name, agent->guest.epoch);
}

void ra_attach(struct ra_agent *agent)
{
	const char *path =
		agent->region_override ? agent->region_override : agent->conf.region_path;
	struct life life;
	bool known;

	agent->removable = agent->conf.region_removable == RA_REMOVABLE_YES ||
			   (agent->conf.region_removable == RA_REMOVABLE_AUTO &&
			    (!strcmp(path, "auto") || !strncmp(path, "/sys/", 5)));
	find_names(agent);
	known = read_life(agent, &life) && !strcmp(life.boot_id, agent->boot_id);
	agent->new_life = !known;
	if (map_region(agent) == 0 && enter_region(agent, known ? &life : NULL) == 0)
		say_attached(agent);
	else if (known && life.epoch && life.away) {
		agent->away = agent->draining = true;
		return; /* until it comes back, as it would for the last agent */
	} else if (known && life.epoch)
		agent->new_life = true; /* its rings are out of reach */
	write_life(agent);
}

void ra_attach_leave(struct ra_agent *agent)
{
	agent->away = true;
	write_life(agent);
	/* Its descriptor stays: a file's lock says that this life goes on. */
	shmt_region_unmap(&agent->region);
	close_fd(&agent->region_test_fd);
	agent->guest = (struct shmt_guest){.slot = SHMT_NO_GUEST};
	agent->region_reason = COLOC_REASON_DRAINING;
	memset(agent->watch, 0, sizeof(agent->watch));
}

static bool same_file(int a, int b)
{
	struct stat of_a, of_b;

	return a >= 0 && fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 &&
	       of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

int ra_attach_again(struct ra_agent *agent, bool *ret_same_life)
{
	struct life life;
	const bool known = read_life(agent, &life) && life.epoch && life.away;
	int old_fd = agent->region_fd, rc;

	agent->region_fd = -1;
	rc = map_region(agent);
	if (rc < 0) {
		agent->region_fd = old_fd; /* for its lock */
		return rc;
	}
	if (same_file(old_fd, agent->region_fd)) {
		close_fd(&agent->region_fd);
		agent->region_fd = old_fd;
		old_fd = -1;
	}
	close_fd(&old_fd);
	rc = enter_region(agent, known ? &life : NULL);
	if (rc < 0)
		return rc;
	/* An epoch is new in its region alone: in another one it may be the same number. */
	*ret_same_life = known && life.epoch == agent->guest.epoch &&
			 !memcmp(life.domain, agent->region.domain_id, 16);
	agent->away = false;
	agent->region_reason = COLOC_REASON_NONE;
	write_life(agent);
	say_attached(agent);
	return 0;
}

void ra_detach(struct ra_agent *agent, bool forget)
{
	if (forget) {
		if (agent->region.base)
			shmt_guest_bury(&agent->region, agent->guest.slot, agent->guest.epoch);
		unlinkat(agent->folder_fd, "guest", 0);
	}
	no_region(agent, COLOC_REASON_NO_REGION);
	close_fd(&agent->guest_fd);
}
