/* gguf_part.c - the GGUF parser: bytes to tables, with every number checked before use.
 *
 * Layout of a file, all little-endian:
 *   magic "GGUF", u32 version, u64 n_tensors, u64 n_kvs
 *   n_kvs times      string key, u32 type, value
 *   n_tensors times  string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
 *   padding to general.alignment, then the data: tensors in order, each padded to the alignment
 *   a string is u64 length + bytes; an array is u32 element type, u64 count, elements
 * Source: the format's description in the ggml repository (docs/gguf.md).
 * Knows one run of bytes; files and their parts are gguf.c's. */
#include "model/gguf_part.h"

#include "base/le.h"
#include "base/mem.h"

#include <string.h>

#define MAGIC             0x46554747u /* "GGUF" */
#define DEFAULT_ALIGNMENT 32
#define MAX_TENSOR_NAME   63
#define MIN_KV_BYTES      14 /* a key of one byte, its type, a value of one byte */
#define MIN_TENSOR_BYTES  24 /* an empty name, no dimensions, type, offset */

typedef struct {
    const uint8_t *bytes;
    uint64_t pos, n;
} cursor;

static uint64_t left(const cursor *c) { return c->n - c->pos; }

/* The next n bytes, or NULL when there are fewer. */
static const uint8_t *take(cursor *c, uint64_t n) {
    if (n > left(c)) return NULL;
    const uint8_t *p = c->bytes + c->pos;
    c->pos += n;
    return p;
}

static bool take_u32(cursor *c, uint32_t *out) {
    const uint8_t *p = take(c, 4);
    *out = p != NULL ? exo_get_u32(p) : 0;
    return p != NULL;
}

static bool take_u64(cursor *c, uint64_t *out) {
    const uint8_t *p = take(c, 8);
    *out = p != NULL ? exo_get_u64(p) : 0;
    return p != NULL;
}

static bool take_str(cursor *c, exo_str *out) {
    uint64_t n;
    *out = (exo_str){"", 0};
    if (!take_u64(c, &n)) return false;
    const uint8_t *p = take(c, n);
    if (p == NULL) return false;
    *out = (exo_str){(const char *)p, (size_t)n};
    return true;
}

static exo_status too_short(const cursor *c, const char *what, exo_error *err) {
    return exo_error_set(err, EXO_EFORMAT, "the file ends within %s (at byte %llu of %llu)", what,
                         (unsigned long long)c->pos, (unsigned long long)c->n);
}

/* ---- metadata ---- */

/* Bytes of one value; 0 for strings, arrays and unknown types. */
static uint64_t scalar_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

/* Walks n strings and notes where every 16th begins. */
static exo_status parse_strings(cursor *c, exo_gguf_kv *kv, exo_error *err) {
    if (kv->n > left(c) / 8) return too_short(c, "an array of strings", err);
    size_t n_marks = (size_t)(kv->n + EXO_GGUF_MARK_EVERY - 1) / EXO_GGUF_MARK_EVERY;
    kv->marks = exo_malloc(n_marks * sizeof *kv->marks);
    if (kv->marks == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for metadata");
    uint64_t begin = c->pos;
    for (uint64_t i = 0; i < kv->n; i++) {
        exo_str s;
        if (i % EXO_GGUF_MARK_EVERY == 0) kv->marks[i / EXO_GGUF_MARK_EVERY] = c->pos - begin;
        if (!take_str(c, &s)) return too_short(c, "an array of strings", err);
    }
    return EXO_OK;
}

static exo_status parse_array(cursor *c, exo_gguf_kv *kv, exo_error *err) {
    uint32_t elem;
    if (!take_u32(c, &elem) || !take_u64(c, &kv->n)) return too_short(c, "an array", err);
    kv->elem = (exo_gguf_type)elem;
    kv->first = c->bytes + c->pos;
    if (elem == EXO_GGUF_STRING) return parse_strings(c, kv, err);
    if (elem == EXO_GGUF_ARRAY) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "arrays within arrays are not supported");
    }
    uint64_t size = scalar_bytes(elem);
    if (size == 0) return exo_error_set(err, EXO_EFORMAT, "unknown element type %u", elem);
    if (kv->n > left(c) / size) return too_short(c, "an array", err);
    c->pos += kv->n * size;
    return EXO_OK;
}

static exo_status parse_value(cursor *c, exo_gguf_kv *kv, exo_error *err) {
    uint32_t type;
    exo_str s;
    if (!take_u32(c, &type)) return too_short(c, "a value's type", err);
    kv->type = kv->elem = (exo_gguf_type)type;
    kv->n = 1;
    kv->first = c->bytes + c->pos;
    if (type == EXO_GGUF_ARRAY) return parse_array(c, kv, err);
    if (type == EXO_GGUF_STRING) return take_str(c, &s) ? EXO_OK : too_short(c, "a string", err);
    uint64_t size = scalar_bytes(type);
    if (size == 0) return exo_error_set(err, EXO_EFORMAT, "unknown value type %u", type);
    return take(c, size) != NULL ? EXO_OK : too_short(c, "a value", err);
}

static exo_status parse_metadata(cursor *c, exo_gguf_part *p, uint64_t n_kvs, exo_error *err) {
    if (n_kvs > left(c) / MIN_KV_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "%llu metadata entries cannot fit in %llu bytes",
                             (unsigned long long)n_kvs, (unsigned long long)left(c));
    }
    for (uint64_t i = 0; i < n_kvs; i++) {
        exo_str key;
        if (!take_str(c, &key)) return too_short(c, "a metadata key", err);
        if (key.n == 0) {
            return exo_error_set(err, EXO_EFORMAT, "metadata entry %llu has an empty key",
                                 (unsigned long long)i);
        }
        if (exo_grow((void **)&p->kvs, &p->cap_kvs, p->n_kvs + 1, sizeof *p->kvs) != 0) {
            return exo_error_set(err, EXO_ENOMEM, "out of memory for metadata");
        }
        exo_gguf_kv *kv = &p->kvs[p->n_kvs++];
        *kv = (exo_gguf_kv){.key = key};
        exo_status st = parse_value(c, kv, err);
        if (st != EXO_OK) {
            return exo_error_wrap(err, st, "metadata key '%.*s'", EXO_STR_ARGS(key));
        }
    }
    p->keys = exo_malloc(p->n_kvs * sizeof(const exo_str *));
    if (p->keys == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for metadata");
    for (size_t i = 0; i < p->n_kvs; i++) p->keys[i] = &p->kvs[i].key;
    return exo_names_sort(p->keys, p->n_kvs, "metadata key", err);
}

static exo_status read_alignment(const exo_gguf_part *p, uint64_t *out, exo_error *err) {
    *out = DEFAULT_ALIGNMENT;
    const exo_gguf_kv *kv = exo_gguf_part_find(p, "general.alignment");
    if (kv == NULL) return EXO_OK;
    uint32_t a = kv->type == EXO_GGUF_U32 ? exo_get_u32(kv->first) : 0;
    if (a == 0 || (a & (a - 1)) != 0) {
        return exo_error_set(err, EXO_EFORMAT, "general.alignment is not a u32 power of two");
    }
    *out = a;
    return EXO_OK;
}

/* ---- tensors ---- */

/* Reads n_dims and the dimensions; *n_elems is their product, at most INT64_MAX. */
static exo_status parse_dims(cursor *c, exo_tensor *t, uint64_t *n_elems, exo_error *err) {
    if (!take_u32(c, &t->n_dims)) return too_short(c, "a tensor's description", err);
    if (t->n_dims > EXO_MAX_DIMS) {
        return exo_error_set(err, EXO_EFORMAT, "%u dimensions, at most %d are possible", t->n_dims,
                             EXO_MAX_DIMS);
    }
    *n_elems = 1;
    for (uint32_t i = 0; i < EXO_MAX_DIMS; i++) {
        uint64_t d = 1;
        if (i < t->n_dims && !take_u64(c, &d)) return too_short(c, "a tensor's dimensions", err);
        if (d > INT64_MAX) return exo_error_set(err, EXO_EFORMAT, "dimension %u is negative", i);
        t->dims[i] = d;
        if (d == 0) *n_elems = 0; /* whatever the others are, there is nothing */
    }
    for (uint32_t i = 0; i < EXO_MAX_DIMS && *n_elems != 0; i++) {
        if (*n_elems > INT64_MAX / t->dims[i]) {
            return exo_error_set(err, EXO_EFORMAT, "the product of its dimensions overflows");
        }
        *n_elems *= t->dims[i];
    }
    return EXO_OK;
}

static exo_status parse_tensor(cursor *c, exo_tensor *t, uint64_t expected_offset, exo_error *err) {
    uint64_t n_elems = 0, offset;
    uint32_t type;
    exo_status st = parse_dims(c, t, &n_elems, err);
    if (st != EXO_OK) return st;
    if (!take_u32(c, &type) || !take_u64(c, &offset)) {
        return too_short(c, "a tensor's description", err);
    }
    const exo_dtype_info *info = exo_dtype_get(type);
    if (info == NULL) return exo_error_set(err, EXO_EFORMAT, "unknown type %u", type);
    t->type = (exo_dtype)type;
    if (t->dims[0] % info->block_elems != 0) {
        return exo_error_set(err, EXO_EFORMAT, "rows of %llu are not whole %s blocks of %u",
                             (unsigned long long)t->dims[0], info->name, info->block_elems);
    }
    uint64_t n_blocks = n_elems / info->block_elems;
    if (n_blocks > INT64_MAX / info->block_bytes) {
        return exo_error_set(err, EXO_EFORMAT, "its size in bytes overflows");
    }
    t->bytes = n_blocks * info->block_bytes;
    if (offset != expected_offset) {
        return exo_error_set(err, EXO_EFORMAT, "its data is at offset %llu, expected %llu",
                             (unsigned long long)offset, (unsigned long long)expected_offset);
    }
    return EXO_OK;
}

static uint64_t align_up(uint64_t x, uint64_t alignment) {
    return (x + alignment - 1) & ~(alignment - 1);
}

static exo_status parse_tensors(cursor *c, exo_gguf_part *p, uint64_t n_tensors, uint64_t alignment,
                                exo_error *err) {
    if (n_tensors > left(c) / MIN_TENSOR_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "%llu tensors cannot fit in %llu bytes",
                             (unsigned long long)n_tensors, (unsigned long long)left(c));
    }
    uint64_t offset = 0; /* at most INT64_MAX */
    for (uint64_t i = 0; i < n_tensors; i++) {
        exo_tensor t = {0};
        if (!take_str(c, &t.name)) return too_short(c, "a tensor's name", err);
        if (t.name.n > MAX_TENSOR_NAME) {
            return exo_error_set(err, EXO_EFORMAT, "tensor %llu has a name of %llu bytes, over %d",
                                 (unsigned long long)i, (unsigned long long)t.name.n,
                                 MAX_TENSOR_NAME);
        }
        exo_status st = parse_tensor(c, &t, offset, err);
        if (st != EXO_OK) return exo_error_wrap(err, st, "tensor '%.*s'", EXO_STR_ARGS(t.name));
        uint64_t padded = align_up(t.bytes, alignment);
        if (padded > INT64_MAX - offset) {
            return exo_error_set(err, EXO_EFORMAT, "tensor '%.*s': the sum of all sizes overflows",
                                 EXO_STR_ARGS(t.name));
        }
        offset += padded;
        if (exo_grow((void **)&p->tensors, &p->cap_tensors, p->n_tensors + 1, sizeof t) != 0) {
            return exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
        }
        p->tensors[p->n_tensors++] = t;
    }
    return EXO_OK;
}

/* Gives every tensor its place, once all descriptions are read and the data's beginning is known.
 */
static exo_status place_data(const cursor *c, exo_gguf_part *p, uint64_t alignment,
                             exo_error *err) {
    uint64_t begin = align_up(c->pos, alignment), offset = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        exo_tensor *t = &p->tensors[i];
        uint64_t padded = align_up(t->bytes, alignment);
        if (begin > c->n || padded > c->n - begin - offset) {
            return exo_error_set(err, EXO_EFORMAT,
                                 "tensor '%.*s': its %llu bytes pass the file's end (data begin at "
                                 "%llu, offset %llu, file has %llu)",
                                 EXO_STR_ARGS(t->name), (unsigned long long)padded,
                                 (unsigned long long)begin, (unsigned long long)offset,
                                 (unsigned long long)c->n);
        }
        t->data = c->bytes + begin + offset;
        offset += padded;
    }
    return EXO_OK;
}

static exo_status parse_header(cursor *c, uint64_t *n_tensors, uint64_t *n_kvs, exo_error *err) {
    uint32_t magic, version;
    if (!take_u32(c, &magic) || magic != MAGIC) {
        return exo_error_set(err, EXO_EFORMAT, "not a GGUF file");
    }
    if (!take_u32(c, &version)) return too_short(c, "the header", err);
    if (version != 0 && (version & 0xFFFF) == 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "big-endian GGUF is not supported");
    }
    if (version != 2 && version != 3) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "GGUF version %u is not supported (2 or 3 is)",
                             version);
    }
    if (!take_u64(c, n_tensors) || !take_u64(c, n_kvs)) return too_short(c, "the header", err);
    return EXO_OK;
}

exo_status exo_gguf_part_parse(exo_gguf_part *p, exo_error *err) {
    cursor c = {.bytes = p->bytes, .n = p->n_bytes};
    uint64_t n_tensors = 0, n_kvs = 0, alignment = 0;
    exo_status st = parse_header(&c, &n_tensors, &n_kvs, err);
    if (st == EXO_OK) st = parse_metadata(&c, p, n_kvs, err);
    if (st == EXO_OK) st = read_alignment(p, &alignment, err);
    if (st == EXO_OK) st = parse_tensors(&c, p, n_tensors, alignment, err);
    if (st == EXO_OK) st = place_data(&c, p, alignment, err);
    return st;
}

void exo_gguf_part_finish(exo_gguf_part *p) {
    for (size_t i = 0; i < p->n_kvs; i++) exo_free(p->kvs[i].marks);
    exo_free(p->kvs);
    exo_free(p->keys);
    exo_free(p->tensors);
    *p = (exo_gguf_part){.bytes = p->bytes, .n_bytes = p->n_bytes, .map = p->map};
}
