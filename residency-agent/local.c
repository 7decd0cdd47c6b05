/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.c - the memory that the agent shares with the processes of one user
 *
 * A file "records.<uid>" beside the socket, so that the agent which comes after this one finds the
 * streams again. It is sparse; only the header has memory from the start. Its users hold a
 * descriptor that they may write and could truncate: the agent's SIGBUS handler then puts blank
 * memory in the place of the mapping, and that user's processes are cut off. Nobody else notices.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define PREFIX "records."

static uint64_t records_off(void)
{
	return (sizeof(struct coloc_local_shared) + SHMT_PAGE - 1) & ~(uint64_t)(SHMT_PAGE - 1);
}

/* Header, records, stash. */
static uint64_t stash_off(uint64_t record_count)
{
	return (records_off() + record_count * sizeof(struct coloc_record_shared) + SHMT_PAGE - 1) &
	       ~(uint64_t)(SHMT_PAGE - 1);
}

static uint64_t file_bytes(uint64_t record_count)
{
	return stash_off(record_count) + RA_STASH_UNITS * (uint64_t)SHMT_RING_MIN_BYTES;
}

static void file_name(char *name, size_t size, uid_t uid)
{
	snprintf(name, size, PREFIX "%u", (unsigned int)uid);
}

/* ---- the header --------------------------------------------------------------------------------
 */

static void publish_rules(const struct ra_conf *conf, struct coloc_local_shared *shared)
{
	uint32_t i;

	/* Odd: being written. L1 release pairs with the shim's look at the version after its reads.
	 */
	shmt_store(&shared->rules_version, shmt_load_relaxed(&shared->rules_version) | 1);
	shmt_store_relaxed(&shared->rule_count, conf->rule_count);
	shmt_store_relaxed(&shared->rules_default, conf->rules_default);
	for (i = 0; i < conf->rule_count; i++) {
		memcpy(shared->rules[i].addr, conf->rules[i].addr, 16);
		shared->rules[i].bits = conf->rules[i].bits;
		shared->rules[i].allow = conf->rules[i].allow;
	}
	shmt_store(&shared->rules_version, shmt_load_relaxed(&shared->rules_version) + 1);
}

static void publish(const struct ra_agent *agent, struct ra_user *user)
{
	struct coloc_local_shared *shared = user->shared;

#define SETTING(section, key, def, min, max, text) \
	shmt_store_relaxed(&shared->settings.section##_##key, agent->conf.shim.section##_##key);
	COLOC_SHIM_SETTINGS(SETTING)
#undef SETTING
	shmt_store_relaxed(&shared->loopback, agent->conf.residency_loopback);
	shmt_store_relaxed(&shared->region_reason, agent->region_reason);
	shmt_store_relaxed(&shared->guest_epoch, agent->guest.epoch);
	shmt_store_relaxed(&shared->guest, agent->guest.slot);
	shmt_store(&shared->draining, agent->draining);
	shared->kernel_id = agent->kernel_id;
	publish_rules(&agent->conf, shared);
}

void ra_local_publish(struct ra_agent *agent)
{
	struct ra_user *user;

	for (user = agent->users; user; user = user->next)
		publish(agent, user);
}

static void format(const struct ra_agent *agent, struct ra_user *user)
{
	struct coloc_local_shared *shared = user->shared;

	shared->version = COLOC_LOCAL_VERSION;
	shared->header_bytes = sizeof(*shared);
	shared->bytes = user->bytes;
	shared->records_off = records_off();
	shared->stash_off = stash_off(user->record_count);
	shared->stash_bytes = user->bytes - shared->stash_off;
	shared->record_count = user->record_count;
	shared->record_bytes = sizeof(struct coloc_record_shared);
	shared->uid = user->uid;
	shared->region_removable = agent->removable;
}

/* An earlier agent's: of this build, and as long as it says? */
static bool is_sane(const struct ra_agent *agent, const struct coloc_local_shared *shared,
		    uint64_t bytes, uid_t uid)
{
	const uint64_t count = shared->record_count;

	return shmt_load_acquire(&shared->magic) == COLOC_LOCAL_MAGIC &&
	       shared->version == COLOC_LOCAL_VERSION && shared->header_bytes == sizeof(*shared) &&
	       shared->record_bytes == sizeof(struct coloc_record_shared) && shared->uid == uid &&
	       count >= COLOC_RECORD_WINDOW && count <= 262144 && (count & (count - 1)) == 0 &&
	       shared->region_removable == agent->removable &&
	       shared->records_off == records_off() && shared->stash_off == stash_off(count) &&
	       shared->bytes == bytes && file_bytes(count) == bytes;
}

/* ---- users -------------------------------------------------------------------------------------
 */

static void unmap(struct ra_user *user)
{
	if (user->shared)
		munmap(user->shared, user->bytes);
	if (user->fd >= 0)
		close(user->fd);
	free(user->notes);
	free(user);
}

static struct ra_user *map(uid_t uid, int fd, uint64_t bytes)
{
	struct ra_user *user = calloc(1, sizeof(*user));
	void *at = MAP_FAILED;

	if (user)
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		free(user);
		return NULL;
	}
	user->uid = uid;
	user->fd = fd;
	user->bytes = bytes;
	user->shared = at;
	return user;
}

static int take_in(struct ra_agent *agent, struct ra_user *user, uint32_t record_count)
{
	uint32_t i;

	user->record_count = record_count;
	user->records = (struct coloc_record_shared *)((uint8_t *)user->shared + records_off());
	user->notes = calloc(record_count, sizeof(*user->notes));
	if (!user->notes)
		return -ENOMEM;
	for (i = 0; i < record_count; i++)
		user->notes[i].seg = RA_NONE;
	user->next = agent->users;
	agent->users = user;
	return 0;
}

static struct ra_user *create(struct ra_agent *agent, uid_t uid)
{
	const uint32_t count = (uint32_t)agent->conf.access_max_streams;
	struct ra_user *user;
	char name[32];
	int fd, rc;

	file_name(name, sizeof(name), uid);
	unlinkat(agent->folder_fd, name, 0);
	fd = openat(agent->folder_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	rc = -errno;
	if (fd < 0)
		goto fail;
	if (ftruncate(fd, (off_t)file_bytes(count)) < 0 ||
	    (fallocate(fd, 0, 0, (off_t)records_off()) < 0 && errno != EOPNOTSUPP)) {
		rc = -errno;
		close(fd);
		goto fail;
	}
	rc = -ENOMEM;
	user = map(uid, fd, file_bytes(count));
	if (!user) {
		close(fd);
		goto fail;
	}
	if (take_in(agent, user, count) < 0) {
		unmap(user);
		goto fail;
	}
	format(agent, user);
	ra_removal_number(agent, user);
	publish(agent, user);
	user->shared->agent_starts = 1;
	shmt_store_relaxed(&user->shared->heartbeat, agent->heartbeat);
	shmt_store_release(&user->shared->magic, COLOC_LOCAL_MAGIC);
	return user;

fail:
	ra_log(SD_ERR, "%s/%s: %s", agent->folder, name, strerror(-rc));
	return NULL;
}

struct ra_user *ra_user_get(struct ra_agent *agent, uid_t uid)
{
	struct ra_user *user;

	for (user = agent->users; user; user = user->next)
		if (user->uid == uid)
			return user;
	return create(agent, uid);
}

void ra_local_beat(struct ra_agent *agent)
{
	struct ra_user *user;

	for (user = agent->users; user; user = user->next)
		shmt_store_release(&user->shared->heartbeat, agent->heartbeat);
}

/* ---- after a restart ---------------------------------------------------------------------------
 */

/*
 * What the last agent had promised and not done is asked for anew by the shim; process slots are
 * given out anew too, so no bit means anything until its process says HELLO again.
 */
static void restore_record(struct ra_agent *agent, struct ra_user *user, uint32_t index)
{
	struct coloc_record_shared *record = &user->records[index];
	struct ra_note *note = &user->notes[index];
	const uint32_t grant = shmt_load_acquire(&record->grant);
	uint32_t i;

	for (i = 0; i < COLOC_PROCS_MAX / 64; i++)
		shmt_store(&record->procs[i], 0);
	note->generation = shmt_load(&record->generation);
	if (grant == COLOC_GRANT_WANTED || grant == COLOC_GRANT_OFFERED) {
		(void)shmt_cas(&record->grant, grant, COLOC_GRANT_IDLE);
		shmt_store_relaxed(&record->not_before, 0);
	} else if (grant >= COLOC_GRANT_GRANTED) {
		note->seg = record->seg;
		note->seg_generation = record->seg_generation;
		note->side = record->side & 1;
		if (!ra_record_seg(agent, note))
			note->seg = RA_NONE;
	}
}

static void restore(struct ra_agent *agent, const char *name)
{
	struct ra_user *user = NULL;
	uint32_t index, count = 0;
	unsigned int uid;
	struct stat st;
	int fd, end;

	if (sscanf(name, PREFIX "%u%n", &uid, &end) != 1 || name[end])
		return;
	if (agent->new_life) {
		unlinkat(agent->folder_fd, name, 0);
		return;
	}
	fd = openat(agent->folder_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	    (uint64_t)st.st_size >= file_bytes(COLOC_RECORD_WINDOW))
		user = map(uid, fd, (uint64_t)st.st_size);
	if (!user) {
		close(fd);
		return;
	}
	if (!is_sane(agent, user->shared, user->bytes, uid) ||
	    take_in(agent, user, user->shared->record_count) < 0) {
		ra_log(SD_WARNING, "%s/%s: not of this version, made anew", agent->folder, name);
		unmap(user);
		unlinkat(agent->folder_fd, name, 0);
		return;
	}
	if (agent->heartbeat < shmt_load_relaxed(&user->shared->heartbeat))
		agent->heartbeat = shmt_load_relaxed(&user->shared->heartbeat);
	agent->draining = agent->draining || shmt_load(&user->shared->draining);
	ra_for_each_used(user, index)
	{
		restore_record(agent, user, index);
		count++;
	}
	ra_log(SD_INFO, "%s/%s: %u streams go on", agent->folder, name, count);
}

/* ---- a mapping that was cut short --------------------------------------------------------------
 */

static struct ra_agent *guarded;
static volatile sig_atomic_t damaged;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	const uint8_t *at = info->si_addr;
	struct ra_user *user;

	(void)context;
	for (user = guarded->users; user; user = user->next) {
		if (at < (uint8_t *)user->shared || at >= (uint8_t *)user->shared + user->bytes)
			continue;
		if (mmap(user->shared, user->bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			break;
		damaged = 1;
		return;
	}
	signal(number, SIG_DFL); /* not ours to mend: the access is repeated and ends us */
}

static void cut_off(struct ra_agent *agent, struct ra_proc *proc)
{
	struct ra_conn *conn = proc ? proc->conn : NULL;

	if (proc)
		ra_proc_free(agent, proc);
	if (conn)
		ra_conn_drop(agent, conn, NULL);
}

void ra_local_mend(struct ra_agent *agent)
{
	struct ra_user **at = &agent->users, *user;
	char name[32];
	uint32_t i;

	if (!damaged)
		return;
	damaged = 0;
	while ((user = *at)) {
		if (shmt_load(&user->shared->magic) == COLOC_LOCAL_MAGIC) {
			at = &user->next;
			continue;
		}
		ra_log(SD_ERR, "the memory of user %u was truncated: its processes are cut off",
		       (unsigned int)user->uid);
		ra_wait_drop_user(agent, user);
		for (i = 0; i < COLOC_PROCS_MAX; i++)
			cut_off(agent, user->procs[i]);
		ra_diag_forget(user);
		file_name(name, sizeof(name), user->uid);
		unlinkat(agent->folder_fd, name, 0);
		*at = user->next;
		unmap(user);
	}
}

/* ---- begin and end -----------------------------------------------------------------------------
 */

/* Processes that died while no agent ran; those that live go on counting where they do. */
static void forget_dead(struct ra_user *user)
{
	struct ra_proc proc = {.user = user};

	for (proc.slot = 0; proc.slot < COLOC_PROCS_MAX; proc.slot++) {
		const pid_t pid = (pid_t)user->shared->gates[proc.slot].line[0].pid;

		if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
			ra_removal_forget(&proc);
	}
}

void ra_local_start(struct ra_agent *agent)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	struct dirent *entry;
	struct ra_user *user;
	DIR *folder;

	guarded = agent;
	sigaction(SIGBUS, &action, NULL);
	folder = opendir(agent->folder);
	while (folder && (entry = readdir(folder)))
		if (!strncmp(entry->d_name, PREFIX, strlen(PREFIX)))
			restore(agent, entry->d_name);
	if (folder)
		closedir(folder);
	for (user = agent->users; user; user = user->next) {
		forget_dead(user);
		ra_stash_restore(user);
		if (!agent->draining)
			ra_removal_number(agent, user);
	}
	ra_local_publish(agent);
	/* Processes see by this that they have to say HELLO again; the rest is ready for them. */
	for (user = agent->users; user; user = user->next)
		shmt_add(&user->shared->agent_starts, 1);
}

void ra_local_stop(struct ra_agent *agent, bool forget)
{
	struct ra_user *user;
	char name[32];
	uint32_t i;

	while ((user = agent->users)) {
		agent->users = user->next;
		for (i = 0; i < COLOC_PROCS_MAX; i++)
			cut_off(agent, user->procs[i]);
		file_name(name, sizeof(name), user->uid);
		if (forget)
			unlinkat(agent->folder_fd, name, 0);
		ra_diag_forget(user);
		unmap(user);
	}
}
