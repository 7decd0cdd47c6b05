#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs without a co-resident stream behave preloaded as without: an interactive shell with job control
# on a terminal, ls, a compiler, apt, sudo, a program with AddressSanitizer, a static one. With an agent in
# policies auto and always, and with none. Beside tests/e2e/test_ordinary_programs.sh. HAZARDS 42, 43.
. "$(dirname "$0")/lib.sh"
apps_need /usr/bin/python3 cc sudo apt-get

# What a terminal showed, and what the shell ended with.
cat_terminal='
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = b""
def until(text):
    global seen
    end = time.monotonic() + 20
    while text not in seen:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit("no %r in %r" % (text, seen))
        seen += os.read(fd, 4096)
    seen = seen[seen.index(text) + len(text):]
def type(text):
    os.write(fd, text)
type(b"stty -echo; PS1=rea\"\"dy; echo be\"\"gin\n"); until(b"begin"); until(b"ready")
type(b"sh -c \"echo u\\\"\\\"p; exec sleep 100\"\n"); until(b"up")
type(b"\x1a"); until(b"Stopped"); until(b"ready")
type(b"jobs | wc -l; bg >/dev/null; kill %1; wait %1; echo status $?\n"); until(b"status 143"); until(b"ready")
type(b"sh -c \"echo u\\\"\\\"p; exec cat\"\n"); until(b"up")
type(b"\x03"); until(b"ready")
type(b"echo interrupted $?\n"); until(b"interrupted 130"); until(b"ready")
type(b"exit 5\n")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))'

prepare()
{
	cat >"$T_DIR/files/memory.c" <<-'C'
		#include <stdlib.h>
		#include <stdio.h>
		#include <unistd.h>
		#include <sys/socket.h>
		int main(int argc, char **argv)
		{
			char *p = malloc(10), buf[4] = "";
			int s[2];
			if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) || write(s[0], "abc", 3) != 3 || read(s[1], buf, 3) != 3)
				return 2;
			puts(buf);
			p[argc > 1 ? 10 : 9] = 1;
			(void)argv;
			free(p);
			return 0;
		}
	C
	cc -g -fsanitize=address -o "$T_DIR/files/sanitized" "$T_DIR/files/memory.c" &&
		cc -static -o "$T_DIR/files/static" "$T_DIR/files/memory.c" || fail 'the compiler'
	printf '%s\n' "$cat_terminal" >"$T_DIR/files/terminal.py"
}

# Lines that print the same each time.
lines()
{
	cat <<-END
		/usr/bin/python3 $T_DIR/files/terminal.py
		ls -lR /etc/apt /nonexistent
		cc -O2 -o $T_DIR/hello $T_DIR/files/memory.c && $T_DIR/hello
		apt-cache policy libc6
		apt-get -s install libc6
		apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$T_DIR/lists update
		sudo -n id -u
		sudo -n -u nobody id -u
		sudo -n -u nobody env -u SUDO_COMMAND sh -c 'exit 9'
		$T_DIR/files/static
		script -qec 'tty >/dev/null && echo terminal' /dev/null
		bash -c 'exec 3<>/dev/tcp/127.0.0.1/1'
		setpriv --reuid=65534 --clear-groups sh -c 'id -u; exit 3'
		env -i /bin/ls /etc/passwd
	END
}

# The runtime of the sanitizer has to be the first library.
sanitized() # PRELOAD...
{
	local runtime
	runtime=$(ldd "$T_DIR/files/sanitized" | awk '/libasan/ { print $3 }')
	LD_PRELOAD=$runtime${1:+:$1} timeout 30 "$T_DIR/files/sanitized" || return 1
	! LD_PRELOAD=$runtime${1:+:$1} timeout 30 "$T_DIR/files/sanitized" x >"$T_DIR/asan" 2>&1 || return 1
	grep -o 'heap-buffer-overflow on' "$T_DIR/asan"
}

compare() # POLICY SOCKET
{
	local line
	export COLOC_POLICY=$1 COLOC_AGENT=$2
	while read -r line; do
		timeout 60 sh -c "$line" >"$T_DIR/plain" 2>&1 </dev/null
		echo "status $?" >>"$T_DIR/plain"
		LD_PRELOAD=$(t_preload_list) timeout 60 sh -c "$line" >"$T_DIR/preloaded" 2>&1 </dev/null
		echo "status $?" >>"$T_DIR/preloaded"
		cmp -s "$T_DIR/plain" "$T_DIR/preloaded" ||
			fail "'$line' differs: $(diff "$T_DIR/plain" "$T_DIR/preloaded")"
	done <"$T_DIR/list"
	[ "$(sanitized)" = "$(printf 'abc\nheap-buffer-overflow on')" ] || fail "the sanitized program itself: $(sanitized)"
	[ "$(sanitized)" = "$(sanitized "$(t_preload_list)")" ] || fail "the sanitized program: $(sanitized "$(t_preload_list)")"
	unset COLOC_POLICY COLOC_AGENT
}

t_guests_up || fail 'no guests'
chmod 711 "$T_DIR" "$T_DIR/A"
mkdir "$T_DIR/files" "$T_DIR/lists"
prepare
lines >"$T_DIR/list"
for policy in auto always; do
	compare "$policy" "$T_DIR/A/agent.sock"
done
compare always "$T_DIR/nobody.sock"
echo "$(($(wc -l <"$T_DIR/list") + 2)) commands behave alike: auto, always, no agent"
t_agent_stop A
t_agent_stop B
