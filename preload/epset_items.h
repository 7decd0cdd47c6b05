/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epset_items.h - what epset.c keeps and epwait.c waits with; see epset.c
 */
#ifndef PL_EPSET_ITEMS_H
#define PL_EPSET_ITEMS_H

#include "epset.h"

#define NESTED_MAX 8
#define KICK_DATA  0xc010cc0ffee51c4bULL
#define IN_EVENTS  (EPOLLIN | EPOLLRDNORM)

struct pl_ep_item {
	uint32_t set;
	int fd; /* closed while the socket has another it names nothing here, or another stream */
	uint32_t next;	     /* in its owner's list, 1 + number */
	uint32_t queue_next; /* in its set's queue, or among the free, 1 + number */
	uint32_t events;     /* as the program set them; a ONESHOT's as the kernel has them now */
	uint8_t queued, removed;
	uint8_t lags; /* the kernel does not know of the last change (epdefer.c), but has these: */
	uint8_t gone; /* that was a DEL */
	uint32_t kernel_events;
	uint32_t lag_next; /* in its set's list of those, 1 + number */
	uint64_t kernel_data;
	uint8_t quiet; /* ONESHOT, reported by us: the kernel does not have it */
	uint8_t stale; /* the same, but its number was closed: the kernel will tell of it, too */
	uint64_t data;
	uint32_t data_next; /* in its chain of epdata.c */
	uint64_t reported;  /* edge-triggered: 1 + head at the last report */
	uint64_t cold_ns;   /* since when looks at it have found nothing; 0 = not so */
	struct pl_stream *s;
};

struct pl_ep_set {
	uint64_t lock;	   /* atomic */
	uint32_t refs;	   /* atomic; numbers that name it; 0 = free */
	uint32_t sleepers; /* atomic; threads asleep in it */
	uint32_t inside;   /* atomic; how many sets it is in */
	uint32_t head, tail, queued;
	struct {
		uint32_t set; /* 1 + number of a set inside this one */
		uint32_t events;
		uint64_t data;
	} nested[NESTED_MAX];
	uint32_t turn;	       /* relaxed; which of them, or the queue, is looked at first */
	uint32_t kernels_turn; /* relaxed; odd: the kernel's, where there is room for one event */
	int epfd;
	uint32_t filled;     /* atomic; it has, or had, an item */
	uint32_t edge;	     /* atomic; some item of it is, or was, EPOLLET */
	uint32_t oneshot;    /* atomic; some item of it is, or was, EPOLLONESHOT */
	uint32_t inherited;  /* from before a fork: not waited in since */
	uint32_t exact;	     /* atomic; the kernel's set may be looked at out of our sight */
	uint32_t lagging;    /* atomic; items that lag, 1 + number of the first; under the lock */
	uint64_t settled_ns; /* when its streams were last settled */
};

extern struct pl_ep_item *pl_ep_items;
extern struct pl_ep_set *pl_ep_sets;

/*
 * Up while this thread is in the midst of a set's queue: a signal handler that interrupts it must
 * leave the queue alone (locks are re-entrant on a thread, lists are not).
 */
extern __thread uint32_t pl_ep_busy __attribute__((tls_model("initial-exec")));

/* For the lists of owners, and which set is in which; before a set's lock. */
extern uint64_t pl_ep_items_lock;

/** pl_ep_sets_top() - sets from this number on have never been made */
uint32_t pl_ep_sets_top(void);

/* The queue of awake items; under the set's lock. */
void pl_ep_enqueue(struct pl_ep_set *set, uint32_t n);
uint32_t pl_ep_dequeue(struct pl_ep_set *set);
void pl_ep_free_item(uint32_t n);
/** pl_ep_link_of() - points at the item of a number in a set, or at 0; under pl_ep_items_lock */
uint32_t *pl_ep_link_of(int set, int fd, struct pl_stream *s);
/** pl_ep_remove() - an item out of its owner's list; under pl_ep_items_lock */
void pl_ep_remove(uint32_t n);
/** pl_ep_unlag() - it ends: nothing is to be told of it; under the set's lock */
void pl_ep_unlag(struct pl_ep_set *set, uint32_t n);

/* Sets inside sets (epnest.c). */

/** pl_ep_nest() - an epoll_ctl of one set on another; false: there is no room to remember it */
bool pl_ep_nest(struct pl_ep_set *set, int op, uint32_t inner, const struct epoll_event *event);
/** pl_ep_unnest() - it ends: neither inside another nor around one; under pl_ep_items_lock */
void pl_ep_unnest(uint32_t number);
/** pl_ep_nests() - is a set inside it? */
static inline bool pl_ep_nests(const struct pl_ep_set *set)
{
	unsigned int i;

	for (i = 0; i < NESTED_MAX; i++)
		if (set->nested[i].set)
			return true;
	return false;
}

/* By data (epdata.c). Both under pl_ep_items_lock, while set and data of the item are right. */
bool pl_ep_data_init(void);
void pl_ep_data_add(uint32_t n);
void pl_ep_data_drop(uint32_t n);
/** pl_ep_data_each() - called with what may be items of @data in @set; no lock */
void pl_ep_data_each(uint32_t set, uint64_t data, void (*visit)(const struct pl_ep_item *item));

/* Sleepers (epkick.c). Whoever sleeps anywhere may do so in a set that this one is in. */
bool pl_ep_sleepers(const struct pl_ep_set *set);
/** pl_ep_kick() - wake them: they look again */
void pl_ep_kick(struct pl_ep_set *set);
void pl_ep_kick_forked(void);

/**
 * pl_ep_disarm() - the kernel has told of @data: a ONESHOT item of it is disarmed now
 * Return: it was before, and the program is not to hear of it again
 */
bool pl_ep_disarm(struct pl_ep_set *set, uint64_t data);

/** pl_ep_tell_again() - set the same events again: the kernel looks whether the number is ready */
void pl_ep_tell_again(const struct pl_ep_item *item);

#endif
