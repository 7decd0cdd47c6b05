#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# OpenSSH with a server of our own: commands and their status, a terminal, large data both ways, sftp,
# and rsync of a tree over it. The server's children lose their rights, and are in a
# sandbox until they know who asks.
. "$(dirname "$0")/lib.sh"
apps_need sshd ssh sftp ssh-keygen rsync sha256sum

bytes=60000000

tree() # FOLDER
{
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

keys()
{
	[ -e "$T_DIR/files/key" ] && return
	ssh-keygen -q -t ed25519 -N '' -f "$T_DIR/files/host" && ssh-keygen -q -t ed25519 -N '' -f "$T_DIR/files/key" ||
		fail 'no keys'
	mkdir -p /run/sshd
}

cell()
{
	local pid sum opts i
	keys
	cat >"$work/sshd.conf" <<-END
		Port 2222
		HostKey $T_DIR/files/host
		AuthorizedKeysFile $T_DIR/files/key.pub
		StrictModes no
		PermitRootLogin yes
		UsePAM no
		PidFile none
		Subsystem sftp internal-sftp
	END
	opts=(-F none -i "$T_DIR/files/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
		-o LogLevel=ERROR -o ConnectTimeout=20)
	# It starts itself again, and wants its whole path for that.
	server_spawn "$(command -v sshd)" -D -e -f "$work/sshd.conf" >"$work/sshd.log" 2>&1
	pid=$T_PID
	app_listens 2222

	app_case 'commands'
	for i in 1 2 3; do
		[ "$(client ssh "${opts[@]}" -p 2222 "root@$addr" "echo $i; exit 4$i")$?" = "${i}4$i" ] ||
			fail "$place: ssh: $(tail "$work/sshd.log")"
	done
	[ "$(client ssh -tt "${opts[@]}" -p 2222 "root@$addr" 'tty >/dev/null && echo terminal' </dev/null | tr -d '\r')" = terminal ] ||
		fail "$place: no terminal"

	app_case 'data both ways'
	app_file "$work/data" "$bytes"
	client ssh "${opts[@]}" -p 2222 "root@$addr" "cat >$work/there; cat $work/there" <"$work/data" >"$work/back" ||
		fail "$place: ssh ended with $?: $(tail "$work/sshd.log")"
	app_same "$work/data" "$work/back"
	app_same "$work/data" "$work/there"
	app_bulk $((2 * bytes))

	app_case 'sftp'
	printf 'put %s %s\nget %s %s\n' "$work/data" "$work/put" "$work/put" "$work/get" |
		client sftp -q -b - "${opts[@]}" -P 2222 "root@$addr" >"$work/out" 2>&1 || fail "$place: sftp: $(tail -n 3 "$work/out")"
	app_same "$work/data" "$work/get"
	app_bulk $((2 * bytes))

	app_case 'rsync'
	mkdir "$work/tree"
	cp -r /usr/include/linux "$work/tree"
	app_file "$work/tree/large" "$bytes"
	client rsync -a -e "ssh ${opts[*]} -p 2222" "$work/tree/" "root@$addr:$work/copy/" >"$work/out" 2>&1 ||
		fail "$place: rsync: $(tail -n 3 "$work/out")"
	[ "$(tree "$work/tree")" = "$(tree "$work/copy")" ] || fail "$place: rsync has made another tree"
	app_bulk "$bytes"
	app_end "$pid" || [ $? = 255 ] || fail "$place: sshd ended: $(tail "$work/sshd.log")"
}

apps_matrix cell
