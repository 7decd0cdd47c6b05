/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf.c - the configuration file and its environment variables
 *
 * libinih splits lines into section, key and value; what a key means is looked up in tables made
 * from the lists of settings.h, so that parser, default file and variables cannot drift apart.
 * libinih tells neither the line of a value nor anything of a section without keys: the reader
 * below counts lines and looks at section headings before libinih does. The first error counts.
 */
#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

enum kind { KIND_SHIM, KIND_AGENT };

/* One line per option, in the order of the lists. */
struct option_row {
	const char *section, *key;
	enum kind kind;
	int64_t number, min, max; /* KIND_SHIM */
	size_t offset;		  /* KIND_SHIM: of its field in struct coloc_settings */
	const char *string;	  /* KIND_AGENT */
	const char *text;
};

static const struct option_row rows[] = {
#define SETTING(section_, key_, def_, min_, max_, text_)               \
	{.section = #section_,                                         \
	 .key = #key_,                                                 \
	 .kind = KIND_SHIM,                                            \
	 .number = (def_),                                             \
	 .min = (min_),                                                \
	 .max = (max_),                                                \
	 .offset = offsetof(struct coloc_settings, section_##_##key_), \
	 .text = (text_)},
#define AGENT_SETTING(section_, key_, def_, text_) \
	{.section = #section_, .key = #key_, .kind = KIND_AGENT, .string = (def_), .text = (text_)},
	COLOC_AGENT_SETTINGS(AGENT_SETTING) COLOC_SHIM_SETTINGS(SETTING)
#undef SETTING
#undef AGENT_SETTING
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* What goes through libinih's callbacks. */
struct parse {
	FILE *file;
	const char *path;
	struct ra_conf conf;
	int line;
	int given_at[ROWS]; /* line of a key, to refuse it twice */
	bool failed;
	char *error;
};

static const struct option_row *find_row(const char *section, const char *key)
{
	size_t i;

	for (i = 0; i < ROWS; i++)
		if (!strcmp(rows[i].section, section) && !strcmp(rows[i].key, key))
			return &rows[i];
	return NULL;
}

static bool section_exists(const char *section)
{
	size_t i;

	for (i = 0; i < ROWS; i++)
		if (!strcmp(rows[i].section, section))
			return true;
	return false;
}

__attribute__((format(printf, 2, 3))) static void fail(struct parse *parse, const char *format, ...)
{
	va_list args;
	int used;

	if (parse->failed)
		return;
	parse->failed = true;
	used = snprintf(parse->error, RA_CONF_ERROR_BYTES, "%.200s:%d: ", parse->path, parse->line);
	va_start(args, format);
	vsnprintf(parse->error + used, RA_CONF_ERROR_BYTES - used, format, args);
	va_end(args);
}

int ra_conf_number(const char *value, int64_t min, int64_t max, int64_t *ret_number, char *why)
{
	char *end;
	int64_t number;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (end == value || *end) {
		snprintf(why, RA_CONF_ERROR_BYTES, "'%s' is not a number", value);
		return -EINVAL;
	}
	if (errno == ERANGE || number < min || number > max) {
		if (max == INT64_MAX)
			snprintf(why, RA_CONF_ERROR_BYTES, "%s is below %" PRId64, value, min);
		else
			snprintf(why, RA_CONF_ERROR_BYTES, "%s is not from %" PRId64 " to %" PRId64,
				 value, min, max);
		return -EINVAL;
	}
	*ret_number = number;
	return 0;
}

static int set_row(struct ra_conf *conf, const struct option_row *row, const char *value, char *why)
{
	if (row->kind == KIND_AGENT)
		return ra_conf_set_agent(conf, row->section, row->key, value, why);
	return ra_conf_number(value, row->min, row->max,
			      (int64_t *)((char *)&conf->shim + row->offset), why);
}

/* ---- the file ----------------------------------------------------------------------------------
 */

/* fgets() for libinih that counts lines and refuses what libinih would let pass. */
static char *read_line(char *text, int size, void *arg)
{
	struct parse *parse = arg;
	char *line = fgets(text, size, parse->file);
	char section[64];
	const char *at;

	if (!line)
		return NULL;
	parse->line++;
	if (!strchr(line, '\n') && !feof(parse->file)) {
		fail(parse, "the line is longer than %d bytes", size - 2);
		return NULL;
	}
	for (at = line; isspace((unsigned char)*at); at++)
		;
	if (*at == '[') {
		if (sscanf(at, "[%63[^]\n]]", section) != 1 || !strchr(at, ']'))
			fail(parse, "a section heading looks like [name]");
		else if (!section_exists(section))
			fail(parse, "there is no section [%s]", section);
	} else if (at > line && *at && *at != '#' && *at != ';') {
		fail(parse, "a line must not begin with a space: values do not go on");
	}
	return line;
}

static int take_value(void *arg, const char *section, const char *key, const char *value)
{
	struct parse *parse = arg;
	const struct option_row *row = find_row(section, key);
	char why[RA_CONF_ERROR_BYTES];

	if (parse->failed)
		return 0;
	if (!row && !*section)
		fail(parse, "'%s' stands before the first [section]", key);
	else if (!row)
		fail(parse, "there is no '%s' in section [%s]", key, section);
	else if (parse->given_at[row - rows])
		fail(parse, "'%s' was given in line %d already", key, parse->given_at[row - rows]);
	else if (set_row(&parse->conf, row, value, why) < 0)
		fail(parse, "%s: %s", key, why);
	if (parse->failed)
		return 0;
	parse->given_at[row - rows] = parse->line;
	return 1;
}

static int parse_file(struct parse *parse)
{
	int bad_line = ini_parse_stream(read_line, parse, take_value, parse);

	if (bad_line != 0 && !parse->failed) {
		/* libinih's own: neither a heading nor key = value. */
		parse->line = bad_line;
		fail(parse, "not 'key = value', not a [section] and not a comment");
	}
	if (ferror(parse->file))
		fail(parse, "could not be read");
	return parse->failed ? -EINVAL : 0;
}

/* ---- the environment ---------------------------------------------------------------------------
 */

static void variable_name(const struct option_row *row, char *name, size_t size)
{
	char *at;

	snprintf(name, size, "COLOC_%s_%s", row->section, row->key);
	for (at = name; *at; at++)
		*at = (char)toupper((unsigned char)*at);
}

static int take_environment(struct ra_conf *conf, char *error)
{
	char name[64], why[RA_CONF_ERROR_BYTES];
	const char *value;
	size_t i;

	for (i = 0; i < ROWS; i++) {
		variable_name(&rows[i], name, sizeof(name));
		value = getenv(name);
		if (value && set_row(conf, &rows[i], value, why) < 0) {
			snprintf(error, RA_CONF_ERROR_BYTES, "environment: %s: %.400s", name, why);
			return -EINVAL;
		}
	}
	return 0;
}

/* ---- all of it ---------------------------------------------------------------------------------
 */

static int set_defaults(struct ra_conf *conf, char *error)
{
	char why[RA_CONF_ERROR_BYTES];
	size_t i;

	memset(conf, 0, sizeof(*conf));
	for (i = 0; i < ROWS; i++) {
		if (rows[i].kind == KIND_SHIM) {
			*(int64_t *)((char *)&conf->shim + rows[i].offset) = rows[i].number;
		} else if (set_row(conf, &rows[i], rows[i].string, why) < 0) {
			snprintf(error, RA_CONF_ERROR_BYTES, "default of %s: %.400s", rows[i].key,
				 why);
			return -EINVAL;
		}
	}
	return 0;
}

int ra_conf_load(const char *path, bool must_exist, struct ra_conf *ret_conf, char *error)
{
	struct parse parse = {.path = path, .error = error};
	int rc;

	rc = set_defaults(&parse.conf, error);
	if (rc < 0)
		return rc;
	if (path) {
		parse.file = fopen(path, "re");
		if (!parse.file) {
			rc = -errno;
			if (rc != -ENOENT || must_exist) {
				snprintf(error, RA_CONF_ERROR_BYTES, "%s: %s", path, strerror(-rc));
				return rc;
			}
		} else {
			rc = parse_file(&parse);
			fclose(parse.file);
			if (rc < 0)
				return rc;
		}
	}
	rc = take_environment(&parse.conf, error);
	if (rc < 0)
		return rc;
	*ret_conf = parse.conf;
	return 0;
}

void ra_conf_print_default(FILE *out)
{
	const char *section = "";
	char name[64];
	size_t i;

	fprintf(out,
		"# coloc.conf - shared-memory transport between co-resident guests\n"
		"#\n"
		"# Every option stands here at its default. 'systemctl reload residency-agent'\n"
		"# (SIGHUP) reads it again; a file with an error is refused as a whole, and the\n"
		"# values in use stay. COLOC_<SECTION>_<KEY> in the environment goes before it.\n");
	for (i = 0; i < ROWS; i++) {
		if (strcmp(section, rows[i].section)) {
			section = rows[i].section;
			fprintf(out, "\n[%s]\n", section);
		}
		variable_name(&rows[i], name, sizeof(name));
		fprintf(out, "\n# %s\n", rows[i].text);
		if (rows[i].kind == KIND_AGENT)
			fprintf(out, "#%s =%s%s\n", rows[i].key, *rows[i].string ? " " : "",
				rows[i].string);
		else if (rows[i].max == INT64_MAX)
			fprintf(out, "# (%" PRId64 " or more; %s)\n#%s = %" PRId64 "\n",
				rows[i].min, name, rows[i].key, rows[i].number);
		else
			fprintf(out, "# (%" PRId64 " to %" PRId64 "; %s)\n#%s = %" PRId64 "\n",
				rows[i].min, rows[i].max, name, rows[i].key, rows[i].number);
	}
}
