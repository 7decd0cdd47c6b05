#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# test_install.sh - make install puts every file where it was told, the unit is one that systemd
# takes, and make uninstall leaves nothing but a configuration that somebody changed
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${T_BUILD:-build}
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
failed=0

pass() { echo "PASS $1"; }
fail()
{
	echo "FAIL $1: $2"
	failed=1
}
run_make()
{
	make --no-print-directory O="$build" LDCONFIG=true "$@" >"$temp/make.log" 2>&1
}
files() { (cd "$1" && find . ! -type d | sort); }

# A packager's way: a folder that stands for /.
root=$temp/root
mkdir "$root"
cat >"$temp/wanted" <<-END
	./etc/coloc/coloc.conf
	./usr/bin/coloc-run
	./usr/bin/colocctl
	./usr/lib/libcoloc.so
	./usr/lib/systemd/system/residency-agent.service
	./usr/lib/tmpfiles.d/coloc.conf
	./usr/lib/udev/rules.d/90-coloc.rules
	./usr/sbin/residency-agent
	./usr/share/man/man1/coloc-run.1
	./usr/share/man/man1/colocctl.1
	./usr/share/man/man5/coloc.conf.5
	./usr/share/man/man7/libcoloc.7
	./usr/share/man/man8/residency-agent.8
END
if ! run_make install DESTDIR="$root" PREFIX=/usr; then
	fail install "$(tail -n 3 "$temp/make.log")"
elif ! files "$root" | diff "$temp/wanted" - >"$temp/diff"; then
	fail install "$(cat "$temp/diff")"
elif grep -q "$root\|/usr/local" "$root/usr/lib/systemd/system/residency-agent.service" \
	"$root"/usr/share/man/man*/*; then
	fail install "a path of another prefix is left in the unit or a page"
elif ! "$root/usr/bin/colocctl" --version | grep -q '^colocctl [0-9]' ||
	! "$root/usr/bin/coloc-run" --version >/dev/null ||
	! "$root/usr/sbin/residency-agent" --version >/dev/null; then
	fail install "an installed program does not run"
else
	pass install
fi

echo '[wait]' >>"$root/etc/coloc/coloc.conf"
if ! run_make install DESTDIR="$root" PREFIX=/usr; then
	fail again "$(tail -n 3 "$temp/make.log")"
elif ! tail -n 1 "$root/etc/coloc/coloc.conf" | grep -q wait; then
	fail again "a changed configuration was overwritten"
else
	pass again
fi

if ! run_make uninstall DESTDIR="$root" PREFIX=/usr; then
	fail uninstall "$(tail -n 3 "$temp/make.log")"
elif [ "$(files "$root")" != ./etc/coloc/coloc.conf ]; then
	fail uninstall "left: $(files "$root")"
else
	pass uninstall
fi

# A prefix that is really there, so that systemd finds what the unit starts.
prefix=$temp/prefix
if ! run_make install PREFIX="$prefix" SYSCONFDIR="$prefix/etc"; then
	fail prefix "$(tail -n 3 "$temp/make.log")"
elif ! command -v systemd-analyze >/dev/null; then
	echo "SKIP unit: systemd-analyze is not installed"
elif ! systemd-analyze verify --man=no "$prefix/lib/systemd/system/residency-agent.service" \
	>"$temp/verify" 2>&1 || [ -s "$temp/verify" ]; then
	fail unit "$(cat "$temp/verify")"
else
	pass unit
fi
if ! run_make uninstall PREFIX="$prefix" SYSCONFDIR="$prefix/etc"; then
	fail prefix "$(tail -n 3 "$temp/make.log")"
elif [ -n "$(files "$prefix")" ]; then
	fail prefix "left: $(files "$prefix")"
else
	pass prefix
fi
exit "$failed"
