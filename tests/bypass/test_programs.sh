#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test_programs.sh [SCRIPT...] - ordinary programs on rings, each call watched: none on a moved stream
# misses the hooks. The programs are those of the end-to-end tests, which fail by themselves if nothing
# went by ring; all processes of both guests are watched, policy "always". SCRIPT: others of their kind,
# as tests/apps/test_*.sh.
cd "$(dirname "$0")/../.." || exit 1
T_BUILD=$(realpath "${T_BUILD:-build}")
. tests/bypass/lib.sh

report=$(mktemp)
trap 'rm -f "$report"' EXIT
[ $# -gt 0 ] || set -- tests/e2e/test_{iperf3,redis,nginx,socat,sockperf}.sh tests/bypass/python.sh
bypass_programs "$report" "$@"
