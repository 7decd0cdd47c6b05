#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is missing or wrong leaves the stream on TCP, whole, and the reason is told: peer not preloaded,
# no agent, no region, a region of another version, an agent's socket that may not be opened, and
# the policy never. HAZARDS 42, 46.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need jq setpriv

stress=$T_BUILD/tests/stress/stress_stream
bytes=30000000
port=7000
policy=always

# Transfer from A to B and back; "how" of each end: plain, or preloaded. Leaves A's log in A.err.
transfer() # HOW_A HOW_B [WRAPPER...]
{
	local how_a=$1 how_b=$2 server
	shift 2
	port=$((port + 1))
	policy=$how_b
	e2e_spawn B timeout 60 "$stress" --listen $port --seed $port --bytes $bytes \
		>"$T_DIR/B.out" 2>"$T_DIR/B.err"
	server=$T_PID
	t_wait_port B $port || fail "it does not listen: $(cat "$T_DIR/B.err")"
	policy=$how_a
	e2e_run A timeout 60 "$@" "$stress" --connect "$T_ADDR_B" --port $port --seed $port \
		--bytes $bytes >"$T_DIR/A.out" 2>"$T_DIR/A.err" || fail "client: $(cat "$T_DIR/A.err")"
	wait "$server" || fail "server: $(cat "$T_DIR/B.err")"
	[ "$(sed -n 's/^sent //p' "$T_DIR/A.out")" = "$(sed -n 's/^received //p' "$T_DIR/B.out")" ] ||
		fail 'hashes differ'
}

# The log of the client names the reason.
expect() # REASON
{
	grep -q "$1" "$T_DIR/A.err" || fail "COLOC_LOG=1 does not say $1: $(cat "$T_DIR/A.err")"
	echo "$1: by TCP, and said so"
}

export COLOC_LOG=1
# An offer is given up well before the transfer is over.
T_CONF='[pairing]
offer_ms = 50'

t_net_up || fail 'no namespaces'
transfer always always
expect no-agent

t_agent_start A && t_agent_start B && t_wait_agent A && t_wait_agent B || fail 'no agents'
transfer always always
[ "$(e2e_stat A bytes_ring)" -gt 0 ] || fail 'the ordinary case does not move'
ring=$(e2e_stat A bytes_ring)

# Long enough for the offer to run out.
bytes=300000000
transfer always plain
bytes=30000000
expect waiting-peer
[ "$(e2e_stat A 'reasons["peer-silent"]')" -gt 0 ] ||
	fail "peer-silent is not counted: $(t_ctl A stats --json)"

ring_before=$(e2e_stat A bytes_ring)
transfer never always
[ "$(e2e_stat A bytes_ring)" = "$ring_before" ] || fail 'a stream of a program with policy never moved'
echo 'policy never: by TCP, as asked'

# While it runs, colocctl streams tells why. It must run: what a process has sent before the agent has
# answered its greeting, which may be all of a short transfer, is on no list.
policy=always
t_spawn B socat -u TCP-LISTEN:6999 OPEN:/dev/null
t_wait_port B 6999 || fail 'socat does not listen'
mkfifo "$T_DIR/fifo"
e2e_spawn A socat -u "OPEN:$T_DIR/fifo,rdonly" "TCP:$T_ADDR_B:6999"
exec 9>"$T_DIR/fifo"
stream_says()
{
	head -c 1000000 /dev/zero >&9
	t_ctl A streams --json | jq -e --arg reason "$1" 'any(.reason == $reason)' >/dev/null
}
e2e_await 10 stream_says peer-silent ||
	fail "streams does not say peer-silent: $(t_ctl A streams --json)"
exec 9>&-

# Another user may not open the socket's folder.
chmod 700 "$(dirname "$T_DIR/A/agent.sock")"
chmod 755 "$T_BUILD"
transfer always always setpriv --reuid=65534 --regid=65534 --clear-groups
expect agent-denied

t_agent_stop A
t_agent_stop B

# No device to be found, and a region of a version to come (bytes 8 to 11 of the superblock).
agent_with_region()
{
	local guest
	for guest in A B; do
		t_spawn $guest "$T_BUILD/residency-agent" --foreground --socket "$T_DIR/$guest/agent.sock" \
			--region "$1" >>"$T_DIR/agent-$guest.log" 2>&1
		echo "$T_PID" >"$T_DIR/$guest.pid"
		t_wait_agent $guest || fail 'no agent'
	done
	transfer always always
	expect "$2"
	t_agent_stop A
	t_agent_stop B
}

agent_with_region auto no-region
cp "$T_DIR/region" "$T_DIR/region-99"
printf '\143\0\0\0' | dd of="$T_DIR/region-99" bs=1 seek=8 conv=notrunc status=none
agent_with_region "$T_DIR/region-99" region-version

# An agent that was given a file that cannot be made says so and ends.
t_in A timeout 10 "$T_BUILD/residency-agent" --foreground --socket "$T_DIR/A/agent.sock" \
	--region "$T_DIR/no-such-folder/region" 2>"$T_DIR/refused" && fail 'the agent runs'
grep -q 'no-such-folder/region: No such file' "$T_DIR/refused" || fail "$(cat "$T_DIR/refused")"
transfer always always
expect no-agent
echo "ordinary case: $ring bytes by ring"
