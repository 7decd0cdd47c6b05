/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real.c - resolve the real calls; the only file that knows libdl
 *
 * Several threads, or a constructor of another library before ours, may come here at once: each
 * stores the same values, so nothing needs a lock.
 */
#include "real.h"

#include <dlfcn.h>

#include "atomic.h"

struct pl_real pl_real;
uint32_t pl_real_ready;

void pl_real_resolve(void)
{
	if (shmt_load_acquire(&pl_real_ready))
		return;
#define HOOK(name) pl_real.name = (__typeof__(pl_real.name))dlsym(RTLD_NEXT, #name);
#include "hooks.def"
#undef HOOK
	shmt_store_release(&pl_real_ready, 1);
}

void *pl_real_loaded(const char *soname, const char *name)
{
	void *library = dlopen(soname, RTLD_LAZY | RTLD_NOLOAD), *found;

	if (!library)
		return NULL;
	found = dlsym(library, name);
	dlclose(library); /* its own user keeps it */
	return found;
}
