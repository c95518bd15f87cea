#!/usr/bin/env bash
# tests/vulkan/compile.sh - compiles all kernels for AMD GPUs that are not there.
#
#   usage: compile.sh PROGRAM [libvulkan_radeon.so]
#
# RADV's null device compiles for the family that RADV_FORCE_FAMILY names and executes nothing: what a
# GPU's compiler refuses shows here, and a kernel that needs more registers than there are is named.
# PROGRAM is tests/vulkan/compile.c's.  Without that driver the test is skipped (77).
set -euo pipefail
program=${1:?usage: compile.sh PROGRAM [driver]}
driver=${2:-$(find /usr/lib /usr/local/lib -name libvulkan_radeon.so 2>/dev/null | head -n 1)}
if [ -z "$driver" ]; then
    echo "compile.sh: skipped: no RADV here (package mesa-vulkan-drivers)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
    "$driver" >"$work/radv.json"

# Mesa names its families differently from version to version; an unknown one aborts.
knows() { grep -qa "$1" "$driver"; }
families=()
if knows NAVI21; then families+=(navi21); fi
if knows NAVI31; then families+=(navi31); elif knows GFX1100; then families+=(gfx1100); fi
if [ ${#families[@]} = 0 ]; then
    echo "compile.sh: skipped: $driver knows neither navi21 nor navi31"
    exit 77
fi

for family in "${families[@]}"; do
    VK_ICD_FILENAMES=$work/radv.json VK_DRIVER_FILES=$work/radv.json RADV_FORCE_FAMILY=$family \
        RADV_DEBUG=shaderstats,nocache EXO_VULKAN_VALIDATION='' "$program" 2>"$work/log" || {
        code=$?
        tail -n 5 "$work/log"
        exit "$code"
    }
    # statistics follow the line that names the kernel
    awk '
        /^EXO / { kernel = $2 " (" $3 ") " $4 " " $5 " " $6 " " $7 }
        /[Vv]GPRs:/ && !/[Ss]pill/ { n = $NF; if (n + 0 > most) { most = n + 0; where = kernel } }
        /[Ss]pilled [SV]GPRs:/ && $NF + 0 > 0 { print "  spills: " kernel ": " $0; spills++ }
        END { printf "  most vector registers: %d, %s; %d spills\n", most, where, spills }
    ' "$work/log"
done
