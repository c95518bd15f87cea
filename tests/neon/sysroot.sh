#!/bin/sh
# The libraries exo needs, for arm64, from Debian's archive, unpacked into a folder of their own:
# nothing is installed and the system's own list of architectures stays as it is.
# Usage: tests/neon/sysroot.sh FOLDER.  A folder that has them all is left alone.
set -eu
root=$(realpath -m "$1")
packages="libc6-dev libuv1-dev libmicrohttpd-dev libcurl4-openssl-dev libjansson-dev libssl-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libvulkan-dev"
[ "$(cat "$root/complete" 2> /dev/null || true)" != "$packages" ] || exit 0
apt=$root/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
: > "$apt/status"
private() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o Debug::NoLocking=1 \
        -o Acquire::Languages=none "$@"
}
# A source without arm64 packages fails here and does no harm: Debian's own is what counts.
private update > /dev/null 2>&1 || true
# shellcheck disable=SC2086 # a list
private install -y --no-install-recommends --download-only $packages > /dev/null
for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$root"; done
rm -rf "$apt"
echo "$packages" > "$root/complete"
