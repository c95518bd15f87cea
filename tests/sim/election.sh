#!/usr/bin/env bash
# election.sh - checks tests/sim/election.pml with spin: the election as it is holds in every order of
# events, and each planted mistake is found.  Skipped (77) where spin or a C compiler is missing.
#   election.sh [--deep]    more terms: minutes instead of seconds
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/election.pml
if ! command -v spin >/dev/null || ! command -v cc >/dev/null; then
    echo "skipped: no spin (Debian package spin) or no C compiler"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
three=3
forks=5
[ "${1:-}" != --deep ] || { three=4 forks=6; }

# check NAME EXPECTED options...: EXPECTED is 0 errors or 1
check() {
    local name=$1 expected=$2 found states
    shift 2
    spin -a "$@" "$model" >spin.log 2>&1 || { cat spin.log; exit 1; }
    cc -O1 -w -DSAFETY -DCOLLAPSE -DNOCLAIM -DMEMLIM=4096 -o pan pan.c
    ./pan -m1000000 >pan.log 2>&1 || true
    grep -q 'errors:' pan.log || { cat pan.log; exit 1; }
    if grep -qE 'max search depth too small|out of memory' pan.log; then
        echo "$name: the search did not reach every state"
        exit 1
    fi
    found=$(grep -oE 'errors: [0-9]+' pan.log | grep -oE '[0-9]+')
    states=$(grep -oE '[0-9.e+]+ states, stored' pan.log | head -n 1)
    printf '%-44s %s errors, %s\n' "$name" "$found" "$states"
    [ "$found" = "$expected" ] || { cat pan.log; exit 1; }
}

check "three nodes" 0 -DN=3 -DTERMS="$three"
check "two nodes" 0 -DN=2 -DTERMS=5
check "two nodes that go on alone and meet again" 0 -DN=2 -DTERMS="$forks" -DFORKS
for mistake in VOTE_NOT_PERSISTED TERM_NOT_PERSISTED OLD_TERM_GRANTED VOTED_TWICE; do
    check "three nodes, $mistake" 1 -DN=3 -DTERMS=3 "-D$mistake"
done
for mistake in FORK_WITHOUT_NUMBER NEWCOMERS_TERM_FORGOTTEN SAME_TERM_FORGOTTEN; do
    check "two nodes, $mistake" 1 -DN=2 -DTERMS="$forks" -DFORKS "-D$mistake"
done
