/* gguf_writer.c - fields of a GGUF head, appended in file order.
 *
 * The layout is described in gguf_part.c, which reads what this writes. */
#include "model/gguf_writer.h"

#include "base/le.h"

#include <string.h>

#define GGUF_VERSION 3

void exo_gguf_writer_finish(exo_gguf_writer *w) {
    exo_buf_finish(&w->kvs);
    exo_buf_finish(&w->tensors);
    *w = (exo_gguf_writer){0};
}

void exo_gguf_put_u32(exo_buf *b, uint32_t v) {
    uint8_t bytes[4];
    exo_put_u32(bytes, v);
    exo_buf_append(b, bytes, sizeof bytes);
}

void exo_gguf_put_u64(exo_buf *b, uint64_t v) {
    uint8_t bytes[8];
    exo_put_u64(bytes, v);
    exo_buf_append(b, bytes, sizeof bytes);
}

void exo_gguf_put_str(exo_buf *b, const char *s, size_t n) {
    exo_gguf_put_u64(b, n);
    exo_buf_append(b, s, n);
}

static void put_key(exo_gguf_writer *w, const char *key, exo_gguf_type type) {
    exo_gguf_put_str(&w->kvs, key, strlen(key));
    exo_gguf_put_u32(&w->kvs, (uint32_t)type);
    w->n_kvs++;
}

void exo_gguf_add_u32(exo_gguf_writer *w, const char *key, uint32_t v) {
    put_key(w, key, EXO_GGUF_U32);
    exo_gguf_put_u32(&w->kvs, v);
}

void exo_gguf_add_f32(exo_gguf_writer *w, const char *key, float v) {
    uint8_t bytes[4];
    put_key(w, key, EXO_GGUF_F32);
    exo_put_f32(bytes, v);
    exo_buf_append(&w->kvs, bytes, sizeof bytes);
}

void exo_gguf_add_bool(exo_gguf_writer *w, const char *key, bool v) {
    put_key(w, key, EXO_GGUF_BOOL);
    exo_buf_putc(&w->kvs, v ? 1 : 0);
}

void exo_gguf_add_str(exo_gguf_writer *w, const char *key, const char *s) {
    exo_gguf_add_strn(w, key, s, strlen(s));
}

void exo_gguf_add_strn(exo_gguf_writer *w, const char *key, const char *s, size_t n) {
    put_key(w, key, EXO_GGUF_STRING);
    exo_gguf_put_str(&w->kvs, s, n);
}

void exo_gguf_add_array(exo_gguf_writer *w, const char *key, exo_gguf_type elem, uint64_t n) {
    put_key(w, key, EXO_GGUF_ARRAY);
    exo_gguf_put_u32(&w->kvs, (uint32_t)elem);
    exo_gguf_put_u64(&w->kvs, n);
}

void exo_gguf_add_tensor(exo_gguf_writer *w, const char *name, exo_dtype type, uint32_t n_dims,
                         const uint64_t *dims) {
    const exo_dtype_info *info = exo_dtype_get(type);
    uint64_t n_elems = 1;
    exo_gguf_put_str(&w->tensors, name, strlen(name));
    exo_gguf_put_u32(&w->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        exo_gguf_put_u64(&w->tensors, dims[i]);
        n_elems *= dims[i];
    }
    exo_gguf_put_u32(&w->tensors, (uint32_t)type);
    exo_gguf_put_u64(&w->tensors, w->data_bytes);
    w->data_bytes += exo_gguf_padded(n_elems / info->block_elems * info->block_bytes);
    w->n_tensors++;
}

void exo_gguf_writer_head(const exo_gguf_writer *w, exo_buf *out) {
    size_t begin = out->n;
    exo_buf_append(out, "GGUF", 4);
    exo_gguf_put_u32(out, GGUF_VERSION);
    exo_gguf_put_u64(out, w->n_tensors);
    exo_gguf_put_u64(out, w->n_kvs);
    if (w->kvs.n > 0) exo_buf_append(out, w->kvs.data, w->kvs.n);
    if (w->tensors.n > 0) exo_buf_append(out, w->tensors.data, w->tensors.n);
    while ((out->n - begin) % EXO_GGUF_ALIGNMENT != 0 && exo_buf_ok(out)) exo_buf_putc(out, 0);
    if (!exo_buf_ok(&w->kvs) || !exo_buf_ok(&w->tensors)) out->failed = true;
}
