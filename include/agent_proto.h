/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_proto.h - messages on the agent's UNIX SOCK_SEQPACKET socket
 *
 * One message is one packet: the header, then the body of its type. A packet of another length, of
 * another version or of an unknown type ends the connection; the agent logs who sent it. Native
 * byte order: both sides run on one kernel.
 *
 *   process -> agent   HELLO, JOIN, CLOSED
 *   agent -> process   WELCOME (answers HELLO, and again when a region comes; carries descriptors)
 *   tool -> agent      CONTROL       agent -> tool   DATA..., END
 *
 * A grant is not a message: the agent writes it into the stream record (record_layout.h).
 */
#ifndef COLOC_AGENT_PROTO_H
#define COLOC_AGENT_PROTO_H

#include <assert.h>
#include <stdint.h>

#define COLOC_PROTO_MAGIC     0x436f4c6fu
#define COLOC_PROTO_VERSION   2u
#define COLOC_PROTO_MAX_BYTES 4096u /* of any packet */
#define COLOC_DEFAULT_SOCKET  "/run/coloc/agent.sock"
#define COLOC_DEFAULT_CONFIG  "/etc/coloc/coloc.conf"

enum coloc_msg_type {
	COLOC_MSG_HELLO = 1,
	COLOC_MSG_WELCOME = 2,
	COLOC_MSG_JOIN = 3,
	COLOC_MSG_CLOSED = 4,
	COLOC_MSG_CONTROL = 5,
	COLOC_MSG_DATA = 6,
	COLOC_MSG_END = 7,
};

struct coloc_header_wire {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
};

/*
 * First packet of a process. One descriptor may come with it: a NETLINK_SOCK_DIAG socket of the
 * process's network namespace, for the agent to ask whether sockets of a namespace other than its
 * own still exist. pid is for people; the agent takes the real one from SO_PEERCRED.
 */
struct coloc_hello_wire {
	struct coloc_header_wire header;
	uint32_t pid;
	uint32_t again; /* 1 = this program has said HELLO before: what it counted in its slot stays
			 */
	uint64_t netns; /* inode of /proc/self/ns/net */
	char command[16];
};

/*
 * Carries one or two descriptors: the local memory, then the region if there is one (its reason
 * stands in the local memory's header). The process maps them shared, read and write, and closes
 * them. reason other than NONE: no descriptors, the process stays on TCP.
 */
struct coloc_welcome_wire {
	struct coloc_header_wire header;
	uint32_t reason; /* enum coloc_reason */
	uint32_t proc;	 /* this process's slot: its bit in a record's procs */
	uint64_t local_bytes;
	uint64_t region_bytes;	/* 0 = no region */
	uint32_t region_attach; /* its number in the local memory */
	uint32_t reserved;
};

/* JOIN: the record asks for a ring. CLOSED: this process dropped its last descriptor of it. */
struct coloc_record_wire {
	struct coloc_header_wire header;
	uint32_t record;
	uint32_t generation;
};

enum coloc_verb {
	COLOC_VERB_STATUS = 1,
	COLOC_VERB_STREAMS = 2,
	COLOC_VERB_STATS = 3,
	COLOC_VERB_DRAIN = 4, /* answers at once; STATUS tells how far it is */
	COLOC_VERB_RESUME = 5,
	COLOC_VERB_RELOAD = 6,
};

struct coloc_control_wire {
	struct coloc_header_wire header;
	uint32_t verb;
	uint32_t reserved;
};

/* DATA: a piece of the JSON answer. END: all of it was sent; status 0, or -errno and DATA says why.
 */
struct coloc_data_wire {
	struct coloc_header_wire header;
	uint32_t bytes;
	int32_t status; /* END only */
	char text[COLOC_PROTO_MAX_BYTES - 16];
};

static_assert(sizeof(struct coloc_header_wire) == 8, "no holes");
static_assert(sizeof(struct coloc_hello_wire) == 40, "no holes");
static_assert(sizeof(struct coloc_welcome_wire) == 40, "no holes");
static_assert(sizeof(struct coloc_data_wire) == COLOC_PROTO_MAX_BYTES, "one packet");

#endif
