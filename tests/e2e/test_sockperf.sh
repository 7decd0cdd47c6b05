#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sockperf ping-pong by TCP, 14 to 4096 bytes: it runs through and checks its sequence numbers. What it
# measures is printed; no time is a bar here (ratio_sockperf.sh compares).
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need sockperf jq

# By default sockperf gives up beyond 600,000 round trips a second.
mps=10000000

all_runs()
{
	local server size
	for size in 14 64 4096; do
		e2e_spawn B sockperf sr --tcp -i "$T_ADDR_B" -p 11111 >"$T_DIR/server.log" 2>&1
		server=$T_PID
		t_wait_port B 11111 || fail "sockperf does not listen: $(cat "$T_DIR/server.log")"
		e2e_run A timeout 20 sockperf pp --tcp -i "$T_ADDR_B" -p 11111 -m "$size" -t 1 \
			--mps $mps --data-integrity >"$T_DIR/out" 2>&1 || fail "client: $(tail -n 5 "$T_DIR/out")"
		awk -v size="$size" '/percentile 50/ { print size " bytes: median " $NF " us" }' "$T_DIR/out"
		grep -q 'percentile 50' "$T_DIR/out" || fail "no result: $(cat "$T_DIR/out")"
		kill -INT "$server"
		wait "$server"
	done
}

e2e_policies all_runs
