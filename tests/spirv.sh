#!/usr/bin/env bash
# tests/spirv.sh - rebuilds every kernel from its GLSL source, validates it, compares it with the
# committed SPIR-V.  With --write it replaces the committed files instead.
#
# Another glslc may generate other (equally valid) code: the comparison needs the compiler named in
# src/compute/kernels/spv/COMPILER and is left out, with a message, where that one isn't installed.
set -euo pipefail
cd "$(dirname "$0")/../src/compute/kernels"
types=(f32 f16 bf16 q4_0 q8_0 q4_k q6_k q4_1 q5_0 q5_1 q2_k q3_k q5_k iq4_nl iq4_xs mxfp4)
dot_types=(q4_0 q8_0 q4_k q6_k) # with int8 inputs, too
environment=vulkan1.1

if ! command -v glslc >/dev/null || ! command -v spirv-val >/dev/null; then
    echo "spirv.sh: skipped: glslc or spirv-val is missing (packages glslc, spirv-tools)"
    exit 77
fi
compiler=$(glslc --version | grep -E '^(shaderc|glslang)' | tr '\n' ' ')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# build NAME SOURCE [glslc options]: says the commands that make NAME.spv and the variants that SOURCE
# has: NAME_subgroup.spv, NAME_texel.spv.
build() {
    local name=$1 source=$2
    shift 2
    echo "$* $source -o $out/$name.spv"
    case $source in
    matmul.comp | matmul_dot.comp | attention.comp | speed.comp)
        echo "-DEXO_SUBGROUP -DEXO_TEXEL $* $source -o $out/${name}_texel.spv"
        ;;&
    matmul.comp | matmul_dot.comp | rms.comp | rope_kv.comp | attention.comp | head_top.comp | speed.comp)
        echo "-DEXO_SUBGROUP $* $source -o $out/${name}_subgroup.spv"
        ;;
    esac
}

{
    for t in "${types[@]}"; do
        build "matmul_$t" matmul.comp "-DEXO_WEIGHT_${t^^}"
        build "embed_$t" embed.comp "-DEXO_WEIGHT_${t^^}"
    done
    for t in "${dot_types[@]}"; do build "dot_$t" matmul_dot.comp "-DEXO_WEIGHT_${t^^}"; done
    for k in quantize rms elementwise rope_kv attention attention_combine head_top speed; do
        build "$k" "$k.comp"
    done
} | xargs -P "$(nproc)" -L 1 glslc --target-env=$environment -O
for f in "$out"/*.spv; do spirv-val --target-env $environment "$f"; done

if [ "${1:-}" = --write ]; then
    mkdir -p spv
    rm -f spv/*.spv
    cp "$out"/*.spv spv/
    printf '%s\n' "$compiler" >spv/COMPILER
    exit 0
fi
if [ "$compiler" != "$(cat spv/COMPILER)" ]; then
    echo "spirv.sh: validated; not compared: this is $compiler, the files are of $(cat spv/COMPILER)"
    exit 0
fi
bad=0
for f in "$out"/*.spv spv/*.spv; do
    n=${f##*/}
    cmp -s "$out/$n" "spv/$n" && continue
    echo "spirv.sh: spv/$n does not match its source; run tests/spirv.sh --write"
    bad=1
done
exit $bad
