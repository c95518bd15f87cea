/* options.h - what raft_sim and cluster_sim are told on the command line, read alike.
 *
 *   --seeds N [--from S]     many runs; the first that breaks a rule ends them
 *   --seed S                 one run, to look at: --trace prints what happens
 *   --plants [--seeds N]     each planted bug must be found within N seeds
 *   --plant NAME             this bug, in the runs asked for
 *   --nodes K, --nodes A-B   so many nodes in each run, or drawn from its seed
 *   --ms T                   virtual time with faults
 *   --peace                  no faults
 *   --progress N             a line on what was run so far, every N seeds
 *   --help                   how it is called; nothing is run
 *
 * What cannot be done is said in one line, and ends the program with 2. */
#ifndef EXO_TESTS_SIM_OPTIONS_H
#define EXO_TESTS_SIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *tool;                      /* its name, for messages */
    uint32_t fewest_nodes, most_nodes;     /* what it can simulate */
    const char *(*plant_name)(uint32_t i); /* from 1 on; NULL: there are no more */

    uint64_t n_seeds, from; /* as read; 0 = not said */
    uint64_t progress;      /* seeds between two lines; 0 = none */
    uint64_t seed;          /* counts where one is true */
    bool one, plants, peace, trace;
    uint32_t plant;                /* 0 = none */
    uint32_t min_nodes, max_nodes; /* 0 = not said */
    uint64_t run_ms;               /* 0 = not said */
} sim_options;

void sim_options_read(sim_options *o, int argc, char **argv);

/* " --nodes 3-9 --plant NAME" as far as it was said: how a run is repeated. */
void sim_options_print(const sim_options *o);

/* Seconds, for the time a run took. */
double sim_seconds(void);

#endif
