/* registry.c - finding model files, and folders of safetensors, by id.
 *
 * Looks into EXO_MODELS_DIRS (colon-separated), then the data directory's models/; the built-in
 * model comes before both.  An id is never a path: anything with a slash, or ending in .gguf, is
 * taken as a path by who calls, and ids with ".." or a slash are refused here. */
#define _DEFAULT_SOURCE /* opendir, d_type, stat */
#include "model/model.h"

#include "base/buf.h"
#include "base/mem.h"
#include "model/hf.h"
#include "model/paths.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    char *id, *path; /* owned */
    uint32_t dir;    /* order of the directory it was found in */
} found_model;

typedef struct {
    found_model *items;
    size_t n, cap;
} found_models;

/* ---- directories ---- */

/* Calls visit(ud, dir, i) for each directory in order, until it returns false. */
typedef bool (*visit_fn)(void *ud, const char *dir, uint32_t i);

static void each_dir(const char *data_dir, visit_fn visit, void *ud) {
    const char *dirs = getenv("EXO_MODELS_DIRS");
    exo_buf dir = {0};
    uint32_t i = 0;
    bool go_on = true;
    while (dirs != NULL && go_on) {
        size_t n = strcspn(dirs, ":");
        exo_buf_clear(&dir);
        exo_buf_append(&dir, dirs, n);
        if (n > 0 && exo_buf_ok(&dir)) go_on = visit(ud, exo_buf_str(&dir), i++);
        dirs = dirs[n] == ':' ? dirs + n + 1 : NULL;
    }
    exo_buf_clear(&dir);
    exo_buf_printf(&dir, "%s/models", data_dir != NULL ? data_dir : "");
    if (go_on && data_dir != NULL && exo_buf_ok(&dir)) visit(ud, exo_buf_str(&dir), i);
    exo_buf_finish(&dir);
}

/* A model file's name: .gguf, and the first part if it is split. */
static bool is_model_name(const char *name) {
    exo_split_name split;
    size_t n = strlen(name);
    if (name[0] == '.' || n <= 5 || strcmp(name + n - 5, ".gguf") != 0) return false;
    return !exo_path_split(name, &split) || split.no == 1;
}

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- listing ---- */

static void add_model(found_models *all, const char *dir, const char *name, uint32_t i) {
    size_t n;
    const char *id = exo_path_id(name, &n);
    found_model m = {.id = exo_strndup(id, n), .dir = i};
    exo_buf path = {0};
    exo_buf_printf(&path, "%s/%s", dir, name);
    m.path = path.data;
    if (m.id == NULL || !exo_buf_ok(&path) || !(is_file(m.path) || exo_hf_is_folder(m.path)) ||
        exo_grow((void **)&all->items, &all->cap, all->n + 1, sizeof m) != 0) {
        exo_free(m.id);
        exo_buf_finish(&path);
        return;
    }
    all->items[all->n++] = m;
}

/* Perhaps safetensors; what cannot be one is not looked into. */
static bool is_folder_name(const struct dirent *e) {
    return e->d_name[0] != '.' &&
           (e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN);
}

static bool list_dir(void *ud, const char *dir, uint32_t i) {
    DIR *d = opendir(dir);
    if (d == NULL) return true;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (is_model_name(e->d_name) || is_folder_name(e)) add_model(ud, dir, e->d_name, i);
    }
    closedir(d);
    return true;
}

static int by_id_then_place(const void *pa, const void *pb) {
    const found_model *a = pa, *b = pb;
    int order = strcmp(a->id, b->id);
    if (order != 0) return order;
    if (a->dir != b->dir) return a->dir < b->dir ? -1 : 1;
    return strcmp(a->path, b->path); /* a whole file and a split one of the same id */
}

void exo_models_each(const char *data_dir, exo_models_fn fn, void *ud) {
    found_models all = {0};
    size_t tiny_bytes;
    (void)exo_builtin_tiny(&tiny_bytes);
    if (tiny_bytes > 0) fn(ud, "tiny", "tiny");
    each_dir(data_dir, list_dir, &all);
    if (all.n > 0) qsort(all.items, all.n, sizeof *all.items, by_id_then_place);
    for (size_t i = 0; i < all.n; i++) {
        bool again = i > 0 && strcmp(all.items[i].id, all.items[i - 1].id) == 0;
        bool shadowed = tiny_bytes > 0 && strcmp(all.items[i].id, "tiny") == 0;
        if (!again && !shadowed) fn(ud, all.items[i].id, all.items[i].path);
    }
    for (size_t i = 0; i < all.n; i++) {
        exo_free(all.items[i].id);
        exo_free(all.items[i].path);
    }
    exo_free(all.items);
}

/* ---- resolving ---- */

typedef struct {
    const char *name;
    char *out;
    size_t cap;
    bool found, cut;
    exo_buf searched; /* for the message */
} lookup;

static void copy_out(lookup *l, const char *path) {
    int n = snprintf(l->out, l->cap, "%s", path);
    l->found = true;
    l->cut = n < 0 || (size_t)n >= l->cap;
}

static void take_match(void *ud, const char *id, const char *path) {
    lookup *l = ud;
    if (!l->found && strcmp(id, l->name) == 0) copy_out(l, path);
}

static bool note_dir(void *ud, const char *dir, uint32_t i) {
    lookup *l = ud;
    exo_buf_printf(&l->searched, "%s%s", i > 0 ? ", " : "", dir);
    return true;
}

static bool is_path(const char *name) {
    size_t n = strlen(name);
    return strchr(name, '/') != NULL || (n > 5 && strcmp(name + n - 5, ".gguf") == 0);
}

exo_status exo_models_resolve(const char *name, const char *data_dir, char *out, size_t cap,
                              exo_error *err) {
    lookup l = {.name = name, .out = out, .cap = cap};
    exo_status st = EXO_OK;
    if (cap > 0) out[0] = '\0';
    if (is_path(name)) {
        if (is_file(name) || exo_hf_is_folder(name)) {
            copy_out(&l, name);
        } else {
            st = exo_error_set(err, EXO_ENOTFOUND, "model file %s not found", exo_path_tail(name));
        }
    } else if (name[0] == '\0' || strstr(name, "..") != NULL) {
        st = exo_error_set(err, EXO_EINVAL, "\"%.64s\" is not a model id", name);
    } else {
        exo_models_each(data_dir, take_match, &l);
        if (!l.found) {
            each_dir(data_dir, note_dir, &l);
            st = exo_error_set(err, EXO_ENOTFOUND,
                               "model \"%.64s\" not found in %s; give a .gguf file, or set "
                               "EXO_MODELS_DIRS",
                               name, l.searched.n > 0 ? exo_buf_str(&l.searched) : "any directory");
        }
    }
    if (st == EXO_OK && l.cut) {
        if (cap > 0) out[0] = '\0';
        st = exo_error_set(err, EXO_EINVAL, "the path of model \"%.64s\" is too long", name);
    }
    exo_buf_finish(&l.searched);
    return st;
}

exo_status exo_models_resolve_given(const char *name, const char *data_dir, char *out, size_t cap,
                                    exo_error *err) {
    size_t n = strlen(name);
    if (n >= cap || strcmp(name, "tiny") == 0 || !exo_hf_is_folder(name)) {
        return exo_models_resolve(name, data_dir, out, cap, err);
    }
    memcpy(out, name, n + 1);
    return EXO_OK;
}
