# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2015,SC1091
#
# e2e.sh - what the end-to-end scripts share; to be sourced by bash, brings netns.sh
#
# e2e_need PROGRAM...       end with 77 unless root, network namespaces and these are there
# fail TEXT                 end with 1, saying what and which policy
# e2e_policies FUNCTION     FUNCTION under "plain", "auto" and "always", each time with two fresh
#                           guests, and prints the bytes that went by ring. Under "always" there must
#                           be some; with E2E_AUTO_MOVES=1 under "auto" too. E2E_POLICIES: only these
# e2e_run A|B CMD...        CMD in that guest as $policy says
# e2e_spawn A|B CMD...      the same in the background; T_PID
# e2e_stat A|B KEY          a number of "colocctl stats"
# e2e_await SECONDS CMD...  until CMD succeeds; 1 if it does not in time

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
T_BUILD=$(realpath "${T_BUILD:-build}")
. tests/lib/netns.sh
policy=plain


fail()
{
	echo "FAILED ($policy): $*"
	for log in "$T_DIR"/agent-?.log; do
		[ -s "$log" ] && echo "-- ${log##*/}" && tail -n 20 "$log"
	done
	exit 1
}

e2e_need()
{
	local program
	[ "$(id -u)" = 0 ] || {
		echo 'needs root'
		exit 77
	}
	ip netns add "$T_NS-try" 2>/dev/null && ip netns del "$T_NS-try" || {
		echo 'no network namespaces here'
		exit 77
	}
	for program; do
		command -v "$program" >/dev/null || {
			echo "$program is not installed"
			exit 77
		}
	done
}

e2e_run()
{
	local guest=$1
	shift
	if [ "$policy" = plain ]; then
		t_in "$guest" "$@"
	else
		COLOC_POLICY=$policy t_preload "$guest" "$@"
	fi
}

e2e_spawn()
{
	local guest=$1
	shift
	if [ "$policy" = plain ]; then
		t_spawn "$guest" "$@"
	else
		COLOC_POLICY=$policy t_spawn_preload "$guest" "$@"
	fi
}

e2e_stat()
{
	t_ctl "$1" stats --json | jq ".$2"
}

e2e_await()
{
	local end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 0.05
	done
}

e2e_policies()
{
	local by_ring
	for policy in ${E2E_POLICIES:-plain auto always}; do
		if [ "$policy" = plain ]; then
			t_net_up || fail 'no guests'
		else
			t_guests_up || fail 'no guests'
		fi
		"$1"
		by_ring=0
		[ "$policy" = plain ] || by_ring=$(($(e2e_stat A bytes_ring) + $(e2e_stat B bytes_ring)))
		echo "$policy: $by_ring bytes by ring"
		if [ "$policy" = always ] || [ "$policy${E2E_AUTO_MOVES:-}" = auto1 ]; then
			[ "$by_ring" -gt 0 ] || fail "nothing moved: $(t_ctl A stats --json | jq -c .reasons)"
		fi
		t_agent_stop A
		t_agent_stop B
		t_guests_down
	done
}
