#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# symbols.sh LIBRARY HOOKS.DEF OBJECT... - what the library exports, and what it must not call
#
# 1. The exported names are those of hooks.def, no more and no fewer.
#    HAZARDS 41.
# 2. No object refers to a listed name: it would come back to our own hook. Two may: real.o, which
#    finds the real ones, and hook_syscall.o, whose syscall() hands bare system calls to the hooks.
# 3. Thread-local variables are of the initial-exec kind: the others are allocated at their first use,
#    by a malloc that may be the program's. HAZARDS 40.
set -u
export LC_ALL=C
library=$1 hooks=$2
shift 2
temp=$(mktemp -d) || exit 1
trap 'rm -rf "$temp"' EXIT

sed -n 's/^HOOK(\([A-Za-z0-9_]*\)).*/\1/p' "$hooks" | sort -u >"$temp/listed"
nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); print $3 }' | sort -u >"$temp/exported"
status=0

for name in $(comm -23 "$temp/listed" "$temp/exported"); do
	echo "$library does not export $name, which $hooks lists"
	status=1
done
for name in $(comm -13 "$temp/listed" "$temp/exported"); do
	echo "$library exports $name, which $hooks does not list"
	status=1
done
for object; do
	case $object in
	*/preload/real.o | */preload/hook_syscall.o) continue ;;
	esac
	nm -u "$object" | awk '{ print $2 }' | sort -u >"$temp/wanted"
	for name in $(comm -12 "$temp/listed" "$temp/wanted"); do
		echo "$object calls $name: our own hook; use pl_real or sys.h"
		status=1
	done
done
if nm -D --undefined-only "$library" | grep -qw __tls_get_addr; then
	echo "$library allocates thread-local variables at their first use"
	status=1
fi
exit $status
