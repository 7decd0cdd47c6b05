#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The region goes and comes back under load, in good order. B's device is unplugged after a drain: the
# transfer goes on by TCP; it is plugged in again, and the transfer moves back. Then B, drained and
# unplugged, migrates to another QEMU on this host: its streams live on TCP all the time, and move again
# when it has got a device there. Every byte is compared.
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/flow.sh"

step=20000000 # bytes that show that a transfer goes on

unplug() # NAME
{
	vm_run "$1" colocctl drain >"$T_DIR/drain" 2>&1 || fail "drain: $(cat "$T_DIR/drain")"
	vm_unplug "$1"
	before=$(flow_progress 7001)
	ring_before=$(flow_ring_bytes B 7001)
}

resumed() # NAME
{
	vm_run "$1" colocctl resume >"$T_DIR/resume" 2>&1
}

plug() # NAME
{
	vm_plug "$1" shared
	vm_await 10 resumed "$1" || fail "resume: $(cat "$T_DIR/resume")"
}

# By TCP alone, and well.
goes_by_tcp()
{
	vm_await 30 flow_goes_on 7001 "$before" $step || fail "$1: the transfer does not go on"
	[ "$(flow_ring_bytes B 7001)" = "$ring_before" ] || fail "$1: bytes by a ring that is gone"
}

moves_again()
{
	vm_await 30 flow_on_ring B 7001 $((ring_before + step)) ||
		fail "$1: the transfer does not move again: $(vm_run A colocctl streams --json)"
}

vm_begin
vm_start A region=shared
vm_start B region=shared
vm_ready A B
export COLOC_POLICY=always
flow_begin vm_spawn_preload B 7001
flow_begin vm_spawn_preload B 7002
vm_await 30 flow_on_ring B 7001 $step || fail "the transfer does not move"
epoch=$(vm_run B colocctl status --json | jq .guest.epoch)

unplug B
resumed B && fail 'resume without a device succeeds'
goes_by_tcp unplugged
plug B
moves_again 'plugged in'
[ "$(vm_run B colocctl status --json | jq .guest.epoch)" = "$epoch" ] || fail 'B has begun a new life'
echo "unplugged: $(($(flow_progress 7001) - before)) bytes went on, and moved back"

unplug B
vm_migrate B D
goes_by_tcp migrated
plug D
moves_again 'after the migration'
[ "$(vm_run D colocctl status --json | jq .guest.epoch)" = "$epoch" ] || fail 'D has begun a new life'
echo "migrated: $(($(flow_progress 7001) - before)) bytes went on, and moved back"
flow_end B 7001 D
flow_end B 7002 D
vm_stop A
vm_stop D
