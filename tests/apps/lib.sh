# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154,SC1091
#
# lib.sh - what the scripts of the application matrix share; to be sourced by bash, brings e2e.sh
#
# A script names one application. It defines functions that start a server, use it and check what
# came; apps_matrix calls them in each cell of the matrix: two places by three policies. What a cell
# needs it finds in these variables:
#
#   place     "loopback": both ends in guest A; "guests": the server in B, the client in A
#   policy    "plain", the oracle; "auto"; "always"
#   addr      the server's address; srv the server's guest
#   work      an empty folder for the cell, which every user may enter
#
# A case is what happens between two calls of app_case. At the end of each the bytes that went by ring
# and all bytes of streams that the library looks at are printed, each counted at both ends as
# "colocctl stats" does, with the reasons that are new. A case that is told how many bytes of payload it
# moves is a bulk case: under "always" at least 90 % of these must have gone by ring, of both ends. So
# bytes that the library has not even seen count too.
#
# apps_need PROGRAM...       as e2e_need
# apps_matrix FUNCTION       FUNCTION in each cell, with fresh ends and the same two agents. Whatever
#                            still runs in the guests after it is a failure
# app_case NAME              begin a case, and so end the one before
# app_bulk BYTES             this case moves so many bytes of payload, one direction or both
# client CMD..., server CMD...      run CMD there as $policy says, at most 60 s
# server_spawn CMD..., client_spawn CMD...   the same in the background, for the length of a cell; T_PID
# app_listens PORT           until the server listens there
# app_end PID [SIG]          end a program that was spawned, and wait; its status
# app_file PATH BYTES        a file of random bytes, the same for all cells
# app_same FILE FILE         they have the same content

. "$(dirname "${BASH_SOURCE[0]}")/../lib/e2e.sh"

place=loopback srv=A addr=127.0.0.1 work=
case_name='' case_bytes=0
below=()
export LC_ALL=C

apps_need()
{
	e2e_need jq "$@"
}

client()
{
	e2e_run A timeout 60 "$@"
}

server()
{
	e2e_run "$srv" timeout 60 "$@"
}

client_spawn()
{
	e2e_spawn A "$@"
}

server_spawn()
{
	e2e_spawn "$srv" "$@"
}

app_listens()
{
	t_wait_port "$srv" "$1" 20 || fail "$place: nothing listens at port $1: $(tail -n 20 "$work"/*log 2>/dev/null)"
}

app_end()
{
	kill -s "${2:-TERM}" "$1" 2>/dev/null
	wait "$1"
}

app_file()
{
	[ -e "$T_DIR/files/$2" ] || head -c "$2" /dev/urandom >"$T_DIR/files/$2"
	cp "$T_DIR/files/$2" "$1"
}

app_same()
{
	cmp "$1" "$2" || fail "$place, $case_name: $2 differs"
}

app_bulk()
{
	case_bytes=$1
}

# Of both agents together: reasons are summed, the rest is not needed.
app_stats() # FILE
{
	{
		t_ctl A stats --json
		t_ctl B stats --json
	} | jq -s '{ ring: (map(.bytes_ring) | add), tcp: (map(.bytes_tcp) | add),
		moved: (map(.streams_moved) | add), left: (map(.switches_to_tcp) | add),
		reasons: (map(.reasons | to_entries) | add | group_by(.key) |
			map({ key: .[0].key, value: (map(.value) | add) }) | from_entries) }' >"$1" ||
		fail "$place: an agent does not answer"
}

app_case()
{
	[ -z "$case_name" ] || app_case_end
	case_name=$1 case_bytes=0
	[ "$policy" = plain ] || app_stats "$T_DIR/before"
}

# A program that has just ended is counted at once: its record stays until the agent takes it down.
app_case_end()
{
	local line ring all percent moved left reasons
	if [ "$policy" != plain ]; then
		app_stats "$T_DIR/after"
		line=$(jq -rs '.[0] as $b | .[1] as $a | ($a.ring - $b.ring) as $ring |
			($a.tcp - $b.tcp) as $tcp | ($ring + $tcp) as $all |
			"\($ring) \($all) \(if $all > 0 then $ring * 1000 / $all | floor / 10 else 0 end) \(
			$a.moved - $b.moved) \($a.left - $b.left) \([$a.reasons | to_entries[] |
				{ key, value: (.value - ($b.reasons[.key] // 0)) } | select(.value > 0 and
				.key != "none")] | from_entries | tojson)"' "$T_DIR/before" "$T_DIR/after")
		read -r ring all percent moved left reasons <<<"$line"
		printf '%-9s %-7s %-28s %11d of %11d bytes by ring: %5s %%; %d ends moved, %d times back %s\n' \
			"$place" "$policy" "$case_name" "$ring" "$all" "$percent" "$moved" "$left" "${reasons#\{\}}"
		if [ "$policy" = always ] && [ "$ring" -lt $((case_bytes * 18 / 10)) ]; then
			below+=("$place, $case_name: $ring bytes by ring, of twice $case_bytes")
		fi
	else
		printf '%-9s %-7s %s\n' "$place" "$policy" "$case_name"
	fi
	case_name=''
}

# What runs in the two guests, but for the agents.
app_running()
{
	{
		ip netns pids "$T_NS-A"
		ip netns pids "$T_NS-B"
	} | grep -vx -e "$(t_agent_pid A)" -e "$(t_agent_pid B)"
}

app_nobody_runs()
{
	! app_running >/dev/null
}

apps_matrix()
{
	t_guests_up || fail 'no guests'
	# For servers that run under a user of their own.
	chmod 711 "$T_DIR" "$T_DIR/A" "$T_DIR/B"
	mkdir "$T_DIR/files"
	for place in ${APPS_PLACES:-loopback guests}; do
		srv=A addr=127.0.0.1
		[ "$place" = loopback ] || srv=B addr=$T_ADDR_B
		for policy in ${APPS_POLICIES:-plain auto always}; do
			work=$T_DIR/work
			mkdir "$work"
			"$1"
			[ -z "$case_name" ] || app_case_end
			e2e_await 10 app_nobody_runs ||
				fail "$place: still there: $(app_running | xargs ps -o pid,stat,wchan,args -p)"
			rm -rf "$work"
		done
	done
	t_agent_stop A
	t_agent_stop B
	[ ${#below[@]} = 0 ] || fail "too little by ring: $(printf '%s; ' "${below[@]}")"
}
