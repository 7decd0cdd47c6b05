/* SPDX-License-Identifier: Apache-2.0 */
#include "fdtable.h"

#include <stddef.h>
#include <sys/mman.h>

uint64_t *pl_fdtable;
uint32_t pl_fdtable_top;

int pl_fdtable_init(void)
{
	/* Touched pages alone cost memory. */
	void *table = mmap(NULL, PL_FD_MAX * sizeof(*pl_fdtable), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return -1;
	pl_fdtable = table;
	return 0;
}

bool pl_fd_set(int fd, uint64_t was, uint64_t entry)
{
	uint32_t top;

	if ((unsigned int)fd >= PL_FD_MAX)
		return false;
	do {
		top = shmt_load(&pl_fdtable_top);
	} while (top <= (uint32_t)fd && !shmt_cas(&pl_fdtable_top, top, (uint32_t)fd + 1));
	return shmt_cas(&pl_fdtable[fd], was, entry);
}
