// SPDX-License-Identifier: Apache-2.0
/*
 * bench_directory.c - fill the directory of a region with addresses of a guest that is not there
 *
 *   bench_directory REGION COUNT
 *
 * The addresses are of 198.18.0.0/15, which is for measurements. What is filled in stays: nobody
 * can tell that this guest, of another kernel, is gone.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "directory.h"

int main(int argc, char **argv)
{
	static const uint8_t identity[16] = "bench-directory";
	uint8_t addr[16] = {[10] = 0xff, [11] = 0xff, [12] = 198};
	enum coloc_reason reason;
	struct shmt_region region;
	struct shmt_guest guest;
	uint32_t i, count;
	int fd, rc;

	if (argc != 3) {
		fprintf(stderr, "usage: bench_directory REGION COUNT\n");
		return 2;
	}
	count = (uint32_t)b_number(argv[2]);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		b_die(argv[1]);
	rc = shmt_region_map(fd, 0, 0, &region, &reason);
	if (!rc)
		rc = shmt_guest_register(&region, identity, 1, "bench", 0, &guest);
	for (i = 0; !rc && i < count; i++) {
		addr[13] = (uint8_t)(18 + (i >> 16));
		addr[14] = (uint8_t)(i >> 8);
		addr[15] = (uint8_t)i;
		rc = shmt_address_add(&region, &guest, addr);
	}
	if (rc) {
		errno = -rc;
		fprintf(stderr, "after %u of %u addresses: ", i, count);
		b_die(argv[1]);
	}
	printf("{\"entries\": %u}\n", region.addr_count);
	return 0;
}
