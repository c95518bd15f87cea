/* cluster_world_client.c - people and programs that ask for changes: exo place, exo delete, POST
 * and DELETE on /instance.
 *
 * Each command has a name of its own, the instance's id, and is asked on any node.  A client that
 * hears that its node is gone or that the cluster has no master, or that hears nothing for as long
 * as it cares to wait, asks another node for the same under the same name.  What a node did with
 * the first attempt may count long after that; the command must be done once all the same. */
#include "sim/cluster_world_impl.h"

#include <stdio.h>
#include <string.h>

#define WAITER_MS                                                                                  \
    10000                 /* as in src/node/consensus.c: a node says by then that it has no master \
                           */
#define LEAST_WAIT_MS 500 /* how long clients wait for a node that says nothing */
#define MOST_WAIT_MS  15000
#define AGAIN_MS      400 /* at most, between an error and the next attempt */

static void ask(cworld *w, uint32_t k, uint32_t node) {
    sim_request *q = &w->requests[k];
    bool remove = q->created != 0;
    exo_event e = {.type = remove ? EXO_EVENT_INSTANCE_DELETED : EXO_EVENT_INSTANCE_CREATED,
                   .node = remove ? 0 : w->nodes[node].id,
                   .min_nodes = remove ? 0 : 1 + k % MAX_STAGES};
    snprintf(e.instance, sizeof e.instance, "i%u", k);
    if (!remove) snprintf(e.model_id, sizeof e.model_id, "m%u", k % N_MODELS);
    count(w, COUNT_COMMANDS);
    if (q->node != node && q->n_attempts > 0) count(w, COUNT_COMMANDS_ELSEWHERE);
    q->n_attempts++;
    q->node = node;
    q->epoch = w->nodes[node].epoch;
    q->asked = true;
    q->node_says_us = w->now_us + WAITER_MS * SIM_MS;
    q->patient_until_us =
        w->now_us + (LEAST_WAIT_MS + sim_below(&w->rng, MOST_WAIT_MS - LEAST_WAIT_MS)) * SIM_MS;
    cnode_step(w, node,
               &(exo_cluster_input){
                   .kind = EXO_CLUSTER_PROPOSE, .event = &e, .tag = 2 * (uint64_t)k + 1 + remove});
}

static bool any_up(cworld *w, uint32_t *node) {
    *node = (uint32_t)sim_below(&w->rng, w->n_nodes);
    return w->nodes[*node].up && !w->nodes[*node].asleep;
}

static bool is_open(const sim_request *q) {
    return q->created == 0 || (q->delete_asked && q->deleted == 0);
}

/* An attempt ends with an error that has a name, or because its client waits no longer. */
static void look_at_attempt(cworld *w, sim_request *q) {
    bool lost = w->nodes[q->node].epoch != q->epoch;
    bool no_master = w->now_us >= q->node_says_us, impatient = w->now_us >= q->patient_until_us;
    if (!lost && !no_master && !impatient) return;
    if (lost) {
        count(w, COUNT_COMMANDS_CUT_OFF);
    } else {
        count(w, no_master ? COUNT_COMMANDS_NO_MASTER : COUNT_COMMANDS_TIMED_OUT);
    }
    q->asked = false;
    q->again_us = w->now_us + sim_below(&w->rng, AGAIN_MS * SIM_MS);
}

static void follow_up(cworld *w) {
    uint32_t node;
    for (uint32_t k = 0; k < w->n_requests; k++) {
        sim_request *q = &w->requests[k];
        if (!is_open(q)) continue;
        if (q->asked) look_at_attempt(w, q);
        if (!q->asked && w->now_us >= q->again_us && any_up(w, &node)) ask(w, k, node);
    }
}

void clients_act(cworld *w, bool quiet) {
    uint32_t node;
    follow_up(w);
    if (quiet || !any_up(w, &node) || w->n_requests >= MAX_REQUESTS) return;
    uint32_t k = w->n_requests > 0 ? (uint32_t)sim_below(&w->rng, w->n_requests) : 0;
    bool may = w->n_requests > 0 && w->requests[k].created != 0 && !w->requests[k].delete_asked;
    if (may && sim_chance(&w->rng, 0.4)) {
        w->requests[k].delete_asked = true;
    } else {
        k = w->n_requests++;
    }
    w->requests[k].n_attempts = 0;
    ask(w, k, node);
}

/* True where it was given: the node shows what was asked for, unless its state was replaced by
 * another log's in the very same step; then it brings it there. */
static void check_answer(cworld *w, uint32_t i, const char *id, bool removed) {
    const exo_cluster_actions *out = &w->nodes[i].out;
    for (size_t k = 0; k < out->n; k++) {
        if (out->items[k].kind == EXO_CLUSTER_RESTORED) return;
    }
    const exo_state *s = exo_cluster_state_of(w->nodes[i].cluster);
    bool there = exo_state_instance_of(s, id) != NULL, gone = exo_state_was_deleted(s, id);
    if (removed ? !there && gone : there || gone) return;
    cworld_broken(w, "node %u says that instance %s was %s, and does not show it", i, id,
                  removed ? "deleted" : "created");
}

void clients_hear(cworld *w, uint32_t i, uint64_t tag) {
    sim_request *q = &w->requests[(tag - 1) / 2];
    bool removed = tag % 2 == 0;
    char id[EXO_CLUSTER_INSTANCE_BYTES];
    snprintf(id, sizeof id, "i%llu", (unsigned long long)(tag - 1) / 2);
    check_answer(w, i, id, removed);
    uint64_t *at = removed ? &q->deleted : &q->created;
    if (*at != 0) return; /* of an earlier attempt; its client has gone */
    *at = w->now_us;
    q->asked = false;
    count(w, COUNT_ACKNOWLEDGED);
    if (removed) engine_deleted(w, id);
}

void clients_final(cworld *w) {
    const exo_state *s = exo_cluster_state_of(w->nodes[0].cluster);
    for (uint32_t k = 0; k < w->n_requests; k++) {
        const sim_request *q = &w->requests[k];
        char id[EXO_CLUSTER_INSTANCE_BYTES];
        snprintf(id, sizeof id, "i%u", k);
        bool there = exo_state_instance_of(s, id) != NULL;
        if (is_open(q)) {
            cworld_broken(w, "the command to %s instance %s was never answered",
                          q->created != 0 ? "delete" : "create", id);
        } else if (q->created != 0 && !q->delete_asked && !there && !w->lossy) {
            cworld_broken(w, "instance %s was acknowledged and is gone", id);
        } else if (q->deleted != 0 && there && !w->lossy) {
            cworld_broken(w, "instance %s was deleted, acknowledged, and is there", id);
        }
    }
}
