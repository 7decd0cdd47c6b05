/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl_watch.c - verbs that compare answers of different times: stats --since, top, drain
 *
 * The agent sends no events, so top and drain look at a fixed pace: once a second, and ten times a
 * second until nothing is on a ring or the time is over.
 */
#include "colocctl.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_LOOK_MS 100

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Absolute, so that the pace does not drift by what a look costs. */
static void sleep_until_ms(int64_t when)
{
	const struct timespec until = {.tv_sec = when / 1000, .tv_nsec = when % 1000 * 1000000};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* What it sends is off the ring once that is left; what it receives, when it has been read. */
static bool on_ring(const json_t *stream)
{
	const char *tx_mode = ctl_string(stream, "tx_mode");

	return (ctl_mode_is_ring(tx_mode) && strcmp(tx_mode, "leaving") != 0) ||
	       ctl_mode_is_ring(ctl_string(stream, "rx_mode"));
}

/* ---- stats ----------------------------------------------------------------------------------- */

/* What counts how things stand is not a sum that has grown. */
static bool is_level(const char *key)
{
	return strstr(key, "_now") != NULL;
}

/*
 * A copy of @now with @before taken off every number that both have; of objects within (counts by
 * name) only what has grown.
 */
static json_t *difference(const json_t *now, const json_t *before, bool within)
{
	json_int_t grown;
	json_t *result = json_object();
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)now, key, value)
	{
		const json_t *old = json_object_get(before, key);

		if (json_is_object(value))
			json_object_set_new(result, key, difference(value, old, true));
		else if (json_is_integer(value) && !is_level(key)) {
			grown = json_integer_value(value) - json_integer_value(old);
			if (grown != 0 || !within)
				json_object_set_new(result, key, json_integer(grown));
		} else
			json_object_set(result, key, value);
	}
	return result;
}

int ctl_stats(const struct ctl_options *options)
{
	json_t *stats, *before = NULL, *shown;
	json_error_t where;

	if (options->since) {
		before = json_load_file(options->since, JSON_REJECT_DUPLICATES, &where);
		if (!json_is_object(before)) {
			fprintf(stderr, "colocctl: %s:%d: %s\n", options->since,
				before ? 1 : where.line, before ? "not an object" : where.text);
			json_decref(before);
			return CTL_EXIT_USAGE;
		}
	}
	stats = ctl_ask_or_complain(options, COLOC_VERB_STATS, NULL);
	if (!stats) {
		json_decref(before);
		return CTL_EXIT_AGENT;
	}
	shown = before ? difference(stats, before, false) : json_incref(stats);
	if (options->json)
		ctl_show_json(stdout, shown);
	else
		ctl_show(stdout, shown);
	json_decref(before);
	json_decref(stats);
	json_decref(shown);
	return CTL_EXIT_OK;
}

/* ---- drain ----------------------------------------------------------------------------------- */

/* A new list of those streams that are on a ring. */
static json_t *select_on_ring(const json_t *streams)
{
	json_t *left = json_array();
	json_t *stream;
	size_t i;

	json_array_foreach(streams, i, stream)
	{
		if (on_ring(stream))
			json_array_append(left, stream);
	}
	return left;
}

/* Processes that may still look at a region which is to go; -1: no answer */
static int ask_region_users(const struct ctl_options *options)
{
	json_t *status = ctl_ask_or_complain(options, COLOC_VERB_STATUS, NULL);
	const int users =
		status ? (int)ctl_number(json_object_get(status, "draining"), "region_users") : -1;

	json_decref(status);
	return users;
}

/*
 * Shows the count whenever it changes. Return: streams still on a ring, or NULL: no answer. None:
 * @ret_users tells whether the region is out of use too.
 */
static json_t *wait_for_rings(const struct ctl_options *options, int64_t deadline, int *ret_users)
{
	const bool terminal = isatty(STDERR_FILENO) == 1;
	size_t count, last = SIZE_MAX;
	int64_t look = now_ms();
	json_t *streams, *left;

	for (;;) {
		streams = ctl_ask_or_complain(options, COLOC_VERB_STREAMS, NULL);
		if (!streams)
			return NULL;
		left = select_on_ring(streams);
		json_decref(streams);
		count = json_array_size(left);
		if (!options->json && count != last)
			fprintf(stderr, "%sdraining: %zu %s on a ring%s", terminal ? "\r" : "",
				count, count == 1 ? "stream" : "streams", terminal ? "  " : "\n");
		last = count;
		*ret_users = count ? 1 : ask_region_users(options);
		if (*ret_users <= 0 || look >= deadline)
			break;
		json_decref(left);
		look += DRAIN_LOOK_MS;
		sleep_until_ms(look);
	}
	if (terminal && !options->json)
		fputc('\n', stderr);
	return left;
}

int ctl_drain(const struct ctl_options *options)
{
	const int64_t begin = now_ms();
	json_t *answer, *left;
	int failed, users;
	size_t count;

	answer = ctl_ask_or_complain(options, COLOC_VERB_DRAIN, &failed);
	if (!answer)
		return failed;
	json_decref(answer);
	left = wait_for_rings(options, begin + (int64_t)options->timeout_s * 1000, &users);
	if (!left)
		return CTL_EXIT_AGENT;
	count = json_array_size(left);

	if (options->json) {
		answer = json_pack("{s:b, s:I, s:i, s:O}", "drained", users == 0, "milliseconds",
				   (json_int_t)(now_ms() - begin), "region_users", users, "left",
				   left);
		ctl_show_json(stdout, answer);
		json_decref(answer);
	} else if (users == 0) {
		printf("drained in %.1f s: every stream is on TCP; 'colocctl resume' lets them back\n",
		       (double)(now_ms() - begin) / 1000);
	} else if (count == 0) {
		printf("not drained within %d s: %d %s may still be at the region\n",
		       options->timeout_s, users, users == 1 ? "process" : "processes");
	} else {
		printf("not drained within %d s; still on a ring:\n", options->timeout_s);
		ctl_show_streams(stdout, left);
	}
	json_decref(left);
	return users == 0 ? CTL_EXIT_OK : CTL_EXIT_NO;
}

/* ---- top ------------------------------------------------------------------------------------- */

static bool same_stream(const json_t *a, const json_t *b)
{
	return ctl_number(a, "pid") == ctl_number(b, "pid") &&
	       !strcmp(ctl_string(a, "local"), ctl_string(b, "local")) &&
	       !strcmp(ctl_string(a, "remote"), ctl_string(b, "remote"));
}

static const json_t *find_stream(const json_t *streams, const json_t *wanted, size_t hint)
{
	const json_t *guess = json_array_get(streams, hint);
	json_t *stream;
	size_t i;

	/* Streams keep their order, so the one at the same place is nearly always it. */
	if (guess && same_stream(guess, wanted))
		return guess;
	json_array_foreach(streams, i, stream)
	{
		if (same_stream(stream, wanted))
			return stream;
	}
	return NULL;
}

static json_int_t rate(const json_t *now, const json_t *before, const char *key, double seconds)
{
	const double difference = before ? ctl_number(now, key) - ctl_number(before, key) : 0;

	return difference > 0 && seconds > 0 ? (json_int_t)(difference / seconds) : 0;
}

/* What the screen shows, as JSON: rates are per second. */
static json_t *make_rates(const json_t *stats, const json_t *old_stats, const json_t *streams,
			  const json_t *old_streams, double seconds)
{
	json_t *list = json_array();
	json_t *stream;
	size_t i;

	json_array_foreach(streams, i, stream)
	{
		const json_t *old = find_stream(old_streams, stream, i);

		json_array_append_new(
			list, json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s}",
					"pid", (json_int_t)ctl_number(stream, "pid"), "command",
					ctl_string(stream, "command"), "local",
					ctl_string(stream, "local"), "remote",
					ctl_string(stream, "remote"), "tx_mode",
					ctl_string(stream, "tx_mode"), "rx_mode",
					ctl_string(stream, "rx_mode"), "tx_ring_bytes",
					rate(stream, old, "tx_ring_bytes", seconds), "tx_tcp_bytes",
					rate(stream, old, "tx_tcp_bytes", seconds), "rx_ring_bytes",
					rate(stream, old, "rx_ring_bytes", seconds), "rx_tcp_bytes",
					rate(stream, old, "rx_tcp_bytes", seconds), "reason",
					ctl_string(stream, "reason")));
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "streams_seen",
			 (json_int_t)ctl_number(stats, "streams_seen"), "streams_now_on_ring",
			 (json_int_t)ctl_number(stats, "streams_now_on_ring"), "bytes_ring",
			 rate(stats, old_stats, "bytes_ring", seconds), "bytes_tcp",
			 rate(stats, old_stats, "bytes_tcp", seconds), "switches_to_ring",
			 rate(stats, old_stats, "switches_to_ring", seconds), "switches_to_tcp",
			 rate(stats, old_stats, "switches_to_tcp", seconds), "streams", list);
}

static void show_rates(const struct ctl_options *options, const json_t *rates)
{
	char ring[24], tcp[24];

	if (options->json) {
		json_dumpf(rates, stdout, JSON_COMPACT);
		fputc('\n', stdout);
		return;
	}
	if (isatty(STDOUT_FILENO) == 1)
		fputs("\033[H\033[J", stdout);
	printf("%.0f streams seen, %.0f now on a ring; per second: %s by ring, %s by TCP, "
	       "%.0f switches to the ring, %.0f back\n\n",
	       ctl_number(rates, "streams_seen"), ctl_number(rates, "streams_now_on_ring"),
	       ctl_format_bytes(ring, ctl_number(rates, "bytes_ring")),
	       ctl_format_bytes(tcp, ctl_number(rates, "bytes_tcp")),
	       ctl_number(rates, "switches_to_ring"), ctl_number(rates, "switches_to_tcp"));
	ctl_show_streams(stdout, json_object_get(rates, "streams"));
}

int ctl_top(const struct ctl_options *options)
{
	json_t *stats = NULL, *streams = NULL, *old_stats, *old_streams, *rates;
	int64_t look = now_ms(), last_ms, this_ms = look;
	int shown = 0, rc = CTL_EXIT_OK;

	for (;;) {
		old_stats = stats;
		old_streams = streams;
		last_ms = this_ms;
		this_ms = now_ms();
		stats = ctl_ask_or_complain(options, COLOC_VERB_STATS, NULL);
		streams = stats ? ctl_ask_or_complain(options, COLOC_VERB_STREAMS, NULL) : NULL;
		if (!streams) {
			rc = CTL_EXIT_AGENT;
			break;
		}
		if (old_stats) {
			rates = make_rates(stats, old_stats, streams, old_streams,
					   (double)(this_ms - last_ms) / 1000);
			show_rates(options, rates);
			json_decref(rates);
			/* A reader that is gone (head) ends this, as ^C does. */
			if (fflush(stdout) != 0 || (options->count && ++shown >= options->count))
				break;
		}
		json_decref(old_stats);
		json_decref(old_streams);
		old_stats = old_streams = NULL;
		look += 1000;
		sleep_until_ms(look);
	}
	json_decref(old_stats);
	json_decref(old_streams);
	json_decref(stats);
	json_decref(streams);
	return rc;
}
