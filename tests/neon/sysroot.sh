#!/bin/sh
# The libraries exo needs, for arm64, from Debian's archive, unpacked into a folder of their own:
# nothing is installed and the system's own list of architectures stays as it is.
# Usage: tests/neon/sysroot.sh FOLDER.  A folder that is complete is left alone.
set -eu
root=$(realpath -m "$1")
[ ! -e "$root/complete" ] || exit 0
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
private install -y --no-install-recommends --download-only libc6-dev libuv1-dev libmicrohttpd-dev libcurl4-openssl-dev \
    libjansson-dev libssl-dev libpcre2-dev libutf8proc-dev > /dev/null
for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$root"; done
rm -rf "$apt"
touch "$root/complete"
