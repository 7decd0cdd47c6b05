/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - format, map and check the memory that guests share
 *
 * Formatting. Zero is an empty table, so only the superblock is written. Its fields follow from the
 * region's size alone, and the size stands in the magic while it is being written: everybody who
 * finds it so writes the same values, and one of them turns the magic over. There is no formatter
 * to wait for, and none who comes back late can do harm: what it writes is there already. Only the
 * identity is random; each half of it is set once, by CAS from 0.
 *
 * Attaching. The superblock is copied out once and nothing of it is read again. Each table must lie
 * on a line, behind the one before it and inside the region; counts have upper limits that keep
 * every product below 2^64. What attach hands out can be indexed without another check.
 *
 * Memory. A file on tmpfs promises its size, not its pages: touching one that cannot be had is
 * SIGBUS. Agents therefore populate the tables here and the rings in segment.c with
 * MADV_POPULATE_WRITE, which fails by an error number. Where it is not supported (PCI memory, an
 * old kernel) it says EINVAL, and there is nothing to do: device memory is always there.
 */
#include "region.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "atomic.h"
#include "populate.h"

#define ADDRS_MIN	  1024u
#define ADDRS_MAX	  262144u
#define OFFERS_MIN	  SHMT_OFFER_WINDOW
#define OFFERS_MAX	  4096u
#define CHUNK_MIN	  (1u << 20)
#define CHUNK_MAX	  (1u << 30) /* that a foreign superblock may say; ours end at CHUNK_DEFAULT */
#define CHUNK_DEFAULT	  (4u << 20)
#define CHUNKS_MAX	  (1u << 24)
#define TABLE_MAX	  (1u << 24) /* entries that a foreign superblock may say */
#define ARENA_PROBE_BYTES (1u << 20)

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

static bool is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

static uint64_t clip_pow2(uint64_t value, uint64_t min, uint64_t max)
{
	uint64_t pow2 = min;

	while (pow2 < max && pow2 * 2 <= value)
		pow2 *= 2;
	return pow2;
}

/*
 * The one place that says how big which table is. Small regions have small chunks, so that 4 MiB
 * still hold several.
 */
static void plan(uint64_t region_bytes, struct shmt_super_shared *ret_super)
{
	struct shmt_super_shared super = {
		.version = SHMT_VERSION,
		.super_bytes = sizeof(super),
		.features = SHMT_FEATURES_KNOWN,
		.region_bytes = region_bytes,
		.guest_count = SHMT_GUESTS_MAX,
	};
	uint64_t chunks;

	super.addr_count = (uint32_t)clip_pow2(region_bytes / 4096, ADDRS_MIN, ADDRS_MAX);
	super.offer_count = (uint32_t)clip_pow2(region_bytes / 16384, OFFERS_MIN, OFFERS_MAX);
	super.chunk_bytes = clip_pow2(region_bytes / 16, CHUNK_MIN, CHUNK_DEFAULT);
	super.segs_per_chunk = (uint32_t)(super.chunk_bytes / (2 * SHMT_RING_MIN_BYTES));
	super.guests_off = SHMT_PAGE;
	super.addrs_off = super.guests_off +
			  align_up(super.guest_count * sizeof(struct shmt_guest_shared), SHMT_PAGE);
	super.offers_off = super.addrs_off + super.addr_count * sizeof(struct shmt_addr_shared);
	super.chunks_off =
		super.offers_off +
		align_up(super.offer_count * sizeof(struct shmt_offer_shared), SHMT_PAGE);

	chunks = region_bytes / super.chunk_bytes;
	if (chunks > CHUNKS_MAX)
		chunks = CHUNKS_MAX;
	for (;; chunks--) {
		super.segs_off = super.chunks_off +
				 align_up(chunks * sizeof(struct shmt_chunk_shared), SHMT_PAGE);
		super.arena_off = super.segs_off + align_up(chunks * super.segs_per_chunk *
								    sizeof(struct shmt_seg_shared),
							    SHMT_PAGE);
		/* The tables of 4 MiB, the smallest, leave room for chunks: this ends above 0. */
		if (super.arena_off + chunks * super.chunk_bytes <= region_bytes)
			break;
	}
	super.chunk_count = (uint32_t)chunks;
	*ret_super = super;
}

static uint64_t random64(void)
{
	struct timespec now;
	uint64_t value;

	if (getrandom(&value, sizeof(value), GRND_NONBLOCK) == sizeof(value))
		return value | 1; /* 0 is "not yet" */
	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec ^ (uintptr_t)&now) | 1;
}

static bool tables_are_zero(const uint8_t *base, const struct shmt_super_shared *super)
{
	const uint64_t *words = (const uint64_t *)base;
	uint64_t seen = 0;

	for (uint64_t i = 1; i < super->arena_off / 8; i++)
		seen |= shmt_load_relaxed(&words[i]);
	return seen == 0;
}

/* Everybody who is here at once writes the same; so it must be field by field, and atomically. */
static void write_super(struct shmt_super_shared *to, const struct shmt_super_shared *super)
{
	uint64_t *const id = (uint64_t *)to->domain_id;

	shmt_store_relaxed(&to->version, super->version);
	shmt_store_relaxed(&to->super_bytes, super->super_bytes);
	shmt_store_relaxed(&to->features, super->features);
	shmt_store_relaxed(&to->region_bytes, super->region_bytes);
	shmt_store_relaxed(&to->guests_off, super->guests_off);
	shmt_store_relaxed(&to->addrs_off, super->addrs_off);
	shmt_store_relaxed(&to->offers_off, super->offers_off);
	shmt_store_relaxed(&to->chunks_off, super->chunks_off);
	shmt_store_relaxed(&to->segs_off, super->segs_off);
	shmt_store_relaxed(&to->arena_off, super->arena_off);
	shmt_store_relaxed(&to->chunk_bytes, super->chunk_bytes);
	shmt_store_relaxed(&to->guest_count, super->guest_count);
	shmt_store_relaxed(&to->addr_count, super->addr_count);
	shmt_store_relaxed(&to->offer_count, super->offer_count);
	shmt_store_relaxed(&to->chunk_count, super->chunk_count);
	shmt_store_relaxed(&to->segs_per_chunk, super->segs_per_chunk);
	(void)shmt_cas(&id[0], 0, random64());
	(void)shmt_cas(&id[1], 0, random64());
}

int shmt_region_format(void *base, uint64_t bytes)
{
	struct shmt_super_shared *const to = base;
	struct shmt_super_shared super;
	uint64_t magic, pages;

	if (!base || bytes < SHMT_REGION_MIN_BYTES)
		return -EINVAL;
	plan(bytes & ~(uint64_t)(SHMT_PAGE - 1), &super);

	/* F1 acquire, pairs with F2: who sees the magic sees the superblock. */
	magic = shmt_load_acquire(&to->magic);
	if (magic == 0) {
		/* Checked before the CAS: a formatter that is late must not judge a used region. */
		const bool zero = tables_are_zero(base, &super);

		if (zero)
			(void)shmt_cas(&to->magic, 0,
				       SHMT_FORMATTING(super.region_bytes / SHMT_PAGE));
		magic = shmt_load_acquire(&to->magic);
		if (magic == 0)
			return -ENOTEMPTY;
	}
	if (magic == SHMT_MAGIC)
		return -EEXIST;
	pages = SHMT_FORMATTING_PAGES(magic);
	if (magic != SHMT_FORMATTING(pages) || pages > bytes / SHMT_PAGE ||
	    pages < SHMT_REGION_MIN_BYTES / SHMT_PAGE)
		return -EPROTO;

	plan(pages * SHMT_PAGE, &super);
	write_super(to, &super);
	/* F2 release, pairs with F1. */
	return shmt_cas(&to->magic, magic, SHMT_MAGIC) ? 0 : -EEXIST;
}

/* A table of @count entries at @off must lie on a line within [*from, end); moves *from behind it.
 */
static bool table_fits(uint64_t off, uint64_t count, uint64_t entry_bytes, uint64_t end,
		       uint64_t *from)
{
	if (off % SHMT_LINE != 0 || off < *from || off > end || count == 0 ||
	    count > (end - off) / entry_bytes)
		return false;
	*from = off + count * entry_bytes;
	return true;
}

static bool super_fits(const struct shmt_super_shared *super, uint64_t bytes)
{
	const uint64_t end = super->region_bytes;
	uint64_t from = SHMT_PAGE;

	if (end > bytes || end < SHMT_REGION_MIN_BYTES || end % SHMT_PAGE != 0)
		return false;
	if (super->guest_count > SHMT_GUESTS_MAX)
		return false;
	if (!is_power_of_two(super->addr_count) || super->addr_count < SHMT_ADDR_WINDOW ||
	    super->addr_count > TABLE_MAX)
		return false;
	if (!is_power_of_two(super->offer_count) || super->offer_count < SHMT_OFFER_WINDOW ||
	    super->offer_count > TABLE_MAX)
		return false;
	if (!is_power_of_two(super->chunk_bytes) || super->chunk_bytes < CHUNK_MIN ||
	    super->chunk_bytes > CHUNK_MAX)
		return false;
	if (super->chunk_count > CHUNKS_MAX || super->segs_per_chunk == 0 ||
	    super->segs_per_chunk > super->chunk_bytes / (2 * SHMT_RING_MIN_BYTES) ||
	    (uint64_t)super->chunk_count * super->segs_per_chunk > UINT32_MAX)
		return false;
	return table_fits(super->guests_off, super->guest_count, sizeof(struct shmt_guest_shared),
			  end, &from) &&
	       table_fits(super->addrs_off, super->addr_count, sizeof(struct shmt_addr_shared), end,
			  &from) &&
	       table_fits(super->offers_off, super->offer_count, sizeof(struct shmt_offer_shared),
			  end, &from) &&
	       table_fits(super->chunks_off, super->chunk_count, sizeof(struct shmt_chunk_shared),
			  end, &from) &&
	       table_fits(super->segs_off, (uint64_t)super->chunk_count * super->segs_per_chunk,
			  sizeof(struct shmt_seg_shared), end, &from) &&
	       super->arena_off % SHMT_PAGE == 0 &&
	       table_fits(super->arena_off, super->chunk_count, super->chunk_bytes, end, &from);
}

int shmt_region_attach(void *base, uint64_t bytes, struct shmt_region *ret_region,
		       enum coloc_reason *ret_reason)
{
	const struct shmt_super_shared *const shared = base;
	uint64_t words[sizeof(struct shmt_super_shared) / 8];
	struct shmt_super_shared super;
	uint8_t *const at = base;
	uint64_t magic;

	*ret_reason = COLOC_REASON_NO_REGION;
	if (!base || bytes < SHMT_REGION_MIN_BYTES)
		return -EPROTO;

	/* F1 acquire, pairs with F2. */
	magic = shmt_load_acquire(&shared->magic);
	if (magic != SHMT_MAGIC)
		return magic == SHMT_FORMATTING(SHMT_FORMATTING_PAGES(magic)) ? -EAGAIN : -EPROTO;

	/* Copied out once: what is checked below is what is used. */
	for (size_t i = 0; i < sizeof(super) / 8; i++)
		words[i] = shmt_load_relaxed(&((const uint64_t *)base)[i]);
	memcpy(&super, words, sizeof(super));

	if (super.version != SHMT_VERSION || super.super_bytes != sizeof(super) ||
	    (super.features & ~SHMT_FEATURES_KNOWN) != 0) {
		*ret_reason = COLOC_REASON_REGION_VERSION;
		return -EPROTO;
	}
	if (!super_fits(&super, bytes))
		return -EPROTO;

	*ret_region = (struct shmt_region){
		.base = at,
		.bytes = super.region_bytes,
		.guests = (struct shmt_guest_shared *)(at + super.guests_off),
		.addrs = (struct shmt_addr_shared *)(at + super.addrs_off),
		.offers = (struct shmt_offer_shared *)(at + super.offers_off),
		.chunks = (struct shmt_chunk_shared *)(at + super.chunks_off),
		.segs = (struct shmt_seg_shared *)(at + super.segs_off),
		.arena_off = super.arena_off,
		.chunk_bytes = super.chunk_bytes,
		.guest_count = super.guest_count,
		.addr_count = super.addr_count,
		.offer_count = super.offer_count,
		.chunk_count = super.chunk_count,
		.segs_per_chunk = super.segs_per_chunk,
		.seg_count = super.chunk_count * super.segs_per_chunk,
	};
	memcpy(ret_region->domain_id, super.domain_id, sizeof(super.domain_id));
	*ret_reason = COLOC_REASON_NONE;
	return 0;
}

static int map_and_attach(int fd, uint64_t bytes, int format, struct shmt_region *ret_region,
			  enum coloc_reason *ret_reason)
{
	struct shmt_super_shared planned;
	struct shmt_region region;
	uint8_t *base;
	int rc;

	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;

	if (format) {
		plan(bytes, &planned);
		rc = shmt_populate(base, planned.arena_off);
		if (rc < 0)
			goto fail;
		rc = shmt_region_format(base, bytes);
		if (rc < 0 && rc != -EEXIST)
			goto fail;
	}
	rc = shmt_region_attach(base, bytes, &region, ret_reason);
	if (rc < 0)
		goto fail;
	/* The mapping is as long as the region says, so that unmap knows its length. */
	if (region.bytes < bytes && munmap(base + region.bytes, bytes - region.bytes) < 0) {
		rc = -errno;
		goto fail;
	}
	*ret_region = region;
	return 0;
fail:
	munmap(base, bytes);
	return rc;
}

int shmt_region_map(int fd, uint64_t bytes, int format, struct shmt_region *ret_region,
		    enum coloc_reason *ret_reason)
{
	struct stat st;

	*ret_reason = COLOC_REASON_NO_REGION;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (bytes == 0)
		bytes = (uint64_t)st.st_size;
	/* A mapping behind the end of a file is SIGBUS. A device's size is not in st_size. */
	if (S_ISREG(st.st_mode) && bytes > (uint64_t)st.st_size)
		return -EINVAL;
	bytes &= ~(uint64_t)(SHMT_PAGE - 1);
	if (bytes < SHMT_REGION_MIN_BYTES)
		return -EINVAL;
	return map_and_attach(fd, bytes, format, ret_region, ret_reason);
}

void shmt_region_unmap(struct shmt_region *region)
{
	if (region->base)
		munmap(region->base, region->bytes);
	*region = (struct shmt_region){0};
}

uint64_t shmt_region_read_mbps(const struct shmt_region *region)
{
	const uint8_t *const from = region->base + region->arena_off;
	struct timespec begin, end;
	uint8_t block[SHMT_PAGE];
	uint64_t ns;

	/* Chunks are 1 MiB at least and there is at least one: see super_fits(). */
	static_assert(CHUNK_MIN >= ARENA_PROBE_BYTES, "the probe stays in the first chunk");
	if (shmt_populate((uint8_t *)from, ARENA_PROBE_BYTES) < 0)
		return 0;
	for (int pass = 0; pass < 2; pass++) {
		clock_gettime(CLOCK_MONOTONIC, &begin);
		for (uint32_t off = 0; off < ARENA_PROBE_BYTES; off += sizeof(block)) {
			memcpy(block, from + off, sizeof(block));
			__asm__ volatile("" : : "r"(block) : "memory"); /* the copy is wanted */
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
	}
	ns = (uint64_t)(end.tv_sec - begin.tv_sec) * 1000000000u +
	     (uint64_t)(end.tv_nsec - begin.tv_nsec);
	return (uint64_t)ARENA_PROBE_BYTES * 1000 / (ns ? ns : 1);
}
