# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# lib.sh - what the tests of bypasses share; to be sourced by bash, after T_BUILD is set
#
# bypass_ended FILE              wait until the watchers that write to FILE have written their last
#                                lines; 1 if they do not. Their programs must have ended before
# bypass_programs FILE SCRIPT... run end-to-end scripts (lib/e2e.sh) in policy "always" with each of
#                                their programs watched, and print a line each. 1 if one fails, and
#                                with what was reported, if anything was. FILE is scratch

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

bypass_programs()
{
	local file=$1 script status failed=0 watched bypasses output
	shift
	for script; do
		: >"$file"
		output=$(E2E_POLICIES=always APPS_POLICIES=always T_WRAP="$BYPASS_WATCH $file" "$script" 2>&1)
		status=$?
		watched=$(grep -c '^watching ' "$file")
		bypasses=$(grep -c '^bypass: ' "$file")
		echo "${script##*/}: status $status, $watched programs watched, $bypasses bypasses," \
			"$(grep -o '[0-9]* bytes by ring' <<<"$output" | tail -n 1)"
		[ "$status" = 77 ] && continue
		[ "$status" = 0 ] || echo "$output" | tail -n 30
		grep -m 20 '^bypass: ' "$file"
		[ "$status$bypasses" = 00 ] && [ "$watched" -gt 0 ] || failed=1
	done
	return $failed
}
