#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A moved but idle stream between two guests: over five seconds both programs and both agents use less than
# 1 % of a processor each. HAZARDS 25.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need socat jq

policy=always
seconds=5

cpu_ns() # PID
{
	awk '{ sum += $1 } END { printf "%d\n", sum }' /proc/"$1"/task/*/schedstat
}

t_guests_up || fail 'no guests'
e2e_spawn B socat TCP-LISTEN:7000 PIPE
server=$T_PID
t_wait_port B 7000 || fail 'socat does not listen'
mkfifo "$T_DIR/fifo"
e2e_spawn A socat "OPEN:$T_DIR/fifo,rdonly!!OPEN:$T_DIR/echo,creat,append" "TCP:$T_ADDR_B:7000"
client=$T_PID
exec 9>"$T_DIR/fifo"
head -c 20000000 /dev/urandom >"$T_DIR/data"
cat "$T_DIR/data" >&9
all_back()
{
	[ "$(stat -c %s "$T_DIR/echo" 2>/dev/null)" = 20000000 ]
}
e2e_await 20 all_back || fail 'the echo is not complete'
cmp "$T_DIR/data" "$T_DIR/echo" || fail 'the echo differs'
ring=$(e2e_stat A bytes_ring)
[ "$ring" -gt 0 ] || fail "it has not moved: $(t_ctl A streams --json)"
echo "moved: $ring bytes by ring; now idle"

names=(server client agent-A agent-B)
pids=("$server" "$client" "$(t_agent_pid A)" "$(t_agent_pid B)")
for i in "${!pids[@]}"; do
	before[i]=$(cpu_ns "${pids[i]}")
done
sleep $seconds # the time that is measured
for i in "${!pids[@]}"; do
	used=$(($(cpu_ns "${pids[i]}") - before[i]))
	echo "${names[i]}: $((used / 1000)) us in $seconds s"
	[ $used -lt $((seconds * 10000000)) ] || fail "${names[i]} used too much"
done
exec 9>&-
wait "$client" || fail "client ended with $?"
wait "$server" || fail "server ended with $?"
