/* instances_json.c - instances as JSON: the create message, stage counters, /state. */
#define _DEFAULT_SOURCE
#include "node/instances_impl.h"

#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {"loading", "connecting", "running"};

json_t *exo_shard_place_json(const exo_shard_place *p) {
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i}", "node_id", p->node_id, "device_id",
                     p->device_id, "start_layer", (int)p->start_layer, "end_layer",
                     (int)p->end_layer, "rank", (int)p->rank, "world_size", (int)p->world_size);
}

json_t *exo_stats_json(const exo_worker_stats *s) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "steps", (json_int_t)s->steps, "rows",
        (json_int_t)s->rows, "tokens", (json_int_t)s->tokens, "busy_us", (json_int_t)s->busy_us,
        "decode_steps", (json_int_t)s->decode_steps, "decode_us", (json_int_t)s->decode_us,
        "bytes_sent", (json_int_t)s->bytes_sent, "bytes_received", (json_int_t)s->bytes_received,
        "pages_used", (json_int_t)s->pages_used, "pages_total", (json_int_t)s->pages_total);
}

static uint64_t get_u64(const json_t *m, const char *key) {
    json_int_t v = json_integer_value(json_object_get(m, key));
    return v > 0 ? (uint64_t)v : 0;
}

void exo_stats_from_json(const json_t *m, exo_worker_stats *s) {
    *s = (exo_worker_stats){.steps = get_u64(m, "steps"),
                            .rows = get_u64(m, "rows"),
                            .tokens = get_u64(m, "tokens"),
                            .busy_us = get_u64(m, "busy_us"),
                            .decode_steps = get_u64(m, "decode_steps"),
                            .decode_us = get_u64(m, "decode_us"),
                            .bytes_sent = get_u64(m, "bytes_sent"),
                            .bytes_received = get_u64(m, "bytes_received"),
                            .pages_used = get_u64(m, "pages_used"),
                            .pages_total = get_u64(m, "pages_total")};
}

json_t *exo_instance_json(const exo_instance *i) {
    json_t *shards = json_array();
    for (uint32_t s = 0; s < i->n_stages && shards != NULL; s++) {
        const exo_instance_stage *stage = &i->stages[s];
        json_t *j = exo_shard_place_json(&stage->place);
        json_object_set_new(j, "device_reason",
                            stage->reason[0] != '\0' ? json_string(stage->reason) : json_null());
        json_object_set_new(j, "loaded", json_boolean(stage->loaded));
        json_object_set_new(j, "weight_bytes", json_integer((json_int_t)stage->weight_bytes));
        json_object_set_new(j, "kv_bytes", json_integer((json_int_t)stage->kv_bytes));
        json_object_set_new(j, "stats", exo_stats_json(&stage->stats));
        json_array_append_new(shards, j);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "model_id", i->model_id, "sharding",
                     "Pipeline", "state", state_names[i->state], "owner", i->owner, "epoch",
                     (int)i->epoch, "min_nodes", (int)i->min_nodes, "shards", shards);
}

/* ---- what a node can keep keys and values in, in its hello ---- */

json_t *exo_kv_types_json(void) {
    static const exo_dtype types[] = {EXO_F32, EXO_F16, EXO_Q8_0};
    json_t *names = json_array();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        json_array_append_new(names, json_string(exo_dtype_get(types[i])->name));
    }
    return json_pack("{s:o}", "kv_types", names);
}

/* f32 and f16 are older than this member. */
bool exo_hello_has_kv(const json_t *hello, exo_dtype type) {
    if (type == EXO_F32 || type == EXO_F16) return true;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(hello, "kv_types"), i, item) {
        const char *name = json_string_value(item);
        if (name != NULL && strcmp(name, exo_dtype_get(type)->name) == 0) return true;
    }
    return false;
}

/* ---- messages in ---- */

static exo_status bad(exo_error *err, const char *member) {
    return exo_error_set(err, EXO_EFORMAT, "an instance message with a wrong \"%s\"", member);
}

static bool get_count(const json_t *m, const char *key, json_int_t max, uint32_t *out) {
    json_t *j = json_object_get(m, key);
    json_int_t v = json_integer_value(j);
    *out = (uint32_t)v;
    return json_is_integer(j) && v >= 0 && v <= max;
}

static exo_status shards_from_json(const json_t *list, exo_instance *i, exo_error *err) {
    size_t n = json_array_size(list);
    if (n == 0 || n > EXO_MAX_STAGES) return bad(err, "shards");
    i->n_stages = (uint32_t)n;
    i->my_stage = UINT32_MAX;
    uint32_t next_layer = 0;
    for (uint32_t s = 0; s < n; s++) {
        const json_t *j = json_array_get(list, s);
        exo_shard_place *p = &i->stages[s].place;
        const char *node_id = json_string_value(json_object_get(j, "node_id"));
        const char *device = json_string_value(json_object_get(j, "device_id"));
        if (node_id == NULL || strlen(node_id) != EXO_NODE_ID_BYTES - 1) return bad(err, "node_id");
        if (device == NULL || strlen(device) >= sizeof p->device_id) return bad(err, "device_id");
        const char *listen = json_string_value(json_object_get(j, "listen"));
        if (listen == NULL) return bad(err, "listen");
        snprintf(i->stages[s].listen, sizeof i->stages[s].listen, "%s", listen);
        memcpy(p->node_id, node_id, EXO_NODE_ID_BYTES);
        memcpy(p->device_id, device, strlen(device) + 1);
        if (!get_count(j, "start_layer", EXO_MAX_LAYERS, &p->start_layer) ||
            !get_count(j, "end_layer", EXO_MAX_LAYERS, &p->end_layer) ||
            p->start_layer != next_layer || p->end_layer <= p->start_layer) {
            return bad(err, "start_layer");
        }
        if (!get_count(j, "rank", 0, &p->rank) || !get_count(j, "world_size", 1, &p->world_size)) {
            return bad(err, "rank");
        }
        next_layer = p->end_layer;
        if (strcmp(node_id, exo_identity_node_id(i->node->identity)) == 0) i->my_stage = s;
    }
    return i->my_stage == UINT32_MAX ? bad(err, "shards") : EXO_OK;
}

exo_status exo_instance_from_json(const json_t *m, exo_instance *i, exo_instance_settings *s,
                                  exo_error *err) {
    *s = (exo_instance_settings){0};
    const char *id = json_string_value(json_object_get(m, "instance"));
    const char *model_id = json_string_value(json_object_get(m, "model_id"));
    if (id == NULL || strlen(id) >= sizeof i->id) return bad(err, "instance");
    if (model_id == NULL || strlen(model_id) >= sizeof i->model_id) return bad(err, "model_id");
    snprintf(i->id, sizeof i->id, "%s", id);
    snprintf(i->model_id, sizeof i->model_id, "%s", model_id);
    if (!get_count(m, "epoch", INT32_MAX, &i->epoch)) return bad(err, "epoch");
    if (!get_count(m, "min_nodes", EXO_MAX_STAGES, &i->min_nodes)) return bad(err, "min_nodes");
    const json_t *settings = json_object_get(m, "settings");
    if (!get_count(settings, "ctx_tokens", INT32_MAX, &s->ctx_tokens) ||
        !get_count(settings, "max_seqs", EXO_MAX_SEQS, &s->max_seqs) ||
        !get_count(settings, "chunk_tokens", INT32_MAX, &s->chunk_tokens)) {
        return bad(err, "settings");
    }
    s->kv_f16 = json_is_true(json_object_get(settings, "kv_f16"));
    s->kv_q8_0 = json_is_true(json_object_get(settings, "kv_q8_0"));
    s->wire_f16 = json_is_true(json_object_get(settings, "wire_f16"));
    return shards_from_json(json_object_get(m, "shards"), i, err);
}
