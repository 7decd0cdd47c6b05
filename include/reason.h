/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reason.h - why a co-resident stream is (still) on TCP
 *
 * One X-list gives the code (an index, stable within a version of the local memory), the name that
 * tools print and metrics count, and a sentence for people. REASON(NAME, "name", "text").
 */
#ifndef COLOC_REASON_H
#define COLOC_REASON_H

#define COLOC_REASONS(REASON)                                                                      \
	REASON(NONE, "none", "on a ring, or free to go there")                                     \
	REASON(BELOW_THRESHOLD, "below-threshold", "too little traffic so far to be worth a ring") \
	REASON(POLICY_NEVER, "policy-never", "the policy is never")                                \
	REASON(NO_AGENT, "no-agent", "no agent answers at the socket")                             \
	REASON(AGENT_DENIED, "agent-denied", "the agent's socket may not be opened by this user")  \
	REASON(AGENT_VERSION, "agent-version", "the agent speaks another protocol version")        \
	REASON(NO_REGION, "no-region", "the agent has no shared region")                           \
	REASON(REGION_VERSION, "region-version", "the region is of another version")               \
	REASON(REGION_SLOW, "region-slow", "the region is mapped uncached: reads are too slow")    \
	REASON(NOT_CORESIDENT, "not-co-resident", "the peer's address is of no live guest")        \
	REASON(PEER_AMBIGUOUS, "peer-ambiguous", "two live guests claim the peer's address")       \
	REASON(PEER_SUSPECT, "peer-suspect", "the peer's guest has been silent for too long")      \
	REASON(RULE, "rule", "the configuration excludes this peer")                               \
	REASON(WAITING_PEER, "waiting-peer", "offered; the other end has not answered yet")        \
	REASON(PEER_SILENT, "peer-silent", "the other end did not answer: not preloaded?")         \
	REASON(NO_MEMORY, "no-memory", "no free ring in this guest's part of the region")          \
	REASON(TABLE_FULL, "table-full", "no free stream record or offer")                         \
	REASON(NO_SOCK_DIAG, "no-sock-diag", "the agent cannot ask the kernel about TCP sockets")  \
	REASON(MISMATCH, "mismatch", "the two ends do not describe the same connection")           \
	REASON(DRAINING, "draining", "this guest is being drained")                                \
	REASON(PEER_DRAINING, "peer-draining", "the other guest refuses the ring or is drained")   \
	REASON(PEER_CLOSED, "peer-closed", "the other end has closed, or closed one direction")    \
	REASON(SOCKET_OPTION, "socket-option", "a socket option takes it out of plain stream use") \
	REASON(URGENT, "urgent", "urgent data is in use")                                          \
	REASON(ASYNC_IO, "async-io", "signal-driven I/O is in use")                                \
	REASON(STDIO, "stdio", "stdio reads or writes this descriptor")                            \
	REASON(IO_URING, "io-uring", "the process uses io_uring")                                  \
	REASON(UNSERVED_CALL, "unserved-call", "a call that is not served by the ring was used")   \
	REASON(EXEC, "exec", "the descriptor may reach a program that is not preloaded")           \
	REASON(SANDBOX, "sandbox", "a process that has it forbids itself system calls")            \
	REASON(PASSED, "passed", "the descriptor was sent to another process")                     \
	REASON(RECEIVERS, "receivers", "several processes receive from it")                        \
	REASON(BYPASS, "bypass", "bytes moved behind the shim's back")                             \
	REASON(PROTOCOL_ERROR, "protocol-error", "the other end broke the ring's rules")

enum coloc_reason {
#define COLOC_REASON_ENUM(name, word, text) COLOC_REASON_##name,
	COLOC_REASONS(COLOC_REASON_ENUM)
#undef COLOC_REASON_ENUM
		COLOC_REASON_COUNT
};

/** coloc_reason_name() - the word for @reason; "?" for a number out of range. Any thread, any time.
 */
static inline const char *coloc_reason_name(unsigned int reason)
{
	static const char *const names[] = {
#define COLOC_REASON_NAME(name, word, text) [COLOC_REASON_##name] = word,
		COLOC_REASONS(COLOC_REASON_NAME)
#undef COLOC_REASON_NAME
	};

	return reason < COLOC_REASON_COUNT ? names[reason] : "?";
}

/** coloc_reason_text() - the sentence for @reason; "?" for a number out of range. */
static inline const char *coloc_reason_text(unsigned int reason)
{
	static const char *const texts[] = {
#define COLOC_REASON_TEXT(name, word, text) [COLOC_REASON_##name] = text,
		COLOC_REASONS(COLOC_REASON_TEXT)
#undef COLOC_REASON_TEXT
	};

	return reason < COLOC_REASON_COUNT ? texts[reason] : "?";
}

#endif
