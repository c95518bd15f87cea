#!/bin/sh
# All of exo for ARM: built by the cross compiler, run under qemu beside this machine's own binary.
# Exits 77 (skipped) where the compiler, qemu or the arm64 packages cannot be had.
set -eu
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static apt-get; do
    command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
tests/neon/sysroot.sh build/aarch64-root || { echo "skipped: no arm64 packages"; exit 77; }
cmake --preset aarch64 --no-warn-unused-cli > /dev/null
cmake --build build/aarch64
exec /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/integration/test_arm.py
