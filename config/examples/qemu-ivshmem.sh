#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# qemu-ivshmem.sh - what a QEMU command line needs to share a region with its neighbours
#
#   qemu-system-x86_64 ... $(qemu-ivshmem.sh [FILE [SIZE]])
#
# FILE is the same for all machines of one trust domain and for the host's agent (region.path); SIZE
# is a power of two. On a hugetlbfs mount the pages are large.
set -eu
file=${1:-/dev/shm/coloc-region}
size=${2:-256M}

printf -- '-object memory-backend-file,id=coloc,share=on,mem-path=%s,size=%s ' "$file" "$size"
printf -- '-device ivshmem-plain,memdev=coloc\n'
