#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Request and response on a ring, both sides awake: no system call per message on either side, by
# the count of strace. A long run less a short one leaves out start, warm-up and end; plain TCP,
# counted the same way, makes two calls per round trip and side.
#
# Awake is whoever has a processor: each side has one of its own, and waits longer for the other than
# by default, so that other work on the machine counts less. What is left are the round trips in which
# one side lost its processor.
# shellcheck disable=SC2034 # for netns.sh
T_CONF='[wait]
spin_us = 10000'
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need strace taskset jq

cpus=$(taskset -cp $$ | sed 's/.*: //')
declare -A cpu=([A]=${cpus%%[,-]*} [B]=${cpus##*[,-]})
[ "${cpu[A]}" != "${cpu[B]}" ] || {
	echo 'only one processor'
	exit 77
}
program=$T_BUILD/tests/bypass/ping_pong

# "strace ... PROGRAM" as $policy says; strace itself is not preloaded.
counted() # A|B ARGS...
{
	local guest=$1 with=()
	shift
	[ "$policy" = plain ] ||
		with=(-E COLOC_POLICY="$policy" -E COLOC_AGENT="$T_DIR/$guest/agent.sock"
			-E LD_PRELOAD="$(t_preload_list)")
	counted=(taskset -c "${cpu[$guest]}" strace -f -c -U 'calls,name' -o "$T_DIR/$guest.calls" "${with[@]}"
		"$program" "$@")
}

calls() # A|B
{
	awk '$2 == "total" { print $1 }' "$T_DIR/$1.calls"
}

# run ROUND_TRIPS: sets A and B to the number of system calls of each side
run()
{
	local server counted
	counted B serve 5000
	t_spawn B "${counted[@]}"
	server=$T_PID
	t_wait_port B 5000 || fail 'the server does not listen'
	counted A ask "$T_ADDR_B" 5000 "$1"
	t_in A timeout 60 "${counted[@]}" || fail "client: $?"
	wait "$server" || fail "server: $?"
	A=$(calls A) B=$(calls B)
}

# differ SHORT LONG: prints calls per million round trips of A and of B
differ()
{
	local A B a b
	run "$1"
	a=$A b=$B
	run "$2"
	by_million=("$(((A - a) * 1000000 / ($2 - $1)))" "$(((B - b) * 1000000 / ($2 - $1)))")
	echo "$policy: ${by_million[0]} and ${by_million[1]} system calls per million round trips," \
		"client and server"
}

policy=plain
t_net_up || fail 'no guests'
differ 1000 3000
[ "${by_million[0]}" -ge 1900000 ] && [ "${by_million[1]}" -ge 1900000 ] || fail 'strace does not count'
t_guests_down

policy=always
t_guests_up || fail 'no guests'
differ 20000 1020000
[ "${by_million[0]}" -lt 10000 ] && [ "${by_million[1]}" -lt 10000 ] ||
	fail "too many: $(sort -rn "$T_DIR/A.calls" | head -n 8) $(sort -rn "$T_DIR/B.calls" | head -n 8)"
# 64 bytes there and 64 back.
[ "$(e2e_stat A bytes_ring)" -gt 120000000 ] || fail 'hardly anything went by ring'
