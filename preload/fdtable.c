/* SPDX-License-Identifier: Apache-2.0 */
#include "fdtable.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "pass.h"

struct pl_fd *pl_fdtable;
uint32_t pl_fdtable_top;

/* From now on two processes may use them, and each may put them on a ring out of the other's sight.
 */
static void before_fork(void)
{
	const uint32_t top = shmt_load(&pl_fdtable_top);
	uint32_t fd;

	for (fd = 0; fd < top; fd++)
		if (PL_ENTRY_KIND(shmt_load_relaxed(&pl_fdtable[fd].entry)) == PL_NEW)
			pl_pass_shared((int)fd);
}

int pl_fdtable_init(void)
{
	/* Touched pages alone cost memory. */
	void *table = mmap(NULL, PL_FD_MAX * sizeof(*pl_fdtable), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return -1;
	pl_fdtable = table;
	return pthread_atfork(before_fork, NULL, NULL) ? -1 : 0;
}

void pl_fdtable_reach(int fd)
{
	uint32_t top;

	do {
		top = shmt_load(&pl_fdtable_top);
	} while (top <= (uint32_t)fd && !shmt_cas(&pl_fdtable_top, top, (uint32_t)fd + 1));
}

bool pl_fd_set(int fd, uint64_t was, uint64_t entry)
{
	if ((unsigned int)fd >= PL_FD_MAX)
		return false;
	pl_fdtable_reach(fd);
	return shmt_cas(&pl_fdtable[fd].entry, was, entry);
}

bool pl_fd_note(int fd, enum pl_kind kind, uint32_t flags)
{
	uint64_t entry, now;

	do {
		entry = pl_fd_entry(fd);
		if (PL_ENTRY_KIND(entry) != PL_NEW && PL_ENTRY_KIND(entry) != PL_UNKNOWN)
			return false;
		if (PL_ENTRY_KIND(entry) == PL_UNKNOWN)
			kind = PL_UNKNOWN; /* it may be on a ring */
		now = PL_ENTRY(kind, PL_ENTRY_GENERATION(entry) + 1, PL_ENTRY_INDEX(entry) | flags);
	} while (!pl_fd_set(fd, entry, now));
	return true;
}
