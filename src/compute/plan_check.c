/* plan_check.c - the checks of plan_check.h, operation by operation and row by row. */
#include "compute/plan_check.h"

#include <string.h>

#define MAX_ROWS     65536u
#define MAX_HEAD_DIM 576u /* the latent of deepseek2 and its rotated part */
#define MAX_EXPERTS  4096u
#define EXPERT_ROWS  16u /* the rows of an expert are whole groups of the packed layout */
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
    static const char *const names[] = {"EMBED", "MATMUL",    "ROPE_KV", "ATTENTION",
                                        "HEAD",  "ROUND_F16", "NORM",    "COPY",
                                        "ROUTE", "EXPERTS",   "MIX"};
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

static exo_status check_embed(const where *at, const exo_op_embed *e) {
    if (e->table == NULL) return refuse(at, "the table is missing");
    uint32_t n_cols = at->objects->shape(e->table).n_cols;
    if (e->positions != NULL && at->objects->shape(e->positions).n_cols != n_cols) {
        return bad(at, "the width of positions", at->objects->shape(e->positions).n_cols, n_cols);
    }
    exo_status st = check_vector(at, e->bias, n_cols, true, "the bias's size");
    return st != EXO_OK ? st : check_slot(at, e->out, n_cols, "the slot's width");
}

static exo_status check_matmul(const where *at, const exo_op_matmul *m) {
    bool gated = exo_epilogue_gated(m->epilogue);
    uint32_t want = gated ? 2 : 1;
    if (m->n_parts == 0 || m->n_parts > EXO_MATMUL_PARTS) return refuse(at, "bad part count");
    if ((unsigned)m->epilogue > EXO_EPILOGUE_RELU2) return refuse(at, "unknown epilogue");
    if (m->epilogue != EXO_EPILOGUE_STORE && m->n_parts != want) {
        return bad(at, "the number of parts", m->n_parts, want);
    }
    for (uint32_t i = 0; i < m->n_parts; i++) {
        if (m->w[i] == NULL) return refuse(at, "a weight is missing");
        exo_weight_shape w = at->objects->shape(m->w[i]);
        exo_status st = check_slot(at, m->in, w.n_cols, "the width of the input slot");
        if (st == EXO_OK) st = check_vector(at, m->bias[i], w.n_rows, true, "a bias's size");
        if (st != EXO_OK) return st;
        if (gated && i == 1) {
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

/* The page pool of one layer, as ROPE_KV and ATTENTION name it. */
typedef struct {
    const exo_buffer *k, *v;
    exo_dtype type;
    uint32_t n_kv_heads, k_dim, v_dim;
} pool;

static exo_status check_pool(const where *at, const pool *p) {
    if (p->type != EXO_F32 && p->type != EXO_F16 && p->type != EXO_Q8_0) {
        return refuse(at, "the KV type is not f32, f16 or q8_0");
    }
    if (!exo_kv_type_fits(p->type, p->k_dim) || !exo_kv_type_fits(p->type, p->v_dim)) {
        return refuse(at, "q8_0 keys and values have heads of whole blocks of 32");
    }
    if (p->k == NULL || p->v == NULL) return refuse(at, "a page pool is missing");
    size_t k_bytes = at->objects->bytes(p->k), v_bytes = at->objects->bytes(p->v);
    size_t k_page = exo_kv_page_bytes(p->type, p->n_kv_heads, p->k_dim);
    size_t v_page = exo_kv_page_bytes(p->type, p->n_kv_heads, p->v_dim);
    if (k_bytes < k_page) return bad(at, "a page pool's size", k_bytes, k_page);
    return v_bytes < v_page ? bad(at, "a page pool's size", v_bytes, v_page) : EXO_OK;
}

static exo_status check_rope(const where *at, const exo_op_rope_kv *r) {
    exo_status st = check_heads(at, r->n_heads, r->n_kv_heads, r->head_dim);
    if (st != EXO_OK) return st;
    uint64_t q = (uint64_t)r->n_heads * r->head_dim, k = (uint64_t)r->n_kv_heads * r->head_dim;
    uint32_t v_dim = r->v_dim != 0 ? r->v_dim : r->head_dim;
    if (v_dim > MAX_HEAD_DIM) return refuse(at, "v_dim is out of range");
    if (r->rope_dims % 2 != 0 || r->rope_dims > r->head_dim ||
        r->rope_offset > r->head_dim - r->rope_dims) {
        return refuse(at, "rope_dims is odd or beyond head_dim");
    }
    if (r->rope_dims > 0 && r->rope_inv_freq == NULL) return refuse(at, "no rope frequencies");
    if (r->q == r->k || r->q == r->v || r->k == r->v) return refuse(at, "q, k and v share a slot");
    if ((st = check_slot(at, r->q, q, "the width of q")) != EXO_OK) return st;
    if ((st = check_slot(at, r->k, k, "the width of k")) != EXO_OK) return st;
    st = check_slot(at, r->v, (uint64_t)r->n_kv_heads * v_dim, "the width of v");
    if (st != EXO_OK) return st;
    st = check_vector(at, r->q_norm, r->head_dim, true, "the q norm's size");
    if (st == EXO_OK) st = check_vector(at, r->k_norm, r->head_dim, true, "the k norm's size");
    if (st != EXO_OK) return st;
    return check_pool(
        at, &(pool){r->k_pages, r->v_pages, r->kv_type, r->n_kv_heads, r->head_dim, v_dim});
}

static exo_status check_attention(const where *at, const exo_op_attention *a) {
    exo_status st = check_heads(at, a->n_heads, a->n_kv_heads, a->head_dim);
    if (st != EXO_OK) return st;
    uint32_t v_dim = a->v_dim != 0 ? a->v_dim : a->head_dim;
    uint64_t q = (uint64_t)a->n_heads * a->head_dim, out = (uint64_t)a->n_heads * v_dim;
    if (v_dim > MAX_HEAD_DIM) return refuse(at, "v_dim is out of range");
    if (!(a->softcap >= 0)) return refuse(at, "the soft cap is below 0");
    if ((st = check_slot(at, a->q, q, "the width of q")) != EXO_OK) return st;
    if ((st = check_slot(at, a->out, out, "the width of the output")) != EXO_OK) return st;
    if (a->q == a->out && v_dim != a->head_dim) return refuse(at, "q and output share a slot");
    st = check_vector(at, a->sinks, a->n_heads, true, "the sinks' size");
    if (st != EXO_OK) return st;
    return check_pool(
        at, &(pool){a->k_pages, a->v_pages, a->kv_type, a->n_kv_heads, a->head_dim, v_dim});
}

static exo_status check_head(const where *at, const exo_op_head *h) {
    if (h->w == NULL) return refuse(at, "the weight is missing");
    if (at->i + 1 != at->desc->n_ops) return refuse(at, "it is not the last operation");
    if (!(h->softcap >= 0)) return refuse(at, "the soft cap is below 0");
    exo_weight_shape w = at->objects->shape(h->w);
    exo_status st = check_slot(at, h->in, w.n_cols, "the input slot's width");
    if (st == EXO_OK) st = check_vector(at, h->norm, w.n_cols, true, "the norm's size");
    return st != EXO_OK ? st : check_vector(at, h->bias, w.n_rows, true, "the bias's size");
}

static exo_status check_norm(const where *at, const exo_op_norm *n) {
    if (n->in >= at->desc->n_slots) return refuse(at, "a slot is out of range");
    if ((unsigned)n->norm > EXO_NORM_NONE) return refuse(at, "unknown kind of norm");
    uint32_t width = at->desc->slot_width[n->in];
    exo_status st = check_slot(at, n->out, width, "the output slot's width");
    if (st != EXO_OK || n->norm == EXO_NORM_NONE) return st;
    st = check_vector(at, n->weight, width, false, "the norm's size");
    return st != EXO_OK ? st : check_vector(at, n->bias, width, true, "the bias's size");
}

static exo_status check_pieces(const where *at, const exo_op_copy *c, bool out) {
    uint32_t slot = out ? c->out : c->in;
    if (slot >= at->desc->n_slots) return refuse(at, "a slot is out of range");
    uint64_t stride = out ? c->out_stride : c->in_stride;
    uint64_t end = (out ? c->out_offset : c->in_offset) + (c->n - 1) * stride + c->width;
    return end > at->desc->slot_width[slot] ? refuse(at, "a piece is beyond its slot") : EXO_OK;
}

static exo_status check_copy(const where *at, const exo_op_copy *c) {
    if (c->n == 0 || c->width == 0) return refuse(at, "nothing to copy");
    if (c->in == c->out) return refuse(at, "input and output are the same slot");
    exo_status st = check_pieces(at, c, false);
    return st != EXO_OK ? st : check_pieces(at, c, true);
}

static exo_status check_chosen(const where *at, uint32_t n_experts, uint32_t n_used) {
    if (n_experts == 0 || n_experts > MAX_EXPERTS) return refuse(at, "bad number of experts");
    if (n_used == 0 || n_used > n_experts) return refuse(at, "bad number of chosen experts");
    return EXO_OK;
}

static exo_status check_route(const where *at, const exo_op_route *r) {
    exo_status st = check_chosen(at, r->n_experts, r->n_used);
    if (st != EXO_OK) return st;
    if ((unsigned)r->gating > EXO_GATING_SOFTMAX_CHOSEN) return refuse(at, "unknown gating");
    if (r->n_groups > 0) {
        uint32_t each = r->n_experts / r->n_groups;
        if (each * r->n_groups != r->n_experts || each < 2 || r->n_groups_used == 0 ||
            r->n_groups_used > r->n_groups || (uint64_t)each * r->n_groups_used < r->n_used) {
            return refuse(at, "the groups of experts do not fit");
        }
    }
    if (r->in == r->out) return refuse(at, "input and output are the same slot");
    st = check_slot(at, r->in, r->n_experts, "the scores' width");
    if (st == EXO_OK) st = check_slot(at, r->out, 2ull * r->n_used, "the choice's width");
    if (st != EXO_OK) return st;
    return check_vector(at, r->choice_bias, r->n_experts, true, "the bias's size");
}

static exo_status check_experts(const where *at, const exo_op_experts *e) {
    exo_status st = check_chosen(at, e->n_experts, e->n_used);
    if (st != EXO_OK) return st;
    if ((unsigned)e->epilogue > EXO_EPILOGUE_RELU2 || e->epilogue == EXO_EPILOGUE_ADD) {
        return refuse(at, "unknown epilogue");
    }
    uint32_t want = exo_epilogue_gated(e->epilogue) ? 2 : 1;
    if (e->n_parts != want) return bad(at, "the number of parts", e->n_parts, want);
    if (e->route == EXO_NO_SLOT) {
        if (e->n_used != e->n_experts) return bad(at, "the chosen", e->n_used, e->n_experts);
    } else if ((st = check_slot(at, e->route, 2ull * e->n_used, "the choice's width")) != EXO_OK) {
        return st;
    }
    if (e->split && e->norm != NULL) return refuse(at, "a norm over pieces");
    if (e->in == e->out) return refuse(at, "input and output are the same slot");
    for (uint32_t i = 0; i < e->n_parts; i++) {
        if (e->w[i] == NULL) return refuse(at, "a weight is missing");
        exo_weight_shape w = at->objects->shape(e->w[i]);
        uint32_t rows = w.n_rows / e->n_experts;
        if (rows == 0 || rows % EXPERT_ROWS != 0 || rows * e->n_experts != w.n_rows) {
            return refuse(at, "an expert's rows are not a multiple of 16");
        }
        uint64_t in = (uint64_t)w.n_cols * (e->split ? e->n_used : 1);
        st = check_slot(at, e->in, in, "the input slot's width");
        if (st == EXO_OK) {
            st = check_slot(at, e->out, (uint64_t)rows * e->n_used, "the output slot's width");
        }
        if (st == EXO_OK) st = check_vector(at, e->bias[i], w.n_rows, true, "a bias's size");
        if (st != EXO_OK) return st;
    }
    return check_vector(at, e->norm, at->objects->shape(e->w[0]).n_cols, true, "the norm's size");
}

static exo_status check_mix(const where *at, const exo_op_mix *m) {
    if (m->n_used == 0 || m->n_used > MAX_EXPERTS) return refuse(at, "bad number of experts");
    if (m->out >= at->desc->n_slots) return refuse(at, "a slot is out of range");
    if (m->in == m->out) return refuse(at, "input and output are the same slot");
    exo_status st = check_slot(at, m->route, 2ull * m->n_used, "the choice's width");
    if (st != EXO_OK) return st;
    return check_slot(at, m->in, (uint64_t)m->n_used * at->desc->slot_width[m->out],
                      "the input slot's width");
}

static exo_status check_op(const where *at) {
    const exo_op *op = &at->desc->ops[at->i];
    switch (op->kind) {
    case EXO_OP_EMBED: return check_embed(at, &op->u.embed);
    case EXO_OP_MATMUL: return check_matmul(at, &op->u.matmul);
    case EXO_OP_ROPE_KV: return check_rope(at, &op->u.rope_kv);
    case EXO_OP_ATTENTION: return check_attention(at, &op->u.attention);
    case EXO_OP_HEAD: return check_head(at, &op->u.head);
    case EXO_OP_ROUND_F16:
        if (op->u.round_slot >= at->desc->n_slots) return refuse(at, "the slot is out of range");
        return EXO_OK;
    case EXO_OP_NORM: return check_norm(at, &op->u.norm);
    case EXO_OP_COPY: return check_copy(at, &op->u.copy);
    case EXO_OP_ROUTE: return check_route(at, &op->u.route);
    case EXO_OP_EXPERTS: return check_experts(at, &op->u.experts);
    case EXO_OP_MIX: return check_mix(at, &op->u.mix);
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

static uint32_t pages_of(const exo_plan_objects *objects, const pool *p) {
    size_t k = objects->bytes(p->k) / exo_kv_page_bytes(p->type, p->n_kv_heads, p->k_dim);
    size_t v = objects->bytes(p->v) / exo_kv_page_bytes(p->type, p->n_kv_heads, p->v_dim);
    size_t n = k < v ? k : v;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
}

static void bound_embed(exo_plan_bounds *b, const exo_plan_objects *objects,
                        const exo_op_embed *e) {
    uint32_t n = objects->shape(e->table).n_rows;
    if (b->embed_vocab == 0 || n < b->embed_vocab) b->embed_vocab = n;
    if (e->positions != NULL) b->n_positions = objects->shape(e->positions).n_rows;
}

void exo_plan_bounds_find(exo_plan_bounds *b, const exo_plan_objects *objects) {
    b->n_pages = b->n_positions = UINT32_MAX;
    b->n_vocab = b->embed_vocab = 0;
    for (size_t i = 0; i < b->desc->n_ops; i++) {
        const exo_op *op = &b->desc->ops[i];
        uint32_t pages = UINT32_MAX;
        if (op->kind == EXO_OP_EMBED) {
            bound_embed(b, objects, &op->u.embed);
        } else if (op->kind == EXO_OP_HEAD) {
            b->n_vocab = objects->shape(op->u.head.w).n_rows;
        } else if (op->kind == EXO_OP_ROPE_KV) {
            const exo_op_rope_kv *r = &op->u.rope_kv;
            pages = pages_of(objects, &(pool){r->k_pages, r->v_pages, r->kv_type, r->n_kv_heads,
                                              r->head_dim, r->v_dim ? r->v_dim : r->head_dim});
        } else if (op->kind == EXO_OP_ATTENTION) {
            const exo_op_attention *a = &op->u.attention;
            pages = pages_of(objects, &(pool){a->k_pages, a->v_pages, a->kv_type, a->n_kv_heads,
                                              a->head_dim, a->v_dim ? a->v_dim : a->head_dim});
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
    if (row->pos >= b->n_positions) {
        return exo_error_set(err, EXO_EINVAL, "row %u: position %u of %u that have an embedding", i,
                             row->pos, b->n_positions);
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
