/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edge.pml - an edge-triggered receiver that may sleep with unread bytes and wants each new one
 * reported
 *
 * `edge`: something came by TCP since the kernel last reported. `reported`: the head that was last
 * reported from the ring. `woken`: all bytes of the stream below it have been reported; S may wait at
 * any point until what it sent has been read or reported. R settles an empty ring whatever tcp_read
 * is, and pushes S out of a ring that holds unread bytes (shmt_rx_push_out()): the next bytes come by
 * TCP and make an edge.
 *
 * UNSEEN: S's program sends by TCP out of its hooks' sight, too. Such bytes lie in the kernel behind
 * an empty ring, and their edge may have been told: so R settles before it says EAGAIN.
 *
 * It may wait again with bytes unread that the kernel has reported: what S opens the ring behind comes
 * after that, and makes an edge.
 */
#ifndef N
#define N 5
#endif
#define TCPCAP N /* a lazy reader must not stop the writer */
bit edge = 0;
byte woken = 0, tcp_hi = 0, ring_hi = 0;
#define ARRIVES                                                                                    \
	edge = 1;                                                                                  \
	tcp_hi = sent
#define PUBLISHED ring_hi = sent
#include "word.pml"

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
			:: h - tail < CAP -> tx_put(sent)
			:: h - tail >= CAP ->
				leave();
				if
				:: !ok -> (h - tail < CAP || in_kernel == 0 || mode != m)
				:: else
				fi
			:: leave()
#ifdef UNSEEN
			:: kernel_send(sent)
#endif
			fi
		fi;
		ok = 0;
		if
		:: skip -> (got == sent || woken >= sent)
		:: skip
		fi
	:: sent == N -> break
	od;
	got == sent || woken >= sent;
	atomic {
		fin = 1;
		edge = 1
	}
}

/* epoll_wait() for this stream */
inline wait_for_edge()
{
	do
	:: RX_LOCK;
	   atomic {
		rx_look();
		w = ring_hi
	   }
	   if
	   :: m == TCP ->
		RX_UNLOCK;
		goto sleep
	   :: m == WAKING -> rx_answer(); RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h == tail ->
#ifdef BUG_SETTLE
		if
		:: tcp_read < open_at -> RX_UNLOCK; goto sleep
		:: else
		fi;
#endif
		rx_settle();
		ok = 0;
		RX_UNLOCK
	   :: (m == RING || m == LEAVING) && h != tail && h > reported ->
		reported = h;
		atomic {
			if
			:: w > woken -> woken = w
			:: else
			fi
		}
		RX_UNLOCK;
		goto awake
	   :: (m == RING || m == LEAVING) && h != tail && h <= reported ->
#ifdef BUG_PUSH_OUT
		ok = 1;
#else
		ok = 0;
		if
		:: m == RING -> leave()
		:: m == LEAVING -> ok = 1
		fi;
#endif
		RX_UNLOCK;
		if
		:: ok -> ok = 0; goto sleep
		:: else
		fi
	   fi
	od;
sleep:	ok = 0;
	atomic {
		edge && (len(tcp) > 0 || fin) ->
		edge = 0;
		if
		:: tcp_hi > woken -> woken = tcp_hi
		:: else
		fi;
		last = fin
	}
awake:	w = 0
}

active proctype R()
{
	mtype m;
	byte h, b, t, k, x, w, reported;
	bit ok, last, eof;

	do
	:: wait_for_edge();
	   do
	   :: !last -> break
	   :: skip ->
		rx_look();
		if
		:: m == TCP ->
			rx_enter();
			if
			:: ok ->
				ok = 0;
				kernel_take(N);
				if
				:: eof && mode == TCP -> assert(got == sent); goto end
				:: else
				fi;
				rx_exit()
			:: else
			fi
		:: m == WAKING -> rx_answer()
		:: m == RING || m == LEAVING ->
			RX_LOCK;
			if
			:: tcp_read < open_at ->
				kernel_take(open_at - tcp_read);
				tcp_read = tcp_read + x;
				x = 0
			:: tcp_read >= open_at && h != tail -> ring_take()
			:: tcp_read >= open_at && h == tail && (m == LEAVING || last) ->
				rx_settle();
				ok = 0
			:: tcp_read >= open_at && h == tail && m == RING && !last -> /* EAGAIN */
#ifdef UNSEEN
				/* ... says that there is nothing: what was sent out of sight may be there */
#ifndef BUG_UNSEEN_DRY
				rx_settle();
				ok = 0
#else
				assert(len(tcp) == 0)
#endif
#else
				skip
#endif
			fi;
			RX_UNLOCK
		fi
	   od
	od;
end:	skip
}
