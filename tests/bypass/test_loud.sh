#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bypass detector sees every way around the hooks that loud.c knows, names the call, and is silent
# about a program that does as much by hooks.
cd "$(dirname "$0")/../.." || exit 1
T_BUILD=$(realpath "${T_BUILD:-build}")
. tests/bypass/lib.sh

temp=$(mktemp -d)
agent=
trap '[ -z "$agent" ] || kill "$agent"; rm -rf "$temp"' EXIT
"$T_BUILD/residency-agent" --foreground --socket "$temp/agent.sock" --region "$temp/region" \
	>"$temp/agent.log" 2>&1 &
agent=$!
"$T_BUILD/colocctl" --socket "$temp/agent.sock" --wait 10 status >/dev/null || exit 1

loud() # WAY [MORE]: with MORE in LD_PRELOAD; what is reported lies in $temp/report
{
	set -- "$1" "${2:-}"
	rm -f "$temp/report"
	T_MODE=ring COLOC_POLICY=always COLOC_AGENT=$temp/agent.sock LD_PRELOAD=$T_BUILD/libcoloc.so$2 \
		timeout 30 "$BYPASS_WATCH" "$temp/report" "$T_BUILD/tests/bypass/loud" "$1" >"$temp/out" 2>&1
	status=$?
	bypass_ended "$temp/report" || fail "$1: the watcher did not end: $(cat "$temp/report")"
}

fail()
{
	echo "FAILED: $*"
	exit 1
}

# The call that a way ends in.
expected()
{
	case $1 in
	syscall) echo dup ;;
	stdio | aio | dlmopen | clone | thread | fork | signal | exec) echo write ;;
	io_uring) echo io_uring_setup ;;
	*) echo "$1" ;;
	esac
}

for way in write read recvfrom sendmsg poll select epoll_wait epoll_ctl dup close close_range shutdown \
	sendfile splice syscall stdio aio dlmopen clone thread fork signal exec io_uring; do
	loud $way
	[ "$status" != 77 ] || continue
	[ "$status" = 0 ] || fail "$way ended with $status: $(cat "$temp/out")"
	grep -q "^bypass: $(expected $way)(" "$temp/report" || fail "$way was not seen: $(cat "$temp/report")"
	grep -m 1 "^bypass: $(expected $way)(" "$temp/report" | cut -d ' ' -f 2-8
done
loud hooks
[ "$status" = 0 ] || fail "hooks ended with $status: $(cat "$temp/out")"
! grep '^bypass:' "$temp/report" || fail 'what came by hooks was reported'
# Without libmark.so behind the hooks everything would be a bypass, so it has been there.
grep -q '^watched .* [1-9][0-9]* on TCP sockets, 0 bypasses' "$temp/report" ||
	fail "nothing was looked at: $(cat "$temp/report")"

# liburing comes after the hooks, as it does where a program is linked with it.
liburing=$(ldconfig -p | awk '$1 == "liburing.so.2" { print $NF; exit }')
if [ -n "$liburing" ]; then
	loud liburing ":$liburing"
	[ "$status" = 0 ] || [ "$status" = 77 ] || fail "liburing ended with $status: $(cat "$temp/out")"
	! grep '^bypass:' "$temp/report" || fail 'liburing bypasses'
fi
