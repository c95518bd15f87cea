/* weights.glsl - one unit of a packed matrix: 32 elements along K of four rows.
 *
 * The layout is vulkan/weight.h's; EXO_WEIGHT_<type> chooses it.  A kernel takes a unit's Scales, and
 * each row's quants as a Row, in one load or in one per half (16 elements) where LOAD_HALVES says
 * so.  Chunk j of a row holds elements 4j..4j+3, not yet scaled: unit_add() scales sums of products,
 * unit_value() single elements.
 *
 * HALVES is the number of sums that a row of a unit needs: 2 where each 16 elements have a scale of
 * their own.  NEEDS_SUM_X says that unit_add() wants the sum of the inputs as well, because quants
 * are not centred or blocks have a minimum.
 *
 * For products with int8 inputs (matmul_dot.comp) a type has row_bytes() instead: 16 elements of a
 * half as signed bytes, centred; and unit_add_ints(), which scales exact integer sums.
 *
 * No arrays: some compilers keep an array in memory even when every index is known. */
#ifdef EXO_TEXEL
layout(set = 0, binding = 12) uniform usamplerBuffer weight_texels;
uvec4 load16(uint i) { return texelFetch(weight_texels, int(i)); }
uvec2 load8(uint i) {
    uvec4 v = load16(i / 2u);
    return (i & 1u) != 0u ? v.zw : v.xy;
}
uint load4(uint i) {
    uvec2 v = load8(i / 2u);
    return (i & 1u) != 0u ? v.y : v.x;
}
#else
layout(set = 0, binding = 2, std430) readonly buffer Weights16 { uvec4 w16[]; };
layout(set = 0, binding = 3, std430) readonly buffer Weights8 { uvec2 w8[]; };
layout(set = 0, binding = 4, std430) readonly buffer Weights4 { uint w4[]; };
uvec4 load16(uint i) { return w16[i]; }
uvec2 load8(uint i) { return w8[i]; }
uint load4(uint i) { return w4[i]; }
#endif

/* A run of groups in the weight buffer, and one unit of one group. */
struct Matrix {
    uint base;    /* of the first plane, in 16 bytes */
    uint n_units; /* of all groups together */
};

vec4 four_bytes(uint v) { /* unsigned */
    return vec4(ivec4(int(v), int(v >> 8), int(v >> 16), int(v >> 24)) & 255);
}

/* Low nibbles are elements 0..15, high ones 16..31. */
uint nibbles(uvec4 q, uint j) { return q[j & 3u] >> (j >= 4u ? 4 : 0) & 0x0F0F0F0Fu; }

vec4 four_nibbles(uvec4 q, uint j) {
    uint v = q[j & 3u] >> (j >= 4u ? 4 : 0);
    return vec4(ivec4(int(v), int(v >> 8), int(v >> 16), int(v >> 24)) & 15);
}

vec4 four_halves(uvec2 v) { return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y)); }

/* Pairs of halves of four rows: the first of each, the second. */
vec4 four_first(uvec4 v) {
    return vec4(unpackHalf2x16(v.x).x, unpackHalf2x16(v.y).x, unpackHalf2x16(v.z).x,
                unpackHalf2x16(v.w).x);
}
vec4 four_second(uvec4 v) { return four_first(v >> 16u); }

/* Two bits of chunk j of 32 elements, one bit. */
uint pairs(uvec2 q, uint j) { return (j < 4u ? q.x : q.y) >> 2u * (j & 3u) & 0x03030303u; }
uint bits(uint q, uint j) { return q >> j & 0x01010101u; }

/* Four six-bit numbers. */
vec4 sixes(uint v) {
    return vec4(ivec4(int(v), int(v >> 6), int(v >> 12), int(v >> 18)) & 63);
}

/* Of unit i: four six-bit numbers, then four more.  Plane `at` has 32 bits of these 48, the one
 * behind it 16; both in words. */
void load_sixes(uint at, uint n_units, uint i, out vec4 first, out vec4 second) {
    uint a = load4(at + i), b = load4(at + n_units + i / 2u) >> 16u * (i & 1u);
    first = sixes(a);
    second = sixes(a >> 24 | (b & 0xFFFFu) << 8);
}

#if defined(EXO_WEIGHT_IQ4_NL) || defined(EXO_WEIGHT_IQ4_XS)
/* -127 -104 -83 -65, -49 -35 -22 -10, 1 13 25 38, 53 69 89 113: the first lowest. */
vec4 four_values(uvec4 q, uint j) {
    uint v = nibbles(q, j);
    uvec4 n = uvec4(v, v >> 8, v >> 16, v >> 24);
    bvec4 second = notEqual(n & 4u, uvec4(0u)), high = notEqual(n & 8u, uvec4(0u));
    uvec4 low_four = mix(uvec4(0xBFAD9881u), uvec4(0xF6EADDCFu), second);
    uvec4 high_four = mix(uvec4(0x26190D01u), uvec4(0x71594535u), second);
    return vec4(ivec4(mix(low_four, high_four, high) << 24u - 8u * (n & 3u)) >> 24);
}
#elif defined(EXO_WEIGHT_MXFP4)
/* Twice 0 0.5 1 1.5 2 3 4 6, bit 3 the sign; the first lowest. */
vec4 four_values(uvec4 q, uint j) {
    uint v = nibbles(q, j);
    uvec4 n = uvec4(v, v >> 8, v >> 16, v >> 24);
    vec4 size = vec4(uvec4(0xC8643210u) >> 4u * (n & 7u) & 15u);
    return mix(size, -size, notEqual(n & 8u, uvec4(0u)));
}
#endif

#if defined(EXO_WEIGHT_F32)

#define HALVES 1
struct Scales { uint none; };
struct Row { uint at; };
Scales unit_scales(Matrix m, uint i) { return Scales(0u); }
Row unit_row(Matrix m, uint i, uint r, uint half_unit) { return Row(m.base + i * 32u + r * 8u); }
vec4 row_chunk(Row w, uint j) { return uintBitsToFloat(load16(w.at + j)); }

#elif defined(EXO_WEIGHT_F16) || defined(EXO_WEIGHT_BF16)

#define HALVES 1
#define LOAD_HALVES
struct Scales { uint none; };
struct Row { uvec4 a, b; };
Scales unit_scales(Matrix m, uint i) { return Scales(0u); }
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    uint at = m.base + i * 16u + r * 4u + half_unit * 2u;
    return Row(load16(at), load16(at + 1u));
}
vec4 row_chunk(Row w, uint j) {
    uvec4 q = (j & 2u) == 0u ? w.a : w.b;
    uvec2 v = (j & 1u) == 0u ? q.xy : q.zw;
#ifdef EXO_WEIGHT_F16
    return four_halves(v);
#else
    return uintBitsToFloat(uvec4(v.x << 16, v.x & 0xFFFF0000u, v.y << 16, v.y & 0xFFFF0000u));
#endif
}

#elif defined(EXO_WEIGHT_Q8_0)

#define HALVES 1
#define LOAD_HALVES
struct Scales { vec4 d; };
struct Row { uvec4 q; };
Scales unit_scales(Matrix m, uint i) {
    return Scales(four_halves(load8(2u * (m.base + m.n_units * 8u) + i)));
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    return Row(load16(m.base + i * 8u + r * 2u + half_unit));
}
vec4 row_chunk(Row w, uint j) {
    int v = int(w.q[j & 3u]);
    return vec4(ivec4(v << 24, v << 16, v << 8, v) >> 24);
}

#elif defined(EXO_WEIGHT_Q4_0)

#define HALVES 1
#define NEEDS_SUM_X
struct Scales { vec4 d; };
struct Row { uvec4 q; };
Scales unit_scales(Matrix m, uint i) {
    return Scales(four_halves(load8(2u * (m.base + m.n_units * 4u) + i)));
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) { return Row(load16(m.base + i * 4u + r)); }
vec4 row_chunk(Row w, uint j) { return four_nibbles(w.q, j); }

#elif defined(EXO_WEIGHT_Q4_K)

#define HALVES 1
#define NEEDS_SUM_X
struct Scales { vec4 scale, minimum; };
struct Row { uvec4 q; };
Scales unit_scales(Matrix m, uint i) {
    uint plane1 = m.base + m.n_units * 4u;
    uvec4 d = load16(plane1 + i / 8u); /* d and dmin of each row */
    vec4 scales, minima;
    load_sixes(4u * (plane1 + m.n_units / 8u), m.n_units, i, scales, minima);
    precise vec4 scale = four_first(d) * scales, minimum = four_second(d) * minima;
    return Scales(scale, minimum);
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) { return Row(load16(m.base + i * 4u + r)); }
vec4 row_chunk(Row w, uint j) { return four_nibbles(w.q, j); }

#elif defined(EXO_WEIGHT_Q6_K)

#define HALVES 2
#define NEEDS_SUM_X
struct Scales { vec4 first, second; }; /* of each half */
struct Row { uvec4 low; uvec2 high; };
vec4 scale_bytes(uvec2 s, int shift) { /* int8 of each row */
    return vec4(ivec4(int(s.x << (shift + 16)), int(s.x << shift), int(s.y << (shift + 16)),
                      int(s.y << shift)) >> 24);
}
Scales unit_scales(Matrix m, uint i) {
    uint plane2 = 2u * (m.base + m.n_units * 6u), plane3 = plane2 + m.n_units;
    uvec2 s = load8(plane2 + i);
    vec4 d = four_halves(load8(plane3 + i / 8u));
    precise vec4 first = d * scale_bytes(s, 8), second = d * scale_bytes(s, 0);
    return Scales(first, second);
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    uint plane1 = m.base + m.n_units * 4u;
    return Row(load16(m.base + i * 4u + r), load8(2u * plane1 + i * 4u + r));
}
vec4 row_chunk(Row w, uint j) {
    return four_bytes(nibbles(w.low, j) | pairs(w.high, j) << 4);
}

#elif defined(EXO_WEIGHT_Q4_1)

#define HALVES 1
#define NEEDS_SUM_X
struct Scales { vec4 scale, addend; };
struct Row { uvec4 q; };
Scales unit_scales(Matrix m, uint i) {
    uvec4 d = load16(m.base + m.n_units * 4u + i);
    return Scales(four_first(d), four_second(d));
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) { return Row(load16(m.base + i * 4u + r)); }
vec4 row_chunk(Row w, uint j) { return four_nibbles(w.q, j); }

#elif defined(EXO_WEIGHT_Q5_0) || defined(EXO_WEIGHT_Q5_1) || defined(EXO_WEIGHT_Q5_K)

#define HALVES 1
#define NEEDS_SUM_X
struct Row { uvec4 low; uint high; };
#if defined(EXO_WEIGHT_Q5_0)
struct Scales { vec4 d; };
Scales unit_scales(Matrix m, uint i) {
    return Scales(four_halves(load8(2u * (m.base + m.n_units * 5u) + i)));
}
#elif defined(EXO_WEIGHT_Q5_1)
struct Scales { vec4 scale, addend; };
Scales unit_scales(Matrix m, uint i) {
    uvec4 d = load16(m.base + m.n_units * 5u + i);
    return Scales(four_first(d), four_second(d));
}
#else
struct Scales { vec4 scale, minimum; };
Scales unit_scales(Matrix m, uint i) {
    uint plane2 = m.base + m.n_units * 5u;
    uvec4 d = load16(plane2 + i / 8u);
    vec4 scales, minima;
    load_sixes(4u * (plane2 + m.n_units / 8u), m.n_units, i, scales, minima);
    precise vec4 scale = four_first(d) * scales, minimum = four_second(d) * minima;
    return Scales(scale, minimum);
}
#endif
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    uint plane1 = m.base + m.n_units * 4u;
    return Row(load16(m.base + i * 4u + r), load4(4u * (plane1 + i) + r));
}
vec4 row_chunk(Row w, uint j) { return four_bytes(nibbles(w.low, j) | bits(w.high, j) << 4); }

#elif defined(EXO_WEIGHT_Q2_K)

#define HALVES 2
#define NEEDS_SUM_X
struct Scales { vec4 first, second, first_minimum, second_minimum; };
struct Row { uvec2 q; };
vec4 scale_nibbles(uvec2 s, int shift) { /* of each row */
    return vec4(ivec4(int(s.x >> shift), int(s.x >> shift + 16), int(s.y >> shift),
                      int(s.y >> shift + 16)) & 15);
}
Scales unit_scales(Matrix m, uint i) {
    uint plane1 = m.base + m.n_units * 2u;
    uvec4 v = load16(plane1 + i / 8u);
    uvec2 s = load8(2u * (plane1 + m.n_units / 8u) + i);
    vec4 d = four_first(v), dmin = four_second(v);
    precise vec4 a = d * scale_nibbles(s, 0), b = d * scale_nibbles(s, 8);
    precise vec4 a_min = dmin * scale_nibbles(s, 4), b_min = dmin * scale_nibbles(s, 12);
    return Scales(a, b, a_min, b_min);
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    return Row(load8(2u * m.base + i * 4u + r));
}
vec4 row_chunk(Row w, uint j) { return four_bytes(pairs(w.q, j)); }

#elif defined(EXO_WEIGHT_Q3_K)

#define HALVES 2
#define NEEDS_SUM_X
struct Scales { vec4 first, second; }; /* of each half */
struct Row { uvec2 low; uint high; };
Scales unit_scales(Matrix m, uint i) {
    uint plane2 = 2u * (m.base + m.n_units * 3u); /* in 8 bytes; n_units / 8 of these */
    vec4 d = four_halves(load8(plane2 + i / 8u)), a, b;
    load_sixes(2u * plane2 + m.n_units / 4u, m.n_units, i, a, b);
    precise vec4 first = d * (a - 32.0), second = d * (b - 32.0);
    return Scales(first, second);
}
Row unit_row(Matrix m, uint i, uint r, uint half_unit) {
    uint plane1 = m.base + m.n_units * 2u;
    return Row(load8(2u * m.base + i * 4u + r), load4(4u * (plane1 + i) + r));
}
vec4 row_chunk(Row w, uint j) { return four_bytes(pairs(w.low, j) | bits(w.high, j) << 2); }

#elif defined(EXO_WEIGHT_IQ4_NL) || defined(EXO_WEIGHT_IQ4_XS) || defined(EXO_WEIGHT_MXFP4)

#define HALVES 1
struct Scales { vec4 d; };
struct Row { uvec4 q; };
#if defined(EXO_WEIGHT_IQ4_NL)
Scales unit_scales(Matrix m, uint i) {
    return Scales(four_halves(load8(2u * (m.base + m.n_units * 4u) + i)));
}
#elif defined(EXO_WEIGHT_IQ4_XS)
Scales unit_scales(Matrix m, uint i) {
    uint plane1 = 2u * (m.base + m.n_units * 4u); /* in 8 bytes; n_units / 8 of these */
    uint plane2 = 2u * plane1 + m.n_units / 4u, plane3 = plane2 + m.n_units / 2u;
    uint a = load4(plane2 + i / 2u) >> 16u * (i & 1u) & 0xFFFFu;
    uint b = load4(plane3 + i / 4u) >> 8u * (i & 3u) & 0xFFu;
    precise vec4 d = four_halves(load8(plane1 + i / 8u)) * (sixes(a | b << 16) - 32.0);
    return Scales(d);
}
#else
/* 2^(e - 128), half of the block's scale since the table has twice the values.  Below 2^-126 a
 * device may read zero. */
Scales unit_scales(Matrix m, uint i) {
    uint v = load4(4u * (m.base + m.n_units * 4u) + i);
    uvec4 e = uvec4(v, v >> 8, v >> 16, v >> 24) & 255u;
    return Scales(uintBitsToFloat(mix(e - 1u << 23, e + 1u << 21, lessThan(e, uvec4(2u)))));
}
#endif
Row unit_row(Matrix m, uint i, uint r, uint half_unit) { return Row(load16(m.base + i * 4u + r)); }
vec4 row_chunk(Row w, uint j) { return four_values(w.q, j); }

#endif

/* Elements 16 half_unit ... of a row as signed bytes. */
#if defined(EXO_WEIGHT_Q4_0) || defined(EXO_WEIGHT_Q4_K) || defined(EXO_WEIGHT_Q6_K)
uvec4 half_nibbles(uvec4 q, uint half_unit) { return q >> 4u * half_unit & 0x0F0F0F0Fu; }
/* Bytes below 128 less `by`, which is below 128, too: no byte borrows from the next. */
uvec4 less_bytes(uvec4 v, uint by) { return (v | 0x80808080u) - 0x01010101u * by ^ 0x80808080u; }
#endif
#if defined(EXO_WEIGHT_Q8_0)
uvec4 row_bytes(Row w, uint half_unit) { return w.q; }
#elif defined(EXO_WEIGHT_Q4_0)
uvec4 row_bytes(Row w, uint half_unit) { return less_bytes(half_nibbles(w.q, half_unit), 8u); }
#elif defined(EXO_WEIGHT_Q4_K)
uvec4 row_bytes(Row w, uint half_unit) { return half_nibbles(w.q, half_unit); }
#elif defined(EXO_WEIGHT_Q6_K)
uvec4 row_bytes(Row w, uint half_unit) {
    uint h = half_unit == 0u ? w.high.x : w.high.y;
    uvec4 high = uvec4(h, h >> 2, h >> 4, h >> 6) & 0x03030303u;
    return less_bytes(half_nibbles(w.low, half_unit) | high << 4, 32u);
}
#endif

/* acc plus the products of four rows, from sum = sums of quant * x and sum_x = sum of x. */
vec4 unit_add(vec4 acc, Scales w, uint half_unit, vec4 sum, float sum_x) {
    precise vec4 a = acc;
#if defined(EXO_WEIGHT_Q8_0) || defined(EXO_WEIGHT_IQ4_NL) || defined(EXO_WEIGHT_IQ4_XS) ||        \
    defined(EXO_WEIGHT_MXFP4)
    a = fma(w.d, sum, a);
#elif defined(EXO_WEIGHT_Q4_0)
    a = fma(w.d, fma(vec4(-8.0), vec4(sum_x), sum), a);
#elif defined(EXO_WEIGHT_Q5_0)
    a = fma(w.d, fma(vec4(-16.0), vec4(sum_x), sum), a);
#elif defined(EXO_WEIGHT_Q4_1) || defined(EXO_WEIGHT_Q5_1)
    a = fma(w.scale, sum, a);
    a = fma(w.addend, vec4(sum_x), a);
#elif defined(EXO_WEIGHT_Q2_K)
    a = fma(half_unit == 0u ? w.first : w.second, sum, a);
    a = fma(half_unit == 0u ? -w.first_minimum : -w.second_minimum, vec4(sum_x), a);
#elif defined(EXO_WEIGHT_Q3_K)
    vec4 scale = half_unit == 0u ? w.first : w.second;
    a = fma(scale, fma(vec4(-4.0), vec4(sum_x), sum), a);
#elif defined(EXO_WEIGHT_Q4_K) || defined(EXO_WEIGHT_Q5_K)
    a = fma(w.scale, sum, a);
    a = fma(-w.minimum, vec4(sum_x), a);
#elif defined(EXO_WEIGHT_Q6_K)
    vec4 scale = half_unit == 0u ? w.first : w.second;
    a = fma(scale, fma(vec4(-32.0), vec4(sum_x), sum), a);
#else
    a = a + sum;
#endif
    return a;
}

/* Chunk j of row r with its scale. */
vec4 unit_value(Scales w, Row row, uint r, uint j) {
    precise vec4 v = row_chunk(row, j);
#if defined(EXO_WEIGHT_Q8_0) || defined(EXO_WEIGHT_IQ4_NL) || defined(EXO_WEIGHT_IQ4_XS) ||        \
    defined(EXO_WEIGHT_MXFP4)
    v = v * w.d[r];
#elif defined(EXO_WEIGHT_Q4_0)
    v = (v - 8.0) * w.d[r];
#elif defined(EXO_WEIGHT_Q5_0)
    v = (v - 16.0) * w.d[r];
#elif defined(EXO_WEIGHT_Q4_1) || defined(EXO_WEIGHT_Q5_1)
    v = w.scale[r] * v + w.addend[r];
#elif defined(EXO_WEIGHT_Q2_K)
    v = j < 4u ? w.first[r] * v - w.first_minimum[r] : w.second[r] * v - w.second_minimum[r];
#elif defined(EXO_WEIGHT_Q3_K)
    v = (v - 4.0) * (j < 4u ? w.first[r] : w.second[r]);
#elif defined(EXO_WEIGHT_Q4_K) || defined(EXO_WEIGHT_Q5_K)
    v = w.scale[r] * v - w.minimum[r];
#elif defined(EXO_WEIGHT_Q6_K)
    v = (v - 32.0) * (j < 4u ? w.first[r] : w.second[r]);
#endif
    return v;
}

/* acc plus the products of four rows with int8 inputs of scale d, from their integer sums: dot = of
 * quant * input, sum_x = of the inputs. */
#if defined(EXO_WEIGHT_Q8_0) || defined(EXO_WEIGHT_Q4_0) || defined(EXO_WEIGHT_Q4_K) ||            \
    defined(EXO_WEIGHT_Q6_K)
vec4 unit_add_ints(vec4 acc, Scales w, uint half_unit, ivec4 dot, float d, int sum_x) {
    precise vec4 a = acc;
#if defined(EXO_WEIGHT_Q4_K)
    a = fma(w.scale * d, vec4(dot), a);
    a = fma(-w.minimum * d, vec4(sum_x), a);
#elif defined(EXO_WEIGHT_Q6_K)
    a = fma((half_unit == 0u ? w.first : w.second) * d, vec4(dot), a);
#else
    a = fma(w.d * d, vec4(dot), a);
#endif
    return a;
}
#endif
