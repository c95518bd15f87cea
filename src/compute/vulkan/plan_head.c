/* plan_head.c - what becomes of logits: answers to asks, and rows read back.
 *
 * The HEAD writes logits to device memory.  Where the vocabulary is large enough to pay,
 * head_top.comp reduces each row that asks to a bound and the ids that reach it (compute/head.h);
 * rows are copied to where the host reads them only in steps that want whole rows, or afterwards
 * when an answer did not do.  Both kinds of commands are recorded with the plan. */
#include "compute/vulkan/plan_head.h"
#include "compute/vulkan/plan_host.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define MAX_BLOCK    1024u /* ids of a block */
#define MIN_BLOCK    128u
#define MAX_MAXIMA   2048u /* of a row: head_top.comp */
#define MIN_MAXIMA   512u  /* so that the bound of EXO_HEAD_MAX_ASK ids lets few others through */
#define BLOCK_WORDS  4u    /* behind a block's maxima */
#define MIN_VOCAB    4096u /* a smaller row is read as fast as an answer */
#define ANSWER_WORDS (8u + 2u * EXO_HEAD_MAX_IDS)
#define ALIGNMENT    256u
#define NO_PLACE     UINT32_MAX

enum { STAGE_BLOCKS, STAGE_BOUND, STAGE_GATHER, N_STAGES };

/* Words of an answer: head_top.comp's FOUND_*. */
enum { FOUND_COUNT, FOUND_BAD, FOUND_HIGHEST, FOUND_TOTAL, FOUND_BOUND, FOUND_IDS = 8 };

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

/* ---- layout ---- */

/* A row's blocks and the maxima of each, of which a lane keeps four.  Of K maxima the n-th highest
 * is reached by K log(K / (K - n)) ids on average: small vocabularies get smaller blocks, the more
 * so the fewer lanes there are. */
static void divide_row(exo_vk_head *h, uint32_t n_vocab, uint32_t lanes) {
    uint32_t block = MAX_BLOCK;
    h->maxima = lanes < 8 ? 4 * lanes : 32;
    while (block > MIN_BLOCK && h->maxima * ((n_vocab + block - 1) / block) < MIN_MAXIMA) {
        block /= 2;
    }
    h->block4 = block / 4;
    h->n_blocks = (n_vocab + block - 1) / block;
    while (h->maxima > 4 && h->maxima * h->n_blocks > MAX_MAXIMA) h->maxima /= 2;
}

void exo_vk_head_lay_out(exo_plan *p, uint64_t *step_at) {
    exo_vk_head *h = &p->head;
    uint32_t n_vocab = p->bounds.n_vocab;
    h->ld = (uint32_t)round_up(n_vocab, 4);
    h->logits_bytes = (uint64_t)p->desc.max_logit_rows * h->ld * sizeof(float);
    divide_row(h, n_vocab, p->device->shaders.shape.lanes);
    h->takes_asks = n_vocab >= MIN_VOCAB && p->desc.max_logit_rows > 0 &&
                    h->maxima * h->n_blocks <= MAX_MAXIMA && !p->device->shaders.no_head_top &&
                    !exo_vk_host_takes_head(p);
    if (!h->takes_asks) return;
    uint64_t rows = p->desc.max_logit_rows;
    h->answers_bytes = rows * ANSWER_WORDS * sizeof(uint32_t);
    h->blocks_at = round_up(h->answers_bytes, ALIGNMENT);
    h->blocks_bytes = rows * h->n_blocks * (h->maxima + BLOCK_WORDS) * sizeof(float);
    h->asks_at = (uint32_t)*step_at;
    *step_at += EXO_VK_ASK_WORDS * rows;
}

/* ---- recording ---- */

typedef struct {
    uint32_t n_vocab, ld4, n_blocks, block4, asks_at, found_ld, cap;
} push_head_top;

exo_status exo_vk_head_record(exo_vk_recorder *r, exo_error *err) {
    exo_vk_head *h = &r->p->head;
    exo_status st = EXO_OK;
    push_head_top push = {r->p->bounds.n_vocab, h->ld / 4,    h->n_blocks,     h->block4,
                          h->asks_at,           ANSWER_WORDS, EXO_HEAD_MAX_IDS};
    for (uint32_t stage = 0; h->takes_asks && st == EXO_OK && stage < N_STAGES; stage++) {
        exo_vk_dispatch d = exo_vk_new_dispatch(r, EXO_VK_KERNEL_head_top);
        uint32_t use = EXO_VK_USE_SHADER_READ | EXO_VK_USE_SHADER_WRITE;
        d.n_specs = 2;
        d.spec[0] = stage;
        d.spec[1] = h->maxima;
        exo_vk_bind(&d, BIND_IN, h->logits, 0, h->logits_bytes, EXO_VK_USE_SHADER_READ);
        exo_vk_bind(&d, BIND_OUT, h->found, 0, h->answers_bytes, use);
        exo_vk_bind(&d, BIND_PARTIALS, h->found, h->blocks_at, h->blocks_bytes, use);
        memcpy(d.push, &push, sizeof push);
        d.push_bytes = sizeof push;
        exo_vk_grid grid = {EXO_VK_GRID_ASKS, stage == STAGE_BOUND ? 1 : h->n_blocks, 1, 0};
        st = exo_vk_emit_grid(r, &grid, &d.grid, err);
        if (st == EXO_OK) st = exo_vk_emit_dispatch(r, &d, err);
    }
    uint32_t most = r->p->desc.max_logit_rows, rows = r->rows < most ? r->rows : most;
    if (h->takes_asks && st == EXO_OK) {
        exo_vk_emit_copy(r, h->found, 0, h->answers, 0, rows * ANSWER_WORDS * sizeof(uint32_t));
    }
    return st;
}

exo_status exo_vk_head_record_reads(exo_vk_recorder *r, exo_error *err) {
    exo_vk_head *h = &r->p->head;
    uint32_t most = r->p->desc.max_logit_rows;
    exo_status st = EXO_OK;
    for (uint32_t rows = 1; most > 0 && r->p->bounds.n_vocab > 0 && st == EXO_OK; rows *= 2) {
        r->bucket = &h->reads[h->n_reads++];
        r->bucket->rows = rows < most ? rows : most;
        st = exo_vk_begin_commands(r, err);
        if (st != EXO_OK) break;
        exo_vk_emit_copy(r, h->logits, 0, r->p->output, 0,
                         (uint64_t)r->bucket->rows * h->ld * sizeof(float));
        st = exo_vk_end_for_host(r, err);
        if (rows >= most) break;
    }
    return st;
}

/* ---- steps ---- */

static void write_ask(uint32_t *at, const exo_head_ask *ask) {
    float inverse = ask->kind == EXO_HEAD_SCORES ? 1.0f / ask->temperature : 0;
    at[0] = (uint32_t)ask->kind;
    at[1] = ask->n_ids;
    at[2] = ask->total;
    memcpy(&at[3], &inverse, sizeof inverse);
    at[4] = (uint32_t)ask->seed;
    at[5] = (uint32_t)(ask->seed >> 32);
    at[6] = ask->choice;
    at[7] = ask->position;
}

static bool asks(const exo_plan_args *args, uint32_t i) {
    return args->asks != NULL && args->asks[i].kind != EXO_HEAD_LOGITS;
}

exo_status exo_vk_head_allocate(exo_plan *p, exo_error *err) {
    exo_vk_head *h = &p->head;
    uint64_t most = p->desc.max_logit_rows;
    if (!h->takes_asks) return EXO_OK;
    h->places = exo_calloc(most, sizeof *h->places);
    if (exo_vk_plan_has_classes(p)) {
        h->kept = exo_calloc(most * p->bounds.n_vocab, sizeof *h->kept);
        if (h->kept == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    }
    return h->places != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
}

exo_status exo_vk_head_check(exo_plan *p, const exo_plan_args *args, exo_error *err) {
    p->head.n_step = 0;
    if (args->asks != NULL && !p->head.takes_asks) {
        return exo_error_set(err, EXO_EINVAL, "this plan takes no asks");
    }
    for (uint32_t i = 0; i < p->bounds.n_logit_rows; i++) {
        if (!asks(args, i)) continue;
        const exo_head_ask *ask = &args->asks[i];
        bool scores = ask->kind == EXO_HEAD_SCORES;
        if (args->tops == NULL || ask->n_ids == 0 || ask->n_ids > EXO_HEAD_MAX_ASK ||
            (scores && !(ask->temperature > 0))) {
            return exo_error_set(err, EXO_EINVAL, "an ask for %u ids at temperature %g", ask->n_ids,
                                 (double)ask->temperature);
        }
    }
    return EXO_OK;
}

/* Where row i of the pass' logits stands among the step's. */
static uint32_t place_of(const exo_plan *p, const exo_vk_pass *ps, uint32_t i) {
    uint32_t row = ps->rows[ps->logit_rows[i]], k = 0;
    while (p->bounds.logit_rows[k] != row) k++;
    return k;
}

void exo_vk_head_begin(exo_plan *p, const exo_vk_pass *ps, uint32_t *words) {
    exo_vk_head *h = &p->head;
    h->n_asks = 0;
    h->reads_rows = false;
    if (ps->n_logits == 0) return; /* those of the pass before stay where they are */
    h->n_rows = ps->n_logits;
    for (uint32_t i = 0; h->takes_asks && i < h->n_rows; i++) {
        uint32_t *at = words + h->asks_at + (size_t)EXO_VK_ASK_WORDS * i, k = place_of(p, ps, i);
        at[0] = EXO_HEAD_LOGITS;
        if (!asks(ps->args, k)) continue;
        write_ask(at, &ps->args->asks[k]);
        h->n_asks++;
    }
    h->reads_rows = h->n_asks < h->n_rows || ps->is_followed;
    h->is_read = false;
}

VkCommandBuffer exo_vk_head_reads(const exo_plan *p) {
    uint32_t i = 0;
    while (p->head.reads[i].rows < p->head.n_rows) i++;
    return p->head.reads[i].commands[0];
}

static exo_status take_row(const exo_plan *p, uint32_t i, float *out, exo_error *err) {
    const float *row = (const float *)(const void *)p->output->mapped + (size_t)i * p->head.ld;
    memcpy(out, row, p->bounds.n_vocab * sizeof *out);
    return exo_vk_check_finite(out, p->bounds.n_vocab, err);
}

static exo_status take_answer(const exo_plan *p, uint32_t i, exo_head_top *out, exo_error *err) {
    const uint32_t *at =
        (const uint32_t *)(const void *)p->head.answers->mapped + (size_t)i * ANSWER_WORDS;
    if (at[FOUND_BAD] != 0) return exo_vk_check_finite(&(float){INFINITY}, 1, err);
    out->n_found = at[FOUND_COUNT];
    memcpy(&out->highest, &at[FOUND_HIGHEST], sizeof out->highest);
    memcpy(&out->total, &at[FOUND_TOTAL], sizeof out->total);
    memcpy(&out->bound, &at[FOUND_BOUND], sizeof out->bound);
    uint32_t n = out->n_found < EXO_HEAD_MAX_IDS ? out->n_found : EXO_HEAD_MAX_IDS;
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t *id = at + FOUND_IDS + (size_t)2 * k;
        if (id[0] >= p->bounds.n_vocab) {
            return exo_error_set(err, EXO_EINTERNAL, "the device found token %u of %u", id[0],
                                 p->bounds.n_vocab);
        }
        out->ids[k] = (int32_t)id[0];
        memcpy(&out->logits[k], &id[1], sizeof out->logits[k]);
    }
    return EXO_OK;
}

/* Row i of a pass whose commands brought it. */
static exo_status end_row(exo_plan *p, const exo_vk_pass *ps, uint32_t i, exo_error *err) {
    exo_vk_head *h = &p->head;
    uint32_t k = place_of(p, ps, i), n_vocab = p->bounds.n_vocab;
    exo_status st = EXO_OK;
    if (h->places != NULL) h->places[k] = ps->is_followed ? NO_PLACE : i;
    if (!asks(ps->args, k)) {
        float *row = ps->args->logits + (size_t)k * n_vocab;
        st = take_row(p, i, row, err);
        if (st == EXO_OK && h->kept != NULL && ps->is_followed) {
            memcpy(h->kept + (size_t)k * n_vocab, row, n_vocab * sizeof *row);
        }
        return st;
    }
    st = take_answer(p, i, &ps->args->tops[k], err);
    if (st == EXO_OK && ps->is_followed) {
        st = take_row(p, i, h->kept + (size_t)k * n_vocab, err);
    }
    return st;
}

exo_status exo_vk_head_end(exo_plan *p, const exo_vk_pass *ps, exo_error *err) {
    exo_vk_head *h = &p->head;
    exo_vk_memory *m = &p->device->vk->memory;
    exo_status st = EXO_OK;
    if (h->reads_rows) {
        h->is_read = true;
        st = exo_vk_memory_invalidate(m, p->output, 0, p->output->size, err);
    }
    if (st == EXO_OK && h->n_asks > 0) {
        st = exo_vk_memory_invalidate(m, h->answers, 0, h->answers->size, err);
    }
    for (uint32_t i = 0; st == EXO_OK && i < ps->n_logits; i++) st = end_row(p, ps, i, err);
    if (st == EXO_OK && !ps->is_followed) h->n_step = p->bounds.n_logit_rows;
    return st;
}

bool exo_vk_plan_takes_asks(const exo_plan *p) { return p->head.takes_asks; }

exo_status exo_vk_plan_read_logits(exo_plan *p, uint32_t i, float *out, exo_error *err) {
    exo_vk_head *h = &p->head;
    exo_vk_device *d = p->device->vk;
    uint32_t n_vocab = p->bounds.n_vocab;
    if (i >= h->n_step || h->places == NULL) {
        return exo_error_set(err, EXO_EINVAL, "logits %u of a step with %u", i, h->n_step);
    }
    if (h->places[i] == NO_PLACE) {
        memcpy(out, h->kept + (size_t)i * n_vocab, n_vocab * sizeof *out);
        return EXO_OK;
    }
    if (!h->is_read) {
        VkCommandBuffer reads = exo_vk_head_reads(p);
        exo_status st = exo_vk_queue_submit(&d->queue, &reads, 1, &p->pending, err);
        if (st == EXO_OK) st = exo_vk_fence_wait(&d->queue, p->pending, EXO_VK_DEADLINE_MS, err);
        if (st == EXO_OK) {
            st = exo_vk_memory_invalidate(&d->memory, p->output, 0, p->output->size, err);
        }
        if (st != EXO_OK) return st;
        h->is_read = true;
    }
    return take_row(p, h->places[i], out, err);
}
