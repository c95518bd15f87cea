#!/usr/bin/env bash
# options.sh CLUSTER_SIM RAFT_SIM - what the simulators cannot do is one line and exit status 2; --help
# says how they are called, with 0.
set -uo pipefail
failed=0

# refused WHAT_IT_SAYS COMMAND...
refused() {
    local says=$1 out status
    shift
    out=$("$@" 2>&1)
    status=$?
    if [ "$status" != 2 ] || [ "$(wc -l <<<"$out")" != 1 ] || ! grep -qF -- "$says" <<<"$out"; then
        echo "$*: status $status, not 2 with '$says': $out"
        failed=1
    fi
}

for sim in "$1" "$2"; do
    refused "is too much; at most" "$sim" --nodes 1001
    refused "is too much; at most" "$sim" --nodes 99999999999999999999
    refused "--nodes takes 1 to" "$sim" --nodes 0
    refused "--nodes takes 1 to" "$sim" --nodes 9-3
    refused "not a number: five" "$sim" --nodes five
    refused "not a number: -3" "$sim" --seeds -3
    refused "at least 1 is wanted by --seeds" "$sim" --seeds 0
    refused "at least 1 is wanted by --ms" "$sim" --ms 0
    refused "a value is missing behind --seed" "$sim" --seed
    refused "no planted bug is called nothing" "$sim" --plant nothing
    refused "unknown option --fast" "$sim" --fast
done
# helps COMMAND: --help says how it is called and which bugs can be planted, whatever stands beside it
helps() {
    local out
    if ! out=$("$1" --seed 1 --help) || ! grep -q "^usage: " <<<"$out" ||
        ! grep -qw vote-not-persisted <<<"$out" || grep -q "every rule held" <<<"$out"; then
        echo "$1 --help: $out"
        failed=1
    fi
}
helps "$1"
helps "$2"
"$1" --seed 1 --nodes 2-3 >/dev/null || failed=1
"$1" --peace --nodes 12 --ms 40000 | grep -q "every rule held" || failed=1
exit $failed
