#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGKILL of the one end, the other end, the one agent, the other agent, at a random moment of a
# two-way transfer, 12 times (100 with T_SOAK=1). A surviving end sees what plain TCP would show (end of
# stream, ECONNRESET or EPIPE), soon; when an agent is killed and started again the transfer goes
# on to its end. At last no segment is used. HAZARDS 34, 46, 47.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need jq

times=12
[ -z "${T_SOAK:-}" ] || times=100
policy=always
stress=$T_BUILD/tests/stress/stress_stream
most_ms=400    # latest moment of the kill, from the start
bound_seconds=5 # within which the survivor must have ended
port=7000
RANDOM=${T_SEED:-$$}
echo "seed ${T_SEED:-$$}"

start_ends() # BYTES
{
	seed=$RANDOM
	port=$((port + 1))
	e2e_spawn B "$stress" --listen $port --seed $seed --bytes "$1" --cut >"$T_DIR/B.out" 2>&1
	pid_B=$T_PID
	t_wait_port B $port || fail "it does not listen: $(cat "$T_DIR/B.out")"
	e2e_spawn A "$stress" --connect "$T_ADDR_B" --port $port --seed $seed --bytes "$1" --cut \
		>"$T_DIR/A.out" 2>&1
	pid_A=$T_PID
}

gone()
{
	! kill -0 "$1" 2>/dev/null
}

# The end in guest $1 comes to its end by itself within $2 seconds, without a wrong byte.
must_end()
{
	local pid status
	eval "pid=\$pid_$1"
	e2e_await "$2" gone "$pid" || fail "the end in $1 hangs: $(cat "/proc/$pid/wchan") $(
		t_ctl "$1" streams --json | jq -c .)"
	wait "$pid"
	status=$?
	[ $status = 0 ] || fail "the end in $1 ended with $status: $(cat "$T_DIR/$1.out")"
}

kill_an_end() # A|B
{
	local pid other
	other=$([ "$1" = A ] && echo B || echo A)
	start_ends 8000000000
	sleep "0.$(printf %03d $((RANDOM % most_ms)))"
	eval "pid=\$pid_$1"
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	must_end "$other" $bound_seconds
	saw=$(sed -n 's/^cut //p' "$T_DIR/$other.out")
	[ -n "$saw" ] || fail "the end in $other was not cut: $(cat "$T_DIR/$other.out")"
	echo "end in $1 killed: the other saw $saw after $(sed -n 's/^received \([0-9]*\).*/\1/p' \
		"$T_DIR/$other.out") bytes"
}

kill_an_agent() # A|B
{
	start_ends 200000000
	sleep "0.$(printf %03d $((RANDOM % most_ms)))"
	t_agent_stop "$1" KILL
	sleep "0.$(printf %03d $((RANDOM % most_ms)))"
	t_agent_start "$1"
	t_wait_agent "$1" || fail "agent $1 does not come back"
	must_end A 60
	must_end B 60
	grep -q '^cut' "$T_DIR/A.out" "$T_DIR/B.out" && fail "the stream was cut: $(cat "$T_DIR"/?.out)"
	echo "agent $1 killed: the stream went on to its end"
}

segments_used()
{
	t_ctl "$1" status --json | jq .segments.used
}

none_used()
{
	[ "$(segments_used A) $(segments_used B)" = '0 0' ]
}

t_guests_up || fail 'no guests'
for ((i = 0; i < times; i++)); do
	case $((i % 4)) in
	0) kill_an_end A ;;
	1) kill_an_end B ;;
	2) kill_an_agent A ;;
	3) kill_an_agent B ;;
	esac
done
start=$(date +%s)
e2e_await 60 none_used || fail "segments still used: $(segments_used A) $(segments_used B)
$(t_ctl A status --json) $(t_ctl B status --json)"
echo "no segment used $(($(date +%s) - start)) s after the last of $times kills"
[ "$(e2e_stat A bytes_ring)" -gt 0 ] || fail 'nothing went by ring'
