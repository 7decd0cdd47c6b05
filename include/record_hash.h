/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_hash.h - where a stream's record is looked for (record_layout.h)
 *
 * The shim places a record by this hash and the agent finds it by the same one, so that an offer of
 * the other end, which names the connection only, leads to the record without a search.
 */
#ifndef COLOC_RECORD_HASH_H
#define COLOC_RECORD_HASH_H

#include <string.h>

#include "record_layout.h"

/* The finaliser of splitmix64: every bit of the input moves every bit of the result. */
static inline uint64_t coloc_hash_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t coloc_hash_endpoint(uint64_t hash, const struct shmt_endpoint *end)
{
	uint64_t word[2];

	memcpy(word, end->addr, sizeof(word));
	hash = coloc_hash_mix(hash ^ word[0]);
	hash = coloc_hash_mix(hash ^ word[1]);
	return coloc_hash_mix(hash ^ end->port);
}

/**
 * coloc_record_hash() - hash of a connection as the end @local sees it
 * The first record to look at is the hash modulo record_count. Any thread, signal handlers.
 */
static inline uint64_t coloc_record_hash(const struct shmt_endpoint *local,
					 const struct shmt_endpoint *remote)
{
	return coloc_hash_endpoint(coloc_hash_endpoint(0, local), remote);
}

#endif
