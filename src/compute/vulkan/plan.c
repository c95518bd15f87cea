/* plan.c - makes a plan: copies its operations, lays out its memory, has its commands recorded. */
#include "compute/vulkan/plan_head.h"
#include "compute/vulkan/plan_host.h"
#include "compute/vulkan/plan_profile.h"

#include "base/mem.h"

#include <string.h>

#define AREA_ALIGNMENT    256                  /* the most a device may ask of a binding's offset */
#define MAX_PARTIAL_BYTES (UINT64_C(64) << 20) /* beyond it rows attend to splits one by one */

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static exo_weight_shape shape_of(const exo_weight *w) {
    return (exo_weight_shape){w->n_rows, w->n_cols};
}
static size_t bytes_of(const exo_buffer *b) { return b->bytes; }

static const exo_plan_objects objects = {shape_of, bytes_of};

/* ---- what this device cannot do ---- */

static exo_status check_pool(const exo_device *d, size_t i, const exo_buffer *pool,
                             exo_error *err) {
    if (pool->bytes <= d->vk->caps.max_storage_range) return EXO_OK;
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "plan operation %zu: a page pool of %zu bytes; one buffer of vulkan:%u "
                         "holds %llu: fewer pages fit",
                         i, pool->bytes, d->vk->index,
                         (unsigned long long)d->vk->caps.max_storage_range);
}

static exo_status check_ops(const exo_plan *p, exo_error *err) {
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op *op = &p->ops[i];
        const exo_buffer *pool[2] = {NULL, NULL};
        if (p->host != NULL && p->host->takes[i]) continue;
        if (op->kind == EXO_OP_ROPE_KV) {
            pool[0] = op->u.rope_kv.k_pages;
            pool[1] = op->u.rope_kv.v_pages;
        } else if (op->kind == EXO_OP_ATTENTION) {
            pool[0] = op->u.attention.k_pages;
            pool[1] = op->u.attention.v_pages;
        }
        for (int k = 0; k < 2 && pool[k] != NULL; k++) {
            exo_status st = check_pool(p->device, i, pool[k], err);
            if (st != EXO_OK) return st;
        }
    }
    return EXO_OK;
}

/* ---- layout ---- */

static exo_status copy_desc(exo_plan *p, const exo_plan_desc *desc, exo_error *err) {
    p->desc = *desc;
    p->ops = exo_calloc(desc->n_ops, sizeof *p->ops);
    p->op_rope = exo_calloc(desc->n_ops, sizeof *p->op_rope);
    p->rope = exo_calloc(desc->n_ops, sizeof *p->rope);
    p->slot_width = exo_calloc(desc->n_slots, sizeof *p->slot_width);
    p->slots = exo_calloc(desc->n_slots, sizeof *p->slots);
    p->bounds.last_pos = exo_calloc(desc->max_seqs, sizeof *p->bounds.last_pos);
    p->bounds.logit_rows = exo_calloc(desc->max_rows, sizeof *p->bounds.logit_rows);
    p->pass_rows = exo_calloc(desc->max_rows, sizeof *p->pass_rows);
    p->pass_logits = exo_calloc(desc->max_rows, sizeof *p->pass_logits);
    if (p->ops == NULL || p->op_rope == NULL || p->rope == NULL || p->slot_width == NULL ||
        p->slots == NULL || p->bounds.last_pos == NULL || p->bounds.logit_rows == NULL ||
        p->pass_rows == NULL || p->pass_logits == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    }
    memcpy(p->ops, desc->ops, desc->n_ops * sizeof *p->ops);
    memcpy(p->slot_width, desc->slot_width, desc->n_slots * sizeof *p->slot_width);
    p->desc.ops = p->ops;
    p->desc.slot_width = p->slot_width;
    p->bounds.desc = &p->desc;
    exo_plan_bounds_find(&p->bounds, &objects);
    return EXO_OK;
}

static exo_vk_area add_area(const exo_plan *p, uint64_t *used, uint32_t width) {
    exo_vk_area a = {.offset = *used, .ld = (uint32_t)round_up(width, EXO_VK_UNIT)};
    a.bytes = (uint64_t)p->desc.max_rows * a.ld * sizeof(float);
    *used += round_up(a.bytes, AREA_ALIGNMENT);
    return a;
}

static bool is_normed(const exo_plan *p, uint32_t slot) {
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op *op = &p->ops[i];
        if (op->kind == EXO_OP_MATMUL && op->u.matmul.norm != NULL && op->u.matmul.in == slot) {
            return true;
        }
        if (op->kind == EXO_OP_HEAD && op->u.head.in == slot) return true;
    }
    return false;
}

/* Rows of the widest pair that one dispatch may not be able to take. */
static uint32_t widest_pair(const exo_plan *p) {
    uint32_t width = 0;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op_matmul *m = &p->ops[i].u.matmul;
        if (p->ops[i].kind != EXO_OP_MATMUL || m->epilogue != EXO_EPILOGUE_SILU_MUL) continue;
        if (m->w[0]->n_rows > width) width = m->w[0]->n_rows;
    }
    return width;
}

/* Units of the longest row that a dot kernel takes; 0 when this plan has none. */
static uint32_t widest_dot(const exo_plan *p) {
    uint32_t units = 0;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op_matmul *m = &p->ops[i].u.matmul;
        for (uint32_t k = 0; p->ops[i].kind == EXO_OP_MATMUL && k < m->n_parts; k++) {
            const exo_weight *w = m->w[k];
            if (p->device->shaders.dot[w->type] && w->n_units > units) units = w->n_units;
        }
    }
    return units;
}

static uint64_t lay_out_acts(exo_plan *p) {
    uint64_t used = 0;
    for (uint32_t i = 0; i < p->desc.n_slots; i++) {
        p->slots[i].x = add_area(p, &used, p->slot_width[i]);
        if (is_normed(p, i)) p->slots[i].scaled = add_area(p, &used, p->slot_width[i]);
    }
    p->factors = (exo_vk_area){used, round_up(p->desc.max_rows * sizeof(float), 16), 1};
    used += round_up(p->factors.bytes, AREA_ALIGNMENT);
    uint32_t pair = widest_pair(p);
    if (pair > 0) {
        p->gate = add_area(p, &used, pair);
        p->up = add_area(p, &used, pair);
    }
    uint32_t dot = widest_dot(p);
    if (dot > 0) p->bytes = add_area(p, &used, exo_vk_dot_row_words(dot));
    return used;
}

/* Operations with the same frequencies share one table. */
static uint32_t find_rope(exo_plan *p, const exo_op_rope_kv *r) {
    for (uint32_t i = 0; i < p->n_rope; i++) {
        const exo_vk_rope *t = &p->rope[i];
        if (t->inv_freq == r->rope_inv_freq && t->half == r->rope_dims / 2 &&
            t->scale == r->rope_scale) {
            return i;
        }
    }
    p->rope[p->n_rope] = (exo_vk_rope){r->rope_inv_freq, r->rope_dims / 2, r->rope_scale, 0};
    return p->n_rope++;
}

static uint64_t lay_out_step(exo_plan *p) {
    uint64_t at = EXO_VK_GRIDS_AT + 3 * EXO_VK_MAX_GRIDS;
    p->rows_at = (uint32_t)at;
    at += 4ull * p->desc.max_rows;
    p->logits_rows_at = (uint32_t)at;
    at += p->desc.max_rows;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        if (p->ops[i].kind == EXO_OP_ROPE_KV) p->op_rope[i] = find_rope(p, &p->ops[i].u.rope_kv);
    }
    for (uint32_t i = 0; i < p->n_rope; i++) {
        p->rope[i].at = (uint32_t)at;
        at += 2ull * p->rope[i].half * p->desc.max_rows;
    }
    p->pages_at = (uint32_t)at;
    at += (uint64_t)p->desc.max_seqs * p->desc.max_seq_pages;
    exo_vk_head_lay_out(p, &at);
    p->step_words = (uint32_t)at;
    return at * sizeof(uint32_t);
}

/* Partial results of attention: (rows, heads, splits, head_dim + 4) floats. */
static uint64_t lay_out_partials(exo_plan *p) {
    uint64_t row = 0;
    uint32_t per_split = p->device->shaders.shape.split_tokens / EXO_KV_PAGE_TOKENS;
    p->max_splits = (p->desc.max_seq_pages + per_split - 1) / per_split;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op_attention *a = &p->ops[i].u.attention;
        if (p->ops[i].kind != EXO_OP_ATTENTION) continue;
        uint64_t bytes = (uint64_t)a->n_heads * p->max_splits * (a->head_dim + 4) * sizeof(float);
        if (bytes > row) row = bytes;
    }
    if (row == 0 || p->max_splits == 1) return 0;
    if (p->device->absent[EXO_VK_KERNEL_attention_combine]) return 0; /* split_rows stays 0 */
    for (p->split_rows = EXO_VK_SPLIT_ROWS; p->split_rows > 0; p->split_rows /= 2) {
        if (row * p->split_rows <= MAX_PARTIAL_BYTES) break;
    }
    return row * p->split_rows;
}

static exo_status allocate(exo_plan *p, exo_error *err) {
    exo_vk_device *d = p->device->vk;
    uint64_t x_bytes = p->desc.max_rows * round_up(p->slot_width[0], EXO_VK_UNIT) * sizeof(float);
    bool takes_rows = p->ops[0].kind != EXO_OP_EMBED;
    uint64_t step_bytes = lay_out_step(p), found_bytes = p->head.blocks_at + p->head.blocks_bytes;
    const struct {
        exo_vk_allocation **to;
        exo_vk_memory_kind kind;
        uint64_t bytes;
    } parts[] = {{&p->acts, EXO_VK_MEMORY_DEVICE, lay_out_acts(p)},
                 {&p->step, EXO_VK_MEMORY_UPLOAD, step_bytes},
                 {&p->input, EXO_VK_MEMORY_UPLOAD, takes_rows ? x_bytes : 0},
                 {&p->output, EXO_VK_MEMORY_READBACK,
                  p->bounds.n_vocab == 0 ? x_bytes : p->head.logits_bytes},
                 {&p->partials, EXO_VK_MEMORY_DEVICE, lay_out_partials(p)},
                 {&p->head.logits, EXO_VK_MEMORY_DEVICE, p->head.logits_bytes},
                 {&p->head.found, EXO_VK_MEMORY_DEVICE, found_bytes},
                 {&p->head.answers, EXO_VK_MEMORY_READBACK, p->head.answers_bytes}};
    enum { N_PARTS = sizeof parts / sizeof parts[0] };
    exo_vk_memory_need needs[N_PARTS];
    size_t n = 0;
    for (size_t i = 0; i < N_PARTS; i++) {
        if (parts[i].bytes > d->caps.max_storage_range || parts[i].bytes / 4 > UINT32_MAX) {
            return exo_error_set(err, EXO_EUNSUPPORTED,
                                 "a plan for %u rows needs a buffer of %llu bytes; vulkan:%u takes "
                                 "%llu: fewer rows fit",
                                 p->desc.max_rows, (unsigned long long)parts[i].bytes, d->index,
                                 (unsigned long long)d->caps.max_storage_range);
        }
        if (parts[i].bytes > 0) needs[n++] = (exo_vk_memory_need){parts[i].kind, parts[i].bytes};
    }
    exo_status st = exo_vk_memory_check(&d->memory, needs, n, err);
    for (size_t i = 0; st == EXO_OK && i < N_PARTS; i++) {
        if (parts[i].bytes == 0) continue;
        st = exo_vk_memory_allocate(&d->memory, parts[i].kind, parts[i].bytes, parts[i].to, err);
    }
    if (st == EXO_OK) st = exo_vk_clear(d->transfer, p->acts, 0, p->acts->size, NULL, err);
    return st;
}

/* Kernels read keys and values of f32 and f16 only. */
static exo_status check_kv_types(const exo_plan_desc *desc, exo_error *err) {
    for (size_t i = 0; i < desc->n_ops; i++) {
        const exo_op *op = &desc->ops[i];
        if (op->kind == EXO_OP_ATTENTION && op->u.attention.kv_type == EXO_Q8_0) {
            return exo_error_set(err, EXO_EUNSUPPORTED,
                                 "Vulkan keeps keys and values in f32 or f16, not q8_0");
        }
    }
    return EXO_OK;
}

exo_status exo_vk_plan_create(exo_device *d, const exo_plan_desc *desc, exo_plan **out,
                              exo_error *err) {
    *out = NULL;
    exo_status st = exo_plan_check(desc, &objects, err);
    if (st == EXO_OK) st = check_kv_types(desc, err);
    if (st != EXO_OK) return st;
    exo_plan *p = exo_calloc(1, sizeof *p);
    if (p == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    p->device = d;
    st = copy_desc(p, desc, err);
    if (st == EXO_OK) st = exo_vk_host_create(p, err);
    if (st == EXO_OK) st = check_ops(p, err);
    if (st == EXO_OK) st = allocate(p, err);
    if (st == EXO_OK) st = exo_vk_head_allocate(p, err);
    if (st == EXO_OK) st = exo_vk_command_pool_init(d->vk, &p->pool, err);
    if (st == EXO_OK) st = exo_vk_plan_record(p, err);
    if (st != EXO_OK) {
        exo_vk_plan_destroy(p);
        return st;
    }
    *out = p;
    return EXO_OK;
}

bool exo_vk_plan_has_classes(const exo_plan *p) { return p->bytes.bytes > 0; }

void exo_vk_plan_destroy(exo_plan *p) {
    if (p == NULL) return;
    exo_vk_device *d = p->device->vk;
    (void)exo_vk_queue_wait_idle(&d->queue, EXO_VK_DEADLINE_MS, NULL);
    exo_vk_host_destroy(p);
    for (uint32_t i = 0; i < p->n_buckets; i++) exo_free(p->buckets[i].commands);
    for (uint32_t i = 0; i < p->head.n_reads; i++) exo_free(p->head.reads[i].commands);
    exo_vk_profile_destroy(p->profile);
    exo_vk_command_pool_finish(&p->pool);
    bool free_sets = !atomic_load(&d->hung);
    for (size_t i = 0; free_sets && i < p->n_set_pools; i++) {
        d->fn.DestroyDescriptorPool(d->handle, p->set_pools[i], NULL);
    }
    for (size_t i = 0; free_sets && i < p->n_sets * EXO_VK_TEXELS; i++) {
        VkBufferView view = p->sets[i / EXO_VK_TEXELS].views[i % EXO_VK_TEXELS];
        d->fn.DestroyBufferView(d->handle, view, NULL);
    }
    exo_free(p->set_pools);
    exo_free(p->sets);
    exo_vk_allocation *const memory[] = {p->acts,       p->step,        p->input,
                                         p->output,     p->partials,    p->head.logits,
                                         p->head.found, p->head.answers};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        exo_vk_memory_deallocate(&d->memory, memory[i]);
    }
    for (uint32_t i = 0; i < p->n_prompt_buckets; i++) exo_free(p->prompt_buckets[i].commands);
    exo_free(p->head.kept);
    exo_free(p->head.places);
    exo_free(p->pass_logits);
    exo_free(p->pass_rows);
    exo_free(p->bounds.logit_rows);
    exo_free(p->bounds.last_pos);
    exo_free(p->slots);
    exo_free(p->slot_width);
    exo_free(p->rope);
    exo_free(p->op_rope);
    exo_free(p->ops);
    exo_free(p);
}
