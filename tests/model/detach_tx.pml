/* SPDX-License-Identifier: Apache-2.0 */
/*
 * detach_tx.pml - the region is taken away from the guest that sends, and given back
 *
 * Two threads send, as in senders.pml; one may go on in the same call, without leaving the gate. The
 * other guest's receiver keeps its mapping and knows nothing. A ring that was left may have bytes
 * in it when the region goes: they are the other guest's to read.
 */
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

#include "word.pml"
#include "gate.pml"

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
				:: m == TCP && tx_in_kernel == 0 -> goto opening_it
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
			tx_in_kernel--
		fi;
		goto next;
opening_it:	tx_open(v);
		atomic {
			TX_UNLOCK;
			if
			:: ok -> goto next
			:: else -> goto again
			fi
		}
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
		:: tcp_read < open_at && (h != tail || len(tcp) > 0) ->
endrest:		atomic {
				len(tcp) > 0;
				kernel_take(open_at - tcp_read);
				tcp_read = tcp_read + x;
				x = 0
			}
		:: tcp_read >= open_at && h != tail ->
			ring_take()
		:: h == tail && (tcp_read >= open_at || len(tcp) == 0) -> atomic { rx_settle(); ok = 0 }
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

#define EMPTIED (mode == TCP || mode == LEAVING)
#define TAKE_BACK skip
#define ALL_OVER skip

#include "removal.pml"
