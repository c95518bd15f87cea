/* attention.comp - softmax(q k) v of one row over its own sequence, in splits of SPLIT positions.
 *
 * One workgroup takes HEADS query heads (1, 2 or 4) that read the same kv head, and either one split
 * (ALL = 0) or all of them in order (ALL = 1, for steps of many rows).
 *   score[p] = (sum over d of q[d] k[p][d]) * scale: SHARE lanes to a position, each takes every
 *              SHARE-th vec4 of d in order, a tree adds them
 *   m = max score; e[p] = exp(score[p] - m)
 *   l = sum of e[p]: lane t takes p = t, t + T, ... in order, then a tree over the lanes
 *   o[d] = sum of e[p] v[p][d]: lanes stand along d, and as often as d leaves room, PLACES times,
 *          along p within each page; places are added in order
 * Splits are combined in order, here or in attention_combine.comp, by the same formula, so the bits
 * do not depend on how the work was cut.  A row of one split is finished here. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint HEADS = 1;
layout(constant_id = 2) const uint KV_F16 = 0;
layout(constant_id = 3) const uint ALL = 0;
layout(constant_id = 4) const uint DIM4 = 16; /* head_dim / 4 */
layout(constant_id = 5) const uint SPLIT = 256; /* whole pages */
layout(constant_id = 6) const uint SHARE = 1;   /* a power of two, at most T */

#define PAGE 32u
const uint D_LANES = DIM4 < T ? DIM4 : T;
const uint PLACES = T / D_LANES;

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

shared float weight[HEADS * SPLIT];
shared vec4 total[HEADS * DIM4]; /* each place is used by one lane only, d % T */

vec4 f16_4(uvec2 v) { return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y)); }
vec4 load_k(uint i) { return KV_F16 != 0u ? f16_4(k_half(i)) : uintBitsToFloat(k_wide(i)); }
vec4 load_v(uint i) { return KV_F16 != 0u ? f16_4(v_half(i)) : uintBitsToFloat(v_wide(i)); }

vec4 add_scaled(vec4 sum, float w, vec4 v) {
    precise vec4 r = fma(vec4(w), v, sum);
    return r;
}

/* First vec4 of the page of position p of this sequence and kv head. */
uint page_at(uint table, uint kv_head, uint p) {
    return (step_word[table + p / PAGE] * n_kv_heads + kv_head) * PAGE * DIM4;
}

/* Does M for each head; those beyond HEADS fall away when the pipeline is made. */
#define EACH_HEAD(M)                                                                               \
    M(0)                                                                                           \
    if (HEADS > 1u) { M(1) }                                                                       \
    if (HEADS > 2u) { M(2) M(3) }

#define DECLARE_HEAD(h)                                                                            \
    float top##h = 0.0, below##h = 0.0, m##h, l##h, s##h, a##h = 0.0, b##h = 0.0;                  \
    vec4 o##h;                                                                                     \
    uint q_at##h = row * q_ld4 + (head0 + uint(h)) * DIM4;
#define BEGIN_SCORE(h) s##h = 0.0;
#define ADD_SCORE(h) s##h = add_products(s##h, load_q(q_at##h + d), k);
#define END_SCORE(h)                                                                               \
    {                                                                                              \
        precise float score = sum_near(s##h, SHARE) * scale;                                       \
        if (p < n) {                                                                               \
            if (near == 0u) weight[uint(h) * SPLIT + p] = score;                                   \
            m##h = max(m##h, score);                                                               \
        }                                                                                          \
    }
#define ADD_WEIGHT(h)                                                                              \
    {                                                                                              \
        float e = exact_exp(weight[uint(h) * SPLIT + p] - m##h);                                   \
        weight[uint(h) * SPLIT + p] = e;                                                           \
        precise float sum = l##h + e;                                                              \
        l##h = sum;                                                                                \
    }
#define BEGIN_VALUES(h) o##h = vec4(0.0);
#define ADD_VALUES(h) o##h = add_scaled(o##h, weight[uint(h) * SPLIT + p], v);
#define END_VALUES(h)                                                                              \
    o##h = sum_places(t, o##h);                                                                    \
    if (place == 0u && d < DIM4) keep(first_split, uint(h) * DIM4 + d, o##h, a##h, b##h);
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

/* The sums of all places at d, for the lanes of the first. */
vec4 sum_places(uint t, vec4 o) {
    precise vec4 sum = o;
    if (PLACES == 1u) return sum;
    barrier();
    lane_value[t] = o;
    barrier();
    for (uint i = 1u; i < PLACES && t < D_LANES; i++) sum = sum + lane_value[i * D_LANES + t];
    return sum;
}

void keep(bool first_split, uint at, vec4 o, float a, float b) {
    if (!first_split) {
        precise vec4 ob = o * b;
        o = fma(total[at], vec4(a), ob);
    }
    total[at] = o;
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

    uint near = t % SHARE, place = t / D_LANES;
    DECLARE_HEAD(0) DECLARE_HEAD(1) DECLARE_HEAD(2) DECLARE_HEAD(3)
    for (uint split = first; split < end; split++) {
        bool first_split = split == first;
        uint p0 = split * SPLIT, n = min(SPLIT, pos + 1u - p0);
        EACH_HEAD(CLEAR_HEAD)
        barrier(); /* the weights of the split before have been used */
        for (uint first_p = 0u; first_p < n; first_p += T / SHARE) {
            uint p = first_p + t / SHARE, seen = min(p, n - 1u);
            uint at = page_at(table, kv_head, p0 + seen) + seen % PAGE * DIM4;
            EACH_HEAD(BEGIN_SCORE)
            for (uint d = near; d < DIM4; d += SHARE) {
                vec4 k = load_k(at + d);
                EACH_HEAD(ADD_SCORE)
            }
            EACH_HEAD(END_SCORE)
        }
        EACH_HEAD(MAX_HEAD)
        barrier();
        for (uint p = t; p < n; p += T) { EACH_HEAD(ADD_WEIGHT) }
        EACH_HEAD(SUM_HEAD)
        EACH_HEAD(JOIN_SPLIT)
        barrier();
        for (uint d0 = 0u; d0 < DIM4; d0 += D_LANES) {
            uint d = d0 + t % D_LANES;
            EACH_HEAD(BEGIN_VALUES)
            for (uint page = 0u; page < n && d < DIM4 && place < PLACES; page += PAGE) {
                uint at = page_at(table, kv_head, p0 + page) + d, end_p = min(PAGE, n - page);
                for (uint i = place; i < end_p; i += PLACES) {
                    uint p = page + i;
                    vec4 v = load_v(at + i * DIM4);
                    EACH_HEAD(ADD_VALUES)
                }
            }
            EACH_HEAD(END_VALUES)
        }
    }
    bool done = ALL != 0u || n_splits == 1u;
    EACH_HEAD(FINISH_HEAD)
}
