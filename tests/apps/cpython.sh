#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cpython.sh - CPython's own tests of sockets, readiness, processes and signals pass preloaded as well
#
#   tests/apps/cpython.sh [quick | MODULE...]
#
# Every module runs three times over loopback: twice plain, which also finds the cases that are not
# reliable by themselves, and once preloaded with the policy "always". Each run has a network namespace
# and an agent of its own, so that several run side by side. A case that passes both plain runs has to pass
# preloaded; cpython_cases.py compares and prints the table. Nothing is tried again. Some bytes must
# have gone by ring, else the run proves nothing.
# quick: five modules, a minute; without arguments all of them, a quarter of an hour.
# Status 0, 1, or 77 when the tests are not installed.
#
# T_BUILD   where the programs are (default build)
# T_MODES   how it is preloaded (default "ring"): ring, on the ring; eager, the same with long spins, so
#           that more goes by ring; back, drained and resumed over and over meanwhile; none, without
#           an agent
# T_PYTHON  another interpreter that has the package "test"
# T_JOBS    how many at once (default two for each processor)
# T_KEEP    folder that keeps the records; what is found there complete is not run again
set -u

python=${T_PYTHON:-/usr/bin/python3.11}
quick=(test_socket test_selectors test_socketserver test_select test_epoll)
# The long ones first.
all=(test_asyncio test_multiprocessing_spawn test_multiprocessing_forkserver test_io
	test_multiprocessing_fork test_subprocess test_signal test_ssl test_logging test_threading
	test_imaplib test_eintr test_httpservers test_os test_posix test_httplib test_ftplib test_smtplib
	test_poplib test_nntplib test_telnetlib test_xmlrpc test_docxmlrpc test_urllib2_localnet
	test_wsgiref test_asyncore test_asynchat test_timeout test_poll test_threadsignals test_fork1
	test_wait3 test_wait4 test_multiprocessing_main_handling "${quick[@]}")
modes=${T_MODES:-ring}
case_seconds=100 module_seconds=900

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${T_BUILD:-$here/../../build}")
agent_pid='' toggler_pid='' test_pid=''

cleanup()
{
	local pid
	for pid in $test_pid $toggler_pid $agent_pid; do
		kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	rm -rf "$temp"
}

own_folder()
{
	temp=$(mktemp -d -p /dev/shm coloc-cpython.XXXXXX) || exit 1
	ctl=("$build/colocctl" --socket "$temp/agent.sock")
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# ---- one module, one way ----------------------------------------------------------------------------

# Cases that are taken, and that are left out: a VM's sockets connect to nobody where there is no VM; cycles
# of garbage take minutes; of multiprocessing what has to do with connections.
only_of() # MODULE
{
	case $1 in
	test_multiprocessing_main_handling) ;;
	test_multiprocessing_*)
		echo Connection,Listener,MyManager,RemoteManager,SyncManager,TestQueue,Poll,Wait,OtherTest
		;;
	esac
}

not_of() # MODULE
{
	case $1 in
	test_socket) echo VSOCK ;;
	test_asyncio) echo del_collect ;;
	esac
}

start_agent()
{
	"$build/residency-agent" --foreground --socket "$temp/agent.sock" --region "$temp/region" \
		>"$temp/agent.log" 2>&1 &
	agent_pid=$!
	"${ctl[@]}" --wait 10 status >/dev/null && return 0
	cat "$temp/agent.log"
	return 1
}

# Drained and resumed every 100 ms.
start_toggler()
{
	(
		trap 'exit 0' TERM
		while :; do
			"${ctl[@]}" drain
			sleep 0.05
			"${ctl[@]}" resume
			sleep 0.05
		done
	) >/dev/null 2>&1 &
	toggler_pid=$!
}

# The process is started anew behind a case that it died in. Leaves in FOLDER: MODULE, what the cases
# say; MODULE.output, what they print; MODULE.stats, what the agent counted.
run_module() # FOLDER MODULE [VARIABLE=VALUE...]
{
	local to=$1 module=$2 round status
	shift 2
	for round in 1 2 3 4 5 6 7 8; do
		rm -rf "$temp/work" && mkdir "$temp/work"
		(cd "$temp/work" && exec env "$@" TMPDIR="$temp/work" timeout -k 10 $module_seconds \
			"$python" "$here/cpython_cases.py" run "$module" "$to/$module" $case_seconds \
			"$(only_of "$module")" "$(not_of "$module")") >>"$to/$module.output" 2>&1 </dev/null &
		test_pid=$!
		wait $test_pid
		status=$?
		test_pid=''
		[ $status != 0 ] || break
		echo "-- start $round: status $status" >>"$to/$module.output"
	done
}

one() # MODE MODULE
{
	local to=$records/$1 module=$2
	local preload=(LD_PRELOAD="$build/libcoloc.so" COLOC_POLICY=always COLOC_AGENT="$temp/agent.sock")
	[ ! -e "$to/$module.stats" ] || return 0
	[ -z "${CPYTHON_IN_NAMESPACE:-}" ] || ip link set lo up || return 1
	mkdir -p "$to" && rm -f "$to/$module" "$to/$module".*
	case $1 in
	first | second) run_module "$to" "$module" ;;
	none) run_module "$to" "$module" "${preload[@]}" ;;
	*)
		start_agent || return 1
		[ "$1" != back ] || start_toggler
		[ "$1" != eager ] || preload+=(COLOC_WAIT_SPIN_US=10000 COLOC_WAIT_SPIN_SAMECPU_US=10000)
		run_module "$to" "$module" "${preload[@]}"
		# Without one we would have tested nothing, and it must not end by itself.
		"${ctl[@]}" stats --json >"$temp/stats" || {
			tail -n 40 "$temp/agent.log" >>"$to/$module.output"
			return 1
		}
		;;
	esac
	cp "$temp/stats" "$to/$module.stats" 2>/dev/null || echo '{}' >"$to/$module.stats"
}

if [ "${1:-}" = --one ]; then
	records=$4
	own_folder
	one "$2" "$3"
	exit
fi

# ---- all of them ------------------------------------------------------------------------------------

"$python" -c 'import test.test_socket' 2>/dev/null || {
	echo "$python has no tests: libpython3.11-testsuite is not installed"
	exit 77
}
case ${1:-} in
quick) modules=("${quick[@]}") ;;
'') modules=("${all[@]}") ;;
*) modules=("$@") ;;
esac
own_folder
records=${T_KEEP:-$temp/records}
mkdir -p "$records"

# Without root there is the plain loopback, one at a time.
jobs=${T_JOBS:-$(($(nproc) * 2))}
apart=(env CPYTHON_IN_NAMESPACE=1 unshare -n)
unshare -n true 2>/dev/null || jobs=1 apart=(env)

# timeout(1) ends them all if we are ended.
for module in "${modules[@]}"; do
	for mode in first second $modes; do
		printf '%s %s %s\n' "$mode" "$module" "$records"
	done
done >"$temp/queue"
timeout -k 20 3600 xargs -a "$temp/queue" -P "$jobs" -L 1 "${apart[@]}" "$0" --one &
test_pid=$!
wait $test_pid
status=$?
test_pid=''
[ $status = 0 ] || echo "some could not be run: status $status"

for mode in $modes; do
	"$python" "$here/cpython_cases.py" compare "$records" "$mode" "${modules[@]}" || status=1
done
[ $status = 0 ]
