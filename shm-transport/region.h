/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - map, create and validate the memory that guests share
 *
 * Everything here is for programs (the agent) and for one-time set-up in a process; only
 * shmt_region_seg() and shmt_region_at() are for the data path. No function logs or sets errno;
 * each returns >= 0 or -Exxx.
 */
#ifndef SHMT_REGION_H
#define SHMT_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "reason.h"
#include "shmt_layout.h"

/* A mapped region, and the offsets of its tables as checked at mapping time (never re-read). */
struct shmt_region {
	uint8_t *base; /* NULL = not mapped */
	uint64_t bytes;
	uint8_t domain_id[16];
	struct shmt_guest_shared *guests;
	struct shmt_addr_shared *addrs;
	struct shmt_offer_shared *offers;
	struct shmt_chunk_shared *chunks;
	struct shmt_seg_shared *segs;
	uint64_t arena_off;
	uint64_t chunk_bytes;
	uint32_t guest_count, addr_count, offer_count, chunk_count, segs_per_chunk;
	uint32_t seg_count; /* chunk_count * segs_per_chunk */
};

/**
 * shmt_region_format() - write the superblock into zeroed memory; zero is what empty tables are
 * @base, @bytes: the mapping; its tables must be zero
 * Several guests may come at once: the first turns the magic by CAS from 0 to a "being formatted"
 * value, each who finds that value helps, and one of them ends it. So nobody waits for anybody, and
 * one who dies in it holds up nobody: after 0 or -EEXIST the region is complete.
 * Return: 0, -EEXIST (somebody else did it), -EINVAL (too small), -ENOTEMPTY (no magic, yet not
 * zero), -EPROTO (the magic is foreign)
 */
int shmt_region_format(void *base, uint64_t bytes);

/**
 * shmt_region_attach() - check the superblock of mapped memory and fill in @ret_region
 * @ret_reason: why not: COLOC_REASON_NO_REGION (no magic), COLOC_REASON_REGION_VERSION
 * Does not own the mapping. Return: 0; -EAGAIN being formatted by another guest right now (an agent
 * formats, and so never sees it); -EPROTO magic, version, feature, size or table that does not fit
 */
int shmt_region_attach(void *base, uint64_t bytes, struct shmt_region *ret_region,
		       enum coloc_reason *ret_reason);

/**
 * shmt_region_map() - map @fd shared and attach; shmt_region_unmap() undoes it
 * @format: format it first if it is empty, and see to it that the tables have memory behind them
 * (-ENOMEM: the file system is full). @bytes 0 = the file's size.
 * Return: as attach or format, or -errno of fstat or mmap; -EINVAL the file is shorter than @bytes.
 * On error @ret_reason is set too, and nothing stays mapped.
 */
int shmt_region_map(int fd, uint64_t bytes, int format, struct shmt_region *ret_region,
		    enum coloc_reason *ret_reason);
void shmt_region_unmap(struct shmt_region *region);

/**
 * shmt_region_read_mbps() - MB/s of the second of two reads of 1 MiB of the arena; how the agent
 * tells an uncached mapping. Takes up to a second on a slow one. 0: the memory cannot be read at
 * all.
 */
uint64_t shmt_region_read_mbps(const struct shmt_region *region);

/**
 * shmt_region_open() - open a region by name, for the agent (open.c, not part of libcoloc.so)
 * @path: a file (created 0600 with @create_bytes if absent), a PCI resource file, or "auto": the
 *	  first ivshmem device (PCI 1af4:1110) found below @pci_root ("/sys/bus/pci/devices"; tests
 *	  give their own)
 * @ret_path: what was opened, for people; at least 256 bytes
 * A PCI device whose memory no driver has switched on is switched on.
 * Return: descriptor, or -errno; -ENODEV: auto found none; -EINVAL: neither a file nor a device, or
 * @create_bytes too small
 */
#define SHMT_REGION_PATH_BYTES 256
int shmt_region_open(const char *path, uint64_t create_bytes, const char *pci_root, char *ret_path);

/**
 * shmt_region_fd_bytes() - size of the file, PCI resource or device-DAX node @fd (open.c)
 * What to give shmt_region_map(), which by itself knows only what has a file size. Return: bytes or
 * -errno
 */
int64_t shmt_region_fd_bytes(int fd);

/**
 * shmt_region_ring_max() - largest ring that a chunk of this region holds a pair of: small regions
 * have small chunks
 */
static inline uint64_t shmt_region_ring_max(const struct shmt_region *region)
{
	return region->chunk_bytes / 2 < SHMT_RING_MAX_BYTES ? region->chunk_bytes / 2
							     : SHMT_RING_MAX_BYTES;
}

/** shmt_region_seg() - control block @index, or NULL if there is none of that number */
static inline struct shmt_seg_shared *shmt_region_seg(const struct shmt_region *region,
						      uint32_t index)
{
	return index < region->seg_count ? &region->segs[index] : NULL;
}

/** shmt_region_at() - @bytes at @off, or NULL if not wholly inside the arena */
static inline uint8_t *shmt_region_at(const struct shmt_region *region, uint64_t off,
				      uint64_t bytes)
{
	if (off < region->arena_off || off > region->bytes || bytes > region->bytes - off)
		return NULL;
	return region->base + off;
}

#endif
