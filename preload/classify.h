/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classify.h - what is behind a number?
 */
#ifndef PL_CLASSIFY_H
#define PL_CLASSIFY_H

#include "fdtable.h"
#include "process.h"

/**
 * pl_classify() - ask the kernel, the directory and the records
 * @was: UNKNOWN or NEW. An UNKNOWN number may have been moved to a ring by another process and
 * cannot go on by TCP meanwhile, so the agent's first answer is waited for, but for a bounded time.
 * Return: PASS, UNCONNECTED, STREAM with *@ret_rec, or UNKNOWN: ask again at the next call.
 * Some system calls; errno changes. One thread at a time.
 */
enum pl_kind pl_classify(int fd, enum pl_kind was, struct coloc_record_shared **ret_rec);

/** pl_record_claim() - put this process's bit into a record */
void pl_record_claim(struct coloc_record_shared *rec);

#endif
