# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2054,SC1083,SC2093
#
# vm.sh - virtual machines as guests; to be sourced by bash
#
# Each guest is a QEMU of its own with one network card on a bridge in a network namespace of this
# shell, and, where it is given a region, an ivshmem device. Debian's cloud kernel runs in it, with the
# initramfs that build.sh makes; residency-agent runs in it as its systemd unit says. Commands go to a
# guest by a virtio-serial port, so that they neither need its network nor are seen there. Hardware
# virtualisation is used where a guest really starts with it, else QEMU's own translation.
#
#   guest   A           B           C           D           (addresses; MAC and uuid likewise)
#   IPv4    10.78.0.1   10.78.0.2   10.78.0.3   10.78.0.4
#   IPv6    fd78::1     fd78::2     fd78::3     fd78::4
#
# In:   T_BUILD  folder of the build (default: build), with vm/ made by build.sh
# Out:  T_DIR    temporary folder on tmpfs, gone at the end: NAME.console, NAME.qemu, ...
#       T_JOB    number of the job started last by vm_spawn
#       T_ACCEL  kvm or tcg
#
# vm_begin PROGRAM...          network, temporary folder, and traps that remove all at the end of the
#                              shell, on ^C and on TERM; ends with 77 where something is missing
# vm_start NAME [KEY=VALUE...] start a guest; not waited for. region=FILE (below T_DIR; made if it is
#                              not there): the device; cpus=N; size=BYTES of the region (64M);
#                              incoming=URI: wait for a migration; as=NAME: this guest's name, address
#                              and uuid, for the second QEMU of a migration
# vm_ready NAME...             until they serve commands and their agents answer
# vm_run NAME CMD...           CMD in that guest: its output, its exit status
# vm_preload NAME CMD...       the same with libcoloc.so; exported variables COLOC_... count
# vm_spawn NAME CMD...         in the background as job T_JOB
# vm_spawn_preload NAME CMD...
# vm_running NAME JOB          true while it runs
# vm_output NAME JOB           what it has printed until now
# vm_wait NAME JOB [SECONDS]   until it has ended (20): its output, its exit status
# vm_signal NAME JOB SIG       a signal to it
# vm_wait_port NAME PORT [S]   until something listens there
# vm_qmp NAME COMMAND [ARGS]   a command of QEMU's machine protocol, ARGS as JSON; prints what it
#                              returns
# vm_event NAME EVENT [S]      until QEMU has told it (10), beginning behind the last one waited for
# vm_apart NAME...             a processor of the host for each of these guests, before other work; 1 if
#                              there are too few
# vm_unplug NAME               take the device out of a running guest, until QEMU says that it is gone
# vm_plug NAME REGION          put one into it, with that file's memory
# vm_migrate NAME TO           live migration of a guest that has no device to a QEMU named TO, which
#                              is then the guest's name here; NAME is gone
# vm_kill NAME                 SIGKILL to QEMU
# vm_stop NAME                 end QEMU in an orderly way; it must have been well until then
# vm_stat NAME KEY             a number of "colocctl stats"
# vm_await SECONDS CMD...      until CMD succeeds; 1 if it does not in time
# fail TEXT                    end with 1; shows what the guests' consoles and agents have to say

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
T_BUILD=$(realpath "${T_BUILD:-build}")
T_NS=coloc-vm-$$
T_DIR=
T_JOB=
T_ACCEL=
declare -A vm_pid vm_to vm_from vm_qmp_to vm_qmp_from vm_seen
vm_id=

vm_slot=8            # of the device, the same whenever it is there
vm_boot_seconds=60   # under emulation, on a host that has other work
vm_answer_seconds=60 # longest command that is waited for in one piece

# What a guest has to say when something went wrong; in a subshell, for it may not answer.
vm_show()
{
	vm_answer_seconds=5
	echo "-- guest $1, agent"
	vm_run "$1" tail -n 20 /run/agent.log
	vm_run "$1" colocctl stats --json
	# shellcheck disable=SC2016 # for the guest's shell
	vm_run "$1" sh -c 'for job in /run/jobs/*.sh; do
		[ ! -s "${job%.sh}" ] || { sed "s/^exec /-- job: /" "$job"; tail -n 8 "${job%.sh}"; }
	done'
}

# Also out of a substitution: the shell ends, and all is shown.
fail()
{
	local name
	exec >&2
	echo "FAILED: $*"
	[ -z "${vm_failing:-}" ] || exit 1
	vm_failing=1
	for name in "${!vm_pid[@]}"; do
		echo "-- guest $name, console"
		tail -n 25 "$T_DIR/$name.console"
		[ ! -s "$T_DIR/$name.qemu" ] || sed 's/^/qemu: /' "$T_DIR/$name.qemu"
		! vm_serves "$name" || (vm_show "$name")
	done
	[ $BASHPID = $$ ] || kill -USR1 $$
	exit 1
}

# ---- begin and end --------------------------------------------------------------------------------

vm_begin()
{
	local program
	[ "$(id -u)" = 0 ] || vm_skip 'needs root'
	for program in qemu-system-x86_64 setpriv taskset jq "$@"; do
		command -v "$program" >/dev/null || vm_skip "$program is not installed"
	done
	ip netns add "$T_NS" 2>/dev/null || vm_skip 'no network namespaces here'
	trap vm_on_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 1' USR1
	ip -n "$T_NS" link add bridge type bridge || vm_skip 'no bridges here'
	ip -n "$T_NS" link set bridge up
	ip -n "$T_NS" tuntap add dev try mode tap || vm_skip 'no tap devices here'
	T_DIR=$(mktemp -d -p /dev/shm coloc-vm.XXXXXX) || exit 1
	[ -s "$T_BUILD/vm/initramfs" ] || fail "$T_BUILD/vm: tests/vm/build.sh has not made it"
	vm_choose_accel
	# An emulated guest's TCP is so slow that who waits for an answer must wait longer than usual.
	[ "$T_ACCEL" = kvm ] || export COLOC_WAIT_SPIN_US=2000
}

vm_skip()
{
	echo "$*"
	exit 77
}

# The status that the shell ends with must survive the cleaning up.
vm_on_exit()
{
	local status=$? name
	trap '' INT TERM
	trap - EXIT
	for name in "${!vm_pid[@]}"; do
		kill -KILL "${vm_pid[$name]}" 2>/dev/null
		wait "${vm_pid[$name]}" 2>/dev/null
	done
	ip netns del "$T_NS"
	[ -z "$T_DIR" ] || rm -rf "$T_DIR"
	exit "$status"
}

vm_await()
{
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# /dev/kvm may be there and still not run this kernel.
vm_starts_with_kvm()
{
	timeout 10 qemu-system-x86_64 -machine pc,accel=kvm -cpu host -m 512 \
		-kernel "$T_BUILD/vm/vmlinuz" -initrd "$T_BUILD/vm/initramfs" -append coloc.probe \
		-nodefaults -display none -no-reboot
}

vm_choose_accel()
{
	T_ACCEL=tcg
	if (vm_starts_with_kvm) >"$T_DIR/kvm" 2>&1; then
		T_ACCEL=kvm
	fi
}

vm_stat()
{
	vm_run "$1" colocctl stats --json | jq ".$2"
}

# ---- a guest --------------------------------------------------------------------------------------

vm_start()
{
	local name=$1 as=$1 region='' size=64M cpus=1 incoming='' option n pipe args
	shift
	for option; do
		local "${option%%=*}=${option#*=}"
	done
	n=$(($(printf '%d' "'$as") - 64))

	for pipe in run qmp; do
		rm -f "$T_DIR/$name.$pipe.in" "$T_DIR/$name.$pipe.out"
		mkfifo "$T_DIR/$name.$pipe.in" "$T_DIR/$name.$pipe.out"
	done
	# Both ways, so that opening waits for nobody.
	exec {vm_to[$name]}<>"$T_DIR/$name.run.in" {vm_from[$name]}<>"$T_DIR/$name.run.out"
	exec {vm_qmp_to[$name]}<>"$T_DIR/$name.qmp.in" {vm_qmp_from[$name]}<>"$T_DIR/$name.qmp.out"
	: >"$T_DIR/$name.events"
	vm_seen[$name]=0
	ip -n "$T_NS" link show "tap$name" >/dev/null 2>&1 ||
		ip -n "$T_NS" tuntap add dev "tap$name" mode tap
	ip -n "$T_NS" link set "tap$name" master bridge up

	args=(-name "$name" -uuid "c0c0c0c0-0000-4000-8000-00000000000$n" -m 512 -nodefaults
		-display none -no-reboot -kernel "$T_BUILD/vm/vmlinuz" -initrd "$T_BUILD/vm/initramfs"
		-append "console=ttyS0 quiet panic=-1 tsc=reliable cryptomgr.notests coloc.name=$as
			coloc.addr=10.78.0.$n/24 coloc.addr6=fd78::$n/64"
		-serial "file:$T_DIR/$name.console"
		-device virtio-serial-pci -chardev "pipe,id=run,path=$T_DIR/$name.run"
		-device virtserialport,chardev=run,name=coloc.run
		-chardev "pipe,id=qmp,path=$T_DIR/$name.qmp" -mon chardev=qmp,mode=control
		-netdev "tap,id=net,ifname=tap$name,script=no,downscript=no"
		-device "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:78:00:0$n")
	# With room for a second processor: QEMU translates the guest's atomic instructions as atomic
	# ones only if there may be one. In the region they must be, for there are other guests.
	if [ "$T_ACCEL" = tcg ]; then
		args+=(-machine pc -accel 'tcg,thread=multi' -cpu max -smp "$cpus,maxcpus=$((cpus + 1))")
	else
		args+=(-machine pc,accel=kvm -cpu host -smp "$cpus")
	fi
	[ -z "$region" ] || args+=(-object "$(vm_memory "$region" "$size")"
		-device "ivshmem-plain,id=shm,memdev=region,addr=$vm_slot")
	[ -z "$incoming" ] || args+=(-incoming "$incoming")
	# It ends with this shell, however that ends. A session of its own is for vm_apart.
	setsid setpriv --pdeathsig KILL ip netns exec "$T_NS" qemu-system-x86_64 "${args[@]}" \
		>"$T_DIR/$name.qemu" 2>&1 </dev/null &
	vm_pid[$name]=$!
	vm_qmp "$name" qmp_capabilities >/dev/null
}

vm_memory()
{
	echo "memory-backend-file,id=region,share=on,mem-path=$T_DIR/$1,size=$2"
}

# QEMU 7.2 does not survive it if memory of a device that is gone is given to another one: it goes, too.
vm_unplug()
{
	vm_qmp "$1" device_del '{"id": "shm"}' >/dev/null
	vm_event "$1" DEVICE_DELETED
	vm_qmp "$1" object-del '{"id": "region"}' >/dev/null
}

vm_plug()
{
	vm_qmp "$1" object-add "{\"qom-type\": \"memory-backend-file\", \"id\": \"region\",
		\"share\": true, \"mem-path\": \"$T_DIR/$2\",
		\"size\": $(stat -c %s "$T_DIR/$2")}" >/dev/null
	vm_qmp "$1" device_add "{\"driver\": \"ivshmem-plain\", \"id\": \"shm\",
		\"memdev\": \"region\", \"addr\": \"$vm_slot\"}" >/dev/null
}

vm_migrated()
{
	local state
	state=$(vm_qmp "$1" query-migrate | jq -r .status)
	[ "$state" != failed ] || fail "guest $1 is not migrated: $(vm_qmp "$1" query-migrate)"
	[ "$state" = completed ]
}

vm_migrate()
{
	vm_start "$2" as="$1" incoming="unix:$T_DIR/$2.migrate"
	vm_qmp "$1" migrate-set-parameters '{"max-bandwidth": 10000000000}' >/dev/null
	vm_qmp "$1" migrate "{\"uri\": \"unix:$T_DIR/$2.migrate\"}" >/dev/null
	vm_await 60 vm_migrated "$1" || fail "guest $1: migration: $(vm_qmp "$1" query-migrate)"
	vm_event "$2" RESUME
	vm_stop "$1"
	: >"$T_DIR/$2.ready"
}

vm_serves()
{
	[ -e "$T_DIR/$1.ready" ]
}

vm_ready()
{
	local name
	for name; do
		vm_read "$name" "${vm_from[$name]}" "$vm_boot_seconds"
		[ "$REPLY" = 'ready 0' ] || fail "guest $name says '$REPLY'"
		: >"$T_DIR/$name.ready"
		vm_run "$name" colocctl --wait 20 status >/dev/null || fail "guest $name: no agent"
	done
}

# The host's processors that we may use, one a line.
vm_processors()
{
	taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | while IFS=- read -r first last; do
		seq "$first" "${last:-$first}"
	done
}

# Only the guests' own processors: QEMU's other threads go where there is room. All of them go before
# other work of the host, for a guest that has to wait while the other spins is slow by any path; where
# the kernel shares out processors by session (autogroup), niceness is the session's.
vm_apart()
{
	local processors name thread
	mapfile -t processors < <(vm_processors)
	[ ${#processors[@]} -ge $# ] || return 1
	for name; do
		for thread in $(vm_qmp "$name" query-cpus-fast | jq '.[]."thread-id"'); do
			taskset -cp "${processors[0]}" "$thread" >/dev/null || fail "guest $name: taskset"
		done
		for thread in "/proc/${vm_pid[$name]}/task"/*; do
			renice -n -15 -p "${thread##*/}" >/dev/null
		done
		[ ! -e "/proc/${vm_pid[$name]}/autogroup" ] || echo -15 >"/proc/${vm_pid[$name]}/autogroup"
		processors=("${processors[@]:1}")
	done
}

vm_reap()
{
	local status
	wait "${vm_pid[$1]}"
	status=$?
	unset "vm_pid[$1]"
	rm -f "$T_DIR/$1.ready"
	return $status
}

vm_kill()
{
	kill -KILL "${vm_pid[$1]}"
	vm_reap "$1" 2>/dev/null
	return 0
}

vm_stop()
{
	vm_qmp "$1" quit >/dev/null
	vm_reap "$1" || fail "QEMU of guest $1 ended with $?: $(cat "$T_DIR/$1.qemu")"
}

# ---- lines from QEMU ------------------------------------------------------------------------------

# REPLY is the next line from descriptor $2 of guest $1, within $3 seconds.
vm_read()
{
	local end=$((SECONDS + $3 + 1)) line=''
	until read -r -t 1 -u "$2"; do
		line=$line$REPLY
		[ $SECONDS -lt $end ] || fail "guest $1 is silent for $3 s"
		kill -0 "${vm_pid[$1]}" 2>/dev/null || fail "QEMU of guest $1 has ended"
	done
	REPLY=$line$REPLY
}

# A number that no other request has, nor one of a subshell.
vm_unique()
{
	vm_id=${EPOCHREALTIME/[^0-9]/}
}

vm_qmp()
{
	local name=$1 id
	vm_unique
	id=$vm_id
	printf '{"execute": "%s", "arguments": %s, "id": %s}\n' "$2" "${3:-{\}}" "$id" \
		>&"${vm_qmp_to[$name]}"
	while :; do
		vm_read "$name" "${vm_qmp_from[$name]}" 10
		case $REPLY in
		*"\"id\": $id"*) break ;;
		*'"event": '*) echo "$REPLY" >>"$T_DIR/$name.events" ;;
		esac
	done
	case $REPLY in
	*'"error": '*) fail "guest $name: $2: $REPLY" ;;
	esac
	jq -c .return <<<"$REPLY"
}

vm_event()
{
	local name=$1 seen=${vm_seen[$1]:-0} line
	while :; do
		while read -r line; do
			seen=$((seen + 1))
			[[ $line != *"\"event\": \"$2\""* ]] || break 2
		done < <(tail -n +$((seen + 1)) "$T_DIR/$name.events")
		vm_read "$name" "${vm_qmp_from[$name]}" "${3:-10}"
		echo "$REPLY" >>"$T_DIR/$name.events"
	done
	vm_seen[$name]=$seen
}

# ---- commands -------------------------------------------------------------------------------------

# One command line for a shell that means these very words.
vm_quote()
{
	local word
	for word; do
		printf "'%s' " "${word//\'/\'\\\'\'}"
	done
}

# vm_ask NAME run|spawn SECONDS COMMAND_LINE
vm_ask()
{
	local name=$1 id status
	vm_unique
	id=$vm_id
	printf '%s %s %s\n' "$id" "$2" "$(base64 -w 0 <<<"$4")" >&"${vm_to[$name]}"
	# An answer to somebody who waits no longer has another number.
	until vm_read "$name" "${vm_from[$name]}" "$3" && [[ $REPLY == "$id "* ]]; do :; done
	status=${REPLY#* }
	vm_read "$name" "${vm_from[$name]}" 10
	base64 -d <<<"$REPLY"
	vm_read "$name" "${vm_from[$name]}" 10
	base64 -d <<<"$REPLY" >&2
	return "$status"
}

vm_run()
{
	local name=$1
	shift
	vm_ask "$name" run "$vm_answer_seconds" "exec $(vm_quote "$@")"
}

vm_preload()
{
	local name=$1
	shift
	# shellcheck disable=SC2046 # words
	vm_run "$name" env $(env | grep ^COLOC_) LD_PRELOAD=libcoloc.so "$@"
}

vm_spawn()
{
	local name=$1
	shift
	vm_ask "$name" spawn "$vm_answer_seconds" "exec $(vm_quote "$@")"
	T_JOB=$vm_id
}

vm_spawn_preload()
{
	local name=$1
	shift
	# shellcheck disable=SC2046 # words
	vm_spawn "$name" env $(env | grep ^COLOC_) LD_PRELOAD=libcoloc.so "$@"
}

vm_running()
{
	! vm_run "$1" test -e "/run/jobs/$2.status"
}

vm_output()
{
	vm_run "$1" cat "/run/jobs/$2"
}

vm_wait()
{
	# shellcheck disable=SC2016 # for the guest's shell
	vm_ask "$1" run $((${3:-20} + 30)) "
		end=\$((\$(date +%s) + ${3:-20} + 1))
		until [ -e /run/jobs/$2.status ]; do
			[ \$(date +%s) -lt \$end ] || { echo 'still running after ${3:-20} s'; exit 124; }
			sleep 0.1
		done
		cat /run/jobs/$2
		exit \$(cat /run/jobs/$2.status)"
}

vm_signal()
{
	# shellcheck disable=SC2016 # for the guest's shell
	vm_run "$1" sh -c 'kill -s "$2" "$(cat "/run/jobs/$1.pid")"' sh "$2" "$3"
}

vm_wait_port()
{
	# shellcheck disable=SC2016 # for the guest's shell
	vm_run "$1" sh -c 'end=$(($(date +%s) + $2 + 1))
		until [ -n "$(ss -Htln "sport = :$1")" ]; do
			[ "$(date +%s)" -lt "$end" ] || exit 1
			sleep 0.05
		done' sh "$2" "${3:-10}"
}
