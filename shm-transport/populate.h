/* SPDX-License-Identifier: Apache-2.0 */
/*
 * populate.h - put pages behind a part of a mapping before anybody can meet SIGBUS there
 */
#ifndef SHMT_POPULATE_H
#define SHMT_POPULATE_H

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/**
 * shmt_populate() - @at and @bytes lie on pages. Contents are kept. Blocks while pages are found.
 * Return: 0, also where the kernel cannot tell (device memory, an old kernel); -ENOMEM: no memory
 * can be had
 */
static inline int shmt_populate(void *at, uint64_t bytes)
{
	int rc;

	do {
		rc = madvise(at, bytes, MADV_POPULATE_WRITE);
	} while (rc < 0 && (errno == EINTR || errno == EAGAIN));
	return rc < 0 && errno != EINVAL ? -ENOMEM : 0;
}

#endif
