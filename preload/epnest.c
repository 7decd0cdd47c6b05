/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epnest.c - which set is inside which
 */
#include "epset_items.h"
#include "lock.h"

bool pl_ep_nest(struct pl_ep_set *set, int op, uint32_t inner, const struct epoll_event *event)
{
	const uint32_t wanted = op == EPOLL_CTL_ADD ? 0 : inner + 1;
	const enum pl_lock_result lock = pl_lock(&pl_ep_items_lock);
	unsigned int i;

	for (i = 0; i < NESTED_MAX && set->nested[i].set != wanted; i++)
		;
	if (i == NESTED_MAX) {
		pl_unlock(&pl_ep_items_lock, lock);
		return op != EPOLL_CTL_ADD;
	}
	if (op != EPOLL_CTL_DEL) {
		set->nested[i].events = event->events;
		set->nested[i].data = event->data.u64;
	}
	set->nested[i].set = op == EPOLL_CTL_DEL ? 0 : inner + 1;
	if (op != EPOLL_CTL_MOD)
		shmt_add(&pl_ep_sets[inner].inside, op == EPOLL_CTL_DEL ? -1u : 1u);
	pl_unlock(&pl_ep_items_lock, lock);
	/* Something may lie in a ring of the inner one: who sleeps here looks. */
	if (op != EPOLL_CTL_DEL && pl_ep_sleepers(set))
		pl_ep_kick(set);
	return true;
}

void pl_ep_unnest(uint32_t number)
{
	struct pl_ep_set *set = &pl_ep_sets[number];
	uint32_t i;

	for (i = 0; i < NESTED_MAX; i++) {
		if (!set->nested[i].set)
			continue;
		shmt_sub(&pl_ep_sets[set->nested[i].set - 1].inside, 1);
		set->nested[i].set = 0;
	}
	for (i = 0; shmt_load(&set->inside) && i < pl_ep_sets_top() * NESTED_MAX; i++) {
		uint32_t *inner = &pl_ep_sets[i / NESTED_MAX].nested[i % NESTED_MAX].set;

		if (*inner == number + 1) {
			*inner = 0;
			shmt_sub(&set->inside, 1);
		}
	}
}
