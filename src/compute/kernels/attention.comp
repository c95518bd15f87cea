/* attention.comp - softmax(q k) v of one row over its own sequence, in splits of 256 positions.
 *
 * One workgroup takes HEADS query heads (1, 2 or 4) that read the same kv head, and either one split
 * (ALL = 0) or all of them in order (ALL = 1, for steps of many rows).  Positions go over the lanes:
 * lane t takes p = t, t + T, ... of a split.
 *   score[p] = (sum over d in order of q[d] k[p][d]) * scale
 *   m = max score; e[p] = exp(score[p] - m)
 *   l = sum of e[p], o[d] = sum of e[p] v[p][d]: each lane in order, then a tree over the lanes
 * Splits are combined in order, here or in attention_combine.comp, by the same formula, so the bits
 * do not depend on how the work was cut.  A row of one split is finished here. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint HEADS = 1;
layout(constant_id = 2) const uint KV_F16 = 0;
layout(constant_id = 3) const uint ALL = 0;
layout(constant_id = 4) const uint DIM4 = 16; /* head_dim / 4 */

#define SPLIT 256u

#ifdef EXO_TEXEL
layout(set = 0, binding = 12) uniform usamplerBuffer k_texels;
layout(set = 0, binding = 13) uniform samplerBuffer q_texels;
layout(set = 0, binding = 14) uniform usamplerBuffer v_texels;
uvec2 half_texel(uvec4 v, uint i) { return (i & 1u) != 0u ? v.zw : v.xy; }
vec4 load_q(uint i) { return texelFetch(q_texels, int(i)); }
uvec4 k_wide(uint i) { return texelFetch(k_texels, int(i)); }
uvec4 v_wide(uint i) { return texelFetch(v_texels, int(i)); }
uvec2 k_half(uint i) { return half_texel(k_wide(i / 2u), i); }
uvec2 v_half(uint i) { return half_texel(v_wide(i / 2u), i); }
#else
layout(set = 0, binding = 2, std430) readonly buffer KPages { uvec4 k16[]; };
layout(set = 0, binding = 3, std430) readonly buffer KPagesF16 { uvec2 k8[]; };
layout(set = 0, binding = 4, std430) readonly buffer VPagesF16 { uvec2 v8[]; };
layout(set = 0, binding = 5, std430) readonly buffer Queries { vec4 q4[]; };
layout(set = 0, binding = 6, std430) readonly buffer VPages { uvec4 v16[]; };
vec4 load_q(uint i) { return q4[i]; }
uvec4 k_wide(uint i) { return k16[i]; }
uvec4 v_wide(uint i) { return v16[i]; }
uvec2 k_half(uint i) { return k8[i]; }
uvec2 v_half(uint i) { return v8[i]; }
#endif
layout(set = 0, binding = 7, std430) writeonly buffer Outputs { vec4 out4[]; };
layout(set = 0, binding = 9, std430) writeonly buffer Partials { vec4 part4[]; };

layout(push_constant) uniform Push {
    uint q_ld4, out_ld4; /* the ranges begin at row 0 */
    uint n_kv_heads, group; /* query heads per kv head */
    float scale;
    uint rows_at, table_at, table_ld; /* words of the step block */
    uint n_heads, max_splits;         /* partials: (row, head, split) {o (DIM4), (m, l, 0, 0)} */
};

shared float weight[HEADS * SPLIT]; /* each place is used by one lane only; so is total */
shared vec4 total[HEADS * DIM4];    /* lane d % T */

vec4 f16_4(uvec2 v) { return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y)); }
vec4 load_k(uint i) { return KV_F16 != 0u ? f16_4(k_half(i)) : uintBitsToFloat(k_wide(i)); }
vec4 load_v(uint i) { return KV_F16 != 0u ? f16_4(v_half(i)) : uintBitsToFloat(v_wide(i)); }

vec4 add_scaled(vec4 sum, float w, vec4 v) {
    precise vec4 r = fma(vec4(w), v, sum);
    return r;
}

/* First vec4 of position p of this sequence and kv head. */
uint position_at(uint table, uint kv_head, uint p) {
    return ((step_word[table + p / 32u] * n_kv_heads + kv_head) * 32u + p % 32u) * DIM4;
}

/* Does M for each head; those beyond HEADS fall away when the pipeline is made. */
#define EACH_HEAD(M)                                                                               \
    M(0)                                                                                           \
    if (HEADS > 1u) { M(1) }                                                                       \
    if (HEADS > 2u) { M(2) M(3) }

#define DECLARE_HEAD(h)                                                                            \
    float top##h = 0.0, below##h = 0.0, m##h, l##h, s##h, a##h = 0.0, b##h = 0.0;                  \
    vec4 o##h##_0, o##h##_1, o##h##_2, o##h##_3;                                                   \
    uint q_at##h = row * q_ld4 + (head0 + uint(h)) * DIM4;
#define BEGIN_SCORE(h) s##h = 0.0;
#define ADD_SCORE(h) s##h = add_products(s##h, load_q(q_at##h + d), k);
#define END_SCORE(h)                                                                               \
    {                                                                                              \
        precise float score = s##h * scale;                                                        \
        weight[uint(h) * SPLIT + p] = score;                                                       \
        m##h = max(m##h, score);                                                                   \
    }
#define ADD_WEIGHT(h)                                                                              \
    {                                                                                              \
        float e = exact_exp(weight[uint(h) * SPLIT + p] - m##h);                                   \
        weight[uint(h) * SPLIT + p] = e;                                                           \
        precise float sum = l##h + e;                                                              \
        l##h = sum;                                                                                \
    }
#define BEGIN_VALUES(h) o##h##_0 = o##h##_1 = o##h##_2 = o##h##_3 = vec4(0.0);
#define ADD_VALUES(h)                                                                              \
    {                                                                                              \
        float w = weight[uint(h) * SPLIT + p];                                                     \
        o##h##_0 = add_scaled(o##h##_0, w, v0);                                                    \
        o##h##_1 = add_scaled(o##h##_1, w, v1);                                                    \
        o##h##_2 = add_scaled(o##h##_2, w, v2);                                                    \
        o##h##_3 = add_scaled(o##h##_3, w, v3);                                                    \
    }
#define END_VALUES(h)                                                                              \
    keep(t, first_split, uint(h), d0, sum_lanes4(o##h##_0, 1), a##h, b##h);                        \
    if (d0 + 1u < DIM4) keep(t, first_split, uint(h), d0 + 1u, sum_lanes4(o##h##_1, 1), a##h, b##h);  \
    if (d0 + 2u < DIM4) keep(t, first_split, uint(h), d0 + 2u, sum_lanes4(o##h##_2, 1), a##h, b##h);  \
    if (d0 + 3u < DIM4) keep(t, first_split, uint(h), d0 + 3u, sum_lanes4(o##h##_3, 1), a##h, b##h);
/* M' = max(M, m); a = exp(M - M'); b = exp(m - M'); L = L a + l b; O = O a + o b */
#define JOIN_SPLIT(h)                                                                              \
    if (first_split) {                                                                             \
        top##h = m##h;                                                                             \
        below##h = l##h;                                                                           \
    } else {                                                                                       \
        precise float newest = max(top##h, m##h);                                                  \
        a##h = exact_exp(top##h - newest);                                                         \
        b##h = exact_exp(m##h - newest);                                                           \
        precise float lb = l##h * b##h;                                                            \
        precise float sum = fma(below##h, a##h, lb);                                               \
        below##h = sum;                                                                            \
        top##h = newest;                                                                           \
    }
#define MAX_HEAD(h) m##h = max_lanes(m##h);
#define SUM_HEAD(h) l##h = sum_lanes(l##h, 1);
#define CLEAR_HEAD(h)                                                                              \
    m##h = -3.0e38;                                                                                \
    l##h = 0.0;
#define FINISH_HEAD(h) finish(t, row, head0 + uint(h), uint(h), first, done, top##h, below##h);

void keep(uint t, bool first_split, uint h, uint d, vec4 o, float a, float b) {
    if (t != d % T) return;
    if (!first_split) {
        precise vec4 ob = o * b;
        o = fma(total[h * DIM4 + d], vec4(a), ob);
    }
    total[h * DIM4 + d] = o;
}

void finish(uint t, uint row, uint head, uint h, uint split, bool done, float top, float below) {
    uint at = ((row * n_heads + head) * max_splits + split) * (DIM4 + 1u);
    precise float inverse = 1.0 / below;
    for (uint i = t; i < DIM4; i += T) {
        precise vec4 o = total[h * DIM4 + i];
        if (done) {
            out4[row * out_ld4 + head * DIM4 + i] = o * inverse;
        } else {
            part4[at + i] = o;
        }
    }
    if (!done && t == 0u) part4[at + DIM4] = vec4(top, below, 0.0, 0.0);
}

void main() {
    uint t = lane_index(), row = gl_WorkGroupID.y;
    if (row >= N_ROWS) return;
    uint blocks = group / HEADS, kv_head = gl_WorkGroupID.z / blocks;
    uint head0 = kv_head * group + gl_WorkGroupID.z % blocks * HEADS;
    uint seq = step_word[rows_at + 4u * row], pos = step_word[rows_at + 4u * row + 1u];
    uint table = table_at + seq * table_ld, n_splits = pos / SPLIT + 1u;
    uint first = ALL != 0u ? 0u : gl_WorkGroupID.x, end = ALL != 0u ? n_splits : first + 1u;
    if (first >= n_splits) return;

    DECLARE_HEAD(0) DECLARE_HEAD(1) DECLARE_HEAD(2) DECLARE_HEAD(3)
    for (uint split = first; split < end; split++) {
        bool first_split = split == first;
        uint p0 = split * SPLIT, n = min(SPLIT, pos + 1u - p0);
        EACH_HEAD(CLEAR_HEAD)
        for (uint p = t; p < n; p += T) {
            uint at = position_at(table, kv_head, p0 + p);
            EACH_HEAD(BEGIN_SCORE)
            for (uint d = 0; d < DIM4; d++) {
                vec4 k = load_k(at + d);
                EACH_HEAD(ADD_SCORE)
            }
            EACH_HEAD(END_SCORE)
        }
        EACH_HEAD(MAX_HEAD)
        for (uint p = t; p < n; p += T) { EACH_HEAD(ADD_WEIGHT) }
        EACH_HEAD(SUM_HEAD)
        EACH_HEAD(JOIN_SPLIT)
        for (uint d0 = 0; d0 < DIM4; d0 += 4u) {
            EACH_HEAD(BEGIN_VALUES)
            for (uint p = t; p < n; p += T) {
                uint at = position_at(table, kv_head, p0 + p);
                vec4 v0 = load_v(at + d0), v1 = load_v(at + min(d0 + 1u, DIM4 - 1u));
                vec4 v2 = load_v(at + min(d0 + 2u, DIM4 - 1u));
                vec4 v3 = load_v(at + min(d0 + 3u, DIM4 - 1u));
                EACH_HEAD(ADD_VALUES)
            }
            EACH_HEAD(END_VALUES)
        }
    }
    bool done = ALL != 0u || n_splits == 1u;
    EACH_HEAD(FINISH_HEAD)
}
