#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh - check the Spin models of the switch, exhaustively, and that each broken rule is found
#
#   tests/model/run.sh [--full] [NAME...]
#
# Called without arguments by the suite "model" of tests/run.sh: about two minutes on one core, less than 1 GB.
# --full takes larger bounds: about ten minutes, less than 4 GB. NAME: only models whose name begins so.
#
# A model passes when all its states were visited and no assertion fails and nothing hangs (an invalid
# end state). With -DBUG_x it must fail: a model that cannot fail proves nothing. Status 0, 1, or 77
# when spin or a compiler is missing.
set -u

here=$(cd "$(dirname "$0")" && pwd)
full=''
if [ "${1:-}" = --full ]; then
	full=1
	shift
fi
names=("$@")

for tool in spin "${CC:=cc}"; do
	command -v "$tool" >/dev/null || {
		echo "$tool is not installed"
		exit 77
	}
done

temp=$(mktemp -d -t coloc-model.XXXXXX)
trap 'rm -rf "$temp"' EXIT
passed=0 failed=0

wanted()
{
	local name
	[ ${#names[@]} -gt 0 ] || return 0
	for name in "${names[@]}"; do
		[[ $1 == "$name"* ]] && return 0
	done
	return 1
}

# explore OPTIMISE MODEL DEFINES...: output of the checker in $temp/out
explore()
{
	local optimise=$1 model=$2 dir=$temp/check
	shift 2
	rm -rf "$dir"
	mkdir "$dir"
	cp "$here"/*.pml "$dir"
	(
		cd "$dir" &&
			spin -a "$@" "$model.pml" &&
			"$CC" "$optimise" -w -DSAFETY -DCOLLAPSE -DMEMLIM=6000 -o pan pan.c &&
			./pan -m200000
	) >"$temp/out" 2>&1
}

states()
{
	awk '/states, stored/ { print $1; exit }' "$temp/out"
}

report() # PASS|FAIL WHAT
{
	if [ "$1" = PASS ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	printf '%s  %-46s %10s states  %s s\n' "$1" "$2" "$(states)" "$SECONDS"
}

# holds MODEL DEFINES...: no error, and nothing was left out
holds()
{
	wanted "$1" || return 0
	SECONDS=0
	explore -O2 "$@"
	if grep -q 'errors: 0' "$temp/out" &&
		! grep -qE 'out of memory|depth too small|Search not completed' "$temp/out"; then
		report PASS "$*"
	else
		report FAIL "$*"
		tail -n 20 "$temp/out" | sed 's/^/      /'
		[ ! -f "$temp/check/$1.pml.trail" ] ||
			(cd "$temp/check" && spin -t -p -g "${@:2}" "$1.pml") | tail -n 60 | sed 's/^/      /'
	fi
}

# breaks MODEL DEFINES...: the checker finds the fault
breaks()
{
	wanted "$1" || return 0
	SECONDS=0
	explore -O0 "$@" # is found soon: compiling costs more
	if grep -qE 'errors: [1-9]' "$temp/out"; then
		report PASS "$* fails, as it must"
	else
		report FAIL "$* should fail"
		tail -n 20 "$temp/out" | sed 's/^/      /'
	fi
}

# What each says is in its first comment.
holds one -DN=6
holds one -DN=5 -DDEATH
holds one -DN=3 -DREFUSE
holds one -DN=4 -DDEATH -DUNSEEN
holds threads -DN=3
holds attach -DN=3
holds pollers -DN=2
holds processes -DN=3
holds senders -DN0=2 -DN1=2
holds senders -DN0=3 -DN1=1
holds senders -DN0=2 -DN1=2 -DKILL
holds senders -DN0=3 -DN1=1 -DUNSEEN
holds edge -DN=5
holds edge -DN=4 -DUNSEEN
holds nested_tx -DN0=2 -DN1=2
holds nested_rx -DN=4
holds detach -DN=1 -DPOLL
holds detach -DN=3 -DRS=1 -DDETACHES=2
holds detach -DN=2 -DRS=1 -DPOLL -DSTASH
holds detach_tx -DN0=1 -DN1=1

if [ -n "$full" ]; then
	holds one -DN=8 -DDEATH
	holds one -DN=6 -DDEATH -DCAP=3 -DTCPCAP=3
	holds one -DN=4 -DREFUSE
	holds one -DN=6 -DUNSEEN
	holds threads -DN=5
	holds attach -DN=4
	holds pollers -DN=4
	holds processes -DN=4
	holds senders -DN0=3 -DN1=2
	holds senders -DN0=3 -DN1=2 -DUNSEEN
	holds edge -DN=7
	holds edge -DN=5 -DUNSEEN
	holds edge -DN=6 -DCAP=3
	holds nested_tx -DN0=3 -DN1=2
	holds nested_rx -DN=5
	holds detach -DN=2 -DSTASH
	holds detach_tx -DN0=2 -DN1=1
	# Two receivers, and the stash read twice, or passed by.
	breaks detach -DN=2 -DSTASH -DBUG_STASH_DROP
	breaks detach -DN=2 -DDETACHES=2 -DSTASH -DBUG_STASH_FIRST
	breaks detach -DN=2 -DPOLL -DSTASH -DBUG_STASH_KICK
fi

# S opens behind payload that R may have read: a lost wake-up. Open, and nothing sent.
breaks one -DN=5 -DBUG_BEHIND
breaks one -DN=5 -DBUG_UNOPEN
breaks one -DN=5 -DBUG_CERTAIN
# Order: the ring before the kernel's bytes; closed while a receiver has no limit.
breaks one -DN=5 -DBUG_OPEN_AT
breaks one -DN=5 -DBUG_SEEN
breaks one -DN=5 -DBUG_LEAVE
# Refused and emptied, and yet an opening that S was at succeeds.
breaks one -DN=3 -DREFUSE -DBUG_REFUSE
# Two in the kernel; tcp_read before in_kernel; a limit beside another; in_kernel down too soon.
breaks threads -DN=3 -DBUG_CROWD
breaks threads -DN=3 -DBUG_SEQ
breaks threads -DN=3 -DBUG_LOOK
breaks threads -DN=3 -DBUG_LIMIT
breaks threads -DN=3 -DBUG_EXIT_ORDER
breaks threads -DN=3 -DBUG_LEAVE
# A receiver from before the attach is not counted, or looks before it is.
breaks attach -DN=3 -DBUG_ATTACH
breaks attach -DN=3 -DBUG_UNATTACHED
# A receive returns and leaves the stream awake beside a sleeper in poll.
breaks pollers -DN=3 -DBUG_POLLERS
# Another process sleeps: not told of before a receive; the payload taken whole; by one who is inside.
breaks processes -DN=3 -DBUG_LATE
breaks processes -DN=3 -DBUG_HOLD
breaks processes -DN=3 -DBUG_INSIDE
# A sender enters the kernel beside an opener; open_at before the look at the others; written too soon.
breaks senders -DN0=3 -DN1=1 -DBUG_RAISE
breaks senders -DN0=3 -DN1=1 -DBUG_CHECK_LATE
breaks senders -DN0=3 -DN1=1 -DBUG_STALE
breaks senders -DN0=2 -DN1=2 -DKILL -DBUG_REPAIR
# Edges that do not come again.
breaks edge -DN=4 -DBUG_PUSH_OUT
breaks edge -DN=4 -DBUG_SETTLE
# Sent out of sight: not noticed; the ring used beside a receiver without a limit; EAGAIN beside an empty ring.
breaks one -DN=4 -DUNSEEN -DBUG_UNSEEN_COUNT
breaks one -DN=4 -DUNSEEN -DBUG_UNSEEN_INSIDE
breaks senders -DN0=3 -DN1=1 -DUNSEEN -DBUG_UNSEEN_COUNT
breaks edge -DN=4 -DUNSEEN -DBUG_UNSEEN_DRY
# Signal handlers.
breaks nested_tx -DN0=3 -DN1=2 -DBUG_SIGNALS
breaks nested_tx -DN0=3 -DN1=2 -DBUG_NESTED_OPEN
breaks nested_tx -DN0=3 -DN1=2 -DBUG_NESTED_RING
breaks nested_rx -DN=4 -DBUG_NESTED_LIMIT
breaks nested_rx -DN=4 -DBUG_NESTED_SETTLE
breaks nested_rx -DN=4 -DBUG_TAIL
# The region goes while somebody is at it, is opened after the drain, or is not told who is asleep.
breaks detach -DN=1 -DRS=1 -DBUG_WAIT
breaks detach -DN=1 -DRS=1 -DBUG_INSIDE
breaks detach -DN=1 -DRS=1 -DBUG_SLEEPER
breaks detach -DN=2 -DRS=1 -DBUG_STOPPED
breaks detach -DN=1 -DRS=1 -DBUG_MOVE
breaks detach -DN=1 -DRS=1 -DBUG_ATTACH
breaks detach -DN=2 -DRS=1 -DBUG_ATTACHED
breaks detach_tx -DN0=1 -DN1=1 -DBUG_SLEEPER
breaks detach_tx -DN0=1 -DN1=1 -DBUG_STOPPED
# It is back, and a receiver, a sender or a sleeper in poll goes by an earlier look.
breaks detach -DN=1 -DBUG_CLOSED
breaks detach_tx -DN0=2 -DN1=1 -DBUG_CLOSED
breaks detach -DN=2 -DPOLL -DBUG_COUNT
# Bytes of the stash: not looked for after all else, or bytes before them that nobody counts.
breaks detach -DN=2 -DRS=1 -DPOLL -DSTASH -DBUG_STASH_POLL
breaks detach -DN=4 -DRS=1 -DDETACHES=2 -DSTASH -DBUG_STASH_CLOSED

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
