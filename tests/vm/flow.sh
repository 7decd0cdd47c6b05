# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# flow.sh - streams under load between guest A and others (flow.c); to be sourced after vm.sh
#
# flow_begin SPAWN NAME PORT ARGS...  flow between A and that guest, by vm_spawn or vm_spawn_preload: jobs
#                                     ${A[PORT]} and ${far[PORT]}; ARGS for A's end
# flow_end NAME PORT                  A's end says enough; both end in good order, and each has
#                                     received what the other has sent
# flow_progress PORT                  what A's end has sent and received
# flow_ring_bytes NAME PORT           how much of that by ring, of the stream's rings of now
# flow_on_ring NAME PORT [BYTES]      is that more?
# flow_goes_on PORT BEFORE [BYTES]    has A's end moved more than BYTES (0) since BEFORE?

declare -A A far

flow_address()
{
	echo "10.78.0.$(($(printf '%d' "'$1") - 64))"
}

flow_begin()
{
	local spawn=$1 name=$2 port=$3
	shift 3
	"$spawn" "$name" /tests/flow --listen "$port"
	far[$port]=$T_JOB
	vm_wait_port "$name" "$port" || fail "flow does not listen in $name"
	"$spawn" A /tests/flow --connect "$(flow_address "$name")" --port "$port" "$@"
	A[$port]=$T_JOB
}

flow_progress()
{
	vm_output A "${A[$1]}" | awk '/^at/ { n = $2 + $3 } END { print n + 0 }'
}

flow_goes_on()
{
	[ "$(flow_progress "$1")" -gt $(($2 + ${3:-0})) ]
}

flow_ring_bytes()
{
	vm_run A colocctl streams --json | jq "map(select(.remote == \"$(flow_address "$1"):$2\") |
		.tx_ring_bytes + .rx_ring_bytes) | add // 0"
}

flow_on_ring()
{
	[ "$(flow_ring_bytes "$1" "$2")" -gt "${3:-0}" ]
}

flow_end() # NAME PORT [NAME_NOW]
{
	local near remote
	vm_signal A "${A[$2]}" TERM
	near=$(vm_wait A "${A[$2]}" 60) || fail "flow with $1: A's end: $near"
	remote=$(vm_wait "${3:-$1}" "${far[$2]}" 60) || fail "flow with $1: its end: $remote"
	near=$(tail -n 1 <<<"$near") remote=$(tail -n 1 <<<"$remote")
	[ "$(cut -d ' ' -f 2,4 <<<"$near")" = "$(awk '{ print $4, $2 }' <<<"$remote")" ] ||
		fail "flow with $1: A $near, $1 $remote"
	echo "flow with $1: $near, both ends agree"
}
