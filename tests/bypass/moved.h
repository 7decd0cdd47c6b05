/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved.h - is a descriptor of another process a stream that has moved?
 */
#ifndef MOVED_H
#define MOVED_H

#include <stdbool.h>
#include <sys/types.h>

struct moved_counts {
	unsigned long calls; /* without the mark */
	unsigned long tcp;   /* of those, on a TCP socket */
};

extern struct moved_counts moved_counts;

/** moved_init() - @socket: the agent's; the records of its users lie beside it */
void moved_init(const char *socket);

/**
 * moved_fd() - true: number @fd of thread @tid is a stream that has moved
 * Moved means attached to a ring and not called back to TCP for good: from a stream that stays on
 * TCP, with a reason, the library has been told of whatever follows.
 */
bool moved_fd(pid_t tid, int fd);

/** moved_any() - the first such number from @first to @last, or -1 */
int moved_any(pid_t tid, unsigned int first, unsigned int last);

/** moved_vfork_child() - true: the process of @tid still has the memory of its parent */
bool moved_vfork_child(pid_t tid);

#endif
