/* gguf.c - files as one model: mapping, the parts of a split file, tensors by name.
 *
 * Owns the mappings and the joined list of tensors; what a file's bytes mean is gguf_part.c's.
 * A split file's metadata is its first part's; its tensors are all parts' in order.  The size of
 * a file is asked once, before it is mapped. */
#define _DEFAULT_SOURCE /* madvise */
#include "model/gguf.h"

#include "base/le.h"
#include "base/map_guard.h"
#include "base/mem.h"
#include "model/gguf_part.h"
#include "model/hf.h"
#include "model/paths.h"
#include "model/tensor_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct exo_gguf {
    exo_gguf_part *parts; /* (n_parts); [0] has the metadata */
    uint32_t n_parts;
    bool foreign; /* parts[0] is other.head */
    exo_gguf_foreign other;
    exo_tensor *tensors; /* (n_tensors) of all parts, in file order */
    size_t n_tensors;
    const exo_str **names; /* (n_tensors) sorted */
    uint64_t bytes;
};

/* ---- mapping ---- */

static int64_t ns_of(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

static exo_file_id id_of(const struct stat *st) {
#ifdef __APPLE__
    struct timespec changed = st->st_mtimespec, status = st->st_ctimespec;
#else
    struct timespec changed = st->st_mtim, status = st->st_ctim;
#endif
    return (exo_file_id){.device = (uint64_t)st->st_dev,
                         .inode = (uint64_t)st->st_ino,
                         .bytes = (uint64_t)st->st_size,
                         .mtime_ns = ns_of(changed),
                         .ctime_ns = ns_of(status)};
}

exo_status exo_mapping_open(const char *path, exo_mapping *out, exo_error *err) {
    struct stat st;
    exo_status status = EXO_OK;
    *out = (exo_mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = exo_error_set(err, errno == ENOENT ? EXO_ENOTFOUND : EXO_EIO, "cannot open: %s",
                               strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        status = exo_error_set(err, EXO_EINVAL, "not a regular file");
        goto done;
    }
    if (st.st_size < 4 || (uint64_t)st.st_size > SIZE_MAX) {
        status = exo_error_set(err, EXO_EFORMAT, "not a GGUF file, nor safetensors (%lld bytes)",
                               (long long)st.st_size);
        goto done;
    }
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        status = exo_error_set(err, EXO_EIO, "cannot map: %s", strerror(errno));
        goto done;
    }
    *out = (exo_mapping){bytes, (size_t)st.st_size, id_of(&st), exo_strdup(path)};
    exo_map_guard_add(out->bytes, out->n_bytes);
    if (out->path == NULL) {
        exo_mapping_close(out);
        status = exo_error_set(err, EXO_ENOMEM, "out of memory");
    }
done:
    if (fd >= 0) close(fd);
    return status;
}

void exo_mapping_close(exo_mapping *m) {
    exo_map_guard_remove(m->bytes);
    if (m->bytes != NULL) munmap((void *)m->bytes, m->n_bytes);
    exo_free(m->path);
    *m = (exo_mapping){0};
}

static exo_status map_file(const char *path, exo_gguf_part *p, exo_error *err) {
    exo_status st = exo_mapping_open(path, &p->map, err);
    p->bytes = p->map.bytes;
    p->n_bytes = p->map.n_bytes;
    return st;
}

static exo_status open_part(const char *path, exo_gguf_part *p, exo_error *err) {
    exo_status st = map_file(path, p, err);
    if (st == EXO_OK) st = exo_gguf_part_parse(p, err);
    if (st != EXO_OK) exo_error_wrap(err, st, "%s", exo_path_tail(path));
    return st;
}

/* ---- joining ---- */

static exo_status join_tensors(exo_gguf *g, exo_error *err) {
    for (uint32_t i = 0; i < g->n_parts; i++) g->n_tensors += g->parts[i].n_tensors;
    g->tensors = exo_malloc(g->n_tensors * sizeof *g->tensors);
    g->names = exo_malloc(g->n_tensors * sizeof(const exo_str *));
    if (g->tensors == NULL || g->names == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for %zu tensors", g->n_tensors);
    }
    size_t n = 0;
    for (uint32_t i = 0; i < g->n_parts; i++) {
        exo_gguf_part *p = &g->parts[i];
        for (size_t k = 0; k < p->n_tensors; k++, n++) {
            g->tensors[n] = p->tensors[k];
            g->names[n] = &g->tensors[n].name;
            g->bytes += p->tensors[k].bytes;
        }
        exo_free(p->tensors);
        p->tensors = NULL;
        p->n_tensors = p->cap_tensors = 0;
    }
    return exo_names_sort(g->names, g->n_tensors, "tensor", err);
}

static bool part_u32(const exo_gguf_part *p, const char *key, uint32_t *out) {
    const exo_gguf_kv *kv = exo_gguf_part_find(p, key);
    *out = 0;
    return kv != NULL && exo_gguf_kv_u32(kv, out);
}

/* A part says which one it is (split.no, from 0) and of how many; its name must agree. */
static exo_status check_part(const exo_gguf_part *p, uint32_t no, uint32_t count, exo_error *err) {
    uint32_t its_no, its_count;
    if (!part_u32(p, "split.no", &its_no) || !part_u32(p, "split.count", &its_count)) {
        return exo_error_set(err, EXO_EFORMAT, "a part without split.no or split.count");
    }
    if (its_no != no || its_count != count) {
        return exo_error_set(err, EXO_EFORMAT,
                             "named part %u of %u, but its metadata say part %llu of %u", no + 1,
                             count, (unsigned long long)its_no + 1, its_count);
    }
    return EXO_OK;
}

static exo_status open_parts(exo_gguf *g, const char *path, const exo_split_name *split,
                             exo_error *err) {
    size_t n = strlen(path) + 1;
    char *part_path = exo_strdup(path);
    exo_gguf_part *parts = exo_calloc(split->count, sizeof *parts);
    exo_status st = EXO_OK;
    if (part_path == NULL || parts == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for %u parts", split->count);
        exo_free(parts);
        goto done;
    }
    g->parts = parts;
    g->n_parts = split->count;
    for (uint32_t i = 0; i < split->count && st == EXO_OK; i++) {
        snprintf(part_path + split->stem_n, n - split->stem_n, "-%05u-of-%05u.gguf", i + 1,
                 split->count);
        st = open_part(part_path, &parts[i], err);
        if (st != EXO_OK) break;
        st = check_part(&parts[i], i, split->count, err);
        if (st != EXO_OK) exo_error_wrap(err, st, "%s", exo_path_tail(part_path));
    }
    uint32_t claimed;
    if (st == EXO_OK && part_u32(&parts[0], "split.tensors.count", &claimed)) {
        uint64_t found = 0;
        for (uint32_t i = 0; i < g->n_parts; i++) found += parts[i].n_tensors;
        if (found != claimed) {
            st = exo_error_set(err, EXO_EFORMAT, "%s: split.tensors.count is %u, found %llu",
                               exo_path_tail(path), claimed, (unsigned long long)found);
        }
    }
done:
    exo_free(part_path);
    return st;
}

/* One file: split when its name and its metadata say so; else its name is just a name. */
static exo_status open_files(exo_gguf *g, const char *path, exo_error *err) {
    exo_split_name split;
    uint32_t count;
    g->parts = exo_calloc(1, sizeof *g->parts);
    if (g->parts == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory");
    g->n_parts = 1;
    exo_status st = open_part(path, &g->parts[0], err);
    if (st != EXO_OK) return st;
    if (!exo_path_split(path, &split) || split.count == 1 ||
        !part_u32(&g->parts[0], "split.count", &count)) {
        return EXO_OK;
    }
    exo_gguf_part probe = g->parts[0];
    exo_free(g->parts);
    g->parts = NULL;
    g->n_parts = 0;
    exo_gguf_part_finish(&probe);
    exo_mapping_close(&probe.map);
    return open_parts(g, path, &split, err);
}

static void release_foreign(exo_gguf_foreign *f) {
    for (size_t i = 0; i < f->n_maps; i++) exo_mapping_close(&f->maps[i]);
    exo_free(f->maps);
    exo_free(f->tensors);
    exo_buf_finish(&f->head);
    exo_arena_finish(&f->memory);
}

static exo_status finish_open(exo_gguf *g, exo_status st, exo_gguf **out, exo_error *err) {
    if (st == EXO_OK) st = join_tensors(g, err);
    if (st != EXO_OK) {
        exo_gguf_close(g);
        return st;
    }
    *out = g;
    return EXO_OK;
}

exo_status exo_gguf_open(const char *path, exo_gguf **out, exo_error *err) {
    *out = NULL;
    if (exo_hf_is_folder(path)) return exo_hf_open(path, out, err);
    exo_gguf *g = exo_calloc(1, sizeof *g);
    if (g == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory");
    return finish_open(g, open_files(g, path, err), out, err);
}

exo_status exo_gguf_open_memory(const void *bytes, size_t n, exo_gguf **out, exo_error *err) {
    *out = NULL;
    exo_gguf *g = exo_calloc(1, sizeof *g);
    if (g == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory");
    g->parts = exo_calloc(1, sizeof *g->parts);
    if (g->parts == NULL) {
        exo_free(g);
        return exo_error_set(err, EXO_ENOMEM, "out of memory");
    }
    g->n_parts = 1;
    g->parts[0].bytes = bytes;
    g->parts[0].n_bytes = n;
    return finish_open(g, exo_gguf_part_parse(&g->parts[0], err), out, err);
}

exo_status exo_gguf_assemble(const exo_gguf_foreign *f_take, exo_gguf **out, exo_error *err) {
    *out = NULL;
    exo_gguf *g = exo_calloc(1, sizeof *g);
    exo_gguf_part *part = exo_calloc(1, sizeof *part);
    if (g == NULL || part == NULL) {
        exo_gguf_foreign f = *f_take;
        release_foreign(&f);
        exo_free(g);
        exo_free(part);
        return exo_error_set(err, EXO_ENOMEM, "out of memory");
    }
    g->foreign = true;
    g->other = *f_take;
    g->parts = part;
    g->n_parts = 1;
    part->bytes = (const uint8_t *)g->other.head.data;
    part->n_bytes = g->other.head.n;
    exo_status st = exo_gguf_part_parse(part, err);
    if (st == EXO_OK) {
        part->tensors = g->other.tensors;
        part->n_tensors = part->cap_tensors = g->other.n_tensors;
        g->other.tensors = NULL;
    }
    return finish_open(g, st, out, err);
}

void exo_gguf_close(exo_gguf *g) {
    if (g == NULL) return;
    for (uint32_t i = 0; g->parts != NULL && i < g->n_parts; i++) {
        exo_gguf_part *p = &g->parts[i];
        exo_gguf_part_finish(p);
        exo_mapping_close(&p->map);
    }
    if (g->foreign) release_foreign(&g->other);
    exo_free(g->parts);
    exo_free(g->tensors);
    exo_free(g->names);
    exo_free(g);
}

/* ---- tensors ---- */

size_t exo_gguf_n_tensors(const exo_gguf *g) { return g->n_tensors; }

const exo_tensor *exo_gguf_tensor(const exo_gguf *g, size_t i) { return &g->tensors[i]; }

const exo_tensor *exo_gguf_find(const exo_gguf *g, const char *name) {
    return (const exo_tensor *)exo_names_find(g->names, g->n_tensors, name);
}

uint64_t exo_gguf_bytes(const exo_gguf *g) { return g->bytes; }

const exo_gguf_part *exo_gguf_head(const exo_gguf *g) { return &g->parts[0]; }

bool exo_gguf_rotates_halves(const exo_gguf *g) { return g->foreign && g->other.rotate_half; }

bool exo_gguf_is_foreign(const exo_gguf *g) { return g->foreign; }

static bool is_in(const exo_mapping *m, const uint8_t *data) {
    return m->bytes != NULL && data >= m->bytes && data < m->bytes + m->n_bytes;
}

/* The file that these bytes are in; NULL: they were made in memory. */
static const exo_mapping *file_of(const exo_gguf *g, const uint8_t *data) {
    for (size_t i = 0; g->foreign && i < g->other.n_maps; i++) {
        if (is_in(&g->other.maps[i], data)) return &g->other.maps[i];
    }
    for (uint32_t i = 0; i < g->n_parts; i++) {
        if (is_in(&g->parts[i].map, data)) return &g->parts[i].map;
    }
    return NULL;
}

bool exo_gguf_place(const exo_gguf *g, const exo_tensor *t, exo_file_id *file, uint64_t *offset) {
    const exo_mapping *m = t->rows == NULL ? file_of(g, t->data) : NULL;
    *file = m != NULL ? m->file : (exo_file_id){0};
    *offset = m != NULL ? (uint64_t)(t->data - m->bytes) : 0;
    return m != NULL && m->path != NULL;
}

bool exo_gguf_unchanged(const exo_gguf *g, const exo_tensor *t) {
    const exo_mapping *m = file_of(g, t->data);
    struct stat st;
    if (m == NULL || m->path == NULL || stat(m->path, &st) != 0) return false;
    exo_file_id now = id_of(&st);
    return now.device == m->file.device && now.inode == m->file.inode &&
           now.bytes == m->file.bytes && now.mtime_ns == m->file.mtime_ns &&
           now.ctime_ns == m->file.ctime_ns;
}

/* Only pages that lie wholly within the tensor: their neighbours may still be needed. */
static void drop_pages(const exo_gguf *g, const uint8_t *data, uint64_t bytes) {
    if (bytes == 0 || file_of(g, data) == NULL) return; /* memory would not come back */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data;
    uintptr_t first = (begin + page - 1) & ~(page - 1);
    uintptr_t end = (begin + (uintptr_t)bytes) & ~(page - 1);
    if (end > first) (void)madvise((void *)(data + (first - begin)), end - first, MADV_DONTNEED);
}

void exo_gguf_drop_pages(const exo_gguf *g, const exo_tensor *t) {
    const uint8_t *data;
    uint64_t bytes;
    for (uint64_t i = 0; exo_tensor_piece(t, i, &data, &bytes); i++) drop_pages(g, data, bytes);
}

static bool is_cut(const exo_gguf *g) {
    for (size_t i = 0; g->foreign && i < g->other.n_maps; i++) {
        if (exo_map_guard_hurt(g->other.maps[i].bytes)) return true;
    }
    for (uint32_t i = 0; i < g->n_parts; i++) {
        if (exo_map_guard_hurt(g->parts[i].map.bytes)) return true;
    }
    return false;
}

exo_status exo_gguf_check_whole(const exo_gguf *g, exo_error *err) {
    if (!is_cut(g)) return EXO_OK;
    return exo_error_set(err, EXO_EIO,
                         "the file was cut, or its disk failed, while it was read: make it whole "
                         "again and load the model anew");
}

/* ---- metadata ---- */

static const exo_gguf_kv *find_kv(const exo_gguf *g, const char *key) {
    return exo_gguf_part_find(&g->parts[0], key);
}

static const exo_gguf_kv *find_array(const exo_gguf *g, const char *key) {
    const exo_gguf_kv *kv = find_kv(g, key);
    return kv != NULL && kv->type == EXO_GGUF_ARRAY ? kv : NULL;
}

static exo_str str_at(const uint8_t *p) {
    return (exo_str){(const char *)p + 8, (size_t)exo_get_u64(p)};
}

bool exo_gguf_has(const exo_gguf *g, const char *key) { return find_kv(g, key) != NULL; }

bool exo_gguf_str(const exo_gguf *g, const char *key, exo_str *out) {
    const exo_gguf_kv *kv = find_kv(g, key);
    bool ok = kv != NULL && kv->type == EXO_GGUF_STRING;
    *out = ok ? str_at(kv->first) : (exo_str){"", 0};
    return ok;
}

bool exo_gguf_u32(const exo_gguf *g, const char *key, uint32_t *out) {
    return part_u32(&g->parts[0], key, out);
}

bool exo_gguf_f32(const exo_gguf *g, const char *key, float *out) {
    const exo_gguf_kv *kv = find_kv(g, key);
    *out = 0;
    if (kv == NULL) return false;
    if (kv->type == EXO_GGUF_F32) *out = exo_get_f32(kv->first);
    if (kv->type == EXO_GGUF_F64) *out = (float)exo_get_f64(kv->first);
    return kv->type == EXO_GGUF_F32 || kv->type == EXO_GGUF_F64;
}

bool exo_gguf_bool(const exo_gguf *g, const char *key, bool *out) {
    const exo_gguf_kv *kv = find_kv(g, key);
    bool ok = kv != NULL && kv->type == EXO_GGUF_BOOL;
    *out = ok && kv->first[0] != 0;
    return ok;
}

bool exo_gguf_array(const exo_gguf *g, const char *key, exo_gguf_type *elem, size_t *n) {
    const exo_gguf_kv *kv = find_array(g, key);
    *elem = kv != NULL ? kv->elem : EXO_GGUF_U8;
    *n = kv != NULL ? (size_t)kv->n : 0;
    return kv != NULL;
}

bool exo_gguf_array_str(const exo_gguf *g, const char *key, size_t i, exo_str *out) {
    const exo_gguf_kv *kv = find_array(g, key);
    *out = (exo_str){"", 0};
    if (kv == NULL || kv->elem != EXO_GGUF_STRING || i >= kv->n) return false;
    const uint8_t *p = kv->first + kv->marks[i / EXO_GGUF_MARK_EVERY];
    for (size_t k = i % EXO_GGUF_MARK_EVERY; k > 0; k--) p += 8 + exo_get_u64(p);
    *out = str_at(p);
    return true;
}

bool exo_gguf_array_i64(const exo_gguf *g, const char *key, size_t i, int64_t *out) {
    const exo_gguf_kv *kv = find_array(g, key);
    *out = 0;
    return kv != NULL && i < kv->n && exo_gguf_kv_i64(kv, i, out);
}

bool exo_gguf_array_f64(const exo_gguf *g, const char *key, size_t i, double *out) {
    const exo_gguf_kv *kv = find_array(g, key);
    *out = 0;
    if (kv == NULL || i >= kv->n) return false;
    if (kv->elem == EXO_GGUF_F32) *out = (double)exo_get_f32(kv->first + 4 * i);
    if (kv->elem == EXO_GGUF_F64) *out = exo_get_f64(kv->first + 8 * i);
    return kv->elem == EXO_GGUF_F32 || kv->elem == EXO_GGUF_F64;
}
