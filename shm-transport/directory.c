/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory.c - guests, their lives, and whose an address is
 *
 * A guest's life is a pair of slot and epoch. Everything that a guest owns in the region names its
 * owner so, and counts only while the guest table says that this life goes on. Ending a life is
 * therefore one CAS of one word; what shmt_guest_bury() does beyond it is tidying up, which may be
 * interrupted, repeated, or done by several at once: each step is a CAS on exactly what was judged.
 *
 * Epochs. A new one is larger than all in the guest table, so that those of a slot only grow and
 * the largest is never lost. It is at least the time in seconds with eight random bits behind it,
 * so that a region whose table was lost does not see one twice either. 40 bits hold such numbers
 * until the year 2100.
 *
 * Addresses. Linear probing, ended by an entry that was never used or by the window. The window
 * bounds the cost of a look-up whatever lies in the table, tombstones included. An entry is never
 * turned back to EMPTY, so an address that was put behind others is found behind them. A guest
 * published twice the same address would be harmless; two guests make it ambiguous, for which a
 * look-up goes on after its first hit.
 *
 * Labels D1 to D4 name the pairs of atomics.
 */
#include "directory.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "atomic.h"
#include "segment.h"

#define EPOCH_BITS 40
#define EPOCH_END  (1ULL << EPOCH_BITS)
/* Larger ones in the table are no epochs of ours; they must not push new ones over the end. */
#define EPOCH_PLAUSIBLE (EPOCH_END - (1ULL << 32))

static_assert(sizeof(((struct shmt_addr_shared *)0)->addr) == 16, "two words");
static_assert(SHMT_GUESTS_MAX <= 0xff, "a slot fits into the words");

/* 16 bytes in shared memory as two words: no torn halves, no data race. D2 release, pairs with D1.
 */
static void store16(uint8_t *to, const uint8_t from[16])
{
	uint64_t words[2];

	memcpy(words, from, 16);
	shmt_store_release(&((uint64_t *)to)[0], words[0]);
	shmt_store_release(&((uint64_t *)to)[1], words[1]);
}

/* D1 acquire, pairs with D2: a half of a later claim shows that claim's count too. */
static bool equal16(const uint8_t *shared, const uint8_t with[16])
{
	uint64_t words[2];

	memcpy(words, with, 16);
	return shmt_load_acquire(&((const uint64_t *)shared)[0]) == words[0] &&
	       shmt_load_acquire(&((const uint64_t *)shared)[1]) == words[1];
}

/* ---- lives ----------------------------------------------------------------------------------- */

static bool state_is_alive(unsigned int state)
{
	return state == SHMT_GUEST_LIVE || state == SHMT_GUEST_DRAINING;
}

bool shmt_guest_alive(const struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	uint64_t word;

	if (slot >= region->guest_count)
		return false;
	word = shmt_load_acquire(&region->guests[slot].word);
	return SHMT_GUEST_EPOCH(word) == epoch && state_is_alive(SHMT_GUEST_STATE(word));
}

bool shmt_guest_over(const struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	uint64_t word;

	if (slot >= region->guest_count)
		return true;
	word = shmt_load_acquire(&region->guests[slot].word);
	return SHMT_GUEST_EPOCH(word) != epoch || SHMT_GUEST_STATE(word) == SHMT_GUEST_FREE;
}

static uint64_t fresh_epoch(const struct shmt_region *region)
{
	struct timespec now;
	uint64_t largest = 0, epoch;
	uint8_t salt;

	clock_gettime(CLOCK_REALTIME, &now);
	if (getrandom(&salt, sizeof(salt), GRND_NONBLOCK) != sizeof(salt))
		salt = (uint8_t)(now.tv_nsec >> 10);
	for (uint32_t slot = 0; slot < region->guest_count; slot++) {
		epoch = SHMT_GUEST_EPOCH(shmt_load_acquire(&region->guests[slot].word));
		if (epoch > largest && epoch < EPOCH_PLAUSIBLE)
			largest = epoch;
	}
	epoch = ((uint64_t)now.tv_sec << 8 | salt) % EPOCH_PLAUSIBLE;
	return epoch > largest ? epoch : largest + 1 + (salt & 0x0f);
}

/* What its agent says of itself; before the word turns LIVE (D3), and again after a restart. */
static void describe(struct shmt_guest_shared *entry, const uint8_t identity[16],
		     uint64_t kernel_id, const char *name)
{
	uint64_t words[sizeof(entry->name) / 8] = {0};
	const size_t len = strnlen(name, sizeof(entry->name) - 1);

	memcpy(words, name, len);
	store16(entry->identity, identity);
	for (size_t i = 0; i < sizeof(words) / 8; i++)
		shmt_store_relaxed(&((uint64_t *)entry->name)[i], words[i]);
	shmt_store_relaxed(&entry->kernel_id, kernel_id);
}

static int take_back(struct shmt_region *region, const uint8_t identity[16], uint64_t kernel_id,
		     const char *name, uint64_t epoch, struct shmt_guest *ret_guest)
{
	for (uint32_t slot = 0; slot < region->guest_count; slot++) {
		struct shmt_guest_shared *const entry = &region->guests[slot];

		if (!shmt_guest_alive(region, slot, epoch) || !equal16(entry->identity, identity))
			continue;
		describe(entry, identity, kernel_id, name);
		*ret_guest = (struct shmt_guest){.slot = slot, .epoch = epoch};
		return 0;
	}
	return -ESTALE;
}

static void bury_earlier_lives(struct shmt_region *region, const uint8_t identity[16])
{
	for (uint32_t slot = 0; slot < region->guest_count; slot++) {
		struct shmt_guest_shared *const entry = &region->guests[slot];
		/* D4 acquire, pairs with D3: a live entry's identity is its own. */
		const uint64_t word = shmt_load_acquire(&entry->word);

		if (state_is_alive(SHMT_GUEST_STATE(word)) && equal16(entry->identity, identity) &&
		    shmt_load_acquire(&entry->word) == word)
			shmt_guest_bury(region, slot, SHMT_GUEST_EPOCH(word));
	}
}

int shmt_guest_register(struct shmt_region *region, const uint8_t identity[16], uint64_t kernel_id,
			const char *name, uint64_t epoch, struct shmt_guest *ret_guest)
{
	if (epoch != 0)
		return take_back(region, identity, kernel_id, name, epoch, ret_guest);

	bury_earlier_lives(region, identity);
	for (uint32_t slot = 0; slot < region->guest_count; slot++) {
		struct shmt_guest_shared *const entry = &region->guests[slot];
		const uint64_t word = shmt_load_acquire(&entry->word);

		if (SHMT_GUEST_STATE(word) != SHMT_GUEST_FREE)
			continue;
		/* After the look at the word: or an older epoch could replace a newer one here. */
		epoch = fresh_epoch(region);
		if (!shmt_cas(&entry->word, word, SHMT_GUEST_WORD(epoch, SHMT_GUEST_CLAIMED)))
			continue;
		describe(entry, identity, kernel_id, name);
		/* D3 release, pairs with D4. A CAS: it could have been buried as a dead claim. */
		if (!shmt_cas(&entry->word, SHMT_GUEST_WORD(epoch, SHMT_GUEST_CLAIMED),
			      SHMT_GUEST_WORD(epoch, SHMT_GUEST_LIVE)))
			continue;
		*ret_guest = (struct shmt_guest){.slot = slot, .epoch = epoch};
		return 0;
	}
	return -ENOSPC;
}

void shmt_guest_set_state(struct shmt_region *region, const struct shmt_guest *guest,
			  enum shmt_guest_state state)
{
	uint64_t *const word = &region->guests[guest->slot].word;
	uint64_t was;

	/* Only while this life goes on: nobody comes back from the dead by a change of state. */
	do {
		was = shmt_load_acquire(word);
		if (SHMT_GUEST_EPOCH(was) != guest->epoch || !state_is_alive(SHMT_GUEST_STATE(was)))
			return;
	} while (!shmt_cas(word, was, SHMT_GUEST_WORD(guest->epoch, state)));
}

void shmt_guest_beat(struct shmt_region *region, const struct shmt_guest *guest)
{
	if (shmt_guest_alive(region, guest->slot, guest->epoch))
		shmt_add(&region->guests[guest->slot].heartbeat, 1);
}

/* ---- the end of a life ----------------------------------------------------------------------- */

static void bury_addresses(struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	const uint64_t claimed = SHMT_ADDR_WORD(epoch, slot, SHMT_ADDR_CLAIMED);
	const uint64_t live = SHMT_ADDR_WORD(epoch, slot, SHMT_ADDR_LIVE);
	const uint64_t dead = SHMT_ADDR_WORD(epoch, slot, SHMT_ADDR_DEAD);

	for (uint32_t i = 0; i < region->addr_count; i++) {
		uint64_t *const word = &region->addrs[i].word;
		const uint64_t was = shmt_load_acquire(word);

		if (was == live || was == claimed)
			(void)shmt_cas(word, was, dead);
	}
}

static void bury_offers(struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	for (uint32_t i = 0; i < region->offer_count; i++) {
		uint64_t *const word = &region->offers[i].word;
		const uint64_t was = shmt_load_acquire(word);

		if (SHMT_OFFER_STATE(was) != SHMT_OFFER_FREE && SHMT_OFFER_AUTHOR(was) == slot &&
		    SHMT_OFFER_EPOCH24(was) == (epoch & 0xffffff))
			(void)shmt_cas(word, was, SHMT_OFFER_FREED(was));
	}
}

static void bury_ends(struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	for (uint32_t i = 0; i < region->seg_count; i++) {
		struct shmt_seg_shared *const seg = &region->segs[i];
		const uint32_t generation = shmt_load_acquire(&seg->generation);

		if (shmt_load_acquire(&seg->state) != SHMT_SEG_USED)
			continue;
		for (unsigned int side = 0; side < 2; side++) {
			if (shmt_load_acquire(&seg->end[side].guest) == slot &&
			    shmt_load_acquire(&seg->end[side].epoch) == epoch)
				shmt_seg_end_set_gone(&seg->end[side], generation);
		}
	}
}

void shmt_guest_bury(struct shmt_region *region, uint32_t slot, uint64_t epoch)
{
	uint64_t *word, was;

	if (slot >= region->guest_count)
		return;
	/* First the word: from here on nothing that names this life counts. */
	word = &region->guests[slot].word;
	do {
		was = shmt_load_acquire(word);
	} while (SHMT_GUEST_EPOCH(was) == epoch && SHMT_GUEST_STATE(was) != SHMT_GUEST_FREE &&
		 !shmt_cas(word, was, SHMT_GUEST_WORD(epoch, SHMT_GUEST_FREE)));
	bury_addresses(region, slot, epoch);
	bury_offers(region, slot, epoch);
	bury_ends(region, slot, epoch);
}

/* ---- addresses ------------------------------------------------------------------------------- */

static struct shmt_addr_shared *probe(const struct shmt_region *region, uint64_t hash, uint32_t i)
{
	return &region->addrs[(hash + i) & (region->addr_count - 1)];
}

/* May be claimed: nobody's any more, or never anybody's. */
static bool is_reusable(const struct shmt_region *region, uint64_t word)
{
	const unsigned int state = SHMT_ADDR_STATE(word);

	return state == SHMT_ADDR_EMPTY || state == SHMT_ADDR_DEAD ||
	       shmt_guest_over(region, SHMT_ADDR_GUEST(word), SHMT_ADDR_EPOCH(word));
}

/* This guest's live entry of @addr: it alone changes those, so what is found stays. */
static struct shmt_addr_shared *own_entry(const struct shmt_region *region,
					  const struct shmt_guest *guest, const uint8_t addr[16])
{
	const uint64_t own = SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_LIVE);
	const uint64_t hash = shmt_hash(addr, 16);

	for (uint32_t i = 0; i < SHMT_ADDR_WINDOW; i++) {
		struct shmt_addr_shared *const entry = probe(region, hash, i);
		const uint64_t word = shmt_load_acquire(&entry->word);

		if (SHMT_ADDR_STATE(word) == SHMT_ADDR_EMPTY)
			break;
		if (word == own && equal16(entry->addr, addr))
			return entry;
	}
	return NULL;
}

int shmt_address_add(struct shmt_region *region, const struct shmt_guest *guest,
		     const uint8_t addr[16])
{
	const uint64_t hash = shmt_hash(addr, 16);

	if (own_entry(region, guest, addr))
		return -EEXIST;
	for (uint32_t i = 0; i < SHMT_ADDR_WINDOW; i++) {
		struct shmt_addr_shared *const entry = probe(region, hash, i);
		const uint64_t word = shmt_load_acquire(&entry->word);

		/* A lost CAS means that another guest has it now: on to the next. */
		if (!is_reusable(region, word) ||
		    !shmt_cas(&entry->word, word,
			      SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_CLAIMED)))
			continue;
		shmt_add(&entry->claims, 1);
		store16(entry->addr, addr);
		/* A CAS and not a store: whoever buried us may have given the entry away. */
		(void)shmt_cas(&entry->word,
			       SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_CLAIMED),
			       SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_LIVE));
		return 0;
	}
	return -ENOSPC;
}

int shmt_address_remove(struct shmt_region *region, const struct shmt_guest *guest,
			const uint8_t addr[16])
{
	struct shmt_addr_shared *const entry = own_entry(region, guest, addr);

	if (!entry)
		return -ENOENT;
	(void)shmt_cas(&entry->word, SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_LIVE),
		       SHMT_ADDR_WORD(guest->epoch, guest->slot, SHMT_ADDR_DEAD));
	return 0;
}

/* An entry that held the address, as it was when it was looked at. */
struct hit {
	const struct shmt_addr_shared *entry;
	uint64_t word;
};

static bool is_hit(const struct shmt_region *region, const struct shmt_addr_shared *entry,
		   uint64_t word, const uint8_t addr[16])
{
	const uint64_t claims = shmt_load_acquire(&entry->claims);

	return SHMT_ADDR_STATE(word) == SHMT_ADDR_LIVE && equal16(entry->addr, addr) &&
	       shmt_load_acquire(&entry->claims) == claims &&
	       shmt_load_acquire(&entry->word) == word &&
	       shmt_guest_alive(region, SHMT_ADDR_GUEST(word), SHMT_ADDR_EPOCH(word));
}

int shmt_directory_find(const struct shmt_region *region, const uint8_t addr[16],
			uint64_t *ret_epoch)
{
	const uint64_t hash = shmt_hash(addr, 16);
	struct hit hit = {NULL, 0};

	for (uint32_t i = 0; i < SHMT_ADDR_WINDOW; i++) {
		const struct shmt_addr_shared *const entry = probe(region, hash, i);
		const uint64_t word = shmt_load_acquire(&entry->word);

		if (SHMT_ADDR_STATE(word) == SHMT_ADDR_EMPTY)
			break;
		if (!is_hit(region, entry, word, addr))
			continue;
		/* Two at once; not if the address has moved while we were looking. */
		if (hit.entry && SHMT_ADDR_GUEST(word) != SHMT_ADDR_GUEST(hit.word) &&
		    is_hit(region, hit.entry, hit.word, addr))
			return -EEXIST;
		hit = (struct hit){entry, word};
	}
	if (!hit.entry)
		return -ENOENT;
	*ret_epoch = SHMT_ADDR_EPOCH(hit.word);
	return (int)SHMT_ADDR_GUEST(hit.word);
}
