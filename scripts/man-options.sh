#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# man-options.sh - the option lists of the manual, from the text of config/coloc.conf on standard input
#
#   residency-agent --dump-config | scripts/man-options.sh conf   for coloc.conf(5)
#   residency-agent --dump-config | scripts/man-options.sh env    for libcoloc(7)
#   residency-agent --dump-config | scripts/man-options.sh update  puts both into docs/man
#
# In the pages they stand between the lines '.\" options' and '.\" end of options';
# tests/e2e/test_docs.sh compares them.
set -eu

list()
{
	awk -v form="$1" '
		function mdoc(text) { gsub(/\\/, "\\e", text); return text }
		/^\[/ {
			section = substr($0, 2, length($0) - 2)
			if (form == "conf")
				printf "%s.Ss Section %s\n.Bl -tag -width Ds\n", open ? ".El\n" : "", section
			open = 1
		}
		/^# \(.*COLOC_/ {
			range = $0
			sub(/^# \(/, "", range)
			sub(/; COLOC_.*/, "", range)
			next
		}
		/^# / && section { text = substr($0, 3) }
		/^#[a-z]/ {
			key = $1
			sub(/^#/, "", key)
			value = $0
			sub(/^[^=]*= ?/, "", value)
			if (form == "conf") {
				printf ".It Sy %s No = Ar %s\n", key, value == "" ? "(empty)" : value
				printf "%s%s.\n", mdoc(text), range ? " (" range ")" : ""
			} else if (range) {
				printf ".It Ev COLOC_%s_%s\n", toupper(section), toupper(key)
				printf "%s (%s; default %s).\n", mdoc(text), range, value
			}
			range = ""
		}
		END { if (form == "conf") print ".El" }' | fold -s -w 78 | sed 's/ *$//'
}

# The page with what stands between the marks replaced by standard input.
replace() # page
{
	awk -v page="$1" '
		{ fresh = fresh $0 "\n" }
		END {
			while ((getline line < page) > 0) {
				if (line == ".\\\" end of options")
					inside = 0
				if (!inside)
					print line
				if (line == ".\\\" options") {
					printf "%s", fresh
					inside = 1
				}
			}
		}' >"$1.new" && mv "$1.new" "$1"
}

case ${1:-} in
conf | env)
	list "$1"
	;;
update)
	text=$(cat)
	printf '%s\n' "$text" | list conf | replace docs/man/coloc.conf.5
	printf '%s\n' "$text" | list env | replace docs/man/libcoloc.7
	;;
*)
	sed -n '/^#   residency-agent/s/^# *//p' "$0" >&2
	exit 2
	;;
esac
