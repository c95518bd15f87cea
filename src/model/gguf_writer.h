/* gguf_writer.h - the head of a GGUF v3 file: everything before the tensors' data.
 *
 * Collects metadata and tensor descriptions, then gives them as bytes; who writes a file appends
 * the data, each tensor padded to EXO_GGUF_ALIGNMENT.  Failed allocations are remembered by the
 * buffers: check exo_buf_ok() of the head once.  Thread: one at a time. */
#ifndef EXO_MODEL_GGUF_WRITER_H
#define EXO_MODEL_GGUF_WRITER_H

#include "base/buf.h"
#include "model/gguf.h"

#define EXO_GGUF_ALIGNMENT 32

typedef struct {
    exo_buf kvs, tensors;
    uint64_t n_kvs, n_tensors;
    uint64_t data_bytes; /* of all tensors, padded: where the next one begins */
} exo_gguf_writer;

void exo_gguf_writer_finish(exo_gguf_writer *w); /* all-zero memory is a valid empty writer */

void exo_gguf_add_u32(exo_gguf_writer *w, const char *key, uint32_t v);
void exo_gguf_add_f32(exo_gguf_writer *w, const char *key, float v);
void exo_gguf_add_bool(exo_gguf_writer *w, const char *key, bool v);
void exo_gguf_add_str(exo_gguf_writer *w, const char *key, const char *s);
void exo_gguf_add_strn(exo_gguf_writer *w, const char *key, const char *s, size_t n);
/* Begins an array; the caller appends exactly n elements to w->kvs. */
void exo_gguf_add_array(exo_gguf_writer *w, const char *key, exo_gguf_type elem, uint64_t n);
void exo_gguf_add_tensor(exo_gguf_writer *w, const char *name, exo_dtype type, uint32_t n_dims,
                         const uint64_t *dims);

/* Elements of arrays, and raw fields. */
void exo_gguf_put_u32(exo_buf *b, uint32_t v);
void exo_gguf_put_u64(exo_buf *b, uint64_t v);
void exo_gguf_put_str(exo_buf *b, const char *s, size_t n);

/* Appends header, metadata, descriptions and the padding before the data. */
void exo_gguf_writer_head(const exo_gguf_writer *w, exo_buf *out);

static inline uint64_t exo_gguf_padded(uint64_t bytes) {
    return (bytes + EXO_GGUF_ALIGNMENT - 1) / EXO_GGUF_ALIGNMENT * EXO_GGUF_ALIGNMENT;
}

#endif
