/* hub.c - references to models and the replies of a hub, as data.
 *
 * The routes and their members are those of huggingface.co (its OpenAPI page, "tree" and
 * "revision" of a model).  Knows no socket and no file; hub_choose.c picks a model's files. */
#include "node/hub.h"

#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMS                                                                                      \
    "write hf:OWNER/REPO, hf:OWNER/REPO:Q4_K_M, hf:OWNER/REPO:FILE.gguf or https://.../FILE.gguf"

/* ---- names ---- */

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* The owner, the repository or a revision: no path can be made of it. */
static bool is_plain_name(const char *s, size_t n) {
    if (n == 0 || n > 96 || s[0] == '.' || s[0] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(s[i])) return false;
        if (s[i] == '.' && i + 1 < n && s[i + 1] == '.') return false;
    }
    return true;
}

/* A relative path that stays below its folder: no empty, hidden or ".." part, nothing that a
 * terminal or another system reads differently. */
static bool is_safe_path(const char *s, size_t n) {
    if (n == 0 || n > EXO_HUB_MAX_PATH_BYTES) return false;
    size_t part = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i == n || s[i] == '/') {
            if (part == 0 || part > 200) return false;
            part = 0;
            continue;
        }
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7F || c == '\\' || c == ':') return false;
        if (part == 0 && c == '.') return false;
        part++;
    }
    return true;
}

const char *exo_hub_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

const char *exo_hub_local_name(const char *path) {
    return strcmp(path, EXO_HUB_POOLING) == 0 ? path : exo_hub_base_name(path);
}

static bool ends_with(const char *s, size_t n, const char *end) {
    size_t m = strlen(end);
    return n >= m && memcmp(s + n - m, end, m) == 0;
}

/* ---- references ---- */

static exo_status bad_ref(const char *text, const char *why, exo_error *err) {
    return exo_error_set(err, EXO_EINVAL, "\"%.64s\" %s: " FORMS, text, why);
}

/* The file that an address names: its last part, percent signs decoded. */
static bool url_file(const char *url, char *out, size_t cap) {
    const char *path = strstr(url, "://");
    path = path != NULL ? strchr(path + 3, '/') : NULL;
    if (path == NULL) return false;
    size_t n = strcspn(path, "?#"), begin = n, k = 0;
    while (path[begin - 1] != '/') begin--;
    for (size_t i = begin; i < n; i++) {
        if (k + 1 >= cap) return false;
        if (path[i] == '%' && i + 2 < n) {
            const char hex[3] = {path[i + 1], path[i + 2]};
            unsigned long value = strtoul(hex, NULL, 16);
            if (strspn(hex, "0123456789abcdefABCDEF") != 2 || value == 0) return false;
            out[k++] = (char)value;
            i += 2;
        } else {
            out[k++] = path[i];
        }
    }
    out[k] = '\0';
    return k > 5 && ends_with(out, k, ".gguf") && strchr(out, '/') == NULL && is_safe_path(out, k);
}

static exo_status parse_url(const char *text, exo_hub_ref *out, exo_error *err) {
    if (strlen(text) >= sizeof out->url) return bad_ref(text, "is too long", err);
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7F) return bad_ref(text, "has a space in it", err);
    }
    if (strchr(text, '@') != NULL && strcspn(text + 8, "/") > strcspn(text + 8, "@")) {
        return bad_ref(text, "has a user name in it", err);
    }
    if (!url_file(text, out->file, sizeof out->file)) {
        return bad_ref(text, "does not name a .gguf file", err);
    }
    snprintf(out->url, sizeof out->url, "%s", text);
    return EXO_OK;
}

static bool copy(char *out, size_t cap, const char *s, size_t n) {
    if (n >= cap) return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return true;
}

exo_status exo_hub_ref_parse(const char *text, exo_hub_ref *out, exo_error *err) {
    static const char *const prefixes[] = {"hf:", "hf.co/", "huggingface.co/", "https://hf.co/",
                                           "https://huggingface.co/"};
    *out = (exo_hub_ref){.revision = "main"};
    const char *s = NULL;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && s == NULL; i++) {
        if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0) s = text + strlen(prefixes[i]);
    }
    bool is_url = strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0;
    if (is_url && (s == NULL || strstr(s, "/resolve/") != NULL)) return parse_url(text, out, err);
    if (s == NULL) return bad_ref(text, "is not a model on a hub", err);
    const char *what = strchr(s, ':');
    size_t n = what != NULL ? (size_t)(what - s) : strlen(s);
    const char *at = memchr(s, '@', n), *slash = memchr(s, '/', n);
    size_t n_repo = at != NULL ? (size_t)(at - s) : n;
    size_t n_owner = slash != NULL ? (size_t)(slash - s) : 0;
    if (slash == NULL || slash > s + n_repo || !is_plain_name(s, n_owner) ||
        !is_plain_name(slash + 1, n_repo - n_owner - 1)) {
        return bad_ref(text, "does not name OWNER/REPO", err);
    }
    if (!copy(out->repo, sizeof out->repo, s, n_repo)) return bad_ref(text, "is too long", err);
    if (at != NULL && (!is_plain_name(at + 1, n - n_repo - 1) ||
                       !copy(out->revision, sizeof out->revision, at + 1, n - n_repo - 1))) {
        return bad_ref(text, "has a bad revision after @", err);
    }
    if (what != NULL && (!is_safe_path(what + 1, strlen(what + 1)) ||
                         !copy(out->what, sizeof out->what, what + 1, strlen(what + 1)))) {
        return bad_ref(text, "has a bad file or quantisation after the colon", err);
    }
    return EXO_OK;
}

/* ---- replies ---- */

static json_t *parse_json(const char *text, size_t n, exo_error *err) {
    json_error_t je;
    json_t *j = exo_json_load(text, n, JSON_REJECT_DUPLICATES, &je);
    if (j == NULL) {
        exo_error_set(err, EXO_EFORMAT, "the hub's answer is not JSON: %.80s (line %d)", je.text,
                      je.line);
    }
    return j;
}

/* "sha256:HEX" or "HEX" in either case; "" when it is something else. */
static void copy_sha256(const char *s, char out[65]) {
    out[0] = '\0';
    if (s == NULL) return;
    if (strncmp(s, "sha256:", 7) == 0) s += 7;
    if (strlen(s) != 64 || strspn(s, "0123456789abcdefABCDEF") != 64) return;
    for (int i = 0; i < 65; i++) out[i] = s[i] >= 'A' && s[i] <= 'F' ? (char)(s[i] + 32) : s[i];
}

static exo_status add_file(exo_hub_tree *t, json_t *entry, exo_error *err) {
    const char *type = json_string_value(json_object_get(entry, "type"));
    const json_t *path = json_object_get(entry, "path"), *size = json_object_get(entry, "size");
    const json_t *lfs = json_object_get(entry, "lfs");
    if (type == NULL || path == NULL) {
        return exo_error_set(err, EXO_EFORMAT, "the hub lists a file without type or path");
    }
    if (strcmp(type, "file") != 0) return EXO_OK;
    const char *s = json_string_value(path);
    if (s == NULL || strlen(s) != json_string_length(path) || !is_safe_path(s, strlen(s))) {
        return EXO_OK; /* ".gitattributes" and worse: nothing that is fetched */
    }
    if (json_is_integer(json_object_get(lfs, "size"))) size = json_object_get(lfs, "size");
    if (!json_is_integer(size) || json_integer_value(size) < 0) {
        return exo_error_set(err, EXO_EFORMAT, "the hub tells no size for %.80s", s);
    }
    if (t->n >= EXO_HUB_MAX_FILES) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "the hub lists more than %d files",
                             EXO_HUB_MAX_FILES);
    }
    exo_hub_file f = {.bytes = (uint64_t)json_integer_value(size), .path = exo_strdup(s)};
    if (f.path == NULL || exo_grow((void **)&t->files, &t->cap, t->n + 1, sizeof *t->files) != 0) {
        exo_free(f.path);
        return exo_error_set(err, EXO_ENOMEM, "out of memory for the hub's answer");
    }
    const char *oid = json_string_value(json_object_get(lfs, "oid"));
    if (oid == NULL) oid = json_string_value(json_object_get(lfs, "sha256"));
    copy_sha256(oid, f.sha256);
    t->files[t->n++] = f;
    return EXO_OK;
}

exo_status exo_hub_tree_parse(const char *json, size_t n, exo_hub_tree *t, exo_error *err) {
    json_t *all = parse_json(json, n, err), *entry;
    if (all == NULL) return EXO_EFORMAT;
    exo_status st = EXO_OK;
    size_t i;
    if (!json_is_array(all)) {
        st = exo_error_set(err, EXO_EFORMAT, "the hub's answer is not a list of files");
    } else {
        json_array_foreach(all, i, entry) {
            st = add_file(t, entry, err);
            if (st != EXO_OK) break;
        }
    }
    json_decref(all);
    return st;
}

void exo_hub_tree_finish(exo_hub_tree *t) {
    for (size_t i = 0; i < t->n; i++) exo_free(t->files[i].path);
    exo_free(t->files);
    *t = (exo_hub_tree){0};
}

exo_status exo_hub_commit_parse(const char *json, size_t n, char out[EXO_HUB_COMMIT_BYTES],
                                exo_error *err) {
    json_t *all = parse_json(json, n, err);
    out[0] = '\0';
    if (all == NULL) return EXO_EFORMAT;
    const char *sha = json_string_value(json_object_get(all, "sha"));
    exo_status st = EXO_OK;
    if (sha == NULL || !is_plain_name(sha, strlen(sha)) ||
        !copy(out, EXO_HUB_COMMIT_BYTES, sha, strlen(sha))) {
        st = exo_error_set(err, EXO_EFORMAT, "the hub's answer names no commit");
    }
    json_decref(all);
    return st;
}
