/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.h - one direction of a stream: which path the next byte takes
 *
 * docs/protocol.md tells why this is right; tests/model/ checks it. Sender S and receiver R share
 * one word, ctl = {value, mode}, changed by compare-and-swap only. S's calls are serialised by the
 * caller (a lock per direction), and so are R's, but for the in-kernel brackets. A signal handler
 * may interrupt a call and make one of its own on the same thread, but for shmt_tx_open(): every
 * step that commits anything is a CAS on what the call began with, so the interrupted one starts
 * over.
 *
 * All functions: no lock, no system call, no allocation; any process that maps the region.
 * -EPROTO: the other side broke a rule; the caller ends the stream as a reset.
 */
#ifndef SHMT_SWITCH_H
#define SHMT_SWITCH_H

#include <stdbool.h>

#include "atomic.h"
#include "ring.h"
#include "shmt_layout.h"

struct shmt_dir {
	struct shmt_dir_shared *shared;
	struct shmt_ring ring;
	uint64_t
		seen; /* relaxed; this end's last look at the other's index: S has seen the tail
		       * there, R the head. As positions only grow it stays true, and saves the look
		       * at a line that the other end writes all the time. 0 where this is made. */
};

/* ---- sender ---------------------------------------------------------------------------------- */

/** shmt_tx_open() - open the ring behind payload that the caller sends by TCP next
 * @open_at: all bytes ever sent by TCP, with that payload (at least one byte). The caller
 * serialises openings, no other sender is inside a kernel send before the payload is sent, and no
 * signal handler can send meanwhile. The ring begins at R's tail. Return: true: mode is WAKING:
 * send the payload, or else shmt_tx_unopen(). false, stay on TCP: R refuses, is not attached, or
 * two receivers are in the kernel of which one might not be woken
 */
bool shmt_tx_open(const struct shmt_dir *dir, uint64_t open_at);

/** shmt_tx_unopen() - the payload could not be sent, or not all of it: TCP goes on. Nothing was
 * published. Under the lock of the opening, by the opener or by who finds that it died.
 */
void shmt_tx_unopen(const struct shmt_dir *dir);

/** shmt_tx_space() - free bytes of the ring when its head is that of @ctl; -EPROTO */
int64_t shmt_tx_space(const struct shmt_dir *dir, uint64_t ctl);

/**
 * shmt_tx_room() - the same, when that much was seen to be free: at least @want, or all there is
 * Under the lock: by it the reads of who looked last come before our writes.
 */
int64_t shmt_tx_room(struct shmt_dir *dir, uint64_t ctl, uint64_t want);

/** shmt_tx_publish() - @len bytes copied in at the head of @ctl become R's
 * Return: true; false: the word has changed (R went to sleep, or a handler sent): nothing was
 * published
 */
bool shmt_tx_publish(const struct shmt_dir *dir, uint64_t ctl, size_t len);

/** shmt_tx_leave() - close the ring at its head, from WAKING or RING
 * Return: 0 done (or TCP, LEAVING already); -EBUSY a receiver is still inside the kernel: its limit
 * is not known, wait; -EAGAIN the word changed, look again
 */
int shmt_tx_leave(const struct shmt_dir *dir, uint64_t ctl);

/** shmt_tx_stop() - S's own end is to open no more: sets STOPPED; an opening under way fails
 * Any process of S's guest, and its agent.
 */
void shmt_tx_stop(const struct shmt_dir *dir);

/* ---- receiver -------------------------------------------------------------------------------- */

/** shmt_rx_enter() - about to receive from the kernel without a limit
 * Return: true: mode TCP, go ahead, then shmt_rx_exit(); false: not allowed, look at the word again
 */
bool shmt_rx_enter(const struct shmt_dir *dir);

/** shmt_rx_exit() - back from the kernel, having consumed @took bytes */
void shmt_rx_exit(const struct shmt_dir *dir, size_t took);

/** shmt_rx_took() - @took bytes were consumed by a limited receive (RING, LEAVING) */
void shmt_rx_took(const struct shmt_dir *dir, size_t took);

/** shmt_rx_missing() - bytes that are still to come from the kernel before the ring's */
uint64_t shmt_rx_missing(const struct shmt_dir *dir);

/** shmt_rx_attach() - R follows the word from now on, having consumed @tcp_read bytes */
void shmt_rx_attach(const struct shmt_dir *dir, uint64_t tcp_read);

/** shmt_rx_refuse() - S is not to open from now on: sets REFUSED; an opening that S is at fails */
void shmt_rx_refuse(const struct shmt_dir *dir);

/** shmt_rx_answer() - WAKING to RING; S may meanwhile have gone on to LEAVING. */
void shmt_rx_answer(const struct shmt_dir *dir, uint64_t ctl);

/** shmt_rx_avail() - bytes to read when the word is @ctl (mode not TCP); -EPROTO */
int64_t shmt_rx_avail(const struct shmt_dir *dir, uint64_t ctl, uint64_t tail);

/** shmt_rx_seen() - there are bytes when the word is @ctl, and nothing comes before them: under the
 * receive lock */
void shmt_rx_seen(struct shmt_dir *dir, uint64_t ctl);

/**
 * shmt_rx_ahead() - bytes at @tail that are next whatever the word says by now
 * A run ends only when all of it is read, and the next one begins where it ended: what was seen
 * below a head and is not read yet can neither be taken back nor overtaken.
 */
uint64_t shmt_rx_ahead(const struct shmt_dir *dir, uint64_t tail);

/** shmt_rx_consume() - move the tail from @tail by @len; false: a handler consumed, start over */
bool shmt_rx_consume(const struct shmt_dir *dir, uint64_t tail, size_t len);

/** shmt_rx_settle() - the ring is empty at @ctl (RING or LEAVING): back to TCP, R may sleep
 * Return: true; false: the word changed (S has published or left), look again
 */
bool shmt_rx_settle(const struct shmt_dir *dir, uint64_t ctl);

/** shmt_rx_stashed() - LEAVING: the @bytes at @tail lie elsewhere; whoever comes first takes them
 * out of the ring, and it is TCP again. Under the receive lock, any number of times.
 */
void shmt_rx_stashed(const struct shmt_dir *dir, uint64_t tail, uint64_t bytes);

/** shmt_rx_push_out() - R must sleep with unread ring bytes: RING to LEAVING, on S's behalf
 * Return: as shmt_tx_leave()
 */
int shmt_rx_push_out(const struct shmt_dir *dir, uint64_t ctl);

#endif
