/* gguf_part.h - one GGUF file (or one part of a split one) as parsed data; private to gguf*.c,
 * hf_open.c and convert.c.
 *
 * Everything points into the file's bytes; only the tables below are allocated, each in
 * proportion to the bytes it was read from, never to a count that a file claims.
 * Names are found by binary search over sorted pointers: no crafted set of names makes that
 * slow, as it could a hash table.  Thread: ANY once parsed. */
#ifndef EXO_MODEL_GGUF_PART_H
#define EXO_MODEL_GGUF_PART_H

#include "base/arena.h"
#include "base/buf.h"
#include "model/gguf.h"

typedef struct {
    exo_str key; /* first member: a sorted name is also a pointer to its entry */
    exo_gguf_type type;
    exo_gguf_type elem;   /* of an array; the type itself otherwise */
    uint64_t n;           /* elements of an array; 1 otherwise */
    const uint8_t *first; /* first element; a string begins with its u64 length */
    uint64_t *marks;      /* arrays of strings: where every 16th begins, from `first`; owned */
} exo_gguf_kv;

#define EXO_GGUF_MARK_EVERY 16

/* A file in memory, as long as somebody needs it. */
typedef struct {
    const uint8_t *bytes; /* NULL: none */
    size_t n_bytes;
    exo_file_id file;
    char *path; /* owned */
} exo_mapping;

exo_status exo_mapping_open(const char *path, exo_mapping *out, exo_error *err);
void exo_mapping_close(exo_mapping *m); /* all-zero memory is allowed */

typedef struct {
    const uint8_t *bytes;
    size_t n_bytes;
    exo_mapping map; /* where they come from; all zero for memory */
    exo_gguf_kv *kvs;
    size_t n_kvs, cap_kvs;
    const exo_str **keys; /* (n_kvs) sorted */
    exo_tensor *tensors;  /* in file order */
    size_t n_tensors, cap_tensors;
} exo_gguf_part;

/* Parses p->bytes; the rest of *p is zero before.  On failure finish it all the same. */
exo_status exo_gguf_part_parse(exo_gguf_part *p, exo_error *err);
void exo_gguf_part_finish(exo_gguf_part *p); /* the tables, not the bytes */

/* A model whose metadata were made in memory and whose tensors lie in files of another format. */
typedef struct {
    exo_buf head;        /* a GGUF file without tensors */
    exo_tensor *tensors; /* (n_tensors) */
    size_t n_tensors;
    exo_mapping *maps; /* (n_maps) what tensors point into; the rest of them into memory */
    size_t n_maps;
    exo_arena memory;
    bool rotate_half; /* rotary pairs are (i, i + dims/2), whatever the architecture's files have */
} exo_gguf_foreign;

/* What an opened model's metadata are. */
const exo_gguf_part *exo_gguf_head(const exo_gguf *g);
/* Takes what f owns, also on failure. */
exo_status exo_gguf_assemble(const exo_gguf_foreign *f_take, exo_gguf **out, exo_error *err);

/* Sorts names in place; EXO_EFORMAT when two are equal, named as a `what`. */
exo_status exo_names_sort(const exo_str **names, size_t n, const char *what, exo_error *err);
/* NULL when absent. */
const exo_str *exo_names_find(const exo_str *const *names, size_t n, const char *name);

const exo_gguf_kv *exo_gguf_part_find(const exo_gguf_part *p, const char *key);
/* Element i < kv->n of an integer or boolean (array); false when it is neither. */
bool exo_gguf_kv_i64(const exo_gguf_kv *kv, uint64_t i, int64_t *out);
/* The byte behind an entry's value. */
const uint8_t *exo_gguf_kv_end(const exo_gguf_kv *kv);
bool exo_gguf_kv_u32(const exo_gguf_kv *kv, uint32_t *out); /* scalars only */

/* For messages: "%.*s" with at most 64 bytes of a name. */
#define EXO_STR_ARGS(str) (int)((str).n < 64 ? (str).n : 64), (str).s

#endif
