#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# deps.sh - install what Debian 12 must provide; only what is missing, and no service is started
#
#   scripts/deps.sh [build] [test] [demo]   install (default: all three)
#   scripts/deps.sh apps                    what the application matrix runs
#   scripts/deps.sh bench                   what the benchmarks run
#   scripts/deps.sh cpython                 CPython's own tests
#   scripts/deps.sh --list                  print the list
#   scripts/deps.sh --missing [GROUP...]    print what is not installed
set -eu

# One list: package, who needs it, why.
packages()
{
	cat <<-'END'
		build-essential   build                 C compiler, make, libc headers
		pkg-config        build                 finds the libraries below
		libev-dev         build                 event loop of the agent
		libinih-dev       build                 parser of coloc.conf
		libjansson-dev    build                 JSON: agent's answers, colocctl
		libsystemd-dev    build                 readiness and watchdog of the service
		libmnl-dev        build                 rtnetlink and sock_diag
		iproute2          demo,test,apps,bench  network namespaces as guests
		iperf3            demo,test,apps,bench  the program that is shown
		jq                demo,test,apps,cpython reads iperf3's and colocctl's JSON
		util-linux        demo,test,apps,bench  taskset: both runs on the same processors
		procps            demo,test,apps        ps
		libcmocka-dev     test                  unit tests
		spin              test                  checks the model of the switch
		redis-server      test,apps,bench       end-to-end: a server that polls
		redis-tools       test,apps,bench       redis-benchmark, redis-cli
		nginx-light       test,apps,bench       end-to-end: sendfile, several workers
		curl              test,apps             downloads from it
		socat             test,apps             two-way copies
		sockperf          test,apps,bench       latency
		qemu-system-x86   test                  virtual machines
		busybox-static    test                  their small programs
		cpio              test                  their initramfs
		kmod              test                  their kernel modules
		systemd           test                  systemd-analyze verify
		python3-minimal   test                  end-to-end: an ordinary program
		strace            test                  counts system calls
		python3-yaml      test                  checks the manifest for Kubernetes
		libvirt0          test                  schema of libvirt's domains
		libxml2-utils     test                  checks the fragment for libvirt
		nftables          test                  a translated address between guests
		mandoc            test                  checks the manual pages
		clang-format      test                  lint
		clang-tidy        test                  lint
		cppcheck          test                  lint
		git               test,apps             lint: which files are ours; git-daemon
		memcached         apps                  the application matrix: a server each, and what uses it
		libmemcached-tools apps                  memcslap, memccapable
		haproxy           apps                  reload
		postgresql        apps,bench            COPY; pgbench
		openssh-server    apps
		openssh-client    apps
		rsync             apps                  over ssh
		wrk               apps,bench            many requests to nginx
		netcat-openbsd    apps
		nodejs            apps
		perl              apps
		openssl           apps                  s_server and s_client
		python3           test,apps,bench       asyncio; clients of the matrix's own
		sudo              apps                  harmless
		libasan8          apps                  harmless
		bsdutils          apps                  script
		clang             bench                 compiles for eBPF
		libbpf-dev        bench                 its headers
		bpftool           bench                 loads it
		ucx-utils         bench                 another transport over shared memory
		gnuplot-nox       bench                 the plots
		libpython3.11-testsuite cpython         test.support and the modules
	END
}

# Names of the packages of the groups in $@.
names()
{
	packages | awk -v groups="$*" '
		BEGIN { n = split(groups, want, " ") }
		{
			m = split($2, has, ",")
			for (i = 1; i <= n; i++)
				for (j = 1; j <= m; j++)
					if (want[i] == has[j]) { print $1; next }
		}'
}

missing()
{
	for name in $(names "$@"); do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || state=
		[ "$state" = installed ] || echo "$name"
	done
}

# What a package starts on installation would stay behind: forbid it for as long as we install,
# unless somebody has a rule of their own.
policy=/usr/sbin/policy-rc.d

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

install_packages()
{
	if ! [ -e "$policy" ]; then
		trap 'as_root rm -f "$policy"' EXIT
		trap 'exit 130' INT
		trap 'exit 143' TERM
		printf '#!/bin/sh\nexit 101\n' | as_root sh -c "cat >$policy && chmod 755 $policy"
	fi
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

case ${1:-} in
--list)
	packages
	exit
	;;
--missing)
	shift
	missing "${@:-build test demo}"
	exit
	;;
-*)
	sed -n '/^#   scripts/s/^# *//p' "$0" >&2
	exit 2
	;;
esac

for group in "$@"; do
	case $group in
	build | test | demo | apps | bench | cpython) ;;
	*)
		echo "deps.sh: $group: not build, test, demo, apps, bench or cpython" >&2
		exit 2
		;;
	esac
done

# shellcheck disable=SC2046,SC2048,SC2086 # lists
set -- $(missing ${*:-build test demo})
[ $# = 0 ] || install_packages "$@"
