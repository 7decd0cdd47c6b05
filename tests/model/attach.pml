/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach.pml - R's side joins while the stream already runs
 *
 * Receivers that entered the kernel before are counted in `unattached`; whoever attaches says so
 * first (attach = 1) and looks at the count after, a receiver the other way round. Then tcp_read is
 * taken from the kernel, and only then ATTACHED is set, without which S does not open.
 */
#define ATTACH
#include "threads.pml"
