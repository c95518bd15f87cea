/* plan_run.c - one step: the step block is written, the bucket's commands are submitted, what the
 * step made is read back.
 *
 * A step of few rows is one submission.  One of many rows is submitted piece by piece, so that a
 * device's watchdog sees short work and a canceled step ends soon. */
#include "compute/dmath.h"
#include "compute/vulkan/plan_host.h"

#include <string.h>

#define PIECES_FROM_ROWS 16

/* ---- the step block ---- */

static void write_float(uint32_t *word, float f) { memcpy(word, &f, sizeof f); }

/* The angle's cosine and sine as the CPU backend has them: compute/cpu/reference.h. */
static void write_rope(const exo_vk_rope *t, uint32_t *words, uint32_t row, uint32_t pos) {
    uint32_t *at = words + t->at + (size_t)row * 2 * t->half;
    for (uint32_t i = 0; i < t->half; i++) {
        double s, c;
        exo_dsincos((double)pos * t->inv_freq[i], &s, &c);
        write_float(&at[2 * i], (float)(c * (double)t->scale));
        write_float(&at[2 * i + 1], (float)(s * (double)t->scale));
    }
}

static void write_grids(const exo_plan *p, uint32_t *words, uint32_t n_rows, uint32_t last_pos) {
    uint32_t n_logits = p->bounds.n_logit_rows, splits = last_pos / EXO_ATTN_SPLIT_TOKENS + 1;
    for (uint32_t i = 0; i < p->n_grids; i++) {
        const exo_vk_grid *g = &p->grids[i];
        uint32_t *at = words + EXO_VK_GRIDS_AT + (size_t)3 * i;
        bool many = n_logits >= 2 && 2 * n_logits >= g->cols;
        at[0] = g->x;
        at[1] = n_rows;
        at[2] = g->z;
        switch (g->kind) {
        case EXO_VK_GRID_SPLITS: at[0] = splits; break;
        case EXO_VK_GRID_ROWS: at[0] = 1; break;
        case EXO_VK_GRID_COMBINE: at[1] = splits > 1 ? n_rows : 0; break;
        case EXO_VK_GRID_HEAD_FEW: at[1] = many ? 0 : n_logits; break;
        case EXO_VK_GRID_HEAD_MANY: at[1] = many ? (n_logits + g->cols - 1) / g->cols : 0; break;
        }
    }
}

static void write_step(const exo_plan *p, const exo_plan_args *args) {
    uint32_t *words = (uint32_t *)(void *)p->step->mapped, last_pos = 0;
    words[0] = args->n_rows;
    words[1] = p->bounds.n_logit_rows;
    for (uint32_t i = 0; i < args->n_rows; i++) {
        const exo_row *row = &args->rows[i];
        uint32_t *at = words + p->rows_at + (size_t)4 * i;
        at[0] = row->seq;
        at[1] = row->pos;
        at[2] = (uint32_t)row->token;
        at[3] = row->flags;
        if (row->pos > last_pos) last_pos = row->pos;
        for (uint32_t k = 0; k < p->n_rope; k++) write_rope(&p->rope[k], words, i, row->pos);
        bool last = i + 1 == args->n_rows || row[1].seq != row->seq;
        if (!last || p->bounds.n_pages == UINT32_MAX) continue;
        size_t first = (size_t)row->seq * p->desc.max_seq_pages;
        memcpy(words + p->pages_at + first, args->block_table + first,
               (row->pos / EXO_KV_PAGE_TOKENS + 1) * sizeof *words);
    }
    memcpy(words + p->logits_rows_at, p->bounds.logit_rows, p->bounds.n_logit_rows * sizeof *words);
    write_grids(p, words, args->n_rows, last_pos);
}

/* Rows of the host to the packed stride of slot 0. */
static void write_input(const exo_plan *p, const exo_plan_args *args) {
    uint32_t width = p->slot_width[0], ld = p->slots[0].x.ld;
    float *dst = (float *)(void *)p->input->mapped;
    for (uint32_t i = 0; i < args->n_rows; i++) {
        memcpy(dst + (size_t)i * ld, args->x_in + (size_t)i * width, width * sizeof *dst);
        memset(dst + (size_t)i * ld + width, 0, (ld - width) * sizeof *dst);
    }
}

/* ---- running ---- */

static bool is_canceled(const exo_plan_args *args) {
    return args->cancel != NULL && atomic_load_explicit(args->cancel, memory_order_relaxed);
}

/* Commands [begin, end) of the bucket, to their end. */
static exo_status submit(exo_plan *p, const exo_vk_bucket *b, uint32_t begin, uint32_t end,
                         const exo_plan_args *args, exo_error *err) {
    exo_vk_queue *queue = &p->device->vk->queue;
    uint32_t piece = b->rows < PIECES_FROM_ROWS ? end - begin : 1;
    exo_vk_fence before = {0};
    exo_status st = EXO_OK;
    for (uint32_t i = begin; st == EXO_OK && i < end; i += piece) {
        if (is_canceled(args)) {
            st = exo_error_set(err, EXO_ECANCELED, "the step was canceled");
            break;
        }
        st = exo_vk_queue_submit(queue, b->commands + i, piece, &p->pending, err);
        /* one piece runs while the next one waits */
        if (st == EXO_OK) st = exo_vk_fence_wait(queue, before, EXO_VK_DEADLINE_MS, err);
        before = p->pending;
    }
    exo_status waited =
        exo_vk_fence_wait(queue, p->pending, EXO_VK_DEADLINE_MS, st == EXO_OK ? err : NULL);
    return st == EXO_OK ? waited : st;
}

/* All of the bucket's commands, and between them what the CPU computes. */
static exo_status run_bucket(exo_plan *p, const exo_vk_bucket *b, const exo_plan_args *args,
                             exo_error *err) {
    uint32_t begin = 0, n_spans = p->host != NULL ? p->host->n_spans : 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        uint32_t end = exo_vk_host_cut(p, b, i);
        exo_status st = submit(p, b, begin, end, args, err);
        if (st == EXO_OK) st = exo_vk_host_run(p, i, args, err);
        if (st != EXO_OK) return st;
        begin = end;
    }
    return submit(p, b, begin, b->n_commands, args, err);
}

static exo_status check_finite(const float *x, size_t n, exo_error *err) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return bad == 0 ? EXO_OK : exo_error_set(err, EXO_EINTERNAL, "activation is not finite");
}

static exo_status read_output(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    exo_vk_memory *m = &p->device->vk->memory;
    exo_status st = exo_vk_memory_invalidate(m, p->output, 0, p->output->size, err);
    if (st != EXO_OK) return st;
    if (p->bounds.n_vocab > 0) {
        const float *logits = (const float *)(const void *)(p->output->mapped + p->logits_at);
        size_t n = (size_t)p->bounds.n_logit_rows * p->bounds.n_vocab;
        if (p->host != NULL && p->host->takes_head) n = 0; /* they are there */
        if (n > 0) memcpy(args->logits, logits, n * sizeof *logits);
        if (n > 0) st = check_finite(args->logits, n, err);
        if (st != EXO_OK || args->x_out == NULL) return st;
        return exo_vk_plan_read_slot(p, 0, args->n_rows, args->x_out, err);
    }
    uint32_t width = p->slot_width[0], ld = p->slots[0].x.ld;
    const float *rows = (const float *)(const void *)p->output->mapped;
    for (uint32_t i = 0; i < args->n_rows; i++) {
        memcpy(args->x_out + (size_t)i * width, rows + (size_t)i * ld, width * sizeof *rows);
    }
    return check_finite(args->x_out, (size_t)args->n_rows * width, err);
}

exo_status exo_vk_plan_run(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    exo_status st = exo_plan_check_step(&p->bounds, args, err);
    if (st != EXO_OK) return st;
    exo_vk_memory *m = &p->device->vk->memory;
    st = exo_vk_fence_wait(&p->device->vk->queue, p->pending, EXO_VK_DEADLINE_MS, err);
    if (st != EXO_OK) return st;
    write_step(p, args);
    st = exo_vk_memory_flush(m, p->step, 0, p->step->size, err);
    if (st == EXO_OK && p->input != NULL) {
        write_input(p, args);
        st = exo_vk_memory_flush(m, p->input, 0, p->input->size, err);
    }
    if (st != EXO_OK) return st;
    const exo_vk_bucket *b = p->buckets;
    while (b->rows < args->n_rows) b++;
    st = run_bucket(p, b, args, err);
    return st == EXO_OK ? read_output(p, args, err) : st;
}

exo_status exo_vk_plan_read_slot(exo_plan *p, uint32_t slot, uint32_t n_rows, float *out,
                                 exo_error *err) {
    const exo_vk_area *a = &p->slots[slot].x;
    uint32_t width = p->slot_width[slot];
    exo_status st = EXO_OK;
    for (uint32_t i = 0; st == EXO_OK && i < n_rows; i++) {
        st = exo_vk_copy_from_device(p->device->vk->transfer, out + (size_t)i * width, p->acts,
                                     a->offset + (size_t)i * a->ld * sizeof *out,
                                     width * sizeof *out, err);
    }
    return st;
}
