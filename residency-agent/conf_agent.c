/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_agent.c - the agent's own keys: what their values mean
 *
 * The list in settings.h names the keys; each has a function set_<section>_<key>() here, and the
 * table at the end is made from the list, so a key without one does not link.
 */
#include "conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shmt_layout.h"

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, RA_CONF_ERROR_BYTES, format, args);
	va_end(args);
	return -EINVAL;
}

/* ---- kinds of values ---------------------------------------------------------------------------
 */

static int take_string(char *dst, const char *value, char *why)
{
	if (strlen(value) >= RA_CONF_VALUE_BYTES)
		return refuse(why, "longer than %d bytes", RA_CONF_VALUE_BYTES - 1);
	strcpy(dst, value);
	return 0;
}

/* 262144, 256K, 256M or 1G; of 1024 each. */
static int take_size(uint64_t *dst, const char *value, uint64_t min, uint64_t max, char *why)
{
	static const char units[] = "KMGT";
	unsigned long long number;
	const char *unit;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (end == value || *value == '-' || errno == ERANGE)
		return refuse(why, "'%s' is not a size like 512K or 256M", value);
	if (*end) {
		unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!unit || end[1])
			return refuse(why, "'%s' is not a size like 512K or 256M", value);
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (number > UINT64_MAX >> shift || number << shift < min || number << shift > max)
		return refuse(why, "%s is not from %lluK to %lluK", value,
			      (unsigned long long)min >> 10, (unsigned long long)max >> 10);
	*dst = number << shift;
	return 0;
}

static int take_number(uint64_t *dst, const char *value, int64_t min, int64_t max, char *why)
{
	int64_t number;
	int rc = ra_conf_number(value, min, max, &number, why);

	if (rc == 0)
		*dst = (uint64_t)number;
	return rc;
}

static int take_bool(bool *dst, const char *value, char *why)
{
	static const struct {
		const char *word;
		bool means;
	} words[] = {{"yes", true}, {"true", true},   {"on", true},   {"1", true},
		     {"no", false}, {"false", false}, {"off", false}, {"0", false}};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcasecmp(words[i].word, value)) {
			*dst = words[i].means;
			return 0;
		}
	}
	return refuse(why, "'%s' is neither yes nor no", value);
}

static bool power_of_two(uint64_t number)
{
	return number && (number & (number - 1)) == 0;
}

/* ---- the keys ----------------------------------------------------------------------------------
 */

static int set_region_path(struct ra_conf *conf, const char *value, char *why)
{
	if (strcmp(value, "auto") && value[0] != '/')
		return refuse(why, "'%s' is neither 'auto' nor an absolute path", value);
	return take_string(conf->region_path, value, why);
}

static int set_region_removable(struct ra_conf *conf, const char *value, char *why)
{
	bool yes = false;
	int rc = 0;

	conf->region_removable = RA_REMOVABLE_AUTO;
	if (!strcmp(value, "auto"))
		return 0;
	rc = take_bool(&yes, value, why);
	conf->region_removable = yes ? RA_REMOVABLE_YES : RA_REMOVABLE_NO;
	return rc < 0 ? refuse(why, "'%s' is neither auto, yes nor no", value) : 0;
}

static int set_region_size(struct ra_conf *conf, const char *value, char *why)
{
	return take_size(&conf->region_size, value, SHMT_REGION_MIN_BYTES, 1ULL << 40, why);
}

static int set_region_ring_bytes(struct ra_conf *conf, const char *value, char *why)
{
	uint64_t bytes = 0;
	int rc = take_size(&bytes, value, SHMT_RING_MIN_BYTES, SHMT_RING_MAX_BYTES, why);

	if (rc < 0)
		return rc;
	if (!power_of_two(bytes))
		return refuse(why, "%s is not a power of two", value);
	conf->region_ring_bytes = bytes;
	return 0;
}

static int set_region_min_read_mbps(struct ra_conf *conf, const char *value, char *why)
{
	return take_number(&conf->region_min_read_mbps, value, 0, 1000000, why);
}

static int set_guest_name(struct ra_conf *conf, const char *value, char *why)
{
	if (strlen(value) >= sizeof(((struct shmt_guest_shared *)0)->name))
		return refuse(why, "'%s' is longer than %zu bytes", value,
			      sizeof(((struct shmt_guest_shared *)0)->name) - 1);
	return take_string(conf->guest_name, value, why);
}

static int set_guest_suspect_ms(struct ra_conf *conf, const char *value, char *why)
{
	return take_number(&conf->guest_suspect_ms, value, 300, 3600000, why);
}

/* Cuts the next pattern off @at: separated by spaces or commas, '!' in front excludes. */
static char *next_token(char **at, bool *ret_allow)
{
	char *token;

	do {
		token = strsep(at, " \t,");
	} while (token && !*token);
	if (!token)
		return NULL;
	*ret_allow = *token != '!';
	return token + !*ret_allow;
}

static int set_residency_interfaces(struct ra_conf *conf, const char *value, char *why)
{
	char copy[RA_CONF_VALUE_BYTES];
	char *at = copy, *token;
	bool allow;
	int rc = take_string(copy, value, why);

	if (rc < 0)
		return rc;
	while ((token = next_token(&at, &allow)))
		if (!*token)
			return refuse(why, "'!' without a pattern");
	return take_string(conf->residency_interfaces, value, why);
}

bool ra_conf_interface_counts(const struct ra_conf *conf, const char *name)
{
	char copy[RA_CONF_VALUE_BYTES];
	char *at = copy, *token;
	bool allow, first = true, counts = false;

	strcpy(copy, conf->residency_interfaces);
	while ((token = next_token(&at, &allow))) {
		if (first)
			counts = !allow; /* a list that begins by excluding lets the others in */
		first = false;
		if (fnmatch(token, name, 0) == 0)
			counts = allow;
	}
	return counts;
}

static int take_rule(struct ra_rule *rule, char *token, bool allow, char *why)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char *slash = strchr(token, '/');
	unsigned int base = 0;
	uint64_t bits;

	memset(rule, 0, sizeof(*rule));
	rule->allow = allow;
	if (!strcmp(token, "*"))
		return 0; /* zero bits: every address */
	if (slash)
		*slash = 0;
	if (inet_pton(AF_INET, token, rule->addr + 12) == 1) {
		memcpy(rule->addr, mapped, sizeof(mapped));
		base = 96;
	} else if (inet_pton(AF_INET6, token, rule->addr) != 1) {
		return refuse(why, "'%s' is not an address, a prefix or '*'", token);
	}
	bits = 128 - base;
	if (slash && take_number(&bits, slash + 1, 0, 128 - base, why) < 0)
		return -EINVAL;
	rule->bits = (uint32_t)(base + bits);
	return 0;
}

static int set_residency_peers(struct ra_conf *conf, const char *value, char *why)
{
	struct ra_rule rules[RA_RULES_MAX];
	char copy[RA_CONF_VALUE_BYTES];
	char *at = copy, *token;
	uint32_t count = 0;
	bool allow;
	int rc = take_string(copy, value, why);

	while (rc == 0 && (token = next_token(&at, &allow))) {
		if (count == RA_RULES_MAX)
			return refuse(why, "more than %d addresses and prefixes", RA_RULES_MAX);
		rc = take_rule(&rules[count++], token, allow, why);
	}
	if (rc < 0)
		return rc;
	memcpy(conf->rules, rules, count * sizeof(rules[0]));
	conf->rule_count = count;
	conf->rules_default = count > 0 && !rules[0].allow;
	return 0;
}

bool ra_conf_peer_allowed(const struct ra_conf *conf, const uint8_t addr[16])
{
	bool allowed = conf->rules_default;
	uint32_t i, whole, rest;

	for (i = 0; i < conf->rule_count; i++) {
		whole = conf->rules[i].bits / 8;
		rest = conf->rules[i].bits % 8;
		if (memcmp(addr, conf->rules[i].addr, whole) == 0 &&
		    (rest == 0 || (addr[whole] ^ conf->rules[i].addr[whole]) >> (8 - rest) == 0))
			allowed = conf->rules[i].allow;
	}
	return allowed;
}

static int set_residency_loopback(struct ra_conf *conf, const char *value, char *why)
{
	return take_bool(&conf->residency_loopback, value, why);
}

static int set_access_group(struct ra_conf *conf, const char *value, char *why)
{
	const struct group *group;

	conf->access_group_set = false;
	if (!*value)
		return 0;
	group = getgrnam(value);
	if (!group)
		return refuse(why, "there is no group '%s'", value);
	conf->access_group_set = true;
	conf->access_group = group->gr_gid;
	return 0;
}

static int set_access_max_streams(struct ra_conf *conf, const char *value, char *why)
{
	uint64_t number = 0;
	int rc = take_number(&number, value, 64, 262144, why);

	if (rc < 0)
		return rc;
	if (!power_of_two(number))
		return refuse(why, "%s is not a power of two", value);
	conf->access_max_streams = number;
	return 0;
}

static int set_pairing_offer_ms(struct ra_conf *conf, const char *value, char *why)
{
	return take_number(&conf->pairing_offer_ms, value, 10, 60000, why);
}

static const struct {
	const char *section, *key;
	int (*set)(struct ra_conf *conf, const char *value, char *why);
} keys[] = {
#define AGENT_SETTING(section_, key_, def, text) \
	{.section = #section_, .key = #key_, .set = set_##section_##_##key_},
	COLOC_AGENT_SETTINGS(AGENT_SETTING)
#undef AGENT_SETTING
};

int ra_conf_set_agent(struct ra_conf *conf, const char *section, const char *key, const char *value,
		      char *why)
{
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(keys[i].section, section) && !strcmp(keys[i].key, key))
			return keys[i].set(conf, value, why);
	return -ENOENT;
}
