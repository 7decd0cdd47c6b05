# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# lib.sh - what the tests of bypasses share; to be sourced by bash, after T_BUILD is set
#
# bypass_ended FILE     wait until the watchers that write to FILE have written their last lines; 1
#                       if they do not. Their programs must have ended, for which they wait

BYPASS_WATCH=$T_BUILD/tests/bypass/watch

# The watcher ends after its program, as a process of its own: there is nothing to wait on but this.
bypass_ended()
{
	local end=$(($(date +%s) + 10))
	until [ "$(grep -c '^watching ' "$1")" = "$(grep -c '^watched ' "$1")" ]; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 0.02
	done
}
