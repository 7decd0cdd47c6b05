#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test_readme.sh - what README.md shows in its sh blocks works as shown, in its order: run in a network
# namespace against the build, or, where it would change this machine, checked piece by piece. A
# line that this script does not know fails, and so does a link to nowhere.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need iperf3 jq
if [ -S /run/coloc/agent.sock ]; then
	echo "the system's agent runs: coloc-run would use it"
	exit 77
fi

policy=auto
t_guests_up || fail 'no guests'
# The private region's place goes by user alone: what was there before is somebody's.
private_region=/dev/shm/coloc-$(id -u)
# shellcheck disable=SC2016
[ -e "$private_region" ] || t_at_exit 'rm -rf "$private_region"'
mkdir -m 700 "$T_DIR/run"
cp config/coloc.conf "$T_DIR/coloc.conf"
unset COLOC_AGENT COLOC_POLICY LD_PRELOAD

# As a user would have it after make install, or beside a build folder.
private() { t_in A env XDG_RUNTIME_DIR="$T_DIR/run" "$@"; }
installed()
{
	t_in A env PATH="$T_BUILD:$PATH" LD_LIBRARY_PATH="$T_BUILD" \
		COLOC_AGENT="$T_DIR/A/agent.sock" "$@"
}

server() # private|installed COMMAND...
{
	"$@" >"$T_DIR/server" 2>&1 &
	server_pid=$!
	t_wait_port A 5201 || fail "no server: $(cat "$T_DIR/server")"
}

client() # private|installed COMMAND...
{
	"$@" >"$T_DIR/client" 2>&1 || fail "${*:2}: $(cat "$T_DIR/client")"
	wait "$server_pid" || fail "server: $(cat "$T_DIR/server")"
}

run_line()
{
	local -a words
	local before line
	read -ra words <<<"$1"
	case $1 in
	scripts/demo.sh | scripts/test.sh | tests/e2e/ratio_sockperf.sh)
		[ -x "$1" ] || fail "$1 is no program"
		bash -n "$1" || fail "$1 is no script"
		;;
	'scripts/deps.sh '*)
		"${words[0]}" --missing "${words[@]:1}" >/dev/null || fail "$1"
		;;
	make | 'sudo make '*) # test_install.sh runs it
		make -n O="$T_BUILD" "${words[@]:2}" >/dev/null || fail "$1: no such target"
		;;
	'sudo sed -i '*)
		line=${1#sudo }
		eval "${line//\/etc\/coloc/$T_DIR}" || fail "$1"
		;;
	'sudo systemctl daemon-reload') ;;
	'sudo systemctl '*) # no systemd here; test_install.sh has it look at the unit
		grep -q '^\[Install\]' "config/${1##* }.service" || fail "no unit for $1"
		;;
	'build/coloc-run iperf3 -s'*) server private "$T_BUILD/${words[0]#build/}" "${words[@]:1}" ;;
	'build/coloc-run --stats iperf3 -c'*)
		client private "$T_BUILD/${words[0]#build/}" "${words[@]:1}"
		grep -q '^bytes_ring  *[0-9.]* [MG]iB' "$T_DIR/client" ||
			fail "nothing moved: $(cat "$T_DIR/client")"
		;;
	'build/coloc-run build/'*)
		private "$T_BUILD/coloc-run" "$T_BUILD/${words[1]#build/}" "${words[@]:2}" >"$T_DIR/out" 2>&1 ||
			fail "$1: $(cat "$T_DIR/out")"
		;;
	'colocctl '*) installed "${words[@]}" >"$T_DIR/out" 2>&1 || fail "$1: $(cat "$T_DIR/out")" ;;
	'LD_PRELOAD=libcoloc.so iperf3 -s'*) server installed "${words[@]}" ;;
	'LD_PRELOAD=libcoloc.so iperf3 -c'*)
		before=$(e2e_stat A bytes_ring)
		client installed "${words[@]}"
		[ $(($(e2e_stat A bytes_ring) - before)) -gt 1000000 ] ||
			fail "$1: nothing moved: $(t_ctl A stats --json)"
		;;
	*) fail "README.md shows a command that no test knows: $1" ;;
	esac
	echo "ok: $1"
	count=$((count + 1))
}

count=0
while read -r shown <&3; do
	run_line "$shown"
done 3< <(awk '/^```/ { inside = $0 == "```sh"; next } inside && NF && !/^#/' README.md)
[ "$count" -gt 10 ] || fail "only $count commands found"

grep -q '^path = /dev/shm/coloc-region$' "$T_DIR/coloc.conf" || fail 'the sed line changed nothing'
"$T_BUILD/residency-agent" --check-config --config "$T_DIR/coloc.conf" || fail 'bad configuration'

for link in $(grep -oh '](\([^)#]*\))' README.md docs/*.md | sed 's/](//; s/)//'); do
	case $link in
	http*) ;;
	*) [ -e "$link" ] || [ -e "docs/$link" ] || fail "a link to $link, which is not there" ;;
	esac
done
echo "$count commands"
t_agent_stop A
t_agent_stop B
