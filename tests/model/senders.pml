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
 * returned before it began. UNSEEN: the second one sends out of the hooks' sight.
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

#define NOBODY 255
#ifdef KILL
byte killed = NOBODY;
#define KILLED if :: killed == NOBODY -> killed = _pid; goto dead :: skip fi
#endif
#include "word.pml"

/* who finds the holder dead takes the lock over, and puts right what it was at */
#ifdef KILL
#define TAKE                                                                                       \
	atomic {                                                                                   \
		if                                                                                 \
		:: tx_lock == NOBODY -> tx_lock = _pid                                             \
		:: tx_lock != NOBODY && tx_lock == killed -> tx_lock = _pid                        \
		fi                                                                                 \
	}
#else
#define TAKE TX_LOCK(_pid)
#endif
inline lock()
{
	TAKE;
#ifndef BUG_REPAIR
	if
	:: opening -> tx_unopen()
	:: else
	fi
#endif
}
#define LOCK lock()

active [2] proctype S()
{
	mtype m;
	byte h, o, t, k, n, v;
	bit ok;

	do
	:: n < (_pid == 0 -> N0 : N1) ->
		v = _pid | n << 1 | done_of[1 - _pid] << 4;
#ifdef UNSEEN
		if
		:: _pid == 1 -> kernel_send(v); goto done
		:: else
		fi;
#endif
again:
		tx_look();
		if
		:: m == TCP ->
			LOCK;
#ifdef BUG_CHECK_LATE
			o = tcp_sent + 1;
#endif
			if
			:: tx_in_kernel == 0 -> tx_open(v)
			:: else
			fi;
			o = 0;
			TX_UNLOCK;
			if
			:: ok -> goto done
			:: else
			fi
		:: skip
		fi;
		LOCK;
		tx_look();
		if
		:: m == TCP || m == LEAVING ->
#ifdef BUG_RAISE
			TX_UNLOCK;
			tx_in_kernel++;
#else
			tx_in_kernel++;
			TX_UNLOCK;
#endif
			kernel_send(v);
			tx_in_kernel--
		:: m == WAKING || m == RING ->
			if
			:: h - tail < CAP ->
				tx_put(v);
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
done:		atomic {
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
	got == sent;
	if
	:: skip -> goto end
#ifdef KILL
dead:	:: skip
#endif
	fi;
end:	skip
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
		:: tcp_read >= open_at && h != tail ->
			ring_take()
		:: h == tail && (tcp_read >= open_at || len(tcp) == 0) -> rx_settle(); ok = 0
		fi
	   fi
	od
}
