/* shard.c - a layer range with its paged KV pool, run through one plan.
 *
 * Owns plan, pool and block table; weights are loaded by shard_weights.c, the operations of the
 * plan are written by graph.c.  Knows nothing of
 * requests or of other shards.
 *
 * A row at position p replaces that sequence's KV at p, and attention of a row reads positions
 * up to its own only.  So nothing is ever erased: what lies behind the newest row is out of every
 * row's sight until it is written again, and running a step twice changes no bit. */
#include "engine/shard.h"

#include "base/half.h"
#include "base/le.h"
#include "base/mem.h"
#include "engine/graph.h"
#include "model/arch.h"

#include <string.h>

#define DEFAULT_CTX_TOKENS 8192
#define DEFAULT_MAX_SEQS   8
#define DEFAULT_MAX_ROWS   512
#define MAX_SEQ_PAGES      65536 /* a page's index travels as u16 */
#define NO_PAGE            UINT32_MAX

struct exo_shard {
    exo_shard_desc desc; /* resolved */
    exo_model *model;
    const exo_backend *backend;
    exo_device *device;
    const exo_hparams *hparams;

    exo_shard_weights weights;
    exo_layer_kv *kv; /* (layers of the shard) */
    uint64_t kv_bytes;
    exo_plan *plan;

    uint32_t max_seq_pages;
    uint32_t *block_table; /* (max_seqs, max_seq_pages): page of each 32 positions, or NO_PAGE */
    uint32_t *n_assigned;  /* (max_seqs) entries before the first NO_PAGE */
    uint32_t *next_pos;    /* (max_seqs) least position the step's next row may have */

    float *logits; /* (max_logit_rows, n_vocab); NULL without head */
    size_t logits_bytes;
    uint32_t n_logits;   /* rows of them that the last run filled */
    exo_head_ask *asks;  /* (max_logit_rows) of the next run; NULL: this plan takes none */
    exo_head_ask *asked; /* (max_logit_rows) of the last run; kind LOGITS: the row is there */
    exo_head_top *tops;  /* (max_logit_rows) */
    exo_shard_rows count;
};

/* ---- what a shard can be ---- */

static uint32_t pages_of(uint32_t tokens) {
    return tokens / EXO_KV_PAGE_TOKENS + (tokens % EXO_KV_PAGE_TOKENS != 0);
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static exo_status check_kv(const exo_hparams *h, const exo_shard_desc *d, exo_error *err) {
    if (d->kv_type != EXO_F32 && d->kv_type != EXO_F16 && d->kv_type != EXO_Q8_0) {
        const exo_dtype_info *type = exo_dtype_get(d->kv_type);
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "keys and values as %s: f32, f16 and q8_0 are known",
                             type != NULL ? type->name : "an unknown type");
    }
    if (exo_kv_type_fits(d->kv_type, h->head_dim) && exo_kv_type_fits(d->kv_type, h->v_dim)) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "keys of %u and values of %u elements do not go into q8_0, which has "
                         "blocks of 32: use f16",
                         h->head_dim, h->v_dim);
}

static exo_status check_range(const exo_hparams *h, const exo_shard_desc *d, exo_error *err) {
    if (d->n_ranks > 1 || d->rank != 0) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "tensor parallelism (rank %u of %u): a layer runs whole, rank 0 of 1",
                             d->rank, d->n_ranks);
    }
    if (d->layer_begin >= d->layer_end || d->layer_end > h->n_layers) {
        return exo_error_set(err, EXO_EINVAL, "layers [%u, %u) of a model with %u layers",
                             d->layer_begin, d->layer_end, h->n_layers);
    }
    if (d->has_embedding && d->layer_begin != 0) {
        return exo_error_set(err, EXO_EINVAL, "the embedding stands before layer 0, not %u",
                             d->layer_begin);
    }
    if (d->has_head && d->layer_end != h->n_layers) {
        return exo_error_set(err, EXO_EINVAL, "the head stands after layer %u, not %u",
                             h->n_layers - 1, d->layer_end - 1);
    }
    if (d->has_head && h->arch->encoder) {
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "a %s model makes embeddings, not text: use exo embed", h->arch->name);
    }
    if (d->embeddings && (d->has_head || d->layer_end != h->n_layers)) {
        return exo_error_set(err, EXO_EINVAL, "embeddings come after layer %u, without the head",
                             h->n_layers - 1);
    }
    return check_kv(h, d, err);
}

static exo_status check_sizes(const exo_hparams *h, const exo_shard_desc *d, exo_error *err) {
    if (d->ctx_tokens > h->ctx_train) {
        return exo_error_set(err, EXO_EINVAL, "a context of %u tokens: the model knows %u",
                             d->ctx_tokens, h->ctx_train);
    }
    if (pages_of(d->ctx_tokens) > MAX_SEQ_PAGES) {
        return exo_error_set(err, EXO_EINVAL, "a context of %u tokens: at most %u", d->ctx_tokens,
                             MAX_SEQ_PAGES * EXO_KV_PAGE_TOKENS);
    }
    if (d->max_seqs > EXO_MAX_SEQS) {
        return exo_error_set(err, EXO_EINVAL, "%u sequences at once: at most %d", d->max_seqs,
                             EXO_MAX_SEQS);
    }
    if (d->max_rows > EXO_MAX_STEP_ROWS) {
        return exo_error_set(err, EXO_EINVAL, "%u rows in a step: at most %d", d->max_rows,
                             EXO_MAX_STEP_ROWS);
    }
    if (d->n_pages < pages_of(d->ctx_tokens)) {
        return exo_error_set(err, EXO_EINVAL, "a pool of %u pages: a context of %u tokens takes %u",
                             d->n_pages, d->ctx_tokens, pages_of(d->ctx_tokens));
    }
    uint32_t wide = max_u32(h->head_dim, h->v_dim);
    size_t page_bytes = exo_kv_page_bytes(d->kv_type, h->n_kv_heads, wide);
    if (d->n_pages == NO_PAGE || d->n_pages > SIZE_MAX / 2 / EXO_MAX_LAYERS / page_bytes) {
        return exo_error_set(err, EXO_EINVAL, "a pool of %u pages is beyond this machine's memory",
                             d->n_pages);
    }
    return EXO_OK;
}

exo_status exo_shard_desc_resolve(const exo_model *m, exo_shard_desc *d, exo_error *err) {
    const exo_hparams *h = exo_model_hparams(m);
    exo_status st = check_range(h, d, err);
    if (st != EXO_OK) return st;
    exo_shard_desc r = *d;
    r.n_ranks = 1;
    if (r.ctx_tokens == 0) r.ctx_tokens = min_u32(h->ctx_train, DEFAULT_CTX_TOKENS);
    if (r.max_seqs == 0) r.max_seqs = DEFAULT_MAX_SEQS;
    if (r.max_rows == 0) r.max_rows = DEFAULT_MAX_ROWS;
    if (r.max_logit_rows == 0) r.max_logit_rows = r.max_seqs;
    r.max_logit_rows = min_u32(r.max_logit_rows, r.max_rows);
    if (r.n_pages == 0) {
        r.n_pages = pages_of(r.ctx_tokens) * max_u32(min_u32(r.max_seqs, EXO_MAX_SEQS) / 2, 1);
    }
    st = check_sizes(h, &r, err);
    if (st == EXO_OK) *d = r;
    return st;
}

/* ---- making one ---- */

static exo_status create_plan(exo_shard *s, exo_error *err) {
    const exo_graph graph = {s->hparams, &s->desc, &s->weights, s->kv};
    uint32_t widths[EXO_GRAPH_SLOTS];
    exo_graph_widths(&graph, widths);
    size_t cap = exo_graph_max_ops(&graph);
    exo_op *ops = exo_calloc(cap, sizeof *ops);
    if (ops == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan of %zu ops", cap);
    const exo_plan_desc desc = {
        .ops = ops,
        .n_ops = exo_graph_build(&graph, ops),
        .slot_width = widths,
        .n_slots = EXO_GRAPH_SLOTS,
        .max_rows = s->desc.max_rows,
        .max_logit_rows = s->desc.max_logit_rows,
        .max_seqs = s->desc.max_seqs,
        .max_seq_pages = s->max_seq_pages,
    };
    exo_status st = s->backend->plan_create(s->device, &desc, &s->plan, err);
    exo_free(ops);
    return st;
}

/* Room for asks, where the plan takes them. */
static exo_status create_asks(exo_shard *s, exo_error *err) {
    if (s->backend->plan_takes_asks == NULL || !s->backend->plan_takes_asks(s->plan)) return EXO_OK;
    s->asks = exo_calloc(s->desc.max_logit_rows, sizeof *s->asks);
    s->asked = exo_calloc(s->desc.max_logit_rows, sizeof *s->asked);
    s->tops = exo_calloc(s->desc.max_logit_rows, sizeof *s->tops);
    if (s->asks != NULL && s->asked != NULL && s->tops != NULL) return EXO_OK;
    return exo_error_set(err, EXO_ENOMEM, "no memory for answers of %u rows",
                         s->desc.max_logit_rows);
}

/* ---- life ---- */

static exo_status create_kv(exo_shard *s, exo_error *err) {
    const exo_hparams *h = s->hparams;
    uint32_t n_layers = s->weights.n_layers;
    exo_dtype type = s->desc.kv_type;
    size_t k_bytes = s->desc.n_pages * exo_kv_page_bytes(type, h->n_kv_heads, h->head_dim);
    size_t v_bytes = s->desc.n_pages * exo_kv_page_bytes(type, h->n_kv_heads, h->v_dim);
    s->kv = exo_calloc(n_layers, sizeof *s->kv);
    if (s->kv == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for the list of pools");
    for (uint32_t i = 0; i < n_layers; i++) {
        exo_status st = s->backend->allocate(s->device, k_bytes, &s->kv[i].k, err);
        if (st == EXO_OK) st = s->backend->allocate(s->device, v_bytes, &s->kv[i].v, err);
        if (st != EXO_OK) {
            return exo_error_wrap(err, st, "KV pool of %u pages, layer %u", s->desc.n_pages, i);
        }
        s->kv_bytes += (uint64_t)k_bytes + v_bytes;
    }
    return EXO_OK;
}

/* Block table and logits: the shard's own memory on the host. */
static exo_status create_tables(exo_shard *s, exo_error *err) {
    uint32_t n_seqs = s->desc.max_seqs;
    s->max_seq_pages = pages_of(s->desc.ctx_tokens);
    s->block_table = exo_calloc((size_t)n_seqs * s->max_seq_pages, sizeof *s->block_table);
    s->n_assigned = exo_calloc(n_seqs, sizeof *s->n_assigned);
    s->next_pos = exo_calloc(n_seqs, sizeof *s->next_pos);
    bool ok = s->block_table != NULL && s->n_assigned != NULL && s->next_pos != NULL;
    if (ok && s->desc.has_head) {
        s->logits_bytes = (size_t)s->desc.max_logit_rows * s->hparams->n_vocab * sizeof(float);
        s->logits = exo_pages_alloc(s->logits_bytes);
        ok = s->logits != NULL;
    }
    if (!ok) return exo_error_set(err, EXO_ENOMEM, "no memory for block table and logits");
    for (uint32_t seq = 0; seq < n_seqs; seq++) exo_shard_clear_seq(s, seq);
    return EXO_OK;
}

exo_status exo_shard_create(exo_model *m, const exo_backend *backend, exo_device *device,
                            const exo_shard_desc *d, exo_progress_fn progress, void *ud,
                            exo_shard **out, exo_error *err) {
    *out = NULL;
    exo_shard_desc desc = *d;
    exo_status st = exo_shard_desc_resolve(m, &desc, err);
    if (st != EXO_OK) return st;
    exo_shard *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a shard");
    s->desc = desc;
    s->model = exo_model_ref(m);
    s->backend = backend;
    s->device = device;
    s->hparams = exo_model_hparams(m);

    const exo_weights_source from = {m, backend, device, progress, ud};
    st = exo_shard_weights_load(&from, &desc, &s->weights, err);
    if (st == EXO_OK) st = create_kv(s, err);
    if (st == EXO_OK) st = create_tables(s, err);
    if (st == EXO_OK) st = create_plan(s, err);
    if (st == EXO_OK) st = create_asks(s, err);
    if (st != EXO_OK) {
        exo_shard_destroy(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

void exo_shard_destroy(exo_shard *s) {
    if (s == NULL) return;
    if (s->plan != NULL) s->backend->plan_destroy(s->plan);
    exo_pages_free(s->logits, s->logits_bytes);
    exo_free(s->asks);
    exo_free(s->asked);
    exo_free(s->tops);
    exo_free(s->next_pos);
    exo_free(s->n_assigned);
    exo_free(s->block_table);
    for (uint32_t i = 0; s->kv != NULL && i < s->weights.n_layers; i++) {
        if (s->kv[i].k != NULL) s->backend->deallocate(s->device, s->kv[i].k);
        if (s->kv[i].v != NULL) s->backend->deallocate(s->device, s->kv[i].v);
    }
    exo_free(s->kv);
    exo_shard_weights_finish(&s->weights, s->backend, s->device);
    exo_model_unref(s->model);
    exo_free(s);
}

const exo_shard_desc *exo_shard_get_desc(const exo_shard *s) { return &s->desc; }
uint64_t exo_shard_weight_bytes(const exo_shard *s) { return s->weights.bytes; }
uint64_t exo_shard_mapped_bytes(const exo_shard *s) {
    return exo_pack_cache_mapped(s->weights.cache);
}
void exo_shard_settle(exo_shard *s, uint64_t timeout_ms) {
    exo_pack_cache_wait(s->weights.cache, timeout_ms);
}
uint64_t exo_shard_kv_bytes(const exo_shard *s) { return s->kv_bytes; }
const exo_model *exo_shard_model(const exo_shard *s) { return s->model; }
bool exo_shard_has_classes(const exo_shard *s) { return s->backend->plan_has_classes(s->plan); }

/* ---- steps ---- */

void exo_shard_clear_seq(exo_shard *s, uint32_t seq) {
    uint32_t *table = s->block_table + (size_t)seq * s->max_seq_pages;
    for (uint32_t i = 0; i < s->max_seq_pages; i++) table[i] = NO_PAGE;
    s->n_assigned[seq] = 0;
}

/* Takes the step's entries over; none of them when one is out of range. */
static exo_status assign_pages(exo_shard *s, const exo_step *step, exo_error *err) {
    for (uint32_t i = 0; i < step->n_pages; i++) {
        const exo_page_entry *e = &step->pages[i];
        if (e->seq >= s->desc.max_seqs || e->index >= s->max_seq_pages ||
            e->page >= s->desc.n_pages) {
            return exo_error_set(
                err, EXO_EINVAL,
                "step %llu assigns page %u of %u to sequence %u of %u, index %u of "
                "%u",
                (unsigned long long)step->number, e->page, s->desc.n_pages, e->seq,
                s->desc.max_seqs, e->index, s->max_seq_pages);
        }
    }
    for (uint32_t i = 0; i < step->n_pages; i++) {
        const exo_page_entry *e = &step->pages[i];
        uint32_t *table = s->block_table + (size_t)e->seq * s->max_seq_pages,
                 *n = &s->n_assigned[e->seq];
        table[e->index] = e->page;
        while (*n < s->max_seq_pages && table[*n] != NO_PAGE) (*n)++;
    }
    return EXO_OK;
}

/* One row against the tables; remembers its position for the order of the next. */
static exo_status check_row(exo_shard *s, const exo_row *r, exo_error *err) {
    if (r->seq >= s->desc.max_seqs) {
        return exo_error_set(err, EXO_EINVAL, "sequence %u of %u", r->seq, s->desc.max_seqs);
    }
    if (r->pos >= s->desc.ctx_tokens) {
        return exo_error_set(err, EXO_EINVAL, "position %u in a context of %u", r->pos,
                             s->desc.ctx_tokens);
    }
    if (r->pos / EXO_KV_PAGE_TOKENS >= s->n_assigned[r->seq]) {
        return exo_error_set(err, EXO_EINVAL, "position %u of sequence %u: pages end at %u", r->pos,
                             r->seq, s->n_assigned[r->seq] * EXO_KV_PAGE_TOKENS);
    }
    if (r->pos < s->next_pos[r->seq]) {
        return exo_error_set(err, EXO_EINVAL, "position %u of sequence %u after position %u",
                             r->pos, r->seq, s->next_pos[r->seq] - 1);
    }
    if (s->desc.has_embedding && (r->token < 0 || (uint32_t)r->token >= s->hparams->n_vocab)) {
        return exo_error_set(err, EXO_EINVAL, "token %d in a vocabulary of %u", r->token,
                             s->hparams->n_vocab);
    }
    s->next_pos[r->seq] = r->pos + 1;
    return EXO_OK;
}

static exo_status check_rows(exo_shard *s, const exo_step *step, exo_error *err) {
    unsigned long long number = step->number;
    uint32_t n_logits = exo_step_n_logits(step);
    if (step->n_rows > s->desc.max_rows) {
        return exo_error_set(err, EXO_EINVAL, "step %llu has %u rows: at most %u", number,
                             step->n_rows, s->desc.max_rows);
    }
    if (s->desc.has_head && n_logits > s->desc.max_logit_rows) {
        return exo_error_set(err, EXO_EINVAL, "step %llu wants %u rows of logits: at most %u",
                             number, n_logits, s->desc.max_logit_rows);
    }
    memset(s->next_pos, 0, s->desc.max_seqs * sizeof *s->next_pos);
    for (uint32_t i = 0; i < step->n_rows; i++) {
        exo_status st = check_row(s, &step->rows[i], err);
        if (st != EXO_OK) return exo_error_wrap(err, st, "step %llu, row %u", number, i);
    }
    return EXO_OK;
}

static bool is_asked(const exo_shard *s, uint32_t i) {
    return s->asked != NULL && s->asked[i].kind != EXO_HEAD_LOGITS;
}

/* The questions become this run's; the next run begins without. */
static void take_asks(exo_shard *s) {
    size_t bytes = s->asks != NULL ? s->desc.max_logit_rows * sizeof *s->asks : 0;
    if (bytes == 0) return;
    memcpy(s->asked, s->asks, bytes);
    memset(s->asks, 0, bytes);
}

exo_status exo_shard_run(exo_shard *s, const exo_step *step, const float *x_in, float *x_out,
                         const atomic_bool *cancel, exo_error *err) {
    s->n_logits = 0;
    exo_status st = assign_pages(s, step, err);
    if (st == EXO_OK) st = check_rows(s, step, err);
    if (st != EXO_OK || step->n_rows == 0) return st;
    if ((x_in == NULL && !s->desc.has_embedding) || (x_out == NULL && !s->desc.has_head)) {
        return exo_error_set(err, EXO_EINVAL, "step %llu comes without room for activations",
                             (unsigned long long)step->number);
    }
    const exo_plan_args args = {
        .rows = step->rows,
        .n_rows = step->n_rows,
        .block_table = s->block_table,
        .x_in = s->desc.has_embedding ? NULL : x_in,
        .x_out = s->desc.has_head ? NULL : x_out,
        .logits = s->logits,
        .asks = s->asked,
        .tops = s->tops,
        .cancel = cancel,
    };
    take_asks(s);
    st = s->backend->plan_run(s->plan, &args, err);
    if (st == EXO_OK) st = exo_pack_cache_check(s->weights.cache, err);
    if (st != EXO_OK || !s->desc.has_head) return st;
    s->n_logits = exo_step_n_logits(step);
    for (uint32_t i = 0; i < s->n_logits; i++) {
        if (is_asked(s, i)) {
            s->count.n_asked++;
        } else {
            s->count.n_read++;
        }
    }
    return EXO_OK;
}

/* ---- logits ---- */

const float *exo_shard_logits(const exo_shard *s, uint32_t i) {
    if (i >= s->n_logits || is_asked(s, i)) return NULL;
    return s->logits + (size_t)i * s->hparams->n_vocab;
}

void exo_shard_ask(exo_shard *s, uint32_t i, const exo_head_ask *ask) {
    if (s->asks != NULL && i < s->desc.max_logit_rows) s->asks[i] = *ask;
}

const exo_head_ask *exo_shard_asked(const exo_shard *s, uint32_t i) {
    return i < s->n_logits && is_asked(s, i) ? &s->asked[i] : NULL;
}

const exo_head_top *exo_shard_top(const exo_shard *s, uint32_t i) {
    return i < s->n_logits && is_asked(s, i) ? &s->tops[i] : NULL;
}

exo_status exo_shard_read_logits(exo_shard *s, uint32_t i, exo_error *err) {
    if (i >= s->n_logits) {
        return exo_error_set(err, EXO_EINVAL, "logits %u of a run with %u", i, s->n_logits);
    }
    if (!is_asked(s, i)) return EXO_OK;
    float *row = s->logits + (size_t)i * s->hparams->n_vocab;
    exo_status st = s->backend->plan_read_logits(s->plan, i, row, err);
    if (st != EXO_OK) return st;
    s->asked[i].kind = EXO_HEAD_LOGITS;
    s->count.n_read++;
    return EXO_OK;
}

exo_shard_rows exo_shard_count_rows(const exo_shard *s) { return s->count; }

/* ---- measurements ---- */

/* Any numbers between -1 and 1.  In q8_0 each byte may be read as an element or as half of an f16
 * scale: those of 0x20 to 0x27 make elements of about 36 and scales of about 0.01. */
static void fill_some(exo_dtype type, uint8_t *dst, size_t bytes) {
    uint32_t x = 1;
    size_t step = type == EXO_F32 ? 4 : type == EXO_F16 ? 2 : 1;
    for (size_t i = 0; i + step <= bytes; i += step) {
        x = x * 1664525u + 1013904223u;
        float value = (float)(int32_t)x * 0x1p-31f;
        if (type == EXO_F32) exo_put_f32(dst + i, value);
        if (type == EXO_F16) exo_put_u16(dst + i, exo_f32_to_f16(value));
        if (type == EXO_Q8_0) dst[i] = (uint8_t)(0x20u | x >> 29);
    }
}

static exo_status fill_pages(exo_shard *s, exo_buffer *pages, size_t page_bytes,
                             const uint8_t *some, exo_error *err) {
    exo_status st = EXO_OK;
    for (uint32_t i = 0; i < s->desc.n_pages && st == EXO_OK; i++) {
        st = s->backend->copy_to_device(s->device, pages, i * page_bytes, some, page_bytes, err);
    }
    return st;
}

exo_status exo_shard_pretend_kv(exo_shard *s, exo_error *err) {
    const exo_hparams *h = s->hparams;
    exo_dtype type = s->desc.kv_type;
    size_t k_bytes = exo_kv_page_bytes(type, h->n_kv_heads, h->head_dim);
    size_t v_bytes = exo_kv_page_bytes(type, h->n_kv_heads, h->v_dim);
    size_t most = k_bytes > v_bytes ? k_bytes : v_bytes;
    uint8_t *some = exo_malloc(most);
    if (some == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a page");
    fill_some(type, some, most);
    exo_status st = EXO_OK;
    for (uint32_t i = 0; i < s->weights.n_layers && st == EXO_OK; i++) {
        st = fill_pages(s, s->kv[i].k, k_bytes, some, err);
        if (st == EXO_OK) st = fill_pages(s, s->kv[i].v, v_bytes, some, err);
    }
    exo_free(some);
    return st;
}
