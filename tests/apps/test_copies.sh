#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs that copy a file to the other side and end: netcat, socat, perl, openssl s_server and s_client,
# git clone from git-daemon. What came is compared.
. "$(dirname "$0")/lib.sh"
apps_need nc socat perl openssl git

bytes=60000000

# One way at a time: a listening nc ends as soon as the other side has, whatever it still has to send.
netcat()
{
	local pid
	app_case 'netcat'
	server_spawn nc -l -p 7000 >"$work/got.server"
	pid=$T_PID
	app_listens 7000
	client nc -N "$addr" 7000 <"$work/data" || fail "$place: nc: $?"
	wait "$pid" || fail "$place: nc -l: $?"
	app_same "$work/data" "$work/got.server"
	# The shell gives what runs in the background no input.
	server_spawn sh -c "exec nc -l -N -p 7000 <$work/data"
	pid=$T_PID
	app_listens 7000
	client nc -d "$addr" 7000 >"$work/got.client" || fail "$place: nc: $?"
	wait "$pid" || fail "$place: nc -l: $?"
	app_same "$work/data" "$work/got.client"
	app_bulk $((2 * bytes))
}

socat_copy()
{
	local pid
	app_case 'socat'
	server_spawn socat -u TCP-LISTEN:7001,reuseaddr "CREATE:$work/got.socat"
	pid=$T_PID
	app_listens 7001
	client socat -u "OPEN:$work/data" "TCP:$addr:7001" || fail "$place: socat: $?"
	wait "$pid" || fail "$place: socat, listening: $?"
	app_same "$work/data" "$work/got.socat"
	app_bulk "$bytes"
}

# A server that forks per client and echoes by lines and by blocks, through perl's own buffers.
perl_echo()
{
	local pid
	app_case 'perl'
	server_spawn perl -MIO::Socket::INET -e '
		$SIG{CHLD} = "IGNORE"; $SIG{TERM} = sub { exit 0 };
		my $l = IO::Socket::INET->new(LocalPort => 7002, Listen => 5, ReuseAddr => 1) or die;
		while (my $c = $l->accept) {
			if (fork) { close $c; next }
			close $l;
			my $mode = <$c>;
			if ($mode eq "lines\n") { while (<$c>) { print $c uc; $c->flush } }
			else { while (read($c, my $buf, 100000)) { print $c $buf } }
			exit 0;
		}' >"$work/perl.log" 2>&1
	pid=$T_PID
	app_listens 7002
	client perl -MIO::Socket::INET -e '
		my ($host, $file) = @ARGV;
		my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => 7002) or die;
		print $s "lines\n";
		for my $i (1 .. 2000) {
			print $s "line $i\n"; $s->flush;
			<$s> eq "LINE $i\n" or die "line $i";
		}
		close $s;
		$s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => 7002) or die;
		open my $in, "<", $file or die;
		if (!fork) { print $s "blocks\n"; while (read $in, my $buf, 65536) { print $s $buf } $s->flush; shutdown $s, 1; exit 0 }
		while (read $s, my $buf, 65536) { print $buf }
		wait; exit $? >> 8' "$addr" "$work/data" >"$work/got.perl" 2>"$work/out" || fail "$place: perl: $(cat "$work/out" "$work/perl.log")"
	app_end "$pid" || fail "$place: the perl server ended with $?"
	app_same "$work/data" "$work/got.perl"
	app_bulk $((2 * bytes))
}

tls()
{
	local pid
	app_case 'openssl'
	[ -s "$T_DIR/files/cert.pem" ] || openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2 \
		-keyout "$T_DIR/files/key.pem" -out "$T_DIR/files/cert.pem" 2>/dev/null || fail 'no certificate'
	server_spawn sh -c "cd $work && exec openssl s_server -accept 7003 -cert $T_DIR/files/cert.pem -key $T_DIR/files/key.pem -quiet -WWW" \
		>"$work/openssl.log" 2>&1
	pid=$T_PID
	app_listens 7003
	printf 'GET /data HTTP/1.0\r\n\r\n' | client openssl s_client -quiet -connect "$addr:7003" 2>"$work/out" |
		perl -0777 -pe 's/^.*?\r\n\r\n//s' >"$work/got.tls"
	app_same "$work/data" "$work/got.tls"
	app_end "$pid"
	app_bulk "$bytes"
}

clone()
{
	local pid
	app_case 'git clone'
	if [ ! -d "$T_DIR/files/repo" ]; then
		git init -q "$T_DIR/files/repo" && cp -r /usr/include/linux "$T_DIR/files/repo" &&
			cp "$T_DIR/files/$bytes" "$T_DIR/files/repo/large" && git -C "$T_DIR/files/repo" add . &&
			git -C "$T_DIR/files/repo" -c user.name=t -c user.email=t@localhost commit -q -m one || fail 'no repository'
	fi
	server_spawn "$(git --exec-path)/git-daemon" --reuseaddr --export-all --port=9418 --base-path="$T_DIR/files" \
		>"$work/git.log" 2>&1
	pid=$T_PID
	app_listens 9418
	client git clone -q "git://$addr/repo" "$work/clone" >"$work/out" 2>&1 || fail "$place: git: $(cat "$work/out" "$work/git.log")"
	diff -r -x .git "$T_DIR/files/repo" "$work/clone" || fail "$place: the clone differs"
	git -C "$work/clone" fsck --full >"$work/out" 2>&1 || fail "$place: $(cat "$work/out")"
	app_end "$pid"
	# The stream is the server's standard input and output: it says what it has by stdio, and sends the pack by
	# write(2), which holds the large file as it is.
	app_bulk "$bytes"
}

cell()
{
	app_file "$work/data" "$bytes"
	netcat
	socat_copy
	perl_echo
	tls
	clone
}

# Roots of others, as in work trees of root, are no concern here.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
apps_matrix cell
