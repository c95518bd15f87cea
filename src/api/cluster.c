/* cluster.c - exo's own routes; see cluster.h. */
#include "api/cluster.h"

#include <stdlib.h>
#include <string.h>

#define PART_BYTES 256 /* of a name in /state/{path} */

static void reply_failure(exo_call *c, const exo_error *err) {
    exo_call_reply_error(c, err->status, err->message, NULL, NULL);
}

/* 200 once requests are answered: no instance that this node owns is still being made. */
void exo_cluster_health(exo_call *c) {
    exo_error err = {0};
    json_t *state = NULL;
    if (exo_node_state(exo_calls_node(exo_call_all(c)), &state, &err) != EXO_OK) {
        reply_failure(c, &err);
        return;
    }
    const char *own = json_string_value(json_object_get(state, "node_id")), *id;
    json_t *i;
    bool ready = true;
    json_object_foreach(json_object_get(state, "instances"), id, i) {
        const char *owner = json_string_value(json_object_get(i, "owner"));
        const char *now = json_string_value(json_object_get(i, "state"));
        if (owner == NULL || now == NULL) continue; /* a peer's record */
        bool being_made = strcmp(now, "loading") == 0 || strcmp(now, "connecting") == 0;
        if (strcmp(owner, own) == 0 && being_made) ready = false;
    }
    json_decref(state);
    exo_call_reply_json(c, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                        json_pack("{s:s}", "status", ready ? "ok" : "loading"));
}

void exo_cluster_state(exo_call *c) {
    exo_error err = {0};
    json_t *state = NULL;
    if (exo_node_state(exo_calls_node(exo_call_all(c)), &state, &err) != EXO_OK) {
        reply_failure(c, &err);
        return;
    }
    exo_call_reply_json(c, MHD_HTTP_OK, state);
}

/* The member that path begins with, and what is left of path behind it.  A name may hold a '/'
 * itself (models, devices): the shortest that fits is taken. */
static json_t *step_into(json_t *at, const char **path) {
    if (json_is_array(at)) {
        size_t n = strspn(*path, "0123456789");
        bool padded = n > 1 && **path == '0';
        if (n == 0 || n > 9 || padded || ((*path)[n] != '/' && (*path)[n] != '\0')) return NULL;
        size_t i = strtoul(*path, NULL, 10);
        *path += n;
        return json_array_get(at, i);
    }
    char name[PART_BYTES];
    for (size_t n = strcspn(*path, "/"); n < sizeof name; n += 1 + strcspn(*path + n + 1, "/")) {
        memcpy(name, *path, n);
        name[n] = '\0';
        json_t *found = json_object_get(at, name);
        if (found == NULL && (*path)[n] != '\0') continue;
        *path += n;
        return found;
    }
    return NULL;
}

/* A part of /state: /state/nodes/ID/devices/0/name. */
void exo_cluster_state_part(exo_call *c, const char *path) {
    exo_error err = {0};
    json_t *state = NULL;
    if (exo_node_state(exo_calls_node(exo_call_all(c)), &state, &err) != EXO_OK) {
        reply_failure(c, &err);
        return;
    }
    json_t *at = state;
    const char *rest = path;
    while (at != NULL && *rest != '\0') {
        at = step_into(at, &rest);
        if (*rest == '/') rest++;
    }
    json_incref(at);
    json_decref(state);
    if (at != NULL) {
        exo_call_reply_json(c, MHD_HTTP_OK, at);
        return;
    }
    exo_error_set(&err, EXO_ENOTFOUND, "/state has no \"%.128s\"", path);
    reply_failure(c, &err);
}

void exo_cluster_node_id(exo_call *c) {
    exo_call_reply_json(c, MHD_HTTP_OK, json_string(exo_node_id(exo_calls_node(exo_call_all(c)))));
}

static void on_placed(void *ud, exo_status status, const char *instance_id, const char *message) {
    exo_call *c = ud;
    if (status == EXO_OK) {
        exo_call_reply_json(
            c, MHD_HTTP_OK,
            json_pack("{s:s, s:s}", "instance_id", instance_id, "message", message));
    } else {
        exo_call_reply_error(c, status, message, NULL, NULL);
    }
    exo_call_release(c);
}

/* "cuts": the first layer of each stage but the first. */
static void read_cuts(exo_fields *f, exo_placement_wish *w) {
    const json_t *list = exo_fields_get(f, "cuts");
    if (list == NULL) return;
    size_t n = json_array_size(list), room = sizeof w->cuts / sizeof w->cuts[0];
    for (size_t i = 0; i < n && i < room; i++) {
        json_int_t cut = json_integer_value(json_array_get(list, i));
        if (cut <= 0 || cut > INT32_MAX) n = 0;
        w->cuts[i] = (uint32_t)cut;
    }
    if (n == 0 || n > room) {
        exo_fields_fail(f, "cuts", EXO_EINVAL, "must be an array of 1 to %zu layer numbers", room);
    }
    w->n_cuts = (uint32_t)n;
    if (exo_fields_get(f, "min_nodes") == NULL) w->min_nodes = w->n_cuts + 1;
}

void exo_cluster_begin(exo_call *c, exo_fields *f, const char *model_id,
                       const exo_placement_wish *wish) {
    exo_node *n = exo_calls_node(exo_call_all(c));
    exo_model *m = NULL;
    exo_error err = {0};
    if (model_id == NULL) exo_fields_fail(f, "model_id", EXO_EINVAL, "is missing");
    if (exo_fields_ok(f) && exo_node_model(n, model_id, &m, &err) != EXO_OK) {
        exo_fields_fail(f, "model_id", err.status, "cannot be used: %s", err.message);
    }
    if (exo_fields_ok(f)) {
        exo_call_hold(c);
        exo_status st = exo_node_place(n, exo_model_id(m), wish, on_placed, c, &f->err);
        if (st != EXO_OK) exo_call_release(c);
    }
    exo_model_unref(m);
}

void exo_cluster_refuse(exo_call *c, const exo_fields *f) {
    exo_call_reply_error(c, f->err.status, f->err.message, f->param[0] ? f->param : NULL, NULL);
}

void exo_cluster_place(exo_call *c) {
    const exo_buf *body = exo_call_body(c);
    exo_fields f = {0};
    json_t *j = NULL;
    const char *model_id = NULL;
    exo_placement_wish wish = {.sharding = "Pipeline", .min_nodes = 1};
    if (exo_fields_parse(exo_buf_str(body), body->n, &j, &f.err) == EXO_OK) {
        f.object = j;
        exo_fields_string(&f, "model_id", &model_id);
        exo_fields_string(&f, "sharding", &wish.sharding);
        exo_fields_u32(&f, "min_nodes", 1, 64, &wish.min_nodes);
        read_cuts(&f, &wish);
        exo_cluster_begin(c, &f, model_id, &wish);
    }
    if (!exo_fields_ok(&f)) exo_cluster_refuse(c, &f);
    json_decref(j);
}

/* {"model_id": what `exo pull` takes, "node_id": who; this node by default} */
void exo_cluster_download(exo_call *c) {
    const exo_buf *body = exo_call_body(c);
    exo_fields f = {0};
    json_t *j = NULL;
    const char *what = NULL, *node_id = NULL;
    exo_node *n = exo_calls_node(exo_call_all(c));
    if (exo_fields_parse(exo_buf_str(body), body->n, &j, &f.err) == EXO_OK) {
        f.object = j;
        exo_fields_string(&f, "model_id", &what);
        exo_fields_string(&f, "node_id", &node_id);
        if (what == NULL) exo_fields_fail(&f, "model_id", EXO_EINVAL, "is missing");
    }
    if (exo_fields_ok(&f)) exo_node_download(n, node_id, what, &f.err);
    if (exo_fields_ok(&f)) {
        exo_call_reply_json(c, MHD_HTTP_ACCEPTED,
                            json_pack("{s:s, s:s}", "node_id",
                                      node_id != NULL ? node_id : exo_node_id(n), "model_id",
                                      what));
    } else {
        exo_call_reply_error(c, f.err.status, f.err.message, f.param[0] ? f.param : NULL, NULL);
    }
    json_decref(j);
}

/* NODE_ID/WHAT; what is asked for may hold slashes. */
void exo_cluster_drop_download(exo_call *c, const char *path) {
    char node_id[PART_BYTES] = "";
    const char *slash = strchr(path, '/');
    exo_error err = {0};
    if (slash == NULL || slash[1] == '\0' || (size_t)(slash - path) >= sizeof node_id) {
        exo_error_set(&err, EXO_EINVAL, "DELETE /download/NODE_ID/MODEL, not /download/%.128s",
                      path);
        reply_failure(c, &err);
        return;
    }
    memcpy(node_id, path, (size_t)(slash - path));
    exo_node *n = exo_calls_node(exo_call_all(c));
    if (exo_node_drop_download(n, node_id, slash + 1, &err) != EXO_OK) {
        reply_failure(c, &err);
        return;
    }
    exo_call_reply_json(c, MHD_HTTP_OK,
                        json_pack("{s:s, s:s}", "node_id", node_id, "model_id", slash + 1));
}

void exo_cluster_delete(exo_call *c, const char *instance_id) {
    exo_error err = {0};
    if (exo_node_delete_instance(exo_calls_node(exo_call_all(c)), instance_id, &err) != EXO_OK) {
        reply_failure(c, &err);
        return;
    }
    exo_call_reply_json(c, MHD_HTTP_OK, json_pack("{s:s}", "instance_id", instance_id));
}
