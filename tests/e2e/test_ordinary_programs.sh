#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Preloading changes nothing for programs that have no co-resident stream: shell pipelines and job
# control, a compiler, archives, a package tool; with an agent and without. HAZARDS 43, 44.
. "$(dirname "$0")/../lib/e2e.sh"

T_DIR=$(mktemp -d)
T_PID=
trap '[ -z "$T_PID" ] || kill "$T_PID"; rm -rf "$T_DIR"' EXIT
"$T_BUILD/residency-agent" --foreground --socket "$T_DIR/agent.sock" --region "$T_DIR/region" \
	>"$T_DIR/agent-.log" 2>&1 &
T_PID=$!
"$T_BUILD/colocctl" --socket "$T_DIR/agent.sock" --wait 10 status >/dev/null || fail 'no agent'

cat >"$T_DIR/hello.c" <<-'END'
	#include <stdio.h>
	int main(void) { return puts("hello") < 0; }
END

# Everything here prints the same each time.
programs()
{
	cat <<-END
		true
		false
		ls -l /etc/passwd /nonexistent
		sh -c 'exit 7'
		sh -c 'seq 1000 | sort -rn | head -n 3; echo \$?'
		bash -c 'set -m; sleep 0.01 & wait \$!; echo \$?; kill -9 \$\$'
		bash -c 'coproc cat; echo x >&\${COPROC[1]}; read -r y <&\${COPROC[0]}; echo \$y'
		bash -c 'for i in 1 2 3; do (exec 5</etc/passwd; head -c 5 <&5); done'
		cc -o $T_DIR/hello $T_DIR/hello.c
		$T_DIR/hello
		tar -C /etc -cf - passwd group | tar -tf -
		gzip -c /etc/passwd | gunzip | cksum
		dpkg-query -W -f '\${Version}' libc6
		env -i /bin/echo bare
		awk 'BEGIN { "echo from a pipe" | getline x; print x }'
		python3 -c 'import subprocess; print(subprocess.run(["echo", "sub"], capture_output=True).stdout)'
		perl -e 'print "perl\n"; system("echo child")'
	END
}

programs >"$T_DIR/list"
while read -r line; do
	timeout 30 sh -c "$line" >"$T_DIR/plain" 2>&1
	echo "status $?" >>"$T_DIR/plain"
	for policy in always no-agent; do
		agent=$T_DIR/agent.sock
		[ "$policy" = always ] || agent=$T_DIR/nobody.sock
		COLOC_POLICY=always COLOC_AGENT=$agent LD_PRELOAD=$(t_preload_list) \
			timeout 30 sh -c "$line" >"$T_DIR/preloaded" 2>&1
		echo "status $?" >>"$T_DIR/preloaded"
		cmp -s "$T_DIR/plain" "$T_DIR/preloaded" ||
			fail "'$line' differs: $(diff "$T_DIR/plain" "$T_DIR/preloaded")"
	done
done <"$T_DIR/list"

# What the library says must not end a program that can say nothing: nobody reads its standard error, or
# it may write no file (sshd's child before the login).
cat >"$T_DIR/talk.pl" <<-'END'
	use IO::Socket::INET;
	use POSIX ();
	$| = 1;
	if ($ARGV[0] eq 'pipe') { pipe(my $r, my $w); close $r; POSIX::dup2(fileno $w, 2); }
	my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
	my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $l->sockport) or die;
	my $s = $l->accept;
	syswrite $c, 'x'; sysread $s, my $buf, 1;
	print "talked\n";
END
for how in pipe file; do
	said=$(COLOC_LOG=1 COLOC_POLICY=always COLOC_AGENT=$T_DIR/nobody.sock LD_PRELOAD=$(t_preload_list) bash -c \
		'[ "$1" = pipe ] || ulimit -f 0; exec timeout 20 perl "$2" "$1" 2>"$3"' talk "$how" "$T_DIR/talk.pl" "$T_DIR/said")
	[ "$said" = talked ] || fail "a program that can write to no $how ended"
done
echo "$(wc -l <"$T_DIR/list") command lines behave alike"
