/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf.h - the configuration: defaults, file, environment, in this order
 *
 * Everything here is derived from include/settings.h. An error names the file, the line and what is
 * wrong with it, and leaves the caller's configuration as it was.
 */
#ifndef RA_CONF_H
#define RA_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "settings.h"

#define RA_RULES_MAX	    32
#define RA_CONF_VALUE_BYTES 512
#define RA_CONF_ERROR_BYTES 512

struct ra_rule {
	uint8_t addr[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t bits;
	uint32_t allow;
};

struct ra_conf {
	struct coloc_settings shim;
	char region_path[RA_CONF_VALUE_BYTES];
	enum { RA_REMOVABLE_AUTO, RA_REMOVABLE_YES, RA_REMOVABLE_NO } region_removable;
	uint64_t region_size, region_ring_bytes, region_min_read_mbps;
	char guest_name[RA_CONF_VALUE_BYTES]; /* empty = host name */
	uint64_t guest_suspect_ms;
	char residency_interfaces[RA_CONF_VALUE_BYTES];
	struct ra_rule rules[RA_RULES_MAX];
	uint32_t rule_count;
	bool rules_default; /* what a peer gets that no rule matches */
	bool residency_loopback;
	bool access_group_set;
	gid_t access_group;
	uint64_t access_max_streams;
	uint64_t pairing_offer_ms;
};

/**
 * ra_conf_load() - defaults, then @path (NULL: none), then COLOC_<SECTION>_<KEY>
 * @must_exist: @path was asked for; else a missing file is an empty one
 * @error: at least RA_CONF_ERROR_BYTES; "file:line: reason" without a newline
 * Return: 0, -errno of opening it, -EINVAL with @ret_conf untouched
 */
int ra_conf_load(const char *path, bool must_exist, struct ra_conf *ret_conf, char *error);

/** ra_conf_print_default() - the commented default file, config/coloc.conf */
void ra_conf_print_default(FILE *out);

/** ra_conf_interface_counts() - do the patterns of residency.interfaces let @name in? */
bool ra_conf_interface_counts(const struct ra_conf *conf, const char *name);

/** ra_conf_peer_allowed() - do the rules of residency.peers let @addr be moved? */
bool ra_conf_peer_allowed(const struct ra_conf *conf, const uint8_t addr[16]);

/**
 * ra_conf_set_agent() - one key of the agent's own list (conf_agent.c)
 * @why: what is wrong with @value; at least RA_CONF_ERROR_BYTES
 * Return: 0; -ENOENT no such key; -EINVAL
 */
int ra_conf_set_agent(struct ra_conf *conf, const char *section, const char *key, const char *value,
		      char *why);

/** ra_conf_number() - a decimal @value from @min to @max; -EINVAL and @why */
int ra_conf_number(const char *value, int64_t min, int64_t max, int64_t *ret_number, char *why);

#endif
