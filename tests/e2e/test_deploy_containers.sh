#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test_deploy_containers.sh - docs/deploy-containers.md tells the truth: its commands run, in its order, podman and
# kubectl being played by tests/lib/container.sh; the Kubernetes manifest is whole, and its containers do what
# they are for, with no more rights than it gives them; and what the text says of namespaces, NAT and full
# file systems is so
# shellcheck disable=SC1091,SC2015,SC2034
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/docs.sh
e2e_need iperf3 jq make nsenter pgrep python3 redis-server redis-benchmark setpriv unshare
python3 -c 'import yaml' 2>/dev/null || {
	echo 'python3-yaml is not installed'
	exit 77
}
. tests/lib/container.sh
doc=docs/deploy-containers.md
manifest=config/examples/kubernetes.yaml
policy=auto

# ---- an engine, as far as the document uses one ---------------------------------------------------

# Where the names of containers live.
net_of() # NETWORK NAME
{
	case $1/$2 in
	host/* | lan/web) echo A ;;
	lan/cache) echo B ;;
	*) return 1 ;;
	esac
}

podman_run()
{
	local network='' name='' volume
	local -a c_command=() c_env=() c_mounts=() c_tmpfs=()
	local c_background='' c_user=0 c_read_only=0 c_hosts="$T_ADDR_B cache"
	while :; do
		case $1 in
		-d) c_background=1 ;;
		--rm) ;;
		--name) name=$2 && shift ;;
		--network) network=$2 && shift ;;
		--tmpfs) c_tmpfs+=("$2") && shift ;;
		-e) c_env+=("$2") && shift ;;
		-v)
			volume=$2
			[ -e "$C_HOST${volume%%:*}" ] || fail "podman run: no $volume on the host"
			c_mounts+=("$volume") && shift
			;;
		-*) fail "podman run: no option $1 is known here" ;;
		*) break ;;
		esac
		shift
	done
	[ "$1" = coloc:0.1.0 ] || fail "podman run: the image $1"
	shift
	c_command=("$@")
	c_run "$name" "$(net_of "$network" "$name")" || fail "$name: $(cat "$T_DIR/containers/$name.out")"
	[ -z "$c_background" ] || t_wait_port "$(net_of "$network" "$name")" 6379 ||
		fail "$name does not listen: $(cat "$T_DIR/containers/$name.out")"
}

# The packages that the file installs are those whose libraries our programs are linked with.
podman_build()
{
	local file=$5 library
	[ "$*" = "build -t coloc:0.1.0 -f config/examples/Containerfile image" ] || fail "podman $*"
	grep -o 'lib[a-z0-9]*' "$file" | grep '[0-9]$' | sort -u >"$T_DIR/packages"
	for library in $(readelf -d "$T_BUILD/residency-agent" "$T_BUILD/colocctl" |
		sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort -u); do
		dpkg-query -S "*/$library"
	done | sed 's/:.*//' | grep -v '^libc6' | sort -u | diff - "$T_DIR/packages" ||
		fail "$file: the packages differ"
	c_image
}

podman()
{
	case $1 in
	network) [ "$*" = 'network create lan' ] || fail "podman $*" ;; # A and B are joined
	build) podman_build "$@" ;;
	run) podman_run "${@:2}" ;;
	exec) c_exec "${@:2}" ;;
	*) fail "podman $1" ;;
	esac
}

# kube POD CONTAINER A|B: run it as the manifest says; an emptyDir is a folder of the pod
kube()
{
	local spec mount source
	local -a c_command c_env c_mounts=() c_tmpfs=(/tmp)
	local c_user c_read_only c_hosts=''
	spec=$(python3 tests/lib/manifest.py container "$manifest" "${1%/*}" "${1#*/}" "$2") || fail "no $1 $2"
	readarray -td '' c_command < <(jq -j '.command[] + "\u0000"' <<<"$spec")
	readarray -td '' c_env < <(jq -j '.env[] + "\u0000"' <<<"$spec")
	for mount in $(jq -r '.mounts[]' <<<"$spec"); do
		source=${mount%%:*}
		if [ "$source" = empty ]; then
			mount=/pods/${1#*/}/${mount#empty:}
			source=${mount%%:*}
		fi
		# DirectoryOrCreate, or a fresh emptyDir.
		mkdir -p "$C_HOST$source"
		c_mounts+=("$mount")
	done
	c_user=$(jq .user <<<"$spec")
	c_read_only=$(jq 'if .read_only then 1 else 0 end' <<<"$spec")
	c_run "${1#*/}-$2" "$3"
}

# Until the startup probe succeeds, as the kubelet does it.
kube_probe() # POD CONTAINER
{
	local -a probe
	readarray -t probe < <(python3 tests/lib/manifest.py container "$manifest" "${1%/*}" "${1#*/}" "$2" |
		jq -r '.probe[]')
	[ ${#probe[@]} -gt 0 ] || fail "$1 $2 has no probe"
	e2e_await 10 c_exec "${1#*/}-$2" "${probe[@]}" >/dev/null 2>&1 ||
		fail "$1 $2: $(cat "$T_DIR/containers/${1#*/}-$2.out")"
}

kubectl()
{
	local c_background=''
	case $* in
	"apply -f $manifest")
		rm -rf "$C_HOST/dev/shm/coloc" # a fresh node
		python3 tests/lib/manifest.py check "$manifest" || fail "$manifest"
		kube DaemonSet/coloc-agent prepare A ||
			fail "prepare: $(cat "$T_DIR/containers/coloc-agent-prepare.out")"
		c_background=1
		kube DaemonSet/coloc-agent agent A
		kube_probe DaemonSet/coloc-agent agent
		kube Deployment/cache coloc-agent B
		kube_probe Deployment/cache coloc-agent
		kube Deployment/cache redis B
		t_wait_port B 6379 || fail "redis: $(cat "$T_DIR/containers/cache-redis.out")"
		;;
	'-n coloc rollout status daemonset/coloc-agent') kube_probe DaemonSet/coloc-agent agent ;;
	'-n coloc exec deploy/cache -c coloc-agent -- '*) c_exec cache-coloc-agent "${@:8}" ;;
	*) fail "kubectl $*" ;;
	esac
}

# ---- what is shown ------------------------------------------------------------------------------

moved() # NAME, a container with an agent: bytes that went by ring there
{
	c_exec "$1" colocctl --json stats | jq .bytes_ring
}

run_line()
{
	local line=${1//\/dev\/shm\//$C_HOST/dev/shm/}
	case $1 in
	'make install DESTDIR=image') make -n O="$T_BUILD" install DESTDIR=image >/dev/null || fail "$1" ;;
	'podman build '* | 'podman run '* | 'podman network '* | 'kubectl '*) eval "$1" ;;
	'mkdir -m 700 /dev/shm/coloc') eval "$line" || fail "$1" ;;
	'install -m 600 /dev/null /dev/shm/coloc/region')
		host_agent_stop # beforehand, is said there
		mkdir -m 700 "$C_HOST/dev/shm/coloc"
		eval "$line" || fail "$1"
		;;
	'fallocate -l 256M /dev/shm/coloc/region') eval "$line" || fail "$1" ;;
	'podman exec cache colocctl streams')
		[ "$(moved cache)" -gt 100000000 ] || fail "cache and web: $(podman exec cache colocctl --json stats)"
		eval "$1" >"$T_DIR/out" || fail "$1: $(cat "$T_DIR/out")"
		c_kill cache
		;;
	'colocctl streams') # of the host's agent, behind the programs with the host's network
		[ "$(e2e_stat A bytes_ring)" -gt 100000000 ] || fail "db and load: $(t_ctl A stats --json)"
		t_ctl A streams >"$T_DIR/out" || fail "$1: $(cat "$T_DIR/out")"
		c_kill db
		;;
	*) fail "$doc shows a command that no test knows: $1" ;;
	esac
	echo "ok: $1"
	count=$((count + 1))
}

# The service of the host, in guest A's network.
host_agent_start()
{
	rm -rf "$T_DIR/A" && ln -s "$C_HOST/run/coloc" "$T_DIR/A"
	t_agent_start A
	t_wait_agent A || fail 'no agent on the host'
}

host_agent_stop()
{
	t_agent_stop A
	rm -rf "$C_HOST/dev/shm/coloc"
}

t_net_up || fail 'no network namespaces'
count=0
while read -r shown <&3; do
	run_line "$shown"
	[[ $shown != 'podman exec '* ]] || {
		mkdir -p "$C_HOST/usr/local/lib"
		cp "$T_BUILD/libcoloc.so" "$C_HOST/usr/local/lib/"
		host_agent_start
	}
done 3< <(doc_lines sh "$doc")
[ "$count" -ge 14 ] || fail "only $count commands found"

# ---- the manifest's pods ------------------------------------------------------------------------

# A program with the node's network, served by the node's agent, to the pod with its sidecar.
c_command=(redis-benchmark -h "$T_ADDR_B" -t 'set,get' -n 5000 -d 65536)
c_env=(LD_PRELOAD=/opt/coloc/libcoloc.so)
c_mounts=(/run/coloc:/run/coloc:ro /opt/coloc:/opt/coloc:ro)
c_tmpfs=()
c_user=1000 c_read_only=1 c_background=
c_run bench A || fail "bench: $(cat "$T_DIR/containers/bench.out")"
[ "$(moved coloc-agent-agent)" -gt 100000000 ] && [ "$(moved cache-coloc-agent)" -gt 100000000 ] ||
	fail "node and pod: $(c_exec cache-coloc-agent colocctl --json stats)"

# Pods without a sidecar: the node's agent serves what stays inside one network, and nothing else. Two
# containers, so that neither sees the other's processes, nor the agent theirs.
c_env+=(COLOC_LOG=2)
c_command=(iperf3 -s)
c_user=0 c_background=1
c_run server B
t_wait_port B 5201 || fail "$(cat "$T_DIR/containers/server.out")"
c_background=''
before=$(moved coloc-agent-agent)
c_command=(iperf3 -c "$T_ADDR_B" -n 200M -l 128K)
c_run inside B || fail "inside: $(cat "$T_DIR/containers/inside.out")"
after=$(moved coloc-agent-agent)
[ $((after - before)) -gt 100000000 ] || fail 'one agent for all: nothing moved'
c_run across A || fail "across: $(cat "$T_DIR/containers/across.out")"
[ "$(moved coloc-agent-agent)" = "$after" ] || fail 'one agent for two namespaces moved a stream'
given_back() { [ "$(c_exec coloc-agent-agent colocctl --json status | jq .segments.used)" = 0 ]; }
e2e_await 10 given_back || fail "rings of streams that ended: $(c_exec coloc-agent-agent colocctl status)"
c_kill server

# A second agent in the same folder, and a pod that is killed.
c_exec coloc-agent-agent residency-agent --foreground
[ $? = 4 ] || fail 'a second agent does not end with status 4'
[ "$(c_exec coloc-agent-agent colocctl --json status | jq '.guests | length')" = 2 ] || fail 'not two guests'
c_kill cache-redis
c_kill cache-coloc-agent
alone() { [ "$(c_exec coloc-agent-agent colocctl --json status | jq '.guests | length')" = 1 ]; }
e2e_await 15 alone || fail 'a pod that was killed left its guest behind'
c_kill coloc-agent-agent

# ---- what the text says besides -----------------------------------------------------------------

doc_names "$doc"
version=$(grep -o 'glibc [0-9.]*[0-9]' "$doc" | sort -u)
needed=$(objdump -T "$T_BUILD/libcoloc.so" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
[ "$version" = "glibc ${needed#GLIBC_}" ] || fail "the library needs $needed"

# A region on the container's own /dev/shm, which is too small for all the rings that are asked for.
c_command=(sh -c 'residency-agent --region /dev/shm/region && exec env LD_PRELOAD=libcoloc.so iperf3 -s')
c_env=(COLOC_POLICY=always) c_mounts=() c_tmpfs=(/run/coloc) c_read_only=0 c_background=1
c_run small A
t_wait_port A 5201 || fail "small: $(cat "$T_DIR/containers/small.out")"
c_exec small env LD_PRELOAD=libcoloc.so COLOC_POLICY=always iperf3 -c 127.0.0.1 -P 80 -t 2 -l 16K \
	>"$T_DIR/out" || fail "small: $(cat "$T_DIR/out")"
c_exec small colocctl --json stats >"$T_DIR/out"
jq -e '.bytes_ring > 0 and .reasons["no-memory"] > 0' "$T_DIR/out" >/dev/null || fail "$(cat "$T_DIR/out")"
records=$(c_exec small stat -c %s /run/coloc/records.0 | awk '{ printf "%.1f", $1 / 1048576 }')
grep -q "up to $records MiB for each user" "$doc" || fail "records take up to $records MiB"
c_kill small

# agent_on COMMAND...: what the status of an agent in A says that COMMAND starts; then with_agent=(...) in A
agent_on()
{
	local pid
	ip netns exec "$T_NS-A" "$@" "$T_BUILD/residency-agent" --foreground --config /dev/null --socket "$T_DIR/try/agent.sock" \
		--region "$T_DIR/try/small/region" >"$T_DIR/try.log" 2>&1 &
	pid=$!
	"$T_BUILD/colocctl" --socket "$T_DIR/try/agent.sock" --wait 10 --json status >"$T_DIR/try.json" ||
		fail "$(cat "$T_DIR/try.log")"
	[ ${#with_agent[@]} = 0 ] || COLOC_AGENT=$T_DIR/try/agent.sock t_in A "${with_agent[@]}"
	kill "$pid" || fail "it ended: $(cat "$T_DIR/try.log")"
	wait "$pid"
}

# On a file system of 4 MiB the tables do not fit.
mkdir -p "$T_DIR/try/small"
with_agent=()
# shellcheck disable=SC2016 # for the shell that runs it
agent_on unshare -m sh -c 'mount -t tmpfs -o size=4M none "$0" && exec "$@"' "$T_DIR/try/small"
jq -e '.region.reason == "no-region"' "$T_DIR/try.json" >/dev/null || fail "$(cat "$T_DIR/try.json")"

# An agent to whose user namespace root is nobody.
chmod 755 "$T_DIR"
chown -R 1000 "$T_DIR/try"
# shellcheck disable=SC2016 # likewise
with_agent=(sh -c '"$0" check && ls "$1"' "$T_BUILD/colocctl" "$T_DIR/try/records.65534")
agent_on setpriv --reuid=1000 --regid=1000 --clear-groups unshare -U -r >"$T_DIR/check" 2>&1 ||
	fail "$(cat "$T_DIR/check")"
grep -q '^ok: the stream moved' "$T_DIR/check" && grep -q 'records.65534$' "$T_DIR/check" ||
	fail "root outside: $(cat "$T_DIR/check")"

rm -r "$T_DIR/try"
mkdir -p "$T_DIR/try/small"
with_agent=()
agent_on
tables=$(du -k "$T_DIR/try/small/region" | awk '{ printf "%.1f", $1 / 1024 }')
grep -q "which for 256M take $tables MiB" "$doc" || fail "the tables take $tables MiB"

# An address that is translated on the way, as a published port or a service is.
if ! command -v nft >/dev/null; then
	echo 'SKIP NAT: nft is not installed'
	exit 0
fi
rm -rf "$T_DIR"/{A,B,region} && mkdir "$T_DIR/A" "$T_DIR/B"
t_agent_start A
t_agent_start B
t_wait_agent A && t_wait_agent B || fail 'no agents'
t_in A nft -f - <<-END
	table ip nat {
		chain output {
			type nat hook output priority -100
			ip daddr 10.96.0.1 dnat to $T_ADDR_B
		}
	}
END
t_in A ip route add 10.96.0.1 via "$T_ADDR_B"
for to in 10.96.0.1 "$T_ADDR_B"; do
	t_spawn_preload B iperf3 -s -1
	t_wait_port B 5201 || fail 'no server'
	COLOC_LOG=2 t_preload A iperf3 -c "$to" -n 100M -l 128K >"$T_DIR/client" 2>&1 ||
		fail "$to: $(cat "$T_DIR/client")"
	wait "$T_PID"
	case $to in
	10.96.0.1)
		grep -q 'not-co-resident' "$T_DIR/client" && [ "$(e2e_stat A bytes_ring)" = 0 ] ||
			fail "translated: $(cat "$T_DIR/client")"
		;;
	*) [ "$(e2e_stat A bytes_ring)" -gt 10000000 ] || fail "not translated: $(cat "$T_DIR/client")" ;;
	esac
done
echo "$count commands and names"
