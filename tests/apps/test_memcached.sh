#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# memcached with four threads: values of many sizes by eight clients at once come back as they went; memcslap,
# and the protocol tests of libmemcached.
. "$(dirname "$0")/lib.sh"
apps_need memcached memcslap memccapable /usr/bin/python3

cell()
{
	local pid
	server_spawn memcached -u root -t 4 -l 0.0.0.0 -p 11211 -m 512 -I 4m >"$work/memcached.log" 2>&1
	pid=$T_PID
	app_listens 11211
	app_case 'protocol'
	client memccapable -a -h "$addr" -p 11211 >"$work/out" 2>&1 || fail "$place: memccapable: $(tail -n 5 "$work/out")"
	app_case 'memcslap'
	client memcslap --servers="$addr:11211" --concurrency=8 --execute-number=2000 --flush --test=get \
		>"$work/out" 2>&1 || fail "$place: memcslap: $(tail -n 3 "$work/out")"
	app_case 'values'
	client /usr/bin/python3 tests/apps/memcached_values.py "$addr" 11211 >"$work/out" 2>&1 ||
		fail "$place: values: $(tail -n 5 "$work/out")"
	app_bulk "$(cat "$work/out")"
	app_end "$pid" || fail "$place: memcached ended with $?: $(cat "$work/memcached.log")"
}

apps_matrix cell
