#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A removable region goes while a transfer inside a guest runs, and comes back: the same one (the streams
# take up their rings), not at once (resume refuses, and they go on by TCP), and another one (a new life:
# they get new rings). Then an agent that dies while the region is away. The hashes are right.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need jq

policy=always
stress=$T_BUILD/tests/stress/stress_stream
seed=$((RANDOM * 32768 + RANDOM))
echo "seed $seed"
# shellcheck disable=SC2034 # netns.sh reads it
T_REGION_CONF='removable = yes'

domain()
{
	t_ctl A status --json | jq -r '.region.domain'
}

status_is() # FILTER
{
	t_ctl A status --json | jq -e "$1" >/dev/null
}

drain()
{
	t_ctl A drain >"$T_DIR/ctl.out" 2>&1 || fail "drain: $(cat "$T_DIR/ctl.out")"
	status_is '.region.bytes == 0 and .draining.region_users == 0' ||
		fail "drained, but the region is in use: $(t_ctl A status --json)"
}

resume()
{
	t_ctl A resume >"$T_DIR/ctl.out" 2>&1 || fail "resume: $(cat "$T_DIR/ctl.out")"
}

# The transfer goes on meanwhile, for as long as it takes.
await_more() # bytes_ring|bytes_tcp WHERE
{
	local before
	before=$(e2e_stat A "$1")
	e2e_await 20 more "$1" "$before" || fail "no $1 $2: $(t_ctl A streams --json)"
	echo "$1 $2"
}

more() # KEY BEFORE
{
	[ "$(e2e_stat A "$1")" -gt "$2" ]
}

t_net_up && t_agent_start A && t_wait_agent A || fail 'no guest'
e2e_spawn A "$stress" --listen 7000 --seed "$seed" --until-told >"$T_DIR/B.out" 2>&1
server=$T_PID
t_wait_port A 7000 || fail "it does not listen: $(cat "$T_DIR/B.out")"
e2e_spawn A "$stress" --connect "$T_ADDR_A" --port 7000 --seed "$seed" --until-told >"$T_DIR/A.out" 2>&1
client=$T_PID
await_more bytes_ring 'at first'

first=$(domain)
drain
rings=$(e2e_stat A switches_to_ring)
await_more bytes_tcp 'while drained'
[ "$(e2e_stat A switches_to_ring)" = "$rings" ] || fail 'a ring was opened while drained'
mv "$T_DIR/region" "$T_DIR/region.away" && mkdir "$T_DIR/region"
t_ctl A resume >"$T_DIR/ctl.out" 2>&1 && fail 'resume without the region succeeds'
grep -q 'not back' "$T_DIR/ctl.out" || fail "resume says $(cat "$T_DIR/ctl.out")"
status_is '.draining.requested' || fail 'not drained any more'
rmdir "$T_DIR/region" && mv "$T_DIR/region.away" "$T_DIR/region"
resume
[ "$(domain)" = "$first" ] || fail 'not the same region'
await_more bytes_ring 'with the same region'

drain
rm "$T_DIR/region"
resume
[ "$(domain)" != "$first" ] || fail 'not another region'
await_more bytes_ring 'with another region'

drain
t_agent_stop A KILL
t_agent_start A && t_wait_agent A || fail 'no agent'
resume
await_more bytes_ring 'with another agent'

kill -TERM "$client"
wait "$client" || fail "client ended with $?: $(cat "$T_DIR/A.out")"
wait "$server" || fail "server ended with $?: $(cat "$T_DIR/B.out")"
sent=$(sed -n 's/^sent //p' "$T_DIR/A.out")
[ -n "$sent" ] && [ "$sent" = "$(sed -n 's/^received //p' "$T_DIR/B.out")" ] || fail 'the hashes differ'
[ "$(sed -n 's/^sent //p' "$T_DIR/B.out")" = "$(sed -n 's/^received //p' "$T_DIR/A.out")" ] ||
	fail 'the hashes differ on the way back'
echo "$(e2e_stat A bytes_ring) bytes by ring, $(e2e_stat A bytes_tcp) by TCP"
