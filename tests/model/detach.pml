/* SPDX-License-Identifier: Apache-2.0 */
/*
 * detach.pml - the region is taken away from the guest that receives, and given back
 *
 * RS threads, blocking or not (-DPOLL: also by poll), each of which may stop calling as in
 * threads.pml. The sender's guest keeps its mapping and knows nothing. Who sleeps in the kernel is
 * counted in the region (in_kernel); the agent makes that unattached, in the record, and takes the
 * attach back. A sleeper that finds another number, or none, lowers unattached and lets the region
 * be. Then R attaches anew, as in attach.pml.
 *
 * -DSTASH: the agent may move unread bytes of a ring that was left into the record. They come after
 * stash_missing bytes of the kernel's and before all others; until they are taken, nobody attaches
 * and nothing opens. So who is about to take the kernel's bytes looks for them last, and so does
 * who is about to sleep in poll; who returns tells the sleepers of them.
 */
#ifndef RS
#define RS 2
#endif
#define ME (_pid - 1)

#include "word.pml"
#include "gate.pml"

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
	:: pollers == 0 -> break
	:: else ->
	   atomic {
		rx_look();
		if
		:: m == TCP -> break
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
	   :: STASHED -> receive_stashed(); goto next
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
			:: tcp_read < open_at && in_kernel == 0 && (h != tail || len(tcp) > 0) -> goto limited
			:: tcp_read < open_at && in_kernel > 0 && h != tail ->
				rx_lock = 0;
				if
				:: skip -> (in_kernel == 0 || tcp_read >= open_at || mode != m)
				:: skip
				fi;
				goto next
			:: else
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
	   if
	   :: OPEN && attach == 2 -> mind_pollers()
	   :: else
	   fi;
#if defined(STASH) && !defined(BUG_STASH_KICK)
	   atomic {
		if
		:: STASHED && pollers > 0 -> kick[0] = 1; kick[1] = 1
		:: else
		fi
	   }
#endif
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

#include "removal.pml"
