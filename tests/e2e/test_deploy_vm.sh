#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test_deploy_vm.sh - docs/deploy-vm.md tells the truth: its commands run, in its order, on a host whose paths lie in
# a temporary folder; QEMU takes the options and the machine protocol's commands, and refuses to migrate;
# libvirt's schema takes the XML; the table of streams is what agents say. No machine boots here: tests/vm
# does that.
# shellcheck disable=SC1091,SC2015,SC2034
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/docs.sh
e2e_need jq python3 qemu-system-x86_64 xmllint
doc=docs/deploy-vm.md
options=config/examples/qemu-ivshmem.sh
xml=config/examples/libvirt-ivshmem.xml
policy=auto

# As a machine's: a drain lets the region go.
T_REGION_CONF='removable = yes'
t_guests_up || fail 'no guests'
T_REGION_CONF=
count=0
host=$T_DIR/host
mkdir "$host" "$host/hugepages"

# ---- QEMU -----------------------------------------------------------------------------------------

# qemu OPTIONS...: a machine that does not run, with a monitor; qemu_ask FILE: the commands in it, the answers
qemu()
{
	qemu-system-x86_64 -S -display none -nodefaults -no-user-config -qmp \
		"unix:$T_DIR/qmp,server=on,wait=off" "$@" >"$T_DIR/qemu.log" 2>&1 &
	qemu_pid=$!
	e2e_await 20 test -S "$T_DIR/qmp" || fail "QEMU: $(cat "$T_DIR/qemu.log")"
	echo '{"execute": "query-status"}' >"$T_DIR/ask"
	qemu_ask "$T_DIR/ask" >/dev/null # answered when all is made
}

qemu_ask()
{
	timeout 20 python3 -c '
import json, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    lines = link.makefile("rw")
    lines.readline()
    for ask in ["{\"execute\": \"qmp_capabilities\"}"] + open(sys.argv[2]).read().splitlines():
        lines.write(ask + "\n")
        lines.flush()
        answer = {}
        while "return" not in answer and "error" not in answer:
            answer = json.loads(lines.readline())
        if "qmp_capabilities" not in ask:
            print(json.dumps(answer))
' "$T_DIR/qmp" "$1" || fail "QEMU: $(cat "$T_DIR/qemu.log")"
}

qemu_end()
{
	kill "$qemu_pid"
	wait "$qemu_pid"
	rm -f "$T_DIR/qmp"
}

# The options of a command line of the document, on this host's paths and without hardware virtualisation.
qemu_shown()
{
	local line
	line=$(sed "s|/dev/shm/|$host/|g; s|accel=kvm|accel=tcg|; s|-cpu host|-cpu max|; s|^qemu-system-x86_64||" <<<"$1")
	eval "set -- $line"
	qemu "$@"
}

look_at_machine() # COMMAND LINE OF THE DOCUMENT, DRIVER
{
	qemu_shown "$1"
	cat >"$T_DIR/ask" <<-'END'
		{"execute": "query-memdev"}
		{"execute": "qom-list", "arguments": {"path": "/machine/peripheral-anon"}}
		{"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}
		{"execute": "migrate", "arguments": {"uri": "exec:cat >/dev/null"}}
	END
	qemu_ask "$T_DIR/ask" >"$T_DIR/answers"
	jq -se --arg driver "$2" '(.[0].return | map(select(.id == "coloc" and .share and .size == 268435456)) | length == 1)
		and any(.[1].return[], .[2].return[]; .type == "child<\($driver)>")' "$T_DIR/answers" >/dev/null ||
		fail "$1: $(cat "$T_DIR/answers")"
	[ "$2" != ivshmem-plain ] ||
		jq -se '.[3].error.desc | test("peer mode")' "$T_DIR/answers" >/dev/null ||
		fail "it would migrate with the device: $(cat "$T_DIR/answers")"
	qemu_end
	[ "$(stat -c '%a %s' "$host/coloc-region")" = '600 268435456' ] || fail "$(ls -l "$host/coloc-region")"
}

# ---- libvirt --------------------------------------------------------------------------------------

schema=/usr/share/libvirt/schemas/domain.rng
[ -e "$schema" ] || {
	echo 'libvirt0, which has the schema, is not installed'
	exit 77
}

in_domain() # FILE with the device, FILE with what stands beside <devices>
{
	cat - "${2:-/dev/null}" <<-END >"$T_DIR/domain.xml"
		<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>guest1</name>
		<memory unit='GiB'>4</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
		<devices>$(cat "$1")</devices>
	END
	echo '</domain>' >>"$T_DIR/domain.xml"
	xmllint --noout --relaxng "$schema" "$T_DIR/domain.xml" 2>"$T_DIR/xml.log" || fail "$(cat "$T_DIR/xml.log")"
}

virsh()
{
	[ "$1" != -c ] || shift 2
	case $* in
	"attach-device guest1 $xml --config" | "attach-device guest1 $xml --live" | "detach-device guest1 $xml --live")
		in_domain "$xml"
		;;
	'migrate --live guest1 qemu+ssh://other/system') ;;
	*) fail "virsh $*" ;;
	esac
}

# ---- what is shown --------------------------------------------------------------------------------

installed()
{
	t_in A env PATH="$T_BUILD:$PATH" LD_LIBRARY_PATH="$T_BUILD" COLOC_AGENT="$T_DIR/A/agent.sock" "$@"
}

run_line()
{
	local line
	line=$(sed "s|/dev/shm/|$host/|; s|/dev/hugepages/|$host/hugepages/|; s|libvirt-qemu|nobody|; s|-g [a-z-]*|-g nogroup|" <<<"$1")
	case $1 in
	'install -m 600 -o libvirt-qemu -g libvirt-qemu /dev/null '* | 'fallocate -l 256M '*) eval "$line" || fail "$1" ;;
	'numactl --membind=0 fallocate '*) # where there is no choice of nodes there is no need of numactl
		eval "${line#numactl --membind=0 }" || fail "$1"
		;;
	'sysctl -w vm.nr_hugepages=128') # of this machine: only looked at
		[ -w /proc/sys/vm/nr_hugepages ] || fail "$1"
		;;
	'mount -t hugetlbfs '*) unshare -m sh -c "${1/\/dev\/hugepages/$host/hugepages}" || fail "$1" ;;
	'qemu-system-x86_64 '*virtio-pmem*) look_at_machine "$1" virtio-pmem-pci ;;
	'qemu-system-x86_64 '*) look_at_machine "$1" ivshmem-plain ;;
	'virsh '*) eval "$1" ;;
	'chcon -t svirt_image_t -l s0 /dev/shm/coloc-region') ;; # needs SELinux
	'ndctl create-namespace '*) ;;                             # needs such a device
	make | 'sudo make install') # test_install.sh runs it
		read -ra words <<<"${1#sudo }"
		make -n O="$T_BUILD" "${words[@]:1}" >/dev/null || fail "$1: no such target"
		;;
	'sudo systemctl '*) ;; # test_install.sh has systemd look at the unit
	'colocctl drain')
		installed colocctl drain >"$T_DIR/out" || fail "$1: $(cat "$T_DIR/out")"
		[ "$(t_ctl A --json status | jq -c '[.region.bytes, .draining.region_users]')" = '[0,0]' ] ||
			fail "drained, and the region is still in use: $(t_ctl A status)"
		# Without its memory it stays drained, and says why.
		mv "$T_DIR/region" "$T_DIR/region.away" && mkdir "$T_DIR/region"
		t_ctl A resume >"$T_DIR/out" 2>&1 && fail 'resumed without a region'
		grep -q 'still drained' "$T_DIR/out" || fail "$(cat "$T_DIR/out")"
		rmdir "$T_DIR/region" && mv "$T_DIR/region.away" "$T_DIR/region"
		;;
	'colocctl resume')
		installed colocctl resume >"$T_DIR/out" || fail "$1: $(cat "$T_DIR/out")"
		[ "$(t_ctl A --json status | jq '.region.bytes > 0 and (.guests | length) == 2')" = true ] ||
			fail "not attached again: $(t_ctl A status)"
		;;
	'colocctl '*)
		read -ra words <<<"$1"
		installed "${words[@]}" >"$T_DIR/out" || fail "$1: $(cat "$T_DIR/out")"
		;;
	*) fail "$doc shows a command that no test knows: $1" ;;
	esac
	echo "ok: $1"
	count=$((count + 1))
}

while read -r shown <&3; do
	run_line "$shown"
done 3< <(doc_lines sh "$doc")
[ "$count" -ge 20 ] || fail "only $count commands found"

# The other blocks: a configuration, XML, the machine protocol.
doc_lines ini "$doc" >"$T_DIR/host.conf"
"$T_BUILD/residency-agent" --check-config --config "$T_DIR/host.conf" && grep -q '^path = /dev/shm/coloc-region' \
	"$T_DIR/host.conf" || fail 'the configuration of the host'

doc_lines xml "$doc" >"$T_DIR/arguments.xml"
in_domain /dev/null "$T_DIR/arguments.xml"
xmllint --xpath '//@value' "$T_DIR/arguments.xml" | sed 's/.*="\(.*\)"/\1/' | xargs >"$T_DIR/arguments"
"$options" /dev/hugepages/coloc-region 256M | diff - "$T_DIR/arguments" ||
	fail "$options prints other options than the XML has"

# Unplugging is the guest's doing: here only the question is put, and plugging in done.
doc_lines json "$doc" | sed "s|/dev/shm/|$host/|" >"$T_DIR/protocol"
[ "$(jq -r .execute "$T_DIR/protocol" | xargs)" = 'device_del object-del object-add device_add' ] ||
	fail "$(cat "$T_DIR/protocol")"
read -ra words < <("$options" "$host/coloc-region" 256M)
qemu -machine q35,accel=tcg "${words[@]}"
sed -n 1p "$T_DIR/protocol" >"$T_DIR/del"
qemu_ask "$T_DIR/del" | jq -e .return >/dev/null || fail 'device_del'
qemu_end
qemu -machine q35,accel=tcg "${words[@]:2:2}" # the root port alone, as on the destination of a migration
sed -n '3,4p' "$T_DIR/protocol" >"$T_DIR/add"
qemu_ask "$T_DIR/add" >"$T_DIR/answers"
jq -se 'length == 2 and all(.return)' "$T_DIR/answers" >/dev/null || fail "$(cat "$T_DIR/answers")"
qemu_end

# ---- what the script refuses, and what QEMU does not ----------------------------------------------

truncate -s 16M "$host/small"
for bad in "$host/coloc-region 24M" "$host/coloc-region 2M" "$host/coloc-region 256" "region 256M" \
	"$host/small 256M" "$host/a,b 256M" "$host/a 256M more"; do
	# shellcheck disable=SC2086 # words
	! "$options" $bad >/dev/null 2>&1 || fail "$options $bad"
done
qemu -machine q35,accel=tcg -object "memory-backend-file,id=m,share=on,mem-path=$host/made,size=16M" \
	-device ivshmem-plain,memdev=m
qemu_end
[ "$(stat -c %a "$host/made")" = 644 ] || fail 'QEMU makes the file with another mode by now'

# ---- the text -------------------------------------------------------------------------------------

doc_names "$doc"

# chunks and pairs of rings of a fresh region, from an agent's status
capacity() # SIZE RING_BYTES...
{
	local size=$1
	shift
	mkdir "$T_DIR/try"
	truncate -s "$size" "$T_DIR/try/region"
	"$T_BUILD/residency-agent" --foreground --config /dev/null --socket "$T_DIR/try/agent.sock" \
		--region "$T_DIR/try/region" >"$T_DIR/try.log" 2>&1 &
	"$T_BUILD/colocctl" --socket "$T_DIR/try/agent.sock" --wait 10 --json status >"$T_DIR/try.json" ||
		fail "$(cat "$T_DIR/try.log")"
	kill $!
	wait $!
	rm -r "$T_DIR/try"
	# test_region_capacity.c proves that this many can be had. A ring is half a chunk at most.
	jq -r --arg size "$size" '.segments | [$size, .chunks, (.free_bytes as $free | ($free / .chunks) as $chunk |
		$ARGS.positional[] | tonumber | if . > $chunk / 2 then $chunk / 2 else . end | $free / (2 * .) | floor)] |
		"| " + (map(tostring) | join(" | ")) + " |"' --args "$@" <"$T_DIR/try.json"
}

sed -n '/^<!-- capacity -->$/,/^<!-- end of capacity -->$/p' "$doc" | grep '^| [0-9]' >"$T_DIR/table"
[ "$(wc -l <"$T_DIR/table")" -ge 5 ] || fail 'no table of streams'
while read -r _ size _; do
	capacity "$size" 65536 262144 524288 2097152
done <"$T_DIR/table" >"$T_DIR/capacity"
diff "$T_DIR/table" "$T_DIR/capacity" || fail "the table of streams: < it, > agents"
grep -q "^The defaults are 256M and 512K: $(awk '$2 == "256M" { print $10 }' "$T_DIR/table") streams" <(tr '\n' ' ' <"$doc" |
	sed 's/\. /.\n/g') || fail 'the defaults'
echo "$count commands and names"
t_agent_stop A
t_agent_stop B
