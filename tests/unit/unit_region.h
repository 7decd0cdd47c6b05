/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit_region.h - a formatted region in anonymous memory, and guests in it, for unit tests
 */
#ifndef UNIT_REGION_H
#define UNIT_REGION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "directory.h"
#include "region.h"

#define MIB (1ULL << 20)

/* In threads and children, where cmocka's asserts would jump to a stack that is not theirs. */
#define UNIT_CHECK(cond)                                                           \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

static inline void *unit_memory(uint64_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(base, MAP_FAILED);
	return base;
}

static inline void unit_region(uint64_t bytes, struct shmt_region *ret_region)
{
	enum coloc_reason reason;
	void *base = unit_memory(bytes);

	assert_int_equal(shmt_region_format(base, bytes), 0);
	assert_int_equal(shmt_region_attach(base, bytes, ret_region, &reason), 0);
}

static inline struct shmt_guest unit_guest(struct shmt_region *region, unsigned int number)
{
	struct shmt_guest guest;
	uint8_t identity[16] = {0xa5, (uint8_t)number, (uint8_t)(number >> 8)};
	char name[16];

	snprintf(name, sizeof(name), "guest%u", number);
	UNIT_CHECK(shmt_guest_register(region, identity, 1, name, 0, &guest) == 0);
	return guest;
}

/* ::ffff:10.x.y.z */
static inline void unit_addr(uint32_t number, uint8_t ret_addr[16])
{
	memset(ret_addr, 0, 10);
	ret_addr[10] = ret_addr[11] = 0xff;
	ret_addr[12] = 10;
	ret_addr[13] = (uint8_t)(number >> 16);
	ret_addr[14] = (uint8_t)(number >> 8);
	ret_addr[15] = (uint8_t)number;
}

#endif
