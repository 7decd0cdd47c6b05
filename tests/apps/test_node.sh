#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# node: an HTTP server that echoes bodies, and a client of it, large and small, content compared.
. "$(dirname "$0")/lib.sh"
apps_need node

cell()
{
	local pid
	server_spawn node tests/apps/node_http.js server 7100 >"$work/server.log" 2>&1
	pid=$T_PID
	app_listens 7100
	app_case 'echo'
	client node tests/apps/node_http.js client "$addr" 7100 40000000 >"$work/out" 2>&1 ||
		fail "$place: $(tail -n 5 "$work/out" "$work/server.log")"
	app_bulk $((2 * 4 * 40000000))
	app_end "$pid"
}

apps_matrix cell
