/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairing.c - offers, found by the connection that they are about
 *
 * An entry belongs to its author from the CAS that claims it to the CAS that frees it. Between them
 * the addressee may change the state once, to TAKEN or DECLINED. Readers copy an entry out between
 * two looks at its word. The word's version grows with each claim, so an equal word means the same
 * offer, even to one who was paused for an hour in between.
 *
 * An author that died leaves entries that count for nothing: read and find do not show them, and a
 * later post claims them. Each entry therefore names its author's epoch: shortened in the word, for
 * the moment before the rest is written, and in full.
 *
 * Labels P1 and P2 name the pair of atomics.
 */
#include "pairing.h"

#include <errno.h>
#include <string.h>

#define KEY_WORDS      (sizeof(struct shmt_conn_key) / 8)
#define EVIDENCE_WORDS (sizeof(struct shmt_evidence) / 8)

static int compare_endpoints(const struct shmt_endpoint *a, const struct shmt_endpoint *b)
{
	const int by_addr = memcmp(a->addr, b->addr, sizeof(a->addr));

	return by_addr ? by_addr : (int)a->port - (int)b->port;
}

unsigned int shmt_conn_key_make(const struct shmt_endpoint *local,
				const struct shmt_endpoint *remote, uint64_t netns,
				struct shmt_conn_key *ret_key)
{
	const unsigned int side = compare_endpoints(local, remote) > 0;
	struct shmt_conn_key key = {.netns = netns};

	/* By field: what lies in the unused bytes must not make two keys of one connection. */
	for (unsigned int i = 0; i < 2; i++) {
		const struct shmt_endpoint *const from = i == side ? local : remote;

		memcpy(key.end[i].addr, from->addr, sizeof(from->addr));
		key.end[i].port = from->port;
	}
	*ret_key = key;
	return side;
}

/* Copies in shared memory go word by word: a reader may look at any time, and then drops it. */
static void store_words(void *shared, const void *from, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		uint64_t word;

		memcpy(&word, (const uint8_t *)from + i * 8, 8);
		/* P1 release, pairs with P2 */
		shmt_store_release((uint64_t *)shared + i, word);
	}
}

static void load_words(void *to, const void *shared, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		/* P2 acquire, pairs with P1: who sees a newer offer's word sees its claim too. */
		const uint64_t word = shmt_load_acquire((const uint64_t *)shared + i);

		memcpy((uint8_t *)to + i * 8, &word, 8);
	}
}

static struct shmt_offer_shared *probe(const struct shmt_region *region, uint64_t hash, uint32_t i)
{
	return &region->offers[(hash + i) & (region->offer_count - 1)];
}

/* The author's life is over, as far as the shortened epoch in the word can tell. */
static bool is_left_behind(const struct shmt_region *region, uint64_t word)
{
	const unsigned int author = SHMT_OFFER_AUTHOR(word);
	uint64_t guest_word;

	if (author >= region->guest_count)
		return true;
	guest_word = shmt_load_acquire(&region->guests[author].word);
	return SHMT_GUEST_STATE(guest_word) == SHMT_GUEST_FREE ||
	       (SHMT_GUEST_EPOCH(guest_word) & 0xffffff) != SHMT_OFFER_EPOCH24(word);
}

static void ring_doorbell(struct shmt_region *region, uint32_t slot)
{
	if (slot < region->guest_count)
		shmt_add(&region->guests[slot].doorbell, 1);
}

int shmt_offer_post(struct shmt_region *region, const struct shmt_guest *author,
		    const struct shmt_guest *addressee, enum shmt_offer_state state,
		    const struct shmt_conn_key *key, const struct shmt_evidence *evidence,
		    uint32_t seg, uint32_t seg_generation)
{
	const uint64_t hash = shmt_hash(key, sizeof(*key));

	for (uint32_t i = 0; i < SHMT_OFFER_WINDOW; i++) {
		struct shmt_offer_shared *const entry = probe(region, hash, i);
		const uint64_t was = shmt_load_acquire(&entry->word);
		const unsigned int version = SHMT_OFFER_VERSION(was) + 1;

		/* A lost CAS means that another author has it now: on to the next. */
		if ((SHMT_OFFER_STATE(was) != SHMT_OFFER_FREE && !is_left_behind(region, was)) ||
		    !shmt_cas(&entry->word, was,
			      SHMT_OFFER_WORD(author->epoch, version, author->slot, addressee->slot,
					      SHMT_OFFER_CLAIMED)))
			continue;
		store_words(&entry->key, key, KEY_WORDS);
		store_words(&entry->evidence, evidence, EVIDENCE_WORDS);
		shmt_store_release(&entry->seg, seg);
		shmt_store_release(&entry->seg_generation, seg_generation);
		shmt_store_release(&entry->reason, COLOC_REASON_NONE);
		shmt_store_release(&entry->author_epoch, author->epoch);
		shmt_store_release(&entry->addressee_epoch, addressee->epoch);
		shmt_store(&entry->word, SHMT_OFFER_WORD(author->epoch, version, author->slot,
							 addressee->slot, state));
		ring_doorbell(region, addressee->slot);
		return (int)(entry - region->offers);
	}
	return -ENOSPC;
}

/* One look at @entry; false: its word changed meanwhile. */
static bool copy_out(const struct shmt_offer_shared *entry, struct shmt_offer *ret_offer)
{
	struct shmt_offer *const offer = ret_offer;

	offer->word = shmt_load_acquire(&entry->word);
	load_words(&offer->key, &entry->key, KEY_WORDS);
	load_words(&offer->evidence, &entry->evidence, EVIDENCE_WORDS);
	offer->seg = shmt_load_acquire(&entry->seg);
	offer->seg_generation = shmt_load_acquire(&entry->seg_generation);
	offer->reason = shmt_load_acquire(&entry->reason);
	offer->author.epoch = shmt_load_acquire(&entry->author_epoch);
	offer->addressee.epoch = shmt_load_acquire(&entry->addressee_epoch);
	offer->state = (enum shmt_offer_state)SHMT_OFFER_STATE(offer->word);
	offer->author.slot = SHMT_OFFER_AUTHOR(offer->word);
	offer->addressee.slot = SHMT_OFFER_ADDRESSEE(offer->word);
	return shmt_load_acquire(&entry->word) == offer->word;
}

static bool is_sane(const struct shmt_region *region, const struct shmt_offer *offer)
{
	return offer->state >= SHMT_OFFER_WISH && offer->state <= SHMT_OFFER_DECLINED &&
	       offer->addressee.slot < region->guest_count && offer->reason < COLOC_REASON_COUNT &&
	       (offer->state != SHMT_OFFER_MADE || offer->seg < region->seg_count) &&
	       !shmt_guest_over(region, offer->author.slot, offer->author.epoch);
}

int shmt_offer_read(const struct shmt_region *region, uint32_t index, struct shmt_offer *ret_offer)
{
	struct shmt_offer offer = {.index = index};
	bool whole = false;

	if (index >= region->offer_count)
		return -ENOENT;
	/*
	 * The author sees its entry change once, by the answer, and so the second look is whole.
	 * What changes more often under another's eyes is news, for which the doorbell rings again.
	 */
	for (int look = 0; look < 2 && !whole; look++)
		whole = copy_out(&region->offers[index], &offer);
	if (!whole || !is_sane(region, &offer))
		return -ENOENT;
	*ret_offer = offer;
	return 0;
}

int shmt_offer_find(const struct shmt_region *region, const struct shmt_conn_key *key,
		    const struct shmt_guest *author, enum shmt_offer_state state,
		    struct shmt_offer *ret_offer)
{
	const uint64_t hash = shmt_hash(key, sizeof(*key));

	for (uint32_t i = 0; i < SHMT_OFFER_WINDOW; i++) {
		const struct shmt_offer_shared *const entry = probe(region, hash, i);
		struct shmt_offer offer;

		if (SHMT_OFFER_STATE(shmt_load_relaxed(&entry->word)) != state ||
		    shmt_offer_read(region, (uint32_t)(entry - region->offers), &offer) < 0 ||
		    offer.state != state || memcmp(&offer.key, key, sizeof(*key)) != 0)
			continue;
		if (author &&
		    (offer.author.slot != author->slot || offer.author.epoch != author->epoch))
			continue;
		*ret_offer = offer;
		return 0;
	}
	return -ENOENT;
}

int shmt_offer_answer(struct shmt_region *region, const struct shmt_offer *offer,
		      enum shmt_offer_state state, uint32_t reason)
{
	struct shmt_offer_shared *const entry = &region->offers[offer->index];
	const uint64_t word =
		SHMT_OFFER_WORD(SHMT_OFFER_EPOCH24(offer->word), SHMT_OFFER_VERSION(offer->word),
				offer->author.slot, offer->addressee.slot, state);

	if (offer->state != SHMT_OFFER_WISH && offer->state != SHMT_OFFER_MADE)
		return -ESTALE;
	/* If the offer is another one by now its reason is overwritten later, before it counts. */
	if (shmt_load_acquire(&entry->word) == offer->word)
		shmt_store_release(&entry->reason, reason);
	if (!shmt_cas(&entry->word, offer->word, word))
		return -ESTALE;
	ring_doorbell(region, offer->author.slot);
	return 0;
}

int shmt_offer_revoke(struct shmt_region *region, const struct shmt_offer *offer)
{
	return shmt_cas(&region->offers[offer->index].word, offer->word,
			SHMT_OFFER_FREED(offer->word))
		       ? 0
		       : -ESTALE;
}

int shmt_offer_withdraw(struct shmt_region *region, const struct shmt_guest *author, uint32_t index)
{
	uint64_t *word, was;

	if (index >= region->offer_count)
		return -ESTALE;
	word = &region->offers[index].word;
	do {
		was = shmt_load_acquire(word);
		if (SHMT_OFFER_STATE(was) == SHMT_OFFER_FREE ||
		    SHMT_OFFER_AUTHOR(was) != author->slot ||
		    SHMT_OFFER_EPOCH24(was) != (author->epoch & 0xffffff))
			return -ESTALE;
	} while (!shmt_cas(word, was, SHMT_OFFER_FREED(was)));
	return 0;
}

bool shmt_evidence_fits(const struct shmt_evidence *mine, const struct shmt_evidence *theirs)
{
	if (!mine->valid || !theirs->valid)
		return true;
	if (mine->snd_wscale != theirs->rcv_wscale || mine->rcv_wscale != theirs->snd_wscale)
		return false;
	/* One more on the side that connected: its SYN was acknowledged, but is no byte received.
	 */
	return theirs->bytes_acked <= mine->bytes_received ||
	       theirs->bytes_acked - 1 <= mine->bytes_received;
}
