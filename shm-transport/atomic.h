/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomic.h - the only place that knows how this project does atomic access
 *
 * Shared structures hold plain fixed-width fields, so that include/ needs nothing but libc; every
 * access to a field marked "atomic" goes through here. The orders are in the names; an operation
 * without one in its name is sequentially consistent, which on x86 costs nothing more for a CAS.
 */
#ifndef SHMT_ATOMIC_H
#define SHMT_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define shmt_load_relaxed(p)	 __atomic_load_n((p), __ATOMIC_RELAXED)
#define shmt_load_acquire(p)	 __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define shmt_load(p)		 __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define shmt_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define shmt_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define shmt_store(p, v)	 __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define shmt_add(p, v)		 __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define shmt_sub(p, v)		 __atomic_fetch_sub((p), (v), __ATOMIC_SEQ_CST)
#define shmt_or(p, v)		 __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define shmt_and(p, v)		 __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define shmt_add_relaxed(p, v)	 __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

/* shmt_cas() - *p from @was to @now; true when it did. Sequentially consistent. */
#define shmt_cas(p, was, now)                                                                \
	__extension__({                                                                      \
		__typeof__(*(p)) shmt_was_ = (was);                                          \
		__atomic_compare_exchange_n((p), &shmt_was_, (now), false, __ATOMIC_SEQ_CST, \
					    __ATOMIC_SEQ_CST);                               \
	})

/* shmt_count() - a statistic with one writer at a time: no locked instruction, no lost order. */
#define shmt_count(p, v) shmt_store_relaxed((p), shmt_load_relaxed(p) + (v))

/* shmt_bump() - the same by one; the new value. */
#define shmt_bump(p)                                                         \
	__extension__({                                                      \
		const __typeof__(*(p)) shmt_now_ = shmt_load_relaxed(p) + 1; \
		shmt_store_relaxed((p), shmt_now_);                          \
		shmt_now_;                                                   \
	})

/* shmt_pause() - in a spin: tells the processor so. */
static inline void shmt_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* shmt_own_soon() - a hint: take the line of *@p from other processors, which may name memory that
 * is not there. */
static inline void shmt_own_soon(const void *p)
{
#if defined(__x86_64__)
	/* The compiler takes it for an extension; a processor without it does nothing. */
	__asm__ volatile("prefetchw (%0)" : : "r"(p));
#else
	__builtin_prefetch(p, 1);
#endif
}

#endif
