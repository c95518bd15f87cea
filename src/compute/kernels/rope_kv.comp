/* rope_kv.comp - rotates q and k by their position and stores k and v in their page.
 *
 * One workgroup per head: first the query heads, which are rotated in place, then the kv heads.
 * Each head may be normed first.  Angles come from the step block, computed by the host in double
 * precision.  Pages are (page, kv head, 32 positions, head_dim) for k and v alike; f16 is stored in
 * words of two neighbouring dimensions. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint KV_F16 = 0;

layout(set = 0, binding = 7, std430) buffer Heads { float head[]; };
layout(set = 0, binding = 8, std430) readonly buffer QNorm { float q_norm[]; };
layout(set = 0, binding = 9, std430) readonly buffer KNorm { float k_norm[]; };
layout(set = 0, binding = 10, std430) writeonly buffer KPages { uint k_word[]; };
layout(set = 0, binding = 11, std430) writeonly buffer VPages { uint v_word[]; };

layout(push_constant) uniform Push {
    uint q_at, q_ld, k_at, k_ld, v_at, v_ld; /* floats */
    uint n_heads, n_kv_heads, head_dim;
    uint half_dims; /* pairs that are rotated */
    uint flags;
    float norm_eps;
    uint rows_at, rope_at; /* words of the step block; rope: (row, pair) {cos, sin} */
    uint table_at, table_ld;
};

#define FLAG_NEOX   1u /* pairs (i, i + half_dims) instead of (2i, 2i + 1) */
#define FLAG_Q_NORM 2u
#define FLAG_K_NORM 4u

uint at;      /* of this head */
uint rope_row;
bool is_q;
bool normed;
float factor; /* 1 / rms */

float value(uint d) {
    precise float x = head[at + d];
    if (normed) x = (x * factor) * (is_q ? q_norm[d] : k_norm[d]);
    return x;
}

vec2 rotated(uint i) { /* pair i */
    bool neox = (flags & FLAG_NEOX) != 0u;
    precise float a = value(neox ? i : 2u * i), b = value(neox ? i + half_dims : 2u * i + 1u);
    float c = uintBitsToFloat(step_word[rope_row + 2u * i]);
    float s = uintBitsToFloat(step_word[rope_row + 2u * i + 1u]);
    precise float x = fma(a, c, -(b * s)), y = fma(a, s, b * c);
    return vec2(x, y);
}

float rotated_element(uint d) {
    if (d >= 2u * half_dims) return value(d);
    if ((flags & FLAG_NEOX) != 0u) return d < half_dims ? rotated(d).x : rotated(d - half_dims).y;
    vec2 v = rotated(d / 2u);
    return (d & 1u) == 0u ? v.x : v.y;
}

void rotate_in_place(uint t) {
    bool neox = (flags & FLAG_NEOX) != 0u;
    for (uint i = t; i < half_dims; i += T) {
        vec2 v = rotated(i);
        head[at + (neox ? i : 2u * i)] = v.x;
        head[at + (neox ? i + half_dims : 2u * i + 1u)] = v.y;
    }
    for (uint d = 2u * half_dims + t; d < head_dim; d += T) head[at + d] = value(d);
}

void store(uint t, uint v_at_head, uint page_at) {
    if (KV_F16 == 0u) {
        for (uint d = t; d < head_dim; d += T) {
            k_word[page_at + d] = floatBitsToUint(rotated_element(d));
            v_word[page_at + d] = floatBitsToUint(head[v_at_head + d]);
        }
        return;
    }
    for (uint w = t; w < head_dim / 2u; w += T) {
        uint d = 2u * w;
        k_word[page_at / 2u + w] =
            f16_bits(rotated_element(d)) | f16_bits(rotated_element(d + 1u)) << 16;
        v_word[page_at / 2u + w] =
            f16_bits(head[v_at_head + d]) | f16_bits(head[v_at_head + d + 1u]) << 16;
    }
}

void main() {
    uint t = lane_index(), row = gl_WorkGroupID.y, h = gl_WorkGroupID.x;
    if (row >= N_ROWS) return;
    is_q = h < n_heads;
    if (!is_q) h -= n_heads;
    at = is_q ? q_at + row * q_ld + h * head_dim : k_at + row * k_ld + h * head_dim;
    normed = (flags & (is_q ? FLAG_Q_NORM : FLAG_K_NORM)) != 0u;
    factor = 1.0;
    if (normed) {
        precise float s = 0.0;
        for (uint d = t; d < head_dim; d += T) s = fma(head[at + d], head[at + d], s);
        factor = rms_factor(sum_lanes(s, 1), float(head_dim), norm_eps);
        barrier(); /* all have read what some are about to write */
    }
    rope_row = rope_at + row * 2u * half_dims;
    if (is_q) {
        rotate_in_place(t);
        return;
    }
    uint seq = step_word[rows_at + 4u * row], pos = step_word[rows_at + 4u * row + 1u];
    uint page = step_word[table_at + seq * table_ld + pos / 32u];
    store(t, v_at + row * v_ld + h * head_dim,
          ((page * n_kv_heads + h) * 32u + pos % 32u) * head_dim);
}
