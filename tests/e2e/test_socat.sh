#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# socat: two files cross each other on one connection; both arrive whole, and both ends then end.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need socat jq

bytes=60000000

all_runs()
{
	local server from
	for from in A B; do
		head -c "$bytes" /dev/urandom >"$T_DIR/$from.bin"
	done
	e2e_spawn B timeout 60 socat -t 30 TCP-LISTEN:7000,reuseaddr \
		"OPEN:$T_DIR/B.bin,rdonly!!OPEN:$T_DIR/A.got,creat,wronly"
	server=$T_PID
	t_wait_port B 7000 || fail 'socat does not listen'
	e2e_run A timeout 60 socat -t 30 "TCP:$T_ADDR_B:7000" STDIO \
		<"$T_DIR/A.bin" >"$T_DIR/B.got" || fail "client ended with $?"
	wait "$server" || fail "server ended with $?"
	for from in A B; do
		cmp "$T_DIR/$from.bin" "$T_DIR/$from.got" || fail "the bytes from $from differ"
	done
}

E2E_AUTO_MOVES=1
e2e_policies all_runs
