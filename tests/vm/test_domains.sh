#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Two regions on one host are two trust domains: A and B share the one, C has the other. Streams move
# inside a domain; guests of different domains do not find each other and stay on TCP.
. "$(dirname "$0")/vm.sh"

guests_of()
{
	vm_run "$1" colocctl status --json | jq -c '[.guests[].name] | sort'
}

transfer() # FROM TO ADDRESS
{
	vm_preload "$1" timeout 30 iperf3 -c "$3" -t 1 >"$T_DIR/iperf3" 2>&1 ||
		fail "iperf3 from $1 to $2: $(tail -n 3 "$T_DIR/iperf3")"
}

# The bytes by ring that a transfer added in both guests, and the streams that it moved.
added() # FROM TO ADDRESS
{
	local before after
	before="$(vm_stat "$1" bytes_ring) + $(vm_stat "$2" bytes_ring)"
	transfer "$@"
	after="$(vm_stat "$1" bytes_ring) + $(vm_stat "$2" bytes_ring)"
	echo $((after - (before)))
}

must_stay() # FROM TO ADDRESS
{
	local seen
	seen=$(vm_stat "$1" streams_seen)
	[ "$(added "$@")" = 0 ] || fail "a stream between domains moved: $1, $2"
	[ "$(vm_stat "$1" streams_seen)" = "$seen" ] ||
		fail "$1 takes a guest of another domain for co-resident: $2"
	echo "$1 to $2: stays on TCP"
}

must_move() # FROM TO ADDRESS
{
	local bytes
	bytes=$(added "$@")
	[ "$bytes" -gt 0 ] || fail "$1 to $2 does not move: $(vm_run "$1" colocctl stats --json)"
	echo "$1 to $2: $bytes bytes by ring"
}

vm_begin iperf3
vm_start A region=one
vm_start B region=one
vm_start C region=two
vm_ready A B C
[ "$(guests_of A) $(guests_of B) $(guests_of C)" = '["A","B"] ["A","B"] ["C"]' ] ||
	fail "guests seen: $(guests_of A) $(guests_of B) $(guests_of C)"
domain_A=$(vm_run A colocctl status --json | jq -r .region.domain)
domain_C=$(vm_run C colocctl status --json | jq -r .region.domain)
[ "$domain_A" != "$domain_C" ] || fail "one domain: $domain_A"

export COLOC_POLICY=always
for name in A B C; do
	vm_spawn_preload $name iperf3 -s
done
for name in A B C; do
	vm_wait_port $name 5201 || fail "iperf3 in $name does not listen"
done
must_move A B 10.78.0.2
must_stay A C 10.78.0.3
must_stay C B 10.78.0.2
must_stay B C fd78::3
# The other region is one that works, if only inside C.
must_move C C 10.78.0.3
for name in A B C; do
	vm_stop $name
done
