#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# redis: random values come back as they went, redis-benchmark runs through, pipelined and not.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need redis-server redis-benchmark redis-cli jq

cli()
{
	e2e_run A timeout 20 redis-cli -h "$T_ADDR_B" "$@"
}

round_trip()
{
	local bytes want got
	for bytes in 1 1000 100000 8000000; do
		head -c "$bytes" /dev/urandom >"$T_DIR/value"
		want=$(sha256sum <"$T_DIR/value")
		[ "$(cli -x set "key$bytes" <"$T_DIR/value")" = OK ] || fail "set of $bytes bytes"
		# --raw ends the value with a newline of its own.
		got=$(cli --raw get "key$bytes" | head -c "$bytes" | sha256sum)
		[ "$got" = "$want" ] || fail "a value of $bytes bytes came back changed"
	done
}

benchmark() # ARGS...
{
	e2e_run A timeout 60 redis-benchmark -h "$T_ADDR_B" -t set,get --csv "$@" \
		>"$T_DIR/benchmark" 2>&1 || fail "redis-benchmark $*: $(tail -n 3 "$T_DIR/benchmark")"
	[ "$(grep -c '^"[SG]ET"' "$T_DIR/benchmark")" = 2 ] ||
		fail "redis-benchmark $*: $(cat "$T_DIR/benchmark")"
	echo "redis-benchmark $*: $(awk -F '"' '/^"[SG]ET"/ { printf "%s %s/s  ", $2, $4 }' \
		"$T_DIR/benchmark")"
}

all_runs()
{
	local server
	e2e_spawn B redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --save '' \
		--appendonly no --dir "$T_DIR" >"$T_DIR/redis.log" 2>&1
	server=$T_PID
	t_wait_port B 6379 || fail "redis does not listen: $(cat "$T_DIR/redis.log")"
	round_trip
	benchmark -n 20000
	benchmark -n 100000 -P 16
	benchmark -n 5000 -d 16384 -c 4
	round_trip
	cli shutdown nosave 2>/dev/null
	wait "$server" || fail "redis ended with $?: $(tail -n 20 "$T_DIR/redis.log")"
}

E2E_AUTO_MOVES=1
e2e_policies all_runs
