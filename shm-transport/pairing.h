/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairing.h - offers: how the agents of two ends agree on a ring for one connection
 *
 * A connection is named by its sorted endpoints; the agent of end 0 alone makes segments. Callers:
 * agents; shmt_conn_key_make() anybody.
 */
#ifndef SHMT_PAIRING_H
#define SHMT_PAIRING_H

#include "segment.h"

/**
 * shmt_conn_key_make() - sorted endpoints
 * @netns: 0 for a connection between guests. Return: which end @local is: 0 or 1
 */
unsigned int shmt_conn_key_make(const struct shmt_endpoint *local,
				const struct shmt_endpoint *remote, uint64_t netns,
				struct shmt_conn_key *ret_key);

/* An offer, copied out of shared memory and checked. */
struct shmt_offer {
	uint32_t index;
	uint64_t word; /* as found: what a later CAS expects */
	enum shmt_offer_state state;
	struct shmt_guest author, addressee;
	struct shmt_conn_key key;
	struct shmt_evidence evidence;
	uint32_t seg, seg_generation, reason;
};

/**
 * shmt_offer_post() - write an offer (MADE with @seg) or a wish (WISH) for @addressee and ring its
 * doorbell. Return: entry number, -ENOSPC (window full)
 */
int shmt_offer_post(struct shmt_region *region, const struct shmt_guest *author,
		    const struct shmt_guest *addressee, enum shmt_offer_state state,
		    const struct shmt_conn_key *key, const struct shmt_evidence *evidence,
		    uint32_t seg, uint32_t seg_generation);

/**
 * shmt_offer_read() - entry @index as it is now; -ENOENT free, being written, not sane, or of an
 * author whose life is over
 */
int shmt_offer_read(const struct shmt_region *region, uint32_t index, struct shmt_offer *ret_offer);

/**
 * shmt_offer_find() - the MADE or WISH entry for @key by @author slot and life, or any author with
 * @author NULL. Return: 0, -ENOENT
 */
int shmt_offer_find(const struct shmt_region *region, const struct shmt_conn_key *key,
		    const struct shmt_guest *author, enum shmt_offer_state state,
		    struct shmt_offer *ret_offer);

/**
 * shmt_offer_answer() - the addressee takes (TAKEN) or declines (DECLINED with @reason) @offer.
 * Rings the author's doorbell. Return: 0, -ESTALE: it has changed meanwhile
 */
int shmt_offer_answer(struct shmt_region *region, const struct shmt_offer *offer,
		      enum shmt_offer_state state, uint32_t reason);

/**
 * shmt_offer_revoke() - the author frees its entry if it still is as @offer was read
 * Return: 0; -ESTALE it has been answered, read it again. Who would free a segment that was offered
 * asks by this and not by withdraw whether the other end has taken it.
 */
int shmt_offer_revoke(struct shmt_region *region, const struct shmt_offer *offer);

/** shmt_offer_withdraw() - the author frees its entry, whatever became of it; -ESTALE not its own
 */
int shmt_offer_withdraw(struct shmt_region *region, const struct shmt_guest *author,
			uint32_t index);

/**
 * shmt_evidence_fits() - could @mine and @theirs describe one connection? @theirs was taken first.
 * true also when one of them is not valid: there is nothing to compare
 */
bool shmt_evidence_fits(const struct shmt_evidence *mine, const struct shmt_evidence *theirs);

#endif
