#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# test_docs.sh - config/coloc.conf and the manual say what the programs say: every option with its
# default from the one table, every verb and every option of the command lines; mandoc has no
# complaint; the support matrix has every call of hooks.def, every reason, and every flag and
# option that the library looks at; each hazard has a test; docs/architecture.md names every file
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

# The list between the marks of a page.
marked() { sed -n '/^\.\\" options$/,/^\.\\" end of options$/p' "$1" | sed '1d;$d'; }

"$build/residency-agent" --dump-config >"$temp/conf"
if diff config/coloc.conf "$temp/conf" >"$temp/diff"; then
	pass config
else
	fail config "config/coloc.conf is not residency-agent --dump-config: $(head -n 3 "$temp/diff")"
fi

for pair in conf:coloc.conf.5 env:libcoloc.7; do
	page=${pair#*:}
	scripts/man-options.sh "${pair%%:*}" <"$temp/conf" >"$temp/list"
	marked "docs/man/$page" >"$temp/marked"
	if [ -s "$temp/list" ] && diff "$temp/marked" "$temp/list" >"$temp/diff"; then
		pass "$page"
	else
		fail "$page" "scripts/man-options.sh update: $(head -n 3 "$temp/diff")"
	fi
done

# Options and, for colocctl, verbs that --help names and the page does not.
for page in colocctl.1 coloc-run.1 residency-agent.8; do
	program=${page%.*}
	"$build/$program" --help >"$temp/help"
	missing=
	for option in $(grep -o -e '--[a-z-]\+' "$temp/help" | sort -u); do
		grep -q -e "Fl -${option#--}\( \|$\)" "docs/man/$page" || missing="$missing $option"
	done
	if [ "$program" = colocctl ]; then
		for verb in $(sed -n 's/^  \([a-z]\+\) .*/\1/p' "$temp/help"); do
			grep -q "It Cm $verb\$" "docs/man/$page" || missing="$missing $verb"
		done
	fi
	if [ -z "$missing" ]; then
		pass "$page"
	else
		fail "$page" "not in the page:$missing"
	fi
done

# What stands in the first column of a table, between two marks of the support matrix.
column() # MARK
{
	sed -n "/^<!-- $1 -->\$/,/^<!-- end of $1 -->\$/s/^| *\([^|]*\)|.*/\1/p" docs/support-matrix.md |
		grep -o '`[^`]*`' | tr -d '`' | sort
}

sed -n 's/^HOOK(\([A-Za-z0-9_]*\)).*/\1/p' preload/hooks.def | sort >"$temp/hooks"
column calls >"$temp/calls"
if [ -s "$temp/hooks" ] && diff "$temp/calls" "$temp/hooks" >"$temp/diff"; then
	pass 'support-matrix.md: calls'
else
	fail 'support-matrix.md: calls' "< it alone, > hooks.def alone: $(grep '^[<>]' "$temp/diff")"
fi

sed -n 's/^\tREASON([A-Z_]*, "\([^"]*\)".*/\1/p' include/reason.h | sort >"$temp/reasons"
column reasons >"$temp/told"
if [ -s "$temp/reasons" ] && diff "$temp/told" "$temp/reasons" >"$temp/diff"; then
	pass 'support-matrix.md: reasons'
else
	fail 'support-matrix.md: reasons' "< it alone, > reason.h alone: $(grep '^[<>]' "$temp/diff")"
fi

# Flags and options that the library's sources look at: each has a row, in the first column.
rows() # HEADING
{
	sed -n "/^## $1\$/,/^## /s/^|\([^|]*\)|.*/\1/p" docs/support-matrix.md | grep -o '`[A-Z][A-Z0-9_]*`' | tr -d '`' | sort -u
}

used() # PATTERN
{
	cat preload/*.c preload/*.h | sed 's|//.*||' | grep -oE "\b($1)\b" | sort -u
}

rows Flags >"$temp/rows"
used '(MSG|RWF|SPLICE_F)_[A-Z_]+' | grep -v 'SPLICE_FLAGS' >"$temp/used"
missing=$(comm -13 "$temp/rows" "$temp/used")
if [ -s "$temp/used" ] && [ -z "$missing" ]; then
	pass 'support-matrix.md: flags'
else
	fail 'support-matrix.md: flags' "no row: $(echo $missing)"
fi

rows 'Socket options' >"$temp/rows"
used '(SO|TCP)_[A-Z_]+' >"$temp/used"
# What the library asks for, sets for itself, or names of states and ioctl requests are no options of the program.
own='SO_COOKIE|SO_PEERCRED|SO_ACCEPTCONN|SO_DOMAIN|SO_PROTOCOL|SO_TYPE|SO_ERROR|SO_NETNS_COOKIE|TCP_INFO|TCP_(ESTABLISHED|TIME_WAIT|CLOSE|CLOSE_WAIT|LAST_ACK|CLOSING)'
missing=$(comm -13 "$temp/rows" "$temp/used" | grep -vxE "$own")
if [ -s "$temp/used" ] && [ -z "$missing" ]; then
	pass 'support-matrix.md: options'
else
	fail 'support-matrix.md: options' "no row: $(echo $missing)"
fi

# A reason that a row gives is one of ours, and each that the library sets itself is given by a row.
sed -n '/^## Calls/,/^## Limits/s/^|\(.*\)/\1/p' docs/support-matrix.md >"$temp/table"
unknown=
for reason in $(grep -oE 'back to TCP: `[a-z-]+`' "$temp/table" | grep -o '`[a-z-]*`$' | tr -d '`' | sort -u); do
	grep -qx "$reason" "$temp/reasons" || unknown="$unknown $reason"
done
ungiven=
for reason in $(cat preload/hook_*.c preload/rx.c preload/tx.c | grep -o 'COLOC_REASON_[A-Z_]*' | sort -u); do
	name=$(sed -n "s/^\tREASON(${reason#COLOC_REASON_}, \"\([^\"]*\)\".*/\1/p" include/reason.h)
	case $name in
	none | protocol-error | mismatch | peer-closed) continue ;; # of the connection, not of a call
	esac
	grep -q "\`$name\`" "$temp/table" || ungiven="$ungiven $name"
done
if [ -s "$temp/table" ] && [ -z "$unknown$ungiven" ]; then
	pass 'support-matrix.md: reasons of rows'
else
	fail 'support-matrix.md: reasons of rows' "unknown:$unknown; in no row:$ungiven"
fi

# Hazards: 1 to the last without a gap, each named by some test, and no test names another.
sed -n 's/^\([0-9]\+\)\. .*/\1/p' docs/hazards.md | sort -n >"$temp/hazards"
find tests -type f \( -name '*.c' -o -name '*.h' -o -name '*.sh' -o -name '*.py' \) ! -name test_docs.sh -exec grep -lZ HAZARDS {} + |
	xargs -0 -I '{}' sh -c 'tr "\n*#" "   " <"$1"; echo' - '{}' |
	grep -oE 'HAZARDS +[0-9][0-9, ]*' | grep -oE '[0-9]+' | sort -nu >"$temp/tested"
seq "$(tail -n 1 "$temp/hazards")" >"$temp/all"
if ! cmp -s "$temp/hazards" "$temp/all"; then
	fail hazards.md "not 1 to $(tail -n 1 "$temp/all")"
elif diff "$temp/hazards" "$temp/tested" >"$temp/diff"; then
	pass hazards.md
else
	fail hazards.md "< no test, > not in it: $(grep '^[<>]' "$temp/diff" | tr '\n' ' ')"
fi

missing=
for file in include/*.h shm-transport/*.c preload/*.c residency-agent/*.c; do
	case ${file##*/} in
	colocctl_*) ;; # named together
	*) grep -q "\`${file##*/}\`" docs/architecture.md || missing="$missing $file" ;;
	esac
done
gone=
for name in $(grep -o '`[a-z_-]*\.[ch]`' docs/architecture.md | tr -d '`' | sort -u); do
	ls ./*/"$name" >/dev/null 2>&1 || gone="$gone $name"
done
if [ -z "$missing$gone" ]; then
	pass architecture.md
else
	fail architecture.md "not in it:$missing; not in the tree:$gone"
fi

if ! command -v mandoc >/dev/null; then
	echo "SKIP mandoc: not installed"
	exit "$failed"
fi
for page in docs/man/*.[1-9]; do
	# Pages of ours are not installed where it looks for what a page refers to.
	complaints=$(mandoc -Tlint "$page" 2>/dev/null | grep -v 'referenced manual not found')
	if [ -z "$complaints" ]; then
		pass "mandoc ${page##*/}"
	else
		fail "mandoc ${page##*/}" "$complaints"
	fi
done
exit "$failed"
