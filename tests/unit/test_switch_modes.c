/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: each step of the switch changes the word as the protocol says, from each mode, and not
 * when the word has changed meanwhile; impossible positions of the other side are -EPROTO.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "switch.h"

enum { SIZE = 4096 };

static struct shmt_dir_shared shared;
static uint8_t data[SIZE];
static const struct shmt_dir dir = {&shared, {data, SIZE}, 0};

/* Attached, nothing consumed: the word is {1, TCP}, as attaching changes it. */
static int make(void **state)
{
	(void)state;
	memset(&shared, 0, sizeof(shared));
	shmt_rx_attach(&dir, 0);
	return 0;
}

static void assert_ctl(uint64_t value, enum shmt_mode mode)
{
	assert_int_equal(SHMT_CTL_MODE(shared.ctl), mode);
	assert_int_equal(SHMT_CTL_VALUE(shared.ctl), value);
}

static void test_a_whole_run(void **state)
{
	(void)state;
	assert_ctl(1, SHMT_TCP);
	shared.tail = 100; /* of the run before */
	assert_true(shmt_tx_open(&dir, 55));
	assert_ctl(100, SHMT_WAKING);
	assert_int_equal(shared.open_at, 55);
	assert_int_equal(shmt_tx_space(&dir, shared.ctl), SIZE);
	assert_true(shmt_tx_publish(&dir, shared.ctl, 10));
	assert_ctl(110, SHMT_WAKING);

	assert_false(shmt_rx_enter(&dir));
	assert_int_equal(shared.in_kernel, 0);
	shmt_rx_answer(&dir, shared.ctl);
	assert_ctl(110, SHMT_RING);
	assert_int_equal(shmt_rx_missing(&dir), 55);
	shmt_rx_took(&dir, 54);
	assert_int_equal(shmt_rx_missing(&dir), 1);
	shmt_rx_took(&dir, 1);
	assert_int_equal(shmt_rx_missing(&dir), 0);
	assert_int_equal(shmt_rx_avail(&dir, shared.ctl, shared.tail), 10);
	assert_true(shmt_rx_consume(&dir, 100, 4));
	assert_false(shmt_rx_consume(&dir, 100, 4));
	assert_int_equal(shared.tail, 104);
	assert_int_equal(shmt_tx_space(&dir, shared.ctl), SIZE - 6);
	assert_true(shmt_tx_publish(&dir, shared.ctl, SIZE - 6));
	assert_int_equal(shmt_tx_space(&dir, shared.ctl), 0);

	assert_int_equal(shmt_tx_leave(&dir, shared.ctl), 0);
	assert_ctl(104 + SIZE, SHMT_LEAVING);
	assert_int_equal(shmt_tx_leave(&dir, shared.ctl), 0);
	assert_int_equal(shmt_rx_avail(&dir, shared.ctl, shared.tail), SIZE);
	assert_true(shmt_rx_consume(&dir, 104, SIZE));
	assert_true(shmt_rx_settle(&dir, shared.ctl));
	assert_ctl(2, SHMT_TCP);
	assert_true(shmt_rx_enter(&dir));
	assert_int_equal(shared.in_kernel, 1);
	shmt_rx_exit(&dir, 7);
	assert_int_equal(shared.in_kernel, 0);
	assert_int_equal(shared.tcp_read, 62);
	assert_ctl(2, SHMT_TCP);
	assert_int_equal(shmt_rx_missing(&dir), 0); /* it read past where the ring had opened */
}

static void test_opens_once(void **state)
{
	(void)state;
	assert_true(shmt_rx_enter(&dir));
	shmt_rx_exit(&dir, 5);
	assert_ctl(1, SHMT_TCP);
	assert_true(shmt_tx_open(&dir, 6));
	assert_false(shmt_tx_open(&dir, 7)); /* it is open */
	assert_int_equal(shared.open_at, 6);
	assert_int_equal(shmt_rx_missing(&dir), 1);
}

static void test_payload_that_could_not_be_sent(void **state)
{
	(void)state;
	assert_true(shmt_rx_enter(&dir)); /* whoever is in the kernel */
	assert_true(shmt_tx_open(&dir, 6));
	shmt_tx_unopen(&dir);
	assert_ctl(0, SHMT_LEAVING);
	shmt_tx_unopen(&dir);
	assert_ctl(0, SHMT_LEAVING);
	shmt_rx_exit(&dir, 0);
	assert_true(shmt_rx_settle(&dir, shared.ctl)); /* empty: whatever is missing */
	shmt_tx_unopen(&dir);
	assert_ctl(2, SHMT_TCP);
	assert_true(shmt_tx_open(&dir, 6));
	shmt_rx_answer(&dir, shared.ctl);
	shmt_tx_unopen(&dir);
	assert_ctl(0, SHMT_LEAVING);
}

static void test_opens_for_one_receiver(void **state)
{
	(void)state;
	assert_true(shmt_rx_enter(&dir));
	assert_ctl(1, SHMT_TCP);
	assert_true(shmt_rx_enter(&dir));
	assert_ctl(2, SHMT_TCP); /* an opening under way would notice the second one */
	assert_false(shmt_tx_open(&dir, 6));
	shmt_rx_exit(&dir, 0);
	assert_true(shmt_tx_open(&dir, 6));
	shmt_rx_exit(&dir, 6);
	assert_ctl(0, SHMT_WAKING);
}

static void test_flags_forbid(void **state)
{
	static const uint32_t flags[] = {0, SHMT_DIR_ATTACHED | SHMT_DIR_REFUSED,
					 SHMT_DIR_ATTACHED | SHMT_DIR_STOPPED,
					 SHMT_DIR_ATTACHED | SHMT_DIR_CLOSED};

	(void)state;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		shared.flags = flags[i];
		assert_false(shmt_tx_open(&dir, 5));
		assert_ctl(1, SHMT_TCP);
	}
	shared.flags = SHMT_DIR_ATTACHED;
	assert_true(shmt_tx_open(&dir, 5));
}

static void test_settle_and_publish(void **state)
{
	uint64_t ctl;

	(void)state;
	assert_true(shmt_tx_open(&dir, 1));
	shmt_rx_answer(&dir, shared.ctl);
	ctl = shared.ctl;
	assert_true(shmt_tx_publish(&dir, ctl, 1));
	assert_false(shmt_rx_settle(&dir, ctl)); /* S was first */
	assert_true(shmt_rx_consume(&dir, 0, 1));
	ctl = shared.ctl;
	assert_true(shmt_rx_settle(&dir, ctl));
	assert_false(shmt_tx_publish(&dir, ctl, 1)); /* R was first */
	assert_ctl(3, SHMT_TCP);		     /* 2 was used by the settle that failed */
	shmt_rx_answer(&dir, ctl);
	assert_ctl(3, SHMT_TCP);
}

static void test_leave_waits_for_receivers(void **state)
{
	uint64_t ctl;

	(void)state;
	assert_int_equal(shmt_tx_leave(&dir, shared.ctl), 0); /* nothing to leave */
	assert_ctl(1, SHMT_TCP);
	assert_true(shmt_rx_enter(&dir));
	assert_true(shmt_tx_open(&dir, 3));
	assert_int_equal(shmt_tx_leave(&dir, shared.ctl), -EBUSY);
	assert_int_equal(shmt_rx_push_out(&dir, shared.ctl), -EBUSY);
	shmt_rx_exit(&dir, 3);
	assert_ctl(0, SHMT_WAKING); /* invited: it cannot be taken back */
	ctl = shared.ctl;
	assert_true(shmt_tx_publish(&dir, ctl, 7));
	assert_int_equal(shmt_tx_leave(&dir, ctl), -EAGAIN);
	assert_int_equal(shmt_rx_push_out(&dir, shared.ctl), 0);
	assert_ctl(7, SHMT_LEAVING);
	assert_false(shmt_tx_publish(&dir, ctl, 1));
}

static void test_refuse(void **state)
{
	(void)state;
	shmt_rx_refuse(&dir);
	assert_int_equal(shared.flags, SHMT_DIR_ATTACHED | SHMT_DIR_REFUSED);
	assert_ctl(2, SHMT_TCP); /* an opening under way would notice */
	assert_false(shmt_tx_open(&dir, 1));

	make(NULL);
	assert_true(shmt_tx_open(&dir, 1));
	shmt_rx_refuse(&dir); /* a run under way is not touched: S leaves by itself */
	assert_ctl(0, SHMT_WAKING);
}

/* What was seen of the other's index suffices, and no more is believed than that. */
static void test_what_was_seen(void **state)
{
	struct shmt_dir sender = dir, receiver = dir;

	(void)state;
	shared.ctl = SHMT_CTL(0, SHMT_RING);
	assert_int_equal(shmt_tx_room(&sender, shared.ctl, 10), SIZE);
	assert_true(shmt_tx_publish(&sender, shared.ctl, 20));
	assert_int_equal(shmt_rx_ahead(&receiver, 0), 0);
	shmt_rx_seen(&receiver, shared.ctl);
	assert_true(shmt_tx_publish(&sender, shared.ctl, 5));
	assert_int_equal(shmt_rx_ahead(&receiver, 0), 20);
	assert_true(shmt_rx_consume(&receiver, 0, 15));
	assert_int_equal(shmt_rx_ahead(&receiver, 15), 5);
	assert_int_equal(shmt_rx_ahead(&receiver, 25), 0); /* another process took those */
	assert_int_equal(shmt_rx_ahead(&receiver, 20 - SIZE), SIZE);
	assert_int_equal(shmt_rx_ahead(&receiver, 19 - SIZE), 0); /* a broken tail */
	assert_int_equal(shmt_tx_room(&sender, shared.ctl, 10), SIZE - 25);
	assert_int_equal(shmt_tx_room(&sender, shared.ctl, SIZE - 24), SIZE - 10);
	assert_int_equal(shmt_tx_room(&sender, shared.ctl, 10), SIZE - 10);
	/* Another process has filled it, by what it saw. */
	assert_int_equal(shmt_tx_room(&sender, SHMT_CTL(15 + SIZE, SHMT_RING), 1), 0);
	shared.tail = 14;
	assert_int_equal(shmt_tx_room(&sender, SHMT_CTL(15 + SIZE, SHMT_RING), 1), -EPROTO);
}

static void test_impossible_positions(void **state)
{
	static const uint64_t tails[] = {1, 100, UINT64_MAX, 1ULL << 63, (UINT64_MAX >> 2) + 1};

	(void)state;
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		shared.tail = tails[i];
		assert_int_equal(shmt_tx_space(&dir, SHMT_CTL(0, SHMT_RING)),
				 tails[i] == UINT64_MAX ? SIZE - 1 : -EPROTO);
		assert_int_equal(shmt_rx_avail(&dir, SHMT_CTL(0, SHMT_RING), tails[i]),
				 tails[i] == UINT64_MAX ? 1 : -EPROTO);
	}
	assert_int_equal(shmt_rx_avail(&dir, SHMT_CTL(SIZE + 1, SHMT_RING), 0), -EPROTO);
	assert_int_equal(shmt_rx_avail(&dir, SHMT_CTL(SIZE, SHMT_RING), 0), SIZE);
	assert_int_equal(shmt_rx_avail(&dir, SHMT_CTL(UINT64_MAX >> 2, SHMT_LEAVING), 0), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_whole_run, make),
		cmocka_unit_test_setup(test_opens_once, make),
		cmocka_unit_test_setup(test_payload_that_could_not_be_sent, make),
		cmocka_unit_test_setup(test_opens_for_one_receiver, make),
		cmocka_unit_test_setup(test_flags_forbid, make),
		cmocka_unit_test_setup(test_settle_and_publish, make),
		cmocka_unit_test_setup(test_leave_waits_for_receivers, make),
		cmocka_unit_test_setup(test_refuse, make),
		cmocka_unit_test_setup(test_what_was_seen, make),
		cmocka_unit_test_setup(test_impossible_positions, make),
	};

	return cmocka_run_group_tests_name("switch_modes", tests, NULL, NULL);
}
