#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh - from a fresh Debian 12 to two guests that talk over shared memory: packages, build, demo
set -eu
cd "$(dirname "$0")/.."
scripts/deps.sh build demo
make -j"$(nproc)"
make demo
