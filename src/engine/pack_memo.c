/* pack_memo.c - see pack_memo.h. */
#define _DEFAULT_SOURCE /* mkstemp */
#include "engine/pack_memo.h"

#include "base/le.h"
#include "base/mem.h"
#include "engine/pack_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC       "EXOMEMO1"
#define HEAD_BYTES  56
#define ENTRY_BYTES 64
#define TAIL_BYTES  8
#define MAX_BYTES   (HEAD_BYTES + (size_t)EXO_PACK_MEMO_MAX * ENTRY_BYTES + TAIL_BYTES)

void exo_pack_memo_finish(exo_pack_memo *m) {
    exo_free(m->entries);
    *m = (exo_pack_memo){0};
}

static bool is_file(const uint8_t *p, const exo_file_id *f) {
    return exo_get_u64(p) == f->device && exo_get_u64(p + 8) == f->inode &&
           exo_get_u64(p + 16) == f->bytes && exo_get_u64(p + 24) == (uint64_t)f->mtime_ns &&
           exo_get_u64(p + 32) == (uint64_t)f->ctime_ns;
}

exo_status exo_pack_memo_parse(const void *bytes, size_t n, const exo_file_id *file,
                               exo_pack_memo *out, exo_error *err) {
    const uint8_t *p = bytes;
    *out = (exo_pack_memo){.file = *file};
    if (n < HEAD_BYTES + TAIL_BYTES || n > MAX_BYTES || memcmp(p, MAGIC, 8) != 0 ||
        (n - HEAD_BYTES - TAIL_BYTES) / ENTRY_BYTES != exo_get_u32(p + 48) ||
        (n - HEAD_BYTES - TAIL_BYTES) % ENTRY_BYTES != 0 ||
        exo_get_u64(p + n - TAIL_BYTES) != exo_hash64(p, n - TAIL_BYTES, 0)) {
        return exo_error_set(err, EXO_EFORMAT, "a damaged note of %zu bytes", n);
    }
    if (!is_file(p + 8, file)) return exo_error_set(err, EXO_EFORMAT, "a note of another file");
    for (p += HEAD_BYTES; out->n < (n - HEAD_BYTES - TAIL_BYTES) / ENTRY_BYTES; p += ENTRY_BYTES) {
        exo_pack_entry e = {.offset = exo_get_u64(p),
                            .bytes = exo_get_u64(p + 8),
                            .type = exo_get_u32(p + 16),
                            .n_rows = exo_get_u32(p + 20),
                            .n_cols = exo_get_u32(p + 24)};
        memcpy(e.content, p + 32, sizeof e.content);
        if (exo_grow((void **)&out->entries, &out->cap, out->n + 1, sizeof e) != 0) {
            exo_pack_memo_finish(out);
            return exo_error_set(err, EXO_ENOMEM, "no memory for a note");
        }
        out->entries[out->n++] = e;
    }
    return EXO_OK;
}

static void put_u64(exo_buf *out, uint64_t v) {
    uint8_t b[8];
    exo_put_u64(b, v);
    exo_buf_append(out, b, sizeof b);
}

static void put_u32(exo_buf *out, uint32_t v) {
    uint8_t b[4];
    exo_put_u32(b, v);
    exo_buf_append(out, b, sizeof b);
}

void exo_pack_memo_print(const exo_pack_memo *m, exo_buf *out) {
    size_t begin = out->n;
    exo_buf_append(out, MAGIC, 8);
    const uint64_t file[] = {m->file.device, m->file.inode, m->file.bytes,
                             (uint64_t)m->file.mtime_ns, (uint64_t)m->file.ctime_ns};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) put_u64(out, file[i]);
    put_u32(out, (uint32_t)m->n);
    put_u32(out, 0);
    for (size_t i = 0; i < m->n; i++) {
        const exo_pack_entry *e = &m->entries[i];
        put_u64(out, e->offset);
        put_u64(out, e->bytes);
        const uint32_t shape[] = {e->type, e->n_rows, e->n_cols, 0};
        for (size_t k = 0; k < sizeof shape / sizeof *shape; k++) put_u32(out, shape[k]);
        exo_buf_append(out, e->content, sizeof e->content);
    }
    if (exo_buf_ok(out)) put_u64(out, exo_hash64(out->data + begin, out->n - begin, 0));
}

/* ---- on disk ---- */

static bool path_of(const char *dir, const exo_file_id *f, char out[EXO_PACK_PATH_BYTES]) {
    int n = snprintf(out, EXO_PACK_PATH_BYTES, "%s/%" PRIx64 "-%" PRIx64 ".memo", dir, f->device,
                     f->inode);
    return n > 0 && n < EXO_PACK_PATH_BYTES;
}

static exo_status read_fd(int fd, exo_buf *out, exo_error *err) {
    char piece[4096];
    for (;;) {
        ssize_t k = read(fd, piece, sizeof piece);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return exo_error_set(err, EXO_EIO, "%s", strerror(errno));
        if (k == 0) return EXO_OK;
        exo_buf_append(out, piece, (size_t)k);
        if (!exo_buf_ok(out)) return exo_error_set(err, EXO_EFORMAT, "too long");
    }
}

void exo_pack_memo_read(const char *dir, const exo_file_id *file, exo_pack_memo *out) {
    char path[EXO_PACK_PATH_BYTES];
    exo_buf text = {.limit_bytes = MAX_BYTES};
    exo_error err;
    *out = (exo_pack_memo){.file = *file};
    if (!path_of(dir, file, path)) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    if (read_fd(fd, &text, &err) == EXO_OK) {
        (void)exo_pack_memo_parse(exo_buf_str(&text), text.n, file, out, &err);
    }
    close(fd);
    exo_buf_finish(&text);
}

exo_status exo_pack_memo_write(const char *dir, const exo_pack_memo *m, exo_error *err) {
    char path[EXO_PACK_PATH_BYTES], temporary[EXO_PACK_PATH_BYTES];
    exo_buf text = {0};
    exo_status st = EXO_OK;
    exo_pack_memo_print(m, &text);
    int n = snprintf(temporary, sizeof temporary, "%s/.tmp-XXXXXX", dir);
    if (!exo_buf_ok(&text) || !path_of(dir, &m->file, path) || n >= (int)sizeof temporary) {
        exo_buf_finish(&text);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a note");
    }
    int fd = mkstemp(temporary);
    bool ok = fd >= 0 && write(fd, text.data, text.n) == (ssize_t)text.n;
    if (fd >= 0 && close(fd) != 0) ok = false;
    if (!ok || rename(temporary, path) != 0) {
        st = exo_error_set(err, EXO_EIO, "%s", strerror(errno));
        if (fd >= 0) (void)unlink(temporary);
    }
    exo_buf_finish(&text);
    return st;
}

/* ---- entries ---- */

const exo_pack_entry *exo_pack_memo_find(const exo_pack_memo *m, const exo_pack_entry *like) {
    for (size_t i = 0; i < m->n; i++) {
        const exo_pack_entry *e = &m->entries[i];
        if (e->offset == like->offset && e->bytes == like->bytes && e->type == like->type &&
            e->n_rows == like->n_rows && e->n_cols == like->n_cols) {
            return e;
        }
    }
    return NULL;
}

exo_status exo_pack_memo_add(exo_pack_memo *m, const exo_pack_entry *e, exo_error *err) {
    for (size_t i = 0; i < m->n; i++) {
        if (m->entries[i].offset != e->offset) continue;
        m->entries[i] = *e;
        return EXO_OK;
    }
    if (m->n == EXO_PACK_MEMO_MAX ||
        exo_grow((void **)&m->entries, &m->cap, m->n + 1, sizeof *m->entries) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no room for a note");
    }
    m->entries[m->n++] = *e;
    return EXO_OK;
}
