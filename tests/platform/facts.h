/* SPDX-License-Identifier: Apache-2.0 */
/*
 * facts.h - what the kernel says of a TCP socket, and a bad line to try it on
 *
 * Apart from t.h because <linux/tcp.h>, which knows all of TCP_INFO, and <netinet/tcp.h> exclude
 * each other.
 */
#ifndef FACTS_H
#define FACTS_H

#include <stdint.h>

struct facts {
	uint64_t received, acked, sent, retrans; /* tcpi_bytes_* */
	uint32_t notsent;			 /* tcpi_notsent_bytes */
	uint32_t backoff; /* tcpi_backoff: grows with each probe of a closed window */
	int inq, outq;	  /* SIOCINQ (FIONREAD), SIOCOUTQ */
};

/** facts_of() - a consistent set: received does not change while it is taken; ends the test if not
 * had */
void facts_of(int fd, struct facts *ret);

/** facts_read() - bytes that the program has read, as the transport computes it */
uint64_t facts_read(int fd);
/** facts_sent() - bytes that the program has sent, as the transport computes it */
uint64_t facts_sent(int fd);

/** facts_lossy() - of the segments that arrive at @fd, drop @percent; 0 = none from now on */
void facts_lossy(int fd, unsigned int percent);

#endif
