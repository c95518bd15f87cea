/* instance.c - one instance: shown, made as a preview describes it, waited for. */
#define _DEFAULT_SOURCE
#include "api/cluster.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AWAIT_DEFAULT_S 60.0
#define AWAIT_MAX_S     3600.0
#define MAX_LAYER       100000

/* ---- GET /instance/{id} ---- */

/* The cluster's state: a new reference; NULL after an error reply. */
static json_t *state_of(exo_call *c) {
    exo_error err = {0};
    json_t *state = NULL;
    exo_status st = exo_node_state(exo_calls_node(exo_call_all(c)), &state, &err);
    if (st != EXO_OK) exo_call_reply_error(c, st, err.message, NULL, NULL);
    return state;
}

void exo_instance_get(exo_call *c, const char *instance_id) {
    json_t *state = state_of(c);
    if (state == NULL) return;
    json_t *i = json_object_get(json_object_get(state, "instances"), instance_id);
    if (json_is_object(i)) {
        json_object_set_new(i, "instance_id", json_string(instance_id));
        exo_call_reply_json(c, MHD_HTTP_OK, json_incref(i));
    } else {
        exo_error err;
        exo_error_set(&err, EXO_ENOTFOUND, "instance \"%.32s\" not found; GET /state lists them",
                      instance_id);
        exo_call_reply_error(c, EXO_ENOTFOUND, err.message, NULL, NULL);
    }
    json_decref(state);
}

/* ---- POST /instance ---- */

static bool layer_of(const json_t *shard, const char *name, uint32_t *out) {
    const json_t *j = json_object_get(shard, name);
    json_int_t v = json_integer_value(j);
    *out = (uint32_t)v;
    return json_is_integer(j) && v >= 0 && v <= MAX_LAYER;
}

/* A node computes on its own device only; one that names another is not what was meant. */
static void check_device(exo_fields *f, const json_t *state, const char *node,
                         const json_t *shard) {
    const json_t *asked = json_object_get(shard, "device_id");
    const json_t *devices =
        json_object_get(json_object_get(json_object_get(state, "nodes"), node), "devices");
    const char *has = json_string_value(json_object_get(json_array_get(devices, 0), "device_id"));
    if (asked == NULL || has == NULL) return; /* a node that is not here is named later */
    if (json_is_string(asked) && strcmp(json_string_value(asked), has) == 0) return;
    exo_fields_fail(f, "instance", EXO_EINVAL, "names device \"%.32s\" of node %s, which has %s",
                    json_is_string(asked) ? json_string_value(asked) : "?", node, has);
}

static void read_shard(exo_fields *f, const json_t *state, const json_t *shard, uint32_t s,
                       exo_placement_wish *w) {
    uint32_t begin, end, world = 1;
    const char *node = json_string_value(json_object_get(shard, "node_id"));
    if (node == NULL || strlen(node) != EXO_NODE_ID_BYTES - 1) {
        exo_fields_fail(f, "instance", EXO_EINVAL, "has a shard %u without a \"node_id\"", s);
        return;
    }
    if (!layer_of(shard, "start_layer", &begin) || !layer_of(shard, "end_layer", &end) ||
        end <= begin) {
        exo_fields_fail(f, "instance", EXO_EINVAL,
                        "has a shard %u without layers: \"start_layer\" below \"end_layer\"", s);
        return;
    }
    if (json_object_get(shard, "world_size") != NULL && !layer_of(shard, "world_size", &world)) {
        world = 0;
    }
    if (world != 1) {
        exo_fields_fail(f, "instance", EXO_EINVAL,
                        "has a shard %u of a \"world_size\" other than 1; tensor parallelism is "
                        "not built yet",
                        s);
        return;
    }
    uint32_t expected = s > 0 ? w->cuts[s - 1] : 0;
    if (begin != expected) {
        exo_fields_fail(f, "instance", EXO_EINVAL, "has a shard %u that begins at layer %u, not %u",
                        s, begin, expected);
        return;
    }
    memcpy(w->nodes[s], node, EXO_NODE_ID_BYTES);
    if (s < sizeof w->cuts / sizeof w->cuts[0]) w->cuts[s] = end;
    check_device(f, state, node, shard);
}

/* The last shard's end must be the model's: a cut after it would be one too many. */
static void check_end(exo_fields *f, exo_call *c, const char *model_id, const json_t *last) {
    exo_model *m = NULL;
    uint32_t end = 0;
    if (model_id == NULL ||
        exo_node_model(exo_calls_node(exo_call_all(c)), model_id, &m, NULL) != EXO_OK) {
        return; /* named by whoever places */
    }
    uint32_t n_layers = exo_model_hparams(m)->n_layers;
    exo_model_unref(m);
    if (layer_of(last, "end_layer", &end) && end == n_layers) return;
    exo_fields_fail(f, "instance", EXO_EINVAL, "ends at layer %u; the model has %u", end, n_layers);
}

static void read_instance(exo_fields *f, const json_t *state, const json_t *instance,
                          exo_placement_wish *w) {
    const json_t *shards = json_object_get(instance, "shards");
    size_t n = json_array_size(shards), room = sizeof w->nodes / sizeof w->nodes[0];
    if (n == 0 || n > room) {
        exo_fields_fail(f, "instance", EXO_EINVAL, "must have \"shards\": an array of 1 to %zu",
                        room);
    }
    for (uint32_t s = 0; s < n && exo_fields_ok(f); s++) {
        read_shard(f, state, json_array_get(shards, s), s, w);
    }
    w->min_nodes = w->n_nodes = (uint32_t)n;
    w->n_cuts = n > 0 ? (uint32_t)n - 1 : 0;
}

/* A preview as it was returned, {"instance": {...}}, or the instance itself. */
void exo_instance_create(exo_call *c) {
    const exo_buf *body = exo_call_body(c);
    exo_fields f = {0};
    json_t *j = NULL, *state = NULL;
    exo_placement_wish wish = {.sharding = "Pipeline"};
    if (exo_fields_parse(exo_buf_str(body), body->n, &j, &f.err) != EXO_OK) goto done;
    f.object = j;
    const char *model_id = NULL, *error = NULL;
    const json_t *instance = exo_fields_get(&f, "instance");
    exo_fields_string(&f, "error", &error);
    if (error != NULL) {
        exo_fields_fail(&f, "error", EXO_EINVAL, "says that this is not possible: %.120s", error);
    }
    if (instance != NULL && !json_is_object(instance)) {
        exo_fields_fail(&f, "instance", EXO_EINVAL, "must be an object");
    }
    exo_fields inner = {.object = instance != NULL ? instance : j};
    exo_fields_string(&f, "model_id", &model_id);
    exo_fields_string(&inner, "model_id", &model_id);
    exo_fields_string(&inner, "sharding", &wish.sharding);
    if (exo_fields_ok(&f) && !exo_fields_ok(&inner)) f = inner;
    if (!exo_fields_ok(&f)) goto done;
    state = state_of(c);
    if (state == NULL) goto gone;
    read_instance(&f, state, inner.object, &wish);
    if (exo_fields_ok(&f)) {
        const json_t *shards = json_object_get(inner.object, "shards");
        check_end(&f, c, model_id, json_array_get(shards, json_array_size(shards) - 1));
    }
    exo_cluster_begin(c, &f, model_id, &wish);
done:
    if (!exo_fields_ok(&f)) exo_cluster_refuse(c, &f);
gone:
    json_decref(state);
    json_decref(j);
}

/* ---- GET /instance/await ---- */

/* As a client of upstream exo expects it: one event, "ready" or "timeout". */
static void end_await_stream(exo_call *c, exo_status status, const char *id, const char *message) {
    const char *word = status == EXO_OK ? "ready" : status == EXO_ETIMEDOUT ? "timeout" : "error";
    exo_call_send_json(c, json_pack("{s:s, s:s?, s:s}", "status", word, "instance_id",
                                    status == EXO_OK ? id : NULL, "message", message));
    exo_call_end_stream(c);
}

static void on_awaited_stream(void *ud, exo_status status, const char *id, const char *message) {
    end_await_stream(ud, status, id, message);
    exo_call_release(ud);
}

static void on_awaited(void *ud, exo_status status, const char *id, const char *message) {
    exo_call *c = ud;
    if (status == EXO_OK) {
        exo_call_reply_json(
            c, MHD_HTTP_OK,
            json_pack("{s:s, s:s, s:s}", "status", "ready", "instance_id", id, "message", message));
    } else {
        const char *code = status == EXO_ETIMEDOUT ? "instance_not_ready" : NULL;
        exo_call_reply_error(c, status, message, NULL, code);
    }
    exo_call_release(c);
}

/* False after an error reply. */
static bool read_patience(exo_call *c, uint32_t *ms) {
    const char *text = exo_call_query(c, "timeout_s");
    char *end = NULL;
    double s = text != NULL ? strtod(text, &end) : AWAIT_DEFAULT_S;
    bool number = text == NULL || (*text >= '0' && *text <= '9' && *end == '\0' && isfinite(s));
    if (number && s <= AWAIT_MAX_S) {
        *ms = (uint32_t)(s * 1000);
        return true;
    }
    exo_error err;
    exo_error_set(&err, EXO_EINVAL, "\"timeout_s\" must be 0 to %g seconds, not \"%.32s\"",
                  AWAIT_MAX_S, text);
    exo_call_reply_error(c, EXO_EINVAL, err.message, "timeout_s", NULL);
    return false;
}

void exo_instance_await(exo_call *c) {
    exo_node_await_desc d = {.model_id = exo_call_query(c, "model_id"),
                             .instance_id = exo_call_query(c, "instance_id")};
    exo_error err = {0};
    uint64_t handle;
    if (!read_patience(c, &d.deadline_ms)) return;
    if (d.model_id == NULL && d.instance_id == NULL) {
        exo_call_reply_error(c, EXO_EINVAL, "\"model_id\" is missing: which model to wait for",
                             "model_id", NULL);
        return;
    }
    bool stream = exo_call_wants_events(c);
    if (stream) exo_call_will_stream(c);
    exo_call_hold(c);
    exo_status st = exo_node_await(exo_calls_node(exo_call_all(c)), &d,
                                   stream ? on_awaited_stream : on_awaited, c, &handle, &err);
    if (st == EXO_OK) {
        exo_call_set_handle(c, handle);
        return;
    }
    exo_call_fail(c, st, err.message);
    exo_call_release(c);
}
