/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.h - the sign by which a system call that came through a hook is known
 *
 * It stands in the upper half of a register whose lower half is an int for the kernel, which does
 * not look at the rest: the first argument, or the second one of poll and ppoll (their first is a
 * pointer). No program puts it there by itself, and every call sets these registers anew.
 */
#ifndef MARK_H
#define MARK_H

#define MARK	     0xb1a5ed0fu
#define MARKED(word) ((long)(unsigned int)(word) | (long)((unsigned long)MARK << 32))

static inline long mark_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return rc;
}

#endif
