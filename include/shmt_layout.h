/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmt_layout.h - everything that lies in the region which co-resident guests share
 *
 *   superblock | guest table | address directory | offers | chunk table | segment table | arena
 *
 * Rules: offsets from the start of the region, never pointers; fixed-width fields, little endian;
 * beside each field stands who writes it. "atomic" fields are touched only through atomic.h. Lines
 * are 64 bytes and what different parties write lies on different lines. Positions (head, tail,
 * byte totals) count bytes from the beginning and never wrap in practice.
 *
 * Nobody trusts what another guest wrote: a reader loads a value once, checks it against its
 * bounds, and declines the whole with a reason if it does not fit.
 */
#ifndef SHMT_LAYOUT_H
#define SHMT_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#define SHMT_MAGIC	      0x314d4853434f4c43ULL /* "CLOCSHM1" */
#define SHMT_VERSION	      3u
#define SHMT_LINE	      64
#define SHMT_PAGE	      4096
#define SHMT_GUESTS_MAX	      64u
#define SHMT_NO_GUEST	      0xffffu
#define SHMT_REGION_MIN_BYTES (4u << 20)

/*
 * The magic while the superblock is being written: {0xf0, version:8, 4 KiB pages:48}. It says all
 * that the superblock is made from, so that anybody can finish the work of one who died in it.
 */
#define SHMT_FORMATTING(pages)	     (0xf0ULL << 56 | (uint64_t)SHMT_VERSION << 48 | (uint64_t)(pages))
#define SHMT_FORMATTING_PAGES(magic) ((uint64_t)(magic) & ((1ULL << 48) - 1))

/* Features a user of the region must know; an unknown bit is declined. None so far. */
#define SHMT_FEATURES_KNOWN 0ULL

/* Page 0. Written once by whoever creates the region, the magic last. */
struct shmt_super_shared {
	uint64_t magic; /* atomic */
	uint32_t version;
	uint32_t super_bytes; /* sizeof(struct shmt_super_shared) of the creator */
	uint64_t features;
	uint64_t region_bytes;
	uint8_t domain_id[16]; /* atomic by halves; random identity of this region */
	uint64_t guests_off;
	uint64_t addrs_off;
	uint64_t offers_off;
	uint64_t chunks_off;
	uint64_t segs_off;
	uint64_t arena_off;
	uint64_t chunk_bytes; /* a power of two, at least 1 MiB */
	uint32_t guest_count;
	uint32_t addr_count;  /* a power of two */
	uint32_t offer_count; /* a power of two */
	uint32_t chunk_count;
	uint32_t segs_per_chunk; /* entries of the segment table that belong to one chunk */
	uint32_t reserved;
};

/* ---- guests ---------------------------------------------------------------------------------- */

enum shmt_guest_state {
	SHMT_GUEST_FREE = 0,	 /* nobody; claimed by CAS of the word */
	SHMT_GUEST_CLAIMED = 1,	 /* its agent is filling in the entry */
	SHMT_GUEST_LIVE = 2,	 /* heartbeat runs, rings may be made */
	SHMT_GUEST_DRAINING = 3, /* wants no rings; existing ones are being left */
};

/*
 * The word {epoch:48, state:16}: an epoch is never reused in a region, so whoever remembers
 * (slot, epoch) can tell whether that life of the guest still goes on. Others may turn the word to
 * {epoch, FREE} only when they know that this life is over (see directory.h). Epochs stay below
 * 2^40, so that they fit into every word that holds one.
 */
struct shmt_guest_shared {
	uint64_t word;	      /* atomic; its agent, see above */
	uint64_t heartbeat;   /* atomic; its agent, several times a second */
	uint64_t kernel_id;   /* its agent; hash of the boot id: equal means one kernel */
	uint8_t identity[16]; /* atomic by halves; its agent; what makes a rebooted guest the same
				 guest */
	char name[24];	      /* its agent; NUL-terminated, for people */
	uint64_t doorbell; /* atomic; the others' agents add 1 after they wrote an offer for it */
	uint8_t pad[SHMT_LINE - 8];
};

#define SHMT_GUEST_WORD(epoch, state) ((uint64_t)(epoch) << 16 | (uint64_t)(state))
#define SHMT_GUEST_EPOCH(word)	      ((uint64_t)(word) >> 16)
#define SHMT_GUEST_STATE(word)	      ((unsigned int)((word)&0xffff))

/* ---- addresses ------------------------------------------------------------------------------- */

enum shmt_addr_state {
	SHMT_ADDR_EMPTY = 0,   /* never used since creation: ends a probe */
	SHMT_ADDR_DEAD = 1,    /* was used: may be claimed, does not end a probe */
	SHMT_ADDR_CLAIMED = 2, /* its owner is writing addr */
	SHMT_ADDR_LIVE = 3,
};

/*
 * Open hash by address (shmt_hash() over its 16 bytes), linear probing over SHMT_ADDR_WINDOW
 * entries. The word {epoch:48, guest:8, state:8} is claimed by CAS by the owner's agent, which
 * alone turns it LIVE and DEAD; for an epoch that is over, anybody may claim it. A reader loads
 * word and claims, compares addr, loads both again: unchanged means addr was right.
 */
#define SHMT_ADDR_WINDOW 64u

struct shmt_addr_shared {
	uint64_t word;	  /* atomic */
	uint8_t addr[16]; /* atomic by halves; IPv6, or IPv4 as ::ffff:a.b.c.d; network order */
	uint64_t claims;  /* atomic; the owner, before it writes addr: grows with each claim */
};

#define SHMT_ADDR_WORD(epoch, guest, state) \
	((uint64_t)(epoch) << 16 | (uint64_t)(guest) << 8 | (uint64_t)(state))
#define SHMT_ADDR_EPOCH(word) ((uint64_t)(word) >> 16)
#define SHMT_ADDR_GUEST(word) ((unsigned int)((word) >> 8 & 0xff))
#define SHMT_ADDR_STATE(word) ((unsigned int)((word)&0xff))

/* ---- connections, offers --------------------------------------------------------------------- */

/*
 * A connection as both ends can name it: its two endpoints in byte order (address, then port), so
 * that end 0 is the lower one, on either side. netns is 0 between guests and the inode of the
 * network namespace for a stream inside one guest.
 */
struct shmt_endpoint {
	uint8_t addr[16];
	uint16_t port; /* host order */
	uint16_t zero[3];
};

struct shmt_conn_key {
	struct shmt_endpoint end[2]; /* end[0] is the lower one */
	uint64_t netns;
};

/*
 * How an end recognises the connection beside its key; all taken from TCP_INFO by that end.
 * Bytes a peer acknowledged before we looked must have been received by the time that it looks.
 */
struct shmt_evidence {
	uint64_t bytes_received; /* tcpi_bytes_received */
	uint64_t bytes_acked;	 /* tcpi_bytes_acked, may count the SYN */
	uint8_t snd_wscale;	 /* equals the other's rcv_wscale */
	uint8_t rcv_wscale;
	uint8_t valid; /* 0: not given, compare nothing */
	uint8_t zero[5];
};

enum shmt_offer_state {
	SHMT_OFFER_FREE = 0,
	SHMT_OFFER_CLAIMED = 1, /* the author is writing */
	SHMT_OFFER_WISH = 2,	/* end 1's agent asks end 0's agent for a ring */
	SHMT_OFFER_MADE = 3,	/* end 0's agent has a segment for both */
	SHMT_OFFER_TAKEN = 4,	/* end 1's agent has granted its half; the author frees the entry */
	SHMT_OFFER_DECLINED = 5, /* the addressee says no, reason set; the author frees the entry */
};

/*
 * Open hash by key (shmt_hash() over the key), probed over SHMT_OFFER_WINDOW entries. Only the
 * agent of end 0 makes offers with a segment, so that two agents cannot make two rings for one
 * connection. The word {low bits of the author's epoch:24, version:16, author slot:8, addressee
 * slot:8, state:8} goes FREE -> CLAIMED -> WISH or MADE by its author; WISH or MADE -> TAKEN or
 * DECLINED by its addressee (CAS); -> FREE by its author, or by anybody when the author's epoch is
 * over. The version grows with each claim and outlives the FREE state: who was paused between
 * reading an offer and answering it cannot answer another one that took its place.
 */
#define SHMT_OFFER_WINDOW 64u

struct shmt_offer_shared {
	uint64_t word; /* atomic */
	struct shmt_conn_key key;
	struct shmt_evidence evidence; /* the author's end */
	uint32_t seg;		       /* MADE: index into the segment table */
	uint32_t seg_generation;
	uint32_t reason; /* atomic; DECLINED: enum coloc_reason, written before the word */
	uint32_t reserved;
	uint64_t author_epoch;	  /* in full */
	uint64_t addressee_epoch; /* the life of the addressee that is meant */
	uint8_t pad[8];
};

#define SHMT_OFFER_WORD(epoch, version, author, addressee, state)                  \
	(((uint64_t)(epoch)&0xffffff) << 40 | (uint64_t)((version)&0xffff) << 24 | \
	 (uint64_t)(author) << 16 | (uint64_t)(addressee) << 8 | (uint64_t)(state))
/* What a word becomes when its entry is freed: the version stays. */
#define SHMT_OFFER_FREED(word)	   ((uint64_t)(word)&0xffff000000ULL)
#define SHMT_OFFER_EPOCH24(word)   ((uint64_t)(word) >> 40)
#define SHMT_OFFER_VERSION(word)   ((unsigned int)((word) >> 24 & 0xffff))
#define SHMT_OFFER_AUTHOR(word)	   ((unsigned int)((word) >> 16 & 0xff))
#define SHMT_OFFER_ADDRESSEE(word) ((unsigned int)((word) >> 8 & 0xff))
#define SHMT_OFFER_STATE(word)	   ((unsigned int)((word)&0xff))

/* ---- arena ----------------------------------------------------------------------------------- */

/*
 * The arena is cut into chunks. A guest claims a whole chunk by CAS of its word
 * {epoch:40, guest:8, log2 ring bytes:8, used:8} and cuts it into segments of one size; nobody else
 * allocates there, so no allocator is shared. A chunk that its owner emptied goes back to 0; one
 * whose owner's epoch is over is taken over whole, by CAS, by any other guest.
 */
struct shmt_chunk_shared {
	uint64_t word; /* atomic */
};

#define SHMT_CHUNK_WORD(epoch, guest, log2_ring) \
	((uint64_t)(epoch) << 24 | (uint64_t)(guest) << 16 | (uint64_t)(log2_ring) << 8 | 1u)
#define SHMT_CHUNK_EPOCH(word)	   ((uint64_t)(word) >> 24)
#define SHMT_CHUNK_GUEST(word)	   ((unsigned int)((word) >> 16 & 0xff))
#define SHMT_CHUNK_LOG2_RING(word) ((unsigned int)((word) >> 8 & 0xff))

#define SHMT_RING_MIN_BYTES (64u << 10)
#define SHMT_RING_MAX_BYTES (2u << 20)

/* ---- the switch: one direction, sender S, receiver R (docs/protocol.md) ---------------------- */

enum shmt_mode {
	SHMT_TCP = 0,	 /* S sends by TCP; R may sleep in the kernel and receive without a limit */
	SHMT_WAKING = 1, /* S has opened the ring behind payload on its way; R has not answered */
	SHMT_RING = 2,	 /* R knows, and promises to look at the ring before it sleeps */
	SHMT_LEAVING = 3, /* the ring is closed at head; what S sends now goes by TCP */
};

/* ctl = {value:62, mode:2}; value is R's sequence number in mode TCP, else the head position. */
#define SHMT_CTL(value, mode) ((uint64_t)(value) << 2 | (uint64_t)(mode))
#define SHMT_CTL_VALUE(ctl)   ((uint64_t)(ctl) >> 2)
#define SHMT_CTL_MODE(ctl)    ((enum shmt_mode)((ctl)&3))

/* Bits of dir.flags, read by S before each use of the ring. */
enum shmt_dir_flag {
	SHMT_DIR_ATTACHED = 1u << 0, /* R follows ctl: set once by R, cleared never */
	SHMT_DIR_REFUSED = 1u << 1,  /* R or its agent: do not open, leave */
	SHMT_DIR_STOPPED = 1u << 2,  /* S or its agent: do not open, leave */
	SHMT_DIR_CLOSED = 1u << 3,   /* R's socket is gone: what is left goes by TCP */
	SHMT_DIR_LOOK = 1u << 4,     /* S was closed in a process: R looks at its socket, once */
	/* S, before it opens, for as long as that is so: what it sends by TCP out of its own sight
	 * may lie in the kernel behind an open ring: R looks there before it says that there is
	 * nothing */
	SHMT_DIR_UNSEEN = 1u << 5,
};

struct shmt_dir_shared {
	/* line 0: the word both sides change by CAS */
	uint64_t ctl; /* atomic; S and R */
	uint8_t pad0[SHMT_LINE - 8];
	/* line 1: S */
	uint64_t open_at; /* atomic; S, before WAKING: all bytes ever sent by TCP */
	uint32_t s_cpu;	  /* atomic; S: 1 + processor it last ran on, 0 = not known */
	uint32_t pad1a;
	uint8_t pad1[SHMT_LINE - 16];
	/* line 2: R */
	uint64_t tail;	    /* atomic; R: bytes below are free for S */
	uint64_t tcp_read;  /* atomic; R: all bytes ever consumed from the kernel, once ATTACHED */
	uint64_t seq;	    /* atomic; R: last sequence number handed out for mode TCP */
	uint32_t in_kernel; /* atomic; R: receivers inside an unlimited kernel receive */
	uint32_t r_cpu;	    /* atomic; R: as s_cpu */
	uint8_t pad2[SHMT_LINE - 32];
	/* line 3: seldom written, read by S each time */
	uint32_t flags; /* atomic; enum shmt_dir_flag */
	uint8_t pad3[SHMT_LINE - 4];
};

enum shmt_seg_state {
	SHMT_SEG_FREE = 0,
	SHMT_SEG_USED = 1, /* granted, or about to be */
};

/* One end of a segment: end 0 belongs to the lower endpoint. */
struct shmt_seg_end_shared {
	uint64_t epoch; /* owner's agent at allocation: the life of the guest of this end */
	uint32_t guest; /* same */
	uint32_t gone;	/* atomic; equal to generation = this end's agent says: no process here
			 * holds the socket. Only grows, so that a late word on the stream before
			 * is none on this one. */
	struct shmt_evidence evidence; /* atomic by bytes not needed: written before ATTACHED */
	uint8_t pad[SHMT_LINE - 40];
};

/*
 * A ring pair and its control block. dir[0] carries from end 0 to end 1. The data of dir[i] lies at
 * data_off + i * ring_bytes. Everything but dir, gone and evidence is written by the owner's agent
 * before the grant. The generation grows with each allocation of this entry and is never 0.
 */
struct shmt_seg_shared {
	uint32_t state;	     /* atomic; the chunk's owner */
	uint32_t generation; /* atomic; the chunk's owner */
	uint64_t data_off;
	uint64_t ring_bytes; /* a power of two */
	uint8_t pad[SHMT_LINE - 24];
	struct shmt_seg_end_shared end[2];
	struct shmt_dir_shared dir[2];
	uint8_t pad_end[1024 - SHMT_LINE * (1 + 2 + 8)];
};

static_assert(sizeof(struct shmt_super_shared) <= SHMT_PAGE, "one page");
static_assert(sizeof(struct shmt_guest_shared) == 2 * SHMT_LINE, "two lines");
static_assert(sizeof(struct shmt_addr_shared) == 32, "half a line");
static_assert(sizeof(struct shmt_conn_key) == 56, "no holes");
static_assert(sizeof(struct shmt_evidence) == 24, "no holes");
static_assert(sizeof(struct shmt_offer_shared) == 2 * SHMT_LINE, "two lines");
static_assert(sizeof(struct shmt_dir_shared) == 4 * SHMT_LINE, "four lines");
static_assert(sizeof(struct shmt_seg_end_shared) == SHMT_LINE, "one line");
static_assert(sizeof(struct shmt_seg_shared) == 1024, "addressed by index");

/* shmt_hash() - of whole 8-byte words, little endian; part of the layout: all guests must agree. */
static inline uint64_t shmt_hash(const void *data, uint32_t bytes)
{
	const uint8_t *at = data;
	uint64_t hash = bytes;

	for (uint32_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t word;

		__builtin_memcpy(&word, at + i, 8);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	return hash * 0xd6e8feb86659fd93ULL >> 16;
}

#endif
