# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2013,SC2016
#
# docs.sh - what tests of a document share; to be sourced by bash behind e2e.sh
#
# doc_lines LANGUAGE FILE  what stands in the blocks of that language, continued lines joined
# doc_names FILE           the reasons of its table and its options, as in `section.key`, are those of the
#                          program; the examples that it names are there

doc_lines()
{
	awk -v begin="\`\`\`$1" '
		/^```/ { inside = $0 == begin; next }
		!inside || !NF { next }
		/\\$/ { sub(/[ \t]*\\$/, ""); sub(/^[ \t]+/, ""); line = line $0 " "; next }
		{ sub(/^[ \t]+/, line == "" ? "&" : ""); print line $0; line = "" }' "$2"
}

doc_names()
{
	local name options
	for name in $(awk '/^\| reason /, !/^\|/' "$1" | sed -n 's/^| *\(`[^|]*\)|.*/\1/p' |
		grep -o '`[^`]*`' | tr -d '`'); do
		grep -q "REASON([A-Z_]*, \"$name\"" include/reason.h || fail "$1: no reason $name"
		count=$((count + 1))
	done
	options=$(awk '/^\[/ { section = substr($0, 2, length($0) - 2) }
		/^#[a-z_]+ =/ { print section "." substr($1, 2) }' config/coloc.conf)
	for name in $(grep -oE '`(region|guest|residency|access|pairing|switch|wait)\.[a-z_]+' "$1" | tr -d '`'); do
		grep -qx "$name" <<<"$options" || fail "$1: no option $name"
	done
	for name in $(grep -o 'config/examples/[A-Za-z.-]*[A-Za-z]' "$1"); do
		[ -e "$name" ] || fail "$1: no $name"
	done
}
