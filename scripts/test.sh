#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test.sh - from a clean clone on Debian 12 to "N passed, N failed", which is the last line
#
# Installs what is missing (scripts/deps.sh), builds, and runs all that CI runs (make test): about
# a quarter of an hour on two processors.
set -u
cd "$(dirname "$0")/.." || exit 1

log=$(mktemp -t coloc-test-log.XXXXXX)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# A step that does not even get as far as the tests is one failure.
step()
{
	echo "== $1"
	shift
	"$@" 2>&1 && return 0
	echo "failed: $*"
	echo '0 passed, 1 failed'
	exit 1
}

step 'packages' scripts/deps.sh
step 'build' make -j"$(nproc)"
echo '== tests'
make -j"$(nproc)" test 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
summary=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
if [ -z "$summary" ]; then
	status=1
	summary='0 passed, 1 failed'
fi
# Ratios that have fallen are failures; a machine that cannot measure them (no control groups) is not.
echo '== ratios'
make bench-quick 2>&1 | tee "$log"
fallen=$(grep -c '^FAIL' "$log")
held=$(grep -c '^PASS' "$log")
[ "$fallen" = 0 ] || status=1
summary=$(awk -v held="$held" -v fallen="$fallen" '{ print $1 + held " passed, " $3 + fallen " failed" }' <<<"$summary")
echo "$summary"
exit "$status"
