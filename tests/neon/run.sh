#!/bin/sh
# The same bits on ARM as on this machine: builds tests/neon/bits.c for both, runs the ARM program
# under qemu and compares every hash.  Exits 77 (skipped) where the cross compiler or qemu is
# missing.  Usage: tests/neon/run.sh [BUILD_FOLDER]
set -eu
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
    command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
out=${1:-$(mktemp -d)}
mkdir -p "$out"
flags="-std=c11 -O2 -DEXO_TEST_HOOKS -Isrc -Iinclude -Wall -Wextra -Werror
    -ffp-contract=off -fno-math-errno -fno-strict-aliasing -Wno-psabi"
common="src/base/mem.c src/base/log.c src/base/error.c src/base/clock.c src/base/hash64.c
    src/base/host_linux.c src/compute/backend.c src/compute/dtype.c src/compute/blocks.c
    src/compute/blocks_codes.c src/compute/dmath.c src/compute/packed.c src/compute/plan_check.c"
for f in src/compute/cpu/*.c; do
    case $f in *_test.c | *_avx2.c | *_avxvnni.c | *_avx512.c | *_neon.c) ;; *) common="$common $f" ;; esac
done

# build NAME COMPILER KERNEL_FILE:FLAGS...
build() {
    name=$1 cc=$2
    shift 2
    objects=""
    for kernel in "$@"; do
        file=${kernel%%:*}
        object=$out/$name-$(basename "$file").o
        # shellcheck disable=SC2086
        $cc $flags -O3 ${kernel#*:} -c "src/compute/cpu/$file" -o "$object"
        objects="$objects $object"
    done
    # shellcheck disable=SC2086
    $cc $flags -static tests/neon/bits.c $common $objects -o "$out/bits-$name" -lm -lpthread
}

build arm64 aarch64-linux-gnu-gcc \
    "ops_neon.c:-march=armv8-a" "matmul_neon.c:-march=armv8-a" "unpacked_neon.c:-march=armv8-a" \
    "matmul_dotprod_neon.c:-march=armv8.2-a+dotprod" \
    "unpacked_dotprod_neon.c:-march=armv8.2-a+dotprod" \
    "matmul_i8mm_neon.c:-march=armv8.2-a+dotprod+i8mm" \
    "unpacked_i8mm_neon.c:-march=armv8.2-a+dotprod+i8mm"
# What needs no instruction of a newer processor runs on the older one only.
qemu-aarch64-static -cpu max "$out/bits-arm64" neon-i8mm neon-dotprod > "$out/arm64.txt" &
with_dotprod=$!
qemu-aarch64-static -cpu cortex-a53 "$out/bits-arm64" > "$out/arm64-plain.txt" &
without=$!
case $(uname -m) in
x86_64)
    avx2="-mavx2 -mfma -mf16c"
    avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c"
    build native "${CC:-cc}" "ops_avx2.c:$avx2" "matmul_avx2.c:$avx2" "kquants_avx2.c:$avx2" \
        "unpacked_avx2.c:$avx2" "unpacked_one_avx2.c:$avx2" "unpacked_avx512.c:$avx512" \
        "ops_avx512.c:$avx512" "matmul_avx512.c:$avx512" "kquants_avx512.c:$avx512" \
        "matmul_avxvnni.c:$avx2 -mavxvnni" "kquants_avxvnni.c:$avx2 -mavxvnni" \
        "unpacked_avxvnni.c:$avx2 -mavxvnni"
    "$out/bits-native" > "$out/native.txt"
    ;;
*) : > "$out/native.txt" ;;
esac
wait "$with_dotprod"
wait "$without"

cat "$out/native.txt" "$out/arm64.txt" "$out/arm64-plain.txt" > "$out/all.txt"
awk '{ print $3 }' "$out/all.txt" | sort | uniq -c
for kernels in neon-i8mm neon-dotprod; do
    grep -q " $kernels\$" "$out/arm64.txt" || { echo "the $kernels kernels did not run"; exit 1; }
    if grep -q " $kernels\$" "$out/arm64-plain.txt"; then
        echo "$kernels kernels were chosen on a processor without them"
        exit 1
    fi
done
different=$(awk '{ print $1, $2 }' "$out/all.txt" | sort -u | awk '{ print $1 }' | uniq -d)
if [ -n "$different" ]; then
    echo "different bits:"
    for op in $different; do grep "^$op " "$out/all.txt"; done
    exit 1
fi
echo "all instruction sets give the same bits"
