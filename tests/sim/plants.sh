#!/usr/bin/env bash
# plants.sh CLUSTER_SIM [SEEDS] - bugs planted in whole clusters that a few seeds find, and some that
# take hundreds.  cluster_sim --plants --seeds 10000 looks for all (docs/simulator.md).
set -euo pipefail
sim=$1
seeds=${2:-200}

# find BUG options...: a rule must be broken
find() {
    local bug=$1 out
    shift
    if out=$("$sim" "$@" --plant "$bug" | tail -n 2); then
        echo "$bug was not found with $*"
        exit 1
    fi
    grep BROKEN <<<"$out" || { echo "$bug: no rule was broken, but the simulator failed: $out"; exit 1; }
}

for bug in term-not-persisted entries-not-persisted truncation-not-persisted snapshot-not-persisted \
    snapshot-of-old-state snapshot-forgets-members carry-not-persisted sent-before-persisted \
    damage-ignored disk-lost-same-name session-repeated commit-too-far ack-too-far refusal-as-ack \
    old-log-elected refused-vote-counted gap-skipped log-not-compared entry-changed \
    image-loses-instance logs-mixed-up end-lost-with-node waiting-forgotten guests-kept cancel-ignored \
    cancel-not-sent cancelled-route-kept delete-ignored history-forgotten event-sent-twice; do
    find "$bug" --seeds "$seeds"
done
# Rare ones, where they are known to be found:
find create-ignored --from 430 --seeds 10
find stale-reply-counted --from 500 --seeds 10
find loss-not-told --from 1090 --seeds 10
