/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nested_tx.pml - a signal handler sends on the stream on which its thread is sending
 *
 * The handler runs to its end between any two steps of the interrupted call. Where that call holds
 * the lock, the handler's is nested: it goes ahead, but by TCP alone. It leaves a ring that is open,
 * for the interrupted call may yet copy its bytes to the head that it saw, over whatever the handler
 * would publish there; the interrupted call then finds its CAS fail and starts over. It never opens.
 * Opening itself is done with signals blocked: nothing may be sent between open_at and its CAS.
 *
 * Bytes as in senders.pml: sender 0 is the thread, sender 1 its handler.
 */
#ifndef N0
#define N0 3
#endif
#ifndef N1
#define N1 2
#endif
#define N 8
#define ME(b) ((b) & 1)
#define DELIVER(b)                                                                                 \
	assert(((b) >> 1 & 7) == got_of[ME(b)] && got_of[1 - ME(b)] >= (b) >> 4);                  \
	got_of[ME(b)]++
byte got_of[2], done_of[2];

#include "word.pml"

bit interrupted = 0, blocked = 0;

/* a whole send of byte v; nested = the lock is ours further up the stack */
inline send(me)
{
	do
	:: atomic {
		nested = (me == 1 && tx_lock == 0 -> 1 : 0);
		if
		:: nested
		:: !nested && tx_lock == NOBODY -> tx_lock = 0
		fi
	   }
	   tx_look();
	   if
#ifdef BUG_NESTED_OPEN
	   :: m == TCP && tx_in_kernel == 0 ->
#else
	   :: m == TCP && !nested && tx_in_kernel == 0 ->
#endif
#ifndef BUG_SIGNALS
		blocked = !nested;
#endif
		tx_open(v);
		if
		:: !nested -> TX_UNLOCK
		:: else
		fi;
		blocked = 0;
		if
		:: ok -> ok = 0; break
		:: else
		fi
	   :: m == TCP || m == LEAVING ->
		tx_in_kernel++;
		if
		:: !nested -> TX_UNLOCK
		:: else
		fi;
		kernel_send(v);
		tx_in_kernel--;
		break
	   :: m == WAKING || m == RING ->
		k = tail;
		if
#ifdef BUG_NESTED_RING
		:: h - k < CAP -> k = 0; tx_publish(v)
#else
		:: h - k < CAP && !nested -> k = 0; tx_publish(v)
#endif
		:: h - k >= CAP ->
			leave();
			if
			:: !ok -> (h - tail < CAP || in_kernel == 0 || mode != m)
			:: else
			fi;
			ok = 0
		:: leave();
		   ok = 0
		fi;
		if
		:: !nested -> TX_UNLOCK
		:: else
		fi;
		if
		:: ok -> ok = 0; break
		:: else
		fi
	   fi
	od
}

active proctype S() provided (!interrupted)
{
	mtype m;
	byte h, o, t, k, n, v;
	bit ok, nested;

	do
	:: n < N0 ->
		v = 0 | n << 1 | done_of[1] << 4;
		send(0);
		atomic {
			v = 0;
			n++;
			done_of[0] = n
		}
		if
		:: skip -> got == sent
		:: skip
		fi
	:: n == N0 -> break
	od;
	got == sent
}

active proctype Handler()
{
	mtype m;
	byte h, o, t, k, n, v;
	bit ok, nested;

end:	do
	:: n < N1 ->
		atomic {
			!blocked ->
			interrupted = 1;
			v = 1 | n << 1 | done_of[0] << 4
		}
		send(1);
		atomic {
			v = 0;
			n++;
			done_of[1] = n;
			interrupted = 0
		}
	:: break
	od
}

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
endwait:		len(tcp) > 0;
			kernel_take(N);
			rx_exit()
		:: else
		fi
	   :: m == WAKING -> rx_answer()
	   :: m == RING || m == LEAVING ->
		if
		:: tcp_read < open_at && (h != tail || len(tcp) > 0) ->
endrest:		len(tcp) > 0;
			kernel_take(open_at - tcp_read);
			tcp_read = tcp_read + x;
			x = 0
		:: tcp_read >= open_at && h != tail -> ring_take()
		:: h == tail && (tcp_read >= open_at || len(tcp) == 0) -> rx_settle(); ok = 0
		fi
	   fi
	od
}
