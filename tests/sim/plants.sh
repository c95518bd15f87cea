#!/usr/bin/env bash
# plants.sh CLUSTER_SIM [SEEDS] - bugs planted in whole clusters that a few seeds find.  The rare ones
# take thousands: cluster_sim --plants --seeds 10000 looks for all (docs/decisions/raft.md).
set -euo pipefail
sim=$1
seeds=${2:-200}
for bug in term-not-persisted entries-not-persisted truncation-not-persisted snapshot-not-persisted \
    snapshot-of-old-state snapshot-forgets-members carry-not-persisted sent-before-persisted \
    damage-ignored disk-lost-same-name session-repeated commit-too-far ack-too-far refusal-as-ack \
    old-log-elected refused-vote-counted gap-skipped log-not-compared entry-changed \
    image-loses-instance logs-mixed-up end-lost-with-node waiting-forgotten guests-kept cancel-ignored \
    cancel-not-sent cancelled-route-kept delete-ignored history-forgotten event-sent-twice; do
    if out=$("$sim" --seeds "$seeds" --plant "$bug" | tail -n 2); then
        echo "$bug was not found in $seeds seeds"
        exit 1
    fi
    grep BROKEN <<<"$out" || { echo "$bug: no rule was broken, but the simulator failed: $out"; exit 1; }
done
