/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"
#include "clock.h"
#include "real.h"

#define SPINS	     200
#define ASK_AFTER_NS 2000000u /* a holder copies at most a ring: far less */

static __thread uint64_t self __attribute__((tls_model("initial-exec")));

static uint64_t me(void)
{
	if (PL_UNLIKELY(!self))
		self = (uint64_t)(uint32_t)getpid() << 32 | (uint32_t)gettid();
	return self;
}

void pl_lock_forked(void)
{
	self = 0;
}

enum pl_lock_result pl_lock_try(uint64_t *lock)
{
	const uint64_t mine = me();

	if (shmt_cas(lock, 0, mine))
		return PL_LOCK_TAKEN;
	return shmt_load(lock) == mine ? PL_LOCK_NESTED : PL_LOCK_BUSY;
}

/* A holder in another PID namespace may look dead; only processes that share by fork meet here. */
static bool take_over(uint64_t *lock)
{
	const uint64_t holder = shmt_load(lock);
	const int saved = errno;
	bool dead;

	if (!holder)
		return false;
	/* raw: tgkill is not a name that we hook, syscall() is */
	dead = tgkill((pid_t)(holder >> 32), (pid_t)(uint32_t)holder, 0) < 0 && errno == ESRCH;
	errno = saved;
	return dead && shmt_cas(lock, holder, me());
}

enum pl_lock_result pl_lock(uint64_t *lock)
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

void pl_unlock(uint64_t *lock, enum pl_lock_result result)
{
	if (result == PL_LOCK_TAKEN)
		shmt_store_release(lock, 0);
}
