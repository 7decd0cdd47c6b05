/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nested_rx.pml - a signal handler receives, without waiting, from the stream from which its thread
 * is receiving
 *
 * The handler runs to its end between any two steps of the interrupted call. From the ring both may
 * take: the tail is read before the word, and moved by CAS from the value at which the copy began, so
 * that the interrupted call starts over. Nothing else: while the interrupted call holds the lock, its
 * limit, tcp_read and open_at must stay those of one ring run, so a nested call neither touches the
 * bytes below open_at nor settles. In mode TCP the handler is like any second thread.
 */
#include "word.pml"

bit interrupted = 0;

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
	got == sent
}

/* one receive call; me = 1: the handler's, which does not wait */
inline receive(me, block)
{
	skip;
again:	rx_look();
	if
	:: m == TCP ->
		rx_enter();
		if
		:: !ok -> goto again
		:: else -> ok = 0
		fi;
		if
		:: block -> (len(tcp) > 0 || got == N) /* the handler may have the last one */
		:: else
		fi;
		kernel_take(N);
		rx_exit()
	:: m == WAKING ->
		rx_answer();
		goto again
	:: m == RING || m == LEAVING ->
		atomic {
			nested = (me == 1 && rx_lock -> 1 : 0);
			if
			:: nested
			:: !nested && !rx_lock -> rx_lock = 1
			fi
		}
		t = tail; /* before the word */
		rx_look();
		k = in_kernel;
		r = tcp_read;
		if
		:: m == TCP || m == WAKING -> skip
		:: (m == RING || m == LEAVING) && r < open_at ->
#ifdef BUG_NESTED_LIMIT
			if
			:: nested || k == 0 ->
#else
			if
			:: !nested && k == 0 ->
#endif
				if
				:: block && h != t -> len(tcp) > 0
				:: else
				fi;
				if
				:: block && h == t && len(tcp) == 0 -> rx_settle()
				:: else
				fi;
				if
				:: ok -> ok = 0
				:: else ->
					r = open_at - tcp_read;
					kernel_take(r);
					tcp_read = tcp_read + x
				fi
			:: else /* EAGAIN; the thread itself never finds its handler inside */
			fi
		:: (m == RING || m == LEAVING) && r >= open_at && h != t ->
			b = ring[t % CAP];
			atomic {
#ifdef BUG_TAIL
				if
				:: deliver(b);
				   tail = t + 1
				fi;
#else
				if
				:: tail == t -> deliver(b); tail = t + 1
				:: else /* start over */
				fi;
#endif
				b = 0
			}
		:: (m == RING || m == LEAVING) && r >= open_at && h == t ->
			if
#ifdef BUG_NESTED_SETTLE
			:: m == LEAVING || block -> rx_settle()
#else
			:: !nested && (m == LEAVING || block) -> rx_settle()
#endif
			:: else
			fi
		fi;
		atomic {
			ok = 0;
			r = 0;
			x = 0;
			t = 0;
			k = 0;
			if
			:: !nested -> rx_lock = 0
			:: else
			fi;
			nested = 0
		}
	fi
}

active proctype R() provided (!interrupted)
{
	mtype m;
	byte h, b, t, k, x, r;
	bit ok, nested, wait, eof;

	do
	:: got < N ->
		if
		:: wait = 1
		:: wait = 0
		fi;
		receive(0, wait)
	:: got == N -> break
	od
}

active proctype Handler()
{
	mtype m;
	byte h, b, t, k, x, r;
	bit ok, nested, eof;

end:	do
	:: interrupted = 1;
	   receive(1, 0);
	   interrupted = 0
	od
}
