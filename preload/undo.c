/* SPDX-License-Identifier: Apache-2.0 */
#include "undo.h"

#include <setjmp.h>

#include "hook.h"
#include "lock.h"
#include "switch.h"

#define DEPTH 16u /* calls in handlers in handlers ...; what is deeper is not undone */

static __thread struct {
	const void *what;
	enum pl_undo_kind kind;
	uint32_t attach;
} notes[DEPTH] __attribute__((tls_model("initial-exec")));
static __thread volatile uint32_t depth __attribute__((tls_model("initial-exec")));

void pl_undo_push(enum pl_undo_kind kind, const void *what)
{
	const uint32_t at = depth;

	if (at < DEPTH) {
		notes[at].what = what;
		notes[at].kind = kind;
		notes[at].attach = pl_gate_attach();
	}
	/* A handler that comes here uses the places above. */
	depth = at + 1;
}

void pl_undo_pop(void)
{
	depth = depth - 1;
}

void pl_undo_forked(void)
{
	depth = 0;
}

static void exit_rx(struct pl_stream *s, uint32_t attach)
{
	PL_IN_REGION;
	pl_rx_exit(s, attach, 0);
}

void pl_undo_all(void)
{
	while (depth) {
		const uint32_t at = depth - 1;
		void *what = at < DEPTH ? (void *)(uintptr_t)notes[at].what : NULL;

		depth = at;
		if (!what)
			continue;
		switch (notes[at].kind) {
		case PL_UNDO_COUNT:
			shmt_sub((uint32_t *)what, 1);
			break;
		case PL_UNDO_LOCK:
			pl_unlock(what, PL_LOCK_TAKEN);
			break;
		case PL_UNDO_RX:
			exit_rx(what, notes[at].attach);
			break;
		case PL_UNDO_PASS:
			pl_pass_leave(what);
			break;
		}
	}
	pl_rx_left();
	pl_gate_cut();
}

PL_EXPORT void longjmp(struct __jmp_buf_tag env[1], int value)
{
	pl_enter();
	pl_undo_all();
	pl_real.longjmp(env, value);
	__builtin_unreachable();
}

PL_EXPORT void _longjmp(struct __jmp_buf_tag env[1], int value)
{
	pl_enter();
	pl_undo_all();
	pl_real._longjmp(env, value);
	__builtin_unreachable();
}

PL_EXPORT void siglongjmp(sigjmp_buf env, int value)
{
	pl_enter();
	pl_undo_all();
	pl_real.siglongjmp(env, value);
	__builtin_unreachable();
}

PL_EXPORT void __longjmp_chk(struct __jmp_buf_tag env[1], int value)
{
	pl_enter();
	pl_undo_all();
	pl_real.__longjmp_chk(env, value);
	__builtin_unreachable();
}
