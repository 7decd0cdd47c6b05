/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads.pml - one sender, two threads that receive from one stream, blocking or not
 *
 * A thread may stop calling at any time, as long as the other goes on: so each that sleeps must be
 * woken by whatever comes, on whichever path. Where both sleep in the kernel the payload of an
 * opening would wake one alone, and the other would sleep beside a filling ring: two inside the
 * kernel and no ring (the crowd rule: rx_enter(), tx_open()).
 */
#include "word.pml"

byte callers = 2;
#ifdef ATTACH
byte unattached = 0, attach = 0;
#endif
#ifdef POLLERS
byte pollers = 0;
bit kick[2];
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
			if
			:: m == TCP -> tx_open(sent)
			:: ok = 0
			fi;
			if
			:: !ok -> kernel_send(sent)
			:: else
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
		ok = 0;
		if
		:: skip -> got == sent
		:: skip
		fi
	:: sent == N -> break
	od;
	fin = 1
}

#ifdef POLLERS
/* poll(): counted before the look; what it cannot put to sleep is ready */
inline poll_sleep()
{
	pollers++;
	do
	:: RX_LOCK;
	   rx_look();
	   if
	   :: m == TCP -> RX_UNLOCK; (len(tcp) > 0 || fin || kick[_pid - 1]); break
	   :: m == WAKING -> rx_answer(); RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h == tail -> rx_settle(); ok = 0; RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h != tail -> RX_UNLOCK; break
	   fi
	od;
	atomic {
		kick[_pid - 1] = 0;
		pollers--
	}
}

/* a receive hook is about to return: it must not leave the stream awake beside a sleeper */
inline mind_pollers()
{
#ifndef BUG_POLLERS
	do
	:: pollers == 0 -> break
	:: else ->
	   rx_look();
	   if
	   :: m == TCP -> break
	   :: else ->
		RX_LOCK;
		rx_look();
		if
		:: m == TCP
		:: m == WAKING -> rx_answer()
		:: (m == RING || m == LEAVING) && h == tail -> rx_settle(); ok = 0
		:: (m == RING || m == LEAVING) && h != tail ->
			atomic {
				kick[0] = 1;
				kick[1] = 1
			}
			RX_UNLOCK;
			break
		fi;
		RX_UNLOCK
	   fi
	od
#else
	skip
#endif
}
#endif

#ifdef ATTACH
/* one attempt; whoever is still inside the kernel from before makes it fail */
inline try_attach()
{
	RX_LOCK;
	if
	:: attach == 0 ->
		attach = 1;
#ifdef BUG_ATTACH
		ok = 1;
#else
		ok = (unattached == 0 -> 1 : 0);
#endif
		if
		:: ok ->
			tcp_read = got; /* from the kernel: received less queued; no ring byte yet */
			change_word();
			attached = 1;
			attach = 2
		:: else -> attach = 0
		fi;
		ok = 0
	:: else
	fi;
	RX_UNLOCK
}

inline receive_unattached()
{
	if
	:: attach == 2
	:: attach == 1 -> attach != 1; goto again
	:: attach == 0 -> try_attach(); goto again
	:: attach == 0 ->
#ifdef BUG_UNATTACHED
		ok = (attach == 0 -> 1 : 0);
		unattached++;
#else
		unattached++;
		ok = (attach == 0 -> 1 : 0);
#endif
		if
		:: !ok -> unattached--; goto again
		:: else -> ok = 0
		fi;
		if
		:: block -> (len(tcp) > 0 || fin)
		:: !block
		fi;
		kernel_take(N);
		if
		:: eof -> assert(got == sent); goto end
		:: else
		fi;
		x = 0;
		unattached--;
		goto next
	fi
}
#endif

active [2] proctype R()
{
	mtype m;
	byte h, b, t, k, x, r;
	bit ok, block, eof;

	do
	:: atomic { callers > 1 -> callers-- }; break
	:: skip ->
		if
		:: block = 1
		:: block = 0
#ifdef POLLERS
		:: poll_sleep();
		   if
		   :: block = 0
		   :: goto next
		   fi
#endif
		fi;
again:
#ifdef ATTACH
		receive_unattached();
#endif
		rx_look();
		if
		:: m == TCP ->
			rx_enter();
			if
			:: !ok -> goto again
			:: else -> ok = 0
			fi;
			if
			:: block -> (len(tcp) > 0 || fin)
			:: !block
			fi;
			kernel_take(N);
			if
			:: eof && mode == TCP -> assert(got == sent); goto end
			:: else
			fi;
			rx_exit()
		:: m == WAKING ->
			rx_answer();
			goto again
		:: m == RING || m == LEAVING ->
			RX_LOCK;
			rx_look();
			if
			:: m == TCP || m == WAKING -> RX_UNLOCK; goto again
			:: else
			fi;
#ifdef BUG_LOOK
			r = tcp_read;
			k = in_kernel;
#else
			k = in_kernel; /* before tcp_read: none inside means that it is exact */
			r = tcp_read;
#endif
#ifdef BUG_LIMIT
			k = 0;
#endif
			if
			:: r < open_at && k == 0 && (h != tail || len(tcp) > 0 || !block) ->
				if
				:: block -> (len(tcp) > 0)
				:: !block
				fi;
				kernel_take(open_at - r);
				tcp_read = tcp_read + x;
				x = 0
			:: r < open_at && k > 0 && (h != tail || !block) -> /* the one inside gets them */
				RX_UNLOCK;
				if
				:: block -> (in_kernel == 0 || tcp_read >= open_at || mode != m)
				:: !block
				fi;
				k = 0;
				r = 0;
				goto next
			:: r >= open_at && h != tail ->
				ring_take()
			:: h == tail && (r >= open_at || k > 0 || len(tcp) == 0) && (m == LEAVING || block) ->
				rx_settle();
				atomic { ok = 0; k = 0; r = 0 }
				RX_UNLOCK;
				goto again
			:: r >= open_at && h == tail && !block -> skip
			fi;
			atomic { ok = 0; k = 0; r = 0 }
			RX_UNLOCK
		fi;
next:		skip;
#ifdef POLLERS
		mind_pollers()
#endif
	od;
end:	skip
}
