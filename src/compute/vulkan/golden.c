/* golden.c - inputs from a seed, results in double precision, and the comparison.
 *
 * A check owns everything it makes in one `bench`, which frees it at the end whatever happened. */
#include "compute/vulkan/golden.h"

#include "base/clock.h"
#include "base/half.h"
#include "base/le.h"
#include "base/mem.h"
#include "compute/cpu/reference.h"

#include <math.h>
#include <string.h>

#define MAX_THINGS 64
#define NORM_EPS   1e-5f
#define MAX_ROPE   512

/* What a check made; a fault makes every later step a no-op that returns NULL. */
typedef struct {
    exo_device *d;
    uint64_t rng;
    void *memory[MAX_THINGS];
    exo_weight *weights[MAX_THINGS];
    exo_buffer *buffers[MAX_THINGS];
    uint32_t n_memory, n_weights, n_buffers;
    exo_plan *plan;
    exo_status st;
    exo_error *err;
} bench;

static const exo_backend *const vk = &exo_backend_vulkan;

static void bench_finish(bench *b) {
    exo_vk_plan_destroy(b->plan);
    for (uint32_t i = 0; i < b->n_weights; i++) vk->weight_destroy(b->d, b->weights[i]);
    for (uint32_t i = 0; i < b->n_buffers; i++) vk->deallocate(b->d, b->buffers[i]);
    for (uint32_t i = 0; i < b->n_memory; i++) exo_free(b->memory[i]);
}

static void *take(bench *b, size_t bytes) { /* zeroed */
    if (b->st != EXO_OK) return NULL;
    void *p = exo_calloc(1, bytes);
    if (p == NULL) {
        b->st = exo_error_set(b->err, EXO_ENOMEM, "no memory for a kernel's check");
        return NULL;
    }
    b->memory[b->n_memory++] = p;
    return p;
}

static float *take_floats(bench *b, size_t n) { return take(b, n * sizeof(float)); }

/* ---- inputs ---- */

static uint64_t next(bench *b) { /* splitmix64 */
    uint64_t z = (b->rng += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static float uniform(bench *b) { return (float)(next(b) >> 40) * 0x1p-23f - 1.0f; } /* [-1, 1) */

static float *random_floats(bench *b, size_t n, float about, float spread) {
    float *x = take_floats(b, n);
    for (size_t i = 0; x != NULL && i < n; i++) x[i] = about + spread * uniform(b);
    return x;
}

/* One block of any type as a file holds it: all bit patterns of quants, moderate scales. */
static void random_block(bench *b, exo_dtype type, uint8_t *block) {
    const exo_dtype_info *info = exo_dtype_get(type);
    for (uint32_t i = 0; i < info->block_bytes; i++) block[i] = (uint8_t)(next(b) >> 56);
    float scale = 0.002f * (1 + 0.5f * uniform(b));
    switch (type) {
    case EXO_F32: exo_put_f32(block, 0.05f * uniform(b)); return;
    case EXO_F16: exo_put_u16(block, exo_f32_to_f16(0.05f * uniform(b))); return;
    case EXO_BF16: exo_put_u16(block, exo_f32_to_bf16(0.05f * uniform(b))); return;
    case EXO_Q4_1:
    case EXO_Q5_1:
        exo_put_u16(block, exo_f32_to_f16(scale));
        exo_put_u16(block + 2, exo_f32_to_f16(-10 * scale));
        return;
    case EXO_Q4_K:
    case EXO_Q5_K:
        exo_put_u16(block, exo_f32_to_f16(0.1f * scale));
        exo_put_u16(block + 2, exo_f32_to_f16(0.1f * scale));
        return;
    case EXO_Q2_K:
        exo_put_u16(block + 80, exo_f32_to_f16(scale));
        exo_put_u16(block + 82, exo_f32_to_f16(0.5f * scale));
        return;
    case EXO_Q3_K: exo_put_u16(block + 108, exo_f32_to_f16(0.2f * scale)); return;
    case EXO_MXFP4: block[0] = (uint8_t)(118 + block[0] % 4); return;
    case EXO_Q6_K: exo_put_u16(block + 208, exo_f32_to_f16(0.1f * scale)); return;
    default: exo_put_u16(block, exo_f32_to_f16(scale)); return;
    }
}

static exo_weight *upload_weight(bench *b, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                                 const void *file) {
    exo_weight *w = NULL;
    if (b->st == EXO_OK) b->st = vk->weight_create(b->d, type, n_rows, n_cols, file, &w, b->err);
    if (b->st == EXO_OK) b->weights[b->n_weights++] = w;
    return w;
}

static exo_buffer *upload(bench *b, const void *bytes, size_t n) { /* NULL: zeros */
    exo_buffer *buffer = NULL;
    if (b->st == EXO_OK) b->st = vk->allocate(b->d, n, &buffer, b->err);
    if (b->st != EXO_OK) return NULL;
    b->buffers[b->n_buffers++] = buffer;
    if (bytes != NULL) b->st = vk->copy_to_device(b->d, buffer, 0, bytes, n, b->err);
    return buffer;
}

/* The file's bytes as f32, (n_rows, n_cols), by the CPU's reference. */
static float *dequantise(bench *b, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                         const void *file) {
    float *out = take_floats(b, (size_t)n_rows * n_cols);
    exo_pool *pool = NULL;
    exo_weight *w = NULL;
    if (b->st == EXO_OK) b->st = exo_pool_create(1, false, &pool, b->err);
    if (b->st == EXO_OK) b->st = exo_weight_pack(pool, type, n_rows, n_cols, file, &w, b->err);
    for (uint32_t i = 0; b->st == EXO_OK && i < n_rows; i++) {
        exo_ref_embed(w, i, out + (size_t)i * n_cols);
    }
    exo_weight_free(w);
    exo_pool_destroy(pool);
    return out;
}

typedef struct {
    exo_weight *device;
    float *values; /* (n_rows, n_cols) */
    uint32_t n_rows, n_cols;
} matrix;

static matrix random_matrix(bench *b, exo_dtype type, uint32_t n_rows, uint32_t n_cols) {
    const exo_dtype_info *info = exo_dtype_get(type);
    size_t bytes = n_rows * exo_dtype_row_bytes(type, n_cols);
    uint8_t *file = take(b, bytes);
    for (size_t at = 0; file != NULL && at < bytes; at += info->block_bytes) {
        random_block(b, type, file + at);
    }
    return (matrix){upload_weight(b, type, n_rows, n_cols, file),
                    dequantise(b, type, n_rows, n_cols, file), n_rows, n_cols};
}

/* ---- running and comparing ---- */

static void make_plan(bench *b, const exo_plan_desc *desc) {
    if (b->st == EXO_OK) b->st = exo_vk_plan_create(b->d, desc, &b->plan, b->err);
}

/* What is to come out, (n, width), and how much more than the tolerance each element may be off. */
typedef struct {
    float *y, *slack; /* slack NULL: nothing */
} wanted;

/* (n, width) against what is wanted. */
static void compare(bench *b, const char *what, const float *got, wanted want, uint32_t n,
                    uint32_t width) {
    for (uint32_t i = 0; b->st == EXO_OK && i < n; i++) {
        const float *g = got + (size_t)i * width, *w = want.y + (size_t)i * width;
        const float *slack = want.slack != NULL ? want.slack + (size_t)i * width : NULL;
        double squares = 0;
        for (uint32_t k = 0; k < width; k++) squares += (double)w[k] * w[k];
        double tolerance = EXO_VK_TOLERANCE * sqrt(squares / width) + 1e-30;
        for (uint32_t k = 0; k < width; k++) {
            double most = tolerance + (slack != NULL ? (double)slack[k] : 0);
            if (fabs((double)g[k] - w[k]) <= most) continue; /* false for NaN */
            b->st = exo_error_set(b->err, EXO_EINTERNAL, "%s: row %u, element %u is %g, not %g",
                                  what, i, k, (double)g[k], (double)w[k]);
            return;
        }
    }
}

static void compare_slot(bench *b, const char *what, uint32_t slot, wanted want, uint32_t n,
                         uint32_t width) {
    float *got = take_floats(b, (size_t)n * width);
    if (b->st == EXO_OK) b->st = exo_vk_plan_read_slot(b->plan, slot, n, got, b->err);
    if (b->st == EXO_OK) compare(b, what, got, want, n, width);
}

static exo_row *rows_of_class(bench *b, uint32_t n, bool prompt) {
    exo_row *rows = take(b, n * sizeof *rows);
    for (uint32_t i = 0; rows != NULL && i < n; i++) {
        rows[i] = (exo_row){.pos = i, .flags = prompt ? EXO_ROW_PROMPT : 0u};
    }
    return rows;
}

static exo_row *plain_rows(bench *b, uint32_t n) { return rows_of_class(b, n, false); }

/* ---- products ---- */

static double rms_factor(const float *x, uint32_t k) {
    double squares = 0;
    for (uint32_t e = 0; e < k; e++) squares += (double)x[e] * x[e];
    return 1 / sqrt(squares / k + (double)NORM_EPS);
}

/* x (n, k) normed by weight (k). */
static float *normed(bench *b, const float *x, const float *weight, uint32_t n, uint32_t k) {
    float *out = take_floats(b, (size_t)n * k);
    for (uint32_t i = 0; out != NULL && i < n; i++) {
        double f = rms_factor(x + (size_t)i * k, k);
        for (uint32_t e = 0; e < k; e++) {
            out[(size_t)i * k + e] = (float)(x[(size_t)i * k + e] * f * weight[e]);
        }
    }
    return out;
}

/* The input of a product, (n, n_cols), and by how much each element may be off (NULL: not at all).
 */
typedef struct {
    float *x, *slack;
    uint32_t n, n_cols;
} inputs;

/* A value so close to the middle of two integers may be rounded to either: Vulkan does not ask for
 * exact division. */
#define TIE 1e-4

/* x (n, k), normed by weight unless that is NULL, as int8 in blocks of the type and back. */
static inputs rounded(bench *b, exo_dtype type, const float *x, const float *weight, uint32_t n,
                      uint32_t k) {
    inputs in = {take_floats(b, (size_t)n * k), take_floats(b, (size_t)n * k), n, k};
    uint32_t block = 32 * exo_vk_dot_block_units(type);
    float *row = take_floats(b, k), *d = take_floats(b, k / block);
    int8_t *q = take(b, k);
    int32_t *sums = take(b, k * sizeof *sums); /* of either form */
    for (uint32_t i = 0; b->st == EXO_OK && i < n; i++) {
        const float *from = x + (size_t)i * k;
        double f = weight != NULL ? rms_factor(from, k) : 1;
        for (uint32_t e = 0; e < k; e++) row[e] = weight != NULL ? from[e] * weight[e] : from[e];
        bool finite = block == 32 ? exo_ref_quantize32(row, k, q, d, sums)
                                  : exo_ref_quantize256(row, k, q, d, (int16_t *)(void *)sums);
        if (!finite) b->st = exo_error_set(b->err, EXO_EINTERNAL, "an input is not finite");
        for (uint32_t e = 0; e < k; e++) {
            double step = (double)d[e / block], exact = step > 0 ? fabs((double)row[e] / step) : 0;
            bool tie = fabs(exact - floor(exact) - 0.5) < TIE;
            in.x[(size_t)i * k + e] = (float)(q[e] * step * f);
            in.slack[(size_t)i * k + e] = tie ? (float)(step * f) : 0;
        }
    }
    return in;
}

/* (n, n_rows): W x + bias. */
static wanted multiplied(bench *b, const matrix *m, const inputs *in, const float *bias) {
    size_t count = (size_t)in->n * m->n_rows;
    wanted out = {take_floats(b, count), in->slack != NULL ? take_floats(b, count) : NULL};
    for (size_t at = 0; b->st == EXO_OK && at < count; at++) {
        const float *w = m->values + at % m->n_rows * m->n_cols;
        size_t first = at / m->n_rows * m->n_cols;
        double sum = bias != NULL ? (double)bias[at % m->n_rows] : 0, slack = 0;
        for (uint32_t e = 0; e < m->n_cols; e++) {
            sum += (double)w[e] * in->x[first + e];
            if (in->slack != NULL) slack += fabs((double)w[e]) * in->slack[first + e];
        }
        out.y[at] = (float)sum;
        if (out.slack != NULL) out.slack[at] = (float)slack;
    }
    return out;
}

/* y[0] = silu(y[0]) y[1]; the derivative of silu is at most 1.1. */
static void silu_multiply(wanted y[2], size_t count) {
    for (size_t k = 0; k < count; k++) {
        double silu = y[0].y[k] / (1 + exp(-(double)y[0].y[k])), up = (double)y[1].y[k];
        if (y[0].slack != NULL) {
            double up_slack = y[1].slack != NULL ? (double)y[1].slack[k] : 0;
            y[0].slack[k] = (float)(1.1 * y[0].slack[k] * fabs(up) + fabs(silu) * up_slack);
        }
        y[0].y[k] = (float)(silu * up);
    }
}

static void double_all(wanted y, size_t count) {
    for (size_t k = 0; k < count; k++) {
        y.y[k] *= 2;
        if (y.slack != NULL) y.slack[k] *= 2;
    }
}

typedef struct {
    bench b;
    matrix m[EXO_MATMUL_PARTS];
    float *x, *norm, *bias[EXO_MATMUL_PARTS];
    exo_op op;
    uint32_t width[1 + EXO_MATMUL_PARTS]; /* slots: the input, each part's output */
} product_bench;

static void product_inputs(product_bench *p, const exo_vk_product_case *c) {
    bench *b = &p->b;
    exo_op_matmul *m = &p->op.u.matmul;
    p->op.kind = EXO_OP_MATMUL;
    m->norm_eps = NORM_EPS;
    m->n_parts = c->n_parts;
    m->epilogue = c->epilogue;
    p->width[0] = c->n_cols;
    p->x = random_floats(b, (size_t)c->n * c->n_cols, 0, 1);
    if (c->norm) {
        p->norm = random_floats(b, c->n_cols, 1, 0.5f);
        m->norm = upload(b, p->norm, c->n_cols * sizeof(float));
    }
    for (uint32_t i = 0; i < c->n_parts; i++) {
        p->m[i] = random_matrix(b, c->type[i], c->n_rows[i], c->n_cols);
        m->w[i] = p->m[i].device;
        m->out[i] = 1 + i;
        p->width[1 + i] = c->n_rows[i];
        if (!c->bias) continue;
        p->bias[i] = random_floats(b, c->n_rows[i], 0, 0.2f);
        m->bias[i] = upload(b, p->bias[i], c->n_rows[i] * sizeof(float));
    }
}

/* What part i multiplies: the rows as they are, or as its dot kernel is given them. */
static inputs product_input(product_bench *p, const exo_vk_product_case *c, uint32_t i) {
    bench *b = &p->b;
    if (c->prompt && b->d->shaders.dot[c->type[i]]) {
        return rounded(b, c->type[i], p->x, p->norm, c->n, c->n_cols);
    }
    float *x = c->norm ? normed(b, p->x, p->norm, c->n, c->n_cols) : p->x;
    return (inputs){x, NULL, c->n, c->n_cols};
}

static void product_compare(product_bench *p, const exo_vk_product_case *c) {
    bench *b = &p->b;
    wanted y[EXO_MATMUL_PARTS] = {{NULL, NULL}};
    for (uint32_t i = 0; b->st == EXO_OK && i < c->n_parts; i++) {
        inputs in = product_input(p, c, i);
        if (b->st == EXO_OK) y[i] = multiplied(b, &p->m[i], &in, p->bias[i]);
    }
    if (b->st != EXO_OK) return;
    size_t count = (size_t)c->n * c->n_rows[0];
    if (c->epilogue == EXO_EPILOGUE_SILU_MUL) silu_multiply(y, count);
    if (c->epilogue == EXO_EPILOGUE_ADD) double_all(y[0], count);
    uint32_t n_out = c->epilogue == EXO_EPILOGUE_STORE ? c->n_parts : 1;
    for (uint32_t i = 0; i < n_out; i++) {
        compare_slot(b, "product", 1 + i, y[i], c->n, c->n_rows[i]);
    }
}

exo_status exo_vk_check_product(exo_device *d, const exo_vk_product_case *c, exo_error *err) {
    product_bench p = {.b = {.d = d, .rng = c->seed, .err = err}};
    bench *b = &p.b;
    product_inputs(&p, c);
    exo_plan_desc desc = {&p.op, 1, p.width, 1 + c->n_parts, c->n, 0, 1, c->n / 32 + 1};
    make_plan(b, &desc);
    exo_row *rows = rows_of_class(b, c->n, c->prompt);
    float *out = take_floats(b, (size_t)c->n * c->n_cols);
    exo_plan_args args = {.rows = rows, .n_rows = c->n, .x_in = p.x, .x_out = out};
    /* added twice, so that a residual is there */
    for (int i = 0; i < (c->epilogue == EXO_EPILOGUE_ADD ? 2 : 1); i++) {
        if (b->st == EXO_OK) b->st = exo_vk_plan_run(b->plan, &args, err);
    }
    if (b->st == EXO_OK) product_compare(&p, c);
    bench_finish(b);
    return b->st;
}

/* ---- int8 inputs ---- */

/* A product of these rows whose dot kernel is given them; what it computes is not looked at. */
static void rounding_plan(bench *b, exo_op *op, exo_dtype type, uint32_t n, const uint32_t *width) {
    matrix m = random_matrix(b, type, width[1], width[0]);
    *op = (exo_op){.kind = EXO_OP_MATMUL, .u.matmul = {.n_parts = 1, .w = {m.device}, .out = {1}}};
    exo_plan_desc desc = {op, 1, width, 2, n, 0, 1, n / 32 + 1};
    make_plan(b, &desc);
}

static void compare_bytes(bench *b, const uint32_t *got, const inputs *want, exo_dtype type) {
    uint32_t k = want->n_cols, ld = exo_vk_dot_row_words(k / 32);
    for (uint32_t at = 0; at < want->n * k; at++) {
        const uint32_t *row = got + (size_t)(at / k) * ld;
        uint32_t e = at % k, word = row[e / 4] >> 8 * (e % 4);
        int8_t q;
        float d;
        memcpy(&q, &word, 1);
        memcpy(&d, &row[k / 4 + e / 32 * 2], sizeof d);
        double off = fabs((double)d * q - want->x[at]);
        if (off <= 1e-5 * fabs((double)want->x[at]) + want->slack[at]) continue;
        b->st =
            exo_error_set(b->err, EXO_EINTERNAL, "%s: element %u of row %u is %g, not %g",
                          exo_dtype_get(type)->name, e, at / k, (double)d * q, (double)want->x[at]);
        return;
    }
}

exo_status exo_vk_check_quantize(exo_device *d, exo_dtype type, uint32_t n, uint32_t n_cols,
                                 exo_error *err) {
    bench b = {.d = d, .rng = n_cols, .err = err};
    exo_op op;
    const uint32_t width[] = {n_cols, 16};
    bool before = d->shaders.dot[type];
    exo_vk_shaders_use_dot(&d->shaders, type, true);
    rounding_plan(&b, &op, type, n, width);
    exo_vk_shaders_use_dot(&d->shaders, type, before);
    float *x = random_floats(&b, (size_t)n * n_cols, 0, 3);
    for (uint32_t e = 0; b.st == EXO_OK && e < 32; e++) x[e] *= 1e-37f; /* a block of nothing */
    inputs want = b.st == EXO_OK ? rounded(&b, type, x, NULL, n, n_cols) : (inputs){0};
    float *out = take_floats(&b, (size_t)n * n_cols);
    exo_row *rows = rows_of_class(&b, n, true);
    uint32_t ld = exo_vk_dot_row_words(n_cols / 32);
    uint32_t *got = take(&b, (size_t)n * ld * sizeof *got);
    exo_plan_args args = {.rows = rows, .n_rows = n, .x_in = x, .x_out = out};
    if (b.st == EXO_OK) b.st = exo_vk_plan_run(b.plan, &args, err);
    if (b.st == EXO_OK) b.st = exo_vk_plan_read_bytes(b.plan, n * ld, got, err);
    if (b.st == EXO_OK) compare_bytes(&b, got, &want, type);
    bench_finish(&b);
    return b.st;
}

#define TIMED_RUNS 3

exo_status exo_vk_time_product(exo_device *d, const exo_vk_timing_case *c, double per_s[2],
                               exo_error *err) {
    bench b = {.d = d, .rng = 1, .err = err};
    const uint32_t width[] = {c->n_cols, c->n_rows};
    size_t bytes = c->n_rows * exo_dtype_row_bytes(c->type, c->n_cols);
    void *file = take(&b, bytes); /* what is multiplied does not matter */
    exo_op op = {.kind = EXO_OP_MATMUL,
                 .u.matmul = {.n_parts = 1,
                              .w = {upload_weight(&b, c->type, c->n_rows, c->n_cols, file)},
                              .out = {1}}};
    exo_plan_desc desc = {&op, 1, width, 2, c->n, 0, 1, c->n / 32 + 1};
    make_plan(&b, &desc);
    float *x = random_floats(&b, (size_t)c->n * c->n_cols, 0, 1);
    float *out = take_floats(&b, (size_t)c->n * c->n_cols);
    const exo_row *rows[2] = {rows_of_class(&b, c->n, false), rows_of_class(&b, c->n, true)};
    per_s[0] = per_s[1] = 0;
    for (int i = 0; b.st == EXO_OK && i < 2 * (1 + TIMED_RUNS); i++) { /* the first warms up */
        exo_plan_args args = {.rows = rows[i % 2], .n_rows = c->n, .x_in = x, .x_out = out};
        uint64_t begin = exo_now_ns();
        b.st = exo_vk_plan_run(b.plan, &args, err);
        double rate =
            (double)c->n_rows * c->n_cols * c->n * 1e9 / (double)(exo_now_ns() - begin + 1);
        if (i >= 2 && rate > per_s[i % 2]) per_s[i % 2] = rate;
    }
    bench_finish(&b);
    return b.st;
}

/* ---- embedding ---- */

exo_status exo_vk_check_embed(exo_device *d, const exo_vk_embed_case *c, exo_error *err) {
    bench b = {.d = d, .rng = c->seed, .err = err};
    matrix table = random_matrix(&b, c->type, c->n_rows, c->n_cols);
    matrix head = random_matrix(&b, EXO_F32, 7, c->n_cols);
    float *norm = random_floats(&b, c->n_cols, 1, 0.5f);
    exo_op ops[2] = {{.kind = EXO_OP_EMBED, .u.embed = {.table = table.device}},
                     {.kind = EXO_OP_HEAD,
                      .u.head = {.norm = upload(&b, norm, c->n_cols * sizeof(float)),
                                 .norm_eps = NORM_EPS,
                                 .w = head.device}}};
    exo_plan_desc desc = {ops,  c->next_norm ? 2u : 1u,  &c->n_cols, 1,
                          c->n, c->next_norm ? c->n : 0, 1,          c->n / 32 + 1};
    make_plan(&b, &desc);
    exo_row *rows = plain_rows(&b, c->n);
    float *want = take_floats(&b, (size_t)c->n * c->n_cols);
    float *out = take_floats(&b, (size_t)c->n * c->n_cols);
    float *logits = take_floats(&b, (size_t)c->n * 7);
    for (uint32_t i = 0; b.st == EXO_OK && i < c->n; i++) {
        rows[i].token = (int32_t)(i == 0 ? c->n_rows - 1 : next(&b) % c->n_rows);
        rows[i].flags = EXO_ROW_LOGITS;
        memcpy(want + (size_t)i * c->n_cols, table.values + (size_t)rows[i].token * c->n_cols,
               c->n_cols * sizeof *want);
    }
    exo_plan_args args = {
        .rows = rows, .n_rows = c->n, .x_out = out, .logits = c->next_norm ? logits : NULL};
    if (b.st == EXO_OK) b.st = exo_vk_plan_run(b.plan, &args, err);
    if (b.st == EXO_OK) compare(&b, "embedding", out, (wanted){want, NULL}, c->n, c->n_cols);
    if (b.st == EXO_OK && c->next_norm) {
        inputs in = {normed(&b, want, norm, c->n, c->n_cols), NULL, c->n, c->n_cols};
        wanted y = b.st == EXO_OK ? multiplied(&b, &head, &in, NULL) : (wanted){NULL, NULL};
        if (b.st == EXO_OK) compare(&b, "logits", logits, y, c->n, 7);
    }
    bench_finish(&b);
    return b.st;
}

/* ---- rope and attention ---- */

enum { SLOT_IN, SLOT_Q, SLOT_K, SLOT_V, SLOT_OUT, N_SLOTS };

typedef struct {
    bench b;
    const exo_vk_attention_case *c;
    uint32_t q_width, kv_width, width; /* of q; of k and of v; of all three */
    float *x;                          /* (n_tokens, width): q, k, v */
    float *q_norm, *k_norm;
    double inv_freq[MAX_ROPE / 2];
    exo_op ops[3];
    uint32_t slot_width[N_SLOTS];
    uint32_t *pages;
    uint32_t n_pages;
} attention_bench;

/* Rows [from, from + n_rows) of the identity of n_cols: a product that copies. */
static exo_weight *selection(bench *b, uint32_t from, uint32_t n_rows, uint32_t n_cols) {
    float *file = take_floats(b, (size_t)n_rows * n_cols);
    for (uint32_t i = 0; file != NULL && i < n_rows; i++) file[(size_t)i * n_cols + from + i] = 1;
    return upload_weight(b, EXO_F32, n_rows, n_cols, file);
}

static void attention_ops(attention_bench *a) {
    const exo_vk_attention_case *c = a->c;
    bench *b = &a->b;
    uint32_t q = a->q_width, kv = a->kv_width;
    size_t bytes = a->n_pages * exo_kv_page_bytes(c->kv_type, c->n_kv_heads, c->head_dim);
    exo_buffer *k_pages = upload(b, NULL, bytes), *v_pages = upload(b, NULL, bytes);
    a->ops[0] =
        (exo_op){.kind = EXO_OP_MATMUL,
                 .u.matmul = {.in = SLOT_IN,
                              .n_parts = 3,
                              .w = {selection(b, 0, q, a->width), selection(b, q, kv, a->width),
                                    selection(b, q + kv, kv, a->width)},
                              .out = {SLOT_Q, SLOT_K, SLOT_V}}};
    a->ops[1] = (exo_op){.kind = EXO_OP_ROPE_KV,
                         .u.rope_kv = {.q = SLOT_Q,
                                       .k = SLOT_K,
                                       .v = SLOT_V,
                                       .norm_eps = NORM_EPS,
                                       .n_heads = c->n_heads,
                                       .n_kv_heads = c->n_kv_heads,
                                       .head_dim = c->head_dim,
                                       .rope_dims = c->rope_dims,
                                       .rope_neox = c->neox,
                                       .rope_inv_freq = a->inv_freq,
                                       .rope_scale = 1,
                                       .k_pages = k_pages,
                                       .v_pages = v_pages,
                                       .kv_type = c->kv_type}};
    a->ops[2] = (exo_op){.kind = EXO_OP_ATTENTION,
                         .u.attention = {.q = SLOT_Q,
                                         .out = SLOT_OUT,
                                         .n_heads = c->n_heads,
                                         .n_kv_heads = c->n_kv_heads,
                                         .head_dim = c->head_dim,
                                         .scale = 1 / sqrtf((float)c->head_dim),
                                         .k_pages = k_pages,
                                         .v_pages = v_pages,
                                         .kv_type = c->kv_type}};
    if (!c->qk_norm) return;
    size_t norm_bytes = c->head_dim * sizeof(float);
    a->ops[1].u.rope_kv.q_norm = upload(b, a->q_norm, norm_bytes);
    a->ops[1].u.rope_kv.k_norm = upload(b, a->k_norm, norm_bytes);
}

static void attention_inputs(attention_bench *a) {
    const exo_vk_attention_case *c = a->c;
    a->q_width = c->n_heads * c->head_dim;
    a->kv_width = c->n_kv_heads * c->head_dim;
    a->width = a->q_width + 2 * a->kv_width;
    const uint32_t widths[N_SLOTS] = {a->width, a->q_width, a->kv_width, a->kv_width, a->q_width};
    memcpy(a->slot_width, widths, sizeof widths);
    a->x = random_floats(&a->b, (size_t)c->n_tokens * a->width, 0, 2);
    a->q_norm = random_floats(&a->b, c->head_dim, 1, 0.5f);
    a->k_norm = random_floats(&a->b, c->head_dim, 1, 0.5f);
    for (uint32_t i = 0; i < c->rope_dims / 2; i++) a->inv_freq[i] = 1.0 / (1 + i * i);
    a->n_pages = c->n_tokens / EXO_KV_PAGE_TOKENS + 1;
    a->pages = take(&a->b, a->n_pages * sizeof *a->pages);
    for (uint32_t i = 0; a->pages != NULL && i < a->n_pages; i++) a->pages[i] = a->n_pages - 1 - i;
}

/* One head, normed and rotated, as the pool or the query holds it. */
static void prepare_head(const attention_bench *a, float *head, const float *norm, uint32_t pos,
                         bool stored) {
    const exo_vk_attention_case *c = a->c;
    uint32_t half = c->rope_dims / 2;
    double squares = 0;
    for (uint32_t d = 0; d < c->head_dim; d++) squares += (double)head[d] * head[d];
    double f = 1 / sqrt(squares / c->head_dim + NORM_EPS);
    for (uint32_t d = 0; c->qk_norm && norm != NULL && d < c->head_dim; d++) {
        head[d] = (float)(head[d] * f * norm[d]);
    }
    for (uint32_t i = 0; norm != NULL && i < half; i++) {
        uint32_t ia = c->neox ? i : 2 * i, ib = c->neox ? i + half : 2 * i + 1;
        double co = cos(pos * a->inv_freq[i]), si = sin(pos * a->inv_freq[i]);
        double x = head[ia], y = head[ib];
        head[ia] = (float)(x * co - y * si);
        head[ib] = (float)(x * si + y * co);
    }
    for (uint32_t d = 0; stored && c->kv_type == EXO_F16 && d < c->head_dim; d++) {
        head[d] = exo_f16_to_f32(exo_f32_to_f16(head[d]));
    }
}

/* (n_tokens, q_width) from rows of x whose heads are prepared. */
static void attend(const attention_bench *a, uint32_t pos, uint32_t head, double *weight,
                   float *out) {
    const exo_vk_attention_case *c = a->c;
    uint32_t hd = c->head_dim, kv = head / (c->n_heads / c->n_kv_heads);
    const float *q = a->x + (size_t)pos * a->width + head * hd;
    double top = -INFINITY, sum = 0;
    for (uint32_t p = 0; p <= pos; p++) {
        const float *k = a->x + (size_t)p * a->width + a->q_width + kv * hd;
        weight[p] = 0;
        for (uint32_t d = 0; d < hd; d++) weight[p] += (double)q[d] * k[d];
        weight[p] /= sqrt(hd);
        if (weight[p] > top) top = weight[p];
    }
    for (uint32_t p = 0; p <= pos; p++) sum += weight[p] = exp(weight[p] - top);
    for (uint32_t d = 0; d < hd; d++) {
        double o = 0;
        for (uint32_t p = 0; p <= pos; p++) {
            o += weight[p] * a->x[(size_t)p * a->width + a->q_width + a->kv_width + kv * hd + d];
        }
        out[(size_t)head * hd + d] = (float)(o / sum);
    }
}

/* Replaces x by prepared heads, then attends. */
static float *attention_wanted(attention_bench *a) {
    const exo_vk_attention_case *c = a->c;
    float *want = take_floats(&a->b, (size_t)c->n_tokens * a->q_width);
    double *weight = take(&a->b, c->n_tokens * sizeof *weight);
    for (uint32_t t = 0; a->b.st == EXO_OK && t < c->n_tokens; t++) {
        float *row = a->x + (size_t)t * a->width;
        for (uint32_t h = 0; h < c->n_heads + 2 * c->n_kv_heads; h++) {
            bool is_q = h < c->n_heads, is_k = !is_q && h < c->n_heads + c->n_kv_heads;
            const float *norm = is_q ? a->q_norm : is_k ? a->k_norm : NULL;
            prepare_head(a, row + (size_t)h * c->head_dim, norm, t, !is_q);
        }
        for (uint32_t h = 0; h < c->n_heads; h++) {
            attend(a, t, h, weight, want + (size_t)t * a->q_width);
        }
    }
    return want;
}

exo_status exo_vk_check_attention(exo_device *d, const exo_vk_attention_case *c, exo_error *err) {
    attention_bench a = {.b = {.d = d, .rng = c->seed, .err = err}, .c = c};
    bench *b = &a.b;
    attention_inputs(&a);
    attention_ops(&a);
    exo_plan_desc desc = {a.ops, 3, a.slot_width, N_SLOTS, c->chunk, 0, 1, a.n_pages};
    make_plan(b, &desc);
    exo_row *rows = plain_rows(b, c->n_tokens);
    float *out = take_floats(b, (size_t)c->chunk * a.width);
    float *got = take_floats(b, (size_t)c->n_tokens * a.q_width);
    for (uint32_t t = 0; b->st == EXO_OK && t < c->n_tokens; t += c->chunk) {
        uint32_t n = c->n_tokens - t < c->chunk ? c->n_tokens - t : c->chunk;
        exo_plan_args args = {.rows = rows + t,
                              .n_rows = n,
                              .block_table = a.pages,
                              .x_in = a.x + (size_t)t * a.width,
                              .x_out = out};
        b->st = exo_vk_plan_run(b->plan, &args, err);
        if (b->st != EXO_OK) break;
        b->st = exo_vk_plan_read_slot(b->plan, SLOT_OUT, n, got + (size_t)t * a.q_width, err);
    }
    wanted want = {b->st == EXO_OK ? attention_wanted(&a) : NULL, NULL};
    if (b->st == EXO_OK) compare(b, "attention", got, want, c->n_tokens, a.q_width);
    bench_finish(b);
    return b->st;
}

/* ---- rounding ---- */

exo_status exo_vk_check_round(exo_device *d, uint32_t n, uint32_t width, exo_error *err) {
    bench b = {.d = d, .rng = width, .err = err};
    float *x = random_floats(&b, (size_t)n * width, 0, 1),
          *out = take_floats(&b, (size_t)n * width);
    for (size_t i = 0; b.st == EXO_OK && i < (size_t)n * width; i++) {
        x[i] *= (float)(i % 3 == 0 ? 1e-6 : i % 3 == 1 ? 1 : 1000);
    }
    exo_op op = {.kind = EXO_OP_ROUND_F16, .u.round_slot = 0};
    exo_plan_desc desc = {&op, 1, &width, 1, n, 0, 1, n / 32 + 1};
    make_plan(&b, &desc);
    exo_plan_args args = {.rows = plain_rows(&b, n), .n_rows = n, .x_in = x, .x_out = out};
    if (b.st == EXO_OK) b.st = exo_vk_plan_run(b.plan, &args, err);
    for (size_t i = 0; b.st == EXO_OK && i < (size_t)n * width; i++) {
        float want = exo_f16_to_f32(exo_f32_to_f16(x[i]));
        if (memcmp(&out[i], &want, sizeof want) == 0) continue;
        b.st = exo_error_set(err, EXO_EINTERNAL, "f16: element %zu is %g, not %g", i,
                             (double)out[i], (double)want);
    }
    bench_finish(&b);
    return b.st;
}
