/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollers.pml - two threads, each of which receives or sleeps in a level-triggered poll, and may stop
 * calling as long as the other goes on
 *
 * A sleeper in poll holds no promise of its own. It is counted before it looks at the word; a
 * receive that returns looks at the word and at the count, and settles an empty ring or kicks the
 * sleeper (an eventfd of ours in its set) when bytes are left.
 */
#define POLLERS
#include "threads.pml"
