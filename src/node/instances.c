/* instances.c - the life of an instance: placed, loaded, connected, running, ended.
 *
 * The owner (the node that was asked to place it, also its first stage and coordinator) tells
 * each participant its layers; they load and report; when all are loaded each stage dials the
 * next one and hands the lanes to its worker; when all are ready the instance runs.  Anything
 * that goes wrong ends it everywhere with one reason.
 *
 *   EXO_MSG_INSTANCE   {"op": "create",  "instance", "model_id", "epoch", "min_nodes",
 *                       "fingerprint", "settings": {...}, "shards": [...]}   owner to participants
 *                      {"op": "loaded",  "instance", "stage", bytes, pages, device,
 *                       "has_classes"}                                       participant to owner
 *                      {"op": "connect", "instance", "n_pages"}              owner to participants
 *                      {"op": "ready",   the same; again when its device failed and the CPU of
 *                                        its node took over}                 participant to owner
 *                      {"op": "stats",   "instance", "stage", counters}      participant to owner
 *                      {"op": "failed",  "instance", "stage", "reason"}      participant to owner
 *                      {"op": "delete",  "instance", "reason"}               owner to participants
 */
#define _DEFAULT_SOURCE
#include "node/instances_impl.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

exo_instance *exo_instances_find(exo_node *n, const char *id) {
    exo_instance *i = n->instances;
    while (i != NULL && (id == NULL || strcmp(i->id, id) != 0)) i = i->next;
    return i;
}

bool exo_instance_is_owned(const exo_instance *i) {
    return strcmp(i->owner, exo_identity_node_id(i->node->identity)) == 0;
}

exo_instance *exo_instances_of_model(exo_node *n, const char *model_id) {
    exo_instance *i = n->instances;
    while (i != NULL && (strcmp(i->model_id, model_id) != 0 || !exo_instance_is_owned(i)))
        i = i->next;
    return i;
}

/* A cheap proof that two nodes hold the same file: shapes, types and sizes of all tensors. */
static uint64_t fingerprint(const exo_model *m) {
    const exo_gguf *g = exo_model_file(m);
    uint64_t h = 0;
    for (size_t i = 0; i < exo_gguf_n_tensors(g); i++) {
        const exo_tensor *t = exo_gguf_tensor(g, i);
        uint32_t type = t->type;
        h = exo_hash64(t->name.s, t->name.n, h);
        h = exo_hash64(&type, sizeof type, h);
        h = exo_hash64(t->dims, sizeof t->dims, h);
    }
    return h;
}

/* ---- messages ---- */

static void send_to(exo_node *n, const char *node_id, json_t *m_take) {
    exo_peer *p = exo_members_find(n, node_id);
    if (p != NULL && m_take != NULL) {
        exo_error err = {0};
        if (exo_link_send_json(p->link, EXO_MSG_INSTANCE, m_take, &err) != EXO_OK) {
            exo_warn("cannot reach %s: %s", p->name, err.message);
        }
    }
    json_decref(m_take);
}

static void send_to_participants(exo_instance *i, json_t *m_take) {
    for (uint32_t s = 0; s < i->n_stages; s++) {
        if (s != i->my_stage) send_to(i->node, i->stages[s].place.node_id, json_incref(m_take));
    }
    json_decref(m_take);
}

static json_t *shards_json(const exo_instance *i) {
    json_t *list = json_array();
    for (uint32_t s = 0; s < i->n_stages && list != NULL; s++) {
        json_t *j = exo_shard_place_json(&i->stages[s].place);
        json_object_set_new(j, "listen", json_string(i->stages[s].listen));
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *create_message(exo_instance *i, const exo_model *m) {
    const exo_node_desc *d = &i->node->d;
    char print[17];
    snprintf(print, sizeof print, "%016llx", (unsigned long long)fingerprint(m));
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:o, s:{s:i, s:i, s:i, s:b, s:b, s:b}}", "op",
                     "create", "instance", i->id, "model_id", i->model_id, "epoch", (int)i->epoch,
                     "min_nodes", (int)i->min_nodes, "fingerprint", print, "shards", shards_json(i),
                     "settings", "ctx_tokens", (int)exo_node_ctx(i->node, m), "max_seqs",
                     (int)d->max_seqs, "chunk_tokens", (int)d->chunk_tokens, "kv_f16", d->kv_f16,
                     "kv_q8_0", d->kv_q8_0, "wire_f16", d->wire_f16);
}

/* ---- ending ---- */

static void tell_waiters(exo_instance *i, exo_status status, const char *message) {
    for (exo_waiter *w = i->waiters, *next; w != NULL; w = next) {
        next = w->next;
        w->fn(w->ud, status, i->id, message);
        exo_free(w);
    }
    i->waiters = NULL;
}

void exo_instances_end(exo_node *n, exo_instance *i, const char *reason) {
    exo_instance **at = &n->instances;
    while (*at != i) at = &(*at)->next;
    *at = i->next;
    if (exo_instance_is_owned(i)) {
        send_to_participants(
            i, json_pack("{s:s, s:s, s:s}", "op", "delete", "instance", i->id, "reason", reason));
        exo_instances_note_end(n, i);
    }
    exo_info("instance %s of %s ended: %s", i->id, i->model_id, reason);
    exo_worker_destroy(i->worker, reason);
    exo_lane_destroy(i->prev);
    exo_lane_destroy(i->next_lane);
    tell_waiters(i, EXO_EPEER, reason);
    exo_routes_instance_ended(n, i->id, reason);
    exo_free(i);
    n->record_changed = true;
}

/* A participant's failure ends the instance at its owner; the owner's ends it everywhere. */
static void fail(exo_instance *i, const char *reason) {
    exo_node *n = i->node;
    if (!exo_instance_is_owned(i)) {
        send_to(n, i->owner,
                json_pack("{s:s, s:s, s:i, s:s}", "op", "failed", "instance", i->id, "stage",
                          (int)i->my_stage, "reason", reason));
    }
    exo_instances_end(n, i, reason);
}

/* ---- what workers report ---- */

typedef struct {
    exo_loop_call call;
    char instance[EXO_INSTANCE_ID_BYTES];
    exo_worker_report report;
} report_call;

static void on_report(exo_node *n, exo_loop_call *c) {
    report_call *rc = (report_call *)c;
    exo_instance *i = exo_instances_find(n, rc->instance);
    const exo_worker_report *r = &rc->report;
    if (i == NULL) goto done;
    if (r->event == EXO_WORKER_FAILED) {
        fail(i, r->message);
        goto done;
    }
    exo_instance_stage *s = &i->stages[i->my_stage];
    s->loaded = true;
    s->ready = r->event != EXO_WORKER_LOADED;
    s->weight_bytes = r->weight_bytes;
    s->kv_bytes = r->kv_bytes;
    s->n_pages = r->n_pages;
    snprintf(s->place.device_id, sizeof s->place.device_id, "%s", r->device_id);
    snprintf(s->reason, sizeof s->reason, "%s", r->reason);
    s->has_classes = r->has_classes;
    if (exo_instance_is_owned(i)) {
        exo_instance_advance(i);
        if (r->event == EXO_WORKER_MOVED) n->record_changed = true;
    } else {
        send_to(n, i->owner,
                json_pack("{s:s, s:s, s:i, s:I, s:I, s:i, s:b, s:s, s:s}", "op",
                          s->ready ? "ready" : "loaded", "instance", i->id, "stage",
                          (int)i->my_stage, "weight_bytes", (json_int_t)s->weight_bytes, "kv_bytes",
                          (json_int_t)s->kv_bytes, "n_pages", (int)s->n_pages, "has_classes",
                          (int)s->has_classes, "device_id", s->place.device_id, "reason",
                          s->reason));
    }
done:
    exo_free(rc);
}

/* COMPUTE. */
static void post_report(void *ud, const exo_worker_report *r) {
    exo_instance *i = ud; /* outlives its worker; id and node never change */
    report_call *rc = exo_calloc(1, sizeof *rc);
    if (rc == NULL) return; /* the placement's deadline ends it */
    rc->call.run = on_report;
    memcpy(rc->instance, i->id, sizeof rc->instance);
    rc->report = *r;
    exo_node_post(i->node, &rc->call);
}

exo_status exo_instance_start_worker(exo_instance *i, exo_model *m, const exo_instance_settings *s,
                                     exo_error *err) {
    const exo_shard_place *p = &i->stages[i->my_stage].place;
    exo_worker_desc d = {
        .model = m,
        .device = i->node->device,
        .n_threads = i->node->d.n_threads,
        .shard = {.layer_begin = p->start_layer,
                  .layer_end = p->end_layer,
                  .has_embedding = i->my_stage == 0,
                  .has_head = i->my_stage + 1 == i->n_stages,
                  .rank = p->rank,
                  .n_ranks = p->world_size,
                  .kv_type = exo_kv_type_of(s->kv_f16, s->kv_q8_0),
                  .wire_f16 = s->wire_f16,
                  .ctx_tokens = s->ctx_tokens,
                  .max_seqs = s->max_seqs},
        .epoch = i->epoch,
        .stage = i->my_stage,
        .n_stages = i->n_stages,
        .chunk_tokens = s->chunk_tokens,
        .report = post_report,
        .ud = i,
    };
    return exo_worker_create(&d, &i->worker, err);
}

/* ---- lanes ---- */

static void give_lanes(exo_instance *i) {
    bool have = i->n_stages == 1 || (i->prev != NULL && i->next_lane != NULL);
    if (!i->connect_now || !have) return;
    exo_worker_connect(i->worker, i->prev, i->next_lane,
                       (exo_worker_common){i->n_pages, i->has_classes});
    i->prev = i->next_lane = NULL;
    i->connect_now = false;
}

/* Dials the next stage; the link that opens becomes the lane. */
static void dial_next(exo_instance *i) {
    const exo_instance_stage *to = &i->stages[(i->my_stage + 1) % i->n_stages];
    const exo_peer *p = exo_members_find(i->node, to->place.node_id);
    const char *listen = p != NULL ? p->listen : to->listen;
    exo_link_ctx *ctx = exo_calloc(1, sizeof *ctx);
    exo_error err = {.message = "out of memory"};
    exo_link *l = NULL;
    exo_status st = EXO_ENOMEM;
    if (ctx != NULL) {
        ctx->use = EXO_LINK_LANE;
        memcpy(ctx->instance, i->id, sizeof ctx->instance);
        st = exo_net_dial(i->node->net, listen, ctx, &l, &err);
    }
    if (st == EXO_OK) return;
    exo_free(ctx);
    exo_error_wrap(&err, st, "no lane to node %s", to->place.node_id);
    fail(i, err.message);
}

static void connect_stage(exo_instance *i, uint32_t n_pages) {
    i->state = EXO_INSTANCE_CONNECTING;
    i->n_pages = n_pages;
    i->connect_now = true;
    if (i->n_stages == 1) {
        give_lanes(i);
    } else {
        dial_next(i);
    }
}

static void next_lane_made(void *ud, exo_lane *lane, const char *why) {
    exo_lane_ctx *c = ud;
    exo_instance *i = exo_instances_find(c->node, c->instance);
    if (i == NULL || i->next_lane != NULL) {
        exo_lane_destroy(lane);
    } else if (lane == NULL) {
        fail(i, why);
    } else {
        i->next_lane = lane;
        give_lanes(i);
    }
    exo_free(c);
}

static void prev_lane_made(void *ud, exo_lane *lane, const char *why) {
    exo_lane_ctx *c = ud;
    (void)why; /* the dialling side reports it */
    exo_instance *i = exo_instances_find(c->node, c->instance);
    if (i == NULL || i->prev != NULL || lane == NULL) {
        exo_lane_destroy(lane);
    } else {
        i->prev = lane;
        give_lanes(i);
    }
    exo_free(c);
}

static exo_lane_ctx *lane_ctx(exo_node *n, const char *instance) {
    exo_lane_ctx *c = exo_calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->node = n;
    snprintf(c->instance, sizeof c->instance, "%s", instance);
    return c;
}

void exo_instances_lane_open(exo_node *n, exo_link *l, exo_link_ctx *ctx_take) {
    exo_instance *i = exo_instances_find(n, ctx_take->instance);
    exo_lane_ctx *c = i != NULL ? lane_ctx(n, i->id) : NULL;
    if (c == NULL) {
        exo_link_close(l, EXO_ECANCELED, "the instance is gone");
        return;
    }
    json_t *m = json_pack("{s:s, s:i, s:i}", "instance", i->id, "epoch", (int)i->epoch, "stage",
                          (int)i->my_stage);
    exo_status st = m != NULL ? exo_link_send_json(l, EXO_MSG_LANE, m, NULL) : EXO_ENOMEM;
    json_decref(m);
    if (st != EXO_OK) {
        exo_free(c);
        exo_link_close(l, st, "cannot open a lane");
        return;
    }
    exo_free(ctx_take);
    exo_link_set_ud(l, NULL);
    exo_link_detach(l, next_lane_made, c);
}

void exo_instances_on_lane(exo_node *n, exo_link *l, const exo_frame *f) {
    json_t *m = NULL;
    exo_instance *i = NULL;
    if (exo_frame_json(f, &m, NULL) == EXO_OK) {
        i = exo_instances_find(n, json_string_value(json_object_get(m, "instance")));
    }
    json_int_t epoch = json_integer_value(json_object_get(m, "epoch"));
    json_int_t stage = json_integer_value(json_object_get(m, "stage"));
    bool fits = i != NULL && epoch == i->epoch && stage >= 0 && stage < i->n_stages &&
                (stage + 1) % i->n_stages == i->my_stage &&
                strcmp(i->stages[stage].place.node_id, exo_link_peer(l)->node_id) == 0;
    exo_lane_ctx *c = fits ? lane_ctx(n, i->id) : NULL;
    json_decref(m);
    if (c == NULL) {
        exo_link_close(l, EXO_ENOTFOUND, "no such instance, epoch and stage here");
        return;
    }
    exo_link_detach(l, prev_lane_made, c);
}

void exo_instances_lane_lost(exo_node *n, const char *instance, const char *why) {
    exo_instance *i = exo_instances_find(n, instance);
    if (i == NULL) return;
    exo_error reason;
    exo_error_set(&reason, EXO_EPEER, "a lane did not open: %s", why);
    fail(i, reason.message);
}

/* ---- placing (owner) ---- */

/* All loaded: connect.  All ready: run. */
void exo_instance_advance(exo_instance *i) {
    bool loaded = true, ready = true;
    uint32_t n_pages = UINT32_MAX;
    for (uint32_t s = 0; s < i->n_stages; s++) {
        loaded &= i->stages[s].loaded;
        ready &= i->stages[s].ready;
        if (i->stages[s].n_pages < n_pages) n_pages = i->stages[s].n_pages;
        i->has_classes |= i->stages[s].has_classes;
    }
    if (loaded && i->state == EXO_INSTANCE_LOADING) {
        send_to_participants(i, json_pack("{s:s, s:s, s:i}", "op", "connect", "instance", i->id,
                                          "n_pages", (int)n_pages));
        connect_stage(i, n_pages);
        return;
    }
    if (!ready || !i->logged || i->state != EXO_INSTANCE_CONNECTING) return;
    i->state = EXO_INSTANCE_RUNNING;
    exo_instances_note_running(i);
    exo_members_announce(i->node); /* before anybody hears that it runs */
    exo_info("instance %s of %s runs on %u node(s)", i->id, i->model_id, i->n_stages);
    exo_routes_instance_running(i->node, i);
    tell_waiters(i, EXO_OK, "the instance is running");
}

uint32_t exo_instances_candidates(exo_node *n, const char *model_id, exo_place_candidate *out) {
    uint32_t count = 1;
    snprintf(out[0].node_id, sizeof out[0].node_id, "%s", exo_identity_node_id(n->identity));
    snprintf(out[0].device_id, sizeof out[0].device_id, "%s", n->device);
    for (exo_peer *p = n->peers; p != NULL && count < EXO_MAX_STAGES; p = p->next) {
        size_t k;
        json_t *item;
        bool has = false;
        json_array_foreach(json_object_get(p->record, "models"), k, item) {
            const char *id = json_string_value(json_object_get(item, "id"));
            has |= id != NULL && strcmp(id, model_id) == 0;
        }
        const char *device = json_string_value(
            json_object_get(json_array_get(json_object_get(p->record, "devices"), 0), "device_id"));
        if (!has || device == NULL || p->listen[0] == '\0') continue;
        snprintf(out[count].node_id, sizeof out[count].node_id, "%s", p->node_id);
        snprintf(out[count].device_id, sizeof out[count].device_id, "%.31s", device);
        count++;
    }
    return count;
}

/* The candidates that somebody asked for, in that order; of any, the first ones. */
static exo_status choose(exo_node *n, const exo_placement_wish *w, exo_place_candidate *all,
                         uint32_t *count, exo_error *err) {
    if (w->n_nodes == 0) return EXO_OK;
    exo_place_candidate chosen[EXO_MAX_STAGES];
    if (strcmp(w->nodes[0], exo_identity_node_id(n->identity)) != 0) {
        return exo_error_set(err, EXO_EINVAL,
                             "the first stage must be on node %s, which is asked for it, and not "
                             "on %s; ask that one",
                             exo_identity_node_id(n->identity), w->nodes[0]);
    }
    for (uint32_t s = 0; s < w->n_nodes; s++) {
        uint32_t k = 0;
        while (k < *count && strcmp(all[k].node_id, w->nodes[s]) != 0) k++;
        if (k == *count) {
            bool linked = exo_members_find(n, w->nodes[s]) != NULL;
            return exo_error_set(err, EXO_EINVAL, "node %s cannot take a stage: %s", w->nodes[s],
                                 linked ? "it does not have the model's file"
                                        : "it is not linked with this node");
        }
        chosen[s] = all[k];
    }
    memcpy(all, chosen, w->n_nodes * sizeof *all);
    *count = w->n_nodes;
    return EXO_OK;
}

/* A node that does not know the type would compute in another one: the settings of an instance
 * are skipped where they are not understood. */
static exo_status check_kv(exo_node *n, const exo_shard_place *places, uint32_t n_stages,
                           exo_error *err) {
    exo_dtype type = exo_kv_type_of(n->d.kv_f16, n->d.kv_q8_0);
    for (uint32_t s = 0; s < n_stages; s++) {
        const exo_peer *p = exo_members_find(n, places[s].node_id);
        if (p == NULL || exo_hello_has_kv(exo_link_peer(p->link)->hello, type)) continue;
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "node %s (%s) does not know keys and values in %s: update exo there, "
                             "or start this node with --kv f16",
                             p->name, p->node_id, exo_dtype_get(type)->name);
    }
    return EXO_OK;
}

/* Which nodes take which layers. */
static exo_status plan_stages(exo_node *n, const char *model_id, const exo_model *m,
                              const exo_placement_wish *wish, exo_shard_place *places,
                              exo_error *err) {
    exo_place_candidate candidates[EXO_MAX_STAGES];
    uint32_t n_candidates = exo_instances_candidates(n, model_id, candidates);
    uint32_t n_layers = exo_model_hparams(m)->n_layers;
    exo_status st = choose(n, wish, candidates, &n_candidates, err);
    if (st != EXO_OK) return st;
    if (wish->n_cuts == 0) {
        st = exo_place_even(candidates, n_candidates, n_layers, wish->min_nodes, places, err);
    } else {
        st = exo_place_cuts(candidates, n_candidates, n_layers, wish->min_nodes, wish->cuts, places,
                            err);
    }
    return st == EXO_OK ? check_kv(n, places, wish->min_nodes, err) : st;
}

/* An instance of ours as planned; nothing runs yet. */
static exo_instance *new_instance(exo_node *n, const char *model_id, const char *id,
                                  const exo_shard_place *places, uint32_t n_stages) {
    uint8_t random[8];
    exo_instance *i = exo_calloc(1, sizeof *i);
    if (i == NULL || RAND_bytes(random, sizeof random) != 1) {
        exo_free(i);
        return NULL;
    }
    i->node = n;
    exo_hex(random, sizeof random, i->id);
    if (id != NULL) snprintf(i->id, sizeof i->id, "%s", id);
    snprintf(i->model_id, sizeof i->model_id, "%s", model_id);
    snprintf(i->owner, sizeof i->owner, "%s", exo_identity_node_id(n->identity));
    i->epoch = ++n->next_epoch;
    i->min_nodes = i->n_stages = n_stages;
    i->deadline_ms = exo_now_ms() + EXO_PLACE_DEADLINE_MS;
    for (uint32_t s = 0; s < n_stages; s++) {
        exo_instance_stage *stage = &i->stages[s];
        stage->place = places[s];
        const exo_peer *p = exo_members_find(n, places[s].node_id);
        if (p != NULL) snprintf(stage->listen, sizeof stage->listen, "%s", p->listen);
    }
    return i;
}

exo_status exo_instances_begin(exo_node *n, const char *model_id, const exo_placement_wish *wish,
                               const char *id, exo_instance **out, exo_error *err) {
    *out = NULL;
    if (n->stopping) return exo_error_set(err, EXO_EPEER, EXO_NODE_STOPPING);
    exo_model *m = NULL;
    exo_instance *i = NULL;
    exo_shard_place places[EXO_MAX_STAGES];
    exo_status st = exo_models_get(n->models, model_id, &m, err);
    if (st == EXO_OK) st = plan_stages(n, model_id, m, wish, places, err);
    if (st != EXO_OK) goto done;
    exo_instance *earlier = exo_instances_of_model(n, model_id);
    if (earlier != NULL) exo_instances_end(n, earlier, "the model is being placed anew");
    i = new_instance(n, model_id, id, places, wish->min_nodes);
    if (i == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for an instance");
        goto done;
    }
    exo_instance_settings settings = {.ctx_tokens = exo_node_ctx(n, m),
                                      .max_seqs = n->d.max_seqs,
                                      .chunk_tokens = n->d.chunk_tokens,
                                      .kv_f16 = n->d.kv_f16,
                                      .kv_q8_0 = n->d.kv_q8_0,
                                      .wire_f16 = n->d.wire_f16};
    st = exo_instance_start_worker(i, m, &settings, err);
    if (st != EXO_OK) goto done;
    i->next = n->instances;
    n->instances = i;
    send_to_participants(i, create_message(i, m));
    *out = i;
    i = NULL;
done:
    exo_free(i);
    exo_model_unref(m);
    return st;
}

/* ---- messages in ---- */

/* A stage's report from the node that has it. */
static void on_stage_message(exo_instance *i, const exo_peer *from, const char *op,
                             const json_t *m) {
    json_int_t stage = json_integer_value(json_object_get(m, "stage"));
    if (stage < 0 || stage >= i->n_stages || stage == i->my_stage) return;
    exo_instance_stage *s = &i->stages[stage];
    if (strcmp(s->place.node_id, from->node_id) != 0) return;
    bool loaded = strcmp(op, "loaded") == 0, ready = strcmp(op, "ready") == 0;
    if (strcmp(op, "stats") == 0) exo_stats_from_json(m, &s->stats);
    if (!loaded && !ready) return;
    json_int_t n_pages = json_integer_value(json_object_get(m, "n_pages"));
    s->loaded = true;
    s->ready = ready;
    s->weight_bytes = (uint64_t)json_integer_value(json_object_get(m, "weight_bytes"));
    s->kv_bytes = (uint64_t)json_integer_value(json_object_get(m, "kv_bytes"));
    s->n_pages =
        n_pages > 0 && n_pages < INT32_MAX ? (uint32_t)n_pages : 0; /* 0 is refused later */
    s->has_classes = json_is_true(json_object_get(m, "has_classes"));
    const char *device = json_string_value(json_object_get(m, "device_id"));
    const char *reason = json_string_value(json_object_get(m, "reason"));
    if (device != NULL && reason != NULL) { /* not from a node of an older version */
        snprintf(s->place.device_id, sizeof s->place.device_id, "%s", device);
        snprintf(s->reason, sizeof s->reason, "%s", reason);
        i->node->record_changed = true;
    }
    exo_instance_advance(i);
}

/* What is told last is true: an earlier epoch of an instance, or what another owner has of it, ends
 * here.  False: it is the one that is told of. */
static bool make_way(exo_instance *i, const exo_peer *from, const json_t *m) {
    static const char why[] = "the instance is being placed anew";
    bool same_owner = strcmp(i->owner, from->node_id) == 0;
    if (same_owner && json_integer_value(json_object_get(m, "epoch")) == i->epoch) return false;
    if (same_owner) {
        exo_instances_end(i->node, i, why);
    } else {
        fail(i, why); /* its owner hears of it */
    }
    return true;
}

void exo_instances_on_message(exo_node *n, exo_peer *from, const json_t *m) {
    const char *op = json_string_value(json_object_get(m, "op"));
    const char *id = json_string_value(json_object_get(m, "instance"));
    if (op == NULL || id == NULL) return;
    exo_instance *i = exo_instances_find(n, id);
    if (strcmp(op, "create") == 0) {
        exo_error err = {0};
        if (i != NULL && !make_way(i, from, m)) return; /* told twice */
        if (exo_instances_join(n, from->node_id, m, &err) == EXO_OK) return;
        send_to(n, from->node_id,
                json_pack("{s:s, s:s, s:i, s:s}", "op", "failed", "instance", id, "stage", -1,
                          "reason", err.message));
        return;
    }
    if (i == NULL) return; /* it ended meanwhile */
    const char *reason = json_string_value(json_object_get(m, "reason"));
    if (exo_instance_is_owned(i)) {
        if (strcmp(op, "failed") == 0) {
            exo_error why;
            exo_error_set(&why, EXO_EPEER, "node %s: %s", from->name, reason ? reason : "failed");
            exo_instances_end(n, i, why.message);
        } else {
            on_stage_message(i, from, op, m);
        }
    } else if (strcmp(i->owner, from->node_id) == 0) {
        if (strcmp(op, "connect") == 0 && i->state == EXO_INSTANCE_LOADING) {
            connect_stage(i, (uint32_t)json_integer_value(json_object_get(m, "n_pages")));
        } else if (strcmp(op, "delete") == 0) {
            exo_instances_end(n, i, reason != NULL ? reason : "deleted");
        }
    }
}

/* ---- joining (participant) ---- */

exo_status exo_instances_join(exo_node *n, const char *owner, const json_t *m, exo_error *err) {
    exo_instance_settings settings;
    exo_instance *i = exo_calloc(1, sizeof *i);
    exo_model *model = NULL;
    if (i == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for an instance");
    i->node = n;
    snprintf(i->owner, sizeof i->owner, "%s", owner);
    i->deadline_ms = exo_now_ms() + EXO_PLACE_DEADLINE_MS;
    exo_status st = exo_instance_from_json(m, i, &settings, err);
    if (st == EXO_OK) st = exo_models_get(n->models, i->model_id, &model, err);
    if (st != EXO_OK) goto done;
    char print[17];
    snprintf(print, sizeof print, "%016llx", (unsigned long long)fingerprint(model));
    const char *theirs = json_string_value(json_object_get(m, "fingerprint"));
    if (theirs == NULL || strcmp(theirs, print) != 0) {
        st = exo_error_set(err, EXO_EINVAL, "the file of model %s here differs from the one on %s",
                           i->model_id, owner);
        goto done;
    }
    if (i->stages[i->n_stages - 1].place.end_layer != exo_model_hparams(model)->n_layers) {
        st = exo_error_set(err, EXO_EFORMAT, "the shards do not cover the model's layers");
        goto done;
    }
    st = exo_instance_start_worker(i, model, &settings, err);
    if (st != EXO_OK) goto done;
    i->next = n->instances;
    n->instances = i;
    i = NULL;
done:
    exo_model_unref(model);
    exo_free(i);
    return st;
}

/* ---- losses and time ---- */

void exo_instances_peer_lost(exo_node *n, const char *node_id, const char *why) {
    for (exo_instance *i = n->instances, *next; i != NULL; i = next) {
        next = i->next;
        bool uses = strcmp(i->owner, node_id) == 0;
        for (uint32_t s = 0; s < i->n_stages; s++) {
            uses |= strcmp(i->stages[s].place.node_id, node_id) == 0;
        }
        if (!uses) continue;
        exo_error reason;
        exo_error_set(&reason, EXO_EPEER, "node %s left: %s", node_id, why);
        fail(i, reason.message); /* its owner may still be linked with that node */
    }
}

void exo_instances_tick(exo_node *n, uint64_t now_ms) {
    for (exo_instance *i = n->instances, *next; i != NULL; i = next) {
        next = i->next;
        exo_worker_stats before = i->stages[i->my_stage].stats, now;
        exo_worker_get_stats(i->worker, &now);
        i->stages[i->my_stage].stats = now;
        if (!exo_instance_is_owned(i) && memcmp(&before, &now, sizeof now) != 0) {
            json_t *m = exo_stats_json(&now);
            json_object_set_new(m, "op", json_string("stats"));
            json_object_set_new(m, "instance", json_string(i->id));
            json_object_set_new(m, "stage", json_integer((json_int_t)i->my_stage));
            send_to(n, i->owner, m);
        }
        if (exo_instance_is_owned(i) && i->state != EXO_INSTANCE_RUNNING &&
            now_ms > i->deadline_ms) {
            exo_instances_end(n, i, "it was not loaded and connected within 10 minutes");
        }
    }
    exo_instances_remember_tick(n, now_ms);
}

void exo_instances_finish(exo_node *n, const char *reason) {
    exo_instances_drop_deletions(n, reason);
    while (n->instances != NULL) exo_instances_end(n, n->instances, reason);
    for (exo_retry *r = n->retries, *next; r != NULL; r = next) {
        next = r->next;
        exo_free(r);
    }
    n->retries = NULL;
}
