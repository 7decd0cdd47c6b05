#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Three guests, A and B with the device, C without: as if it were on another host. One process in A talks
# to B and C at once, as a client and then as a server. What arrives is right in both; the stream between A
# and B moves, the one with C stays the kernel's alone.
. "$(dirname "$0")/vm.sh"

bytes=10000000

# Guests $@ have the same file, and nginx to serve it.
serve_file()
{
	local name
	for name; do
		# Content that does not repeat, and is the same in each guest.
		vm_run "$name" sh -c "mkdir -p /tmp/www &&
			cat /usr/lib/x86_64-linux-gnu/lib*.so* | head -c $bytes >/tmp/www/file"
		vm_spawn_preload "$name" nginx -c /etc/nginx.conf -e stderr
	done
	for name; do
		vm_wait_port "$name" 8080 || fail "nginx in $name does not listen"
	done
}

no_region()
{
	[ "$(vm_run "$1" colocctl status --json | jq -r .region.reason)" = no-region ]
}

# What A counts is what it exchanged with B alone; in C nothing moved.
judge() # WHAT FILES_WITH_B
{
	local ring tcp
	ring=$(($(vm_stat A bytes_ring) - ring_before)) tcp=$(($(vm_stat A bytes_tcp) - tcp_before))
	[ $ring -gt 0 ] ||
		fail "$1: $ring bytes by ring, $tcp by TCP: $(vm_run A colocctl stats --json)"
	[ $((ring + tcp)) -lt $((bytes * $2 + 100000)) ] ||
		fail "$1: $ring + $tcp bytes are more than what went between A and B"
	[ "$(vm_stat C streams_moved) $(vm_stat C bytes_ring)" = '0 0' ] ||
		fail "$1: a stream of C moved: $(vm_run C colocctl stats --json)"
	echo "$1: with B $ring bytes by ring, $tcp by TCP; with C none counted"
}

begin_count()
{
	ring_before=$(vm_stat A bytes_ring) tcp_before=$(vm_stat A bytes_tcp)
}

vm_begin nginx curl
vm_start A region=shared
vm_start B region=shared
vm_start C
vm_ready A B C
no_region C || fail "C has a region: $(vm_run C colocctl status --json)"
[ "$(vm_run A colocctl status --json | jq -c '[.guests[].name] | sort')" = '["A","B"]' ] ||
	fail "A sees others than A and B: $(vm_run A colocctl status --json)"
export COLOC_POLICY=always
serve_file A B C

begin_count
# shellcheck disable=SC2016 # for the guest's shell
vm_preload A sh -c 'cd /tmp && curl --no-progress-meter --fail --max-time 60 --parallel \
	--parallel-immediate -o from-B http://10.78.0.2:8080/file -o from-C http://10.78.0.3:8080/file &&
	cmp from-B www/file && cmp from-C www/file' >"$T_DIR/curl" 2>&1 ||
	fail "one client in A: $(cat "$T_DIR/curl")"
judge 'one client in A' 1

begin_count
# Slow enough to be looked at meanwhile.
for name in B C; do
	vm_spawn_preload "$name" sh -c "curl --no-progress-meter --fail --max-time 60 --limit-rate 3M \
		http://10.78.0.1:8080/file | cmp - /tmp/www/file"
	eval "job_$name=\$T_JOB"
done
# Both connections stand, before and after the look at the streams.
both_run()
{
	# shellcheck disable=SC2016 # for the guest's shell
	vm_run A sh -c 'both()
		{
			[ -n "$(ss -Htn "sport = :8080 and dst 10.78.0.2")" ] &&
				[ -n "$(ss -Htn "sport = :8080 and dst 10.78.0.3")" ]
		}
		both && colocctl streams --json && both' >"$T_DIR/streams"
}
vm_await 10 both_run || fail 'the clients in B and C do not run at once'
jq -e 'map(.remote | sub(":[0-9]*$"; "")) == ["10.78.0.2"]' "$T_DIR/streams" >/dev/null ||
	fail "streams with others than B: $(cat "$T_DIR/streams")"
# shellcheck disable=SC2154 # by eval
vm_wait B "$job_B" 60 || fail 'the client in B'
# shellcheck disable=SC2154 # by eval
vm_wait C "$job_C" 60 || fail 'the client in C'
judge 'one server in A' 1
for name in A B C; do
	vm_stop $name
done
