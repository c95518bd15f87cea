/* raft_main.c - runs simulated clusters that agree on a log (raft_world.h): many seeds, one seed,
 * or the planted bugs.  How it is called: options.h. */
#include "sim/options.h"
#include "sim/raft_world.h"

#include <stdio.h>
#include <string.h>

#define U(x) ((unsigned long long)(x))

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

static const char *plant_name(uint32_t i) { return i < N_PLANTS ? plant_names[i] : NULL; }

static void print_counts(const world_result *r) {
    printf("%llu events, %llu messages, %llu elections, %llu entries committed, %llu acknowledged, "
           "%llu crashes, %llu snapshots, %llu changes of members",
           U(r->n_events), U(r->n_messages), U(r->n_elections), U(r->n_committed),
           U(r->n_acknowledged), U(r->n_crashes), U(r->n_snapshots), U(r->n_member_changes));
}

static void add(world_result *sum, const world_result *r) {
    sum->n_events += r->n_events;
    sum->n_messages += r->n_messages;
    sum->n_elections += r->n_elections;
    sum->n_committed += r->n_committed;
    sum->n_acknowledged += r->n_acknowledged;
    sum->n_crashes += r->n_crashes;
    sum->n_snapshots += r->n_snapshots;
    sum->n_member_changes += r->n_member_changes;
}

static int fail(const sim_options *o, uint64_t seed, const world_result *r) {
    printf("seed %llu: BROKEN: %s; ", U(seed), r->why);
    print_counts(r);
    printf("\nreplay: raft_sim --seed %llu", U(seed));
    sim_options_print(o);
    printf(" --trace\n");
    return 1;
}

static int run_seeds(const sim_options *o, world_desc d, uint64_t from, uint64_t n) {
    world_result sum = {.ok = true};
    double begin = sim_seconds();
    for (d.seed = from; d.seed < from + n; d.seed++) {
        world_result r = world_run(&d);
        add(&sum, &r);
        if (!r.ok) return fail(o, d.seed, &r);
        if (o->progress == 0 || (d.seed + 1 - from) % o->progress != 0) continue;
        printf("%llu seeds from %llu so far: every rule held; ", U(d.seed + 1 - from), U(from));
        print_counts(&sum);
        printf("; %.1f s\n", sim_seconds() - begin);
        fflush(stdout);
    }
    printf("%llu seed%s from %llu: every rule held; ", U(n), n == 1 ? "" : "s", U(from));
    print_counts(&sum);
    printf("; %.1f s\n", sim_seconds() - begin);
    return n > 1 && sum.n_acknowledged == 0; /* a cluster that does nothing breaks no rule */
}

static int run_plants(world_desc d, uint64_t n) {
    int missed = 0;
    for (world_plant p = PLANT_NONE + 1; p < N_PLANTS; p++) {
        world_result r = {.ok = true};
        d.plant = p;
        for (d.seed = 1; d.seed <= n && r.ok; d.seed++) r = world_run(&d);
        if (r.ok) missed++;
        printf("%-26s %s %llu seeds%s%s\n", plant_name(p), r.ok ? "NOT FOUND in" : "found in",
               U(d.seed - 1), r.ok ? "" : ": ", r.why);
        fflush(stdout);
    }
    printf("%d of %d planted bugs were missed\n", missed, N_PLANTS - 1);
    return missed != 0;
}

int main(int argc, char **argv) {
    sim_options o = {.tool = "raft_sim",
                     .fewest_nodes = 1,
                     .most_nodes = WORLD_MAX_NODES,
                     .plant_name = plant_name};
    sim_options_read(&o, argc, argv);
    world_desc d = {.min_nodes = o.min_nodes,
                    .max_nodes = o.max_nodes,
                    .run_ms = o.run_ms,
                    .peace = o.peace,
                    .plant = (world_plant)o.plant,
                    .trace = o.trace};
    uint64_t n = o.n_seeds != 0 ? o.n_seeds : 100;
    if (o.plants) return run_plants(d, n);
    if (o.one) return run_seeds(&o, d, o.seed, 1);
    return run_seeds(&o, d, o.from != 0 ? o.from : 1, n);
}
