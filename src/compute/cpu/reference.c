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

static float kv_load(const uint8_t *page, size_t i, exo_dtype type) {
    if (type == EXO_F32) return ((const float *)(const void *)page)[i];
    return exo_f16_to_f32(((const uint16_t *)(const void *)page)[i]);
}

static void kv_put(uint8_t *page, size_t i, exo_dtype type, float x) {
    if (type == EXO_F32) {
        ((float *)(void *)page)[i] = x;
    } else {
        ((uint16_t *)(void *)page)[i] = exo_f32_to_f16(x);
    }
}

void exo_ref_kv_store(const exo_kv_pool *pool, uint32_t page, uint32_t slot, uint32_t kv_head,
                      const float *k, const float *v) {
    uint8_t *k_page = pool->k_pages + page * pool->k_page_bytes;
    uint8_t *v_page = pool->v_pages + page * pool->v_page_bytes;
    uint32_t hd = pool->head_dim, vd = pool->v_dim;
    for (uint32_t d = 0; d < hd; d++) {
        kv_put(k_page, ((size_t)kv_head * hd + d) * EXO_KV_PAGE_TOKENS + slot, pool->kv_type, k[d]);
    }
    for (uint32_t d = 0; d < vd; d++) {
        kv_put(v_page, ((size_t)kv_head * EXO_KV_PAGE_TOKENS + slot) * vd + d, pool->kv_type, v[d]);
    }
}

static const uint8_t *k_page_of(const exo_attention_task *t, uint32_t p) {
    return t->k_pages + t->table[p / EXO_KV_PAGE_TOKENS] * t->k_page_bytes;
}

static const uint8_t *v_page_of(const exo_attention_task *t, uint32_t p) {
    return t->v_pages + t->table[p / EXO_KV_PAGE_TOKENS] * t->v_page_bytes;
}

/* Positions [p0, p1) of one split: *m, *l and o (v_dim). */
static void attend_split(const exo_attention_task *t, const float *q, uint32_t p0, uint32_t p1,
                         float *m, float *l, float *o) {
    float e[EXO_ATTN_SPLIT_TOKENS], lanes[16] = {0};
    uint32_t hd = t->head_dim, vd = t->v_dim;
    *m = -INFINITY;
    for (uint32_t p = p0; p < p1; p++) {
        const uint8_t *k = k_page_of(t, p);
        size_t at = (size_t)t->kv_head * hd * EXO_KV_PAGE_TOKENS + p % EXO_KV_PAGE_TOKENS;
        float score = 0;
        for (uint32_t d = 0; d < hd; d++) {
            score = fmaf(q[d], kv_load(k, at + (size_t)d * EXO_KV_PAGE_TOKENS, t->kv_type), score);
        }
        e[p - p0] = score * t->scale;
        if (t->softcap > 0) exo_ref_softcap(&e[p - p0], t->softcap, 1);
        if (e[p - p0] > *m) *m = e[p - p0];
    }
    memset(o, 0, vd * sizeof *o);
    for (uint32_t p = p0; p < p1; p++) {
        const uint8_t *v = v_page_of(t, p);
        size_t at = ((size_t)t->kv_head * EXO_KV_PAGE_TOKENS + p % EXO_KV_PAGE_TOKENS) * vd;
        float weight = exo_ref_exp(e[p - p0] - *m);
        lanes[p % 16] += weight;
        for (uint32_t d = 0; d < vd; d++) {
            o[d] = fmaf(weight, kv_load(v, at + d, t->kv_type), o[d]);
        }
    }
    *l = tree16(lanes);
}

/* The first position that a row sees. */
static uint32_t first_seen(const exo_attention_task *t, uint32_t pos) {
    return t->window > 0 && pos >= t->window ? pos - t->window + 1 : 0;
}

/* Query head `head` of row r.  The scratch holds the totals and a split's part, (v_dim) each. */
static void attend(const exo_attention_task *t, uint32_t r, uint32_t head) {
    const float *q = t->q + r * t->ld_q + (size_t)head * t->head_dim;
    float *out = t->out + r * t->ld_out + (size_t)head * t->v_dim;
    float *total = t->scratch, *part = t->scratch + t->v_dim;
    uint32_t pos = t->pos[r], seen = first_seen(t, pos), n = EXO_ATTN_SPLIT_TOKENS;
    float max = 0, sum = 0;
    for (uint32_t s0 = seen / n * n; s0 <= pos; s0 += n) {
        uint32_t p0 = s0 < seen ? seen : s0, p1 = pos + 1 - s0 < n ? pos + 1 : s0 + n;
        float m, l;
        if (p0 == seen) {
            attend_split(t, q, p0, p1, &max, &sum, total);
            continue;
        }
        attend_split(t, q, p0, p1, &m, &l, part);
        float top = m > max ? m : max;
        float a = exo_ref_exp(max - top), b = exo_ref_exp(m - top);
        sum = fmaf(sum, a, l * b);
        for (uint32_t d = 0; d < t->v_dim; d++) total[d] = fmaf(total[d], a, part[d] * b);
        max = top;
    }
    if (t->sinks != NULL) {
        float top = t->sinks[head] > max ? t->sinks[head] : max;
        float a = exo_ref_exp(max - top);
        sum = fmaf(sum, a, exo_ref_exp(t->sinks[head] - top));
        for (uint32_t d = 0; d < t->v_dim; d++) total[d] *= a;
    }
    float inv = 1.0f / sum;
    for (uint32_t d = 0; d < t->v_dim; d++) out[d] = total[d] * inv;
}

void exo_ref_attention(const exo_attention_task *t) {
    for (uint32_t r = 0; r < t->n_rows; r++) {
        for (uint32_t g = 0; g < t->group; g++) attend(t, r, t->kv_head * t->group + g);
    }
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
    .round_f16 = exo_ref_round_f16,
    .read = read_words,
};
