/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include <limits.h>

bool pl_vec_init(struct pl_vec *v, const struct iovec *iov, size_t n)
{
	size_t i;

	v->iov = iov;
	v->n = n;
	v->total = 0;
	if (n > IOV_MAX)
		return false;
	for (i = 0; i < n; i++) {
		/* The first page is never mapped: the kernel would answer EFAULT. */
		if (iov[i].iov_len && (uintptr_t)iov[i].iov_base < SHMT_PAGE)
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
