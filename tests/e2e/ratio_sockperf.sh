#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# ratio_sockperf.sh [SIZE [SECONDS]] - sockperf TCP ping-pong, plain and preloaded in one run: on two
# processors and on one, median one-way latency and its ratio. It judges nothing: times are no bar.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need sockperf jq taskset

size=${1:-64}
seconds=${2:-3}
cpus=$(taskset -cp $$ | sed 's/.*: //')
first=${cpus%%[,-]*} last=${cpus##*[,-]}

# By default sockperf gives up beyond 600,000 round trips a second: hence --mps.
median() # POLICY SERVER_CPU CLIENT_CPU
{
	local server
	policy=$1
	e2e_spawn B taskset -c "$2" sockperf sr --tcp -i "$T_ADDR_B" -p 11111 >"$T_DIR/server.log" 2>&1
	server=$T_PID
	t_wait_port B 11111 || fail "sockperf does not listen: $(cat "$T_DIR/server.log")"
	e2e_run A taskset -c "$3" timeout 60 sockperf pp --tcp -i "$T_ADDR_B" -p 11111 -m "$size" \
		-t "$seconds" --mps 10000000 >"$T_DIR/out" 2>&1 || fail "client: $(tail -n 5 "$T_DIR/out")"
	awk '/percentile 50/ { print $NF }' "$T_DIR/out"
	kill -INT "$server"
	wait "$server"
}

t_guests_up || fail 'no guests'
for client in "$last" "$first"; do
	plain=$(median plain "$first" "$client")
	auto=$(median auto "$first" "$client")
	[ "$client" = "$first" ] && where='one processor' || where='two processors'
	awk -v where="$where" -v size="$size" -v plain="$plain" -v auto="$auto" 'BEGIN {
		printf "%s, %d bytes: TCP %.2f us, coloc %.2f us, ratio %.3f\n",
			where, size, plain, auto, auto / plain
	}'
done
