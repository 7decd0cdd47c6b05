/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - every option, once
 *
 * The agent's parser, its --help, config/coloc.conf, the man page and the environment variables
 * COLOC_<SECTION>_<KEY> are all derived from these lists.
 *
 * COLOC_SHIM_SETTINGS are numbers that the agent hands to the preloaded processes inside the local
 * memory (see record_layout.h); a reload changes them for running processes. A process may override
 * one for itself by its environment variable.
 * COLOC_AGENT_SETTINGS are read by the agent only; all of them are strings to the list, checked by
 * the parser of the key.
 *
 * SETTING(section, key, default, minimum, maximum, "text")
 * AGENT_SETTING(section, key, "default", "text")
 */
#ifndef COLOC_SETTINGS_H
#define COLOC_SETTINGS_H

#include <stdint.h>

#define COLOC_SHIM_SETTINGS(SETTING)                                                                  \
	SETTING(switch, bytes, 65536, 0, INT64_MAX,                                                   \
		"cumulative bytes, both directions, from which on a stream is worth a ring")          \
	SETTING(switch, message_bytes, 512, 0, INT64_MAX,                                             \
		"if the mean size of its messages is at least this; else that many of such messages") \
	SETTING(switch, message_rate, 200, 1, INT64_MAX,                                              \
		"messages per second, sustained over 64 messages, that make small ones worth it")     \
	SETTING(switch, open_gap_us, 20000, 0, 1000000,                                               \
		"a sender opens the ring behind a small message if its last gaps were shorter")       \
	SETTING(switch, first_piece_bytes, 512, 1, 1048576,                                           \
		"how much of a large message goes by TCP to wake a sleeping reader")                  \
	SETTING(wait, spin_us, 100, 0, 10000,                                                         \
		"how long a reader or writer looks at one ring before it sleeps; 0 = never")          \
	SETTING(wait, spin_samecpu_us, 50, 0, 10000,                                                  \
		"the same, giving way, while both ends were last seen on one processor")

#define COLOC_AGENT_SETTINGS(AGENT_SETTING)                                                      \
	AGENT_SETTING(region, path, "auto",                                                      \
		      "file or PCI resource to share; auto = the ivshmem device, else none")     \
	AGENT_SETTING(                                                                           \
		region, removable, "auto",                                                       \
		"whether it may be taken away while programs run: yes, no; auto = a device may") \
	AGENT_SETTING(region, size, "256M", "size of a region file that does not exist yet")     \
	AGENT_SETTING(region, ring_bytes, "512K",                                                \
		      "size of a ring, one direction: a power of two from 64K to 2M")            \
	AGENT_SETTING(region, min_read_mbps, "1000",                                             \
		      "a region that reads slower (MB/s, second pass of 1 MiB) is not used")     \
	AGENT_SETTING(guest, name, "", "name shown to others; empty = host name")                \
	AGENT_SETTING(guest, suspect_ms, "3000",                                                 \
		      "a guest silent for so long gets no new rings until it is heard again")    \
	AGENT_SETTING(residency, interfaces, "*",                                                \
		      "which interfaces' addresses are published: patterns, ! excludes")         \
	AGENT_SETTING(residency, peers, "*",                                                     \
		      "which peers may be moved: addresses or prefixes, ! excludes, * = all")    \
	AGENT_SETTING(residency, loopback, "yes", "whether streams inside this guest are moved") \
	AGENT_SETTING(access, group, "",                                                         \
		      "group that may use the socket; empty = every local user")                 \
	AGENT_SETTING(access, max_streams, "16384",                                              \
		      "stream records per user, a power of two from 64 to 262144")               \
	AGENT_SETTING(pairing, offer_ms, "1000", "how long an offer waits for the other end")

/** struct coloc_settings - the numbers, in the order of the list; names are <section>_<key> */
struct coloc_settings {
#define COLOC_SETTING_FIELD(section, key, def, min, max, text) int64_t section##_##key;
	COLOC_SHIM_SETTINGS(COLOC_SETTING_FIELD)
#undef COLOC_SETTING_FIELD
};

#endif
