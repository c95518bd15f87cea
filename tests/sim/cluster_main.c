/* cluster_main.c - runs simulated clusters (cluster_world.h) over many seeds, or one to look at.
 *
 *   cluster_sim --seeds N [--from S] [--nodes K]    random clusters with faults
 *   cluster_sim --seed S [--nodes K] [--trace]      one of them again
 *   cluster_sim --plants [--seeds N]                each planted bug must be found within N seeds
 *   cluster_sim --plant NAME --seed S               one planted bug in one run
 *   cluster_sim --peace --nodes K --ms T            no faults: what a large cluster costs */
#include "sim/cluster_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t number(int argc, char **argv, int *i) {
    if (*i + 1 >= argc) {
        fprintf(stderr, "cluster_sim: %s needs a number\n", argv[*i]);
        exit(2);
    }
    return strtoull(argv[++*i], NULL, 10);
}

static void print_failure(const cluster_world_desc *d, const cluster_world_result *r) {
    printf("seed %llu: %s\nreplay: cluster_sim --seed %llu", (unsigned long long)d->seed, r->why,
           (unsigned long long)d->seed);
    if (d->n_nodes != 0) printf(" --nodes %u", d->n_nodes);
    if (d->spoil != SPOIL_NONE) printf(" --plant %s", world_spoil_name(d->spoil));
    printf(" --trace\n");
}

static int run_seeds(cluster_world_desc d, uint64_t from, uint64_t n) {
    cluster_world_result sum = {0};
    for (uint64_t s = from; s < from + n; s++) {
        d.seed = s;
        cluster_world_result r = cluster_world_run(&d);
        sum.n_events += r.n_events;
        sum.n_messages += r.n_messages;
        sum.n_crashes += r.n_crashes;
        sum.n_forks += r.n_forks;
        sum.n_masters += r.n_masters;
        sum.n_acknowledged += r.n_acknowledged;
        sum.n_lost_disks += r.n_lost_disks;
        if (r.ok) continue;
        print_failure(&d, &r);
        return 1;
    }
    printf("%llu seeds from %llu: every rule held; %llu events, %llu messages, %llu masters (%llu "
           "provisional), %llu acknowledged, %llu crashes, %llu disks lost or damaged\n",
           (unsigned long long)n, (unsigned long long)from, (unsigned long long)sum.n_events,
           (unsigned long long)sum.n_messages, (unsigned long long)sum.n_masters,
           (unsigned long long)sum.n_forks, (unsigned long long)sum.n_acknowledged,
           (unsigned long long)sum.n_crashes, (unsigned long long)sum.n_lost_disks);
    return 0;
}

static int run_plants(cluster_world_desc d, uint64_t n) {
    int missed = 0;
    for (int k = 1; k < N_SPOILS; k++) {
        d.spoil = (world_spoil)k;
        cluster_world_result r = {.ok = true};
        for (d.seed = 1; d.seed <= n && r.ok; d.seed++) r = cluster_world_run(&d);
        if (r.ok) {
            printf("%-28s not found in %llu seeds\n", world_spoil_name(d.spoil),
                   (unsigned long long)n);
            missed++;
        } else {
            printf("%-28s seed %-6llu %s\n", world_spoil_name(d.spoil),
                   (unsigned long long)(d.seed - 1), r.why);
        }
        fflush(stdout);
    }
    return missed > 0;
}

static int run_one(const cluster_world_desc *d) {
    double begin = seconds();
    cluster_world_result r = cluster_world_run(d);
    if (!r.ok) {
        print_failure(d, &r);
        return 1;
    }
    printf("seed %llu: every rule held; %llu events, %llu messages, %llu bytes in %.1f s",
           (unsigned long long)d->seed, (unsigned long long)r.n_events,
           (unsigned long long)r.n_messages, (unsigned long long)r.n_bytes, seconds() - begin);
    if (d->peace) {
        double per = (double)r.n_bytes / d->n_nodes / ((double)d->run_ms / 1000);
        printf("; one state after %llu ms; %.1f bytes/s sent per node",
               (unsigned long long)r.converged_ms, per);
    }
    printf("\n");
    return 0;
}

static world_spoil spoil_of(const char *name) {
    for (int k = 1; k < N_SPOILS; k++) {
        if (strcmp(world_spoil_name((world_spoil)k), name) == 0) return (world_spoil)k;
    }
    fprintf(stderr, "cluster_sim: no planted bug is called %s\n", name);
    exit(2);
}

int main(int argc, char **argv) {
    cluster_world_desc d = {.seed = 1};
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
            d.n_nodes = (uint32_t)number(argc, argv, &i) % (CLUSTER_WORLD_MAX_NODES + 1);
        } else if (strcmp(argv[i], "--ms") == 0) {
            d.run_ms = number(argc, argv, &i);
        } else if (strcmp(argv[i], "--peace") == 0) {
            d.peace = one = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            d.trace = true;
        } else if (strcmp(argv[i], "--plants") == 0) {
            plants = true;
        } else if (strcmp(argv[i], "--plant") == 0 && i + 1 < argc) {
            d.spoil = spoil_of(argv[++i]);
        } else {
            fprintf(stderr, "cluster_sim: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    if (d.peace && d.run_ms == 0) d.run_ms = 60000;
    if (plants) return run_plants(d, n);
    return one ? run_one(&d) : run_seeds(d, from, n);
}
