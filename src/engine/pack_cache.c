/* pack_cache.c - see pack_cache.h.
 *
 * The hash of a matrix is of the bytes that its file has when the thread reads them; it is believed
 * to be of what was packed only if the file was settled when it was opened (times have steps of up
 * to two seconds on some disks) and has not changed since. */
#define _DEFAULT_SOURCE /* mkdir */
#include "engine/pack_cache.h"

#include "base/clock.h"
#include "base/host.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/map_guard.h"
#include "base/mem.h"
#include "engine/pack_file.h"
#include "engine/pack_memo.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIN_MATRIX_BYTES ((uint64_t)64 << 10) /* smaller ones are packed faster than opened */
#define LARGE_FROM       ((size_t)4 << 20)    /* from here on large pages are asked for */
#define HASH_BYTES       ((size_t)1 << 20)
#define SETTLED_S        2.0

typedef struct {
    exo_tensor tensor; /* a copy: some are views that live as long as a layer's loading */
    const exo_weight *weight;
} packed;

struct exo_pack_cache {
    const exo_gguf *file;
    const exo_backend *backend;
    exo_device *device;
    double opened;
    exo_pack_map *maps;
    size_t n_maps, cap_maps;
    exo_pack_memo *memos; /* one per file of the model */
    size_t n_memos, cap_memos;
    packed *packed; /* to be written */
    size_t n_packed, cap_packed;
    uint64_t mapped_bytes;
    size_t n_damaged, n_small;
    pthread_t thread;
    bool started;
    exo_latch *done; /* the thread has written what it will */
    atomic_bool stop;
};

/* ---- settings ---- */

static struct {
    char dir[EXO_PACK_PATH_BYTES - EXO_PACK_NAME_BYTES];
    uint64_t cap_bytes, min_bytes;
    bool always;
} settings;

void exo_pack_cache_set(const exo_pack_settings *s) {
    int n = snprintf(settings.dir, sizeof settings.dir, "%s", s->dir != NULL ? s->dir : "");
    if (n < 0 || (size_t)n >= sizeof settings.dir) settings.dir[0] = '\0';
    settings.cap_bytes = s->cap_bytes != 0 ? s->cap_bytes : EXO_PACK_CACHE_CAP;
    settings.min_bytes = s->min_bytes != 0 ? s->min_bytes : EXO_PACK_CACHE_MIN;
    settings.always = s->always;
}

exo_status exo_pack_settings_read(const char *text, exo_pack_settings *s, exo_error *err) {
    static const char units[] = "KMGT";
    if (text == NULL || *text == '\0' || strcmp(text, "on") == 0 || strcmp(text, "1") == 0) {
        return EXO_OK;
    }
    if (strcmp(text, "off") == 0 || strcmp(text, "0") == 0) {
        s->dir = NULL;
        return EXO_OK;
    }
    if (strcmp(text, "always") == 0) {
        s->always = true;
        return EXO_OK;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long v = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    const char *unit = v > 0 && errno == 0 && *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    if (unit == NULL || end[1] != '\0' || v > UINT64_MAX >> shift) {
        return exo_error_set(err, EXO_EINVAL,
                             "EXO_PACK_CACHE must be on, off, always or a size like 8G, not "
                             "\"%.32s\"",
                             text);
    }
    s->cap_bytes = (uint64_t)v << shift;
    return EXO_OK;
}

/* Makes the folder with its parents; whether it is there and nobody else's. */
static bool make_folder(void) {
    char path[sizeof settings.dir];
    struct stat st;
    snprintf(path, sizeof path, "%s", settings.dir);
    for (char *c = path + 1; *c != '\0'; c++) {
        if (*c != '/') continue;
        *c = '\0';
        (void)mkdir(path, 0700);
        *c = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return false;
    if (stat(path, &st) != 0) return false;
    errno = EPERM;
    return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0;
}

/* ---- looking up ---- */

exo_pack_cache *exo_pack_cache_open(const exo_gguf *g, const exo_backend *backend,
                                    exo_device *device, uint64_t load_bytes) {
    if (settings.dir[0] == '\0' || backend->weight_adopt == NULL) return NULL;
    if (load_bytes < settings.min_bytes) return NULL;
    exo_pack_cache *c = exo_calloc(1, sizeof *c);
    if (c == NULL || exo_latch_create(&c->done, NULL) != EXO_OK) {
        exo_free(c);
        return NULL;
    }
    c->file = g;
    c->backend = backend;
    c->device = device;
    c->opened = exo_unix_time();
    return c;
}

/* What the disk knows of this file, read once; NULL without memory. */
static exo_pack_memo *memo_of(exo_pack_cache *c, const exo_file_id *file) {
    for (size_t i = 0; i < c->n_memos; i++) {
        const exo_file_id *f = &c->memos[i].file;
        if (f->device == file->device && f->inode == file->inode) return &c->memos[i];
    }
    if (exo_grow((void **)&c->memos, &c->cap_memos, c->n_memos + 1, sizeof *c->memos) != 0) {
        return NULL;
    }
    exo_pack_memo_read(settings.dir, file, &c->memos[c->n_memos]);
    return &c->memos[c->n_memos++];
}

/* Where the matrix lies and what it is, without its content; false for what is never kept. */
static bool describe(const exo_pack_cache *c, const exo_tensor *t, exo_file_id *file,
                     exo_pack_entry *e) {
    *e = (exo_pack_entry){.bytes = t->bytes, .type = t->type};
    if (t->bytes < MIN_MATRIX_BYTES || !exo_gguf_place(c->file, t, file, &e->offset)) return false;
    if (t->dims[1] * t->dims[2] > UINT32_MAX || t->dims[0] > UINT32_MAX) return false;
    e->n_rows = (uint32_t)(t->dims[1] * t->dims[2]);
    e->n_cols = (uint32_t)t->dims[0];
    return true;
}

static exo_pack_key key_of(const exo_pack_cache *c, const exo_pack_entry *e) {
    exo_pack_key k = {c->backend->weight_layout, e->type, e->n_rows, e->n_cols, {0}};
    memcpy(k.content, e->content, sizeof k.content);
    return k;
}

/* Small pages cost more at every token than packing costs once. */
static bool pages_do(exo_pack_cache *c, const exo_pack_map *m) {
    size_t large;
    if (settings.always || m->n_bytes < LARGE_FROM) return true;
    if (exo_host_large_bytes(m->bytes, m->n_bytes, &large) && large >= m->n_bytes / 2) return true;
    c->n_small++;
    return false;
}

static exo_status adopt(exo_pack_cache *c, const exo_pack_key *k, exo_pack_map *m, exo_weight **out,
                        exo_error *err) {
    const exo_packed p = {.type = (exo_dtype)k->type,
                          .n_rows = k->n_rows,
                          .n_cols = k->n_cols,
                          .bytes = m->bytes,
                          .n_bytes = m->n_bytes,
                          .sum = m->sum};
    exo_status st = c->backend->weight_adopt(c->device, &p, out, err);
    if (st == EXO_OK && exo_map_guard_hurt(m->bytes)) {
        c->backend->weight_destroy(c->device, *out);
        *out = NULL;
        st = exo_error_set(err, EXO_EFORMAT, "it was cut while it was read");
    }
    return st;
}

static void tell_damage(exo_pack_cache *c, const exo_pack_key *k, const exo_error *why) {
    if (why->status == EXO_ENOTFOUND || why->status == EXO_ENOMEM) return;
    if (why->status == EXO_EFORMAT) exo_pack_remove(settings.dir, k);
    if (c->n_damaged++ > 0) return;
    exo_warn("a kept packed weight in %s cannot be used: %s; it is packed anew", settings.dir,
             why->message);
}

exo_weight *exo_pack_cache_get(exo_pack_cache *c, const exo_tensor *t) {
    exo_file_id file;
    exo_pack_entry like;
    exo_pack_map map = {0};
    exo_weight *w = NULL;
    exo_error err = {0};
    if (c == NULL || c->n_small > 0 || !describe(c, t, &file, &like)) return NULL;
    const exo_pack_memo *memo = memo_of(c, &file);
    const exo_pack_entry *known = memo != NULL ? exo_pack_memo_find(memo, &like) : NULL;
    if (known == NULL) return NULL;
    if (exo_grow((void **)&c->maps, &c->cap_maps, c->n_maps + 1, sizeof *c->maps) != 0) return NULL;
    exo_pack_key k = key_of(c, known);
    exo_status st = exo_pack_open(settings.dir, &k, &map, &err);
    if (st == EXO_OK) st = adopt(c, &k, &map, &w, &err);
    if (st == EXO_OK && !pages_do(c, &map)) {
        c->backend->weight_destroy(c->device, w);
        exo_pack_close(&map);
        return NULL;
    }
    if (st != EXO_OK) {
        exo_pack_close(&map);
        tell_damage(c, &k, &err);
        return NULL;
    }
    c->maps[c->n_maps++] = map;
    c->mapped_bytes += map.n_bytes;
    return w;
}

void exo_pack_cache_keep(exo_pack_cache *c, const exo_tensor *t, const exo_weight *w) {
    exo_file_id file;
    exo_pack_entry e;
    if (c == NULL || !describe(c, t, &file, &e)) return;
    if (exo_grow((void **)&c->packed, &c->cap_packed, c->n_packed + 1, sizeof *c->packed) != 0) {
        return;
    }
    c->packed[c->n_packed++] = (packed){*t, w};
}

/* ---- writing ---- */

static exo_status hash_tensor(exo_pack_cache *c, const exo_tensor *t, uint8_t out[],
                              exo_error *err) {
    exo_sha256 *h = exo_sha256_create();
    exo_status st = EXO_OK;
    if (h == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a hash");
    for (uint64_t at = 0; at < t->bytes && st == EXO_OK; at += HASH_BYTES) {
        uint64_t left = t->bytes - at;
        exo_sha256_update(h, t->data + at, left < HASH_BYTES ? (size_t)left : HASH_BYTES);
        if (atomic_load(&c->stop)) st = exo_error_set(err, EXO_ECANCELED, "stopped");
    }
    exo_sha256_peek(h, out);
    exo_sha256_destroy(h);
    if (st == EXO_OK) st = exo_gguf_check_whole(c->file, err);
    if (st == EXO_OK && !exo_gguf_unchanged(c->file, t)) {
        st = exo_error_set(err, EXO_EIO, "the model file has changed");
    }
    exo_gguf_drop_pages(c->file, t);
    return st;
}

static exo_status write_packed(exo_pack_cache *c, const packed *p, const exo_pack_key *k,
                               exo_error *err) {
    size_t n = 0;
    const void *bytes = c->backend->weight_packed(p->weight, &n);
    if (!exo_pack_make_room(settings.dir, n + EXO_PACK_TRAILER_BYTES, settings.cap_bytes,
                            c->opened)) {
        return exo_error_set(err, EXO_ENOMEM,
                             "no room under %.1f GB and the disk's reserve (EXO_PACK_CACHE=SIZE "
                             "sets the first)",
                             (double)settings.cap_bytes / 1e9);
    }
    return exo_pack_write(settings.dir, k, bytes, n, &c->stop, err);
}

static exo_status keep_one(exo_pack_cache *c, const packed *p, exo_error *err) {
    exo_file_id file;
    exo_pack_entry e;
    if (!describe(c, &p->tensor, &file, &e)) return EXO_OK;
    exo_pack_memo *memo = memo_of(c, &file);
    if (memo == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a note");
    const exo_pack_entry *known = exo_pack_memo_find(memo, &e);
    exo_status st = EXO_OK;
    if (known != NULL) {
        memcpy(e.content, known->content, sizeof e.content);
    } else {
        st = hash_tensor(c, &p->tensor, e.content, err);
    }
    if (st != EXO_OK) return st;
    exo_pack_key k = key_of(c, &e);
    if (!exo_pack_touch(settings.dir, &k)) st = write_packed(c, p, &k, err);
    return st == EXO_OK ? exo_pack_memo_add(memo, &e, err) : st;
}

/* Whether a change after the file was opened would show in its times. */
static bool is_settled(const exo_pack_cache *c) {
    for (size_t i = 0; i < c->n_packed; i++) {
        exo_file_id file;
        exo_pack_entry e;
        if (!describe(c, &c->packed[i].tensor, &file, &e)) continue;
        if ((double)file.ctime_ns * 1e-9 + SETTLED_S > c->opened) return false;
    }
    return true;
}

static exo_status write_notes(const exo_pack_cache *c, exo_error *err) {
    exo_status st = EXO_OK;
    for (size_t i = 0; i < c->n_memos && st == EXO_OK; i++) {
        if (c->memos[i].n > 0) st = exo_pack_memo_write(settings.dir, &c->memos[i], err);
    }
    return st;
}

static void keep_all(exo_pack_cache *c) {
    exo_error err = {0}, notes = {0};
    size_t n = 0;
    exo_status st = EXO_OK;
    exo_host_background_thread();
    if (!settings.always && !exo_pack_large_pages(settings.dir)) {
        exo_info("%s is kept in small pages: weights stay packed in memory", settings.dir);
        return;
    }
    while (n < c->n_packed && st == EXO_OK) {
        st = keep_one(c, &c->packed[n], &err);
        if (st == EXO_OK) n++;
    }
    exo_status noted = write_notes(c, &notes);
    if (st == EXO_OK && noted != EXO_OK) err = notes;
    if ((st != EXO_OK || noted != EXO_OK) && st != EXO_ECANCELED) {
        exo_warn("packed weights are not kept in %s (%zu of %zu are): %s; the next start packs the "
                 "others again",
                 settings.dir, noted == EXO_OK ? n : 0, c->n_packed, err.message);
    }
}

static void *keeper(void *ud) {
    exo_pack_cache *c = ud;
    keep_all(c);
    exo_latch_set(c->done);
    return NULL;
}

void exo_pack_cache_loaded(exo_pack_cache *c) {
    if (c == NULL) return;
    if (c->n_small > 0) {
        exo_info("kept weights in %s are in small pages now: packed in memory instead",
                 settings.dir);
        return;
    }
    if (c->n_packed == 0) return;
    if (!is_settled(c)) {
        exo_info("the model file is new: its packed weights are kept from the next start on");
        return;
    }
    if (!make_folder()) {
        exo_warn("packed weights are not kept: %s: %s", settings.dir, strerror(errno));
        return;
    }
    c->started = pthread_create(&c->thread, NULL, keeper, c) == 0;
}

void exo_pack_cache_wait(exo_pack_cache *c, uint64_t timeout_ms) {
    if (c == NULL || !c->started) return;
    (void)exo_latch_wait(c->done, timeout_ms < UINT32_MAX ? (uint32_t)timeout_ms : UINT32_MAX);
}

/* ---- in use ---- */

uint64_t exo_pack_cache_mapped(const exo_pack_cache *c) { return c != NULL ? c->mapped_bytes : 0; }

exo_status exo_pack_cache_check(const exo_pack_cache *c, exo_error *err) {
    if (c == NULL || c->n_maps == 0 || exo_map_guard_hurts() == 0) return EXO_OK;
    for (size_t i = 0; i < c->n_maps; i++) {
        if (!exo_map_guard_hurt(c->maps[i].bytes)) continue;
        return exo_error_set(err, EXO_EIO,
                             "a kept packed weight in %s was cut, or its disk failed, while in "
                             "use: load the model anew",
                             settings.dir);
    }
    return EXO_OK;
}

void exo_pack_cache_stop(exo_pack_cache *c) {
    if (c == NULL) return;
    atomic_store(&c->stop, true);
    if (c->started) pthread_join(c->thread, NULL);
    c->started = false;
}

void exo_pack_cache_close(exo_pack_cache *c) {
    if (c == NULL) return;
    exo_pack_cache_stop(c);
    for (size_t i = 0; i < c->n_maps; i++) exo_pack_close(&c->maps[i]);
    for (size_t i = 0; i < c->n_memos; i++) exo_pack_memo_finish(&c->memos[i]);
    exo_latch_destroy(c->done);
    exo_free(c->maps);
    exo_free(c->memos);
    exo_free(c->packed);
    exo_free(c);
}
