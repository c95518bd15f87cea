/* attend.c - the attention of one step, over the threads.
 *
 * Usually a task is all splits of one kv head for some rows of a sequence.  Where such tasks are
 * too few or too unequal to keep the threads busy (few kv heads, one long context among short
 * ones), they are cut by splits: threads take runs of splits, meet, and join the parts in order.
 * Which way is taken changes no bit, so it may depend on the number of threads. */
#include "compute/cpu/plan_run.h"

#define ITEMS_A_THREAD 8u /* the most that one task may be is an eighth of a thread's work */

/* Splits of a block's rows: [first, first + n). */
typedef struct {
    uint32_t first, n;
} split_range;

static const uint32_t *positions(const exo_run *r, const exo_op_attention *a) {
    return a->bidirectional ? r->p->pos_end : r->p->pos;
}

static split_range splits_of(const exo_run *r, const exo_op_attention *a, const exo_row_block *b) {
    const uint32_t *pos = positions(r, a) + b->row;
    uint32_t seen = a->window > 0 && pos[0] >= a->window ? pos[0] - a->window + 1 : 0;
    uint32_t first = seen / EXO_ATTN_SPLIT_TOKENS;
    return (split_range){first, pos[b->n - 1] / EXO_ATTN_SPLIT_TOKENS - first + 1};
}

static uint32_t v_dim_of(const exo_op_attention *a) {
    return a->v_dim != 0 ? a->v_dim : a->head_dim;
}

static exo_attention_task task_of(const exo_run *r, const exo_op_attention *a,
                                  const exo_row_block *b, uint32_t kv_head) {
    const exo_plan *p = r->p;
    const exo_row *row = &p->args->rows[b->row];
    return (exo_attention_task){
        .q = p->slots[a->q] + (size_t)b->row * p->slot_ld[a->q],
        .out = p->slots[a->out] + (size_t)b->row * p->slot_ld[a->out],
        .ld_q = p->slot_ld[a->q],
        .ld_out = p->slot_ld[a->out],
        .pos = positions(r, a) + b->row,
        .n_rows = b->n,
        .kv_head = kv_head,
        .n_kv_heads = a->n_kv_heads,
        .group = a->n_heads / a->n_kv_heads,
        .head_dim = a->head_dim,
        .v_dim = v_dim_of(a),
        .scale = a->scale,
        .softcap = a->softcap,
        .window = a->window,
        .sinks = exo_run_vector(a->sinks),
        .k_pages = a->k_pages->data,
        .v_pages = a->v_pages->data,
        .k_page_bytes = exo_kv_page_bytes(a->kv_type, a->n_kv_heads, a->head_dim),
        .v_page_bytes = exo_kv_page_bytes(a->kv_type, a->n_kv_heads, v_dim_of(a)),
        .kv_type = a->kv_type,
        .table = p->args->block_table + (size_t)row->seq * p->desc.max_seq_pages,
        .scratch = r->scratch->attention};
}

/* ---- whole tasks ---- */

/* They cost more the later their rows stand, so the last rows are handed out first; the heads of
 * a page in order, since hardware that reads ahead brings some of the next head's part along (Zen
 * 2, 16,000 positions in f16: 2690 us a layer in this order, 3050 in the other). */
static void attend_whole(const exo_run *r, const exo_op_attention *a) {
    exo_plan *p = r->p;
    uint32_t n = p->n_blocks * a->n_kv_heads;
    for (;;) {
        uint32_t i = atomic_fetch_add_explicit(&p->taken[r->op], 1, memory_order_relaxed);
        if (i >= n) return;
        const exo_row_block *block = &p->blocks[p->n_blocks - 1 - i / a->n_kv_heads];
        const exo_attention_task t = task_of(r, a, block, i % a->n_kv_heads);
        r->kernels->attention(&t);
    }
}

/* ---- tasks cut by splits ---- */

/* Floats of one block's parts: (kv head, row, head of the group, split). */
static size_t parts_of(const exo_op_attention *a, const exo_row_block *b, split_range s) {
    return (size_t)b->n * a->n_heads * s.n * exo_attention_part(v_dim_of(a));
}

/* Splits in one item of work; 0: the tasks are better left whole. */
static uint32_t cut(const exo_run *r, const exo_op_attention *a) {
    const exo_plan *p = r->p;
    uint64_t most = 0, total = 0, splits = 0;
    size_t parts = 0;
    if (r->n_threads == 1) return 0;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        const split_range s = splits_of(r, a, &p->blocks[i]);
        uint64_t cost = (uint64_t)s.n * p->blocks[i].n;
        most = cost > most ? cost : most;
        total += cost * a->n_kv_heads;
        splits += (uint64_t)s.n * a->n_kv_heads;
        parts += parts_of(a, &p->blocks[i], s);
    }
    uint64_t items = (uint64_t)r->n_threads * ITEMS_A_THREAD;
    bool few = most * items > total, one_each = splits == (uint64_t)p->n_blocks * a->n_kv_heads;
    if (!few || one_each || parts > p->parts_floats) return 0;
    return splits < items ? 1 : (uint32_t)(splits / items);
}

/* A task of block b with its parts; at: where the block's begin. */
static exo_attention_task task_in_parts(const exo_run *r, const exo_op_attention *a,
                                        const exo_row_block *b, uint32_t kv_head, size_t at) {
    const split_range s = splits_of(r, a, b);
    exo_attention_task t = task_of(r, a, b, kv_head);
    t.parts = r->p->parts + at + parts_of(a, b, s) / a->n_kv_heads * kv_head;
    t.parts_first = s.first;
    t.ld_parts = s.n;
    return t;
}

static void attend_splits(const exo_run *r, const exo_op_attention *a, uint32_t step) {
    exo_plan *p = r->p;
    size_t at = 0;
    uint32_t before = 0, b = 0; /* items of the blocks before this one */
    for (;;) {
        uint32_t i = atomic_fetch_add_explicit(&p->taken[r->op], 1, memory_order_relaxed);
        split_range s;
        uint32_t runs;
        for (;; b++) {
            if (b == p->n_blocks) return;
            s = splits_of(r, a, &p->blocks[b]);
            runs = (s.n + step - 1) / step;
            if (i - before < runs * a->n_kv_heads) break;
            before += runs * a->n_kv_heads;
            at += parts_of(a, &p->blocks[b], s);
        }
        uint32_t run = (i - before) % runs;
        exo_attention_task t = task_in_parts(r, a, &p->blocks[b], (i - before) / runs, at);
        t.split = s.first + run * step;
        t.n_splits = step;
        r->kernels->attention(&t);
    }
}

/* Query heads of rows, in order of rows. */
static void join_parts(const exo_run *r, const exo_op_attention *a) {
    const exo_plan *p = r->p;
    size_t at = 0;
    uint32_t from, to, first = 0; /* of the block */
    exo_run_share(r, p->args->n_rows * a->n_heads, &from, &to);
    for (uint32_t b = 0; b < p->n_blocks && first < to; b++) {
        const exo_row_block *block = &p->blocks[b];
        uint32_t group = a->n_heads / a->n_kv_heads, n = block->n * a->n_heads;
        for (uint32_t i = from > first ? from - first : 0; i < n && first + i < to; i++) {
            uint32_t row = i / a->n_heads, head = i % a->n_heads;
            const exo_attention_task t = task_in_parts(r, a, block, head / group, at);
            r->kernels->attention_join(&t, row * group + head % group);
        }
        first += n;
        at += parts_of(a, block, splits_of(r, a, block));
    }
}

void exo_run_attention(const exo_run *r, const exo_op_attention *a) {
    uint32_t step = cut(r, a);
    if (step == 0) {
        attend_whole(r, a);
        return;
    }
    attend_splits(r, a, step);
    exo_pool_barrier(r->p->device->pool);
    join_parts(r, a);
}
