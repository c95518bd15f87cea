/* plan_ops.c - the dispatches of each operation: kernels, bindings and push constants.
 *
 * The structures named push_* are the push constants of the kernel of that name. */
#include "compute/vulkan/plan_head.h"

#include <string.h>

#define READ  EXO_VK_USE_SHADER_READ
#define WRITE EXO_VK_USE_SHADER_WRITE

exo_vk_dispatch exo_vk_new_dispatch(const exo_vk_recorder *r, exo_vk_kernel kernel) {
    exo_vk_dispatch d = {.kernel = kernel, .groups = {1, 1, 1}, .grid = EXO_VK_NO_GRID};
    const exo_vk_allocation *step = r->p->step;
    d.range[BIND_STEP - 1] =
        (exo_vk_range){step->buffer, step->offset, step->offset + step->size, 0};
    return d;
}

void exo_vk_bind(exo_vk_dispatch *d, int binding, const exo_vk_allocation *a, VkDeviceSize offset,
                 VkDeviceSize bytes, uint32_t use) {
    d->range[binding - 1] =
        (exo_vk_range){a->buffer, a->offset + offset, a->offset + offset + bytes, use};
}

static void bind_area(const exo_vk_recorder *r, exo_vk_dispatch *d, int binding,
                      const exo_vk_area *a, uint32_t use) {
    exo_vk_bind(d, binding, r->p->acts, a->offset, a->bytes, use);
}

/* Memory that plans only read; NULL leaves the binding open. */
static void bind_vector(exo_vk_dispatch *d, int binding, const exo_buffer *b) {
    if (b != NULL) exo_vk_bind(d, binding, b->memory, 0, b->memory->size, 0);
}

/* The span of some areas of the activations. */
typedef struct {
    VkDeviceSize begin, end;
} span;

static void span_add(span *s, const exo_vk_area *a) {
    if (a->bytes == 0) return;
    if (s->end == 0 || a->offset < s->begin) s->begin = a->offset;
    if (a->offset + a->bytes > s->end) s->end = a->offset + a->bytes;
}

static uint32_t floats_from(const span *s, const exo_vk_area *a) {
    return (uint32_t)((a->offset - s->begin) / sizeof(float));
}

static void set_push(exo_vk_dispatch *d, const void *push, size_t bytes) {
    memcpy(d->push, push, bytes);
    d->push_bytes = (uint32_t)bytes;
}

static uint32_t divide_up(uint32_t n, uint32_t by) { return (n + by - 1) / by; }

/* ---- norms: who multiplies by the norm's weight ---- */

static const exo_buffer *norm_of(const exo_op *op, uint32_t slot) {
    if (op->kind == EXO_OP_MATMUL && op->u.matmul.in == slot) return op->u.matmul.norm;
    return op->kind == EXO_OP_HEAD && op->u.head.in == slot ? op->u.head.norm : NULL;
}

static bool writes(const exo_op *op, uint32_t slot) {
    switch (op->kind) {
    case EXO_OP_EMBED: return op->u.embed.out == slot;
    case EXO_OP_MATMUL: {
        const exo_op_matmul *m = &op->u.matmul;
        uint32_t n = m->epilogue == EXO_EPILOGUE_SILU_MUL ? 1 : m->n_parts;
        for (uint32_t i = 0; i < n; i++) {
            if (m->out[i] == slot) return true;
        }
        return false;
    }
    case EXO_OP_ROPE_KV:
        return op->u.rope_kv.q == slot || op->u.rope_kv.k == slot || op->u.rope_kv.v == slot;
    case EXO_OP_ATTENTION: return op->u.attention.out == slot;
    case EXO_OP_HEAD: return false;
    case EXO_OP_ROUND_F16: return op->u.round_slot == slot;
    default: return false; /* refused when the plan was checked */
    }
}

/* The first norm that reads what operation i writes to slot, or NULL. */
static const exo_buffer *next_norm(const exo_plan *p, size_t i, uint32_t slot) {
    for (size_t k = i + 1; k < p->desc.n_ops; k++) {
        const exo_buffer *norm = norm_of(&p->ops[k], slot);
        if (norm != NULL) return norm;
        if (writes(&p->ops[k], slot)) return NULL;
    }
    return NULL;
}

/* Operation i has rewritten slot; its twin holds `norm` times it (NULL: nothing). */
static void slot_written(exo_vk_recorder *r, uint32_t slot, const exo_buffer *norm) {
    r->held[slot] = norm;
}

/* ---- single elements ---- */

typedef struct {
    uint32_t n, x_at, x_ld, up_at, up_ld, out_at, out_ld, has_next, next_at, next_ld;
} push_elementwise;

enum { MODE_ROUND, MODE_SCALE, MODE_SILU };

static exo_status record_elementwise(exo_vk_recorder *r, uint32_t mode, const span *s,
                                     const push_elementwise *push, const exo_buffer *norm,
                                     exo_error *err) {
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_elementwise);
    d.spec[d.n_specs++] = mode;
    exo_vk_bind(&d, BIND_OUT, r->p->acts, s->begin, s->end - s->begin, READ | WRITE);
    bind_vector(&d, BIND_NEXT_NORM, norm);
    set_push(&d, push, sizeof *push);
    d.groups[0] = divide_up(push->n, r->p->device->shaders.shape.lanes);
    d.groups[1] = r->rows;
    return exo_vk_emit_dispatch(r, &d, err);
}

/* Rounds a slot, or only renews its twin. */
static exo_status record_slot(exo_vk_recorder *r, uint32_t mode, uint32_t slot,
                              const exo_buffer *norm, exo_error *err) {
    const exo_vk_slot *x = &r->p->slots[slot];
    span s = {0};
    span_add(&s, &x->x);
    push_elementwise push = {.n = r->p->slot_width[slot], .x_ld = x->x.ld};
    if (norm != NULL) {
        span_add(&s, &x->scaled);
        push.has_next = 1;
        push.next_at = floats_from(&s, &x->scaled);
        push.next_ld = x->scaled.ld;
    }
    slot_written(r, slot, norm);
    return record_elementwise(r, mode, &s, &push, norm, err);
}

static exo_status record_silu(exo_vk_recorder *r, uint32_t slot, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_vk_area *out = &p->slots[slot].x;
    span s = {0};
    span_add(&s, &p->gate);
    span_add(&s, &p->up);
    span_add(&s, out);
    push_elementwise push = {.n = p->slot_width[slot],
                             .x_at = floats_from(&s, &p->gate),
                             .x_ld = p->gate.ld,
                             .up_at = floats_from(&s, &p->up),
                             .up_ld = p->up.ld,
                             .out_at = floats_from(&s, out),
                             .out_ld = out->ld};
    slot_written(r, slot, NULL);
    return record_elementwise(r, MODE_SILU, &s, &push, NULL, err);
}

/* ---- embedding ---- */

typedef struct {
    uint32_t base, n_rows, row0, n_units, n_cols, out_ld, has_next, next_at, next_ld, rows_at;
} push_embed;

static exo_status record_embed(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_op_embed *e = &p->ops[i].u.embed;
    const exo_weight *w = e->table;
    const exo_vk_slot *out = &p->slots[e->out];
    const exo_buffer *norm = next_norm(p, i, e->out);
    span s = {0};
    span_add(&s, &out->x);
    if (norm != NULL) span_add(&s, &out->scaled);
    exo_status st = EXO_OK;
    for (uint32_t k = 0; st == EXO_OK && k < w->n_slabs; k++) {
        const exo_vk_slab *slab = &w->slabs[k];
        exo_vk_dispatch d = exo_vk_new_dispatch(
            r, (exo_vk_kernel)(EXO_VK_KERNEL_embed_f32 + exo_vk_weight_type(w->type)));
        for (int b = BIND_W16; b <= BIND_W4; b++) {
            exo_vk_bind(&d, b, slab->memory, 0, slab->memory->size, 0);
        }
        exo_vk_bind(&d, BIND_OUT, p->acts, s.begin, s.end - s.begin, WRITE);
        bind_vector(&d, BIND_NEXT_NORM, norm);
        push_embed push = {.n_rows = slab->n_rows,
                           .row0 = slab->row0,
                           .n_units = w->n_units,
                           .n_cols = w->n_cols,
                           .out_ld = out->x.ld,
                           .rows_at = p->rows_at};
        if (norm != NULL) {
            push.has_next = 1;
            push.next_at = floats_from(&s, &out->scaled);
            push.next_ld = out->scaled.ld;
        }
        set_push(&d, &push, sizeof push);
        d.groups[0] = divide_up(w->n_units, p->device->shaders.shape.lanes);
        d.groups[1] = r->rows;
        st = exo_vk_emit_dispatch(r, &d, err);
    }
    slot_written(r, e->out, norm);
    return st;
}

/* ---- products ---- */

#define MAX_RUNS 3 /* runs of weight rows in one dispatch */

typedef struct {
    uint32_t base, n_rows, row0, first, out_at, out_ld;
} push_part;

typedef struct {
    uint32_t n_units, in_ld4, norm_ld4;
    float norm_n, norm_eps;
    uint32_t flags, next_at, next_ld, gather_at;
    push_part part[MAX_RUNS];
} push_matmul;

enum {
    FLAG_NORM = 1,
    FLAG_FACTOR = 2,
    FLAG_ADD = 4,
    FLAG_NEXT = 8,
    FLAG_GATHER = 16,
    FLAG_BIAS = 32, /* << run */
};

/* MATMUL and HEAD in one form. */
typedef struct {
    uint32_t in; /* slot */
    const exo_buffer *norm;
    float norm_eps;
    uint32_t n_parts;
    const exo_weight *w[EXO_MATMUL_PARTS];
    const exo_buffer *bias[EXO_MATMUL_PARTS];
    const exo_vk_area *out[EXO_MATMUL_PARTS]; /* of the activations; HEAD: NULL */
    const exo_vk_area *next_area;             /* twin of the output slot */
    const exo_buffer *next;                   /* its norm, or NULL */
    bool add, pair;
} product;

/* Rows of one slab of one part. */
typedef struct {
    uint32_t part;
    const exo_vk_slab *slab;
} run;

typedef struct {
    run runs[MAX_RUNS];
    uint32_t n;
} run_group;

/* Do these rows of prompts go through the type's dot kernel?  The head's rows never do. */
static bool takes_dot(const exo_vk_recorder *r, const product *pr, exo_dtype type) {
    return r->prompt && pr->out[0] != NULL && r->p->device->shaders.dot[type];
}

static bool fits_group(const exo_vk_recorder *r, const product *pr, const run_group *g,
                       const run *next) {
    const exo_device *dev = r->p->device;
    if (g->n == 0) return true;
    if (g->n == MAX_RUNS || pr->w[g->runs[0].part]->type != pr->w[next->part]->type) return false;
    const exo_vk_allocation *a = next->slab->memory;
    VkDeviceSize begin = a->offset, end = a->offset + a->size;
    uint64_t groups = next->slab->n_groups;
    for (uint32_t i = 0; i < g->n; i++) {
        const exo_vk_allocation *b = g->runs[i].slab->memory;
        if (b->buffer != a->buffer) return false;
        if (b->offset < begin) begin = b->offset;
        if (b->offset + b->size > end) end = b->offset + b->size;
        groups += g->runs[i].slab->n_groups;
    }
    return end - begin <= dev->vk->caps.max_storage_range &&
           groups <= dev->vk->caps.max_workgroup_count[0];
}

/* Binds the group's slabs as one range and fills the parts. */
static void bind_runs(const exo_vk_recorder *r, const product *pr, const run_group *g,
                      const span *out, exo_vk_dispatch *d, push_matmul *push) {
    const exo_vk_allocation *first = g->runs[0].slab->memory;
    VkDeviceSize begin = first->offset, end = first->offset + first->size;
    for (uint32_t i = 1; i < g->n; i++) {
        const exo_vk_allocation *a = g->runs[i].slab->memory;
        if (a->offset < begin) begin = a->offset;
        if (a->offset + a->size > end) end = a->offset + a->size;
    }
    for (int b = BIND_W16; b <= BIND_W4; b++) {
        d->range[b - 1] = (exo_vk_range){first->buffer, begin, end, 0};
    }
    const exo_vk_shape *shape = &r->p->device->shaders.shape;
    bool dot = takes_dot(r, pr, pr->w[g->runs[0].part]->type);
    uint32_t row_lanes = dot ? shape->dot_row_lanes : shape->row_lanes, groups = 0;
    for (uint32_t i = 0; i < MAX_RUNS; i++) push->part[i].first = UINT32_MAX;
    for (uint32_t i = 0; i < g->n; i++) {
        const run *u = &g->runs[i];
        const exo_vk_area *area = pr->out[u->part];
        push->part[i] = (push_part){.base = (uint32_t)((u->slab->memory->offset - begin) / 16),
                                    .n_rows = u->slab->n_rows,
                                    .row0 = u->slab->row0,
                                    .first = groups};
        push->part[i].out_at = area == NULL ? 0 : floats_from(out, area);
        push->part[i].out_ld = area == NULL ? r->p->head.ld : area->ld;
        if (pr->bias[u->part] != NULL) {
            push->flags |= (uint32_t)FLAG_BIAS << i;
            bind_vector(d, BIND_BIAS + (int)i, pr->bias[u->part]);
        }
        if (!pr->pair || i == 0) groups += divide_up(u->slab->n_groups, row_lanes);
        d->cost += (uint64_t)r->rows * u->slab->n_rows * pr->w[u->part]->n_cols;
    }
    d->groups[0] = groups;
}

/* Of a dot kernel: what record_quantize() has left. */
static void bind_bytes(const exo_vk_recorder *r, const product *pr, exo_vk_dispatch *d,
                       push_matmul *push) {
    push->in_ld4 = exo_vk_dot_row_words(push->n_units) / 4;
    bind_area(r, d, BIND_NORM_IN, &r->p->bytes, READ);
    bind_area(r, d, BIND_IN, &r->p->factors, READ);
    if (pr->norm != NULL) push->flags |= FLAG_FACTOR;
}

static void bind_input(const exo_vk_recorder *r, const product *pr, bool factor, exo_vk_dispatch *d,
                       push_matmul *push) {
    const exo_vk_slot *in = &r->p->slots[pr->in];
    const exo_vk_area *x = pr->norm != NULL ? &in->scaled : &in->x;
    push->in_ld4 = x->ld / 4;
    bind_area(r, d, BIND_IN, x, READ);
    bind_area(r, d, BIND_NORM_IN, factor ? &r->p->factors : &in->x, READ);
    if (pr->norm == NULL) return;
    push->norm_ld4 = in->x.ld / 4;
    push->norm_n = (float)r->p->slot_width[pr->in];
    push->norm_eps = pr->norm_eps;
    push->flags |= factor ? FLAG_FACTOR : FLAG_NORM;
}

static void bind_output(const exo_vk_recorder *r, const product *pr, const span *out,
                        exo_vk_dispatch *d, push_matmul *push) {
    if (pr->out[0] == NULL) { /* logits */
        exo_vk_bind(d, BIND_OUT, r->p->head.logits, 0, r->p->head.logits_bytes, READ | WRITE);
        push->flags |= FLAG_GATHER;
        push->gather_at = r->p->logits_rows_at;
        return;
    }
    exo_vk_bind(d, BIND_OUT, r->p->acts, out->begin, out->end - out->begin, READ | WRITE);
    if (pr->add) push->flags |= FLAG_ADD;
    if (pr->next == NULL) return;
    push->flags |= FLAG_NEXT;
    push->next_at = floats_from(out, pr->next_area);
    push->next_ld = pr->next_area->ld;
    bind_vector(d, BIND_NEXT_NORM, pr->next);
}

typedef struct {
    uint32_t n_units, in_ld4, out_ld;
} push_quantize;

/* The product's input as int8 in the blocks of w's type, unless it is there already. */
static exo_status record_quantize(exo_vk_recorder *r, const product *pr, const exo_weight *w,
                                  exo_error *err) {
    uint32_t block_units = exo_vk_dot_block_units(w->type);
    if (r->bytes_block == block_units) return EXO_OK;
    r->bytes_block = block_units;
    const exo_vk_slot *in = &r->p->slots[pr->in];
    const exo_vk_area *x = pr->norm != NULL ? &in->scaled : &in->x;
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_quantize);
    d.spec[d.n_specs++] = block_units;
    bind_area(r, &d, BIND_IN, x, READ);
    bind_area(r, &d, BIND_OUT, &r->p->bytes, WRITE);
    push_quantize push = {w->n_units, x->ld / 4, exo_vk_dot_row_words(w->n_units)};
    set_push(&d, &push, sizeof push);
    d.groups[0] = divide_up(w->n_units, r->p->device->shaders.shape.lanes);
    d.groups[1] = r->rows;
    return exo_vk_emit_dispatch(r, &d, err);
}

static uint32_t power_below(uint32_t n) {
    uint32_t p = 1;
    while (p * 2 <= n) p *= 2;
    return p;
}

/* One dispatch; of the HEAD two, of which each step makes one empty. */
static exo_status record_runs(exo_vk_recorder *r, const product *pr, const run_group *g,
                              bool factor, exo_error *err) {
    const exo_vk_shape *shape = &r->p->device->shaders.shape;
    const exo_weight *w = pr->w[g->runs[0].part];
    bool head = pr->out[0] == NULL, dot = takes_dot(r, pr, w->type);
    uint32_t kernel = dot ? exo_vk_dot_kernel(w->type)
                          : (uint32_t)EXO_VK_KERNEL_matmul_f32 + exo_vk_weight_type(w->type);
    exo_vk_dispatch d = exo_vk_new_dispatch(r, (exo_vk_kernel)kernel);
    push_matmul push = {.n_units = w->n_units};
    span out = {0};
    for (uint32_t i = 0; i < g->n && !head; i++) span_add(&out, pr->out[g->runs[i].part]);
    if (pr->next != NULL) span_add(&out, pr->next_area);
    if (dot) {
        exo_status st = record_quantize(r, pr, w, err);
        if (st != EXO_OK) return st;
        bind_bytes(r, pr, &d, &push);
    } else {
        bind_input(r, pr, factor, &d, &push);
    }
    bind_output(r, pr, &out, &d, &push);
    bind_runs(r, pr, g, &out, &d, &push);
    set_push(&d, &push, sizeof push);

    uint32_t rows = r->rows, most = pr->pair ? shape->max_pair_cols : shape->max_cols;
    if (dot) most = pr->pair ? shape->dot_pair_cols : shape->dot_cols;
    if (head && r->p->desc.max_logit_rows < rows) rows = r->p->desc.max_logit_rows;
    uint32_t cols = power_below(rows < most ? rows : most);
    d.n_specs = 4;
    d.spec[3] = dot ? 1 : shape->split;
    d.spec[0] = dot ? shape->dot_row_lanes : shape->row_lanes;
    d.spec[1] = cols;
    d.spec[2] = pr->pair;
    d.groups[1] = divide_up(rows, cols);
    if (!head) return exo_vk_emit_dispatch(r, &d, err);
    exo_vk_grid grid = {EXO_VK_GRID_HEAD_FEW, d.groups[0], 1, most};
    exo_status st = exo_vk_emit_grid(r, &grid, &d.grid, err);
    d.spec[1] = 1;
    if (st == EXO_OK) st = exo_vk_emit_dispatch(r, &d, err);
    if (st != EXO_OK || cols == 1) return st;
    grid = (exo_vk_grid){EXO_VK_GRID_HEAD_MANY, d.groups[0], 1, most};
    st = exo_vk_emit_grid(r, &grid, &d.grid, err);
    d.spec[1] = most;
    return st == EXO_OK ? exo_vk_emit_dispatch(r, &d, err) : st;
}

typedef struct {
    uint32_t norm_ld4;
    float norm_n, norm_eps;
} push_rms;

static exo_status record_rms(exo_vk_recorder *r, const product *pr, exo_error *err) {
    const exo_vk_area *x = &r->p->slots[pr->in].x;
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_rms);
    bind_area(r, &d, BIND_NORM_IN, x, READ);
    bind_area(r, &d, BIND_OUT, &r->p->factors, WRITE);
    push_rms push = {x->ld / 4, (float)r->p->slot_width[pr->in], pr->norm_eps};
    set_push(&d, &push, sizeof push);
    d.groups[1] = r->rows;
    return exo_vk_emit_dispatch(r, &d, err);
}

static exo_status record_product(exo_vk_recorder *r, const product *pr, exo_error *err) {
    exo_status st = EXO_OK;
    if (pr->norm != NULL && r->held[pr->in] != pr->norm) {
        st = record_slot(r, MODE_SCALE, pr->in, pr->norm, err);
    }
    const exo_device *dev = r->p->device;
    bool wide = r->prompt || r->rows >= dev->shaders.shape.wide_rows;
    bool factor = pr->norm != NULL && pr->out[0] != NULL && wide && !dev->absent[EXO_VK_KERNEL_rms];
    r->bytes_block = 0;
    if (st == EXO_OK && factor) st = record_rms(r, pr, err);
    if (st == EXO_OK && pr->pair) {
        for (uint32_t k = 0; st == EXO_OK && k < pr->w[0]->n_slabs; k++) {
            run_group g = {{{0, &pr->w[0]->slabs[k]}, {1, &pr->w[1]->slabs[k]}}, 2};
            st = record_runs(r, pr, &g, factor, err);
        }
        return st;
    }
    run_group g = {.n = 0};
    for (uint32_t i = 0; st == EXO_OK && i < pr->n_parts; i++) {
        for (uint32_t k = 0; st == EXO_OK && k < pr->w[i]->n_slabs; k++) {
            run next = {i, &pr->w[i]->slabs[k]};
            if (!fits_group(r, pr, &g, &next)) {
                st = record_runs(r, pr, &g, factor, err);
                g.n = 0;
            }
            g.runs[g.n++] = next;
        }
    }
    return st == EXO_OK ? record_runs(r, pr, &g, factor, err) : st;
}

/* Gate and up in one dispatch: like types, slab by slab in one binding. */
static bool is_pair(const exo_vk_recorder *r, const product *pr) {
    const exo_weight *a = pr->w[0], *b = pr->w[1];
    if (a->type != b->type || a->n_slabs != b->n_slabs) return false;
    for (uint32_t i = 0; i < a->n_slabs; i++) {
        run_group g = {{{0, &a->slabs[i]}}, 1};
        run up = {1, &b->slabs[i]};
        if (a->slabs[i].n_rows != b->slabs[i].n_rows || !fits_group(r, pr, &g, &up)) return false;
    }
    return true;
}

static exo_status record_matmul(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_op_matmul *m = &p->ops[i].u.matmul;
    product pr = {.in = m->in,
                  .norm = m->norm,
                  .norm_eps = m->norm_eps,
                  .n_parts = m->n_parts,
                  .add = m->epilogue == EXO_EPILOGUE_ADD};
    bool silu = m->epilogue == EXO_EPILOGUE_SILU_MUL;
    for (uint32_t k = 0; k < m->n_parts; k++) {
        pr.w[k] = m->w[k];
        pr.bias[k] = m->bias[k];
        pr.out[k] = &p->slots[m->out[silu ? 0 : k]].x;
    }
    pr.pair = silu && is_pair(r, &pr);
    if (silu && !pr.pair) {
        pr.out[0] = &p->gate;
        pr.out[1] = &p->up;
        exo_status st = record_product(r, &pr, err);
        return st == EXO_OK ? record_silu(r, m->out[0], err) : st;
    }
    if (pr.pair || m->n_parts == 1) {
        pr.next = next_norm(p, i, m->out[0]);
        pr.next_area = &p->slots[m->out[0]].scaled;
    }
    exo_status st = record_product(r, &pr, err);
    slot_written(r, m->out[0], pr.next);
    for (uint32_t k = 1; k < m->n_parts && !silu; k++) slot_written(r, m->out[k], NULL);
    return st;
}

static exo_status record_head(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_op_head *h = &r->p->ops[i].u.head;
    product pr = {.in = h->in, .norm = h->norm, .norm_eps = h->norm_eps, .n_parts = 1, .w = {h->w}};
    if (r->p->desc.max_logit_rows == 0) return EXO_OK;
    exo_status st = record_product(r, &pr, err);
    return st == EXO_OK ? exo_vk_head_record(r, err) : st;
}

/* ---- rope and attention ---- */

typedef struct {
    uint32_t q_at, q_ld, k_at, k_ld, v_at, v_ld, n_heads, n_kv_heads, head_dim, half_dims, flags;
    float norm_eps;
    uint32_t rows_at, rope_at, table_at, table_ld;
} push_rope;

enum { FLAG_NEOX = 1, FLAG_Q_NORM = 2, FLAG_K_NORM = 4 };

static exo_status record_rope(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_op_rope_kv *o = &p->ops[i].u.rope_kv;
    const exo_vk_area *q = &p->slots[o->q].x, *k = &p->slots[o->k].x, *v = &p->slots[o->v].x;
    span s = {0};
    span_add(&s, q);
    span_add(&s, k);
    span_add(&s, v);
    push_rope push = {.q_at = floats_from(&s, q),
                      .q_ld = q->ld,
                      .k_at = floats_from(&s, k),
                      .k_ld = k->ld,
                      .v_at = floats_from(&s, v),
                      .v_ld = v->ld,
                      .n_heads = o->n_heads,
                      .n_kv_heads = o->n_kv_heads,
                      .head_dim = o->head_dim,
                      .half_dims = o->rope_dims / 2,
                      .flags = (o->rope_neox ? FLAG_NEOX : 0u) |
                               (o->q_norm != NULL ? FLAG_Q_NORM : 0u) |
                               (o->k_norm != NULL ? FLAG_K_NORM : 0u),
                      .norm_eps = o->norm_eps,
                      .rows_at = p->rows_at,
                      .rope_at = p->rope[p->op_rope[i]].at,
                      .table_at = p->pages_at,
                      .table_ld = p->desc.max_seq_pages};
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_rope_kv);
    d.spec[d.n_specs++] = o->kv_type == EXO_F16;
    exo_vk_bind(&d, BIND_OUT, p->acts, s.begin, s.end - s.begin, READ | WRITE);
    bind_vector(&d, BIND_Q_NORM, o->q_norm);
    bind_vector(&d, BIND_K_NORM, o->k_norm);
    exo_vk_bind(&d, BIND_K_PAGES, o->k_pages->memory, 0, o->k_pages->memory->size, WRITE);
    exo_vk_bind(&d, BIND_V_PAGES, o->v_pages->memory, 0, o->v_pages->memory->size, WRITE);
    set_push(&d, &push, sizeof push);
    d.groups[0] = o->n_heads + o->n_kv_heads;
    d.groups[1] = r->rows;
    slot_written(r, o->q, NULL);
    slot_written(r, o->k, NULL);
    slot_written(r, o->v, NULL);
    return exo_vk_emit_dispatch(r, &d, err);
}

typedef struct {
    uint32_t q_ld4, out_ld4, n_kv_heads, group;
    float scale;
    uint32_t rows_at, table_at, table_ld, n_heads, max_splits;
} push_attention;

typedef struct {
    uint32_t out_ld4, n_heads, max_splits, dim4, rows_at;
} push_combine;

/* Query heads of one workgroup, which share the loads of k and v: as many as attention.comp takes,
 * divide the group and fit the shared memory. */
static uint32_t heads_together(const exo_device *dev, uint32_t group, uint32_t dim4) {
    const exo_vk_shape *shape = &dev->shaders.shape;
    for (uint32_t h = 4; h > 1; h /= 2) {
        uint32_t bytes = shape->attention_lanes * 16 + h * (shape->split_tokens * 4 + dim4 * 16);
        if (group % h == 0 && bytes <= dev->vk->caps.max_shared_bytes) return h;
    }
    return 1;
}

static exo_status record_combine(exo_vk_recorder *r, const exo_op_attention *a, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_vk_area *out = &p->slots[a->out].x;
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_attention_combine);
    d.spec[d.n_specs++] = p->device->shaders.shape.split_tokens;
    exo_vk_bind(&d, BIND_IN, p->partials, 0, p->partials->size, READ);
    bind_area(r, &d, BIND_OUT, out, WRITE);
    push_combine push = {out->ld / 4, a->n_heads, p->max_splits, a->head_dim / 4, p->rows_at};
    set_push(&d, &push, sizeof push);
    exo_vk_grid grid = {EXO_VK_GRID_COMBINE, a->n_heads, 1, 0};
    exo_status st = exo_vk_emit_grid(r, &grid, &d.grid, err);
    return st == EXO_OK ? exo_vk_emit_dispatch(r, &d, err) : st;
}

static exo_status record_attention(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_plan *p = r->p;
    const exo_op_attention *a = &p->ops[i].u.attention;
    const exo_vk_area *q = &p->slots[a->q].x, *out = &p->slots[a->out].x;
    uint32_t dim4 = a->head_dim / 4, group = a->n_heads / a->n_kv_heads;
    uint32_t heads = heads_together(p->device, group, dim4);
    bool in_splits = r->rows <= p->split_rows;
    exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_attention);
    const exo_vk_shape *shape = &p->device->shaders.shape;
    const uint32_t spec[] = {heads, a->kv_type == EXO_F16, !in_splits,
                             dim4,  shape->split_tokens,   shape->score_lanes};
    memcpy(d.spec, spec, sizeof spec);
    d.n_specs = 6;
    bind_area(r, &d, BIND_IN, q, READ);
    bind_area(r, &d, BIND_OUT, out, WRITE);
    if (in_splits) {
        exo_vk_bind(&d, BIND_PARTIALS, p->partials, 0, p->partials->size, WRITE);
    } else {
        bind_area(r, &d, BIND_PARTIALS, out, WRITE); /* never written as partials */
    }
    const exo_vk_allocation *k = a->k_pages->memory, *v = a->v_pages->memory;
    exo_vk_bind(&d, BIND_W16, k, 0, k->size, READ);
    exo_vk_bind(&d, BIND_NORM_IN, v, 0, v->size, READ);
    exo_vk_bind(&d, BIND_W8, k, 0, k->size, READ); /* the same pages as f16 */
    exo_vk_bind(&d, BIND_W4, v, 0, v->size, READ);
    push_attention push = {q->ld / 4,  out->ld / 4,  a->n_kv_heads, group,
                           a->scale,   p->rows_at,   p->pages_at,   p->desc.max_seq_pages,
                           a->n_heads, p->max_splits};
    set_push(&d, &push, sizeof push);
    exo_vk_grid grid = {in_splits ? EXO_VK_GRID_SPLITS : EXO_VK_GRID_ROWS, 1,
                        a->n_kv_heads * (group / heads), 0};
    exo_status st = exo_vk_emit_grid(r, &grid, &d.grid, err);
    if (st == EXO_OK) st = exo_vk_emit_dispatch(r, &d, err);
    if (st == EXO_OK && in_splits) st = record_combine(r, a, err);
    slot_written(r, a->out, NULL);
    return st;
}

exo_status exo_vk_emit_op(exo_vk_recorder *r, size_t i, exo_error *err) {
    const exo_op *op = &r->p->ops[i];
    switch (op->kind) {
    case EXO_OP_EMBED: return record_embed(r, i, err);
    case EXO_OP_MATMUL: return record_matmul(r, i, err);
    case EXO_OP_ROPE_KV: return record_rope(r, i, err);
    case EXO_OP_ATTENTION: return record_attention(r, i, err);
    case EXO_OP_HEAD: return record_head(r, i, err);
    case EXO_OP_ROUND_F16:
        return record_slot(r, MODE_ROUND, op->u.round_slot, next_norm(r->p, i, op->u.round_slot),
                           err);
    default: return exo_error_set(err, EXO_EUNSUPPORTED, "operation %zu is unknown", i);
    }
}
