/* golden_head.c - asks of rows of logits against the rows themselves.
 *
 * Only the first column of the weights and of the inputs is not zero, so that the case chooses
 * every logit: bell-shaped on a grid of 1/16, which makes equal ones. */
#include "compute/vulkan/golden_head.h"

#include "base/mem.h"
#include "compute/dmath.h"

#include <math.h>
#include <string.h>

#define COLS           32u
#define DEFAULT_SPREAD 8.0f

typedef struct {
    const exo_vk_head_case *c;
    exo_device *d;
    uint64_t rng;
    float *weights; /* (n_vocab, COLS) */
    float *x;       /* (n, COLS) */
    float *logits;  /* (n, n_vocab) */
    exo_head_ask *asks;
    exo_head_top *tops; /* (n) */
    exo_row *rows;
    exo_weight *w;
    exo_buffer *norm;
    exo_plan *plan;
} bench;

static const exo_backend *const vk = &exo_backend_vulkan;

static double uniform(bench *b) { /* splitmix64; [-1, 1) */
    uint64_t z = (b->rng += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)(int64_t)((z ^ z >> 31) >> 11) * 0x1p-52 - 1;
}

static exo_status make(bench *b, exo_error *err) {
    const exo_vk_head_case *c = b->c;
    size_t n_weights = (size_t)c->n_vocab * COLS;
    b->weights = exo_calloc(n_weights, sizeof *b->weights);
    b->x = exo_calloc((size_t)c->n * COLS, sizeof *b->x);
    b->logits = exo_calloc((size_t)c->n * c->n_vocab, sizeof *b->logits);
    b->asks = exo_calloc(c->n, sizeof *b->asks);
    b->tops = exo_calloc(c->n, sizeof *b->tops);
    b->rows = exo_calloc(c->n, sizeof *b->rows);
    if (b->weights == NULL || b->x == NULL || b->logits == NULL || b->asks == NULL ||
        b->tops == NULL || b->rows == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for a kernel's check");
    }
    float spread = c->spread > 0 ? c->spread : DEFAULT_SPREAD, ones[COLS];
    for (uint32_t i = 0; i < c->n_vocab; i++) {
        double bell = (uniform(b) + uniform(b) + uniform(b)) * (double)spread;
        b->weights[(size_t)i * COLS] = (float)(floor(bell * 16) / 16);
    }
    for (uint32_t i = 0; i < COLS; i++) ones[i] = 0.1767767f; /* the norm makes it 1 again */
    for (uint32_t i = 0; i < c->n; i++) {
        b->x[(size_t)i * COLS] = i % 2 == 0 ? 1 : -1;
        b->rows[i] = (exo_row){.pos = i, .flags = EXO_ROW_LOGITS};
        b->asks[i] = c->ask;
        b->asks[i].position += i;
    }
    exo_status st = vk->weight_create(b->d, EXO_F32, c->n_vocab, COLS, b->weights, &b->w, err);
    if (st == EXO_OK) st = vk->allocate(b->d, sizeof ones, &b->norm, err);
    if (st == EXO_OK) st = vk->copy_to_device(b->d, b->norm, 0, ones, sizeof ones, err);
    if (st != EXO_OK) return st;
    const exo_op op = {.kind = EXO_OP_HEAD,
                       .u.head = {.norm = b->norm, .norm_eps = 1e-6f, .w = b->w}};
    const uint32_t width = COLS;
    const exo_plan_desc desc = {&op, 1, &width, 1, c->n, c->n, 1, c->n / EXO_KV_PAGE_TOKENS + 1};
    return exo_vk_plan_create(b->d, &desc, &b->plan, err);
}

static void finish(bench *b) {
    exo_vk_plan_destroy(b->plan);
    vk->deallocate(b->d, b->norm);
    vk->weight_destroy(b->d, b->w);
    exo_free(b->rows);
    exo_free(b->tops);
    exo_free(b->asks);
    exo_free(b->logits);
    exo_free(b->x);
    exo_free(b->weights);
}

/* ---- what is wanted ---- */

/* The noise of engine/gumbel.h, from its definition. */
static double noise_of(const exo_head_ask *a, uint32_t id) {
    uint32_t c[4] = {id >> 1, a->position, a->choice, 0};
    uint32_t k[2] = {(uint32_t)a->seed, (uint32_t)(a->seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * c[0], q = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(q >> 32) ^ c[1] ^ k[0], (uint32_t)q,
                                  (uint32_t)(p >> 32) ^ c[3] ^ k[1], (uint32_t)p};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    uint64_t bits = c[2 * (id & 1)] | (uint64_t)c[2 * (id & 1) + 1] << 32;
    return -exo_dlog(-exo_dlog(((double)(bits >> 12) + 0.5) * 0x1p-52));
}

static double key_of(const exo_head_ask *a, const float *logits, uint32_t id) {
    if (a->kind != EXO_HEAD_SCORES) return (double)logits[id];
    return (double)logits[id] / (double)a->temperature + noise_of(a, id);
}

static bool has_id(const exo_head_top *top, uint32_t id, float logit) {
    for (uint32_t i = 0; i < top->n_found; i++) {
        if (top->ids[i] == (int32_t)id) return memcmp(&top->logits[i], &logit, sizeof logit) == 0;
    }
    return false;
}

static exo_status check_ids(const bench *b, const exo_head_ask *a, const float *logits,
                            const exo_head_top *top, exo_error *err) {
    double bound = (double)top->bound, slack = 0;
    if (a->kind == EXO_HEAD_SCORES) {
        slack = EXO_HEAD_SCORE_ERROR + EXO_HEAD_SCORE_SHARE * (fabs(bound) + 40);
    }
    if (top->n_found < a->n_ids || top->n_found > EXO_HEAD_MAX_IDS) {
        return exo_error_set(err, EXO_EINTERNAL, "%u ids found where %u were asked for",
                             top->n_found, a->n_ids);
    }
    uint32_t n_least = 0, n_most = 0; /* ids that surely, that perhaps reach the bound */
    for (uint32_t id = 0; id < b->c->n_vocab; id++) {
        double key = key_of(a, logits, id);
        n_least += key >= bound + slack;
        n_most += key >= bound - slack;
        if (key < bound + slack || has_id(top, id, logits[id])) continue;
        return exo_error_set(err, EXO_EINTERNAL, "id %u is missing: %g reaches %g", id, key, bound);
    }
    if (top->n_found >= n_least && top->n_found <= n_most) return EXO_OK;
    return exo_error_set(err, EXO_EINTERNAL, "%u ids found, %u to %u reach %g", top->n_found,
                         n_least, n_most, bound);
}

static exo_status check_sums(const bench *b, const exo_head_ask *a, const float *logits,
                             const exo_head_top *top, exo_error *err) {
    float highest = logits[0];
    double total = 0;
    for (uint32_t i = 0; i < b->c->n_vocab; i++) highest = fmaxf(highest, logits[i]);
    for (uint32_t i = 0; i < b->c->n_vocab; i++) {
        total += exo_dexp((double)logits[i] - (double)highest);
    }
    if (top->highest != highest) {
        return exo_error_set(err, EXO_EINTERNAL, "the highest logit is %g, not %g",
                             (double)top->highest, (double)highest);
    }
    if (!a->total || fabs((double)top->total - total) <= EXO_HEAD_TOTAL_ERROR * total) {
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EINTERNAL, "the total is %.9g, not %.9g", (double)top->total,
                         total);
}

/* The rows again, from the plan, after the step that asked. */
static exo_status check_rows(const bench *b, exo_error *err) {
    float *row = exo_malloc(b->c->n_vocab * sizeof *row);
    if (row == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a kernel's check");
    exo_status st = EXO_OK;
    for (uint32_t i = 0; st == EXO_OK && i < b->c->n; i++) {
        const float *want = b->logits + (size_t)i * b->c->n_vocab;
        st = exo_vk_plan_read_logits(b->plan, i, row, err);
        if (st == EXO_OK && memcmp(row, want, b->c->n_vocab * sizeof *row) != 0) {
            st = exo_error_set(err, EXO_EINTERNAL, "row %u reads differently after an ask", i);
        }
    }
    exo_free(row);
    return st;
}

exo_status exo_vk_check_head(exo_device *d, const exo_vk_head_case *c, exo_error *err) {
    bench b = {.c = c, .d = d, .rng = c->seed};
    exo_status st = make(&b, err);
    const uint32_t pages[64] = {0};
    exo_plan_args args = {
        .rows = b.rows, .n_rows = c->n, .block_table = pages, .x_in = b.x, .logits = b.logits};
    if (st == EXO_OK) st = exo_vk_plan_run(b.plan, &args, err);
    args.asks = b.asks;
    args.tops = b.tops;
    if (st == EXO_OK) st = exo_vk_plan_run(b.plan, &args, err);
    for (uint32_t i = 0; st == EXO_OK && i < c->n; i++) {
        const float *logits = b.logits + (size_t)i * c->n_vocab;
        st = check_ids(&b, &b.asks[i], logits, &b.tops[i], err);
        if (st == EXO_OK) st = check_sums(&b, &b.asks[i], logits, &b.tops[i], err);
    }
    if (st == EXO_OK) st = check_rows(&b, err);
    finish(&b);
    return st;
}
