/* SPDX-License-Identifier: Apache-2.0 */
/*
 * colocctl_show.c - JSON as text for people
 *
 * One general rule instead of a format per verb, so that whatever the agent learns to tell is
 * shown: scalars of an object stand first, as "key  value"; then its objects, each under its name;
 * a list of objects is a table whose columns are the keys of its first row. Numbers of keys that
 * speak of bytes are printed with a binary unit. Only streams, which people look at most, have
 * their columns chosen here.
 */
#include "colocctl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "reason.h"

#define COLUMNS_MAX 32
#define INDENT	    2

struct column {
	const char *key;
	const char *title;
	int width;
	bool right;
};

const char *ctl_format_bytes(char *text, double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, 24, unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
	return text;
}

double ctl_number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

const char *ctl_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

bool ctl_mode_is_ring(const char *mode)
{
	return !strcasecmp(mode, "ring") || !strcasecmp(mode, "waking") ||
	       !strcasecmp(mode, "leaving");
}

static bool speaks_of_bytes(const char *key)
{
	const size_t length = strlen(key);

	return !strncmp(key, "bytes_", 6) || !strcmp(key, "bytes") ||
	       (length > 6 && !strcmp(key + length - 6, "_bytes"));
}

static bool is_scalar(const json_t *value)
{
	return !json_is_object(value) && !json_is_array(value);
}

/* Control characters of a foreign string (a process may be called anything) must not reach a
 * terminal. */
static void copy_printable(char *text, size_t size, const char *from)
{
	size_t i;

	for (i = 0; from[i] && i + 1 < size; i++)
		text[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i];
	text[i] = '\0';
}

static const char *scalar_text(char *text, size_t size, const char *key, const json_t *value)
{
	if (json_is_string(value))
		copy_printable(text, size, json_string_value(value));
	else if (json_is_integer(value) && speaks_of_bytes(key))
		ctl_format_bytes(text, (double)json_integer_value(value));
	else if (json_is_integer(value))
		snprintf(text, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, size, "%.2f", json_real_value(value));
	else
		snprintf(text, size, "%s",
			 json_is_true(value)				     ? "yes"
			 : json_is_false(value)				     ? "no"
			 : json_object_size(value) || json_array_size(value) ? "..."
									     : "-");
	return text;
}

/* A list of scalars on one line: "10.77.0.1, fd77::1". */
static const char *cell_text(char *text, size_t size, const char *key, const json_t *value)
{
	size_t i, used = 0;
	char item[128];

	if (!json_is_array(value) || json_array_size(value) == 0)
		return scalar_text(text, size, key, value);
	text[0] = '\0';
	for (i = 0; i < json_array_size(value) && used + 1 < size; i++)
		used += (size_t)snprintf(
			text + used, size - used, "%s%s", i ? ", " : "",
			scalar_text(item, sizeof(item), key, json_array_get(value, i)));
	return text;
}

static void show_table(FILE *out, const json_t *rows, struct column *columns, size_t count,
		       int indent)
{
	char text[256];
	json_t *row;
	size_t r, c;
	int width;

	for (c = 0; c < count; c++)
		columns[c].width = (int)strlen(columns[c].title);
	json_array_foreach(rows, r, row)
	{
		for (c = 0; c < count; c++) {
			const json_t *value = json_object_get(row, columns[c].key);

			width = (int)strlen(cell_text(text, sizeof(text), columns[c].key, value));
			if (width > columns[c].width)
				columns[c].width = width;
			columns[c].right |= json_is_number(value);
		}
	}

	fprintf(out, "%*s", indent, "");
	for (c = 0; c < count; c++)
		fprintf(out, columns[c].right ? "%*s%s" : "%-*s%s", columns[c].width,
			columns[c].title, c + 1 < count ? "  " : "\n");
	json_array_foreach(rows, r, row)
	{
		fprintf(out, "%*s", indent, "");
		for (c = 0; c < count; c++)
			fprintf(out, columns[c].right ? "%*s%s" : "%-*s%s", columns[c].width,
				cell_text(text, sizeof(text), columns[c].key,
					  json_object_get(row, columns[c].key)),
				c + 1 < count ? "  " : "\n");
	}
}

static void show_any_table(FILE *out, const json_t *rows, int indent)
{
	struct column columns[COLUMNS_MAX] = {0};
	const char *key;
	size_t count = 0;
	json_t *value;

	json_object_foreach(json_array_get(rows, 0), key, value)
	{
		if (count < COLUMNS_MAX)
			columns[count++] = (struct column){.key = key, .title = key};
	}
	show_table(out, rows, columns, count, indent);
}

static void show_object(FILE *out, const json_t *object, int indent)
{
	char text[1024];
	const char *key;
	json_t *value;
	int width = 0;

	json_object_foreach((json_t *)object, key, value)
	{
		if ((int)strlen(key) > width)
			width = (int)strlen(key);
	}
	json_object_foreach((json_t *)object, key, value)
	{
		const bool line = is_scalar(value) ||
				  (json_is_array(value) && is_scalar(json_array_get(value, 0)));

		if (line)
			fprintf(out, "%*s%-*s  %s\n", indent, "", width, key,
				cell_text(text, sizeof(text), key, value));
	}
	json_object_foreach((json_t *)object, key, value)
	{
		if (json_is_object(value)) {
			fprintf(out, "%*s%s:%s\n", indent, "", key,
				json_object_size(value) ? "" : " none");
			show_object(out, value, indent + INDENT);
		} else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
			fprintf(out, "%*s%s:\n", indent, "", key);
			show_any_table(out, value, indent + INDENT);
		}
	}
}

void ctl_show(FILE *out, const json_t *value)
{
	if (json_is_object(value))
		show_object(out, value, 0);
	else if (json_is_object(json_array_get(value, 0)))
		show_any_table(out, value, 0);
}

void ctl_show_json(FILE *out, const json_t *value)
{
	json_dumpf(value, out, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
	fputc('\n', out);
}

void ctl_show_streams(FILE *out, const json_t *streams)
{
	struct column columns[] = {
		{.key = "pid", .title = "PID"},
		{.key = "command", .title = "COMMAND"},
		{.key = "local", .title = "LOCAL"},
		{.key = "remote", .title = "REMOTE"},
		{.key = "peer_guest", .title = "GUEST"},
		{.key = "tx_mode", .title = "TX"},
		{.key = "rx_mode", .title = "RX"},
		{.key = "tx_ring_bytes", .title = "TX RING", .right = true},
		{.key = "tx_tcp_bytes", .title = "TX TCP", .right = true},
		{.key = "rx_ring_bytes", .title = "RX RING", .right = true},
		{.key = "rx_tcp_bytes", .title = "RX TCP", .right = true},
		{.key = "reason", .title = "REASON"},
	};
	bool seen[COLOC_REASON_COUNT] = {false};
	unsigned int code;
	json_t *stream;
	size_t i;

	if (json_array_size(streams) == 0) {
		fputs("no co-resident streams of preloaded programs\n", out);
		return;
	}
	show_table(out, streams, columns, sizeof(columns) / sizeof(columns[0]), 0);

	json_array_foreach(streams, i, stream)
	{
		for (code = COLOC_REASON_NONE + 1; code < COLOC_REASON_COUNT; code++)
			if (!strcmp(ctl_string(stream, "reason"), coloc_reason_name(code)))
				seen[code] = true;
	}
	for (code = 0; code < COLOC_REASON_COUNT; code++)
		if (seen[code])
			fprintf(out, "  %s: %s\n", coloc_reason_name(code),
				coloc_reason_text(code));
}
