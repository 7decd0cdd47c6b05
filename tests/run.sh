#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh - run test programs and scripts, and say how many passed
#
#   tests/run.sh SUITE[@SANITIZER]... [-- NAME...]
#
# SUITE: lint unit platform agent hook model stress fuzz diff e2e bypass vm soak apps. With @address,
# @thread or @undefined its programs come from that variant's folder, $T_BUILD/san-<name>. NAME: only tests
# whose name contains one of these.
#
# Each test runs in a temporary folder of its own with a time limit; it passes with status 0, is skipped
# with 77 (the last line of its output says why), and fails else, with its output shown. The last
# line is "N passed, N failed".
#
# T_BUILD   where the programs are (default build)
# T_MODES   modes of the hook tests and the stress test (default "tcp none ring back gone"): plain,
#           preloaded without an agent, on the ring, drained and resumed, and the same with the region
#           taken away meanwhile; see tests/lib/t.h
# T_SEED    seed of stress and fuzz programs (default random, printed)
# T_SECONDS how long each of those runs (default 5)
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath -m "${T_BUILD:-$root/build}")
modes=${T_MODES:-tcp none ring back gone}
seed=${T_SEED:-$((RANDOM * 32768 + RANDOM))}
seconds=${T_SECONDS:-5}
temp=$(mktemp -d -t coloc-test.XXXXXX)
passed=0 failed=0 skipped=0
names=()
agent_pid='' agent_removable='' toggler_pid='' test_pid=''

cleanup()
{
	# timeout(1) hands it on to the whole test, which then tidies up after itself.
	if [ -n "$test_pid" ]; then
		kill -TERM "$test_pid" 2>/dev/null
		wait "$test_pid"
	fi
	stop_toggler
	stop_agent
	rm -rf "$temp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wanted()
{
	local name
	[ ${#names[@]} -gt 0 ] || return 0
	for name in "${names[@]}"; do
		[[ $1 == *"$name"* ]] && return 0
	done
	return 1
}

# run_one LABEL SECONDS COMMAND...
run_one()
{
	local label=$1 limit=$2 start end status
	shift 2
	wanted "$label" || return 0
	local dir=$temp/work
	mkdir -p "$dir"
	start=$(date +%s%N)
	# In the background, so that a signal to us is seen at once.
	(cd "$dir" && TMPDIR=$dir exec timeout -k 10 "$limit" "$@") >"$temp/output" 2>&1 </dev/null &
	test_pid=$!
	wait "$test_pid"
	status=$?
	test_pid=''
	end=$(date +%s%N)
	local took
	took=$(printf '%d.%d s' $(((end - start) / 1000000000)) $(((end - start) / 100000000 % 10)))
	case $status in
	0)
		passed=$((passed + 1))
		printf 'PASS  %-52s %s\n' "$label" "$took"
		# What a script measured is worth a line.
		[ -z "${T_SHOW:-}" ] || sed 's/^/      /' "$temp/output"
		;;
	77)
		skipped=$((skipped + 1))
		printf 'SKIP  %-52s %s\n' "$label" "$(tail -n 1 "$temp/output")"
		;;
	*)
		failed=$((failed + 1))
		[ "$status" != 124 ] || echo "timed out after $limit s" >>"$temp/output"
		printf 'FAIL  %-52s status %s, %s\n' "$label" "$status" "$took"
		tail -n 80 "$temp/output" | sed 's/^/      /'
		;;
	esac
	rm -rf "$dir"
}

# ---- an agent of our own, for what runs preloaded -------------------------------------------------

# A sanitized library wants its runtime in front of it; but not TSan's: inside its own interceptors that
# one does not see what our atomics order, and reports races that are none.
preload_list() # BUILD
{
	ldd "$1/libcoloc.so" | awk '$1 ~ /^lib(asan|ubsan)\.so/ { printf "%s:", $3 }'
	echo "$1/libcoloc.so"
}

# The agent is the plain build's whatever is preloaded: what is looked at is the programs.
start_agent() # REMOVABLE
{
	[ "$agent_removable" = "$1" ] || stop_agent
	[ -z "$agent_pid" ] || return 0
	agent_removable=$1
	export COLOC_AGENT=$temp/agent.sock
	COLOC_REGION_REMOVABLE=$1 "$build/residency-agent" --foreground --socket "$COLOC_AGENT" --region "$temp/region" \
		>"$temp/agent.log" 2>&1 &
	agent_pid=$!
	"$build/colocctl" --socket "$COLOC_AGENT" --wait 10 status >/dev/null 2>&1 && return 0
	echo "the agent does not answer:"
	cat "$temp/agent.log"
	stop_agent
	return 1
}

# An agent that ends by itself under the tests is a failure of its own.
stop_agent()
{
	[ -n "$agent_pid" ] || return 0
	if ! kill -TERM "$agent_pid" 2>/dev/null; then
		failed=$((failed + 1))
		echo 'FAIL  the agent ended under the tests; its log:'
		tail -n 40 "$temp/agent.log"
	fi
	wait "$agent_pid"
	agent_pid=''
	rm -f "$temp/region" "$temp/agent.sock"
	unset COLOC_AGENT
}

# Every 50 ms another state: what the tests' modes "back" and "gone" mean.
start_toggler() # MODE
{
	(
		trap 'exit 0' TERM
		while :; do
			"$build/colocctl" --socket "$COLOC_AGENT" drain || continue
			# Whoever touches the region now is ended by SIGBUS.
			if [ "$1" = gone ]; then
				cp --sparse=always "$temp/region" "$temp/region.away"
				truncate -s 0 "$temp/region"
			fi
			sleep 0.05
			[ "$1" != gone ] || cp --sparse=always "$temp/region.away" "$temp/region"
			"$build/colocctl" --socket "$COLOC_AGENT" resume
			sleep 0.05
		done
	) >/dev/null 2>&1 &
	toggler_pid=$!
}

stop_toggler()
{
	[ -n "$toggler_pid" ] || return 0
	kill -TERM "$toggler_pid" 2>/dev/null
	wait "$toggler_pid" 2>/dev/null
	toggler_pid=''
	[ -s "$temp/region" ] || cp --sparse=always "$temp/region.away" "$temp/region"
	[ -z "$agent_pid" ] || "$build/colocctl" --socket "$COLOC_AGENT" resume >/dev/null 2>&1
}

# in_mode MODE BUILD LABEL SECONDS PROGRAM ARGS...: run it as T_MODE says
in_mode()
{
	local mode=$1 from=$2 label=$3 limit=$4
	shift 4
	local vars=(T_MODE="$mode" COLOC_POLICY=always LD_PRELOAD="$(preload_list "$from")")
	case $mode in
	tcp) vars=(T_MODE=tcp) ;;
	gone) vars+=(T_MODE=back T_GONE=1) ;;
	none) vars+=(T_MODE=tcp COLOC_AGENT="$temp/nobody.sock") ;;
	esac
	run_one "$label [$mode]" "$limit" env "${vars[@]}" "$@"
}

# for_modes FUNCTION BUILD: FUNCTION MODE BUILD with what the mode needs around it
for_modes()
{
	local mode removable
	for mode in $modes; do
		removable=no
		[ "$mode" != gone ] || removable=yes
		if [[ $mode == ring || $mode == back || $mode == gone ]] && ! start_agent $removable; then
			failed=$((failed + 1))
			echo "FAIL  mode $mode: no agent"
			continue
		fi
		[[ $mode != back && $mode != gone ]] || start_toggler "$mode"
		"$1" "$mode" "$2"
		stop_toggler
		# A region that never went would prove nothing.
		if [ "$mode" = gone ] && ! grep -q 'not used any more' "$temp/agent.log"; then
			failed=$((failed + 1))
			echo 'FAIL  mode gone: the region was never let go'
		fi
	done
	stop_agent
}

# ---- suites ---------------------------------------------------------------------------------------

hook_mode()
{
	local program
	for program in "$2"/tests/hook/test_*; do
		[ -x "$program" ] && in_mode "$1" "$2" "hook/${program##*/}${variant:+ ($variant)}" 30 "$program"
	done
}

# stress_stream is made of socket calls; the others need no preload and know no mode.
stress_mode()
{
	in_mode "$1" "$2" "stress/stress_stream${variant:+ ($variant)} seed $seed" $((seconds * 10 + 30)) \
		"$2/tests/stress/stress_stream" --seed "$seed" --seconds "$seconds"
}

programs() # FOLDER PATTERN SECONDS [ARGS...]
{
	local folder=$1 pattern=$2 limit=$3 program
	shift 3
	for program in "$from"/tests/$folder/$pattern; do
		[ -x "$program" ] && [ "${program##*/}" != stress_stream ] &&
			run_one "$folder/${program##*/}${variant:+ ($variant)}" "$limit" "$program" "$@"
	done
}

scripts() # PATTERN SECONDS
{
	local script
	for script in "$root"/tests/$1; do
		[ -x "$script" ] && T_BUILD=$build run_one "${script#"$root"/tests/}" "$2" "$script"
	done
}

suite()
{
	local from=$build variant=''
	case $1 in
	*@*)
		variant=${1#*@} from=$build/san-${1#*@}
		;;
	esac
	case ${1%@*} in
	lint)
		local check
		for check in format symbols cppcheck tidy; do
			run_one "lint/$check" 300 env -u MAKEFLAGS -u MFLAGS make -C "$root" --no-print-directory \
				O="$build" "lint-$check"
		done
		;;
	unit) programs unit 'test_*' 60 ;;
	platform) programs platform 'assume_*' 60 ;;
	agent) programs agent 'test_*' 60 && scripts 'agent/test_*.sh' 60 ;;
	hook) for_modes hook_mode "$from" ;;
	model) scripts 'model/*.sh' 600 ;;
	stress)
		programs stress 'stress_*' $((seconds * 10 + 30)) --seed "$seed" --seconds "$seconds"
		for_modes stress_mode "$from"
		;;
	fuzz)
		programs fuzz 'fuzz_*' $((seconds * 10 + 30)) --seed "$seed" --seconds "$seconds"
		;;
	regress | diff)
		local programs=("$root"/tests/fuzz/diff/regress/*.prog)
		run_one "diff/regress${variant:+ ($variant)}" $((${#programs[@]} * 30)) \
			"$from/tests/fuzz/diff/diff" --program "${programs[@]}"
		[ "${1%@*}" = regress ] || run_one "diff/random${variant:+ ($variant)} seed $seed" $((seconds * 10 + 300)) \
			"$from/tests/fuzz/diff/diff" --seed "$seed" --seconds $((seconds * 6))
		;;
	e2e) scripts 'e2e/test_*.sh' 300 ;;
	vm) scripts 'vm/build.sh' 300 && scripts 'vm/test_*.sh' 300 ;;
	bypass) scripts 'bypass/test_*.sh' 300 ;;
	apps) scripts 'apps/test_*.sh' 180 ;;
	soak) scripts 'e2e/test_gib.sh' 1800 && scripts 'e2e/test_kill.sh' 3600 ;;
	*)
		echo "run.sh: no suite ${1%@*}" >&2
		exit 2
		;;
	esac
}

suites=()
while [ $# -gt 0 ]; do
	if [ "$1" = -- ]; then
		shift
		names=("$@")
		break
	fi
	suites+=("$1")
	shift
done
[ ${#suites[@]} -gt 0 ] || {
	sed -n '3,22s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

export T_BUILD=$build
for one in "${suites[@]}"; do
	suite "$one"
done
cleanup
trap - EXIT

[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
