/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.pml - who may touch the region (preload/gate.h); detach.pml and detach_tx.pml include this file
 *
 * Local memory: G is the number of the region, 0 = away; inside says who may touch it. A thread is
 * counted first and looks at G after that; nobody is counted while asleep in the kernel.
 *
 * An open gate stays so while one is counted. A closed one is only what was true at the look: who
 * goes on without the region announces that (unattached; the count of sleepers) or locks out who
 * could open (the tx lock), and looks at G again after that: if it is not 0, back, and in.
 *
 * touching is no part of the program: who may be at the region now. Each thread maps for itself
 * here, as if it were a process. The includer says which of them ME is.
 */
#ifndef DETACHES
#define DETACHES 1
#endif

byte G = 1;
bit inside[2], away = 0;
byte touching[2]; /* the number with which the gate was found open */
#define OPEN (touching[ME] != 0)
#define TOUCH assert(!away)

/* a new number is mapped now, or at a later look: until then the gate is closed */
inline gate_look()
{
	atomic {
		if
		:: G != 0 -> touching[ME] = G
#if defined(BUG_CLOSED) || defined(BUG_COUNT)
		:: G == 0 /* wrong even where mapping is immediate */
#else
		:: G != 1
#endif
		fi
	}
}

inline gate_enter()
{
#ifdef BUG_INSIDE
	gate_look();
	inside[ME] = 1
#else
	inside[ME] = 1;
	gate_look()
#endif
}

/* out of it, or to sleep */
inline gate_close()
{
	atomic {
		inside[ME] = 0;
		touching[ME] = 0
	}
}

/* after a sleep, for which a gate that was open with this number was closed */
inline gate_wake(number)
{
	inside[ME] = 1;
	atomic {
		if
#ifdef BUG_SLEEPER
		:: touching[ME] = number
#else
		:: G == number -> touching[ME] = number
		:: else
#endif
		fi;
		number = 0
	}
}
