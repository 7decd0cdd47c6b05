/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.c - the four modes of one direction
 *
 * Invariants (checked by tests/model/, told in docs/protocol.md):
 *   I1 In mode TCP the ring is empty: tail is where the next ring run begins.
 *   I2 S opens before it sends the payload behind which it opens: whoever sleeps in the kernel is
 *      woken by that, and looks at the word before it sleeps again.
 *   I3 At most one ring run lies between bytes sent by TCP, so open_at says it all: R reads the
 *      kernel's bytes up to open_at, then the ring up to head, then the kernel's again.
 *   I4 Nobody closes the ring at its head while a receiver is in the kernel without a limit, or it
 *      could take what follows the ring run.
 *   I5 S opens only while at most one receiver is in the kernel, for it is sure to be woken. A
 * second one changes the word after it has raised in_kernel, S looks at in_kernel after the word.
 * Every change of the word is a sequentially consistent CAS; the labels at the atomics name pairs.
 */
#include "switch.h"

#include <errno.h>

bool shmt_tx_open(const struct shmt_dir *dir, uint64_t open_at)
{
	struct shmt_dir_shared *d = dir->shared;
	const uint32_t no = SHMT_DIR_REFUSED | SHMT_DIR_STOPPED | SHMT_DIR_CLOSED;
	uint64_t ctl, head;

	do {
		/* X3: the word first; whatever R changes after this makes the CAS fail. */
		ctl = shmt_load(&d->ctl);
		if (SHMT_CTL_MODE(ctl) != SHMT_TCP)
			return false;
		/* X8 */
		if ((shmt_load(&d->flags) & (no | SHMT_DIR_ATTACHED)) != SHMT_DIR_ATTACHED)
			return false;
		if (shmt_load(&d->in_kernel) > 1)
			return false;
		/* X1 acquire, pairs with X2: what R read before it went back to TCP is free. */
		head = shmt_load_acquire(&d->tail) & (UINT64_MAX >> 2);
		/* In mode TCP R does not look at it; before the CAS: who sees WAKING sees it. */
		shmt_store(&d->open_at, open_at);
	} while (!shmt_cas(&d->ctl, ctl, SHMT_CTL(head, SHMT_WAKING)));
	return true;
}

void shmt_tx_unopen(const struct shmt_dir *dir)
{
	uint64_t ctl;

	/* I4 is about order, and there is nothing in the ring. */
	do {
		ctl = shmt_load(&dir->shared->ctl);
	} while ((SHMT_CTL_MODE(ctl) == SHMT_WAKING || SHMT_CTL_MODE(ctl) == SHMT_RING) &&
		 !shmt_cas(&dir->shared->ctl, ctl, SHMT_CTL(SHMT_CTL_VALUE(ctl), SHMT_LEAVING)));
}

int64_t shmt_tx_space(const struct shmt_dir *dir, uint64_t ctl)
{
	/* X1 acquire, pairs with X2: bytes below tail are free. Read once: R is not trusted. */
	const uint64_t used = SHMT_CTL_VALUE(ctl) - shmt_load_acquire(&dir->shared->tail);

	return used > dir->ring.size ? -EPROTO : (int64_t)(dir->ring.size - used);
}

int64_t shmt_tx_room(struct shmt_dir *dir, uint64_t ctl, uint64_t want)
{
	uint64_t used = SHMT_CTL_VALUE(ctl) - shmt_load_relaxed(&dir->seen);

	if (used > dir->ring.size || dir->ring.size - used < want) {
		/* X1 */
		shmt_store_relaxed(&dir->seen, shmt_load_acquire(&dir->shared->tail));
		used = SHMT_CTL_VALUE(ctl) - shmt_load_relaxed(&dir->seen);
	}
	return used > dir->ring.size ? -EPROTO : (int64_t)(dir->ring.size - used);
}

bool shmt_tx_publish(const struct shmt_dir *dir, uint64_t ctl, size_t len)
{
	/* X4 release, pairs with X5: the bytes are there before the head covers them. */
	return shmt_cas(&dir->shared->ctl, ctl,
			SHMT_CTL(SHMT_CTL_VALUE(ctl) + len, SHMT_CTL_MODE(ctl)));
}

/* I4: a receiver that raised in_kernel saw mode TCP after that; none now means none with this run.
 */
static int leave(const struct shmt_dir *dir, uint64_t ctl)
{
	const enum shmt_mode mode = SHMT_CTL_MODE(ctl);

	if (mode == SHMT_TCP || mode == SHMT_LEAVING)
		return 0;
	/* X6 pairs with X7 */
	if (shmt_load(&dir->shared->in_kernel) != 0)
		return -EBUSY;
	return shmt_cas(&dir->shared->ctl, ctl, SHMT_CTL(SHMT_CTL_VALUE(ctl), SHMT_LEAVING))
		       ? 0
		       : -EAGAIN;
}

int shmt_tx_leave(const struct shmt_dir *dir, uint64_t ctl)
{
	return leave(dir, ctl);
}

int shmt_rx_push_out(const struct shmt_dir *dir, uint64_t ctl)
{
	return leave(dir, ctl);
}

/* Each sequence number is handed out once: a word that S looked at does not come back (no ABA). */
static uint64_t next_tcp(const struct shmt_dir *dir)
{
	return SHMT_CTL((shmt_add(&dir->shared->seq, 1) + 1) & (UINT64_MAX >> 2), SHMT_TCP);
}

/* Whatever S has looked at is no longer so: an opening that it is at starts over. */
static void change_word(const struct shmt_dir *dir)
{
	uint64_t ctl;

	do {
		ctl = shmt_load(&dir->shared->ctl);
	} while (SHMT_CTL_MODE(ctl) == SHMT_TCP &&
		 !shmt_cas(&dir->shared->ctl, ctl, next_tcp(dir)));
}

bool shmt_rx_enter(const struct shmt_dir *dir)
{
	/* X7 before the look at the word, pairs with X6; and before the change, pairs with X3 (I5).
	 */
	if (shmt_add(&dir->shared->in_kernel, 1) > 0)
		change_word(dir);
	if (SHMT_CTL_MODE(shmt_load(&dir->shared->ctl)) == SHMT_TCP)
		return true;
	shmt_sub(&dir->shared->in_kernel, 1);
	return false;
}

void shmt_rx_exit(const struct shmt_dir *dir, size_t took)
{
	/* X9: before in_kernel goes down. */
	if (took)
		shmt_add(&dir->shared->tcp_read, took);
	shmt_sub(&dir->shared->in_kernel, 1);
}

void shmt_rx_took(const struct shmt_dir *dir, size_t took)
{
	shmt_add(&dir->shared->tcp_read, took);
}

uint64_t shmt_rx_missing(const struct shmt_dir *dir)
{
	const uint64_t tcp_read = shmt_load(&dir->shared->tcp_read);
	const uint64_t open_at = shmt_load(&dir->shared->open_at);

	return tcp_read < open_at ? open_at - tcp_read : 0;
}

void shmt_rx_attach(const struct shmt_dir *dir, uint64_t tcp_read)
{
	shmt_store(&dir->shared->tcp_read, tcp_read);
	change_word(dir);
	shmt_or(&dir->shared->flags, SHMT_DIR_ATTACHED);
}

void shmt_rx_refuse(const struct shmt_dir *dir)
{
	/* The flag before the change, pairs with X8 after X3. */
	shmt_or(&dir->shared->flags, SHMT_DIR_REFUSED);
	change_word(dir);
}

void shmt_tx_stop(const struct shmt_dir *dir)
{
	/* As X8: numbers are handed out atomically, so S's side may take one as well. */
	shmt_or(&dir->shared->flags, SHMT_DIR_STOPPED);
	change_word(dir);
}

void shmt_rx_answer(const struct shmt_dir *dir, uint64_t ctl)
{
	/* S may publish meanwhile (the head moves) or leave; both make the caller look again. */
	if (SHMT_CTL_MODE(ctl) == SHMT_WAKING)
		(void)shmt_cas(&dir->shared->ctl, ctl, SHMT_CTL(SHMT_CTL_VALUE(ctl), SHMT_RING));
}

int64_t shmt_rx_avail(const struct shmt_dir *dir, uint64_t ctl, uint64_t tail)
{
	const uint64_t used = SHMT_CTL_VALUE(ctl) - tail;

	return used > dir->ring.size ? -EPROTO : (int64_t)used;
}

void shmt_rx_seen(struct shmt_dir *dir, uint64_t ctl)
{
	shmt_store_relaxed(&dir->seen, SHMT_CTL_VALUE(ctl));
}

uint64_t shmt_rx_ahead(const struct shmt_dir *dir, uint64_t tail)
{
	/* Of a tail that was moved back, or is past it: nothing, and the word has to be looked at.
	 */
	const uint64_t ahead = shmt_load_relaxed(&dir->seen) - tail;

	return ahead <= dir->ring.size ? ahead : 0;
}

bool shmt_rx_consume(const struct shmt_dir *dir, uint64_t tail, size_t len)
{
	/* X2 release, pairs with X1: the bytes have been copied out. */
	return shmt_cas(&dir->shared->tail, tail, tail + len);
}

bool shmt_rx_settle(const struct shmt_dir *dir, uint64_t ctl)
{
	return shmt_cas(&dir->shared->ctl, ctl, next_tcp(dir));
}

void shmt_rx_stashed(const struct shmt_dir *dir, uint64_t tail, uint64_t bytes)
{
	const uint64_t ctl = shmt_load(&dir->shared->ctl);

	if (SHMT_CTL_MODE(ctl) != SHMT_LEAVING || SHMT_CTL_VALUE(ctl) != tail + bytes)
		return;
	(void)shmt_rx_consume(dir, tail, bytes);
	(void)shmt_rx_settle(dir, ctl);
}
