/* reference.c - the operations of reference.h in plain C, except the products.
 *
 * Written for the reader: one element at a time, in the order of the specification.  It is also
 * what a machine without a vector file of its own computes with.  reference_matmul.c has the
 * products and the embedding. */
#include "compute/cpu/reference.h"

#include "base/half.h"
#include "compute/cpu/rope.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool always(void) { return true; }

static bool finite_f32(float x) { return fabsf(x) <= FLT_MAX; } /* false for NaN */

/* l[i] += l[i + 8], then + 4, + 2, + 1. */
static float tree16(float l[16]) {
    for (int h = 8; h > 0; h /= 2) {
        for (int i = 0; i < h; i++) l[i] += l[i + h];
    }
    return l[0];
}

float exo_ref_exp(float x) {
    x = x < EXO_EXP_MAX ? x : EXO_EXP_MAX;
    x = x > EXO_EXP_MIN ? x : EXO_EXP_MIN;
    float n = nearbyintf(x * EXO_EXP_LOG2E);
    float r = fmaf(n, -EXO_EXP_LN2_HI, x);
    r = fmaf(n, -EXO_EXP_LN2_LO, r);
    float p = EXO_EXP_C5;
    p = fmaf(p, r, EXO_EXP_C4);
    p = fmaf(p, r, EXO_EXP_C3);
    p = fmaf(p, r, EXO_EXP_C2);
    p = fmaf(p, r, EXO_EXP_C1);
    p = fmaf(p, r, EXO_EXP_C0);
    p = fmaf(p, r * r, r) + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

bool exo_ref_norm(float *out, const float *x, const float *weight, uint32_t n, float eps) {
    float l[16] = {0};
    for (uint32_t i = 0; i < n; i++) l[i % 16] = fmaf(x[i], x[i], l[i % 16]);
    float sum = tree16(l);
    if (!finite_f32(sum)) return false;
    float f = 1.0f / sqrtf(sum / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) out[i] = (x[i] * f) * weight[i];
    return true;
}

bool exo_ref_layer_norm(float *out, const float *x, const exo_norm_weights *w, uint32_t n) {
    float l[16] = {0}, squares[16] = {0};
    for (uint32_t i = 0; i < n; i++) l[i % 16] += x[i];
    float mean = tree16(l) / (float)n;
    for (uint32_t i = 0; i < n; i++) {
        float d = x[i] - mean;
        squares[i % 16] = fmaf(d, d, squares[i % 16]);
    }
    float sum = tree16(squares);
    if (!finite_f32(sum)) return false;
    float f = 1.0f / sqrtf(sum / (float)n + w->eps);
    for (uint32_t i = 0; i < n; i++) {
        float y = ((x[i] - mean) * f) * w->weight[i];
        out[i] = w->bias != NULL ? y + w->bias[i] : y;
    }
    return true;
}

void exo_ref_silu_mul(float *out, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (gate[i] / (1.0f + exo_ref_exp(-gate[i]))) * up[i];
    }
}

void exo_ref_gelu_mul(float *out, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float t = gate[i] * EXO_GELU_A;
        t = fmaf(t * EXO_GELU_B, gate[i] * gate[i], t);
        float y = gate[i] / (1.0f + exo_ref_exp(0.0f - t));
        out[i] = up != NULL ? y * up[i] : y;
    }
}

void exo_ref_swiglu_oai(float *out, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float x = gate[i] < EXO_SWIGLU_MAX ? gate[i] : EXO_SWIGLU_MAX;
        float y = up[i] > -EXO_SWIGLU_MAX ? up[i] : -EXO_SWIGLU_MAX;
        y = y < EXO_SWIGLU_MAX ? y : EXO_SWIGLU_MAX;
        out[i] = (x / (1.0f + exo_ref_exp(0.0f - EXO_SWIGLU_BETA * x))) * (y + 1.0f);
    }
}

void exo_ref_softcap(float *x, float cap, uint32_t n) {
    float twice = 2.0f / cap;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (1.0f - 2.0f / (exo_ref_exp(x[i] * twice) + 1.0f)) * cap;
    }
}

void exo_ref_mix(float *out, const exo_mix_row *m) {
    for (uint32_t i = 0; i < m->n; i++) {
        float acc = 0;
        for (uint32_t r = 0; r < m->n_used; r++) {
            acc = fmaf(m->w[r], m->y[(size_t)r * m->n + i], acc);
        }
        out[i] = m->add ? out[i] + acc : acc;
    }
}

static bool quantize_block(const float *x, uint32_t n, int8_t *q, float *d) {
    float amax = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!finite_f32(x[i])) return false;
        if (fabsf(x[i]) > amax) amax = fabsf(x[i]);
    }
    *d = 0;
    memset(q, 0, n);
    if (amax < EXO_QUANT_TINY) return true;
    float id = 127.0f / amax;
    for (uint32_t i = 0; i < n; i++) q[i] = (int8_t)nearbyintf(x[i] * id);
    *d = amax / 127.0f;
    return true;
}

static int32_t sum_of(const int8_t *q, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += q[i];
    return sum;
}

bool exo_ref_quantize32(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum) {
    for (uint32_t b = 0; b < n / 32; b++) {
        if (!quantize_block(x + b * 32, 32, q + b * 32, &d[b])) return false;
        sum[b] = sum_of(q + b * 32, 32);
    }
    return true;
}

bool exo_ref_quantize256(const float *x, uint32_t n, int8_t *q, float *d, int16_t *sums) {
    for (uint32_t b = 0; b < n / 256; b++, sums += EXO_Q256_SUMS) {
        const int8_t *block = q + b * 256;
        if (!quantize_block(x + b * 256, 256, q + b * 256, &d[b])) return false;
        for (uint32_t j = 0; j < 8; j++) {
            sums[exo_sum32_at(j)] = (int16_t)sum_of(block + j * 32, 32);
        }
        for (uint32_t j = 0; j < 16; j++) {
            sums[exo_sum16_at(j)] = (int16_t)sum_of(block + j * 16, 16);
        }
    }
    return true;
}

void exo_ref_rope(float *head, const float *cos, const float *sin, uint32_t dims, bool neox) {
    exo_rope_head(head, cos, sin, dims, neox);
}

void exo_ref_round_f16(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] = exo_f16_to_f32(exo_f32_to_f16(x[i]));
}

/* ---- KV pages and attention ---- */

static void kv_put(uint8_t *head, size_t i, exo_dtype type, float x) {
    if (type == EXO_F32) {
        ((float *)(void *)head)[i] = x;
    } else {
        ((uint16_t *)(void *)head)[i] = exo_f32_to_f16(x);
    }
}

/* Where one position's n elements go: element i at i * step, the scale of block b at b * scales. */
typedef struct {
    uint8_t *head; /* of the kv head in its page */
    size_t at, step;
    size_t scale_at, scales;
} kv_row;

static bool put_quantized(const kv_row *r, uint32_t n, const float *x) {
    int8_t *q = (int8_t *)r->head + r->at;
    uint16_t *d = (uint16_t *)(void *)(r->head + (size_t)n * EXO_KV_PAGE_TOKENS) + r->scale_at;
    for (uint32_t b = 0; b < n / 32; b++) {
        int8_t block[32];
        float scale;
        int32_t sum;
        if (!exo_ref_quantize32(x + b * 32, 32, block, &scale, &sum)) return false;
        uint16_t half = exo_f32_to_f16(scale);
        if (!finite_f32(exo_f16_to_f32(half))) return false;
        d[b * r->scales] = half;
        for (uint32_t i = 0; i < 32; i++) q[(b * 32 + i) * r->step] = block[i];
    }
    return true;
}

static bool put_row(const kv_row *r, uint32_t n, exo_dtype type, const float *x) {
    if (type == EXO_Q8_0) return put_quantized(r, n, x);
    for (uint32_t i = 0; i < n; i++) kv_put(r->head, r->at + i * r->step, type, x[i]);
    return true;
}

bool exo_ref_kv_store(const exo_kv_pool *pool, uint32_t page, uint32_t slot, uint32_t kv_head,
                      const float *k, const float *v) {
    const uint32_t hd = pool->head_dim, vd = pool->v_dim;
    uint8_t *k_page = pool->k_pages + page * pool->k_page_bytes;
    uint8_t *v_page = pool->v_pages + page * pool->v_page_bytes;
    const kv_row k_row = {.head = k_page + kv_head * exo_kv_page_bytes(pool->kv_type, 1, hd),
                          .at = slot,
                          .step = EXO_KV_PAGE_TOKENS,
                          .scale_at = slot,
                          .scales = EXO_KV_PAGE_TOKENS};
    const kv_row v_row = {.head = v_page + kv_head * exo_kv_page_bytes(pool->kv_type, 1, vd),
                          .at = (size_t)slot * vd,
                          .step = 1,
                          .scale_at = (size_t)slot * (vd / 32),
                          .scales = 1};
    return put_row(&k_row, hd, pool->kv_type, k) && put_row(&v_row, vd, pool->kv_type, v);
}

static float kv_get(const uint8_t *head, size_t i, exo_dtype type) {
    if (type == EXO_F32) return ((const float *)(const void *)head)[i];
    return exo_f16_to_f32(((const uint16_t *)(const void *)head)[i]);
}

/* Element i of the quantised elements of a head, with scale s of those behind its n * 32. */
static float kv_get_quantized(const uint8_t *head, size_t i, uint32_t n, size_t s) {
    const uint8_t *scales = head + (size_t)n * EXO_KV_PAGE_TOKENS;
    float d = exo_f16_to_f32(((const uint16_t *)(const void *)scales)[s]);
    return (float)((const int8_t *)head)[i] * d;
}

static float key_of(const exo_attention_task *t, uint32_t p, uint32_t d) {
    const uint32_t slot = p % EXO_KV_PAGE_TOKENS, hd = t->head_dim;
    const uint8_t *page = t->k_pages + t->table[p / EXO_KV_PAGE_TOKENS] * t->k_page_bytes;
    const uint8_t *head = page + t->kv_head * exo_kv_page_bytes(t->kv_type, 1, hd);
    size_t i = (size_t)d * EXO_KV_PAGE_TOKENS + slot;
    if (t->kv_type != EXO_Q8_0) return kv_get(head, i, t->kv_type);
    return kv_get_quantized(head, i, hd, (size_t)(d / 32) * EXO_KV_PAGE_TOKENS + slot);
}

static float value_of(const exo_attention_task *t, uint32_t p, uint32_t d) {
    const uint32_t slot = p % EXO_KV_PAGE_TOKENS, vd = t->v_dim;
    const uint8_t *page = t->v_pages + t->table[p / EXO_KV_PAGE_TOKENS] * t->v_page_bytes;
    const uint8_t *head = page + t->kv_head * exo_kv_page_bytes(t->kv_type, 1, vd);
    size_t i = (size_t)slot * vd + d;
    if (t->kv_type != EXO_Q8_0) return kv_get(head, i, t->kv_type);
    return kv_get_quantized(head, i, vd, (size_t)slot * (vd / 32) + d / 32);
}

/* One query's sums over the splits so far, or over one. */
typedef struct {
    float max, sum;
    float *o; /* (v_dim) */
} sums;

/* Positions [p0, p1) of one split. */
static void attend_split(const exo_attention_task *t, const float *q, uint32_t p0, uint32_t p1,
                         sums *s) {
    float e[EXO_ATTN_SPLIT_TOKENS], lanes[16] = {0};
    s->max = -INFINITY;
    for (uint32_t p = p0; p < p1; p++) {
        float score = 0;
        for (uint32_t d = 0; d < t->head_dim; d++) score = fmaf(q[d], key_of(t, p, d), score);
        e[p - p0] = score * t->scale;
        if (t->softcap > 0) exo_ref_softcap(&e[p - p0], t->softcap, 1);
        if (e[p - p0] > s->max) s->max = e[p - p0];
    }
    memset(s->o, 0, t->v_dim * sizeof *s->o);
    for (uint32_t p = p0; p < p1; p++) {
        float weight = exo_ref_exp(e[p - p0] - s->max);
        lanes[p % 16] += weight;
        for (uint32_t d = 0; d < t->v_dim; d++) s->o[d] = fmaf(weight, value_of(t, p, d), s->o[d]);
    }
    s->sum = tree16(lanes);
}

static void join_split(const exo_attention_task *t, sums *total, const sums *part) {
    float top = part->max > total->max ? part->max : total->max;
    float a = exo_ref_exp(total->max - top), b = exo_ref_exp(part->max - top);
    total->sum = fmaf(total->sum, a, part->sum * b);
    for (uint32_t d = 0; d < t->v_dim; d++) total->o[d] = fmaf(total->o[d], a, part->o[d] * b);
    total->max = top;
}

static void finish(const exo_attention_task *t, sums *total, uint32_t head, float *out) {
    if (t->sinks != NULL) {
        float top = t->sinks[head] > total->max ? t->sinks[head] : total->max;
        float a = exo_ref_exp(total->max - top);
        total->sum = fmaf(total->sum, a, exo_ref_exp(t->sinks[head] - top));
        for (uint32_t d = 0; d < t->v_dim; d++) total->o[d] *= a;
    }
    float inv = 1.0f / total->sum;
    for (uint32_t d = 0; d < t->v_dim; d++) out[d] = total->o[d] * inv;
}

/* The first position that a row sees. */
static uint32_t first_seen(const exo_attention_task *t, uint32_t pos) {
    return t->window > 0 && pos >= t->window ? pos - t->window + 1 : 0;
}

/* Where query i's part of split s is left. */
static sums part_of(const exo_attention_task *t, uint32_t i, uint32_t s) {
    size_t width = exo_attention_part(t->v_dim);
    float *at = t->parts + ((size_t)i * t->ld_parts + s - t->parts_first) * width;
    return (sums){at[width - 16], at[width - 15], at};
}

static void leave_part(const exo_attention_task *t, const sums *part) {
    size_t width = exo_attention_part(t->v_dim);
    part->o[width - 16] = part->max;
    part->o[width - 15] = part->sum;
}

/* Query i.  The scratch holds the totals and a split's part, (v_dim) each. */
static void attend(const exo_attention_task *t, uint32_t i) {
    const uint32_t row = i / t->group, head = t->kv_head * t->group + i % t->group;
    const uint32_t pos = t->pos[row], seen = first_seen(t, pos), n = EXO_ATTN_SPLIT_TOKENS;
    const float *q = t->q + row * t->ld_q + (size_t)head * t->head_dim;
    sums total = {0, 0, t->scratch}, part = {0, 0, t->scratch + t->v_dim};
    for (uint32_t s0 = seen / n * n; s0 <= pos; s0 += n) {
        uint32_t p0 = s0 < seen ? seen : s0, p1 = pos + 1 - s0 < n ? pos + 1 : s0 + n;
        if (t->parts != NULL) {
            if (s0 / n < t->split || s0 / n >= t->split + t->n_splits) continue;
            part = part_of(t, i, s0 / n);
            attend_split(t, q, p0, p1, &part);
            leave_part(t, &part);
        } else if (p0 == seen) {
            attend_split(t, q, p0, p1, &total);
        } else {
            attend_split(t, q, p0, p1, &part);
            join_split(t, &total, &part);
        }
    }
    if (t->parts != NULL) return;
    finish(t, &total, head, t->out + row * t->ld_out + (size_t)head * t->v_dim);
}

void exo_ref_attention(const exo_attention_task *t) {
    for (uint32_t i = 0; i < t->n_rows * t->group; i++) attend(t, i);
}

void exo_ref_attention_join(const exo_attention_task *t, uint32_t i) {
    const uint32_t row = i / t->group, head = t->kv_head * t->group + i % t->group;
    const uint32_t pos = t->pos[row], n = EXO_ATTN_SPLIT_TOKENS;
    uint32_t first = first_seen(t, pos) / n;
    sums total = part_of(t, i, first);
    for (uint32_t s = first + 1; s <= pos / n; s++) {
        const sums part = part_of(t, i, s);
        join_split(t, &total, &part);
    }
    finish(t, &total, head, t->out + row * t->ld_out + (size_t)head * t->v_dim);
}

static uint64_t read_words(const void *p, size_t bytes) {
    const uint64_t *words = p;
    uint64_t l[4] = {0};
    for (size_t i = 0; i + 4 <= bytes / 8; i += 4) {
        for (size_t k = 0; k < 4; k++) l[k] ^= words[i + k];
    }
    return l[0] ^ l[1] ^ l[2] ^ l[3];
}

const exo_cpu_kernels exo_kernels_reference = {
    .isa = "reference",
    .driver = "reference",
    .runs_here = always,
    .matmul = {[EXO_F32] = exo_ref_matmul,
               [EXO_F16] = exo_ref_matmul,
               [EXO_BF16] = exo_ref_matmul,
               [EXO_Q4_0] = exo_ref_matmul,
               [EXO_Q8_0] = exo_ref_matmul,
               [EXO_Q4_K] = exo_ref_matmul,
               [EXO_Q6_K] = exo_ref_matmul,
               EXO_UNPACKED_TYPES(exo_ref_matmul)},
    .norm = exo_ref_norm,
    .quantize32 = exo_ref_quantize32,
    .quantize256 = exo_ref_quantize256,
    .layer_norm = exo_ref_layer_norm,
    .silu_mul = exo_ref_silu_mul,
    .gelu_mul = exo_ref_gelu_mul,
    .swiglu_oai = exo_ref_swiglu_oai,
    .mix = exo_ref_mix,
    .softcap = exo_ref_softcap,
    .rope = exo_ref_rope,
    .attention = exo_ref_attention,
    .attention_join = exo_ref_attention_join,
    .round_f16 = exo_ref_round_f16,
    .read = read_words,
};
