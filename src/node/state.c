/* state.c - what a node says of itself and of the cluster: GET /state, and its record for peers.
 *
 * Which instances there are is what the cluster's log says; how far each has come is what its
 * owner says.  An instance that no connected node runs is "waiting". */
#define _DEFAULT_SOURCE
#include "node/discover.h"
#include "node/node_impl.h"

#include <exo/version.h>
#include <math.h>
#include <string.h>

static json_t *number_or_null(double v) { return isnan(v) ? json_null() : json_real(v); }

static json_t *count_or_null(uint32_t n) { return n > 0 ? json_integer(n) : json_null(); }

static json_t *device_json(const exo_node *n) {
    const exo_device_info *d = &n->device_info;
    return json_pack("{s:s, s:s?, s:s, s:s, s:s, s:o, s:I, s:I, s:o}", "device_id", d->id,
                     "device_reason", n->device_reason[0] != '\0' ? n->device_reason : NULL, "name",
                     d->name, "vendor", d->vendor, "driver_version", d->driver, "compute_units",
                     count_or_null(d->compute_units), "memory_total_bytes",
                     (json_int_t)d->memory_bytes, "memory_available_bytes",
                     (json_int_t)d->memory_available_bytes, "temperature_celsius",
                     number_or_null(d->temperature_celsius));
}

/* Instances are shown by the node that owns them. */
json_t *exo_node_instances(exo_node *n) {
    json_t *all = json_object();
    for (const exo_instance *i = n->instances; i != NULL && all != NULL; i = i->next) {
        if (strcmp(i->owner, exo_node_id(n)) == 0) {
            json_object_set_new(all, i->id, exo_instance_json(i));
        }
    }
    return all;
}

json_t *exo_node_record(exo_node *n) {
    return json_pack("{s:s, s:s, s:s, s:[o], s:o, s:o, s:o}", "name", n->name, "version",
                     EXO_VERSION, "api", n->api_addr, "devices", device_json(n), "models",
                     exo_models_list(n->models), "instances", exo_node_instances(n), "downloads",
                     exo_downloads_record(n));
}

/* What of the nodes' records is shown in one place for all. */
typedef struct {
    json_t *nodes, *instances, *downloads;
} gathered;

static void add_node(gathered *g, const char *id, json_t *record_take) {
    json_t *theirs = json_object_get(record_take, "instances");
    if (json_is_object(theirs)) json_object_update_missing(g->instances, theirs);
    json_object_del(record_take, "instances");
    theirs = json_object_get(record_take, "downloads");
    if (json_is_object(theirs)) json_object_set(g->downloads, id, theirs);
    json_object_del(record_take, "downloads");
    json_object_set_new(g->nodes, id, record_take);
}

/* Remembered, and run by nobody who is connected. */
static json_t *waiting_json(const exo_state_instance *i) {
    char owner[EXO_NODE_ID_BYTES];
    exo_node_number_id(i->owner, owner);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:[]}", "model_id", i->model_id, "sharding",
                     "Pipeline", "state", "waiting", "owner", owner, "epoch", 0, "min_nodes",
                     (int)i->min_nodes, "shards");
}

static void add_remembered(const exo_node *n, json_t *instances) {
    const exo_state *s = exo_consensus_state(n);
    for (size_t k = 0; k < s->n_instances; k++) {
        const exo_state_instance *i = &s->instances[k];
        if (json_object_get(instances, i->id) != NULL) continue;
        json_object_set_new(instances, i->id, waiting_json(i));
    }
}

json_t *exo_node_state_json(exo_node *n) {
    gathered g = {json_object(), json_object(), json_object()};
    json_t *links = json_array();
    add_node(&g, exo_node_id(n), exo_node_record(n));
    for (const exo_peer *p = n->peers; p != NULL; p = p->next) {
        json_t *record = p->record != NULL ? json_copy(p->record) : json_object();
        json_object_set_new(record, "listen", json_string(p->listen));
        add_node(&g, p->node_id, record);
        json_array_append_new(links, exo_topology_link(n, p));
    }
    add_remembered(n, g.instances);
    json_t *state = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "node_id", exo_node_id(n),
                              "nodes", g.nodes, "instances", g.instances, "downloads",
                              exo_downloads_json(n, g.downloads), "links", links, "topology",
                              exo_topology_all(n), "discovery", exo_discover_json(n));
    json_decref(g.downloads);
    if (state != NULL) {
        exo_consensus_show(n, state);
        exo_watch_show(n, state);
    }
    return state;
}
