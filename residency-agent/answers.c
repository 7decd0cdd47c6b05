/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answers.c - status, streams and stats as JSON
 *
 * Names are fixed: scripts and tests rely on them. Strings that come from other guests or from
 * processes are made printable first, for a terminal may show them.
 */
#include "agent.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "segment.h"

static char *dump(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	return text;
}

static json_int_t number(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

static const char *print_address(const uint8_t addr[16], char *text, size_t size)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (!memcmp(addr, mapped, 12))
		return inet_ntop(AF_INET, addr + 12, text, (socklen_t)size);
	return inet_ntop(AF_INET6, addr, text, (socklen_t)size);
}

static void print_endpoint(const struct shmt_endpoint *end, char *text, size_t size)
{
	char address[INET6_ADDRSTRLEN];

	print_address(end->addr, address, sizeof(address));
	snprintf(text, size, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, end->port);
}

static void print_command(const char *from, char text[16])
{
	size_t i;

	memcpy(text, from, 15);
	text[15] = 0;
	for (i = 0; text[i]; i++)
		if (text[i] < ' ' || text[i] > '~')
			text[i] = '?';
}

/* ---- status ------------------------------------------------------------------------------------
 */

static const char *state_name(const struct ra_agent *agent, uint32_t slot)
{
	static const char *const names[] = {
		[SHMT_GUEST_FREE] = "free",
		[SHMT_GUEST_CLAIMED] = "claimed",
		[SHMT_GUEST_LIVE] = "live",
		[SHMT_GUEST_DRAINING] = "draining",
	};
	const unsigned int state = SHMT_GUEST_STATE(shmt_load(&agent->region.guests[slot].word));

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static json_t *region_status(const struct ra_agent *agent)
{
	char domain[33] = "";
	unsigned int i;

	for (i = 0; agent->region.base && i < 16; i++)
		sprintf(domain + 2 * i, "%02x", agent->region.domain_id[i]);
	return json_pack("{s:s, s:I, s:s, s:I, s:s, s:s}", "path", agent->region_path, "bytes",
			 number(agent->region.bytes), "domain", domain, "read_mbps",
			 number(agent->region_mbps), "reason",
			 coloc_reason_name(agent->region_reason), "reason_text",
			 agent->region_reason ? coloc_reason_text(agent->region_reason) : "");
}

static json_t *guest_status(const struct ra_agent *agent)
{
	const bool in = agent->region.base;

	return json_pack("{s:I, s:I, s:s, s:s}", "slot",
			 in ? (json_int_t)agent->guest.slot : (json_int_t)-1, "epoch",
			 number(agent->guest.epoch), "name", agent->name, "state",
			 in ? state_name(agent, agent->guest.slot) : "none");
}

static json_t *guests_status(const struct ra_agent *agent)
{
	uint32_t addresses[SHMT_GUESTS_MAX] = {0};
	json_t *list = json_array();
	const struct ra_watch *watch;
	char name[24];
	uint64_t word;
	uint32_t i;

	for (i = 0; i < agent->region.addr_count; i++) {
		word = shmt_load_relaxed(&agent->region.addrs[i].word);
		if (SHMT_ADDR_STATE(word) == SHMT_ADDR_LIVE &&
		    SHMT_ADDR_GUEST(word) < agent->region.guest_count &&
		    shmt_guest_alive(&agent->region, SHMT_ADDR_GUEST(word), SHMT_ADDR_EPOCH(word)))
			addresses[SHMT_ADDR_GUEST(word)]++;
	}
	for (i = 0; i < agent->region.guest_count; i++) {
		word = shmt_load_acquire(&agent->region.guests[i].word);
		watch = &agent->watch[i];
		if (!shmt_guest_alive(&agent->region, i, SHMT_GUEST_EPOCH(word)))
			continue;
		json_array_append_new(
			list,
			json_pack("{s:i, s:I, s:s, s:s, s:b, s:b, s:i}", "slot", (int)i, "epoch",
				  number(SHMT_GUEST_EPOCH(word)), "name",
				  ra_guest_name(agent, i, name), "state", state_name(agent, i),
				  "suspect", watch->suspect && i != agent->guest.slot, "self",
				  i == agent->guest.slot, "addresses", (int)addresses[i]));
	}
	return list;
}

static json_t *segments_status(const struct ra_agent *agent)
{
	struct shmt_segment_usage usage = {0};

	if (agent->region.base)
		shmt_segment_usage(&agent->region, &agent->guest, &usage);
	return json_pack("{s:i, s:I, s:I, s:i, s:i, s:i}", "used", (int)usage.used, "used_bytes",
			 number(usage.used_bytes), "free_bytes", number(usage.free_bytes), "chunks",
			 (int)usage.chunks_total, "chunks_own", (int)usage.chunks_own,
			 "chunks_free", (int)usage.chunks_free);
}

static json_t *addresses_status(const struct ra_agent *agent)
{
	json_t *list = json_array();
	char text[INET6_ADDRSTRLEN];
	uint32_t i;

	for (i = 0; i < agent->addresses.count; i++)
		if (agent->addresses.at[i].published)
			json_array_append_new(list,
					      json_string(print_address(agent->addresses.at[i].addr,
									text, sizeof(text))));
	return list;
}

static uint32_t count_offers(const struct ra_agent *agent)
{
	struct shmt_offer offer;
	uint32_t i, count = 0;

	for (i = 0; i < agent->region.offer_count; i++)
		count += shmt_offer_read(&agent->region, i, &offer) == 0 &&
			 offer.author.slot == agent->guest.slot &&
			 offer.author.epoch == agent->guest.epoch;
	return count;
}

char *ra_answer_status(const struct ra_agent *agent)
{
	uint32_t processes = 0, records = 0, room = 0, slot, index;
	const struct ra_user *user;

	for (user = agent->users; user; user = user->next) {
		room += user->record_count;
		for (slot = 0; slot < COLOC_PROCS_MAX; slot++)
			processes += user->procs[slot] != NULL;
		ra_for_each_used(user, index) records++;
	}
	return dump(json_pack(
		"{s:s, s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:i, s:b, s:{s:b, s:i, s:i}, s:o}",
		"version", COLOC_VERSION, "pid", (int)getpid(), "socket", agent->socket_path,
		"config", agent->config_path, "region", region_status(agent), "guest",
		guest_status(agent), "guests", guests_status(agent), "segments",
		segments_status(agent), "offers", (int)count_offers(agent), "processes",
		(int)processes, "records", (int)records, "records_max", (int)room, "sock_diag",
		agent->diag_fd >= 0, "draining", "requested", agent->draining, "streams_on_ring",
		(int)ra_streams_on_ring(agent), "region_users", (int)ra_removal_users(agent),
		"addresses", addresses_status(agent)));
}

/* ---- streams -----------------------------------------------------------------------------------
 */

static const char *mode_name(const struct shmt_seg_shared *seg, unsigned int side)
{
	static const char *const names[] = {
		[SHMT_TCP] = "tcp",
		[SHMT_WAKING] = "waking",
		[SHMT_RING] = "ring",
		[SHMT_LEAVING] = "leaving",
	};

	return seg ? names[SHMT_CTL_MODE(shmt_load(&seg->dir[side].ctl))] : names[SHMT_TCP];
}

static const char *grant_name(uint32_t grant)
{
	static const char *const names[] = {
		[COLOC_GRANT_IDLE] = "idle",	     [COLOC_GRANT_WANTED] = "wanted",
		[COLOC_GRANT_OFFERED] = "offered",   [COLOC_GRANT_GRANTED] = "granted",
		[COLOC_GRANT_ATTACHED] = "attached",
	};

	return grant < sizeof(names) / sizeof(names[0]) ? names[grant] : "?";
}

static json_t *stream(const struct ra_agent *agent, const struct ra_user *user, uint32_t index)
{
	const struct coloc_record_shared *record = &user->records[index];
	const struct ra_note *note = &user->notes[index];
	const struct shmt_seg_shared *seg = note->generation == shmt_load(&record->generation)
						    ? ra_record_seg(agent, note)
						    : NULL;
	const uint32_t reason = shmt_load_relaxed(&record->reason);
	char local[64], remote[64], command[16], name[24];

	print_endpoint(&record->local, local, sizeof(local));
	print_endpoint(&record->remote, remote, sizeof(remote));
	print_command(record->command, command);
	return json_pack(
		"{s:i, s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I,"
		" s:I, s:I, s:I, s:I}",
		"pid", (int)record->pid, "command", command, "user", (int)user->uid, "local", local,
		"remote", remote, "peer_guest", ra_guest_name(agent, record->peer_guest, name),
		"tx_mode", mode_name(seg, note->side), "rx_mode", mode_name(seg, !note->side),
		"reason", coloc_reason_name(reason), "grant",
		grant_name(shmt_load_relaxed(&record->grant)), "tx_ring_bytes",
		number(record->tx.ring_bytes), "tx_tcp_bytes", number(record->tx.tcp_bytes),
		"rx_ring_bytes", number(record->rx.ring_bytes), "rx_tcp_bytes",
		number(record->rx.tcp_bytes), "tx_messages", number(record->tx.messages),
		"rx_messages", number(record->rx.messages), "tx_switches",
		number(record->tx.switches), "rx_switches", number(record->rx.switches));
}

char *ra_answer_streams(const struct ra_agent *agent)
{
	const struct ra_user *user;
	json_t *list = json_array();
	uint32_t index;

	for (user = agent->users; user; user = user->next)
		ra_for_each_used(user, index) if (shmt_load_acquire(&user->records[index].state) ==
						  COLOC_RECORD_LIVE)
			json_array_append_new(list, stream(agent, user, index));
	return dump(list);
}

/* ---- stats -------------------------------------------------------------------------------------
 */

static void add_live(const struct ra_user *user, struct coloc_totals_shared *sum)
{
	const struct coloc_record_shared *record;
	uint32_t index;

	ra_for_each_used(user, index)
	{
		record = &user->records[index];
		if (shmt_load_acquire(&record->state) != COLOC_RECORD_LIVE)
			continue;
		sum->bytes_ring += record->tx.ring_bytes + record->rx.ring_bytes;
		sum->bytes_tcp += record->tx.tcp_bytes + record->rx.tcp_bytes;
	}
}

char *ra_answer_stats(const struct ra_agent *agent)
{
	struct coloc_totals_shared sum = {0};
	const uint64_t *from;
	const struct ra_user *user;
	json_t *reasons = json_object();
	unsigned int i;

	for (user = agent->users; user; user = user->next) {
		from = (const uint64_t *)&user->shared->totals;
		for (i = 0; i < sizeof(sum) / sizeof(uint64_t); i++)
			((uint64_t *)&sum)[i] += shmt_load_relaxed(&from[i]);
		add_live(user, &sum);
	}
	for (i = COLOC_REASON_NONE + 1; i < COLOC_REASON_COUNT; i++)
		if (sum.reasons[i])
			json_object_set_new(reasons, coloc_reason_name(i),
					    json_integer(number(sum.reasons[i])));
	return dump(json_pack("{s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "streams_seen",
			      number(sum.streams_seen), "streams_moved", number(sum.streams_moved),
			      "streams_now_on_ring", (int)ra_streams_on_ring(agent), "bytes_ring",
			      number(sum.bytes_ring), "bytes_tcp", number(sum.bytes_tcp),
			      "switches_to_ring", number(sum.switches_to_ring), "switches_to_tcp",
			      number(sum.switches_to_tcp), "bypasses", number(sum.bypasses),
			      "reasons", reasons));
}
