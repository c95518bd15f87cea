/* raft_main.c - runs simulated clusters: many seeds, one seed, or the planted bugs.
 *
 *   raft_sim [--seeds N] [--from S]   N seeds from S on; the first that breaks a rule is printed
 *                                     with the command that replays it
 *   raft_sim --seed S [--trace]       one seed
 *   raft_sim --plants [--seeds N]     each planted bug must be found within N seeds
 *   raft_sim --plant NAME --seed S    one bug, one seed
 *   ... [--nodes N] [--peace] */
#include "sim/raft_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const plant_names[N_PLANTS] = {
    [PLANT_NONE] = "none",
    [PLANT_VOTE_NOT_PERSISTED] = "vote-not-persisted",
    [PLANT_TERM_NOT_PERSISTED] = "term-not-persisted",
    [PLANT_ENTRIES_NOT_PERSISTED] = "entries-not-persisted",
    [PLANT_TRUNCATION_NOT_PERSISTED] = "truncation-not-persisted",
    [PLANT_SENT_BEFORE_PERSISTED] = "sent-before-persisted",
    [PLANT_SNAPSHOT_NOT_PERSISTED] = "snapshot-not-persisted",
    [PLANT_STALE_TERM_OBEYED] = "stale-term-obeyed",
    [PLANT_STALE_REPLY_COUNTED] = "stale-reply-counted",
    [PLANT_GAP_SKIPPED] = "gap-skipped",
    [PLANT_LOG_NOT_COMPARED] = "log-not-compared",
    [PLANT_COMMIT_TOO_FAR] = "commit-too-far",
    [PLANT_ACK_TOO_FAR] = "ack-too-far",
    [PLANT_REFUSAL_AS_ACK] = "refusal-as-ack",
    [PLANT_OLD_LOG_ELECTED] = "old-log-elected",
    [PLANT_REFUSED_VOTE_COUNTED] = "refused-vote-counted",
    [PLANT_VOTE_COUNTED_TWICE] = "vote-counted-twice",
    [PLANT_LEARNER_COUNTED] = "learner-counted",
    [PLANT_SNAPSHOT_LOSES_ENTRY] = "snapshot-loses-entry",
    [PLANT_SNAPSHOT_OF_OLD_STATE] = "snapshot-of-old-state",
    [PLANT_SNAPSHOT_FORGETS_MEMBERS] = "snapshot-forgets-members",
    [PLANT_APPLIED_TWICE] = "applied-twice",
    [PLANT_APPLY_SKIPPED] = "apply-skipped",
    [PLANT_DISK_LOST_SAME_ID] = "disk-lost-same-id",
    [PLANT_ENTRY_CHANGED_ON_THE_WAY] = "entry-changed-on-the-way",
};

const char *world_plant_name(world_plant p) { return plant_names[p]; }

static void print_result(const world_desc *d, const world_result *r) {
    printf("seed %llu: %s%s; %llu events, %llu messages, %llu elections, %llu entries committed, "
           "%llu acknowledged, %llu crashes, %llu snapshots, %llu changes of members\n",
           (unsigned long long)d->seed, r->ok ? "every rule held" : "BROKEN: ", r->why,
           (unsigned long long)r->n_events, (unsigned long long)r->n_messages,
           (unsigned long long)r->n_elections, (unsigned long long)r->n_committed,
           (unsigned long long)r->n_acknowledged, (unsigned long long)r->n_crashes,
           (unsigned long long)r->n_snapshots, (unsigned long long)r->n_member_changes);
}

static int run_seeds(world_desc d, uint64_t from, uint64_t n) {
    world_result sum = {.ok = true};
    for (uint64_t s = from; s < from + n; s++) {
        d.seed = s;
        world_result r = world_run(&d);
        sum.n_events += r.n_events;
        sum.n_elections += r.n_elections;
        sum.n_committed += r.n_committed;
        sum.n_acknowledged += r.n_acknowledged;
        sum.n_crashes += r.n_crashes;
        if (r.ok) continue;
        print_result(&d, &r);
        printf("replay: raft_sim --seed %llu --trace\n", (unsigned long long)s);
        return 1;
    }
    printf("%llu seeds from %llu: every rule held; %llu events, %llu elections, %llu entries "
           "committed, %llu acknowledged, %llu crashes\n",
           (unsigned long long)n, (unsigned long long)from, (unsigned long long)sum.n_events,
           (unsigned long long)sum.n_elections, (unsigned long long)sum.n_committed,
           (unsigned long long)sum.n_acknowledged, (unsigned long long)sum.n_crashes);
    return sum.n_acknowledged == 0; /* a cluster that does nothing breaks no rule */
}

static int run_plants(world_desc d, uint64_t n) {
    int missed = 0;
    for (world_plant p = PLANT_NONE + 1; p < N_PLANTS; p++) {
        uint64_t s = 1;
        world_result r = {.ok = true};
        d.plant = p;
        for (; s <= n && r.ok; s++) {
            d.seed = s;
            r = world_run(&d);
        }
        if (r.ok) missed++;
        printf("%-26s %s %llu seeds%s%s\n", world_plant_name(p), r.ok ? "NOT FOUND in" : "found in",
               (unsigned long long)(s - 1), r.ok ? "" : ": ", r.why);
        fflush(stdout);
    }
    printf("%d of %d planted bugs were missed\n", missed, N_PLANTS - 1);
    return missed != 0;
}

static world_plant plant_of(const char *name) {
    for (world_plant p = PLANT_NONE; p < N_PLANTS; p++) {
        if (strcmp(name, plant_names[p]) == 0) return p;
    }
    fprintf(stderr, "raft_sim: no bug is named %s\n", name);
    exit(2);
}

static uint64_t number(int argc, char **argv, int *i) {
    if (++*i >= argc) {
        fprintf(stderr, "raft_sim: a number is missing behind %s\n", argv[*i - 1]);
        exit(2);
    }
    return strtoull(argv[*i], NULL, 10);
}

int main(int argc, char **argv) {
    world_desc d = {0};
    uint64_t n = 100, from = 1;
    bool one = false, plants = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0) {
            n = number(argc, argv, &i);
        } else if (strcmp(argv[i], "--from") == 0) {
            from = number(argc, argv, &i);
        } else if (strcmp(argv[i], "--seed") == 0) {
            d.seed = number(argc, argv, &i);
            one = true;
        } else if (strcmp(argv[i], "--nodes") == 0) {
            d.n_nodes = (uint32_t)number(argc, argv, &i) % (WORLD_MAX_NODES + 1);
        } else if (strcmp(argv[i], "--peace") == 0) {
            d.peace = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            d.trace = true;
        } else if (strcmp(argv[i], "--plants") == 0) {
            plants = true;
        } else if (strcmp(argv[i], "--plant") == 0 && i + 1 < argc) {
            d.plant = plant_of(argv[++i]);
        } else {
            fprintf(stderr, "raft_sim: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    if (plants) return run_plants(d, n);
    if (!one) return run_seeds(d, from, n);
    world_result r = world_run(&d);
    print_result(&d, &r);
    return !r.ok;
}
