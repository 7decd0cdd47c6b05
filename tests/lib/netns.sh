# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034,SC2154
#
# netns.sh - two guests on this host, for the demo and the end-to-end tests; to be sourced
#
# A guest is whatever has an agent of its own: here a network namespace. A and B are joined by a veth
# pair and share one region file on tmpfs. Every name carries the pid of the shell that sources this,
# so that several can run side by side. Needs root.
#
#   A  10.77.0.1  fd77::1      B  10.77.0.2  fd77::2      lo is up in both
#
# In:   T_BUILD   folder with libcoloc.so, residency-agent, colocctl (default: build)
#       T_CONF    lines for the agents' configuration file beside the region's, e.g. "[wait]
#                 spin_us = 0"; the sections [region] and [guest] are taken: for them there are
#       T_WRAP    words before each command that runs preloaded: a program that runs it, see bypass/
#       T_REGION_CONF, T_GUEST_CONF   further lines of [region] and [guest]
# Out:  T_DIR     temporary folder, gone after t_guests_down: agent-A.log, agent-B.log, A/agent.sock, ...
#       T_PID     process started last by t_spawn or t_spawn_preload
#       T_ADDR_A T_ADDR_B T_ADDR6_A T_ADDR6_B
#
# t_guests_up              both guests with their agents, ready; sets traps so that t_guests_down
#                          runs at the end of the shell, on ^C and on TERM. t_at_exit adds to that
# t_net_up                 the same without agents
# t_guests_down            ends every process in the two namespaces, then removes everything
# t_at_exit COMMAND        run COMMAND (one word list, evaluated) before t_guests_down at the end
# t_in A|B CMD...          CMD in that guest
# t_preload A|B CMD...     the same with libcoloc.so and that guest's agent; COLOC_POLICY and the
#                          other COLOC_ variables of the environment count
# t_spawn A|B CMD...       as t_in in the background; T_PID is CMD itself, not a shell around it
# t_spawn_preload A|B CMD...
# t_ctl A|B ARGS...        colocctl ARGS at that guest's agent
# t_agent_start A|B        start that guest's agent (again); not waited for: see t_wait_agent
# t_agent_pid A|B          prints its pid
# t_agent_stop A|B [SIG]   end it (TERM unless told) and wait until it is gone
# t_wait_agent A|B [S]     until its agent answers, at most S seconds (10); 1 and its log if not
# t_wait_port A|B PORT [S] until something listens at that TCP port

T_BUILD=${T_BUILD:-build}
T_ADDR_A=10.77.0.1 T_ADDR_B=10.77.0.2
T_ADDR6_A=fd77::1 T_ADDR6_B=fd77::2
T_NS=coloc-$$
T_DIR=
T_PID=
T_AT_EXIT=:

t_at_exit()
{
	T_AT_EXIT="$*; $T_AT_EXIT"
}

# The status that the shell ends with must survive the cleaning up.
t_on_exit()
{
	t_status=$?
	trap '' INT TERM
	trap - EXIT
	eval "$T_AT_EXIT"
	t_guests_down
	exit "$t_status"
}

t_in()
{
	t_guest=$1
	shift
	ip netns exec "$T_NS-$t_guest" "$@"
}

# libcoloc.so, behind the sanitizer's runtime where it was built with one.
t_preload_list()
{
	t_lib=$T_BUILD/libcoloc.so
	t_runtime=$(ldd "$t_lib" 2>/dev/null |
		awk '$1 ~ /^lib(asan|tsan|ubsan)\.so/ { print $3 }' | tr '\n' ':')
	echo "$t_runtime$t_lib"
}

t_preload()
{
	t_guest=$1
	shift
	# shellcheck disable=SC2086 # a list
	t_in "$t_guest" env COLOC_AGENT="$T_DIR/$t_guest/agent.sock" LD_PRELOAD="$(t_preload_list)" \
		${T_WRAP:-} "$@"
}

t_spawn()
{
	t_guest=$1
	shift
	ip netns exec "$T_NS-$t_guest" "$@" &
	T_PID=$!
}

t_spawn_preload()
{
	t_guest=$1
	shift
	# shellcheck disable=SC2086 # a list
	t_spawn "$t_guest" env COLOC_AGENT="$T_DIR/$t_guest/agent.sock" \
		LD_PRELOAD="$(t_preload_list)" ${T_WRAP:-} "$@"
}

t_ctl()
{
	t_guest=$1
	shift
	"$T_BUILD/colocctl" --socket "$T_DIR/$t_guest/agent.sock" "$@"
}

t_agent_start()
{
	cat >"$T_DIR/$1.conf" <<-END
		[region]
		path = $T_DIR/region
		${T_REGION_CONF:-}
		[guest]
		name = guest-$1
		${T_GUEST_CONF:-}
		${T_CONF:-}
	END
	ip netns exec "$T_NS-$1" "$T_BUILD/residency-agent" --foreground \
		--config "$T_DIR/$1.conf" --socket "$T_DIR/$1/agent.sock" >>"$T_DIR/agent-$1.log" 2>&1 &
	echo $! >"$T_DIR/$1.pid"
}

t_agent_pid()
{
	cat "$T_DIR/$1.pid" 2>/dev/null
}

t_agent_stop()
{
	t_pid=$(t_agent_pid "$1")
	[ -n "$t_pid" ] || return 0
	kill -s "${2:-TERM}" "$t_pid" 2>/dev/null
	wait "$t_pid" 2>/dev/null
	rm -f "$T_DIR/$1.pid"
}

t_wait_agent()
{
	t_ctl "$1" --wait "${2:-10}" status >/dev/null && return 0
	echo "agent $1 does not answer; its log:" >&2
	cat "$T_DIR/agent-$1.log" >&2
	return 1
}

# A listener has no event that a shell could wait for: look again, within a limit.
t_wait_port()
{
	t_end=$(($(date +%s) + ${3:-10}))
	until [ -n "$(t_in "$1" ss -Htln "sport = :$2")" ]; do
		[ "$(date +%s)" -lt "$t_end" ] || return 1
		sleep 0.02
	done
}

t_net_up()
{
	trap t_on_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	T_DIR=$(mktemp -d -p /dev/shm coloc-test.XXXXXX) && mkdir "$T_DIR/A" "$T_DIR/B" || return 1

	ip netns add "$T_NS-A" && ip netns add "$T_NS-B" || return 1
	ip -n "$T_NS-A" link add eth0 type veth peer name eth0 netns "$T_NS-B" || return 1
	for t_guest in A B; do
		eval "t_addr=\$T_ADDR_$t_guest t_addr6=\$T_ADDR6_$t_guest"
		# nodad: an IPv6 address is usable at once, not a second later.
		ip -n "$T_NS-$t_guest" link set lo up &&
			ip -n "$T_NS-$t_guest" addr add "$t_addr/24" dev eth0 &&
			ip -n "$T_NS-$t_guest" addr add "$t_addr6/64" dev eth0 nodad &&
			ip -n "$T_NS-$t_guest" link set eth0 up || return 1
	done
}

t_guests_up()
{
	t_net_up || return 1
	t_agent_start A
	t_agent_start B
	t_wait_agent A && t_wait_agent B
}

t_guests_down()
{
	for t_guest in A B; do
		t_pids=$(ip netns pids "$T_NS-$t_guest" 2>/dev/null)
		# shellcheck disable=SC2086 # a list
		[ -z "$t_pids" ] || kill -KILL $t_pids 2>/dev/null
	done
	# The shell's own children are reaped so that nothing holds the namespaces any more.
	for t_guest in A B; do
		t_pid=$(t_agent_pid "$t_guest")
		[ -z "$t_pid" ] || wait "$t_pid" 2>/dev/null
		[ ! -e "/run/netns/$T_NS-$t_guest" ] || ip netns del "$T_NS-$t_guest"
	done
	[ -z "$T_DIR" ] || rm -rf "$T_DIR"
	T_DIR=
}
