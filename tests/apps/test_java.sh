#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Java: an echo server on a selector, clients with blocking channels and with java.io, content compared.
. "$(dirname "$0")/lib.sh"
apps_need java javac

cell()
{
	local pid
	[ -e "$T_DIR/files/NioEcho.class" ] || javac -d "$T_DIR/files" tests/apps/NioEcho.java || fail "javac: $?"
	server_spawn java -Xshare:auto -cp "$T_DIR/files" NioEcho server 7100 >"$work/server.log" 2>&1
	pid=$T_PID
	app_listens 7100
	app_case 'echo'
	client java -Xshare:auto -cp "$T_DIR/files" NioEcho client "$addr" 7100 40000000 >"$work/out" 2>&1 ||
		fail "$place: $(tail -n 5 "$work/out" "$work/server.log")"
	app_bulk $((2 * 3 * 40000000))
	app_end "$pid"
}

apps_matrix cell
