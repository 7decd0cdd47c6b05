/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epdata.c - which items may an event of the kernel's be of? It carries the program's data alone.
 *
 * Chains of items by set and data. They change under pl_ep_items_lock, and are walked without one:
 * items are never unmapped, and a walk that a change leads astray ends after so many steps. What is
 * found is a guess that the caller checks.
 */
#include "epset_items.h"

#include <sys/mman.h>

#define BITS  18
#define STEPS 1024u

static uint32_t *heads; /* 1 + number of an item */

bool pl_ep_data_init(void)
{
	void *memory = mmap(NULL, sizeof(*heads) << BITS, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return false;
	heads = memory;
	return true;
}

static uint32_t *head_of(uint32_t set, uint64_t data)
{
	return &heads[(data + ((uint64_t)set << 32)) * 0x9e3779b97f4a7c15ull >> (64 - BITS)];
}

void pl_ep_data_add(uint32_t n)
{
	struct pl_ep_item *item = &pl_ep_items[n - 1];
	uint32_t *head = head_of(item->set, item->data);

	shmt_store_relaxed(&item->data_next, *head);
	shmt_store_release(head, n);
}

void pl_ep_data_drop(uint32_t n)
{
	const struct pl_ep_item *item = &pl_ep_items[n - 1];
	uint32_t *link = head_of(item->set, item->data);

	while (*link && *link != n)
		link = &pl_ep_items[*link - 1].data_next;
	if (*link)
		shmt_store_release(link, item->data_next);
}

void pl_ep_data_each(uint32_t set, uint64_t data, void (*visit)(const struct pl_ep_item *item))
{
	uint32_t n = shmt_load_acquire(head_of(set, data)), steps = 0;

	for (; n && steps < STEPS; n = shmt_load_acquire(&pl_ep_items[n - 1].data_next), steps++)
		if (pl_ep_items[n - 1].set == set && pl_ep_items[n - 1].data == data)
			visit(&pl_ep_items[n - 1]);
}
