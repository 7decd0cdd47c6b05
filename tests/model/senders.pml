/* SPDX-License-Identifier: Apache-2.0 */
/*
 * senders.pml - two threads that send on one stream, one receiver
 *
 * tx.in_kernel is raised under the lock, together with the look at the word; the kernel's send,
 * which may sleep, runs without the lock. Who opens holds the lock, finds tx.in_kernel 0, and only
 * then takes open_at from the kernel: no byte can go by TCP between that and the CAS.
 *
 * A byte is {sender, number, how many of the other's sends had returned when this one began}: the
 * receiver checks that each sender's bytes come in order, and that no send overtakes one that had
 * returned before it began.
 */
#ifndef N0
#define N0 3
#endif
#ifndef N1
#define N1 1
#endif
#define N 8
#define ME(b) ((b) & 1)
#define DELIVER(b)                                                                                 \
	assert(((b) >> 1 & 7) == got_of[ME(b)] && got_of[1 - ME(b)] >= (b) >> 4);                  \
	got_of[ME(b)]++
byte got_of[2], done_of[2];

#include "word.pml"

active [2] proctype S()
{
	mtype m;
	byte h, o, t, k, n, v;
	bit ok;

	do
	:: n < (_pid == 0 -> N0 : N1) ->
		v = _pid | n << 1 | done_of[1 - _pid] << 4;
again:
#ifdef BUG_RAISE
		tx_in_kernel++;
		tx_look();
		if
		:: m == WAKING || m == RING -> tx_in_kernel--; TX_LOCK(_pid); tx_look()
		:: else -> TX_LOCK(_pid)
		fi;
		if
		:: m == TCP || m == LEAVING ->
			TX_UNLOCK;
#else
		TX_LOCK(_pid);
		tx_look();
		if
		:: m == TCP || m == LEAVING ->
			tx_in_kernel++;
			TX_UNLOCK;
#endif
			kernel_send(v);
			tx_in_kernel--;
			if
			:: m == TCP ->
				TX_LOCK(_pid);
#ifdef BUG_CHECK_LATE
				o = tcp_sent;
#endif
				if
				:: tx_in_kernel == 0 -> tx_open()
				:: else
				fi;
				o = 0;
				TX_UNLOCK
			:: skip
			fi
		:: m == WAKING || m == RING ->
			if
			:: h - tail < CAP ->
				tx_publish(v);
				TX_UNLOCK;
				if
				:: !ok -> goto again
				:: else
				fi
			:: h - tail >= CAP ->
				leave();
				TX_UNLOCK;
				if
				:: !ok -> (h - tail < CAP || in_kernel == 0 || mode != m)
				:: else
				fi;
				ok = 0;
				goto again
			:: leave();
			   TX_UNLOCK;
			   ok = 0;
			   goto again
			fi
		fi;
		atomic {
			ok = 0;
			v = 0;
			n++;
			done_of[_pid] = n
		}
		if
		:: skip -> got == sent
		:: skip
		fi
	:: else -> break
	od;
	got == sent
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
		:: tcp_read < open_at ->
endrest:		len(tcp) > 0;
			kernel_take(open_at - tcp_read);
			tcp_read = tcp_read + x;
			x = 0
		:: tcp_read >= open_at && h != tail ->
			ring_take()
		:: tcp_read >= open_at && h == tail -> rx_settle(); ok = 0
		fi
	   fi
	od
}
