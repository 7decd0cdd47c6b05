/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "real.h"
#include "record_layout.h"

#define SPINS	     200
#define ASK_AFTER_NS 2000000u /* a holder copies at most a ring: far less */

#define NUMBER(word, shift) ((pid_t)((word) >> (shift)&0x3fffff))

__thread uint64_t pl_lock_self __attribute__((tls_model("initial-exec")));
static uint64_t pid_ns; /* 0 = not looked for, or not to be seen */

static uint64_t me(void)
{
	if (PL_UNLIKELY(!pl_lock_self)) {
		const int saved = errno;
		struct stat st;

		if (!shmt_load_relaxed(&pid_ns) && stat("/proc/self/ns/pid", &st) == 0)
			shmt_store_relaxed(&pid_ns, st.st_ino);
		errno = saved;
		pl_lock_self = coloc_lock_word(shmt_load_relaxed(&pid_ns), (uint32_t)getpid(),
					       (uint32_t)gettid());
	}
	return pl_lock_self;
}

void pl_lock_forked(void)
{
	pl_lock_self = 0;
	pid_ns = 0;
}

uint64_t pl_lock_process(void)
{
	return me() & ~(uint64_t)0x3fffff;
}

bool pl_lock_gone(uint64_t process)
{
	struct pollfd p = {.events = POLLIN};
	const int saved = errno;
	bool gone = false;

	if (process >> 44 == me() >> 44) {
		p.fd = (int)pl_real.syscall(SYS_pidfd_open, NUMBER(process, 22), 0);
		/* One that nobody has waited for yet has ended, too. */
		gone = p.fd < 0 ? errno == ESRCH : pl_real.poll(&p, 1, 0) == 1;
		if (p.fd >= 0)
			pl_real.close(p.fd);
	}
	errno = saved;
	return gone;
}

enum pl_lock_result pl_lock_try(uint64_t *lock)
{
	const uint64_t mine = me();

	if (shmt_cas(lock, 0, mine))
		return PL_LOCK_TAKEN;
	return shmt_load(lock) == mine ? PL_LOCK_NESTED : PL_LOCK_BUSY;
}

/* Nothing can be said of a holder in another PID namespace: it is waited for. */
static bool take_over(uint64_t *lock)
{
	const uint64_t holder = shmt_load(lock);
	const int saved = errno;
	bool dead;

	if (!holder || holder >> 44 != me() >> 44)
		return false;
	/* raw: tgkill is not a name that we hook, syscall() is */
	dead = tgkill(NUMBER(holder, 22), NUMBER(holder, 0), 0) < 0 && errno == ESRCH;
	errno = saved;
	return dead && shmt_cas(lock, holder, me());
}

enum pl_lock_result pl_lock_slow(uint64_t *lock)
{
	enum pl_lock_result result = pl_lock_try(lock);
	uint64_t since = 0;
	int i;

	for (i = 0; result == PL_LOCK_BUSY; i++) {
		if (i < SPINS) {
			shmt_pause();
		} else {
			const uint64_t now = pl_now_ns();

			if (!since)
				since = now;
			if (now - since > ASK_AFTER_NS) {
				since = now;
				if (take_over(lock))
					return PL_LOCK_TAKEN;
			}
			sched_yield();
		}
		result = pl_lock_try(lock);
	}
	return result;
}
