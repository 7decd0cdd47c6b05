#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# test_coloc_run.sh - coloc-run starts one private agent for runs that begin at once, moves a stream
# between them, hands on the exit status, and never keeps a command from running
#
# In a network namespace of its own, so that the private agent meets no other.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/netns.sh
[ "$(id -u)" = 0 ] || {
	echo "SKIP coloc-run: needs root"
	exit 77
}
t_net_up || exit 1
# The region's place goes by user alone: what was there before is somebody's.
region_folder=/dev/shm/coloc-$(id -u)
# shellcheck disable=SC2016
[ -e "$region_folder" ] || t_at_exit 'rm -rf "$region_folder"'
failed=0
run=$T_BUILD/coloc-run
chmod 755 "$T_DIR" # a folder that was opened to others must not be taken, see below
mkdir -m 700 "$T_DIR/run"
export XDG_RUNTIME_DIR="$T_DIR/run"
unset COLOC_AGENT COLOC_POLICY LD_PRELOAD
socket=$T_DIR/run/coloc/agent.sock

pass() { echo "PASS $1"; }
fail()
{
	echo "FAIL $1: $2"
	failed=1
}
agents() { ip netns pids "$T_NS-A" | xargs -r -n 1 ps -o pid=,comm= -p | awk '/residency/ { print $1 }'; }

if [ -S /run/coloc/agent.sock ]; then
	echo "SKIP coloc-run: the system's agent runs"
	exit 77
fi

# Five at once.
for i in 1 2 3 4 5; do
	# shellcheck disable=SC2016
	t_spawn A "$run" sh -c 'echo "$COLOC_AGENT $LD_PRELOAD"' >"$T_DIR/out.$i" 2>&1
	pids="${pids:-} $T_PID"
done
# shellcheck disable=SC2086 # a list
wait $pids
if [ "$(agents | wc -l)" != 1 ]; then
	fail "one agent" "running: $(agents | tr '\n' ' '); $(cat "$T_DIR"/out.*)"
elif [ "$(sort -u "$T_DIR"/out.*)" != "$socket $(realpath "$T_BUILD")/libcoloc.so" ]; then
	fail "one agent" "$(sort -u "$T_DIR"/out.*)"
else
	pass "one agent"
fi

t_spawn A "$run" --policy=always iperf3 -s -1 -p 5301 >"$T_DIR/server" 2>&1
if ! t_wait_port A 5301; then
	fail "stream" "no server: $(cat "$T_DIR/server")"
elif ! t_in A "$run" --policy=always --stats iperf3 -c 127.0.0.1 -p 5301 -n 256M \
	>"$T_DIR/client" 2>"$T_DIR/stats"; then
	fail "stream" "$(cat "$T_DIR/client" "$T_DIR/stats")"
elif ! grep -q '^bytes_ring  *[0-9.]* MiB\|^bytes_ring  *[0-9.]* GiB' "$T_DIR/stats"; then
	fail "stream" "$(cat "$T_DIR/stats")"
else
	pass "stream"
fi

status() # NAME WANTED ARGS...
{
	name=$1 wanted=$2
	shift 2
	t_in A "$run" "$@" >"$T_DIR/out" 2>&1
	got=$?
	if [ "$got" = "$wanted" ]; then
		pass "$name"
	else
		fail "$name" "status $got, not $wanted: $(cat "$T_DIR/out")"
	fi
}
# shellcheck disable=SC2016 # the command expands it
status "exit status" 7 sh -c 'exit 7'
status "exit status with --stats" 7 --stats sh -c 'exit 7'
# shellcheck disable=SC2016
status "killed with --stats" 137 --stats sh -c 'kill -KILL $$'
status "not found" 127 "$T_DIR/nothing"
status "cannot be run" 126 "$T_DIR"
status "no command" 2 --stats
status "unknown policy" 2 --policy=sometimes true
# shellcheck disable=SC2016
status "end of options" 0 -- sh -c '[ "$1" = --stats ]' sh --stats

# The signal goes to the command; it is sent once the command has said that it is there.
mkfifo "$T_DIR/there"
# shellcheck disable=SC2016
t_spawn A "$run" --stats sh -c 'trap "exit 9" TERM; echo >"$0"; while :; do sleep 0.05; done' \
	"$T_DIR/there" >"$T_DIR/out" 2>&1
pid=$T_PID
read -r _ <"$T_DIR/there"
kill -TERM "$pid"
wait "$pid"
got=$?
if [ "$got" = 9 ]; then pass "TERM is passed on"; else fail "TERM is passed on" "status $got"; fi

# shellcheck disable=SC2016
kept=$(t_in A env LD_PRELOAD=libm.so.6 "$run" sh -c 'echo "$LD_PRELOAD"')
case $kept in
*/libcoloc.so:libm.so.6) pass "LD_PRELOAD is kept" ;;
*) fail "LD_PRELOAD is kept" "$kept" ;;
esac

# What goes wrong is one line, and the command runs.
runs_anyway() # NAME PATTERN ENVIRONMENT... -- OPTIONS...
{
	name=$1 pattern=$2
	shift 2
	out=$(t_in A env "$@" echo ran 2>"$T_DIR/errors")
	if [ "$out" != ran ]; then
		fail "$name" "did not run: $(cat "$T_DIR/errors")"
	elif [ "$(wc -l <"$T_DIR/errors")" != 1 ] || ! grep -q "$pattern" "$T_DIR/errors"; then
		fail "$name" "$(cat "$T_DIR/errors")"
	else
		pass "$name"
	fi
}
runs_anyway "no agent there" 'No such file' "$run" --agent "$T_DIR/none.sock"
mkdir -m 700 "$T_DIR/run2" && mkdir -m 777 "$T_DIR/run2/coloc"
runs_anyway "folder open to others" 'must be this user' XDG_RUNTIME_DIR="$T_DIR/run2" "$run"
mkdir -m 700 "$T_DIR/run3"
echo '[nonsense' >"$T_DIR/bad.conf"
runs_anyway "bad configuration" 'bad.conf:1' XDG_RUNTIME_DIR="$T_DIR/run3" "$run" \
	--config "$T_DIR/bad.conf"
mkdir "$T_DIR/alone" && cp "$run" "$T_DIR/alone/"
if [ ! -e /usr/local/lib/libcoloc.so ]; then
	runs_anyway "no library" 'libcoloc.so' "$T_DIR/alone/coloc-run"
fi

exit "$failed"
