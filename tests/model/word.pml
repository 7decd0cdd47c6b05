/* SPDX-License-Identifier: Apache-2.0 */
/*
 * word.pml - one direction as shm-transport/switch.c has it; every model includes this file
 *
 * One Promela step per atomic operation of the C code. Bytes are numbered: byte i of the stream has
 * the value i, so that order and loss are an assertion.
 *
 * ctl = {value, mode}. In a mode other than TCP the value is head. In mode TCP it is a sequence
 * number that is used once; all that anybody can ask of it is "is it still the one that I read?",
 * and only who opens asks. So the model keeps that answer (unchanged) instead of the number: whoever
 * writes {TCP, fresh} clears it. That keeps the state space finite and is exact.
 *
 * The kernel's half is a channel of bytes and `fin`. What the code takes from the kernel is exact here, as
 * tests/platform/assume_*.c show for the kernel.
 *
 * The includer may set: N bytes, CAP ring size, TCPCAP of the kernel's buffer; and BUG_x, each of
 * which breaks one rule: tests/model/run.sh requires that the checker then finds a fault.
 */
#ifndef N
#define N 6
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef TCPCAP
#define TCPCAP 2
#endif
#ifndef NOBODY
#define NOBODY 255
#endif

mtype = { TCP, WAKING, RING, LEAVING };

/* shared memory */
mtype mode = TCP;
byte head = 0;
bit unchanged = 0;
byte tail = 0, open_at = 0, in_kernel = 0, tcp_read = 0;
#ifndef ATTACH
bit attached = 1;
#else
bit attached = 0;
#endif
bit refused = 0;
byte ring[CAP];

/* the kernel */
chan tcp = [TCPCAP] of { byte };
bit fin = 0;
byte tcp_sent = 0;

/* R's record */
bit rx_lock = 0;
/* S's record */
byte tx_lock = NOBODY;
byte tx_in_kernel = 0;
bit opening = 0; /* whoever has the lock is at an opening; if it died there, the next one unopens */
#ifndef KILLED
#define KILLED skip
#endif

/* what the applications know: bytes accepted from the writer, bytes given to the reader */
byte sent = 0, got = 0;
/* R's agent has refused and emptied the ring: no ring until it resumes */
bit closed_for_good = 0;

#define RX_LOCK atomic { rx_lock == 0 -> rx_lock = 1 }
#define RX_UNLOCK rx_lock = 0
#define TX_LOCK(me) atomic { tx_lock == NOBODY -> tx_lock = me }
#define TX_UNLOCK tx_lock = NOBODY

/* {TCP, fresh}; inside an atomic. Nobody reads head and open_at in this mode. */
#define FRESH                                                                                      \
	mode = TCP;                                                                                \
	head = 0;                                                                                  \
	open_at = 0;                                                                               \
	unchanged = 0

/* ---- S: m and h are its copy of ctl ----------------------------------------------------------- */

inline tx_look()
{
	atomic {
		m = mode;
		h = head
	}
}

#ifndef ARRIVES
#define ARRIVES skip
#endif
/* gives the byte to the kernel; blocks while its buffer is full */
inline kernel_send(value)
{
	atomic {
		tcp ! value;
		tcp_sent++;
		sent++;
		ARRIVES
	}
}

/*
 * shmt_tx_open() for open_at = o: ok = 1: opened. The word is looked at first: what R changes after
 * that makes the CAS fail. Two or more receivers inside the kernel: the payload would wake one, and
 * the others would sleep on while the ring fills.
 */
inline tx_open_word()
{
	ok = 0;
#ifdef BUG_STALE
	open_at = o;
#endif
	do
	:: atomic {
		if
		:: mode == TCP -> unchanged = 1
		:: else -> break
		fi
	   }
	   if
	   :: !attached || refused -> break
	   :: else
	   fi;
#ifndef BUG_CROWD
	   if
	   :: in_kernel > 1 -> break
	   :: else
	   fi;
#endif
	   t = tail;
	   open_at = o;
	   atomic {
		if
#ifdef BUG_SEQ
		:: mode == TCP ->
#else
		:: mode == TCP && unchanged ->
#endif
			assert(!closed_for_good);
			mode = WAKING;
			head = t;
			ok = 1;
			break
		:: else
		fi
	   }
	od;
	atomic {
		if
		:: mode == TCP -> open_at = 0
		:: else
		fi;
		unchanged = 0;
		t = 0
	}
}

/*
 * shmt_tx_unopen(): its payload could not be sent. The ring is empty, so it may be closed whoever is
 * in the kernel.
 */
inline tx_unopen()
{
	atomic {
		if
		:: mode == WAKING || mode == RING -> mode = LEAVING
		:: else
		fi;
		opening = 0
	}
}

/*
 * Opens the ring behind a payload that is sent next, without waiting; the caller holds the lock and
 * nobody else sends meanwhile. ok = 1: opened and sent. ok = 0: neither
 */
inline tx_open(value)
{
#ifdef BUG_BEHIND
	kernel_send(value);
	o = tcp_sent;
	tx_open_word();
	ok = 1;
#else
#ifndef BUG_CHECK_LATE
	o = tcp_sent + 1;
#endif
	opening = 1;
	tx_open_word();
	if
	:: ok ->
		KILLED;
		atomic {
			if
			:: len(tcp) < TCPCAP -> kernel_send(value); opening = 0
			:: else -> ok = 0
			fi
		}
#ifndef BUG_UNOPEN
		if
		:: !ok -> tx_unopen()
		:: else
		fi
#endif
	:: else -> opening = 0
	fi;
#endif
	o = 0
}

#ifndef PUBLISHED
#define PUBLISHED skip
#endif
/* one byte into the ring; ok = 0: the word has changed */
inline tx_publish(value)
{
	ring[h % CAP] = value;
	atomic {
		if
		:: mode == m && head == h ->
			head = h + 1;
			sent++;
			PUBLISHED;
			ok = 1
		:: else -> ok = 0
		fi
	}
}

/* leave(): S or, on its behalf, R; ok = 0: busy or changed */
inline leave()
{
#ifdef BUG_LEAVE
	k = 0;
#else
	k = in_kernel;
#endif
	atomic {
		if
		:: k == 0 && mode == m && head == h ->
			mode = LEAVING;
			ok = 1
		:: else -> ok = 0
		fi;
		k = 0
	}
}

/*
 * The same of a stream that is also sent on out of the hooks' sight (UNSEEN), behind an open ring too. What was
 * sent so shows in the kernel's count: then the ring is left. And nobody may be inside the kernel
 * without a limit, or it could take what is sent so later, before the ring's bytes. Who is inside
 * from before the opening finds the ring empty: it may be closed.
 */
inline tx_put(value)
{
#ifdef UNSEEN
#ifdef BUG_UNSEEN_INSIDE
	k = 0;
#else
	k = in_kernel;
#endif
	if
	:: k > 0 && h == tail -> tx_unopen(); ok = 0
	:: k > 0 -> ok = 0
	:: k == 0 ->
#ifndef BUG_UNSEEN_COUNT
		if
		:: tcp_sent != open_at -> leave(); ok = 0
		:: else ->
#endif
			tx_publish(value)
#ifndef BUG_UNSEEN_COUNT
		fi
#endif
	fi;
	k = 0
#else
	tx_publish(value)
#endif
}

/* ---- R --------------------------------------------------------------------------------------- */

inline rx_look()
{
	atomic {
		m = mode;
		h = head
	}
}

/* whatever S has looked at is no longer so; ok = 1: mode TCP */
inline change_word()
{
	atomic {
		if
		:: mode == TCP ->
			FRESH;
			ok = 1
		:: else -> ok = 0
		fi
	}
}

/* shmt_rx_enter(): ok = 1: inside */
inline rx_enter()
{
	atomic {
		k = in_kernel;
		in_kernel++
	}
#ifndef BUG_CROWD
	if
	:: k > 0 -> change_word()
	:: else ->
#endif
		ok = (mode == TCP -> 1 : 0)
#ifndef BUG_CROWD
	fi
#endif
	;
	if
	:: !ok -> in_kernel--
	:: else
	fi;
	k = 0
}

/* shmt_rx_exit(): x bytes were consumed */
inline rx_exit()
{
#ifdef BUG_EXIT_ORDER
	in_kernel--;
#endif
	tcp_read = tcp_read + x;
	x = 0;
#ifndef BUG_EXIT_ORDER
	in_kernel--
#endif
}

inline rx_answer()
{
	atomic {
		if
		:: mode == WAKING && m == WAKING && head == h -> mode = RING
		:: else
		fi
	}
}

/* ring empty at the copy {m, h}; ok = 1: mode TCP, R may sleep */
inline rx_settle()
{
	atomic {
		if
		:: mode == m && head == h ->
			FRESH;
			ok = 1
		:: else -> ok = 0
		fi
	}
}

/* the reader's program gets byte b */
#ifndef DELIVER
#define DELIVER(b) assert(b == got)
#endif
inline deliver(b)
{
	DELIVER(b);
	got++
}

/* one byte from the ring; what was there is free for S in the same step */
inline ring_take()
{
	t = tail;
	b = ring[t % CAP];
	atomic {
		deliver(b);
		ring[t % CAP] = 0;
		tail = t + 1;
		b = 0;
		t = 0
	}
}

/* one byte, or all that is there, from the kernel: x is how many; eof = 1: it says 0, the end */
inline kernel_take(limit)
{
	atomic {
		x = 0;
		eof = (len(tcp) == 0 && fin -> 1 : 0);
		do
		:: len(tcp) > 0 && x < limit ->
			tcp ? b;
			deliver(b);
			x++
		:: x > 0 || len(tcp) == 0 -> break
		od;
		b = 0
	}
}
