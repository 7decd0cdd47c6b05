#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Python asyncio: an echo server and a client with many streams, their content compared.
. "$(dirname "$0")/lib.sh"
apps_need /usr/bin/python3

cell()
{
	local pid
	server_spawn /usr/bin/python3 tests/apps/asyncio_echo.py server 7100 >"$work/server.log" 2>&1
	pid=$T_PID
	app_listens 7100
	app_case 'echo'
	client /usr/bin/python3 tests/apps/asyncio_echo.py client "$addr" 7100 40000000 >"$work/out" 2>&1 ||
		fail "$place: $(tail -n 5 "$work/out" "$work/server.log")"
	app_bulk $((2 * 4 * 40000000))
	app_end "$pid"
}

apps_matrix cell
