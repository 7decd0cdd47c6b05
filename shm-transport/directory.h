/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory.h - who shares this region, and which addresses are whose
 *
 * Writers are agents. shmt_directory_find() is for the data path of any process: it takes no lock,
 * makes no system call, and its cost does not depend on the number of guests or addresses.
 */
#ifndef SHMT_DIRECTORY_H
#define SHMT_DIRECTORY_H

#include <stdbool.h>

#include "region.h"

/* This guest's own place. */
struct shmt_guest {
	uint32_t slot;
	uint64_t epoch;
};

/**
 * shmt_guest_register() - take a slot
 * @identity: 16 bytes that stay the same when the guest reboots; an entry of the same identity and
 *	      of another epoch is the guest's earlier life and is buried first (addresses,
 *	      offers, chunks, ends of segments: see shmt_guest_bury())
 * @epoch: 0 = a new life: a fresh epoch is made, the state is LIVE. Else an agent that was
 *	   restarted takes its own slot back, its state (LIVE or DRAINING) as it was: -ESTALE if
 *	   that life is over.
 * Return: 0, -ENOSPC (table full), -ESTALE
 */
int shmt_guest_register(struct shmt_region *region, const uint8_t identity[16], uint64_t kernel_id,
			const char *name, uint64_t epoch, struct shmt_guest *ret_guest);

/** shmt_guest_set_state() - LIVE or DRAINING, by its agent */
void shmt_guest_set_state(struct shmt_region *region, const struct shmt_guest *guest,
			  enum shmt_guest_state state);

/** shmt_guest_beat() - one heartbeat */
void shmt_guest_beat(struct shmt_region *region, const struct shmt_guest *guest);

/** shmt_guest_alive() - true while (slot, epoch) is this life: LIVE or DRAINING. Any process. */
bool shmt_guest_alive(const struct shmt_region *region, uint32_t slot, uint64_t epoch);

/** shmt_guest_over() - that life has ended: unlike !alive, a guest still being CLAIMED is not over
 */
bool shmt_guest_over(const struct shmt_region *region, uint32_t slot, uint64_t epoch);

/**
 * shmt_guest_bury() - end a life and take back what it held
 * The caller must know that no process of that life runs or will run: the guest itself at its
 * re-registration or orderly end, or an agent of the same kernel that got the guest's lock
 * (shmt_guest_lock_test()). Turns the word to {epoch, FREE}, its addresses DEAD, its offers FREE,
 * sets gone on its ends of segments. Its chunks go to whichever guest calls shmt_segment_sweep()
 * next, which frees their segments once the other end is gone too. Several may bury one life at
 * once; what one who died in it left is harmless, and burying again finishes it.
 */
void shmt_guest_bury(struct shmt_region *region, uint32_t slot, uint64_t epoch);

/**
 * shmt_guest_lock() - hold the guest's lock: an open-file-description read lock on byte <slot> of
 * the region file. Passed on with the descriptor and kept by each mapping made from it, it lasts
 * until the last process of the guest is gone, on one kernel.
 * (directory.h declares them, open.c holds them: not part of libcoloc.so.)
 * shmt_guest_lock_test() - 1: nobody holds it (with the same kernel id: the guest is dead), 0:
 * held, -errno. Needs a descriptor of its own open of the file.
 */
int shmt_guest_lock(int fd, uint32_t slot);
int shmt_guest_lock_test(int own_fd, uint32_t slot);

/** shmt_address_add() - publish @addr; -EEXIST if it is published by this guest already; -ENOSPC */
int shmt_address_add(struct shmt_region *region, const struct shmt_guest *guest,
		     const uint8_t addr[16]);
/** shmt_address_remove() - take @addr back; -ENOENT */
int shmt_address_remove(struct shmt_region *region, const struct shmt_guest *guest,
			const uint8_t addr[16]);

/**
 * shmt_directory_find() - whose is @addr?
 * Return: guest slot, and its epoch in @ret_epoch; -ENOENT nobody's; -EEXIST claimed by two live
 * guests. Looks at SHMT_ADDR_WINDOW entries at most. Lock-free, any thread, signal handlers.
 */
int shmt_directory_find(const struct shmt_region *region, const uint8_t addr[16],
			uint64_t *ret_epoch);

#endif
