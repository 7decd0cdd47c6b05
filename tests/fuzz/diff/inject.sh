#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# inject.sh - does the differential fuzzer find what it is there for?
#
#	tests/fuzz/diff/inject.sh [FAULT...]		(make fuzz-inject)
#
# Each fault is built into a copy of the library, in a temporary folder, and the fuzzer has a minute
# to find it. The library as it is gets the same minute, on the same programs, and must not be
# flagged; nor by any of the programs that found a fault, however often. A fault whose place in the sources is not found any more is a failure, too.
#
# Prints a table: fault, seconds until it was found, programs run by then, seed of the one that found it.
#
# T_SEED     seed of the first program (default random, printed)
# T_SECONDS  instead of 60

set -u
here=$(dirname "$0")
root=$(cd "$here/../../.." && pwd)
seconds=${T_SECONDS:-60}
seed=${T_SEED:-$((RANDOM * 32768 + RANDOM))}
work=$(mktemp -d "${TMPDIR:-/tmp}/coloc-inject.XXXXXX")
running=
finders=()
failed=0

cleanup()
{
	# It has agents to end.
	[ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

die()
{
	echo "inject.sh: $*" >&2
	exit 1
}

# ---- the faults ------------------------------------------------------------------------------------

declare -A file change
faults=(lost-tail wrong-errno missed-edge reordered-switch stale-descriptor)

# A receiver ends a ring that is being left with the last bytes unread.
file[lost-tail]=shm-transport/switch.c
change[lost-tail]='/^int64_t shmt_rx_avail(/,/^}/ s/(int64_t)used;/SHMT_CTL_MODE(ctl) == SHMT_LEAVING \&\& used < 64 ? 0 : (int64_t)used;/'

# Bad memory of a caller, while a ring has bytes for it.
file[wrong-errno]=preload/rx.c
change[wrong-errno]='/^ssize_t pl_rx_copy_out(/,/^}/ s/-EFAULT/-EINVAL/'

# A stream that is left on a ring is not looked at for its edge-triggered items.
file[missed-edge]=preload/epset.c
change[missed-edge]='/^bool pl_epset_awake(/,/^}/ s/if (!pl_ep_items\[n - 1\]\.queued)/if (!pl_ep_items[n - 1].queued \&\& !(pl_ep_items[n - 1].events \& EPOLLET))/'

# The ring run lies one byte before where it belongs between the bytes sent by TCP.
file[reordered-switch]=shm-transport/switch.c
change[reordered-switch]='/^bool shmt_tx_open(/,/^}/ s/shmt_store(&d->open_at, open_at);/shmt_store(\&d->open_at, open_at - 1);/'

# A number that was closed, or replaced, goes on naming the stream that it was.
file[stale-descriptor]=preload/stream.c
change[stale-descriptor]='/^static void end_number(/,/^}/ s/pl_fd_take(fd, into)/into == PL_NEW ? pl_fd_take(fd, into) : pl_fd_entry(fd)/'

# ---- builds ----------------------------------------------------------------------------------------

build() # TREE FOLDER
{
	local diff=$2/tests/fuzz/diff
	make -C "$1" --no-print-directory -j2 O="$2" all "$diff/diff" "$diff/diff_run" \
		>"$work/make.log" 2>&1 && return
	cat "$work/make.log" >&2
	return 1
}

# What objects are compared by is kept, so a fault costs the compilation of one file.
copy_of_sources()
{
	mkdir "$work/tree" && (cd "$root" && git ls-files -z | xargs -0 cp -p --parents -t "$work/tree")
}

with_fault() # FAULT
{
	local at=$work/tree/${file[$1]}
	rm -rf "$work/faulty" && cp -a "$work/sound" "$work/faulty" && cp -p "$at" "$work/original" ||
		return 1
	sed -i "${change[$1]}" "$at"
	if cmp -s "$at" "$work/original"; then
		echo "inject.sh: $1: not found in ${file[$1]}: it has changed" >&2
		return 1
	fi
	build "$work/tree" "$work/faulty"
}

without_fault() # FAULT
{
	cp -p "$work/original" "$work/tree/${file[$1]}"
}

# ---- runs ------------------------------------------------------------------------------------------

# Return: 0 nothing found, 1 a difference, 2 neither
run() # FOLDER ARGUMENT...
{
	timeout -k 20 $((seconds + 120)) "$1/tests/fuzz/diff/diff" --no-shrink --out "$work" \
		"${@:2}" >"$work/output" 2>&1 &
	running=$!
	wait "$running"
	running=
	grep -q '^seed [0-9]*: operation' "$work/output" && return 1
	grep -q ' 0 differences$' "$work/output" && return 0
	return 2
}

finder()
{
	sed -n 's/^seed \([0-9]*\): operation.*/\1/p' "$work/output" | head -n 1
}

row() # NAME FOUND
{
	local programs took first
	programs=$(sed -n 's/^\([0-9]*\) programs in .*/\1/p' "$work/output")
	took=$(sed -n 's/^[0-9]* programs in \([0-9]*\) s,.*/\1/p' "$work/output")
	first=$(finder)
	printf '%-18s %-10s %8s %9s  %s\n' "$1" "$2" "$took" "$programs" "${first:--}"
}

[ $# -gt 0 ] && faults=("$@")
for fault in "${faults[@]}"; do
	[ -n "${file[$fault]:-}" ] || die "no fault $fault"
done
copy_of_sources || die 'no copy of the sources'
build "$work/tree" "$work/sound" || die 'the library does not build as it is'
echo "seed $seed, $seconds s each"
printf '%-18s %-10s %8s %9s  %s\n' fault result seconds programs seed
for fault in "${faults[@]}"; do
	if ! with_fault "$fault"; then
		printf '%-18s %s\n' "$fault" 'not built'
		failed=1
		without_fault "$fault"
		continue
	fi
	run "$work/faulty" --seed "$seed" --seconds "$seconds"
	case $? in
	1)
		row "$fault" found
		finders+=("$(finder)")
		;;
	0) row "$fault" MISSED && failed=1 ;;
	*) cat "$work/output" && failed=1 ;;
	esac
	without_fault "$fault"
done
run "$work/sound" --seed "$seed" --seconds "$seconds"
case $? in
0) row none 'none found' ;;
1) row none FLAGGED && failed=1 && grep '^seed [0-9]*: operation' "$work/output" ;;
*) cat "$work/output" && failed=1 ;;
esac
for one in "${finders[@]}"; do
	run "$work/sound" --seed "$one" --programs 1 --rings 20 && continue
	echo "seed $one is flagged without its fault, too"
	grep '^seed [0-9]*: operation' "$work/output" || cat "$work/output"
	failed=1
done
exit "$failed"
