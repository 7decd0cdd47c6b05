/* SPDX-License-Identifier: Apache-2.0 */
/*
 * detach.pml - the region is taken away from one guest and given back while a stream goes on
 *
 * Without -DSENDS that guest receives: RS threads, blocking or not (-DPOLL: also by poll), each of
 * which may stop calling as in threads.pml. With -DSENDS it sends, by two threads, as in
 * senders.pml. The other guest keeps its mapping and knows nothing.
 *
 * Local memory: G is the number of the region, 0 = away; inside says who may touch it. A thread is
 * counted first and looks at G after that; nobody is counted while asleep in the kernel. The agent
 * drains (a refusal and a fresh word: nothing opens any more; then it waits for mode TCP), writes
 * G = 0, waits until it has seen each out once, makes in_kernel, which those asleep have raised,
 * their unattached, and takes the attach back. Then the region goes. It comes back as it was, under
 * another number, and each process maps it before it goes on.
 *
 * An open gate stays so while one is counted. A closed one is only what was true at the look: who
 * goes on without the region announces that (unattached; the count of sleepers) or locks out who
 * could open (the tx lock), and looks at G again after that: if it is not 0, back, and in.
 *
 * touching is no part of the program: who may be at the region now. Each thread maps for itself
 * here, as if it were a process.
 */
#ifndef DETACHES
#define DETACHES 1
#endif
#ifndef RS
#define RS 2
#endif

#ifdef SENDS
#ifndef N0
#define N0 2
#endif
#ifndef N1
#define N1 1
#endif
#define N 8
#define ME _pid
/* a byte is {sender, number, how many of the other's had returned}, see senders.pml */
#define BY(b) ((b) & 1)
#define DELIVER(b)                                                                                 \
	assert(((b) >> 1 & 7) == got_of[BY(b)] && got_of[1 - BY(b)] >= (b) >> 4);                  \
	got_of[BY(b)]++
byte got_of[2], done_of[2];
#else
#define ME (_pid - 1)
#endif

#include "word.pml"

byte G = 1;
bit inside[2], away = 0;
byte touching[2]; /* the number with which the gate was found open */
#define OPEN (touching[ME] != 0)
#define TOUCH assert(!away)

/* ---- the gate -------------------------------------------------------------------------------- */

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

#ifdef SENDS

/* ---- the guest sends ------------------------------------------------------------------------- */

/* a send by the kernel, which looked at the word, or at G, under the lock; it may sleep */
inline raise()
{
	tx_in_kernel++;
	tx_lock = NOBODY;
	gate_close()
}

active [2] proctype S()
{
	mtype m;
	byte h, o, t, k, n, v, was;
	bit ok;

	do
	:: n < (_pid == 0 -> N0 : N1) ->
		v = _pid | n << 1 | done_of[1 - _pid] << 4;
again:		if
		:: OPEN /* the same call goes on */
		:: else -> gate_enter()
		fi;
		atomic {
			TX_LOCK(_pid);
			if
			:: !OPEN ->
#ifndef BUG_CLOSED
				if
				:: G != 0 -> tx_lock = NOBODY; gate_close(); goto again
				:: else
				fi;
#endif
				raise()
			:: OPEN ->
				TOUCH;
				tx_look();
				if
				:: m == TCP || m == LEAVING -> was = touching[ME]; raise()
				:: m == WAKING || m == RING -> goto ring_open
				fi
			fi
		}
		kernel_send(v);
		if
		:: was == 0 -> tx_in_kernel--
		:: was != 0 ->
			gate_wake(was);
			tx_in_kernel--;
			if
			:: OPEN && m == TCP ->
				atomic {
					TOUCH;
					TX_LOCK(_pid);
					if
					:: tx_in_kernel == 0
					:: else -> tx_lock = NOBODY; goto next
					fi
				}
				tx_open();
				TX_UNLOCK
			:: skip
			fi
		fi;
		goto next;
ring_open:	if
		:: h - tail < CAP ->
			tx_publish(v);
			TX_UNLOCK;
			if
			:: ok -> goto next
			:: else -> goto again
			fi
		:: skip ->
			leave();
			atomic {
				tx_lock = NOBODY;
				if
				:: !ok && h - tail >= CAP ->
					gate_close();
					(h - tail < CAP || in_kernel == 0 || mode != m)
				:: else
				fi;
				ok = 0;
				goto again
			}
		fi;
next:		atomic {
			ok = 0;
			v = 0;
			m = TCP;
			h = 0;
			n++;
			done_of[_pid] = n;
			if
			:: OPEN
			:: gate_close();
			   if
			   :: skip -> got == sent
			   :: skip
			   fi
			fi
		}
	:: else -> break
	od;
	atomic {
		gate_close();
		got == sent
	}
}

/* of the other guest, blocking */
active proctype R()
{
	mtype m;
	byte h, b, t, k, x;
	bit ok, eof;

end:	do
	:: rx_look();
	   if
	   :: m == TCP ->
		rx_enter();
		if
		:: ok ->
			ok = 0;
endwait:		atomic {
				len(tcp) > 0;
				kernel_take(N)
			}
			rx_exit()
		:: else
		fi
	   :: m == WAKING -> rx_answer()
	   :: m == RING || m == LEAVING ->
		if
		:: tcp_read < open_at ->
endrest:		atomic {
				len(tcp) > 0;
				kernel_take(open_at - tcp_read);
				tcp_read = tcp_read + x;
				x = 0
			}
		:: tcp_read >= open_at && h != tail ->
			ring_take()
		:: tcp_read >= open_at && h == tail -> atomic { rx_settle(); ok = 0 }
		fi
	   fi
	od
}

/* for a word that is not TCP yet: what the agent can do; true once it can do more */
inline agent_pass()
{
	atomic {
		TX_LOCK(_pid);
		tx_look()
	}
	if
	:: m == WAKING || m == RING -> leave()
	:: else
	fi;
	atomic {
		TX_UNLOCK;
		ok || m == TCP || mode != m || (m != LEAVING && in_kernel == 0);
		ok = 0
	}
}

/* what was left is the other guest's to read */
#define EMPTIED (mode == TCP || mode == LEAVING)
#define TAKE_BACK skip
#define ALL_OVER skip

#else

/* ---- the guest receives ---------------------------------------------------------------------- */

byte callers = RS;
byte unattached = 0, attach = 2;
#ifdef POLL
byte pollers = 0;
bit kick[2];
#endif
#ifdef STASH
byte stash[CAP];
byte stash_bytes = 0, stash_taken = 0, stash_missing = 0;
#define STASHED (stash_bytes > stash_taken)
#else
#define STASHED 0
#endif

active proctype S()
{
	mtype m;
	byte h, o, t, k;
	bit ok;

	do
	:: sent < N ->
		tx_look();
		if
		:: m == TCP || m == LEAVING ->
			kernel_send(sent);
			if
			:: m == TCP -> tx_open()
			:: skip
			fi
		:: m == WAKING || m == RING ->
			if
			:: h - tail < CAP -> tx_publish(sent)
			:: h - tail >= CAP ->
				leave();
				if
				:: !ok -> (h - tail < CAP || in_kernel == 0 || mode != m)
				:: else
				fi
			:: leave()
			fi
		fi;
		atomic {
			ok = 0;
			m = TCP;
			h = 0;
			if
			:: skip -> got == sent
			:: skip
			fi
		}
	:: sent == N -> break
	od;
	fin = 1
}

/* the gate is open */
inline try_attach()
{
	atomic {
		rx_lock == 0 && attach != 1;
		if
		:: attach == 0 && STASHED -> goto again
		:: attach == 0 && !STASHED -> rx_lock = 1; attach = 1
		:: else -> goto look
		fi
	}
	atomic {
		if
		:: unattached == 0 -> assert(in_kernel == 0)
		:: else -> attach = 0; rx_lock = 0; goto alone
		fi
	}
	tcp_read = tcp_sent - len(tcp); /* what the kernel says */
	change_word();
	ok = 0;
	attached = 1;
	atomic {
		attach = 2;
		rx_lock = 0
	}
}

/* closes the gate; blocking, or not; the kernel's bytes, up to limit */
inline kernel_receive(limit)
{
	atomic {
		gate_close();
		if
		:: skip -> (len(tcp) > 0 || fin)
		:: skip
		fi;
		kernel_take(limit)
	}
}

#ifdef POLL
/* as in threads.pml; who cannot look at the word may sleep only if nobody has attached */
inline poll_sleep()
{
#ifdef BUG_COUNT
	gate_enter();
	pollers++;
#else
	pollers++;
	gate_enter();
#endif
	do
	:: OPEN && attach == 2 ->
#ifdef BUG_STASH_POLL
		if
		:: STASHED && stash_missing == 0 -> break
		:: else
		fi;
#endif
		atomic {
			RX_LOCK;
			rx_look();
			if
			:: m == TCP -> rx_lock = 0; goto sleep
			:: m == WAKING -> rx_answer(); rx_lock = 0
			:: else
			fi
		}
		if
		:: m == TCP || m == WAKING
		:: (m == RING || m == LEAVING) && h == tail -> rx_settle(); ok = 0; RX_UNLOCK
		:: (m == RING || m == LEAVING) && h != tail -> RX_UNLOCK; break
		fi
	:: else ->
#ifndef BUG_COUNT
		if
		:: !OPEN && attach == 2 && G != 0 -> gate_close(); gate_enter()
		:: else ->
#endif
sleep:			atomic {
#if defined(STASH) && !defined(BUG_STASH_POLL)
				if
				:: STASHED && stash_missing == 0 -> break
				:: else
				fi;
#endif
				gate_close();
				(len(tcp) > 0 || fin || kick[ME]);
				break
			}
#ifndef BUG_COUNT
		fi
#endif
	od;
	atomic {
		gate_close();
		m = TCP;
		h = 0;
		kick[ME] = 0;
		pollers--
	}
}

inline mind_pollers()
{
	do
	:: atomic {
		rx_look();
		if
		:: m == TCP || pollers == 0 -> break
		:: else
		fi
	   }
	   atomic {
		RX_LOCK;
		rx_look();
		if
		:: m == TCP
		:: m == WAKING -> rx_answer()
		:: (m == RING || m == LEAVING) && h == tail -> rx_settle(); ok = 0
		:: (m == RING || m == LEAVING) && h != tail ->
			kick[0] = 1;
			kick[1] = 1;
			rx_lock = 0;
			break
		fi;
		rx_lock = 0
	   }
	od
}
#endif

#ifdef STASH
/* what the agent has moved out of the ring, behind the bytes of the kernel that come first */
inline receive_stashed()
{
	RX_LOCK;
	h = stash_bytes;
	t = stash_taken;
	if
	:: h <= t -> h = 0; t = 0; RX_UNLOCK; goto again
	:: else
	fi;
#ifndef BUG_STASH_CLOSED
	if
	:: !OPEN && attach == 2 && G != 0 -> h = 0; t = 0; RX_UNLOCK; gate_look(); goto again
	:: else
	fi;
#endif
	if
	:: stash_missing > 0 ->
		was = touching[ME];
		atomic {
			gate_close();
			if
			:: skip -> (len(tcp) > 0)
			:: skip
			fi;
			kernel_take(stash_missing);
			eof = 0
		}
		if
		:: was != 0 -> gate_wake(was)
		:: else
		fi;
		if
		:: OPEN && attach == 2 -> TOUCH; tcp_read = tcp_read + x
		:: else
		fi;
		atomic { stash_missing = stash_missing - x; rx_lock = 0; h = 0; t = 0 }
	:: else ->
		atomic {
			b = stash[t];
			deliver(b);
			stash[t] = 0;
			b = 0;
			stash_taken = t + 1;
			rx_lock = 0;
			h = 0;
			t = 0
		}
	fi;
#if defined(POLL) && !defined(BUG_STASH_KICK)
	atomic {
		if
		:: STASHED && pollers > 0 -> kick[0] = 1; kick[1] = 1
		:: else
		fi
	}
#endif
}
#endif

active [RS] proctype R()
{
	mtype m;
	byte h, b, t, k, x, was;
	bit ok, eof;

	do
	:: atomic { callers > 1 -> callers--; goto end }
#ifdef POLL
	:: poll_sleep()
#endif
	:: gate_enter();
again:
#ifdef STASH
	   if
	   :: STASHED -> receive_stashed(); gate_close(); goto out
	   :: else
	   fi;
#endif
	   if
	   :: OPEN && attach == 0 -> try_attach()
	   :: OPEN && attach == 2
	   :: !OPEN || attach != 2 ->
alone:		unattached++;
#ifdef BUG_STASH_FIRST
		if
		:: STASHED -> goto back
		:: else
		fi;
#endif
		/* only if nobody has attached; or nobody can have, as the region is away */
		if
		:: attach == 0
		:: attach == 1 -> goto back
		:: attach == 2 ->
#ifdef BUG_CLOSED
			if
			:: OPEN -> goto back
			:: else
			fi
#else
			if
			:: OPEN || G != 0 -> goto back
			:: else
			fi
#endif
		fi;
#if defined(STASH) && !defined(BUG_STASH_FIRST)
		if
		:: STASHED -> goto back
		:: else
		fi;
#endif
		kernel_receive(N);
		atomic {
			unattached--;
			goto out
		}
back:		atomic {
			unattached--;
			touching[ME] = 0;
			attach != 1;
			gate_look();
			goto again
		}
	   fi;
look:	   atomic {
		TOUCH;
		assert(attached && attach == 2);
		rx_look()
	   }
	   if
	   :: m == TCP ->
		rx_enter();
		atomic {
			if
			:: !ok -> goto look
			:: else -> ok = 0
			fi;
			was = touching[ME]
		}
#ifdef STASH
		if
		:: STASHED -> was = 0; rx_exit(); goto again
		:: else
		fi;
#endif
		kernel_receive(N);
		gate_wake(was);
		atomic {
			if
			:: !OPEN -> unattached--; gate_close(); goto out
			:: else
			fi;
			TOUCH;
			if
			:: eof && mode != TCP -> eof = 0
			:: else
			fi
		}
		rx_exit()
	   :: m == WAKING ->
		rx_answer();
		goto look
	   :: m == RING || m == LEAVING ->
		atomic {
			RX_LOCK;
			rx_look();
			if
			:: m == TCP || m == WAKING -> rx_lock = 0; goto look
			:: else
			fi
		}
		atomic { /* which of the two is first: threads.pml */
			if
			:: tcp_read < open_at && in_kernel == 0 -> goto limited
			:: tcp_read < open_at && in_kernel > 0 ->
				rx_lock = 0;
				if
				:: skip -> (in_kernel == 0 || tcp_read >= open_at || mode != m)
				:: skip
				fi;
				goto next
			:: tcp_read >= open_at
			fi
		}
		if
		:: h != tail -> atomic { ring_take(); rx_lock = 0 }
		:: h == tail -> atomic { rx_settle(); ok = 0; rx_lock = 0; goto look }
		:: h == tail && m == RING -> RX_UNLOCK
		fi;
		goto next;
limited:	was = touching[ME];
		atomic {
			gate_close();
			if
			:: skip -> (len(tcp) > 0)
			:: skip
			fi;
			kernel_take(open_at - tcp_read)
		}
		gate_wake(was);
		atomic {
			assert(OPEN); /* the agent waits for mode TCP */
			eof = 0;
			tcp_read = tcp_read + x;
			rx_lock = 0
		}
	   fi;
next:
#ifdef POLL
	   mind_pollers();
#endif
	   gate_close();
out:	   atomic {
		x = 0;
		m = TCP;
		h = 0;
		if
		:: eof -> assert(got == sent); callers--; break
		:: else
		fi
	   }
	od;
end:	skip
}

#ifdef STASH
/* the reader does not come: what is unread in the ring that S has left */
inline stash_put()
{
	atomic { /* counts when stash_bytes says so */
		stash_missing = (tcp_read < open_at -> open_at - tcp_read : 0);
		stash_taken = 0;
		do
		:: k < h - tail -> stash[k] = ring[(tail + k) % CAP]; k++
		:: else -> break
		od;
		k = 0
	}
	stash_bytes = h - tail;
	atomic {
		do
		:: tail < h -> ring[tail % CAP] = 0; tail++
		:: else -> break
		od
	}
	rx_settle()
}

inline stash_drop()
{
	stash_bytes = 0;
#ifdef BUG_STASH_DROP
	stash_taken = 0
#endif
}
#endif

/* for a word that is not TCP yet: what the agent can do; true once it can do more */
inline agent_pass()
{
	atomic {
		RX_LOCK;
		rx_look()
	}
	if
	:: m == TCP
	:: m == WAKING || (m == RING && h != tail) -> leave()
	:: (m == RING || m == LEAVING) && h == tail -> rx_settle()
	:: m == LEAVING && h != tail
#ifdef STASH
	:: m == LEAVING && h != tail && in_kernel == 0 && stash_bytes == 0 -> stash_put()
#endif
	fi;
	atomic {
		rx_lock = 0;
		ok || m == TCP || mode != m || head != h || h == tail || (m == RING && in_kernel == 0);
		ok = 0
	}
}

inline take_back()
{
#ifndef BUG_MOVE
	unattached = unattached + in_kernel;
	in_kernel = 0;
#endif
#ifndef BUG_ATTACHED
	attached = 0;
#endif
#ifndef BUG_ATTACH
	attach = 0
#endif
}
#define EMPTIED (mode == TCP)
#define TAKE_BACK take_back()
#define ALL_OVER callers == 0; assert(in_kernel == 0 && unattached == 0)

#endif

/* ---- the agent of the guest ------------------------------------------------------------------ */

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
