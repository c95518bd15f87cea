/* cluster_main.c - runs simulated clusters (cluster_world.h): many seeds, one seed, the planted
 * bugs, or a large cluster in peace.  How it is called: options.h. */
#include "sim/cluster_world.h"
#include "sim/options.h"

#include <stdio.h>
#include <string.h>

#define U(x)      ((unsigned long long)(x))
#define FEW_SEEDS 100 /* in more than these, everything that can happen does */
#define PEACE_MS  60000

static void print_counts(const cluster_world_result *r) {
    for (int c = 0; c < N_COUNTS; c++) {
        printf("%s%llu %s", c > 0 ? ", " : "", U(r->counts[c]), world_count_name((world_count)c));
    }
}

static int fail(const sim_options *o, uint64_t seed, const cluster_world_result *r) {
    printf("seed %llu: BROKEN: %s\nreplay: cluster_sim --seed %llu", U(seed), r->why, U(seed));
    sim_options_print(o);
    printf(" --trace\n");
    return 1;
}

static void add(cluster_world_result *sum, const cluster_world_result *r) {
    for (int c = 0; c < N_COUNTS; c++) sum->counts[c] += r->counts[c];
}

static int run_seeds(const sim_options *o, cluster_world_desc d, uint64_t from, uint64_t n) {
    cluster_world_result sum = {0};
    double begin = sim_seconds();
    for (d.seed = from; d.seed < from + n; d.seed++) {
        cluster_world_result r = cluster_world_run(&d);
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
    for (int c = 0; c < N_COUNTS && n > FEW_SEEDS; c++) {
        if (sum.counts[c] > 0) continue;
        printf("not tested: %s never happened\n", world_count_name((world_count)c));
        return 1;
    }
    return 0;
}

static int run_plants(cluster_world_desc d, uint64_t n) {
    int missed = 0;
    for (uint32_t k = 1; k < N_SPOILS; k++) {
        cluster_world_result r = {.ok = true};
        double begin = sim_seconds();
        d.spoil = (world_spoil)k;
        for (d.seed = 1; d.seed <= n && r.ok; d.seed++) r = cluster_world_run(&d);
        missed += r.ok;
        printf("%-26s %s %llu seeds, %.1f s%s%s\n", world_spoil_name(k),
               r.ok ? "NOT FOUND in" : "found in", U(d.seed - 1), sim_seconds() - begin,
               r.ok ? "" : ": ", r.why);
        fflush(stdout);
    }
    printf("%d of %d planted bugs were missed\n", missed, N_SPOILS - 1);
    return missed > 0;
}

/* Of the cluster that has settled. */
static void print_traffic(const cluster_world_result *r, uint32_t n_nodes, uint64_t run_ms) {
    static const char *const names[N_TRAFFIC] = {[TRAFFIC_RAFT_OTHER] = "votes and snapshots",
                                                 [TRAFFIC_INFO] = "info",
                                                 [TRAFFIC_JOIN] = "join",
                                                 [TRAFFIC_EVENT] = "event",
                                                 [TRAFFIC_APPEND] = "append",
                                                 [TRAFFIC_APPEND_REPLY] = "append reply"};
    if (run_ms <= CLUSTER_WORLD_SETTLED_MS) return;
    double s = (double)(run_ms - CLUSTER_WORLD_SETTLED_MS) / 1000;
    printf("after %d s, bytes/s sent per node:", CLUSTER_WORLD_SETTLED_MS / 1000);
    for (int t = 1; t < N_TRAFFIC; t++) {
        printf("%s %s %.1f", t > 1 ? "," : "", names[t], (double)r->traffic[t] / n_nodes / s);
    }
    printf("\nthe busiest node sends %.0f and receives %.0f bytes/s, the last one %.0f and %.0f\n",
           (double)r->most_sent / s, (double)r->most_received / s, (double)r->least_sent / s,
           (double)r->least_received / s);
}

static int run_peace(const sim_options *o, cluster_world_desc d) {
    double begin = sim_seconds();
    d.seed = o->one ? o->seed : 1;
    if (d.min_nodes == 0) d.min_nodes = d.max_nodes = CLUSTER_WORLD_MAX_NODES;
    if (d.run_ms == 0) d.run_ms = PEACE_MS;
    cluster_world_result r = cluster_world_run(&d);
    if (!r.ok) return fail(o, d.seed, &r);
    printf(
        "seed %llu: every rule held; %llu events, %llu messages, %llu bytes in %.1f s; one state "
        "after %llu ms\n",
        U(d.seed), U(r.counts[COUNT_EVENTS]), U(r.counts[COUNT_MESSAGES]), U(r.n_bytes),
        sim_seconds() - begin, U(r.converged_ms));
    print_traffic(&r, d.max_nodes, d.run_ms);
    return 0;
}

int main(int argc, char **argv) {
    sim_options o = {.tool = "cluster_sim",
                     .fewest_nodes = 1,
                     .most_nodes = CLUSTER_WORLD_MAX_NODES,
                     .plant_name = world_spoil_name};
    sim_options_read(&o, argc, argv);
    cluster_world_desc d = {.min_nodes = o.min_nodes,
                            .max_nodes = o.max_nodes,
                            .run_ms = o.run_ms,
                            .peace = o.peace,
                            .spoil = (world_spoil)o.plant,
                            .trace = o.trace};
    uint64_t n = o.n_seeds != 0 ? o.n_seeds : 100;
    if (o.peace) return run_peace(&o, d);
    if (o.plants) return run_plants(d, n);
    if (o.one) return run_seeds(&o, d, o.seed, 1);
    return run_seeds(&o, d, o.from != 0 ? o.from : 1, n);
}
