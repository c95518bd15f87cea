#!/usr/bin/env bash
# tests/vulkan/icd.sh - prepares the software Vulkan devices the tests run on.
#
#   usage: icd.sh DIR
#
# Leaves DIR/lavapipe.json (Mesa's driver, package mesa-vulkan-drivers) and DIR/swiftshader.json
# (libvk_swiftshader.so out of package chromium-common, which is unpacked but not installed).  Each
# is a driver description for VK_ICD_FILENAMES.  A driver that cannot be had is named on stderr and
# left out; what is there already is kept.  Exit code 0 when there is at least one, else 77.
set -uo pipefail
dir=${1:?usage: icd.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# describe DRIVER.so NAME: writes DIR/NAME.json
describe() {
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
        "$1" >"$dir/$2.json.new" && mv "$dir/$2.json.new" "$dir/$2.json"
}

lavapipe() {
    local found
    found=$(find /usr/lib /usr/local/lib -name libvulkan_lvp.so 2>/dev/null | head -n 1)
    [ -n "$found" ] || return 1
    describe "$found" lavapipe
}

swiftshader() {
    local work found
    if [ ! -s "$dir/libvk_swiftshader.so" ]; then
        work=$(mktemp -d) || return 1
        (
            cd "$work" || exit 1
            get() { timeout 300 apt-get download -qq -o APT::Sandbox::User=root chromium-common; }
            # where there are no package lists yet, or old ones
            get || { [ "$(id -u)" = 0 ] && timeout 120 apt-get update -qq && get; } || exit 1
            dpkg -x chromium-common_*.deb tree
        ) >/dev/null 2>&1 || { rm -rf "$work"; return 1; }
        found=$(find "$work/tree" -name libvk_swiftshader.so | head -n 1)
        # shellcheck disable=SC2015 # either both happen or the clean-up
        [ -n "$found" ] && cp "$found" "$dir/libvk_swiftshader.so.new" || { rm -rf "$work"; return 1; }
        rm -rf "$work"
        mv "$dir/libvk_swiftshader.so.new" "$dir/libvk_swiftshader.so"
    fi
    describe "$dir/libvk_swiftshader.so" swiftshader
}

have=77
missing() { echo "icd.sh: $1 is not to be had here" >&2; }
if [ -s "$dir/lavapipe.json" ] || lavapipe; then have=0; else missing lavapipe; fi
if [ -s "$dir/swiftshader.json" ] || swiftshader; then have=0; else missing swiftshader; fi
exit "$have"
