#!/usr/bin/env bash
# regressions.sh CLUSTER_SIM - runs that broke a rule once.  Where the simulator draws other faults from
# a seed than it did then, the run is another one, too; the unit tests of the same names stay.
set -euo pipefail
sim=$1

# once NAME options...
once() {
    local name=$1
    shift
    printf '%s: ' "$name"
    "$sim" "$@" | cut -d ';' -f 1
}

once an-instance-whose-owner-is-elsewhere-is-brought-along --seed 12 --nodes 5-50
once an-event-that-an-earlier-life-overtook-is-not-acknowledged --seed 10
once damage-that-was-found-is-not-forgotten-in-a-crash --seed 1489
once a-participant-that-loses-a-node-tells-the-owner --seed 1094
once another-owners-plan-takes-the-place-of-the-one-before --seed 434
