/* plan.c - makes a plan: copies its operations and lays all scratch out in one block.
 *
 * The block is laid out by a function that runs twice, first without memory to learn the size,
 * then with it, so that size and layout cannot disagree. */
#include "compute/cpu/plan.h"

#include "compute/cpu/reference.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define ALIGNMENT     64
#define MIN_STRIP     8192u /* floats: a step of one row streams 512 groups without a stop */
#define STRIP_ROWS    32u   /* weight rows of a strip at max_rows rows */
#define ROW_PAD_BYTES 64u   /* int8 rows of K + 64: columns of a tile fall into different sets */
#define FLOAT_ROW_PAD 16u

/* What the operations need, gathered before the layout. */
typedef struct {
    size_t norm_x;    /* K of the widest normed input that is multiplied as f32 */
    size_t k;         /* the widest input */
    size_t k_form[2]; /* of the widest Q32 and Q256 input */
    uint32_t v_dim;
    bool attention;
    size_t parts;                           /* floats of all heads' parts of one split */
    uint32_t n_scores;                      /* most of a ROUTE */
    uint32_t n_experts;                     /* most of an EXPERTS */
    size_t pairs;                           /* most per row */
    size_t chosen_x, chosen_q, chosen_d[2]; /* most elements per row, over an EXPERTS's pairs */
} needs;

typedef struct {
    uint8_t *base; /* NULL in the first pass */
    size_t used;
} carver;

static void *carve(carver *c, size_t count, size_t size) {
    size_t at = c->used;
    c->used = (at + count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return c->base == NULL ? NULL : c->base + at;
}

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

static void need_product(needs *n, const exo_weight *w, bool norm) {
    exo_act_form form = exo_act_form_of(w->type);
    n->k = max_size(n->k, w->n_cols);
    if (form == EXO_ACT_F32) {
        if (norm) n->norm_x = max_size(n->norm_x, w->n_cols);
    } else {
        n->k_form[form - 1] = max_size(n->k_form[form - 1], w->n_cols);
    }
}

exo_act_strides exo_act_strides_for(size_t k) {
    return (exo_act_strides){
        .x = (k + 15) / 16 * 16 + FLOAT_ROW_PAD,
        .q = (k + ROW_PAD_BYTES - 1) / ROW_PAD_BYTES * ROW_PAD_BYTES + ROW_PAD_BYTES,
        .d = {k / 32, k / 256},
    };
}

static void need_experts(needs *n, const exo_op_experts *e) {
    n->n_experts = n->n_experts > e->n_experts ? n->n_experts : e->n_experts;
    n->pairs = max_size(n->pairs, e->n_used);
    for (uint32_t i = 0; i < e->n_parts; i++) {
        exo_act_strides ld = exo_act_strides_for(e->w[i]->n_cols);
        exo_act_form form = exo_act_form_of(e->w[i]->type);
        n->k = max_size(n->k, e->w[i]->n_cols);
        if (form == EXO_ACT_F32) {
            n->chosen_x = max_size(n->chosen_x, e->n_used * ld.x);
        } else {
            n->chosen_q = max_size(n->chosen_q, e->n_used * ld.q);
            n->chosen_d[form - 1] = max_size(n->chosen_d[form - 1], e->n_used * ld.d[form - 1]);
        }
    }
}

static needs gather(const exo_plan_desc *desc) {
    needs n = {0};
    for (size_t i = 0; i < desc->n_ops; i++) {
        const exo_op *op = &desc->ops[i];
        if (op->kind == EXO_OP_MATMUL) {
            const exo_op_matmul *m = &op->u.matmul;
            for (uint32_t k = 0; k < m->n_parts; k++) need_product(&n, m->w[k], m->norm != NULL);
        } else if (op->kind == EXO_OP_HEAD) {
            need_product(&n, op->u.head.w, true);
        } else if (op->kind == EXO_OP_EXPERTS) {
            need_experts(&n, &op->u.experts);
        } else if (op->kind == EXO_OP_ROUTE) {
            n.n_scores = (uint32_t)max_size(n.n_scores, op->u.route.n_experts);
        } else if (op->kind == EXO_OP_NORM) {
            n.k = max_size(n.k, desc->slot_width[op->u.norm.in]);
        } else if (op->kind == EXO_OP_EMBED) {
            n.k = max_size(n.k, desc->slot_width[op->u.embed.out]);
        } else if (op->kind == EXO_OP_ATTENTION) {
            n.attention = true;
            const exo_op_attention *a = &op->u.attention;
            uint32_t v_dim = a->v_dim != 0 ? a->v_dim : a->head_dim;
            if (v_dim > n.v_dim) n.v_dim = v_dim;
            n.parts = max_size(n.parts, a->n_heads * exo_attention_part(v_dim));
        }
    }
    return n;
}

static void carve_act(carver *c, const exo_plan *p, const needs *n, uint32_t rows,
                      exo_act_space *a) {
    if (n->norm_x > 0) a->x = carve(c, rows * p->ld.x, sizeof(float));
    for (int f = 0; f < 2; f++) {
        if (n->k_form[f] == 0) continue;
        a->q[f] = carve(c, rows * p->ld.q, 1);
        a->d[f] = carve(c, rows * p->ld.d[f], sizeof(float));
    }
    if (n->k_form[0] > 0) a->sum32 = carve(c, rows * p->ld.d[0], sizeof(int32_t));
    if (n->k_form[1] > 0) {
        a->sums = carve(c, rows * p->ld.d[1] * EXO_Q256_SUMS, sizeof(int16_t));
    }
}

static void carve_chosen(carver *c, exo_plan *p, const needs *n) {
    size_t rows = p->desc.max_rows;
    if (n->pairs == 0) return;
    p->pairs = carve(c, rows * n->pairs, sizeof *p->pairs);
    p->expert_at = carve(c, n->n_experts + 1u, sizeof *p->expert_at);
    if (n->chosen_x > 0) p->chosen.x = carve(c, rows * n->chosen_x, sizeof(float));
    for (int f = 0; f < 2; f++) {
        if (n->chosen_d[f] == 0) continue;
        p->chosen.q[f] = carve(c, rows * n->chosen_q, 1);
        p->chosen.d[f] = carve(c, rows * n->chosen_d[f], sizeof(float));
    }
    p->chosen.sum32 = carve(c, rows * n->chosen_d[0], sizeof(int32_t));
    p->chosen.sums = carve(c, rows * n->chosen_d[1] * EXO_Q256_SUMS, sizeof(int16_t));
}

/* Parts for one row at the end of the longest context, or as many of shorter ones. */
static void carve_parts(carver *c, exo_plan *p, const needs *n) {
    if (!n->attention || exo_pool_threads(p->device->pool) == 1) return;
    size_t tokens = (size_t)p->desc.max_seq_pages * EXO_KV_PAGE_TOKENS;
    p->parts_floats = n->parts * ((tokens + EXO_ATTN_SPLIT_TOKENS - 1) / EXO_ATTN_SPLIT_TOKENS);
    p->parts = carve(c, p->parts_floats, sizeof *p->parts);
}

static void lay_out(carver *c, exo_plan *p, const needs *n) {
    const exo_plan_desc *d = &p->desc;
    uint32_t n_threads = exo_pool_threads(p->device->pool);
    p->ops = carve(c, d->n_ops, sizeof *p->ops);
    p->op_rope = carve(c, d->n_ops, sizeof *p->op_rope);
    p->taken = carve(c, d->n_ops * exo_pool_split(p->device->pool)->n, sizeof *p->taken);
    p->rope = carve(c, d->n_ops, sizeof *p->rope);
    p->slot_width = carve(c, d->n_slots, sizeof *p->slot_width);
    p->slot_ld = carve(c, d->n_slots, sizeof *p->slot_ld);
    p->slots = carve(c, d->n_slots, sizeof *p->slots);
    p->pos = carve(c, d->max_rows, sizeof *p->pos);
    p->pos_end = carve(c, d->max_rows, sizeof *p->pos_end);
    p->bounds.logit_rows = carve(c, d->max_rows, sizeof *p->bounds.logit_rows);
    p->blocks = carve(c, d->max_rows, sizeof *p->blocks);
    p->bounds.last_pos = carve(c, d->max_seqs, sizeof *p->bounds.last_pos);
    p->threads = carve(c, n_threads, sizeof *p->threads);
    for (uint32_t i = 0; i < d->n_slots; i++) {
        size_t ld = (d->slot_width[i] + 15u) / 16 * 16 + FLOAT_ROW_PAD;
        float *slot = carve(c, d->max_rows * ld, sizeof *slot);
        if (c->base == NULL) continue;
        p->slot_ld[i] = (uint32_t)ld;
        p->slots[i] = slot;
    }
    carve_act(c, p, n, d->max_rows, &p->act);
    carve_chosen(c, p, n);
    carve_parts(c, p, n);
    for (uint32_t t = 0; t < n_threads; t++) {
        exo_thread_scratch s = {0};
        for (int i = 0; i < 2; i++) s.strip[i] = carve(c, p->strip_floats, sizeof(float));
        s.row = carve(c, n->k + 16, sizeof(float));
        if (n->attention) s.attention = carve(c, exo_attention_scratch(n->v_dim), sizeof(float));
        s.route = carve(c, EXO_ROUTE_SCRATCH(n->n_scores), sizeof(float));
        if (n_threads > 1) carve_act(c, p, n, 1, &s.own);
        if (c->base != NULL) p->threads[t] = s;
    }
}

static void lay_out_rope(carver *c, exo_plan *p) {
    for (uint32_t i = 0; i < p->n_rope; i++) {
        size_t n = (size_t)p->desc.max_rows * (p->rope[i].dims / 2);
        p->rope[i].cos = carve(c, n, sizeof(float));
        p->rope[i].sin = carve(c, n, sizeof(float));
    }
}

/* Operations with the same frequencies share one table. */
static uint32_t find_rope(exo_rope_table *tables, uint32_t *n, const exo_op_rope_kv *r) {
    for (uint32_t i = 0; i < *n; i++) {
        if (tables[i].inv_freq == r->rope_inv_freq && tables[i].dims == r->rope_dims &&
            tables[i].scale == r->rope_scale) {
            return i;
        }
    }
    tables[*n] = (exo_rope_table){r->rope_inv_freq, r->rope_dims, r->rope_scale, NULL, NULL};
    return (*n)++;
}

static exo_weight_shape shape_of(const exo_weight *w) {
    return (exo_weight_shape){w->n_rows, w->n_cols};
}

static size_t bytes_of(const exo_buffer *b) { return b->bytes; }

static const exo_plan_objects objects = {shape_of, bytes_of};

static void set_strides(exo_plan *p, const needs *n) {
    size_t strip = (size_t)p->desc.max_rows * STRIP_ROWS;
    p->strip_floats = max_size(strip, MIN_STRIP);
    p->ld = exo_act_strides_for(max_size(n->k_form[0], n->k_form[1]));
    p->ld.x = exo_act_strides_for(n->norm_x).x;
    for (int f = 0; f < 2; f++) p->ld.d[f] = n->k_form[f] / (f == 0 ? 32 : 256);
}

/* The rope tables' sizes are known only after the operations have been read once. */
static size_t measure(exo_plan *p, const needs *n) {
    carver c = {NULL, 0};
    lay_out(&c, p, n);
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op *op = &p->desc.ops[i];
        if (op->kind != EXO_OP_ROPE_KV) continue;
        carve(&c, (size_t)p->desc.max_rows * op->u.rope_kv.rope_dims / 2, sizeof(float));
        carve(&c, (size_t)p->desc.max_rows * op->u.rope_kv.rope_dims / 2, sizeof(float));
    }
    return c.used;
}

exo_status exo_cpu_plan_create(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                               exo_error *err) {
    *out = NULL;
    exo_status st = exo_plan_check(desc, &objects, err);
    if (st != EXO_OK) return st;
    exo_plan *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    p->device = d;
    p->desc = *desc;
    needs n = gather(desc);
    set_strides(p, &n);
    p->memory_bytes = measure(p, &n);
    p->memory = exo_pages_alloc(p->memory_bytes);
    if (p->memory == NULL) {
        size_t bytes = p->memory_bytes;
        exo_free(p);
        return exo_error_set(err, EXO_ENOMEM, "no memory for a plan of %zu bytes", bytes);
    }
    carver c = {p->memory, 0};
    lay_out(&c, p, &n);
    memcpy(p->ops, desc->ops, desc->n_ops * sizeof *p->ops);
    memcpy(p->slot_width, desc->slot_width, desc->n_slots * sizeof *p->slot_width);
    p->desc.ops = p->ops;
    p->desc.slot_width = p->slot_width;
    for (size_t i = 0; i < desc->n_ops; i++) {
        if (p->ops[i].kind != EXO_OP_ROPE_KV) continue;
        p->op_rope[i] = find_rope(p->rope, &p->n_rope, &p->ops[i].u.rope_kv);
    }
    lay_out_rope(&c, p);
    p->bounds.desc = &p->desc;
    exo_plan_bounds_find(&p->bounds, &objects);
    *out = p;
    return EXO_OK;
}

void exo_cpu_plan_destroy(exo_plan *p) {
    if (p == NULL) return;
    for (uint32_t i = 0; i < exo_pool_threads(p->device->pool); i++) {
        exo_debug("CPU: thread %u computed %" PRIu64 " items of products", i,
                  p->threads[i].n_items);
    }
    exo_pages_free(p->memory, p->memory_bytes);
    exo_free(p);
}
