#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Faults of a whole guest, under load both ways. A, B and C share a region.
#
# B is paused for 30 seconds: the streams with it go on after that, on rings again, and nothing is
# lost. Meanwhile QEMU of C is killed: A's programs see what plain TCP shows in the same moment, with
# TCP_USER_TIMEOUT that is ETIMEDOUT. C starts again: it is the same guest with a new epoch, what its
# former life had of the region is free again, and streams with it move. At last its device is taken
# away without a drain: the stream on a ring is reset, and no byte is wrong.
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/flow.sh"

pause_seconds=30
user_timeout_ms=4000

status()
{
	vm_run "$1" colocctl status --json | jq -c "$2"
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
vm_await 20 flow_on_ring B 7001 || fail "the flow with B does not move"
vm_await 20 flow_on_ring C 7002 || fail "the flow with C does not move"
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
before=$(flow_progress 7001)

vm_start C region=shared
vm_ready C
vm_await 20 knows_C || fail "A does not know C's new life: $(status A .guests)"
[ "$(status C .guest.epoch)" != "$epoch" ] || fail "C has its former epoch $epoch"
flow_begin vm_spawn_preload C 7004
vm_await 20 flow_on_ring C 7004 || fail 'no stream moves after the restart of C'
flow_end C 7004

# ---- B goes on --------------------------------------------------------------------------------------
while [ $((SECONDS - paused)) -le $pause_seconds ]; do
	sleep 0.2
done
[ "$(flow_progress 7001)" = "$before" ] || fail 'the flow with B went on while it was paused'
was=$(flow_ring_bytes B 7001)
vm_qmp B cont >/dev/null
resumed=$EPOCHREALTIME
goes_on()
{
	[ "$(flow_progress 7001)" -gt "$before" ]
}
vm_await 60 goes_on || fail "the flow with B does not go on: $(status A .guests)"
echo "B paused for $pause_seconds s: the flow went on $(awk "BEGIN {
	printf \"%.1f\", $EPOCHREALTIME - $resumed }") s after it"
vm_await 30 flow_on_ring B 7001 "$was" || fail "the flow with B does not move again"
flow_end B 7001

# ---- all given back ---------------------------------------------------------------------------------
vm_await 20 no_segment_used || fail "segments still used: $(status A .segments)"
[ "$(status A .segments.chunks_free)" = "$chunks_free" ] ||
	fail "chunks free: $chunks_free at first, now $(status A .segments)"

# ---- C's device goes without a drain ----------------------------------------------------------------
flow_begin vm_spawn_preload C 7005
vm_await 20 flow_on_ring C 7005 || fail 'the last flow with C does not move'
vm_unplug C
out=$(vm_wait C "${far[7005]}" 60)
[ $? = 3 ] || fail "unplugged without a drain, C's end: $(tail -n 2 <<<"$out")"
out=$(vm_wait A "${A[7005]}" 60)
[ $? = 3 ] || fail "unplugged without a drain, A's end: $(tail -n 2 <<<"$out")"
echo "unplugged without a drain: $(tail -n 1 <<<"$out"), and no wrong byte"
for name in A B C; do
	vm_stop $name
done
