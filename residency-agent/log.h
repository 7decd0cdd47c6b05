/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - lines on stderr, with the priorities that systemd's journal understands
 *
 * A priority is one of sd-daemon.h: SD_ERR, SD_WARNING, SD_NOTICE, SD_INFO, SD_DEBUG. Without a
 * journal at the other end the prefix is left out.
 */
#ifndef RA_LOG_H
#define RA_LOG_H

#include <systemd/sd-daemon.h>

/** ra_log() - one line; @priority: SD_... as a string literal */
void ra_log(const char *priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
