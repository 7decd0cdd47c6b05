/* SPDX-License-Identifier: Apache-2.0 */
/* prog.c - programs as text; see prog.h */
#include "prog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct op_info op_info[OP_KINDS] = {
#define OP(name, args) {#name, args},
#include "ops.def"
#undef OP
};

static const char *const recv_words[] = {"read",     "recv",   "recvfrom", "readv",   "recvmsg",
					 "recvmmsg", "splice", "preadv2",  "syscall", NULL};
static const char *const send_words[] = {"write",   "send",	"sendto",   "writev",
					 "sendmsg", "sendmmsg", "sendfile", "sendfile-at",
					 "splice",  "pwritev2", "syscall",  NULL};
static const char *const wait_words[] = {"poll", "ppoll", "select", "pselect", NULL};
static const char *const dup_words[] = {"dup", "dup2", "dup3", "dupfd", "dupfd-cloexec", NULL};
static const char *const make_words[] = {"null", "pipe", "eventfd", "socket", "unix", "file", NULL};
static const char *const half_words[] = {"rd", "wr", "rdwr", NULL};
static const char *const option_words[] = {"nodelay",  "cork",	   "rcvtimeo",	"sndtimeo",
					   "rcvlowat", "quickack", "keepalive", NULL};

static const char *const *words_of(char arg)
{
	switch (arg) {
	case 'r':
		return recv_words;
	case 's':
		return send_words;
	case 'w':
		return wait_words;
	case 'c':
		return dup_words;
	case 'k':
		return make_words;
	case 'h':
		return half_words;
	case 'o':
		return option_words;
	default:
		return NULL;
	}
}

static const char *letters_of(char arg)
{
	return arg == 'f' ? FLAG_LETTERS : arg == 'e' ? EVENT_LETTERS : NULL;
}

/* ---- out ---------------------------------------------------------------------------------------
 */

static void print_arg(char type, int32_t value, char *dst, size_t size)
{
	const char *letters = letters_of(type);
	size_t n = 0, i;

	if (letters) {
		for (i = 0; letters[i]; i++)
			if ((value >> i & 1) && n + 1 < size)
				dst[n++] = letters[i];
		if (!n)
			dst[n++] = '-';
		dst[n] = '\0';
	} else if (words_of(type)) {
		snprintf(dst, size, "%s", words_of(type)[value]);
	} else if (value == NONE) {
		snprintf(dst, size, "-");
	} else {
		snprintf(dst, size, "%s%d",
			 type == 'd' || type == 'D' ? "d"
			 : type == 'l'		    ? "l"
						    : "",
			 value);
	}
}

void prog_line(const struct op *op, char *dst, size_t size)
{
	const char *args = op_info[op->kind].args;
	size_t used = (size_t)snprintf(dst, size, "%u %s%s", op->actor, op->overlap ? "& " : "",
				       op_info[op->kind].name);
	size_t i;

	for (i = 0; args[i] && used + 1 < size; i++) {
		dst[used++] = ' ';
		print_arg(args[i], op->arg[i], dst + used, size - used);
		used += strlen(dst + used);
	}
}

int prog_write(const struct prog *prog, const char *path)
{
	FILE *file = path ? fopen(path, "w") : stdout;
	char line[128];
	uint32_t i;

	if (!file)
		return -1;
	fprintf(file, "# seed %llu\n", (unsigned long long)prog->seed);
	for (i = 0; i < prog->count; i++) {
		prog_line(&prog->op[i], line, sizeof(line));
		fprintf(file, "%s\n", line);
	}
	if (!path)
		return fflush(stdout);
	return fclose(file);
}

/* ---- in ----------------------------------------------------------------------------------------
 */

static bool read_number(const char *word, int32_t most, int32_t *ret)
{
	char *rest;
	const long value = strtol(word, &rest, 10);

	*ret = (int32_t)value;
	return rest != word && !*rest && value >= 0 && value <= most;
}

static bool read_arg(char type, const char *word, int32_t *ret)
{
	const char *const *words = words_of(type);
	const char *letters = letters_of(type), *at;

	*ret = 0;
	if (letters) {
		for (; *word && strcmp(word, "-") != 0; word++) {
			at = strchr(letters, *word);
			if (!at)
				return false;
			*ret |= 1 << (at - letters);
		}
		return true;
	}
	for (; words && words[*ret]; (*ret)++)
		if (!strcmp(words[*ret], word))
			return true;
	if (words)
		return false;
	if (type == 'D' && !strcmp(word, "-")) {
		*ret = NONE;
		return true;
	}
	switch (type) {
	case 'a':
		return read_number(word, ACTORS - 1, ret);
	case 'd':
	case 'D':
		return *word == 'd' && read_number(word + 1, VARS - 1, ret);
	case 'l':
		return *word == 'l' && read_number(word + 1, LISTENERS - 1, ret);
	default:
		return read_number(word, INT32_MAX, ret);
	}
}

static bool read_line(struct op *op, char *line)
{
	char *rest = NULL, *word = strtok_r(line, " \t\n", &rest);
	const char *args;
	int32_t actor;
	size_t i;

	memset(op, 0, sizeof(*op));
	if (!word || !read_arg('a', word, &actor))
		return false;
	op->actor = (uint8_t)actor;
	word = strtok_r(NULL, " \t\n", &rest);
	if (word && !strcmp(word, "&")) {
		op->overlap = 1;
		word = strtok_r(NULL, " \t\n", &rest);
	}
	while (word && op->kind < OP_KINDS && strcmp(op_info[op->kind].name, word) != 0)
		op->kind++;
	if (!word || op->kind == OP_KINDS)
		return false;
	args = op_info[op->kind].args;
	for (i = 0; args[i]; i++) {
		word = strtok_r(NULL, " \t\n", &rest);
		if (!word || !read_arg(args[i], word, &op->arg[i]))
			return false;
	}
	return !strtok_r(NULL, " \t\n", &rest);
}

bool prog_read(struct prog *prog, const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long seed;
	unsigned int number = 0;
	char line[128], copy[128];
	bool good = true;

	if (!file) {
		perror(path);
		return false;
	}
	memset(prog, 0, sizeof(*prog));
	while (good && fgets(line, sizeof(line), file)) {
		number++;
		if (sscanf(line, "# seed %llu", &seed) == 1)
			prog->seed = seed;
		if (*line == '#' || *line == '\n')
			continue;
		strcpy(copy, line);
		good = prog->count < OPS_MAX - ACTORS && read_line(&prog->op[prog->count], line);
		if (!good)
			fprintf(stderr, "%s:%u: not an operation: %s", path, number, copy);
		prog->count++;
	}
	(void)fclose(file);
	return good;
}

uint64_t rnd(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint32_t below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)(rnd(state) % bound);
}
