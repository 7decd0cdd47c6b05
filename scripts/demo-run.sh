#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# demo-run.sh - two guests on this host; iperf3 between them plain, preloaded, drained and resumed
#
#   DEMO_SECONDS   length of each run (default 6)
#   T_BUILD        where the programs are (default build)
#
# Server and client stay on the same two processors in every run. What is printed comes from iperf3 -J
# and from the agent of guest A, where the client runs. Ends with 1 if no byte went by the ring, or if
# the stream did not come back to it.
set -u
cd "$(dirname "$0")/.." || exit 1

seconds=${DEMO_SECONDS:-6}
port=5201

if [ "$(id -u)" != 0 ]; then
	echo "the demo makes network namespaces: becoming root by sudo"
	exec sudo env T_BUILD="${T_BUILD:-build}" DEMO_SECONDS="$seconds" "$0"
fi
for tool in iperf3 jq ip taskset; do
	command -v "$tool" >/dev/null || {
		echo "demo: $tool is missing; scripts/deps.sh demo installs it" >&2
		exit 1
	}
done
. tests/lib/netns.sh

# The first and the last processor that we may use: the same one if there is only one.
cpus=$(taskset -cp $$ | sed 's/.*: //')
server_cpu=${cpus%%[,-]*}
client_cpu=${cpus##*[,-]}

say()
{
	printf '\n\033[1m%s\033[0m\n' "$*"
}

gbit()
{
	awk -v bytes="$1" -v ms="$2" 'BEGIN { printf "%.1f", (ms > 0 ? bytes * 8 / ms / 1e6 : 0) }'
}

percent() # of the first in the sum of both
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f%%", (a + b > 0 ? 100 * a / (a + b) : 0) }'
}

size()
{
	awk -v n="$1" 'BEGIN {
		split("B KiB MiB GiB TiB", unit, " ")
		for (i = 1; n >= 1024 && i < 5; i++)
			n /= 1024
		printf (i == 1 ? "%d %s" : "%.2f %s"), n, unit[i]
	}'
}

# One look, as cheap as can be, for it takes from the same processors: milliseconds, bytes that the stream
# to B has sent by ring and by TCP, and the mode that it is in at this moment (often tcp: who looks has
# taken the processor from one of the two, and the other went to sleep over it). Without a preload what
# is on the wire is all there is to see.
look()
{
	if [ "$preloaded" = yes ]; then
		sent=$(t_ctl A --json streams | jq -r --arg port ":$port" '
			map(select(.remote | endswith($port))) |
			max_by(.tx_ring_bytes + .tx_tcp_bytes) // {} |
			"\(.tx_ring_bytes // 0) \(.tx_tcp_bytes // 0) \(.tx_mode // "-")"')
	else
		sent=$(ip -n "$T_NS-A" -s -j link show eth0 | jq -r '"0 \(.[0].stats64.tx.bytes) tcp"')
	fi
	now=$(date +%s%3N)
	ring=${sent%% *} mode=${sent##* }
	tcp=${sent#* } tcp=${tcp% *}
}

show_second()
{
	printf '  %4.1f s   ring %11s Gbit/s   TCP %11s Gbit/s   %5s by ring\n' \
		"$(awk -v ms=$((now - begin)) 'BEGIN { print ms / 1000 }')" \
		"$(gbit $((ring - last_ring)) $((now - last_now)))" \
		"$(gbit $((tcp - last_tcp)) $((now - last_now)))" \
		"$(percent $((ring - last_ring)) $((tcp - last_tcp)))"
	case " $modes " in
	*" $mode "*) ;;
	*) modes="${modes:+$modes }$mode" ;;
	esac
}

# A line per second for as long as the client runs; events "SECOND:VERB" are done on the way.
watch_client()
{
	events=$* modes="" event_ring=0
	look
	begin=$now next=$now
	while :; do
		last_now=$now last_ring=$ring last_tcp=$tcp
		next=$((next + 1000))
		sleep "$(awk -v ms=$((next - $(date +%s%3N))) 'BEGIN { print (ms > 0 ? ms / 1000 : 0) }')"
		look
		kill -0 "$client_pid" 2>/dev/null || return 0
		# The stream is not there yet, or no more.
		if [ "$ring" -lt "$last_ring" ] || [ "$tcp" -lt "$last_tcp" ]; then continue; fi
		show_second
		event=${events%% *}
		if [ -n "$event" ] && [ $((now - begin)) -ge "${event%%:*}000" ]; then
			events=${events#"$event"} events=${events# }
			echo "  ---- colocctl ${event#*:}"
			t_ctl A "${event#*:}" 2>&1 | sed 's/^/       /'
			look
			event_ring=$ring
		fi
	done
}

# run NAME yes|no SECONDS [EVENT...]: one transfer from A to B, shown as it goes. Results in $T_DIR/NAME.*.
run()
{
	name=$1 preloaded=$2 length=$3
	shift 3
	if [ "$preloaded" = yes ]; then
		start=t_spawn_preload
		for guest in A B; do
			t_ctl $guest stats --json >"$T_DIR/$name.before-$guest" || return 1
		done
	else
		start=t_spawn
	fi
	$start B taskset -c "$server_cpu" iperf3 -s -1 -p "$port" >"$T_DIR/$name.server" 2>&1
	server_pid=$T_PID
	t_wait_port B "$port" || {
		cat "$T_DIR/$name.server" >&2
		return 1
	}
	$start A taskset -c "$client_cpu" iperf3 -c "$T_ADDR_B" -p "$port" -l 128K -t "$length" -J \
		>"$T_DIR/$name.json" 2>"$T_DIR/$name.errors"
	client_pid=$T_PID
	watch_client "$@"
	wait "$client_pid" || {
		cat "$T_DIR/$name.errors" "$T_DIR/$name.json" >&2
		return 1
	}
	wait "$server_pid"
	bits=$(jq .end.sum_received.bits_per_second "$T_DIR/$name.json")
	bytes=$(jq .end.sum_received.bytes "$T_DIR/$name.json")
	if [ "$preloaded" = yes ]; then
		for guest in A B; do
			t_ctl $guest stats --json --since "$T_DIR/$name.before-$guest" \
				>"$T_DIR/$name.stats-$guest" || return 1
		done
		ring=$(jq .bytes_ring "$T_DIR/$name.stats-A")
		tcp=$(jq .bytes_tcp "$T_DIR/$name.stats-A")
	else
		ring=0 tcp=$bytes
	fi
}

# Each end counts its own: a sender opens the ring, a receiver goes back to sleep on TCP.
switches()
{
	jq -s "map(.switches_to_$1) | add" "$T_DIR/drained.stats-A" "$T_DIR/drained.stats-B"
}

row()
{
	printf '  %-10s %14s %7s %12s %12s %8s   %s\n' "$@"
}

fail()
{
	echo "demo: $*" >&2
	for guest in A B; do
		[ ! -s "$T_DIR/agent-$guest.log" ] || sed "s/^/agent $guest: /" "$T_DIR/agent-$guest.log" >&2
	done
	exit 1
}

say "Two guests on this host: network namespaces joined by a veth pair, an agent in each"
t_guests_up || fail "the guests did not come up"
echo "  A $T_ADDR_A   B $T_ADDR_B   region $(t_ctl A status --json | jq -r '.region.path')"
echo "  iperf3 -l 128K from A (processor $client_cpu) to B (processor $server_cpu)"

say "Plain: both network stacks"
run plain no "$seconds" || fail "the plain run failed"
plain_bits=$bits
plain_row=$(row plain "$(gbit "$bits" 8000) Gbit/s" 1.0 - "$(size "$tcp")" - "$modes")

say "The same two programs with LD_PRELOAD=libcoloc.so"
run moved yes "$seconds" || fail "the preloaded run failed"
ratio=$(awk -v a="$bits" -v b="$plain_bits" 'BEGIN { printf "%.1f", a / b }')
share=$(percent "$ring" "$tcp")
moved_bytes=$ring

say "Result"
row "" throughput ratio "by ring" "by TCP" ring "modes seen"
echo "$plain_row"
row preloaded "$(gbit "$bits" 8000) Gbit/s" "$ratio" "$(size "$ring")" "$(size "$tcp")" "$share" "$modes"

say "Drain and resume in the middle of a transfer: the programs notice nothing"
run drained yes 12 4:drain 8:resume || fail "the drained run failed"
returned=$((last_ring - event_ring))
echo "  iperf3 ended well: $(size "$bytes"), $(gbit "$bits" 8000) Gbit/s on average; switches to the ring" \
	"$(switches ring), back to TCP $(switches tcp)"

[ "$moved_bytes" -gt 0 ] || fail "no byte went by the ring; colocctl streams says why"
[ "$returned" -gt 0 ] || fail "the stream did not come back to the ring after resume"
