/* SPDX-License-Identifier: Apache-2.0 */
/*
 * removal.pml - the agent of the guest that loses its region (drain.c, removal.c)
 *
 * It drains: a refusal and a fresh word, so that nothing opens any more, and passes until the
 * direction is EMPTIED. It writes G = 0, waits until it has seen each out once, and takes back what
 * the region knew of this guest (TAKE_BACK). The region goes; it comes back as it was, under
 * another number. ALL_OVER: what must be so when everybody is done.
 */
active proctype A()
{
	mtype m;
	byte h, k, n;
	bit ok;

	do
	:: n < DETACHES ->
		refused = 1; /* REFUSED; of a direction that the guest sends: STOPPED */
#ifndef BUG_STOPPED
		change_word();
		ok = 0;
#endif
		do
		:: atomic {
			EMPTIED ->
			m = TCP;
			h = 0;
			closed_for_good = 1;
			if
			:: G = 0
#ifdef STASH
			:: n++; goto resume /* without a removal */
#endif
			fi;
			break
		   }
		:: !EMPTIED -> agent_pass()
		od;
#ifndef BUG_WAIT
		inside[0] == 0;
		inside[1] == 0;
#endif
		atomic { /* nobody is left who could see a difference in between */
			TAKE_BACK;
			assert(!touching[0] && !touching[1] && EMPTIED);
			away = 1
		}
		atomic {
			away = 0;
			n++;
			G = n + 1
		}
resume:
#ifdef STASH
		if
		:: !STASHED ->
			stash_drop();
#endif
			atomic {
				closed_for_good = 0;
				refused = 0
			}
#ifdef STASH
		:: n < DETACHES && STASHED -> skip
		fi
#endif
	:: break
	od;
	ALL_OVER
}
