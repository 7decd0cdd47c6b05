#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sockperf by TCP: ping-pong, which checks its sequence and its bytes, under load and as throughput.
. "$(dirname "$0")/lib.sh"
apps_need sockperf

cell()
{
	local pid messages
	server_spawn sockperf sr --tcp -i 0.0.0.0 -p 11111 >"$work/server.log" 2>&1
	pid=$T_PID
	app_listens 11111
	app_case 'ping-pong'
	client sockperf pp --tcp -i "$addr" -p 11111 -m 1000 -t 1 --mps 10000000 --data-integrity >"$work/out" 2>&1 ||
		fail "$place: $(tail -n 5 "$work/out")"
	grep -q 'percentile 50' "$work/out" || fail "$place: no result: $(cat "$work/out")"
	app_case 'under load'
	client sockperf ul --tcp -i "$addr" -p 11111 -m 1000 -t 1 --mps 20000 >"$work/out" 2>&1 ||
		fail "$place: $(tail -n 5 "$work/out")"
	app_case 'throughput'
	client sockperf tp --tcp -i "$addr" -p 11111 -m 8000 -t 1 >"$work/out" 2>&1 || fail "$place: $(tail -n 5 "$work/out")"
	messages=$(sed -n 's/.*Total of \([0-9]*\) messages sent.*/\1/p' "$work/out" | tail -n 1)
	[ "${messages:-0}" -gt 100 ] || fail "$place: no result: $(cat "$work/out")"
	app_bulk $((messages * 8000))
	app_end "$pid" INT
}

apps_matrix cell
