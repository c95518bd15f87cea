#!/usr/bin/env bash
# tests/apple/parse.sh - syntax and types of the files that only Apple's systems compile.
#
# The declarations in include/ are written from Apple's documentation and hold what exo uses, no
# more: this finds what is mistyped, not what Apple's own headers say otherwise.  Without clang the
# check is skipped (77).
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v clang >/dev/null || { echo "apple: skipped, there is no clang"; exit 77; }
for macos in 1 0; do
    for file in src/node/sensors_macos.c src/compute/cpu/cpu_info_darwin.c; do
        clang -fsyntax-only -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror \
            -Wstrict-prototypes -Wmissing-prototypes -U__linux__ -D__APPLE__ \
            -DTARGET_OS_OSX=$macos -isystem tests/apple/include -Isrc -Iinclude "$file"
        echo "parsed: $file, TARGET_OS_OSX $macos"
    done
done
