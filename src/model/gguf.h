/* gguf.h - a GGUF file (v2, v3, sharded or not) mapped read-only and fully validated.
 *
 * Input is hostile: every length, count and offset is checked before use; what the file says
 * and what is there must agree.  Opening reads the header only; tensor bytes stay on disk until
 * somebody touches them.
 * Thread: ANY once opened (read-only). */
#ifndef EXO_MODEL_GGUF_H
#define EXO_MODEL_GGUF_H

#include "compute/dtype.h"

typedef struct exo_gguf exo_gguf;

typedef enum {
    EXO_GGUF_U8 = 0,
    EXO_GGUF_I8 = 1,
    EXO_GGUF_U16 = 2,
    EXO_GGUF_I16 = 3,
    EXO_GGUF_U32 = 4,
    EXO_GGUF_I32 = 5,
    EXO_GGUF_F32 = 6,
    EXO_GGUF_BOOL = 7,
    EXO_GGUF_STRING = 8,
    EXO_GGUF_ARRAY = 9,
    EXO_GGUF_U64 = 10,
    EXO_GGUF_I64 = 11,
    EXO_GGUF_F64 = 12,
} exo_gguf_type;

typedef struct {
    const char *s; /* not NUL-terminated; points into the mapping */
    size_t n;
} exo_str;

#define EXO_MAX_DIMS 4

typedef struct exo_tensor_rows exo_tensor_rows;

typedef struct {
    exo_str name;
    exo_dtype type;
    uint32_t n_dims;
    uint64_t dims[EXO_MAX_DIMS]; /* dims[0] runs fastest: a (rows, K) matrix has dims {K, rows} */
    const uint8_t *data;         /* in the mapping */
    uint64_t bytes;
    const exo_tensor_rows *rows; /* NULL: all of it lies at data.  Else see model/tensor_rows.h */
} exo_tensor;

/* Opens a file; for "...-00001-of-0000N.gguf" all N parts (any part's name will do); for a folder
 * with config.json and safetensors, what a GGUF file of that model would be (model/hf.h). */
exo_status exo_gguf_open(const char *path, exo_gguf **out, exo_error *err);
/* Parses bytes that stay valid and unchanged until close (fuzzing, the built-in model). */
exo_status exo_gguf_open_memory(const void *bytes, size_t n, exo_gguf **out, exo_error *err);
void exo_gguf_close(exo_gguf *g); /* NULL is allowed */

size_t exo_gguf_n_tensors(const exo_gguf *g);
const exo_tensor *exo_gguf_tensor(const exo_gguf *g, size_t i);
const exo_tensor *exo_gguf_find(const exo_gguf *g, const char *name); /* NULL when absent */
uint64_t exo_gguf_bytes(const exo_gguf *g);                           /* all tensors */

/* Metadata.  A getter returns false when the key is absent or of another kind; any integer type
 * is accepted where its value fits. */
bool exo_gguf_has(const exo_gguf *g, const char *key);
bool exo_gguf_str(const exo_gguf *g, const char *key, exo_str *out);
bool exo_gguf_u32(const exo_gguf *g, const char *key, uint32_t *out);
bool exo_gguf_f32(const exo_gguf *g, const char *key, float *out);
bool exo_gguf_bool(const exo_gguf *g, const char *key, bool *out);
/* Arrays: *n elements; element access by index. */
bool exo_gguf_array(const exo_gguf *g, const char *key, exo_gguf_type *elem, size_t *n);
bool exo_gguf_array_str(const exo_gguf *g, const char *key, size_t i, exo_str *out);
bool exo_gguf_array_i64(const exo_gguf *g, const char *key, size_t i, int64_t *out);
bool exo_gguf_array_f64(const exo_gguf *g, const char *key, size_t i, double *out);

/* Rotary pairs are (i, i + dims/2) even where the architecture's GGUF files have (2i, 2i+1). */
bool exo_gguf_rotates_halves(const exo_gguf *g);
/* Whether it is a folder of safetensors. */
bool exo_gguf_is_foreign(const exo_gguf *g);

/* EXO_EIO when bytes that were read so far were missing from the file and read as zeros. */
exo_status exo_gguf_check_whole(const exo_gguf *g, exo_error *err);

/* Tells the OS that a tensor's pages are not needed any more (they were packed). */
void exo_gguf_drop_pages(const exo_gguf *g, const exo_tensor *t);

/* What tells a file from every other and from itself before it was written to. */
typedef struct {
    uint64_t device, inode, bytes;
    int64_t mtime_ns, ctime_ns; /* since 1970 */
} exo_file_id;

/* The file that a tensor lies in, in one piece, as it was when it was opened, and where.  False for
 * what was made in memory or is put together from several places. */
bool exo_gguf_place(const exo_gguf *g, const exo_tensor *t, exo_file_id *file, uint64_t *offset);
/* Whether that file is now what it was then.  ANY; reads no byte of it. */
bool exo_gguf_unchanged(const exo_gguf *g, const exo_tensor *t);

#endif
