/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Pages that were found good, of all threads: words of {number of a chunk of 16 pages:48, bit of
 * each page:16}. What was good is believed to stay so, but not for ever: after so many looks all
 * are looked at anew.
 */
#define CHUNKS	   1024u
#define LOOKS_MOST 4096u

struct good {
	uint64_t chunks[CHUNKS]; /* relaxed */
};

static struct good good[2];
static __thread uint32_t looks __attribute__((tls_model("initial-exec")));

static uint64_t *chunk_of(struct good *known, uintptr_t chunk)
{
	return &known->chunks[chunk % CHUNKS];
}

/* The bits of pages [@first, @last] that lie in @chunk. */
static uint64_t bits_of(uintptr_t chunk, uintptr_t first, uintptr_t last)
{
	const unsigned int from = first / 16 == chunk ? first % 16 : 0;
	const unsigned int to = last / 16 == chunk ? last % 16 : 15;

	return (2ull << to) - (1ull << from);
}

static bool all_known(struct good *known, uintptr_t first, uintptr_t last)
{
	uintptr_t chunk;

	for (chunk = first / 16; chunk <= last / 16; chunk++) {
		const uint64_t word = shmt_load_relaxed(chunk_of(known, chunk));

		if (word >> 16 != chunk || (bits_of(chunk, first, last) & ~word))
			return false;
	}
	return true;
}

static void learn(struct good *known, uintptr_t first, uintptr_t last)
{
	uintptr_t chunk;

	for (chunk = first / 16; chunk <= last / 16; chunk++) {
		uint64_t *at = chunk_of(known, chunk);
		const uint64_t word = shmt_load_relaxed(at);

		shmt_store_relaxed(at, chunk << 16 | (word >> 16 == chunk ? word & 0xffff : 0) |
					       bits_of(chunk, first, last));
	}
}

static bool usable(const void *p, size_t len, int advice, struct good *known)
{
	const uintptr_t first = (uintptr_t)p / SHMT_PAGE;
	const uintptr_t last = ((uintptr_t)p + len - 1) / SHMT_PAGE;
	const bool believed = len && all_known(known, first, last);
	const int saved = errno;
	bool ok = true;

	if (!len || (believed && ++looks % LOOKS_MOST))
		return true;
	/* A kernel that cannot tell says EINVAL, as it does of a mapping without the right. */
	if (madvise((void *)(first * SHMT_PAGE), (last - first + 1) * SHMT_PAGE, advice) < 0)
		ok = errno == EINVAL && madvise(pl.canary, SHMT_PAGE, advice) < 0;
	errno = saved;
	/* Not at what is merely new: that does not count, and would find all forgotten each time.
	 */
	if (believed)
		memset(known->chunks, 0, sizeof(known->chunks));
	if (ok)
		learn(known, first, last);
	return ok;
}

/* Of a range within one chunk a look at one word says it, most of the time. */
static inline bool quickly(const void *p, size_t len, struct good *known)
{
	const uintptr_t first = (uintptr_t)p / SHMT_PAGE;
	const uintptr_t last = ((uintptr_t)p + len - 1) / SHMT_PAGE;
	const uintptr_t chunk = first / 16;
	const uint64_t word = shmt_load_relaxed(chunk_of(known, chunk));

	return len && last / 16 == chunk && word >> 16 == chunk &&
	       !(((2ull << last % 16) - (1ull << first % 16)) & ~word) &&
	       (looks + 1) % LOOKS_MOST && ++looks;
}

bool pl_readable(const void *p, size_t len)
{
	return PL_LIKELY(quickly(p, len, &good[0])) ||
	       usable(p, len, 22 /* MADV_POPULATE_READ */, &good[0]);
}

bool pl_writable(const void *p, size_t len)
{
	return PL_LIKELY(quickly(p, len, &good[1])) ||
	       usable(p, len, 23 /* MADV_POPULATE_WRITE */, &good[1]);
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

size_t pl_vec_slice_slow(const struct pl_vec *v, size_t off, size_t len, struct iovec *out,
			 size_t max)
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
