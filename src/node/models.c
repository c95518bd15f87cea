/* models.c - the models this node can open: files given by -m, then the model directories.
 *
 * An opened model (header, tokenizer, template; no weights) is kept until the node stops.
 * Thread: ANY; the table has a lock, which LOOP waits for too: no file is read under it. */
#define _DEFAULT_SOURCE
#include "base/mem.h"
#include "node/node_impl.h"

#include <stdio.h>
#include <string.h>

typedef struct entry {
    struct entry *next;
    char id[EXO_MODEL_ID_BYTES];
    exo_model *model;
    bool given; /* by -m */
} entry;

struct exo_models {
    exo_lock *lock;
    entry *entries; /* guarded; in the order they were opened */
    char data_dir[1024];
};

/* Takes model. */
static exo_status add(exo_models *m, exo_model *model_take, bool given, exo_error *err) {
    entry *e = exo_calloc(1, sizeof *e);
    if (e == NULL) {
        exo_model_unref(model_take);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    }
    snprintf(e->id, sizeof e->id, "%s", exo_model_id(model_take));
    e->model = model_take;
    e->given = given;
    entry **last = &m->entries;
    while (*last != NULL) last = &(*last)->next;
    *last = e;
    return EXO_OK;
}

static exo_model *find(const exo_models *m, const char *id) {
    for (const entry *e = m->entries; e != NULL; e = e->next) {
        if (strcmp(e->id, id) == 0) return e->model;
    }
    return NULL;
}

exo_status exo_models_create(const char *data_dir, const char *const *files, size_t n_files,
                             exo_models **out, exo_error *err) {
    *out = NULL;
    exo_models *m = exo_calloc(1, sizeof *m);
    if (m == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for models");
    snprintf(m->data_dir, sizeof m->data_dir, "%s", data_dir);
    exo_status st = exo_lock_create(&m->lock, err);
    for (size_t i = 0; i < n_files && st == EXO_OK; i++) {
        char path[4096];
        exo_model *model = NULL;
        st = exo_models_resolve_given(files[i], data_dir, path, sizeof path, err);
        if (st == EXO_OK) st = exo_model_open(path, &model, err);
        if (st == EXO_OK && find(m, exo_model_id(model)) != NULL) {
            exo_model_unref(model);
        } else if (st == EXO_OK) {
            st = add(m, model, true, err);
        }
    }
    if (st != EXO_OK) {
        exo_models_destroy(m);
        return st;
    }
    *out = m;
    return EXO_OK;
}

void exo_models_destroy(exo_models *m) {
    if (m == NULL) return;
    for (entry *e = m->entries, *next; e != NULL; e = next) {
        next = e->next;
        exo_model_unref(e->model);
        exo_free(e);
    }
    exo_lock_destroy(m->lock);
    exo_free(m);
}

/* An id names a model; what exo_models_resolve takes for a path is for the command line only. */
static bool is_id(const char *id) {
    size_t n = strlen(id);
    bool is_file = n >= 5 && strcmp(id + n - 5, ".gguf") == 0;
    return n > 0 && n < EXO_MODEL_ID_BYTES && !is_file && strchr(id, '/') == NULL &&
           strstr(id, "..") == NULL;
}

static exo_model *find_ref(exo_models *m, const char *id) {
    exo_lock_take(m->lock);
    exo_model *model = find(m, id);
    if (model != NULL) exo_model_ref(model);
    exo_lock_give(m->lock);
    return model;
}

/* Of two threads that opened the same model at once, the first one's is kept. */
static exo_status keep(exo_models *m, exo_model *opened_take, exo_model **out, exo_error *err) {
    exo_status st = EXO_OK;
    exo_lock_take(m->lock);
    exo_model *kept = find(m, exo_model_id(opened_take));
    if (kept == NULL) {
        kept = opened_take;
        st = add(m, opened_take, false, err);
    } else {
        exo_model_unref(opened_take);
    }
    if (st == EXO_OK) *out = exo_model_ref(kept);
    exo_lock_give(m->lock);
    return st;
}

exo_status exo_models_get(exo_models *m, const char *id, exo_model **out, exo_error *err) {
    *out = NULL;
    if (!is_id(id)) return exo_error_set(err, EXO_ENOTFOUND, "model \"%.64s\" not found", id);
    *out = find_ref(m, id);
    if (*out != NULL) return EXO_OK;
    char path[4096];
    exo_model *opened = NULL;
    exo_status st = exo_models_resolve(id, m->data_dir, path, sizeof path, err);
    if (st == EXO_ENOTFOUND) { /* which folders were searched is this machine's own business */
        return exo_error_set(err, st, "model \"%.64s\" not found; GET /v1/models lists them", id);
    }
    if (st == EXO_OK) st = exo_model_open(path, &opened, err);
    return st == EXO_OK ? keep(m, opened, out, err) : st;
}

typedef struct {
    exo_models *m;
    json_t *list;
} listing;

static void list_one(void *ud, const char *id, const char *path) {
    listing *l = ud;
    (void)path;
    size_t i;
    json_t *item;
    json_array_foreach(l->list, i, item) {
        if (strcmp(json_string_value(json_object_get(item, "id")), id) == 0) return;
    }
    json_array_append_new(l->list, json_pack("{s:s}", "id", id));
}

json_t *exo_models_list(exo_models *m) {
    listing l = {m, json_array()};
    exo_lock_take(m->lock);
    for (const entry *e = m->entries; e != NULL && l.list != NULL; e = e->next) {
        if (e->given) list_one(&l, e->id, NULL);
    }
    exo_lock_give(m->lock);
    if (l.list != NULL) exo_models_each(m->data_dir, list_one, &l);
    return l.list;
}
