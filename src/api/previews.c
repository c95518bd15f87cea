/* previews.c - GET /instance/previews: what placing a model would do, for every number of nodes.
 *
 * Nothing is placed.  Each preview has the shards that /place_instance would make, what each node's
 * memory would pay for them, or why it cannot be.  The nodes are taken in the order in which
 * placing takes them. */
#define _DEFAULT_SOURCE
#include "api/cluster.h"

#include "base/mem.h"
#include "cluster/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What each part of the model weighs. */
typedef struct {
    uint64_t layers[EXO_MAX_LAYERS];
    uint64_t embedding, head; /* both the same tensor when tied */
    uint32_t n_layers;
} weights;

typedef struct {
    exo_call *call;
    exo_model *model;
    json_t *state;
    weights weights;
    exo_place_candidate candidates[EXO_MAX_STAGES];
    uint32_t n_candidates, n_nodes;
} preview;

/* ---- the model ---- */

static void weigh(const exo_model *m, weights *w) {
    const exo_gguf *g = exo_model_file(m);
    const exo_hparams *h = exo_model_hparams(m);
    const exo_outer_tensors *outer = exo_model_outer(m);
    *w = (weights){.n_layers = h->n_layers};
    for (size_t i = 0; i < exo_gguf_n_tensors(g); i++) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        char name[16];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        unsigned layer;
        if (sscanf(name, "blk.%u.", &layer) == 1 && layer < h->n_layers)
            w->layers[layer] += t->bytes;
    }
    if (outer->embedding != NULL) w->embedding = outer->embedding->bytes;
    if (outer->head != NULL) w->head = outer->head->bytes;
}

/* Weights and the pool of keys and values; 0 when no stage can have these layers. */
static uint64_t bytes_of(const preview *p, const exo_shard_place *s) {
    exo_shard_desc d;
    const exo_hparams *h = exo_model_hparams(p->model);
    exo_node *n = exo_calls_node(exo_call_all(p->call));
    if (exo_node_stage_desc(n, p->model, s->start_layer, s->end_layer, &d, NULL) != EXO_OK)
        return 0;
    uint64_t page = exo_kv_page_bytes(d.kv_type, h->n_kv_heads, h->head_dim) +
                    exo_kv_page_bytes(d.kv_type, h->n_kv_heads, h->v_dim);
    uint64_t sum = (s->end_layer - s->start_layer) * d.n_pages * page;
    for (uint32_t il = s->start_layer; il < s->end_layer; il++) sum += p->weights.layers[il];
    if (d.has_embedding) sum += p->weights.embedding;
    if (d.has_head && !(d.has_embedding && exo_model_hparams(p->model)->tied_head)) {
        sum += p->weights.head;
    }
    return sum;
}

/* ---- the nodes ---- */

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "";
}

static bool has_model(const json_t *node, const char *model_id) {
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(node, "models"), i, m) {
        if (strcmp(text_of(m, "id"), model_id) == 0) return true;
    }
    return false;
}

/* As exo_instances_candidates takes them: this node, then the linked ones that have the file. */
static void find_candidates(preview *p) {
    const char *own = text_of(p->state, "node_id"), *model_id = exo_model_id(p->model), *id;
    json_t *node;
    json_object_foreach(json_object_get(p->state, "nodes"), id, node) {
        bool self = strcmp(id, own) == 0;
        const json_t *device = json_array_get(json_object_get(node, "devices"), 0);
        p->n_nodes++;
        if (p->n_candidates == EXO_MAX_STAGES ||
            json_string_value(json_object_get(device, "device_id")) == NULL) {
            continue;
        }
        if (!self && (!has_model(node, model_id) || text_of(node, "listen")[0] == '\0')) continue;
        exo_place_candidate *c = &p->candidates[p->n_candidates++];
        snprintf(c->node_id, sizeof c->node_id, "%s", id);
        snprintf(c->device_id, sizeof c->device_id, "%.31s", text_of(device, "device_id"));
    }
}

/* Why others cannot take part: "node n2 does not have the model's file". */
static void name_the_others(const preview *p, exo_error *err) {
    const char *id;
    json_t *node;
    json_object_foreach(json_object_get(p->state, "nodes"), id, node) {
        bool in = false;
        for (uint32_t i = 0; i < p->n_candidates; i++) {
            in |= strcmp(p->candidates[i].node_id, id) == 0;
        }
        if (in) continue;
        const char *why = "has told nothing of itself yet";
        if (json_is_array(json_object_get(node, "models"))) why = "does not have the model's file";
        exo_error_set(err, EXO_EINVAL, "node %.40s (%s) %s", text_of(node, "name"), id, why);
        return;
    }
}

/* False: it has less than that; where no figure is known, it has room. */
static bool has_room(const preview *p, const exo_shard_place *s, uint64_t bytes, exo_error *err) {
    char id[sizeof s->node_id + sizeof s->device_id];
    snprintf(id, sizeof id, "%s/%s", s->node_id, s->device_id);
    const json_t *devices = json_object_get(json_object_get(p->state, "telemetry"), "devices");
    const json_t *m = json_object_get(json_object_get(devices, id), "metrics");
    const json_t *used = json_object_get(m, "memory_used_bytes");
    const json_t *total = json_object_get(m, "memory_total_bytes");
    if (!json_is_integer(used) || !json_is_integer(total)) return true;
    json_int_t left = json_integer_value(total) - json_integer_value(used);
    if (left >= 0 && bytes <= (uint64_t)left) return true;
    const json_t *node = json_object_get(json_object_get(p->state, "nodes"), s->node_id);
    exo_error_set(err, EXO_EINVAL,
                  "layers %u to %u need %.2f GiB on node %.40s (%s), which has "
                  "%.2f GiB free",
                  s->start_layer, s->end_layer - 1, (double)bytes / 0x1p30, text_of(node, "name"),
                  s->node_id, left > 0 ? (double)left / 0x1p30 : 0.0);
    return false;
}

/* ---- one preview ---- */

static json_t *shard_json(const exo_shard_place *s) {
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i}", "node_id", s->node_id, "device_id",
                     s->device_id, "start_layer", (int)s->start_layer, "end_layer",
                     (int)s->end_layer, "rank", (int)s->rank, "world_size", (int)s->world_size);
}

static json_t *preview_json(const preview *p, const char *sharding, uint32_t n, const char *error) {
    return json_pack("{s:s, s:s, s:s, s:i, s:n, s:n, s:s?}", "model_id", exo_model_id(p->model),
                     "sharding", sharding, "instance_meta", "Ring", "min_nodes", (int)n, "instance",
                     "memory_delta_by_node", "error", error);
}

static json_t *pipeline_over(const preview *p, uint32_t n) {
    exo_shard_place places[EXO_MAX_STAGES];
    exo_error err = {0};
    bool fits = true;
    exo_status st =
        exo_place_even(p->candidates, p->n_candidates, p->weights.n_layers, n, places, &err);
    if (st != EXO_OK) {
        if (n > p->n_candidates) name_the_others(p, &err);
        return preview_json(p, "Pipeline", n, err.message);
    }
    json_t *shards = json_array(), *delta = json_object();
    for (uint32_t s = 0; s < n; s++) {
        uint64_t bytes = bytes_of(p, &places[s]);
        if (fits) fits = has_room(p, &places[s], bytes, &err);
        json_array_append_new(shards, shard_json(&places[s]));
        json_object_set_new(delta, places[s].node_id, json_integer((json_int_t)bytes));
    }
    json_t *j = preview_json(p, "Pipeline", n, fits ? NULL : err.message);
    json_object_set_new(j, "instance",
                        json_pack("{s:s, s:s, s:o}", "model_id", exo_model_id(p->model), "sharding",
                                  "Pipeline", "shards", shards));
    json_object_set_new(j, "memory_delta_by_node", delta);
    return j;
}

static json_t *all_previews(const preview *p) {
    json_t *list = json_array();
    for (uint32_t n = 1; n <= p->n_nodes && n <= EXO_MAX_STAGES; n++) {
        json_array_append_new(list, pipeline_over(p, n));
    }
    json_array_append_new(list, preview_json(p, "Tensor", 2,
                                             "sharding \"Tensor\" is not built yet; use "
                                             "\"Pipeline\""));
    return list;
}

void exo_instance_previews(exo_call *c) {
    exo_node *n = exo_calls_node(exo_call_all(c));
    const char *model_id = exo_call_query(c, "model_id");
    exo_error err = {0};
    if (model_id == NULL) {
        exo_call_reply_error(c, EXO_EINVAL, "\"model_id\" is missing: previews of which model",
                             "model_id", NULL);
        return;
    }
    preview *p = exo_calloc(1, sizeof *p);
    exo_status st = p != NULL ? EXO_OK : exo_error_set(&err, EXO_ENOMEM, "out of memory");
    if (st == EXO_OK) st = exo_node_model(n, model_id, &p->model, &err);
    if (st == EXO_OK) st = exo_node_state(n, &p->state, &err);
    if (st == EXO_OK) {
        p->call = c;
        weigh(p->model, &p->weights);
        find_candidates(p);
        exo_call_reply_json(c, MHD_HTTP_OK, json_pack("{s:o}", "previews", all_previews(p)));
        json_decref(p->state);
    } else {
        exo_call_reply_error(c, st, err.message, st == EXO_ENOTFOUND ? "model_id" : NULL, NULL);
    }
    if (p != NULL) exo_model_unref(p->model);
    exo_free(p);
}
