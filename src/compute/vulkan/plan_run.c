/* plan_run.c - one step: the step block is written, the bucket's commands are submitted, what the
 * step made is read back.
 *
 * A step of few rows is one submission.  One of many rows is submitted piece by piece, so that a
 * device's watchdog sees short work and a canceled step ends soon. */
#include "compute/dmath.h"
#include "compute/vulkan/plan_head.h"
#include "compute/vulkan/plan_host.h"
#include "compute/vulkan/plan_profile.h"

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

static const exo_row *row_of(const exo_vk_pass *ps, uint32_t i) {
    return &ps->args->rows[ps->rows[i]];
}

static void write_grids(const exo_plan *p, uint32_t *words, const exo_vk_pass *ps,
                        uint32_t last_pos) {
    uint32_t n_logits = ps->n_logits, splits = last_pos / p->device->shaders.shape.split_tokens + 1;
    for (uint32_t i = 0; i < p->n_grids; i++) {
        const exo_vk_grid *g = &p->grids[i];
        uint32_t *at = words + EXO_VK_GRIDS_AT + (size_t)3 * i;
        bool many = n_logits >= 2 && 2 * n_logits >= g->cols;
        at[0] = g->x;
        at[1] = ps->n_rows;
        at[2] = g->z;
        switch (g->kind) {
        case EXO_VK_GRID_SPLITS: at[0] = splits; break;
        case EXO_VK_GRID_ROWS: at[0] = 1; break;
        case EXO_VK_GRID_COMBINE: at[1] = splits > 1 ? ps->n_rows : 0; break;
        case EXO_VK_GRID_ASKS: at[1] = p->head.n_asks > 0 ? n_logits : 0; break;
        case EXO_VK_GRID_HEAD_FEW: at[1] = many ? 0 : n_logits; break;
        case EXO_VK_GRID_HEAD_MANY: at[1] = many ? (n_logits + g->cols - 1) / g->cols : 0; break;
        }
    }
}

static void write_step(const exo_plan *p, const exo_vk_pass *ps) {
    uint32_t *words = (uint32_t *)(void *)p->step->mapped, last_pos = 0;
    words[0] = ps->n_rows;
    words[1] = ps->n_logits;
    for (uint32_t i = 0; i < ps->n_rows; i++) {
        const exo_row *row = row_of(ps, i);
        uint32_t *at = words + p->rows_at + (size_t)4 * i;
        at[0] = row->seq;
        at[1] = row->pos;
        at[2] = (uint32_t)row->token;
        at[3] = row->flags;
        if (row->pos > last_pos) last_pos = row->pos;
        for (uint32_t k = 0; k < p->n_rope; k++) write_rope(&p->rope[k], words, i, row->pos);
        bool last = i + 1 == ps->n_rows || row_of(ps, i + 1)->seq != row->seq;
        if (!last || p->bounds.n_pages == UINT32_MAX) continue;
        size_t first = (size_t)row->seq * p->desc.max_seq_pages;
        memcpy(words + p->pages_at + first, ps->args->block_table + first,
               (row->pos / EXO_KV_PAGE_TOKENS + 1) * sizeof *words);
    }
    memcpy(words + p->logits_rows_at, ps->logit_rows, ps->n_logits * sizeof *words);
    write_grids(p, words, ps, last_pos);
}

/* Rows of the host to the packed stride of slot 0. */
static void write_input(const exo_plan *p, const exo_vk_pass *ps) {
    uint32_t width = p->slot_width[0], ld = p->slots[0].x.ld;
    float *dst = (float *)(void *)p->input->mapped;
    for (uint32_t i = 0; i < ps->n_rows; i++) {
        memcpy(dst + (size_t)i * ld, ps->args->x_in + (size_t)ps->rows[i] * width,
               width * sizeof *dst);
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
    uint32_t n_reads = p->head.reads_rows && !exo_vk_host_takes_head(p); /* with the last piece */
    if (n_reads > 0 && end == b->n_commands) b->commands[end] = exo_vk_head_reads(p);
    exo_vk_fence before = {0};
    exo_status st = EXO_OK;
    for (uint32_t i = begin; st == EXO_OK && i < end; i += piece) {
        if (is_canceled(args)) {
            st = exo_error_set(err, EXO_ECANCELED, "the step was canceled");
            break;
        }
        uint32_t n = i + piece == b->n_commands ? piece + n_reads : piece;
        st = exo_vk_queue_submit(queue, b->commands + i, n, &p->pending, err);
        /* one piece runs while the next one waits */
        if (st == EXO_OK) st = exo_vk_fence_wait(queue, before, EXO_VK_DEADLINE_MS, err);
        before = p->pending;
    }
    exo_status waited =
        exo_vk_fence_wait(queue, p->pending, EXO_VK_DEADLINE_MS, st == EXO_OK ? err : NULL);
    if (st == EXO_OK) st = waited;
    if (st == EXO_OK) exo_vk_profile_collect(p->profile, b->commands + begin, end - begin);
    return st;
}

/* All of the bucket's commands, and between them what the CPU computes. */
static exo_status run_bucket(exo_plan *p, const exo_vk_bucket *b, const exo_vk_pass *ps,
                             exo_error *err) {
    uint32_t begin = 0, n_spans = p->host != NULL ? p->host->n_spans : 0;
    exo_plan_args args = *ps->args;
    for (uint32_t i = 0; n_spans > 0 && i < ps->n_rows; i++) {
        p->host->rows[i] = ps->args->rows[ps->rows[i]];
    }
    if (n_spans > 0) args.rows = p->host->rows;
    args.n_rows = ps->n_rows;
    for (uint32_t i = 0; i < n_spans; i++) {
        uint32_t end = exo_vk_host_cut(p, b, i);
        exo_status st = submit(p, b, begin, end, &args, err);
        if (st == EXO_OK) st = exo_vk_host_run(p, i, &args, err);
        if (st != EXO_OK) return st;
        begin = end;
    }
    return submit(p, b, begin, b->n_commands, &args, err);
}

exo_status exo_vk_check_finite(const float *x, size_t n, exo_error *err) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return bad == 0 ? EXO_OK : exo_error_set(err, EXO_EINTERNAL, "activation is not finite");
}

/* Row i of a slot as the last pass left it. */
static exo_status read_row(const exo_plan *p, uint32_t slot, uint32_t i, float *out,
                           exo_error *err) {
    const exo_vk_area *a = &p->slots[slot].x;
    return exo_vk_copy_from_device(p->device->vk->transfer, out, p->acts,
                                   a->offset + (VkDeviceSize)i * a->ld * sizeof *out,
                                   p->slot_width[slot] * sizeof *out, err);
}

static exo_status read_output(exo_plan *p, const exo_vk_pass *ps, exo_error *err) {
    float *out = ps->args->x_out;
    exo_status st = EXO_OK;
    if (p->bounds.n_vocab > 0) {
        st = exo_vk_head_end(p, ps, err);
    } else {
        st = exo_vk_memory_invalidate(&p->device->vk->memory, p->output, 0, p->output->size, err);
    }
    if (st != EXO_OK || out == NULL) return st;
    uint32_t width = p->slot_width[0], ld = p->slots[0].x.ld;
    if (p->bounds.n_vocab > 0) { /* no commands bring the rows back then */
        for (uint32_t i = 0; st == EXO_OK && i < ps->n_rows; i++) {
            st = read_row(p, 0, i, out + (size_t)ps->rows[i] * width, err);
        }
        return st;
    }
    const float *rows = (const float *)(const void *)p->output->mapped;
    for (uint32_t i = 0; st == EXO_OK && i < ps->n_rows; i++) {
        float *row = out + (size_t)ps->rows[i] * width;
        memcpy(row, rows + (size_t)i * ld, width * sizeof *rows);
        st = exo_vk_check_finite(row, width, err);
    }
    return st;
}

static exo_status run_pass(exo_plan *p, const exo_vk_bucket *b, const exo_vk_pass *ps,
                           exo_error *err) {
    exo_vk_memory *m = &p->device->vk->memory;
    exo_status st = exo_vk_fence_wait(&p->device->vk->queue, p->pending, EXO_VK_DEADLINE_MS, err);
    if (st != EXO_OK) return st;
    exo_vk_head_begin(p, ps, (uint32_t *)(void *)p->step->mapped);
    write_step(p, ps);
    st = exo_vk_memory_flush(m, p->step, 0, p->step->size, err);
    if (st == EXO_OK && p->input != NULL) {
        write_input(p, ps);
        st = exo_vk_memory_flush(m, p->input, 0, p->input->size, err);
    }
    if (st != EXO_OK) return st;
    while (b->rows < ps->n_rows) b++;
    st = run_bucket(p, b, ps, err);
    return st == EXO_OK ? read_output(p, ps, err) : st;
}

/* The step's rows whose flags, under the mask, are `flags`. */
static exo_vk_pass choose_rows(exo_plan *p, const exo_plan_args *args, uint32_t mask,
                               uint32_t flags) {
    exo_vk_pass ps = {.args = args, .rows = p->pass_rows, .logit_rows = p->pass_logits};
    for (uint32_t i = 0, k = 0; i < args->n_rows; i++) {
        bool wants = k < p->bounds.n_logit_rows && p->bounds.logit_rows[k] == i;
        k += wants;
        if ((args->rows[i].flags & mask) != flags) continue;
        if (wants) p->pass_logits[ps.n_logits++] = ps.n_rows;
        p->pass_rows[ps.n_rows++] = i;
    }
    return ps;
}

/* Rows of prompts first: within a sequence they come before the others, and no row sees another
 * sequence's pages of the same step. */
exo_status exo_vk_plan_run(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    exo_status st = exo_plan_check_step(&p->bounds, args, err);
    if (st == EXO_OK) st = exo_vk_head_check(p, args, err);
    if (st != EXO_OK) return st;
    if (!exo_vk_plan_has_classes(p)) {
        exo_vk_pass all = choose_rows(p, args, 0, 0);
        return run_pass(p, p->buckets, &all, err);
    }
    exo_vk_pass prompt = choose_rows(p, args, EXO_ROW_PROMPT, EXO_ROW_PROMPT);
    prompt.is_followed = prompt.n_logits < p->bounds.n_logit_rows;
    if (prompt.n_rows > 0) st = run_pass(p, p->prompt_buckets, &prompt, err);
    if (st != EXO_OK) return st;
    exo_vk_pass generated = choose_rows(p, args, EXO_ROW_PROMPT, 0);
    return generated.n_rows > 0 ? run_pass(p, p->buckets, &generated, err) : EXO_OK;
}

exo_status exo_vk_plan_read_slot(exo_plan *p, uint32_t slot, uint32_t n_rows, float *out,
                                 exo_error *err) {
    exo_status st = EXO_OK;
    for (uint32_t i = 0; st == EXO_OK && i < n_rows; i++) {
        st = read_row(p, slot, i, out + (size_t)i * p->slot_width[slot], err);
    }
    return st;
}

exo_status exo_vk_plan_read_bytes(exo_plan *p, uint32_t n_words, uint32_t *out, exo_error *err) {
    return exo_vk_copy_from_device(p->device->vk->transfer, out, p->acts, p->bytes.offset,
                                   n_words * sizeof *out, err);
}
