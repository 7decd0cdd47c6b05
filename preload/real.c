/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.c - resolve the real calls; the only file that knows libdl
 *
 * Several threads, or a constructor of another library before ours, may come here at once: each
 * stores the same values, so nothing needs a lock. One may come from inside malloc() (jemalloc
 * opens a file on its first call): a look-up that fails allocates its message, so only what libc
 * has is looked up here, and other libraries' names when they are called.
 */
#include "real.h"

#include <dlfcn.h>
#include <string.h>

#include "atomic.h"

#define URING "io_uring_" /* liburing's names begin so */

struct pl_real pl_real;
uint32_t pl_real_ready;

void pl_real_resolve(void)
{
	if (shmt_load_acquire(&pl_real_ready))
		return;
#define HOOK(name)                                \
	if (strncmp(#name, URING, strlen(URING))) \
		pl_real.name = (__typeof__(pl_real.name))dlsym(RTLD_NEXT, #name);
#include "hooks.def"
#undef HOOK
	shmt_store_release(&pl_real_ready, 1);
}

void *pl_real_loaded(const char *soname, const char *name)
{
	void *found = dlsym(RTLD_NEXT, name), *library;

	if (found)
		return found;
	library = dlopen(soname, RTLD_LAZY | RTLD_NOLOAD);
	if (!library)
		return NULL;
	found = dlsym(library, name);
	dlclose(library); /* its own user keeps it */
	return found;
}
