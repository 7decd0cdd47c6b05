/* SPDX-License-Identifier: Apache-2.0 */
/*
 * processes.pml - one sender, two processes that receive from one stream or sleep in a level-triggered poll
 * for it, and may stop calling as long as the other goes on
 *
 * Neither can wake the other: only what lies in the kernel does. So a process writes itself down before its
 * first receive or wait, the second one refuses the ring, and what was opened before that is read so that
 * the kernel keeps a byte until the ring is empty: the last one of the payload that the ring was opened
 * behind is given to the program and left where it is (held).
 */
#include "word.pml"

byte callers = 2;
bit receives[2];
bit several = 0; /* COLOC_RECORD_RECEIVERS */
bit held = 0;

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

/* pl_stream_receives_slow() */
inline enroll()
{
	if
	:: receives[me]
	:: else ->
		RX_LOCK;
		receives[me] = 1;
		if
		:: receives[1 - me] ->
			several = 1;
			refused = 1;
			change_word();
			ok = 0
		:: else
		fi;
		RX_UNLOCK
	fi
}

/* under the lock: the ring is empty at {m, h} */
inline settle()
{
	if
	:: held ->
		/* Nothing is added to a ring that is left. */
		atomic {
			assert(m == LEAVING);
			tcp ? b;
			assert(b < got);
			b = 0
		}
		held = 0
	:: else
	fi;
	rx_settle();
	ok = 0
}

inline poll_sleep()
{
	do
	:: RX_LOCK;
	   rx_look();
	   if
	   :: m == TCP -> RX_UNLOCK; (len(tcp) > 0 || fin); break
	   :: m == WAKING -> rx_answer(); RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h == tail -> settle(); RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h != tail ->
		k = in_kernel;
		r = tcp_read;
		if
		:: r >= open_at -> RX_UNLOCK; break
#ifndef BUG_INSIDE
		:: r < open_at && several && k > 0 -> /* who is inside takes them, and wakes nobody */
			RX_UNLOCK;
			(in_kernel == 0 || tcp_read >= open_at || mode != m)
#endif
		:: else -> RX_UNLOCK; (len(tcp) > 0 || fin); break
		fi
	   fi
	od;
	k = 0;
	r = 0
}

/* a receive is about to return */
inline mind_others()
{
	do
	:: !several -> break
	:: else ->
		RX_LOCK;
		rx_look();
		if
		:: m == TCP -> RX_UNLOCK; break
		:: m == WAKING -> rx_answer(); RX_UNLOCK
		:: (m == RING || m == LEAVING) && h == tail -> settle(); RX_UNLOCK
		:: m == RING && h != tail ->
			leave();
			RX_UNLOCK;
			if
			:: ok -> ok = 0; break
			:: else -> (in_kernel == 0 || mode != m || head != h)
			fi
		:: m == LEAVING && h != tail -> RX_UNLOCK; break
		fi
	od
}

active [2] proctype R()
{
	mtype m;
	byte h, b, t, k, x, r;
	bit ok, block, eof;
	byte me = _pid - 1;

	do
	:: atomic { callers > 1 -> callers-- }; break
	:: skip ->
#ifndef BUG_LATE
		enroll();
#endif
		if
		:: block = 1
		:: block = 0
		::
#ifdef BUG_LATE
		   enroll();
#endif
		   poll_sleep();
		   if
		   :: block = 0
		   :: goto next
		   fi
		fi;
again:
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
			k = in_kernel;
			r = tcp_read;
			if
			:: r < open_at && k == 0 && several && h == tail -> /* nothing to keep in order */
				settle();
				atomic { k = 0; r = 0 }
				RX_UNLOCK;
				goto again
			:: r < open_at && k == 0 && several && h != tail && m == RING ->
				leave();
				atomic { ok = 0; k = 0; r = 0 }
				RX_UNLOCK;
				goto again
			:: r < open_at && k == 0 && several && h != tail && m == LEAVING && (len(tcp) > 0 || !block) ->
				if
#ifndef BUG_HOLD
				:: open_at - r == 1 ->
					atomic {
						if
						:: tcp ? [_] ->
							tcp ? <b>;
							deliver(b);
							b = 0;
							tcp_read++;
							held = 1
						:: else
						fi
					}
				:: open_at - r > 1 -> kernel_take(open_at - r - 1); tcp_read = tcp_read + x; x = 0
#else
				:: kernel_take(open_at - r); tcp_read = tcp_read + x; x = 0
#endif
				fi
			:: r < open_at && k == 0 && !several && (h != tail || len(tcp) > 0 || !block) ->
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
				atomic { k = 0; r = 0 }
				goto next
			:: r >= open_at && h != tail ->
				ring_take()
			:: h == tail && (r >= open_at || k > 0 || len(tcp) == 0) && (m == LEAVING || block) ->
				settle();
				atomic { k = 0; r = 0 }
				RX_UNLOCK;
				goto again
			:: r >= open_at && h == tail && !block && m == RING -> skip
			fi;
			atomic { ok = 0; k = 0; r = 0 }
			RX_UNLOCK
		fi;
next:
#ifdef BUG_LATE
		enroll();
#endif
		mind_others()
	od;
end:	skip
}
