#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ordinary programs on rings, each call watched: none on a moved stream misses the hooks. The programs
# are those of the end-to-end tests, which fail by themselves if nothing went by ring; all processes of
# both guests are watched, policy "always".
cd "$(dirname "$0")/../.." || exit 1
T_BUILD=$(realpath "${T_BUILD:-build}")
. tests/bypass/lib.sh

report=$(mktemp)
trap 'rm -f "$report"' EXIT
bypass_programs "$report" tests/e2e/test_{iperf3,redis,nginx,socat,sockperf}.sh tests/bypass/python.sh
