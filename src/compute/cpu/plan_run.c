/* plan_run.c - one step: every thread walks the same operations and meets the others after each.
 *
 * Products are split by groups of 16 weight rows, never along K: a narrow step gives each thread
 * one contiguous range to stream, a wide one hands out strips from a counter.  Norm and
 * quantisation are split by rows; for a single row every thread does them for itself, which is
 * cheaper than a barrier.  Cancellation and faults are decided by thread 0 before it arrives at
 * the barrier behind an operation, so all threads leave at the same place. */
#include "compute/cpu/plan_run.h"

#include "compute/cpu/reference.h"
#include "compute/dmath.h"

#include <string.h>

#define WIDE_ROWS           32u /* from here on strips are handed out one by one */
#define WIDE_STRIP_GROUPS   4u
#define NARROW_ITEMS        4u /* of one product for each thread */
#define NARROW_LEAST_GROUPS 8u

/* MATMUL and HEAD in one form. */
typedef struct {
    const float *in;
    size_t ld_in;
    const uint32_t *rows; /* (n) which rows of the input; NULL = the first n */
    uint32_t n;
    const float *norm; /* (K) or NULL */
    float eps;
    uint32_t n_parts;
    const exo_weight *const *w;
    const float *bias[EXO_MATMUL_PARTS];
    float *out[EXO_MATMUL_PARTS];
    size_t ld_out[EXO_MATMUL_PARTS];
    exo_epilogue epilogue;
    float scale, softcap; /* of logits; 0 = none */
} product;

/* ---- the input of a product ---- */

static unsigned forms_of(const product *pr) {
    unsigned forms = 0;
    for (uint32_t i = 0; i < pr->n_parts; i++) forms |= 1u << exo_act_form_of(pr->w[i]->type);
    return forms;
}

void exo_run_prepare(const exo_run *r, const exo_run_input *in, uint32_t c, const exo_act_space *a,
                     const exo_act_strides *ld) {
    const exo_cpu_kernels *k = r->kernels;
    const float *x = in->x;
    bool ok = true, floats = (in->forms & 1u << EXO_ACT_F32) != 0;
    if (in->norm != NULL) {
        float *normed = floats ? a->x + c * ld->x : r->scratch->row;
        ok = k->norm(normed, x, in->norm, in->n, in->eps);
        x = normed;
    } else if (floats && in->gather) {
        memcpy(a->x + c * ld->x, x, in->n * sizeof *x);
    }
    if (ok && in->forms & 1u << EXO_ACT_Q32) {
        ok = k->quantize32(x, in->n, a->q[0] + c * ld->q, a->d[0] + c * ld->d[0],
                           a->sum32 + c * ld->d[0]);
    }
    if (ok && in->forms & 1u << EXO_ACT_Q256) {
        ok = k->quantize256(x, in->n, a->q[1] + c * ld->q, a->d[1] + c * ld->d[1],
                            a->sums + c * ld->d[1] * EXO_Q256_SUMS);
    }
    if (!ok) exo_run_not_finite(r);
}

/* f32 rows are read from the slot as they lie, but for these. */
static bool copies(const product *pr) { return pr->norm != NULL || pr->rows != NULL; }

/* Row c of the product's input into row c of a. */
static void prepare_row(const exo_run *r, const product *pr, unsigned forms, uint32_t c,
                        const exo_act_space *a) {
    const exo_run_input in = {.x = pr->in + (pr->rows != NULL ? pr->rows[c] : c) * pr->ld_in,
                              .n = pr->w[0]->n_cols,
                              .norm = pr->norm,
                              .eps = pr->eps,
                              .forms = forms,
                              .gather = copies(pr)};
    exo_run_prepare(r, &in, c, a, &r->p->ld);
}

/* The space that holds the prepared rows.  Ends with a barrier where threads share it. */
static const exo_act_space *prepare(const exo_run *r, const product *pr, unsigned forms) {
    const exo_act_space *shared = &r->p->act;
    if (!copies(pr) && forms == 1u << EXO_ACT_F32) return shared; /* the slot itself */
    if (pr->n == 1 && r->n_threads > 1) {
        prepare_row(r, pr, forms, 0, &r->scratch->own);
        return &r->scratch->own;
    }
    uint32_t from, to;
    exo_run_share(r, pr->n, &from, &to);
    for (uint32_t c = from; c < to; c++) prepare_row(r, pr, forms, c, shared);
    exo_pool_barrier(r->p->device->pool);
    return shared;
}

static exo_act act_for(const exo_run *r, const product *pr, const exo_act_space *a,
                       exo_dtype type) {
    const exo_plan *p = r->p;
    exo_act act = {.ld_x = p->ld.x, .ld_q = p->ld.q};
    exo_act_form form = exo_act_form_of(type);
    if (form == EXO_ACT_F32) {
        act.x = copies(pr) ? a->x : pr->in;
        if (!copies(pr)) act.ld_x = pr->ld_in;
        return act;
    }
    act.q = a->q[form - 1];
    act.d = a->d[form - 1];
    act.ld_d = p->ld.d[form - 1];
    act.sum32 = a->sum32;
    act.sums = a->sums;
    return act;
}

/* ---- the product ---- */

static void add_bias(float *strip, size_t ld, uint32_t n, const float *bias, uint32_t rows) {
    if (bias == NULL) return;
    for (uint32_t c = 0; c < n; c++) {
        for (uint32_t i = 0; i < rows; i++) strip[c * ld + i] += bias[i];
    }
}

void exo_run_epilogue(const exo_run *r, exo_epilogue e, float *out, const float *y, const float *up,
                      uint32_t n) {
    switch (e) {
    case EXO_EPILOGUE_SILU_MUL: r->kernels->silu_mul(out, y, up, n); break;
    case EXO_EPILOGUE_GELU_MUL: r->kernels->gelu_mul(out, y, up, n); break;
    case EXO_EPILOGUE_GELU: r->kernels->gelu_mul(out, y, NULL, n); break;
    case EXO_EPILOGUE_SWIGLU_OAI: r->kernels->swiglu_oai(out, y, up, n); break;
    case EXO_EPILOGUE_RELU2:
        for (uint32_t i = 0; i < n; i++) {
            float relu = y[i] > 0 ? y[i] : 0;
            out[i] = relu * relu;
        }
        break;
    case EXO_EPILOGUE_STORE:
    case EXO_EPILOGUE_ADD: memcpy(out, y, n * sizeof *out); break;
    }
}

/* Results of `rows` weight rows from row0 on, out of the thread's strips into the slots. */
static void finish_strip(const exo_run *r, const product *pr, uint32_t part, uint32_t row0,
                         uint32_t rows, size_t ld) {
    float *y = r->scratch->strip[0], *up = r->scratch->strip[1];
    add_bias(y, ld, pr->n, pr->bias[part] == NULL ? NULL : pr->bias[part] + row0, rows);
    if (exo_epilogue_gated(pr->epilogue)) {
        add_bias(up, ld, pr->n, pr->bias[1] == NULL ? NULL : pr->bias[1] + row0, rows);
    }
    for (uint32_t c = 0; c < pr->n; c++) {
        float *out = pr->out[part] + c * pr->ld_out[part] + row0;
        const float *src = y + c * ld;
        if (pr->epilogue == EXO_EPILOGUE_ADD) {
            for (uint32_t i = 0; i < rows; i++) out[i] = out[i] + src[i];
        } else {
            exo_run_epilogue(r, pr->epilogue, out, src, up + c * ld, rows);
        }
        for (uint32_t i = 0; pr->scale != 0 && i < rows; i++) out[i] *= pr->scale;
        if (pr->softcap > 0) r->kernels->softcap(out, pr->softcap, rows);
    }
}

/* Groups [g0, g0 + n_groups) of one part; of both parts where they are gated. */
typedef struct {
    uint32_t part, g0, n_groups;
} strip;

static void run_strip(const exo_run *r, const product *pr, const exo_act *acts, const strip *s) {
    size_t ld = (size_t)s->n_groups * EXO_GROUP_ROWS;
    uint32_t n_products = exo_epilogue_gated(pr->epilogue) ? 2 : 1;
    for (uint32_t i = 0; i < n_products; i++) {
        const exo_weight *w = pr->w[s->part + i];
        exo_matmul_task t = {.w = w,
                             .a = &acts[s->part + i],
                             .n = pr->n,
                             .g0 = s->g0,
                             .n_groups = s->n_groups,
                             .y = r->scratch->strip[i],
                             .ld_y = ld};
        r->kernels->matmul[w->type](&t);
    }
    uint32_t row0 = s->g0 * EXO_GROUP_ROWS, rows = pr->w[s->part]->n_rows - row0;
    finish_strip(r, pr, s->part, row0, rows < ld ? rows : (uint32_t)ld, ld);
}

/* Groups in one item of work.  A step of few rows reads each range of weights once, as a few
 * long streams; but no thread's range is so long that the others wait for it. */
static uint32_t strip_groups(const exo_run *r, const product *pr, uint32_t n_groups) {
    uint32_t most = (uint32_t)(r->p->strip_floats / ((size_t)pr->n * EXO_GROUP_ROWS)), want;
    if (pr->n >= WIDE_ROWS) {
        want = WIDE_STRIP_GROUPS;
    } else if (r->n_threads == 1) {
        want = most;
    } else {
        want = n_groups / (r->n_threads * NARROW_ITEMS);
        want = want < NARROW_LEAST_GROUPS ? NARROW_LEAST_GROUPS : want;
    }
    return want < most ? want : most;
}

/* Item `item` of a node's part of the product's ranges; false when there are not so many. */
static bool find_strip(const exo_run *r, const product *pr, uint32_t n_ranges, uint32_t node,
                       uint32_t item, strip *out) {
    const exo_node_split *split = exo_pool_split(r->p->device->pool);
    for (out->part = 0; out->part < n_ranges; out->part++) {
        uint32_t all = pr->w[out->part]->n_groups, step = strip_groups(r, pr, all), from, to;
        exo_node_share(split, node, all, &from, &to);
        uint32_t n = (to - from + step - 1) / step;
        if (item < n) {
            out->g0 = from + item * step;
            out->n_groups = to - out->g0 < step ? to - out->g0 : step;
            return true;
        }
        item -= n;
    }
    return false;
}

/* Items are handed out one by one, so that fast cores take more of them; where rows lie on several
 * memory nodes, those of the own one first. */
static void run_strips(const exo_run *r, const product *pr, const exo_act *acts,
                       uint32_t n_ranges) {
    uint32_t n_nodes = exo_pool_split(r->p->device->pool)->n;
    for (uint32_t i = 0; i < n_nodes; i++) {
        uint32_t node = (r->node + i) % n_nodes;
        atomic_uint *taken = &r->p->taken[node * r->p->desc.n_ops + r->op];
        strip s;
        while (find_strip(r, pr, n_ranges, node,
                          atomic_fetch_add_explicit(taken, 1, memory_order_relaxed), &s)) {
            run_strip(r, pr, acts, &s);
            r->scratch->n_items++;
        }
    }
}

static void run_product(const exo_run *r, const product *pr) {
    if (pr->n == 0) return;
    const exo_act_space *space = prepare(r, pr, forms_of(pr));
    exo_act acts[EXO_MATMUL_PARTS];
    for (uint32_t i = 0; i < pr->n_parts; i++) acts[i] = act_for(r, pr, space, pr->w[i]->type);
    uint32_t n_ranges = exo_epilogue_gated(pr->epilogue) ? 1 : pr->n_parts;
    run_strips(r, pr, acts, n_ranges);
}

static void run_matmul(const exo_run *r, const exo_op_matmul *m) {
    const exo_plan *p = r->p;
    product pr = {.in = p->slots[m->in],
                  .ld_in = p->slot_ld[m->in],
                  .n = p->args->n_rows,
                  .norm = exo_run_vector(m->norm),
                  .eps = m->norm_eps,
                  .n_parts = m->n_parts,
                  .w = m->w,
                  .epilogue = m->epilogue};
    for (uint32_t i = 0; i < m->n_parts; i++) {
        pr.bias[i] = exo_run_vector(m->bias[i]);
        if (i == 1 && exo_epilogue_gated(m->epilogue)) continue;
        pr.out[i] = p->slots[m->out[i]];
        pr.ld_out[i] = p->slot_ld[m->out[i]];
    }
    run_product(r, &pr);
}

static void run_head(const exo_run *r, const exo_op_head *h) {
    const exo_plan *p = r->p;
    product pr = {.in = p->slots[h->in],
                  .ld_in = p->slot_ld[h->in],
                  .rows = p->bounds.logit_rows,
                  .n = p->bounds.n_logit_rows,
                  .norm = exo_run_vector(h->norm),
                  .eps = h->norm_eps,
                  .n_parts = 1,
                  .w = &h->w,
                  .out = {p->args->logits},
                  .ld_out = {p->bounds.n_vocab},
                  .bias = {exo_run_vector(h->bias)},
                  .epilogue = EXO_EPILOGUE_STORE,
                  .scale = h->scale,
                  .softcap = h->softcap};
    run_product(r, &pr);
}

/* ---- the other operations ---- */

static void run_embed(const exo_run *r, const exo_op_embed *e) {
    const exo_plan *p = r->p;
    uint32_t from, to;
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        float *out = p->slots[e->out] + (size_t)i * p->slot_ld[e->out];
        uint32_t n = e->table->n_cols;
        const float *bias = exo_run_vector(e->bias);
        exo_ref_embed(e->table, (uint32_t)p->args->rows[i].token, out);
        for (uint32_t k = 0; e->scale != 0 && k < n; k++) out[k] *= e->scale;
        if (e->positions != NULL) {
            exo_ref_embed(e->positions, p->args->rows[i].pos, r->scratch->row);
            for (uint32_t k = 0; k < n; k++) out[k] += r->scratch->row[k];
        }
        for (uint32_t k = 0; bias != NULL && k < n; k++) out[k] += bias[k];
    }
}

static void run_norm(const exo_run *r, const exo_op_norm *o) {
    const exo_plan *p = r->p;
    uint32_t n = p->slot_width[o->in], from, to;
    const exo_norm_weights w = {exo_run_vector(o->weight), exo_run_vector(o->bias), o->eps};
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        const float *x = p->slots[o->in] + (size_t)i * p->slot_ld[o->in];
        float *out = p->slots[o->out] + (size_t)i * p->slot_ld[o->out], *y = r->scratch->row;
        bool ok = true;
        if (o->norm == EXO_NORM_RMS) ok = r->kernels->norm(y, x, w.weight, n, o->eps);
        if (o->norm == EXO_NORM_LAYER) ok = r->kernels->layer_norm(y, x, &w, n);
        if (o->norm == EXO_NORM_NONE) memcpy(y, x, n * sizeof *y);
        if (!ok) exo_run_not_finite(r);
        for (uint32_t k = 0; o->scale != 0 && k < n; k++) y[k] *= o->scale;
        for (uint32_t k = 0; k < n; k++) out[k] = o->add ? out[k] + y[k] : y[k];
    }
}

static void run_copy(const exo_run *r, const exo_op_copy *o) {
    const exo_plan *p = r->p;
    uint32_t from, to;
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        const float *in = p->slots[o->in] + (size_t)i * p->slot_ld[o->in] + o->in_offset;
        float *out = p->slots[o->out] + (size_t)i * p->slot_ld[o->out] + o->out_offset;
        for (uint32_t k = 0; k < o->n; k++) {
            memcpy(out + (size_t)k * o->out_stride, in + (size_t)k * o->in_stride,
                   o->width * sizeof *out);
        }
    }
}

/* Query heads and key of one kv head of row i. */
static void rope_group(const exo_run *r, const exo_op_rope_kv *o, const exo_kv_pool *pool,
                       uint32_t i, uint32_t kv_head) {
    const exo_plan *p = r->p;
    const exo_rope_table *table = &p->rope[p->op_rope[r->op]];
    const float *cos = table->cos + (size_t)i * (table->dims / 2);
    const float *sin = table->sin + (size_t)i * (table->dims / 2);
    uint32_t group = o->n_heads / o->n_kv_heads, hd = o->head_dim;
    float *q = p->slots[o->q] + (size_t)i * p->slot_ld[o->q] + (size_t)kv_head * group * hd;
    float *k = p->slots[o->k] + (size_t)i * p->slot_ld[o->k] + (size_t)kv_head * hd;
    const float *v = p->slots[o->v] + (size_t)i * p->slot_ld[o->v] + (size_t)kv_head * pool->v_dim;
    const float *q_norm = exo_run_vector(o->q_norm), *k_norm = exo_run_vector(o->k_norm);
    for (uint32_t h = 0; h < group; h++) {
        float *head = q + (size_t)h * hd;
        if (q_norm != NULL && !r->kernels->norm(head, head, q_norm, hd, o->norm_eps)) {
            exo_run_not_finite(r);
        }
        r->kernels->rope(head + o->rope_offset, cos, sin, o->rope_dims, o->rope_neox);
    }
    if (k_norm != NULL && !r->kernels->norm(k, k, k_norm, hd, o->norm_eps)) exo_run_not_finite(r);
    r->kernels->rope(k + o->rope_offset, cos, sin, o->rope_dims, o->rope_neox);
    const exo_row *row = &p->args->rows[i];
    uint32_t page =
        p->args
            ->block_table[(size_t)row->seq * p->desc.max_seq_pages + row->pos / EXO_KV_PAGE_TOKENS];
    if (!exo_ref_kv_store(pool, page, row->pos % EXO_KV_PAGE_TOKENS, kv_head, k, v)) {
        exo_run_not_finite(r);
    }
}

/* Split by kv heads first: a head's keys of neighbouring positions share cache lines. */
static void run_rope_kv(const exo_run *r, const exo_op_rope_kv *o) {
    uint32_t v_dim = o->v_dim != 0 ? o->v_dim : o->head_dim;
    exo_kv_pool pool = {.k_pages = o->k_pages->data,
                        .v_pages = o->v_pages->data,
                        .k_page_bytes = exo_kv_page_bytes(o->kv_type, o->n_kv_heads, o->head_dim),
                        .v_page_bytes = exo_kv_page_bytes(o->kv_type, o->n_kv_heads, v_dim),
                        .head_dim = o->head_dim,
                        .v_dim = v_dim,
                        .kv_type = o->kv_type};
    uint32_t n_rows = r->p->args->n_rows, from, to;
    exo_run_share(r, n_rows * o->n_kv_heads, &from, &to);
    for (uint32_t i = from; i < to; i++) rope_group(r, o, &pool, i % n_rows, i / n_rows);
}

static void run_round(const exo_run *r, uint32_t slot) {
    const exo_plan *p = r->p;
    uint32_t from, to;
    exo_run_share(r, p->args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        r->kernels->round_f16(p->slots[slot] + (size_t)i * p->slot_ld[slot], p->slot_width[slot]);
    }
}

static void run_op(const exo_run *r, const exo_op *op) {
    switch (op->kind) {
    case EXO_OP_EMBED: run_embed(r, &op->u.embed); break;
    case EXO_OP_MATMUL: run_matmul(r, &op->u.matmul); break;
    case EXO_OP_ROPE_KV: run_rope_kv(r, &op->u.rope_kv); break;
    case EXO_OP_ATTENTION: exo_run_attention(r, &op->u.attention); break;
    case EXO_OP_HEAD: run_head(r, &op->u.head); break;
    case EXO_OP_ROUND_F16: run_round(r, op->u.round_slot); break;
    case EXO_OP_NORM: run_norm(r, &op->u.norm); break;
    case EXO_OP_COPY: run_copy(r, &op->u.copy); break;
    case EXO_OP_ROUTE: exo_run_route(r, &op->u.route); break;
    case EXO_OP_EXPERTS: exo_run_experts(r, &op->u.experts); break;
    case EXO_OP_MIX: exo_run_mix(r, &op->u.mix); break;
    }
}

/* ---- the step ---- */

static void fill_rope(const exo_rope_table *table, uint32_t i, uint32_t pos) {
    uint32_t half = table->dims / 2;
    for (uint32_t k = 0; k < half; k++) {
        double sin_x, cos_x;
        exo_dsincos((double)pos * table->inv_freq[k], &sin_x, &cos_x);
        table->cos[(size_t)i * half + k] = (float)(cos_x * (double)table->scale);
        table->sin[(size_t)i * half + k] = (float)(sin_x * (double)table->scale);
    }
}

/* Input rows and rotary angles: once per step, for all layers. */
static void begin_step(const exo_run *r) {
    const exo_plan *p = r->p;
    const exo_plan_args *args = p->args;
    size_t width = p->slot_width[0];
    uint32_t from, to;
    exo_run_share(r, args->n_rows, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        if (args->x_in != NULL) {
            memcpy(p->slots[0] + (size_t)i * p->slot_ld[0], args->x_in + i * width,
                   width * sizeof(float));
        }
        for (uint32_t k = 0; k < p->n_rope; k++) fill_rope(&p->rope[k], i, p->pos[i]);
    }
    exo_pool_barrier(p->device->pool);
}

/* Thread 0, before it arrives at the barrier behind operation i. */
static void decide(exo_plan *p, uint32_t i) {
    const atomic_bool *cancel = p->args->cancel;
    if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed)) {
        atomic_store(&p->canceled, true);
        atomic_store(&p->stop_at, i);
    }
    if (atomic_load_explicit(&p->not_finite, memory_order_relaxed)) atomic_store(&p->stop_at, i);
}

static void thread_main(void *ud, uint32_t thread) {
    exo_plan *p = ud;
    const exo_pool *pool = p->device->pool;
    exo_run r = {.p = p,
                 .kernels = p->device->kernels,
                 .scratch = &p->threads[thread],
                 .thread = thread,
                 .n_threads = exo_pool_running(pool),
                 .node = exo_pool_node_now(pool)};
    begin_step(&r);
    for (; r.op < p->desc.n_ops; r.op++) {
        run_op(&r, &p->ops[r.op]);
        if (thread == 0) decide(p, (uint32_t)r.op);
        exo_pool_barrier(p->device->pool);
        if (atomic_load(&p->stop_at) <= r.op) return;
    }
}

/* Consecutive rows of one sequence attend together. */
static void find_blocks(exo_plan *p, const exo_plan_args *args) {
    p->n_blocks = 0;
    for (uint32_t i = 0; i < args->n_rows; i++) {
        p->pos[i] = args->rows[i].pos;
        exo_row_block *b = p->n_blocks > 0 ? &p->blocks[p->n_blocks - 1] : NULL;
        if (b != NULL && args->rows[i - 1].seq == args->rows[i].seq && b->n < EXO_ATTENTION_ROWS) {
            b->n++;
        } else {
            p->blocks[p->n_blocks++] = (exo_row_block){i, 1};
        }
    }
}

/* Rows of one sequence stand in ascending order, so the last one seen has its end. */
static void find_ends(exo_plan *p, const exo_plan_args *args) {
    for (uint32_t i = 0; i < args->n_rows; i++) {
        p->pos_end[i] = p->bounds.last_pos[args->rows[i].seq] - 1;
    }
}

exo_status exo_cpu_plan_run(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    exo_status st = exo_plan_check_step(&p->bounds, args, err);
    if (st != EXO_OK) return st;
    find_blocks(p, args);
    find_ends(p, args);
    p->args = args;
    atomic_store(&p->stop_at, UINT32_MAX);
    atomic_store(&p->not_finite, false);
    atomic_store(&p->canceled, false);
    size_t n_counters = p->desc.n_ops * exo_pool_split(p->device->pool)->n;
    for (size_t i = 0; i < n_counters; i++) atomic_store(&p->taken[i], 0);
    if (args->n_rows < WIDE_ROWS) {
        exo_pool_run_some(p->device->pool, thread_main, p, args->n_rows);
    } else { /* strips are handed out one by one: a slow thread holds nobody up */
        exo_pool_run(p->device->pool, thread_main, p);
    }
    p->args = NULL;
    if (atomic_load(&p->canceled))
        return exo_error_set(err, EXO_ECANCELED, "the step was canceled");
    if (atomic_load(&p->not_finite)) {
        return exo_error_set(err, EXO_EINTERNAL, "activation is not finite");
    }
    if (args->x_out == NULL) return EXO_OK;
    size_t width = p->slot_width[0];
    for (uint32_t i = 0; i < args->n_rows; i++) {
        memcpy(args->x_out + i * width, p->slots[0] + (size_t)i * p->slot_ld[0],
               width * sizeof(float));
    }
    return EXO_OK;
}
