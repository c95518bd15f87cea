/* head_top.comp - which ids of a row of logits are the highest: the row need not be read.
 *
 * Each row may ask (step block: vulkan/plan.h) for the ids of the highest logits, or of the highest
 * logit / T + noise, the scores of engine/gumbel.h.  Three stages, one dispatch each:
 *
 *   0   per block of ids: MAXIMA maxima of interleaved parts, the highest logit, the sum of
 *       exp(logit - highest) where asked, the number of logits that are not finite
 *   1   per row: the bound, which is the n-th highest of all blocks' maxima, so that at least n ids
 *       reach it; the blocks' highest logits and sums joined
 *   2   per block: every id that reaches the bound, with its logit, in any order
 *
 * So the ids found are all that reach the bound, and their logits are the row's own bits.  Scores
 * are f32 and only serve to find candidates: the host computes the exact ones of those. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint STAGE = 0;
layout(constant_id = 2) const uint MAXIMA = 8; /* of a block: 4 times a power of two, up to 4 T */

#define MAX_MAXIMA  2048u /* of a row */
#define LOWEST      -3.4028234663852886e38

layout(set = 0, binding = 5, std430) readonly buffer Logits { vec4 logit4[]; };
layout(set = 0, binding = 7, std430) buffer Found { uint found[]; };
layout(set = 0, binding = 9, std430) buffer Blocks { float block_value[]; };

layout(push_constant) uniform Push {
    uint n_vocab, ld4; /* ids; vec4 per row of logits */
    uint n_blocks, block4; /* of a row; vec4 per block */
    uint asks_at;  /* word of the step block */
    uint found_ld; /* words per row: FOUND_*, then {id, logit} of each */
    uint cap;      /* ids there is room for */
};

/* a row's question */
#define ASK_KIND     0u /* 0 = none, 1 = highest logits, 2 = highest scores */
#define ASK_N        1u
#define ASK_TOTAL    2u
#define ASK_INVERSE  3u /* 1 / T */
#define ASK_SEED     4u /* low, high */
#define ASK_CHOICE   6u
#define ASK_POSITION 7u

/* its answer */
#define FOUND_COUNT   0u
#define FOUND_BAD     1u /* logits that are not finite */
#define FOUND_HIGHEST 2u
#define FOUND_TOTAL   3u
#define FOUND_BOUND   4u
#define FOUND_IDS     8u

#define BLOCK_VALUES (MAXIMA + 4u) /* maxima, highest, sum, not finite, 0 */

shared uint row_key[MAX_MAXIMA];

uint ask(uint row, uint word) { return step_word[asks_at + 8u * row + word]; }

bool is_finite(float f) { return (floatBitsToUint(f) & 0x7F800000u) != 0x7F800000u; }

/* ---- scores ---- */

/* log(a / b), where a / b is near 1. */
float log_ratio(float a_minus_b, float a_plus_b) {
    precise float z = a_minus_b / a_plus_b, y = z * z;
    precise float p = 0.11111111111;
    p = fma(p, y, 0.14285714286);
    p = fma(p, y, 0.2);
    p = fma(p, y, 0.33333333333);
    p = fma(p, y, 1.0);
    return 2.0 * z * p;
}

float log_of(float x) { /* x > 0 and normal */
    uint u = floatBitsToUint(x), from = 0x3F3504F3u; /* sqrt(1/2) */
    int e = int(u - from) >> 23;
    float m = uintBitsToFloat(u - uint(e << 23));
    precise float l = fma(float(e), 0.69314718056, log_ratio(m - 1.0, m + 1.0));
    return l;
}

/* -log(-log(u)), u = m / 2^53, m = 2 (bits >> 12) + 1, from both ends without cancellation. */
float noise_of(uint low, uint high) {
    uint m_low = (high << 21 | low >> 12 << 1) | 1u, m_high = high >> 11;
    uint rest_low = 0u - m_low, rest_high = 0x1FFFFFu - m_high; /* 2^53 - m: m_low is not 0 */
    float u = (float(m_high) * 4294967296.0 + float(m_low)) * 1.1102230246251565e-16;
    float w = (float(rest_high) * 4294967296.0 + float(rest_low)) * 1.1102230246251565e-16;
    float e = w < 0.25 ? -log_ratio(-w, 2.0 - w) : -log_of(u);
    return -log_of(e);
}

/* Philox4x32-10: the noise of ids 2 pair and 2 pair + 1. */
vec2 noise_pair(uint row, uint pair) {
    uvec4 c = uvec4(pair, ask(row, ASK_POSITION), ask(row, ASK_CHOICE), 0u);
    uint k0 = ask(row, ASK_SEED), k1 = ask(row, ASK_SEED + 1u);
    for (uint round = 0; round < 10u; round++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return vec2(noise_of(c.x, c.y), noise_of(c.z, c.w));
}


/* What four ids are ordered by; LOWEST where there is no id, or its logit is not finite. */
vec4 keys_of(uint row, uint i, vec4 v, bvec4 valid) {
    vec4 key = v;
    if (ask(row, ASK_KIND) == 2u) {
        float inverse = uintBitsToFloat(ask(row, ASK_INVERSE));
        vec2 a = noise_pair(row, 2u * i), b = noise_pair(row, 2u * i + 1u);
        precise vec4 score = v * inverse + vec4(a, b);
        key = score;
    }
    return mix(vec4(LOWEST), key, valid);
}

bvec4 valid_of(uint i, vec4 v) {
    uvec4 id = uvec4(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u);
    return bvec4(id.x < n_vocab && is_finite(v.x), id.y < n_vocab && is_finite(v.y),
                 id.z < n_vocab && is_finite(v.z), id.w < n_vocab && is_finite(v.w));
}

/* ---- stages ---- */

uint first_of(uint block) { return block * block4; } /* vec4 of the row */
uint end_of(uint block) { return min((block + 1u) * block4, (n_vocab + 3u) / 4u); }
uint values_at(uint row, uint block) { return (row * n_blocks + block) * BLOCK_VALUES; }

float sum_exp(uint row, uint block, float highest) {
    float sum = 0.0;
    for (uint i = first_of(block) + lane_index(); i < end_of(block); i += T) {
        vec4 v = logit4[row * ld4 + i];
        bvec4 valid = valid_of(i, v);
        precise float s = sum;
        if (valid.x) s = s + exact_exp(v.x - highest);
        if (valid.y) s = s + exact_exp(v.y - highest);
        if (valid.z) s = s + exact_exp(v.z - highest);
        if (valid.w) s = s + exact_exp(v.w - highest);
        sum = s;
    }
    return sum_lanes(sum, 1);
}

/* The highest over lanes whose index differs in bits from `first` on. */
vec4 max_parts(vec4 v, uint first) {
    uint t = lane_index();
    for (uint d = first; d < T; d *= 2) {
        barrier();
        lane_value[t] = v;
        barrier();
        v = max(v, lane_value[t ^ d]);
    }
    return v;
}

void block_maxima(uint row, uint block) {
    uint t = lane_index();
    vec4 most = vec4(LOWEST);
    float highest = LOWEST, bad = 0.0;
    for (uint i = first_of(block) + t; i < end_of(block); i += T) {
        vec4 v = logit4[row * ld4 + i];
        bvec4 valid = valid_of(i, v);
        vec4 l = mix(vec4(LOWEST), v, valid);
        highest = max(highest, max(max(l.x, l.y), max(l.z, l.w)));
        for (uint k = 0; k < 4u; k++) {
            if (4u * i + k < n_vocab && !is_finite(v[k])) bad += 1.0;
        }
        most = max(most, keys_of(row, i, v, valid));
    }
    most = max_parts(most, MAXIMA / 4u);
    highest = max_lanes(highest);
    bad = sum_lanes(bad, 1);
    float sum = ask(row, ASK_TOTAL) != 0u ? sum_exp(row, block, highest) : 0.0;
    uint at = values_at(row, block);
    if (4u * t < MAXIMA) {
        for (uint k = 0; k < 4u; k++) block_value[at + 4u * t + k] = most[k];
    }
    if (t == 0u) {
        block_value[at + MAXIMA] = highest;
        block_value[at + MAXIMA + 1u] = sum;
        block_value[at + MAXIMA + 2u] = bad;
    }
}

/* Order-preserving bits of a float, and back. */
uint key_bits(float f) {
    uint u = floatBitsToUint(f);
    return (u & 0x80000000u) != 0u ? ~u : u | 0x80000000u;
}
float key_float(uint u) {
    return uintBitsToFloat((u & 0x80000000u) != 0u ? u & 0x7FFFFFFFu : ~u);
}

/* The lowest of the row's keys that reach `from`. */
float lowest_key(uint n_keys, uint from) {
    float least = -LOWEST;
    for (uint i = lane_index(); i < n_keys; i += T) {
        if (row_key[i] >= from) least = min(least, key_float(row_key[i]));
    }
    return -max_lanes(-least);
}

/* The n-th highest of the row's maxima, LOWEST when there are fewer: bit by bit from the top, until
 * exactly n are left. */
float nth_highest(uint row, uint n) {
    uint t = lane_index(), n_keys = n_blocks * MAXIMA;
    for (uint i = t; i < n_keys; i += T) {
        row_key[i] = key_bits(block_value[values_at(row, i / MAXIMA) + i % MAXIMA]);
    }
    if (n_keys < n) return LOWEST;
    barrier();
    uint found_key = 0u;
    for (uint bit = 0x80000000u; bit != 0u; bit >>= 1) {
        uint want = found_key | bit;
        float count = 0.0; /* whole numbers: exact */
        for (uint i = t; i < n_keys; i += T) {
            if (row_key[i] >= want) count += 1.0;
        }
        count = sum_lanes(count, 1);
        if (count >= float(n)) found_key = want;
        if (count == float(n)) return lowest_key(n_keys, want);
    }
    return max(key_float(found_key), LOWEST);
}

void row_bound(uint row) {
    uint t = lane_index();
    float highest = LOWEST, bad = 0.0, total = 0.0;
    for (uint b = t; b < n_blocks; b += T) {
        highest = max(highest, block_value[values_at(row, b) + MAXIMA]);
        bad += block_value[values_at(row, b) + MAXIMA + 2u];
    }
    highest = max_lanes(highest);
    bad = sum_lanes(bad, 1);
    if (ask(row, ASK_TOTAL) != 0u) {
        precise float s = 0.0;
        for (uint b = t; b < n_blocks; b += T) {
            uint at = values_at(row, b) + MAXIMA;
            s = fma(block_value[at + 1u], exact_exp(block_value[at] - highest), s);
        }
        total = sum_lanes(s, 1);
    }
    float bound = nth_highest(row, ask(row, ASK_N));
    if (t != 0u) return;
    uint at = row * found_ld;
    found[at + FOUND_COUNT] = 0u;
    found[at + FOUND_BAD] = uint(bad);
    found[at + FOUND_HIGHEST] = floatBitsToUint(highest);
    found[at + FOUND_TOTAL] = floatBitsToUint(total);
    found[at + FOUND_BOUND] = floatBitsToUint(bound);
}

void gather(uint row, uint block) {
    uint at = row * found_ld;
    float bound = uintBitsToFloat(found[at + FOUND_BOUND]), most = LOWEST;
    for (uint i = 0; i < MAXIMA; i++) most = max(most, block_value[values_at(row, block) + i]);
    if (most < bound) return;
    for (uint i = first_of(block) + lane_index(); i < end_of(block); i += T) {
        vec4 v = logit4[row * ld4 + i];
        bvec4 valid = valid_of(i, v);
        vec4 key = keys_of(row, i, v, valid);
        for (uint k = 0; k < 4u; k++) {
            if (!valid[k] || key[k] < bound) continue;
            uint place = atomicAdd(found[at + FOUND_COUNT], 1u);
            if (place >= cap) continue;
            found[at + FOUND_IDS + 2u * place] = 4u * i + k;
            found[at + FOUND_IDS + 2u * place + 1u] = floatBitsToUint(v[k]);
        }
    }
}

void main() {
    uint block = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
    if (row >= N_LOGITS || ask(row, ASK_KIND) == 0u) return;
    if (STAGE == 0u) {
        block_maxima(row, block);
    } else if (STAGE == 1u) {
        row_bound(row);
    } else {
        gather(row, block);
    }
}
