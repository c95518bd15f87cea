/* convert.c - see convert.h.
 *
 * Rows are independent of each other, so a batch of rows is shared out over the threads of a pool:
 * each decodes and encodes its own.  Nothing but one batch is in memory. */
#include "model/convert.h"

#include "base/mem.h"
#include "compute/blocks.h"
#include "compute/cpu/pool.h"
#include "compute/quantize.h"
#include "model/gguf_part.h"
#include "model/gguf_writer.h"
#include "model/mix.h"
#include "model/out_file.h"
#include "model/paths.h"
#include "model/tensor_rows.h"

#include <stdio.h>
#include <string.h>

#define BATCH_ELEMS (4u << 20)
#define MAX_ROW     (1u << 24)
#define NAME_BYTES  64 /* the longest that a file may hold, with its NUL */

/* One tensor on its way from one file to the other. */
typedef struct {
    const exo_tensor *from;
    exo_dtype type;
    uint32_t n_heads; /* rows are in halves per head and become pairs; 0: as they are */
} item;

typedef struct {
    const exo_gguf *g;
    const exo_mix *mix; /* NULL: types stay */
    item *items;        /* (n) */
    size_t n;
    exo_pool *pool;
    float *values;     /* (BATCH_ELEMS or one row) */
    uint8_t *in, *out; /* (BATCH_ELEMS or one row) of at most 4 bytes each */
    uint32_t n_threads;
} job;

/* ---- metadata ---- */

static bool is_key(exo_str key, const char *name) {
    return strlen(name) == key.n && memcmp(key.s, name, key.n) == 0;
}

/* What describes the file and not the model. */
static bool is_own_key(const job *j, exo_str key) {
    static const char *const always[] = {"general.alignment", "split.no", "split.count",
                                         "split.tensors.count"};
    static const char *const retyped[] = {"general.file_type", "general.quantization_version"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
        if (is_key(key, always[i])) return true;
    }
    for (size_t i = 0; j->mix != NULL && i < sizeof retyped / sizeof *retyped; i++) {
        if (is_key(key, retyped[i])) return true;
    }
    return false;
}

static void add_metadata(const job *j, const char *name, exo_gguf_writer *w) {
    const exo_gguf_part *p = exo_gguf_head(j->g);
    for (size_t i = 0; i < p->n_kvs; i++) {
        const exo_gguf_kv *kv = &p->kvs[i];
        if (is_own_key(j, kv->key)) continue;
        exo_gguf_put_str(&w->kvs, kv->key.s, kv->key.n);
        exo_gguf_put_u32(&w->kvs, (uint32_t)kv->type);
        if (kv->type == EXO_GGUF_ARRAY) {
            exo_gguf_put_u32(&w->kvs, (uint32_t)kv->elem);
            exo_gguf_put_u64(&w->kvs, kv->n);
        }
        exo_buf_append(&w->kvs, kv->first, (size_t)(exo_gguf_kv_end(kv) - kv->first));
        w->n_kvs++;
    }
    if (name != NULL && !exo_gguf_has(j->g, "general.name")) {
        exo_gguf_add_str(w, "general.name", name);
    }
    if (j->mix == NULL) return;
    exo_gguf_add_u32(w, "general.file_type", j->mix->file_type);
    exo_gguf_add_u32(w, "general.quantization_version", 2);
}

static uint32_t arch_u32(const exo_gguf *g, const char *suffix) {
    exo_str arch;
    char key[128];
    uint32_t v = 0;
    (void)exo_gguf_str(g, "general.architecture", &arch);
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.n < 64 ? arch.n : 64), arch.s, suffix);
    (void)exo_gguf_u32(g, key, &v);
    return v;
}

/* ---- types ---- */

static bool ends_with(exo_str s, const char *end) {
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.s + s.n - n, end, n) == 0;
}

/* Matrices that a forward pass multiplies by.  What is small and matters stays as it is: norms,
 * biases, routers, position tables. */
static bool is_weight(const exo_tensor *t) {
    static const char *const kept[] = {"_norm.weight", "ffn_gate_inp.weight",
                                       "ffn_gate_inp_shexp.weight", "position_embd.weight",
                                       "token_types.weight"};
    if (t->n_dims < 2 || !ends_with(t->name, ".weight")) return false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (ends_with(t->name, kept[i])) return false;
    }
    return true;
}

static exo_status choose_type(const job *j, const exo_mix_model *m, item *it, exo_error *err) {
    const exo_tensor *t = it->from;
    char name[NAME_BYTES];
    it->type = t->type;
    bool is_float = t->type == EXO_F32 || t->type == EXO_F16 || t->type == EXO_BF16;
    bool known = is_float || exo_block_known(t->type);
    if (it->n_heads > 0 && !known) { /* only folders are permuted, and those hold floats */
        return exo_error_set(err, EXO_EINTERNAL, "a permuted %s", exo_dtype_get(t->type)->name);
    }
    if (j->mix == NULL || !is_weight(t)) return EXO_OK;
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    it->type = exo_mix_type(j->mix, m, name, t->dims[0]);
    if (it->type == t->type) return EXO_OK;
    if (!known || !exo_quantize_supported(it->type) || t->dims[0] > MAX_ROW) {
        return exo_error_set(err, EXO_EUNSUPPORTED, "tensor '%s' cannot become %s from %s", name,
                             exo_dtype_get(it->type)->name, exo_dtype_get(t->type)->name);
    }
    return EXO_OK;
}

/* How many heads the rows of a query or key tensor have, in a model that rotates halves. */
static uint32_t permuted_heads(const exo_gguf *g, exo_str name, uint32_t n_heads, uint32_t n_kv) {
    if (!exo_gguf_rotates_halves(g)) return 0;
    if (ends_with(name, ".attn_q.weight") || ends_with(name, ".attn_q.bias")) return n_heads;
    if (ends_with(name, ".attn_k.weight") || ends_with(name, ".attn_k.bias")) return n_kv;
    return 0;
}

static exo_status plan(job *j, exo_gguf_writer *w, exo_error *err) {
    char name[NAME_BYTES];
    exo_mix_model m = {.n_layers = arch_u32(j->g, "block_count"),
                       .n_heads = arch_u32(j->g, "attention.head_count"),
                       .n_kv_heads = arch_u32(j->g, "attention.head_count_kv"),
                       .n_experts = arch_u32(j->g, "expert_count"),
                       .tied = exo_gguf_find(j->g, "output.weight") == NULL};
    if (m.n_kv_heads == 0) m.n_kv_heads = m.n_heads;
    j->n = exo_gguf_n_tensors(j->g);
    j->items = exo_calloc(j->n + 1, sizeof *j->items);
    if (j->items == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for tensors");
    for (size_t i = 0; i < j->n; i++) {
        const exo_tensor *t = exo_gguf_tensor(j->g, i);
        item *it = &j->items[i];
        it->from = t;
        it->n_heads = permuted_heads(j->g, t->name, m.n_heads, m.n_kv_heads);
        uint64_t rows = t->n_dims == 1 ? t->dims[0] : t->dims[1];
        if (it->n_heads > 0 && (rows % it->n_heads != 0 || rows / it->n_heads % 2 != 0)) {
            return exo_error_set(err, EXO_EFORMAT, "tensor '%.*s' has %llu rows for %u heads",
                                 EXO_STR_ARGS(t->name), (unsigned long long)rows, it->n_heads);
        }
        exo_status st = choose_type(j, &m, it, err);
        if (st != EXO_OK) return st;
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        exo_gguf_add_tensor(w, name, it->type, t->n_dims, t->dims);
    }
    return EXO_OK;
}

/* ---- rows ---- */

/* Where row r of the output is in the input. */
static uint64_t source_row(const item *it, uint64_t r, uint64_t n_rows) {
    if (it->n_heads == 0) return r;
    uint64_t dim = n_rows / it->n_heads, in_head = r % dim;
    return r - in_head + in_head / 2 + (in_head % 2) * (dim / 2);
}

/* A batch of rows, shared out over threads. */
typedef struct {
    job *j;
    const item *it;
    uint64_t first, n, n_rows;              /* rows of the batch; of the tensor */
    size_t n_cols, in_bytes, out_bytes;     /* of a row */
    exo_error errors[EXO_POOL_MAX_THREADS]; /* (n_threads) */
} batch;

/* Rows [begin, end) of the batch, as they are in the input, in the order of the output. */
static void fetch_rows(const batch *b, uint64_t begin, uint64_t end, uint8_t *out) {
    const exo_tensor *t = b->it->from;
    if (b->it->n_heads == 0) {
        exo_tensor_copy_rows(t, b->first + begin, end - begin, out + begin * b->in_bytes);
        return;
    }
    for (uint64_t r = begin; r < end; r++) {
        uint64_t row = source_row(b->it, b->first + r, b->n_rows);
        if (t->n_dims == 1) {
            memcpy(out + r * b->in_bytes, t->data + row * b->in_bytes, b->in_bytes);
        } else {
            exo_tensor_copy_rows(t, row, 1, out + r * b->in_bytes);
        }
    }
}

static void convert_rows(void *ud, uint32_t thread) {
    batch *b = ud;
    const job *j = b->j;
    bool same = b->it->type == b->it->from->type;
    uint64_t begin = b->n * thread / j->n_threads, end = b->n * (thread + 1) / j->n_threads;
    exo_error *err = &b->errors[thread];
    fetch_rows(b, begin, end, same ? j->out : j->in);
    for (uint64_t r = begin; !same && r < end && err->status == EXO_OK; r++) {
        const uint64_t row = b->first + r;
        uint8_t *to = j->out + r * b->out_bytes;
        float *values = j->values + r * b->n_cols;
        exo_dequantize(b->it->from->type, j->in + r * b->in_bytes, b->n_cols, values);
        exo_status st = exo_quantize_rows(b->it->type, values, 1, b->n_cols, to, err);
        if (st != EXO_OK) exo_error_wrap(err, st, "row %llu", (unsigned long long)row);
    }
}

static exo_status put_batches(job *j, const item *it, exo_out_file *o, exo_error *err) {
    const exo_tensor *t = it->from;
    bool vector = t->n_dims == 1; /* a permuted bias: rows of one */
    batch *b = exo_calloc(1, sizeof *b);
    if (b == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a batch");
    b->j = j;
    b->it = it;
    b->n_cols = vector ? 1 : (size_t)t->dims[0];
    b->n_rows = vector ? t->dims[0] : t->dims[1] * t->dims[2] * t->dims[3];
    b->in_bytes = exo_dtype_row_bytes(t->type, b->n_cols);
    b->out_bytes = exo_dtype_row_bytes(it->type, b->n_cols);
    uint64_t per_batch = BATCH_ELEMS / b->n_cols > 0 ? BATCH_ELEMS / b->n_cols : 1;
    exo_status st = EXO_OK;
    for (b->first = 0; b->first < b->n_rows && st == EXO_OK; b->first += b->n) {
        b->n = b->n_rows - b->first < per_batch ? b->n_rows - b->first : per_batch;
        exo_pool_run(j->pool, convert_rows, b);
        for (uint32_t i = 0; i < j->n_threads && st == EXO_OK; i++) {
            if (b->errors[i].status == EXO_OK) continue;
            st = exo_error_set(err, b->errors[i].status, "tensor '%.*s': %s", EXO_STR_ARGS(t->name),
                               b->errors[i].message);
        }
        if (st == EXO_OK) st = exo_out_file_put(o, j->out, (size_t)b->n * b->out_bytes, err);
    }
    exo_free(b);
    return st;
}

static exo_status put_item(job *j, const item *it, exo_out_file *o, exo_error *err) {
    static const uint8_t zeros[EXO_GGUF_ALIGNMENT];
    const exo_tensor *t = it->from;
    bool as_is = (it->type == t->type && it->n_heads == 0 && t->rows == NULL) || t->bytes == 0;
    uint64_t begin = o->done;
    exo_status st = EXO_OK;
    for (uint64_t at = 0; as_is && at < t->bytes && st == EXO_OK; at += BATCH_ELEMS) {
        uint64_t n = t->bytes - at < BATCH_ELEMS ? t->bytes - at : BATCH_ELEMS;
        memcpy(j->in, t->data + at, (size_t)n); /* a missing page is noticed here, not by write() */
        st = exo_out_file_put(o, j->in, (size_t)n, err);
    }
    if (!as_is) st = put_batches(j, it, o, err);
    if (st == EXO_OK) st = exo_gguf_check_whole(j->g, err);
    exo_gguf_drop_pages(j->g, t);
    uint64_t bytes = o->done - begin;
    if (st == EXO_OK)
        st = exo_out_file_put(o, zeros, (size_t)(exo_gguf_padded(bytes) - bytes), err);
    return st;
}

/* ---- the whole ---- */

static exo_status find_mix(const char *type, const exo_mix **out, exo_error *err) {
    *out = type != NULL ? exo_mix_find(type) : NULL;
    if (type == NULL || *out != NULL) return EXO_OK;
    return exo_error_set(err, EXO_EINVAL, "unknown type \"%.32s\"", type);
}

static exo_status make_buffers(job *j, exo_error *err) {
    uint64_t elems = BATCH_ELEMS;
    for (size_t i = 0; i < j->n; i++) { /* one row at least must fit */
        if (j->items[i].from->dims[0] > elems) elems = j->items[i].from->dims[0];
    }
    if (elems > MAX_ROW) elems = MAX_ROW;
    j->values = exo_malloc(4 * (size_t)elems);
    j->in = exo_malloc(4 * (size_t)elems);
    j->out = exo_malloc(4 * (size_t)elems);
    if (j->values == NULL || j->in == NULL || j->out == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a batch");
    }
    exo_status st = exo_pool_create(j->n_threads, false, &j->pool, err);
    if (st == EXO_OK) j->n_threads = exo_pool_threads(j->pool);
    return st;
}

static exo_status write_all(job *j, const exo_buf *head, exo_out_file *o, exo_error *err) {
    exo_status st = exo_out_file_put(o, head->data, head->n, err);
    for (size_t i = 0; i < j->n && st == EXO_OK; i++) st = put_item(j, &j->items[i], o, err);
    return st;
}

exo_status exo_convert(const exo_gguf *g, const exo_convert_desc *desc, const char *path,
                       exo_error *err) {
    job j = {.g = g, .n_threads = desc->n_threads};
    exo_gguf_writer w = {0};
    exo_buf head = {0};
    if (j.n_threads == 0) j.n_threads = 1;
    if (j.n_threads > EXO_POOL_MAX_THREADS) j.n_threads = EXO_POOL_MAX_THREADS;
    exo_status st = find_mix(desc->type, &j.mix, err);
    if (st == EXO_OK) st = plan(&j, &w, err);
    if (st == EXO_OK) st = make_buffers(&j, err);
    if (st == EXO_OK) {
        add_metadata(&j, desc->name, &w);
        exo_gguf_writer_head(&w, &head);
        if (!exo_buf_ok(&head)) st = exo_error_set(err, EXO_ENOMEM, "out of memory for metadata");
    }
    if (st == EXO_OK) {
        exo_out_file o = {.progress = desc->progress, .ud = desc->ud};
        st = exo_out_file_begin(&o, path, head.n + w.data_bytes, err);
        if (st == EXO_OK) st = exo_out_file_end(&o, write_all(&j, &head, &o, err), err);
    }
    exo_gguf_writer_finish(&w);
    exo_buf_finish(&head);
    exo_pool_destroy(j.pool);
    exo_free(j.values);
    exo_free(j.in);
    exo_free(j.out);
    exo_free(j.items);
    return st;
}
