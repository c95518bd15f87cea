/* plan_check.c - the checks of plan_check.h, operation by operation and row by row. */
#include "compute/plan_check.h"

#include <string.h>

#define MAX_ROWS     65536u
#define MAX_HEAD_DIM 512u
#define MAX_SLOTS    1024u
#define MAX_OPS      65536u
#define MAX_SEQS     65536u
#define MAX_PAGES    (1u << 22) /* of one sequence: positions fit 32 bits */

/* Where a check stands, for its message. */
typedef struct {
    const exo_plan_desc *desc;
    const exo_plan_objects *objects;
    size_t i;
    exo_error *err;
} where;

static const char *op_name(exo_op_kind kind) {
    static const char *const names[] = {"EMBED",     "MATMUL", "ROPE_KV",
                                        "ATTENTION", "HEAD",   "ROUND_F16"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

static exo_status bad(const where *at, const char *what, uint64_t got, uint64_t want) {
    return exo_error_set(at->err, EXO_EINVAL, "plan operation %zu (%s): %s is %llu, not %llu",
                         at->i, op_name(at->desc->ops[at->i].kind), what, (unsigned long long)got,
                         (unsigned long long)want);
}

static exo_status refuse(const where *at, const char *what) {
    return exo_error_set(at->err, EXO_EINVAL, "plan operation %zu (%s): %s", at->i,
                         op_name(at->desc->ops[at->i].kind), what);
}

static exo_status check_slot(const where *at, uint32_t slot, uint64_t width, const char *what) {
    if (slot >= at->desc->n_slots) return refuse(at, "a slot is out of range");
    if (at->desc->slot_width[slot] != width) {
        return bad(at, what, at->desc->slot_width[slot], width);
    }
    return EXO_OK;
}

static exo_status check_vector(const where *at, const exo_buffer *b, uint32_t n, bool optional,
                               const char *what) {
    if (b == NULL) return optional ? EXO_OK : refuse(at, "a vector is missing");
    size_t bytes = at->objects->bytes(b);
    return bytes < (size_t)n * sizeof(float) ? bad(at, what, bytes, n * 4ull) : EXO_OK;
}

static exo_status check_matmul(const where *at, const exo_op_matmul *m) {
    uint32_t want = m->epilogue == EXO_EPILOGUE_ADD ? 1 : 2;
    if (m->n_parts == 0 || m->n_parts > EXO_MATMUL_PARTS) return refuse(at, "bad part count");
    if ((unsigned)m->epilogue > EXO_EPILOGUE_SILU_MUL) return refuse(at, "unknown epilogue");
    if (m->epilogue != EXO_EPILOGUE_STORE && m->n_parts != want) {
        return bad(at, "the number of parts", m->n_parts, want);
    }
    for (uint32_t i = 0; i < m->n_parts; i++) {
        if (m->w[i] == NULL) return refuse(at, "a weight is missing");
        exo_weight_shape w = at->objects->shape(m->w[i]);
        exo_status st = check_slot(at, m->in, w.n_cols, "the width of the input slot");
        if (st == EXO_OK) st = check_vector(at, m->bias[i], w.n_rows, true, "a bias's size");
        if (st != EXO_OK) return st;
        if (m->epilogue == EXO_EPILOGUE_SILU_MUL && i == 1) {
            uint32_t gate_rows = at->objects->shape(m->w[0]).n_rows;
            if (w.n_rows != gate_rows) return bad(at, "rows of up", w.n_rows, gate_rows);
            continue;
        }
        st = check_slot(at, m->out[i], w.n_rows, "the width of an output slot");
        if (st != EXO_OK) return st;
        if (m->out[i] == m->in) return refuse(at, "input and output are the same slot");
        for (uint32_t k = 0; k < i; k++) {
            if (m->out[k] == m->out[i]) return refuse(at, "two parts write the same slot");
        }
    }
    return check_vector(at, m->norm, at->objects->shape(m->w[0]).n_cols, true, "the norm's size");
}

static exo_status check_heads(const where *at, uint32_t n_heads, uint32_t n_kv_heads,
                              uint32_t head_dim) {
    if (head_dim == 0 || head_dim > MAX_HEAD_DIM) return refuse(at, "head_dim is out of range");
    if (n_kv_heads == 0 || n_heads == 0 || n_heads > MAX_ROWS || n_heads % n_kv_heads != 0) {
        return refuse(at, "the heads do not divide among the kv heads");
    }
    return EXO_OK;
}

static exo_status check_pool(const where *at, const exo_buffer *k, const exo_buffer *v,
                             exo_dtype type, size_t page_bytes) {
    if (type != EXO_F32 && type != EXO_F16) return refuse(at, "the KV type is not f32 or f16");
    if (k == NULL || v == NULL) return refuse(at, "a page pool is missing");
    size_t k_bytes = at->objects->bytes(k), v_bytes = at->objects->bytes(v);
    size_t bytes = k_bytes < v_bytes ? k_bytes : v_bytes;
    return bytes < page_bytes ? bad(at, "a page pool's size", bytes, page_bytes) : EXO_OK;
}

static exo_status check_rope(const where *at, const exo_op_rope_kv *r) {
    exo_status st = check_heads(at, r->n_heads, r->n_kv_heads, r->head_dim);
    if (st != EXO_OK) return st;
    uint64_t q = (uint64_t)r->n_heads * r->head_dim, kv = (uint64_t)r->n_kv_heads * r->head_dim;
    if (r->rope_dims % 2 != 0 || r->rope_dims > r->head_dim) {
        return refuse(at, "rope_dims is odd or beyond head_dim");
    }
    if (r->rope_dims > 0 && r->rope_inv_freq == NULL) return refuse(at, "no rope frequencies");
    if (r->q == r->k || r->q == r->v || r->k == r->v) return refuse(at, "q, k and v share a slot");
    if ((st = check_slot(at, r->q, q, "the width of q")) != EXO_OK) return st;
    if ((st = check_slot(at, r->k, kv, "the width of k")) != EXO_OK) return st;
    if ((st = check_slot(at, r->v, kv, "the width of v")) != EXO_OK) return st;
    st = check_vector(at, r->q_norm, r->head_dim, true, "the q norm's size");
    if (st == EXO_OK) st = check_vector(at, r->k_norm, r->head_dim, true, "the k norm's size");
    if (st != EXO_OK) return st;
    return check_pool(at, r->k_pages, r->v_pages, r->kv_type,
                      exo_kv_page_bytes(r->kv_type, r->n_kv_heads, r->head_dim));
}

static exo_status check_attention(const where *at, const exo_op_attention *a) {
    exo_status st = check_heads(at, a->n_heads, a->n_kv_heads, a->head_dim);
    if (st != EXO_OK) return st;
    uint64_t width = (uint64_t)a->n_heads * a->head_dim;
    if ((st = check_slot(at, a->q, width, "the width of q")) != EXO_OK) return st;
    if ((st = check_slot(at, a->out, width, "the width of the output")) != EXO_OK) return st;
    return check_pool(at, a->k_pages, a->v_pages, a->kv_type,
                      exo_kv_page_bytes(a->kv_type, a->n_kv_heads, a->head_dim));
}

static exo_status check_op(const where *at) {
    const exo_op *op = &at->desc->ops[at->i];
    switch (op->kind) {
    case EXO_OP_EMBED:
        if (op->u.embed.table == NULL) return refuse(at, "the table is missing");
        return check_slot(at, op->u.embed.out, at->objects->shape(op->u.embed.table).n_cols,
                          "the slot's width");
    case EXO_OP_MATMUL: return check_matmul(at, &op->u.matmul);
    case EXO_OP_ROPE_KV: return check_rope(at, &op->u.rope_kv);
    case EXO_OP_ATTENTION: return check_attention(at, &op->u.attention);
    case EXO_OP_HEAD: {
        const exo_op_head *h = &op->u.head;
        if (h->w == NULL) return refuse(at, "the weight is missing");
        if (at->i + 1 != at->desc->n_ops) return refuse(at, "it is not the last operation");
        uint32_t n_cols = at->objects->shape(h->w).n_cols;
        exo_status st = check_slot(at, h->in, n_cols, "the input slot's width");
        return st != EXO_OK ? st : check_vector(at, h->norm, n_cols, false, "the norm's size");
    }
    case EXO_OP_ROUND_F16:
        if (op->u.round_slot >= at->desc->n_slots) return refuse(at, "the slot is out of range");
        return EXO_OK;
    }
    return refuse(at, "no such operation");
}

exo_status exo_plan_check(const exo_plan_desc *desc, const exo_plan_objects *objects,
                          exo_error *err) {
    if (desc->n_ops == 0 || desc->n_ops > MAX_OPS || desc->ops == NULL) {
        return exo_error_set(err, EXO_EINVAL, "a plan of %zu operations", desc->n_ops);
    }
    if (desc->n_slots == 0 || desc->n_slots > MAX_SLOTS || desc->slot_width == NULL) {
        return exo_error_set(err, EXO_EINVAL, "a plan with %u slots", desc->n_slots);
    }
    if (desc->max_rows == 0 || desc->max_rows > MAX_ROWS || desc->max_logit_rows > desc->max_rows) {
        return exo_error_set(err, EXO_EINVAL, "a plan for %u rows, %u with logits", desc->max_rows,
                             desc->max_logit_rows);
    }
    if (desc->max_seqs == 0 || desc->max_seqs > MAX_SEQS || desc->max_seq_pages == 0 ||
        desc->max_seq_pages > MAX_PAGES) {
        return exo_error_set(err, EXO_EINVAL, "a plan for %u sequences of %u pages", desc->max_seqs,
                             desc->max_seq_pages);
    }
    for (size_t i = 0; i < desc->n_ops; i++) {
        exo_status st = check_op(&(where){desc, objects, i, err});
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

/* ---- bounds ---- */

static uint32_t pages_of(const exo_plan_objects *objects, const exo_buffer *k, const exo_buffer *v,
                         size_t page_bytes) {
    size_t k_bytes = objects->bytes(k), v_bytes = objects->bytes(v);
    size_t n = (k_bytes < v_bytes ? k_bytes : v_bytes) / page_bytes;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
}

void exo_plan_bounds_find(exo_plan_bounds *b, const exo_plan_objects *objects) {
    b->n_pages = UINT32_MAX;
    b->n_vocab = b->embed_vocab = 0;
    for (size_t i = 0; i < b->desc->n_ops; i++) {
        const exo_op *op = &b->desc->ops[i];
        uint32_t pages = UINT32_MAX;
        if (op->kind == EXO_OP_EMBED) {
            uint32_t n = objects->shape(op->u.embed.table).n_rows;
            if (b->embed_vocab == 0 || n < b->embed_vocab) b->embed_vocab = n;
        } else if (op->kind == EXO_OP_HEAD) {
            b->n_vocab = objects->shape(op->u.head.w).n_rows;
        } else if (op->kind == EXO_OP_ROPE_KV) {
            const exo_op_rope_kv *r = &op->u.rope_kv;
            pages = pages_of(objects, r->k_pages, r->v_pages,
                             exo_kv_page_bytes(r->kv_type, r->n_kv_heads, r->head_dim));
        } else if (op->kind == EXO_OP_ATTENTION) {
            const exo_op_attention *a = &op->u.attention;
            pages = pages_of(objects, a->k_pages, a->v_pages,
                             exo_kv_page_bytes(a->kv_type, a->n_kv_heads, a->head_dim));
        }
        if (pages < b->n_pages) b->n_pages = pages;
    }
}

/* ---- one step ---- */

static exo_status check_row(exo_plan_bounds *b, const exo_row *row, uint32_t i, exo_error *err) {
    if (row->seq >= b->desc->max_seqs) {
        return exo_error_set(err, EXO_EINVAL, "row %u: sequence %u of %u", i, row->seq,
                             b->desc->max_seqs);
    }
    if (row->pos / EXO_KV_PAGE_TOKENS >= b->desc->max_seq_pages) {
        return exo_error_set(err, EXO_EINVAL,
                             "row %u: position %u is beyond the %llu of a sequence", i, row->pos,
                             (unsigned long long)b->desc->max_seq_pages * EXO_KV_PAGE_TOKENS);
    }
    if (b->embed_vocab > 0 && (row->token < 0 || (uint32_t)row->token >= b->embed_vocab)) {
        return exo_error_set(err, EXO_EINVAL, "row %u: token %d of a vocabulary of %u", i,
                             row->token, b->embed_vocab);
    }
    if (row->pos < b->last_pos[row->seq]) {
        return exo_error_set(err, EXO_EINVAL, "row %u: position %u of sequence %u is out of order",
                             i, row->pos, row->seq);
    }
    b->last_pos[row->seq] = row->pos + 1;
    return EXO_OK;
}

/* The pages that the block starting at row->pos needs, up to its last position. */
static exo_status check_pages(const exo_plan_bounds *b, const exo_plan_args *args,
                              const exo_row *last, exo_error *err) {
    if (b->n_pages == UINT32_MAX) return EXO_OK;
    const uint32_t *table = args->block_table + (size_t)last->seq * b->desc->max_seq_pages;
    for (uint32_t i = 0; i <= last->pos / EXO_KV_PAGE_TOKENS; i++) {
        if (table[i] < b->n_pages) continue;
        return exo_error_set(err, EXO_EINVAL, "sequence %u, position %u: page %u of %u", last->seq,
                             i * EXO_KV_PAGE_TOKENS, table[i], b->n_pages);
    }
    return EXO_OK;
}

static exo_status check_pointers(const exo_plan_bounds *b, const exo_plan_args *args,
                                 exo_error *err) {
    const exo_op *ops = b->desc->ops;
    if (args->rows == NULL || (b->n_pages != UINT32_MAX && args->block_table == NULL)) {
        return exo_error_set(err, EXO_EINVAL, "a step without rows or block table");
    }
    if (args->x_in == NULL && ops[0].kind != EXO_OP_EMBED) {
        return exo_error_set(err, EXO_EINVAL, "a step without input rows");
    }
    if (args->x_out == NULL && b->n_vocab == 0) {
        return exo_error_set(err, EXO_EINVAL, "a step without room for output rows");
    }
    return EXO_OK;
}

exo_status exo_plan_check_step(exo_plan_bounds *b, const exo_plan_args *args, exo_error *err) {
    if (args->n_rows == 0 || args->n_rows > b->desc->max_rows) {
        return exo_error_set(err, EXO_EINVAL, "a step of %u rows; this plan takes 1 to %u",
                             args->n_rows, b->desc->max_rows);
    }
    exo_status st = check_pointers(b, args, err);
    if (st != EXO_OK) return st;
    memset(b->last_pos, 0, b->desc->max_seqs * sizeof *b->last_pos);
    b->n_logit_rows = 0;
    for (uint32_t i = 0; i < args->n_rows; i++) {
        const exo_row *row = &args->rows[i];
        if ((st = check_row(b, row, i, err)) != EXO_OK) return st;
        bool last = i + 1 == args->n_rows || row[1].seq != row->seq;
        if (last && (st = check_pages(b, args, row, err)) != EXO_OK) return st;
        if (b->n_vocab == 0 || (row->flags & EXO_ROW_LOGITS) == 0) continue;
        if (b->n_logit_rows == b->desc->max_logit_rows || args->logits == NULL) {
            return exo_error_set(err, EXO_EINVAL, "row %u: no room for its logits (%u rows)", i,
                                 args->logits == NULL ? 0 : b->desc->max_logit_rows);
        }
        b->logit_rows[b->n_logit_rows++] = i;
    }
    return EXO_OK;
}
