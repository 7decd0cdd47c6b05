/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>

/* The last good range of each 16th of the address space, per thread, in pages: [first, last]. */
#define RANGES 16

struct range {
	uintptr_t first, last;
};

static __thread struct range good[2][RANGES] __attribute__((tls_model("initial-exec")));

static bool usable(const void *p, size_t len, int advice, struct range *ranges)
{
	const uintptr_t first = (uintptr_t)p / SHMT_PAGE;
	const uintptr_t last = ((uintptr_t)p + len - 1) / SHMT_PAGE;
	struct range *range = &ranges[first / 16 % RANGES];
	const int saved = errno;
	bool ok = true;

	if (!len || (first >= range->first && last <= range->last))
		return true;
	/* A kernel that cannot tell says EINVAL, as it does of a mapping without the right. */
	if (madvise((void *)(first * SHMT_PAGE), (last - first + 1) * SHMT_PAGE, advice) < 0)
		ok = errno == EINVAL && madvise(pl.canary, SHMT_PAGE, advice) < 0;
	errno = saved;
	if (ok) {
		range->first = first;
		range->last = last;
	}
	return ok;
}

bool pl_readable(const void *p, size_t len)
{
	return usable(p, len, 22 /* MADV_POPULATE_READ */, good[0]);
}

bool pl_writable(const void *p, size_t len)
{
	return usable(p, len, 23 /* MADV_POPULATE_WRITE */, good[1]);
}

bool pl_vec_init(struct pl_vec *v, const struct iovec *iov, size_t n, int flags)
{
	size_t i;

	v->iov = iov;
	v->n = n;
	v->total = 0;
	if (n > IOV_MAX || !pl_readable(iov, n * sizeof(*iov)))
		return false;
	for (i = 0; i < n; i++) {
		/* The first page is never mapped: the kernel would answer EFAULT. */
		if (!(flags & MSG_TRUNC) && iov[i].iov_len &&
		    (uintptr_t)iov[i].iov_base < SHMT_PAGE)
			return false;
		if (iov[i].iov_len > (size_t)SSIZE_MAX - v->total)
			return false;
		v->total += iov[i].iov_len;
	}
	return true;
}

size_t pl_vec_slice(const struct pl_vec *v, size_t off, size_t len, struct iovec *out, size_t max)
{
	size_t i, n = 0;

	for (i = 0; i < v->n && len && n < max; i++) {
		size_t here = v->iov[i].iov_len;

		if (off >= here) {
			off -= here;
			continue;
		}
		here -= off;
		if (here > len)
			here = len;
		out[n].iov_base = (char *)v->iov[i].iov_base + off;
		out[n++].iov_len = here;
		len -= here;
		off = 0;
	}
	return n;
}
