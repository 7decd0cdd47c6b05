#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# build.sh - kernel and initramfs of the tests' virtual machines, in $T_BUILD/vm
#
# The kernel is Debian's for clouds: its package is downloaded once and unpacked, not installed. The
# initramfs holds what "make install" installs, the programs that the tests run in guests, taken from
# this system with the libraries that ldd names, and the folder guest/ beside this script. It is made
# anew each time, so that it is never older than the build.
#
# Out: vmlinuz, initramfs
set -eu
cd "$(dirname "$0")/../.."

build=$(realpath -m "${T_BUILD:-build}")
out=$build/vm
metapackage=linux-image-cloud-amd64
# The kernel itself asks for the last one when the agent asks it for sockets.
modules='virtio_pci virtio_net virtio_console tcp_diag'
# What is not here busybox does. Its own shell would prefer its own programs, to ip for instance.
programs='sh ip ss iperf3 sockperf redis-server redis-benchmark redis-cli nginx curl'

for tool in qemu-system-x86_64 dpkg-deb depmod modprobe cpio busybox $programs; do
	command -v "$tool" >/dev/null || {
		echo "$tool is not installed"
		exit 77
	}
done

# ---- kernel ---------------------------------------------------------------------------------------

# The package that the metapackage stands for has a name with its version.
download()
{
	local package
	package=$(apt-cache depends "$metapackage" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
	[ -n "$package" ] && (cd "$out" && apt-get download -qq "$package")
}

unpack_kernel()
{
	local version
	rm -rf "$out"/linux-image-*.deb "$out/kernel.new"
	download || {
		apt-get update -qq
		download
	}
	dpkg-deb -x "$out"/linux-image-*.deb "$out/kernel.new"
	version=$(ls "$out/kernel.new/lib/modules")
	depmod -b "$out/kernel.new" "$version"
	echo "$version" >"$out/kernel.new/version"
	rm -rf "$out/kernel" "$out"/linux-image-*.deb
	mv "$out/kernel.new" "$out/kernel"
}

# ---- initramfs ------------------------------------------------------------------------------------

# Program or library $1 at the path that it has here.
take()
{
	[ -e "$root$1" ] || install -D "$(realpath "$1")" "$root$1"
}

take_programs()
{
	local program path library
	for program in $programs; do
		path=$(command -v "$program")
		take "$path"
		ldd "$path" | awk '$2 == "=>" { print $3 } $1 ~ "^/" { print $1 }'
	done >"$root/libraries"
	for path in "$root"/usr/local/*bin/* "$root"/usr/local/lib/*.so "$root"/tests/*; do
		ldd "$path" | awk '$2 == "=>" { print $3 } $1 ~ "^/" { print $1 }'
	done >>"$root/libraries"
	sort -u "$root/libraries" | while read -r library; do
		take "$library"
	done
	rm "$root/libraries"
}

# With what depmod says of them, for modprobe in the guest.
take_modules()
{
	local version module
	version=$(cat "$out/kernel/version")
	for module in $modules; do
		modprobe -d "$out/kernel" -S "$version" --show-depends "$module"
	done | awk '{ print $2 }' | sort -u | xargs install -m 644 -D -t "$root/lib/modules/$version"
	cp "$out/kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} \
		"$root/lib/modules/$version/"
	depmod -b "$root" "$version"
}

mkdir -p "$out"
[ -e "$out/kernel/version" ] || unpack_kernel
cp "$out"/kernel/boot/vmlinuz-* "$out/vmlinuz"

root=$out/root
rm -rf "$root"
# A merged /usr, as here: ldd names /lib, and the loader of 64-bit programs is /lib64.
mkdir -p "$root"/{dev,proc,sys,run,tmp,etc,root,tests,var/lib/nginx,usr/{bin,sbin,lib,lib64}}
for folder in bin sbin lib lib64; do
	ln -s "usr/$folder" "$root/$folder"
done
env -u MAKEFLAGS -u MFLAGS make --no-print-directory O="$build" DESTDIR="$root" install >/dev/null
cp "$build/tests/vm/flow" "$root/tests/"
take_programs
take_modules
install "$(command -v busybox)" "$root/usr/bin/busybox"
# The kernel calls it at this path.
ln -s ../bin/busybox "$root/sbin/modprobe"
for applet in $(busybox --list); do
	[ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
cp -r tests/vm/guest/etc "$root/"
install tests/vm/guest/init "$root/init"
install tests/vm/guest/serve "$root/usr/sbin/serve"
printf '/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n' >"$root/etc/ld.so.conf"
/sbin/ldconfig -r "$root"

(cd "$root" && find . | cpio --quiet -o -H newc) >"$out/initramfs.new"
mv "$out/initramfs.new" "$out/initramfs"
rm -rf "$root"
echo "kernel $(cat "$out/kernel/version"), initramfs $(($(stat -c %s "$out/initramfs") >> 20)) MiB"
