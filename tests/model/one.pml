/* SPDX-License-Identifier: Apache-2.0 */
/*
 * one.pml - one sender, one receiver: blocking, non-blocking and polling calls, partial reads,
 * forced leaves at any time, refusal and resume by R's agent, close or death of S, death of R
 *
 * S asks and waits for its answer at any point (everything sent has been read): a lost wake-up is
 * a deadlock. S may die between any two steps; then the kernel sends FIN, and R must get all
 * that was accepted and then the end of the stream. After R's death S must come to its end.
 * R may take what it has seen below a head, without a look at the word, whatever that is by then.
 * UNSEEN: S's program sends by TCP out of its hooks' sight, too, at any time.
 */
#include "word.pml"

bit s_dead = 0, r_dead = 0;

active proctype S()
{
	mtype m;
	byte h, o, t, k;
	bit ok, f;

	{
		do
		:: sent < N ->
			tx_look();
			f = attached && !refused;
			if
			:: m == TCP || m == LEAVING ->
				if
				:: m == TCP && !r_dead -> tx_open(sent)
				:: atomic { len(tcp) < TCPCAP && !r_dead -> tcp ! sent; tcp_sent++; sent++ }
				:: r_dead -> break /* EPIPE */
				fi
#ifdef UNSEEN
			:: atomic { (m == WAKING || m == RING) && len(tcp) < TCPCAP && !r_dead -> tcp ! sent; tcp_sent++; sent++ }
#endif
			:: (m == WAKING || m == RING) && !f ->
				leave();
				if
				:: !ok -> (in_kernel == 0 || mode != m || r_dead)
				:: else
				fi
			:: (m == WAKING || m == RING) && f ->
				if
				:: h - tail < CAP -> tx_put(sent)
				:: h - tail >= CAP ->
					leave();
					if
					:: !ok -> (h - tail < CAP || in_kernel == 0 || mode != m || r_dead)
					:: else
					fi
				:: leave() /* forced: drain, exec, a call that is not served */
				:: r_dead -> break
				fi
			fi;
			ok = 0;
			/* wait for an answer, or not */
			if
			:: skip -> (got == sent || r_dead)
			:: skip
			fi
		:: sent < N -> break /* closes early */
		:: sent == N -> break
		od;
		fin = 1
	} unless {
		s_dead;
		fin = 1
	}
}

#ifdef DEATH
active proctype Killer()
{
	if
	:: s_dead = 1
	:: r_dead = 1
	:: skip
	fi
}
#endif

/* settles before a sleep in poll; ok = 1: ready without asking the kernel */
inline before_sleep()
{
	do
	:: RX_LOCK;
	   rx_look();
	   if
	   :: m == TCP -> ok = 0; RX_UNLOCK; break
	   :: m == WAKING -> rx_answer(); RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h == tail ->
		if
		:: rx_settle(); RX_UNLOCK
		/* the kernel holds, or will get, bytes below open_at: they end the sleep */
		:: tcp_read < open_at -> ok = 0; RX_UNLOCK; break
		fi
	   :: (m == RING || m == LEAVING) && h != tail ->
		ok = (tcp_read >= open_at -> 1 : 0);
		RX_UNLOCK;
		break
	   fi
	od
}

active proctype R()
{
	mtype m;
	byte h, b, t, k, x, seen;
	bit ok, block, eof;

	{
		do
		:: skip ->
			if
			:: before_sleep();
			   if
			   :: ok
			   :: !ok -> (len(tcp) > 0 || fin)
			   fi;
			   ok = 0;
			   block = 0
			:: block = 1
			:: block = 0
			fi;
again:
			if
			:: seen > tail ->
				RX_LOCK;
				if
				:: seen > tail -> ring_take()
				:: else
				fi;
				RX_UNLOCK;
				goto over
			:: skip
			fi;
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
				:: eof -> /* 0 from the kernel: the end, if the ring is not in use */
					rx_look();
					if
					:: m == TCP -> assert(got == sent); break
					:: else
					fi
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
#ifdef BUG_SEEN
				seen = h;
#endif
#ifdef BUG_OPEN_AT
				if
				:: h != tail -> t = tail; assert(ring[t % CAP] == got); got++; tail = t + 1; t = 0
				:: h == tail -> rx_settle()
				fi
#else
				if
				:: tcp_read < open_at ->
					/* certain to come only if S has gone on to the ring */
					if
#ifdef BUG_CERTAIN
					:: block -> (len(tcp) > 0)
#else
					:: block && (len(tcp) > 0 || h != tail) -> (len(tcp) > 0)
					:: block && len(tcp) == 0 && h == tail ->
						rx_settle();
						ok = 0;
						RX_UNLOCK;
						goto again
#endif
					:: !block
					fi;
					kernel_take(open_at - tcp_read);
					if
					:: eof -> assert(got == sent); RX_UNLOCK; break /* S died, or gave up, at an opening */
					:: else
					fi;
					tcp_read = tcp_read + x;
					x = 0
				:: tcp_read >= open_at && h != tail ->
					seen = h;
					ring_take()
				:: tcp_read >= open_at && h == tail && (m == LEAVING || block) ->
					rx_settle();
					ok = 0;
					RX_UNLOCK;
					goto again
				:: tcp_read >= open_at && h == tail && !block -> skip
				fi
#endif
				;
				ok = 0;
				RX_UNLOCK
			fi;
over:			atomic {
				if
				:: seen <= tail -> seen = 0
				:: else
				fi
			}
		od
	} unless {
		r_dead
	}
}

#ifdef REFUSE
/* R's agent: refuse, empty the ring, be sure; later resume */
active proctype A()
{
	mtype m;
	byte h, k;
	bit ok;

	{
		refused = 1;
		do
		:: RX_LOCK;
		   rx_look();
		   if
		   :: m == TCP ->
#ifdef BUG_REFUSE
			ok = 1;
#else
			change_word();
#endif
			RX_UNLOCK;
			if
			:: ok -> closed_for_good = 1; break
			:: else
			fi
		   :: m == WAKING -> leave(); RX_UNLOCK
		   :: (m == RING || m == LEAVING) && h == tail -> rx_settle(); RX_UNLOCK
		   :: m == RING && h != tail -> leave(); RX_UNLOCK
		   :: m == LEAVING && h != tail -> RX_UNLOCK; (h == tail || mode != m || r_dead)
		   fi;
		   ok = 0;
		   if
		   :: r_dead -> break
		   :: else
		   fi
		od;
		closed_for_good = 0;
		refused = 0
	} unless {
		r_dead
	}
}
#endif
