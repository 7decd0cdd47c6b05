#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# iperf3 forward, reverse, both ways at once, four streams, and IPv6; HAZARDS 5 (it listens dual-stack).
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need iperf3 jq

one_run() # NAME ADDRESS ARGS...
{
	local name=$1 address=$2 server
	shift 2
	e2e_spawn B iperf3 -s -1 >"$T_DIR/server.log" 2>&1
	server=$T_PID
	t_wait_port B 5201 || fail 'the server does not listen'
	e2e_run A timeout 20 iperf3 -c "$address" -t 1 -J "$@" >"$T_DIR/out.json" ||
		fail "$name: $(jq -r .error "$T_DIR/out.json") $(cat "$T_DIR/server.log")"
	wait "$server" || fail "$name: server ended with $?"
	jq -r --arg name "$name" '"\($name): \(.end.sum_received.bits_per_second / 1e7 | floor / 100) Gbit/s"' \
		"$T_DIR/out.json"
	[ "$(jq '.end.sum_received.bytes | floor' "$T_DIR/out.json")" -gt 1000000 ] ||
		fail "$name: hardly anything arrived"
}

all_runs()
{
	one_run forward "$T_ADDR_B"
	one_run reverse "$T_ADDR_B" -R
	one_run both "$T_ADDR_B" --bidir
	one_run four "$T_ADDR_B" -P 4
	one_run IPv6 "$T_ADDR6_B" -6
	one_run small "$T_ADDR_B" -l 64
}

E2E_AUTO_MOVES=1
e2e_policies all_runs
