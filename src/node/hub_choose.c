/* hub_choose.c - which of a repository's files make the model that somebody asked for.
 *
 * A repository holds one model in many quantisations, each as one GGUF file or as several parts,
 * or as safetensors.  Parts are grouped by their stem; a quantisation is what a stem ends in, or
 * the folder that it lies in. */
#include "node/hub.h"

#include "base/buf.h"
#include "base/mem.h"
#include "model/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_PARTS 1000 /* of one split model */

/* What is taken when nobody says: small enough for most machines, and good. */
static const char *const preferred[] = {"Q4_K_M", "Q4_K_S", "Q4_0", "MXFP4", "Q5_K_M",
                                        "Q6_K",   "Q8_0",   "F16",  "BF16",  "F32"};

/* One GGUF model: a file, or all parts of one. */
typedef struct {
    const exo_hub_file *first; /* part 1 */
    size_t n_stem;             /* bytes of its path before "-00001-of-" or ".gguf" */
    uint32_t n_parts;
} group;

typedef struct {
    group *items;
    size_t n, cap;
} groups;

static bool has_suffix(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Projectors of vision models and importance matrices are no models. */
static bool is_model_file(const char *path) {
    const char *name = exo_hub_base_name(path);
    return has_suffix(name, ".gguf") && strncasecmp(name, "mmproj", 6) != 0 &&
           strstr(name, "-mmproj") == NULL && strncasecmp(name, "imatrix", 7) != 0;
}

static exo_status find_groups(const exo_hub_tree *t, groups *all, exo_error *err) {
    for (size_t i = 0; i < t->n; i++) {
        exo_split_name split;
        group g = {.first = &t->files[i], .n_parts = 1};
        if (!is_model_file(g.first->path)) continue;
        if (exo_path_split(g.first->path, &split)) {
            if (split.no != 1) continue;
            g.n_stem = split.stem_n;
            g.n_parts = split.count;
        } else {
            g.n_stem = strlen(g.first->path) - 5;
        }
        if (exo_grow((void **)&all->items, &all->cap, all->n + 1, sizeof g) != 0) {
            return exo_error_set(err, EXO_ENOMEM, "out of memory for the hub's files");
        }
        all->items[all->n++] = g;
    }
    return EXO_OK;
}

/* ---- quantisations ---- */

/* Whether the n bytes at s end in the tag, as a word of its own. */
static bool ends_in_tag(const char *s, size_t n, const char *tag) {
    size_t m = strlen(tag);
    if (m == 0 || m > n || strncasecmp(s + n - m, tag, m) != 0) return false;
    if (m == n) return true;
    char before = s[n - m - 1];
    bool whole = strpbrk(tag, "0123456789") != NULL && (tag[0] < '0' || tag[0] > '9');
    return before == '_' ? whole : strchr("-./", before) != NULL; /* not the K_M of Q4_K_M */
}

static bool has_tag(const group *g, const char *tag) {
    if (ends_in_tag(g->first->path, g->n_stem, tag)) return true;
    for (const char *s = g->first->path, *slash; (slash = strchr(s, '/')) != NULL; s = slash + 1) {
        if (ends_in_tag(s, (size_t)(slash - s), tag)) return true;
    }
    return false;
}

/* Of several, the plainest name: "x-Q4_K_M" before "x-UD-Q4_K_M". */
static const group *find_tag(const groups *all, const char *tag) {
    const group *best = NULL;
    for (size_t i = 0; i < all->n; i++) {
        const group *g = &all->items[i];
        if (has_tag(g, tag) && (best == NULL || g->n_stem < best->n_stem)) best = g;
    }
    return best;
}

static const group *find_file(const groups *all, const char *path) {
    exo_split_name split;
    bool is_split = exo_path_split(path, &split);
    for (size_t i = 0; i < all->n; i++) {
        const group *g = &all->items[i];
        if (strcmp(g->first->path, path) == 0) return g;
        if (is_split && g->n_parts == split.count && g->n_stem == split.stem_n &&
            strncmp(g->first->path, path, g->n_stem) == 0) {
            return g; /* any part's name will do */
        }
    }
    return NULL;
}

static exo_status nothing_fits(const groups *all, const exo_hub_ref *ref, exo_error *err) {
    if (all->n == 0 && ref->what[0] == '\0') {
        return exo_error_set(err, EXO_ENOTFOUND,
                             "hf:%.60s has no GGUF file and no safetensors that exo can use",
                             ref->repo);
    }
    exo_buf list = {.limit_bytes = 120};
    for (size_t i = 0; i < all->n && exo_buf_ok(&list); i++) {
        const group *g = &all->items[i];
        const char *name = exo_hub_base_name(g->first->path);
        size_t n = g->n_stem - (size_t)(name - g->first->path);
        exo_buf_printf(&list, "%s%.*s", i > 0 ? ", " : "", (int)n, name);
    }
    exo_error_set(err, EXO_ENOTFOUND, "hf:%.60s has %s%s%.40s%s; it has %s%s", ref->repo,
                  ref->what[0] != '\0' ? "no " : "several models", ref->what[0] != '\0' ? "\"" : "",
                  ref->what, ref->what[0] != '\0' ? "\"" : ", say which after a colon",
                  list.n > 0 ? exo_buf_str(&list) : "no GGUF file", list.failed ? ", ..." : "");
    exo_buf_finish(&list);
    return EXO_ENOTFOUND;
}

/* ---- results ---- */

static exo_status add(exo_hub_choice *c, const exo_hub_file *f, exo_error *err) {
    if (f->bytes > INT64_MAX - c->bytes) {
        return exo_error_set(err, EXO_EFORMAT, "the hub's sizes add up to more than any disk");
    }
    c->files[c->n++] = f;
    c->bytes += f->bytes;
    return EXO_OK;
}

static const exo_hub_file *find_path(const exo_hub_tree *t, const char *path) {
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->files[i].path, path) == 0) return &t->files[i];
    }
    return NULL;
}

static exo_status take_group(const exo_hub_tree *t, const group *g, exo_hub_choice *out,
                             exo_error *err) {
    char path[EXO_HUB_MAX_PATH_BYTES + 32];
    const char *name = exo_hub_base_name(g->first->path);
    int n_id = (int)(g->n_stem - (size_t)(name - g->first->path));
    if (n_id == 0 || n_id >= EXO_HUB_ID_BYTES) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "the name of %.100s is too long", name);
    }
    if (g->n_parts > MAX_PARTS || g->n_parts > t->n) {
        return exo_error_set(err, EXO_ENOTFOUND, "the hub has not all %u parts of %.100s",
                             g->n_parts, name);
    }
    snprintf(out->id, sizeof out->id, "%.*s", n_id, name);
    out->files = exo_calloc(g->n_parts, sizeof *out->files);
    if (out->files == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    exo_status st = g->n_parts == 1 ? add(out, g->first, err) : EXO_OK;
    for (uint32_t i = 1; g->n_parts > 1 && i <= g->n_parts && st == EXO_OK; i++) {
        snprintf(path, sizeof path, "%.*s-%05u-of-%05u.gguf", (int)g->n_stem, g->first->path, i,
                 g->n_parts);
        const exo_hub_file *f = find_path(t, path);
        if (f == NULL) {
            return exo_error_set(err, EXO_ENOTFOUND, "the hub lacks part %u of %u of %.100s", i,
                                 g->n_parts, name);
        }
        st = add(out, f, err);
    }
    return st;
}

/* What a model in safetensors consists of; all of it but one lies at the repository's top. */
static bool belongs_to_folder(const char *path) {
    static const char *const names[] = {"model.safetensors.index.json",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json"};
    if (strchr(path, '/') != NULL) return strcmp(path, EXO_HUB_POOLING) == 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(path, names[i]) == 0) return true;
    }
    return strncmp(path, "model", 5) == 0 && has_suffix(path, ".safetensors");
}

static bool has_folder_model(const exo_hub_tree *t) {
    bool weights = false;
    for (size_t i = 0; i < t->n && !weights; i++) {
        weights =
            belongs_to_folder(t->files[i].path) && has_suffix(t->files[i].path, ".safetensors");
    }
    return weights && find_path(t, "config.json") != NULL;
}

static exo_status take_folder(const exo_hub_tree *t, const exo_hub_ref *ref, exo_hub_choice *out,
                              exo_error *err) {
    snprintf(out->id, sizeof out->id, "%.100s", exo_hub_base_name(ref->repo));
    out->folder = true;
    out->files = exo_calloc(t->n, sizeof *out->files);
    if (out->files == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a model");
    if (find_path(t, "tokenizer.json") == NULL) { /* said before gigabytes come */
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "hf:%.60s has no tokenizer.json, without which its safetensors are "
                             "not read: take a GGUF file of the model",
                             ref->repo);
    }
    exo_status st = EXO_OK;
    for (size_t i = 0; i < t->n && st == EXO_OK; i++) {
        if (belongs_to_folder(t->files[i].path)) st = add(out, &t->files[i], err);
    }
    return st;
}

static const group *find_wanted(const groups *all, const exo_hub_ref *ref) {
    const group *g = NULL;
    if (has_suffix(ref->what, ".gguf")) return find_file(all, ref->what);
    if (ref->what[0] != '\0') return find_tag(all, ref->what);
    if (all->n == 1) return &all->items[0];
    for (size_t i = 0; i < sizeof preferred / sizeof *preferred && g == NULL; i++) {
        g = find_tag(all, preferred[i]);
    }
    return g;
}

exo_status exo_hub_choose(const exo_hub_tree *t, const exo_hub_ref *ref, exo_hub_choice *out,
                          exo_error *err) {
    groups all = {0};
    *out = (exo_hub_choice){0};
    exo_status st = find_groups(t, &all, err);
    if (st != EXO_OK) goto done;
    const group *g = find_wanted(&all, ref);
    bool folder = strcasecmp(ref->what, "safetensors") == 0 || (all.n == 0 && ref->what[0] == '\0');
    if (g == NULL && folder && has_folder_model(t)) {
        st = take_folder(t, ref, out, err);
    } else if (g == NULL) {
        st = nothing_fits(&all, ref, err);
    } else {
        st = take_group(t, g, out, err);
    }
done:
    exo_free(all.items);
    if (st != EXO_OK) exo_hub_choice_finish(out);
    return st;
}

void exo_hub_choice_finish(exo_hub_choice *c) {
    exo_free((void *)c->files);
    *c = (exo_hub_choice){0};
}
