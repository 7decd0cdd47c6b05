#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Faults of a whole guest, under load both ways. A, B and C share a region.
#
# B is paused for 30 seconds: the streams with it go on after that, on rings again, and nothing is
# lost. Meanwhile QEMU of C is killed: A's programs see what plain TCP shows in the same moment, with
# TCP_USER_TIMEOUT that is ETIMEDOUT. C starts again: it is the same guest with a new epoch, what its
# former life had of the region is free again, and streams with it move.
. "$(dirname "$0")/vm.sh"

pause_seconds=30
user_timeout_ms=4000

status()
{
	vm_run "$1" colocctl status --json | jq -c "$2"
}

# flow_begin PRELOAD NAME PORT ARGS...: flow between A and that guest; jobs ${A[PORT]} and ${far[PORT]}
declare -A A far
flow_begin()
{
	local spawn=$1 name=$2 port=$3
	shift 3
	"$spawn" "$name" /tests/flow --listen "$port"
	far[$port]=$T_JOB
	vm_wait_port "$name" "$port" || fail "flow does not listen in $name"
	"$spawn" A /tests/flow --connect "$(address "$name")" --port "$port" "$@"
	A[$port]=$T_JOB
}

address()
{
	echo "10.78.0.$(($(printf '%d' "'$1") - 64))"
}

# What A's end of the flow at that port has sent and received.
progress()
{
	vm_output A "${A[$1]}" | awk '/^at/ { n = $2 + $3 } END { print n + 0 }'
}

ring_bytes() # NAME PORT
{
	vm_run A colocctl streams --json | jq "map(select(.remote == \"$(address "$1"):$2\") |
		.tx_ring_bytes + .rx_ring_bytes) | add // 0"
}

on_ring()
{
	[ "$(ring_bytes "$1" "$2")" -gt "${3:-0}" ]
}

# Both ends end in good order, and each has received what the other sent.
flow_end() # NAME PORT
{
	local near remote
	vm_signal A "${A[$2]}" TERM
	near=$(vm_wait A "${A[$2]}" 60) || fail "flow with $1: A's end: $near"
	remote=$(vm_wait "$1" "${far[$2]}" 60) || fail "flow with $1: its end: $remote"
	near=$(tail -n 1 <<<"$near") remote=$(tail -n 1 <<<"$remote")
	[ "$(cut -d ' ' -f 2,4 <<<"$near")" = "$(awk '{ print $4, $2 }' <<<"$remote")" ] ||
		fail "flow with $1: A $near, $1 $remote"
	echo "flow with $1: $near, both ends agree"
}

# How A's end of the flow at that port was cut: the error, and the time without progress.
cut_of()
{
	local out
	out=$(vm_wait A "${A[$1]}" 60)
	[ $? = 3 ] || fail "the flow with a dead guest is not cut: $(tail -n 1 <<<"$out")"
	sed -n 's/^cut \(.*\) ms$/\1/p' <<<"$out"
}

no_segment_used()
{
	[ "$(status A .segments.used)" = 0 ]
}

knows_C()
{
	[ "$(status A '.guests[] | select(.name == "C") | .epoch')" = "$(status C .guest.epoch)" ]
}

vm_begin
for name in A B C; do
	vm_start $name region=shared
done
vm_ready A B C
export COLOC_POLICY=always
chunks_free=$(status A .segments.chunks_free)
epoch=$(status C .guest.epoch)

# ---- load -----------------------------------------------------------------------------------------
flow_begin vm_spawn_preload B 7001
flow_begin vm_spawn_preload C 7002 --user-timeout $user_timeout_ms
flow_begin vm_spawn C 7003 --user-timeout $user_timeout_ms
vm_await 20 on_ring B 7001 || fail "the flow with B does not move"
vm_await 20 on_ring C 7002 || fail "the flow with C does not move"
[ "$(status A .segments.chunks_free)" -lt "$chunks_free" ] || fail 'rings need no memory'

# ---- B stops, C dies --------------------------------------------------------------------------------
vm_qmp B stop >/dev/null
paused=$SECONDS
vm_kill C
read -r moved_error moved_ms <<<"$(cut_of 7002)"
read -r plain_error plain_ms <<<"$(cut_of 7003)"
echo "QEMU of C killed: coloc sees $moved_error after $moved_ms ms, TCP $plain_error after $plain_ms ms"
[ "$moved_error" = "$plain_error" ] || fail "coloc shows $moved_error, TCP $plain_error"
[ "$moved_ms" -lt $((plain_ms * 2 + user_timeout_ms)) ] || fail "$moved_ms ms are much more than $plain_ms"
before=$(progress 7001)

vm_start C region=shared
vm_ready C
vm_await 20 knows_C || fail "A does not know C's new life: $(status A .guests)"
[ "$(status C .guest.epoch)" != "$epoch" ] || fail "C has its former epoch $epoch"
flow_begin vm_spawn_preload C 7004
vm_await 20 on_ring C 7004 || fail 'no stream moves after the restart of C'
flow_end C 7004

# ---- B goes on --------------------------------------------------------------------------------------
while [ $((SECONDS - paused)) -le $pause_seconds ]; do
	sleep 0.2
done
[ "$(progress 7001)" = "$before" ] || fail 'the flow with B went on while it was paused'
was=$(ring_bytes B 7001)
vm_qmp B cont >/dev/null
resumed=$EPOCHREALTIME
goes_on()
{
	[ "$(progress 7001)" -gt "$before" ]
}
vm_await 60 goes_on || fail "the flow with B does not go on: $(status A .guests)"
echo "B paused for $pause_seconds s: the flow went on $(awk "BEGIN {
	printf \"%.1f\", $EPOCHREALTIME - $resumed }") s after it"
vm_await 30 on_ring B 7001 "$was" || fail "the flow with B does not move again"
flow_end B 7001

# ---- all given back ---------------------------------------------------------------------------------
vm_await 20 no_segment_used || fail "segments still used: $(status A .segments)"
[ "$(status A .segments.chunks_free)" = "$chunks_free" ] ||
	fail "chunks free: $chunks_free at first, now $(status A .segments)"
for name in A B C; do
	vm_stop $name
done
