# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# container.sh - containers without an engine, for tests of what the documents show; to be sourced by bash behind
# netns.sh, with two network namespaces up
#
# A container is a program in namespaces of its own (mounts, processes, names, IPC; the network of guest A
# or B) on a root that is an overlay: the image over this system, whose programs it can run. It has no
# capability. The image is what "make install" makes, with an ldconfig behind it. Paths of the "host" lie below $C_HOST, so
# that /dev/shm and /run of this machine are left alone.
#
# In:   T_DIR, T_NS, T_BUILD   see netns.sh
# Out:  C_HOST                 folder that stands for the host's /
#
# c_image                 make the image; 77 where there are no overlays
# c_run NAME A|B          run a container; what, the caller says in these variables:
#     c_command=(...)       program and arguments
#     c_env=(NAME=VALUE...) environment
#     c_mounts=(SOURCE:TARGET[:ro]...)  folders and files of the host
#     c_tmpfs=(TARGET...)   fresh memory file systems
#     c_user=UID            0 unless told
#     c_read_only=1         root file system read-only
#     c_hosts="ADDRESS NAME..."         lines of /etc/hosts
#     c_background=1        do not wait; its pid is kept for c_exec
# c_exec NAME COMMAND...  COMMAND in a container that runs
# c_kill NAME             end all of it at once

C_HOST=

c_image()
{
	C_HOST=$T_DIR/host
	mkdir -p "$C_HOST"/{dev/shm,run/coloc,opt} "$T_DIR"/{containers,image,image.work,image.root}
	make --no-print-directory O="$T_BUILD" LDCONFIG=true install DESTDIR="$T_DIR/image" \
		>"$T_DIR/make.log" 2>&1 || fail "$(tail -n 5 "$T_DIR/make.log")"
	# shellcheck disable=SC2016 # for the shell that runs it
	unshare -m sh -c 'mount -t overlay none -o "lowerdir=/,upperdir=$1,workdir=$1.work" "$1.root" &&
		chroot "$1.root" ldconfig' sh "$T_DIR/image" || {
		echo 'no overlay over this system'
		exit 77
	}
}

# Runs as the first process of the container's namespaces: FOLDER USER READ_ONLY, then lists that end in "--".
# shellcheck disable=SC2016 # for the shell that runs it
c_inside='
set -e
folder=$1 user=$2 read_only=$3 root=$1/root
shift 3
mount -t tmpfs none "$folder"
mkdir "$root" "$folder/upper" "$folder/work"
mount -t overlay none -o "lowerdir=$C_IMAGE:/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc none "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=64M none "$root/dev/shm"
for dir in tmp run; do
	mount -t tmpfs none "$root/$dir"
done
printf "127.0.0.1 localhost\n%s\n" "$C_HOSTS" >"$root/etc/hosts"
while [ "$1" != -- ]; do
	mkdir -p "$root$1"
	mount -t tmpfs none "$root$1"
	shift
done
shift
while [ "$1" != -- ]; do
	from=${1%%:*} to=${1#*:} mode=rw
	case $to in
	*:ro) to=${to%:ro} mode=ro ;;
	esac
	if [ -d "$from" ]; then
		mkdir -p "$root$to"
	else
		install -D /dev/null "$root$to"
	fi
	mount --bind "$from" "$root$to"
	[ "$mode" = rw ] || mount -o remount,bind,ro "$root$to"
	shift
done
shift
[ "$read_only" = 0 ] || mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
	--bounding-set=-all --inh-caps=-all \
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"'

c_run()
{
	local net=$2 mount mounts=() folder=$T_DIR/containers/$1
	for mount in "${c_mounts[@]}"; do
		mounts+=("$C_HOST$mount")
	done
	mkdir "$folder"
	C_IMAGE=$T_DIR/image C_HOSTS=${c_hosts:-} ip netns exec "$T_NS-$net" \
		unshare -m -p -u -i -f --kill-child=KILL sh -c "$c_inside" sh \
		"$folder" "${c_user:-0}" "${c_read_only:-0}" "${c_tmpfs[@]}" -- "${mounts[@]}" -- \
		"${c_env[@]}" "${c_command[@]}" >"$folder.out" 2>&1 &
	echo $! >"$folder.pid"
	[ -z "${c_background:-}" ] || return 0
	wait $!
}

c_exec()
{
	local first
	first=$(pgrep -P "$(cat "$T_DIR/containers/$1.pid")") || return 1
	shift
	nsenter -t "$first" -m -p -n -u -i -r -w env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Its first process; the kernel ends the others.
c_kill()
{
	local pid
	pid=$(cat "$T_DIR/containers/$1.pid")
	kill -KILL "$(pgrep -P "$pid")"
	wait "$pid" 2>/dev/null
	rm -rf "$T_DIR/containers/$1" "$T_DIR/containers/$1".*
}
