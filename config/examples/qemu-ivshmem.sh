#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# qemu-ivshmem.sh - prints what a QEMU command line needs to share a region with its neighbours
#
#   qemu-system-x86_64 -machine q35 ... $(qemu-ivshmem.sh [FILE [SIZE]])
#
# FILE is the same for all machines of one trust domain, and for the host's agent (region.path); SIZE,
# a power of two, is the same for all of them too. docs/deploy-vm.md tells how to choose both and how to
# make the file first: QEMU would make it readable for everybody, and would not reserve its memory.
#
# What would go wrong silently later is refused here: QEMU takes a file of another size, and shares no
# byte with the others without share=on. The device sits behind a root port of its own, so that it can
# be unplugged and plugged in again; the port keeps an address window of twice the size, for less does
# not take a device that was not there at boot. 'master' stays off: QEMU then refuses to migrate the
# machine while the device is plugged in, instead of carrying the region to another host.
set -eu

die()
{
	echo "qemu-ivshmem.sh: $*" >&2
	exit 2
}

[ $# -le 2 ] || die 'usage: qemu-ivshmem.sh [FILE [SIZE]]'
file=${1:-/dev/shm/coloc-region}
size=${2:-256M}

case $file in
*[,[:space:]]*) die "$file: no commas or blanks" ;;
/*) ;;
*) die "$file: not an absolute path" ;;
esac

number=${size%[MG]}
case $number in
'' | *[!0-9]*) die "$size: not a number with M or G behind it" ;;
esac
case $size in
*M) bytes=$((number << 20)) ;;
*G) bytes=$((number << 30)) ;;
*) die "$size: not a number with M or G behind it" ;;
esac
[ "$bytes" -ge $((4 << 20)) ] || die "$size: less than 4M, the smallest region"
[ $((bytes & (bytes - 1))) = 0 ] || die "$size: not a power of two, which device memory must be"

if [ -e "$file" ]; then
	there=$(stat -L -c %s "$file")
	[ "$there" = 0 ] || [ "$there" = "$bytes" ] ||
		die "$file has $there bytes, not $bytes: one size for all who share it"
fi

echo "-object memory-backend-file,id=coloc,share=on,mem-path=$file,size=$bytes" \
	"-device pcie-root-port,id=coloc-port,chassis=200,pref64-reserve=$((bytes * 2))" \
	"-device ivshmem-plain,id=coloc0,memdev=coloc,bus=coloc-port"
