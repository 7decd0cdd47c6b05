/* SPDX-License-Identifier: Apache-2.0 */
/* early.h - a pair that a library's constructor opened and used; see early.c */
#ifndef EARLY_H
#define EARLY_H

#include "t.h"

extern __attribute__((visibility("default"))) struct t_pair early;

#endif
