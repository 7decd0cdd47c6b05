#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# iperf3: forward, reverse, both ways at once, four streams in parallel. The bytes that the receiver has
# counted are those that the sender has.
. "$(dirname "$0")/lib.sh"
apps_need iperf3

one_run() # NAME ARGS...
{
	local pid
	app_case "$1"
	shift
	server_spawn iperf3 -s -1 >"$work/server.log" 2>&1
	pid=$T_PID
	app_listens 5201
	# A number of bytes, not a time: both sides must then have counted the same.
	client iperf3 -c "$addr" -n 500M -l 128K -J "$@" >"$work/out.json" ||
		fail "$place, $case_name: $(jq -r .error "$work/out.json") $(cat "$work/server.log")"
	wait "$pid" || fail "$place, $case_name: server ended with $?"
	# What was on its way when the sender had enough is missing at the receiver: a window of it.
	jq -e '[.end | .sum_sent.bytes + (.sum_sent_bidir_reverse.bytes // 0),
		.sum_received.bytes + (.sum_received_bidir_reverse.bytes // 0)] |
		.[0] >= 500e6 and .[1] <= .[0] and .[1] >= 0.9 * .[0]' "$work/out.json" >"$work/ok" ||
		fail "$place, $case_name: $(jq -c '.end | .sum_sent, .sum_received' "$work/out.json")"
	app_bulk "$(jq '.end.sum_received.bytes + (.end.sum_received_bidir_reverse.bytes // 0) | floor' "$work/out.json")"
}

cell()
{
	one_run forward
	one_run reverse -R
	one_run 'both ways' --bidir
	one_run 'four in parallel' -P 4
}

apps_matrix cell
