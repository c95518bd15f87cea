/* matmul.comp - products of a packed matrix with the rows of a step, one source for all types.
 *
 *   y[c][row] = f[c] * sum over k of W[row][k] x[c][k], then bias and epilogue
 *
 * Lanes: t = kl * ROW_LANES + rl.  Lane rl computes the four rows of its group for COLS columns;
 * the T / ROW_LANES lanes of equal rl share K: lane kl takes units kl, kl + T / ROW_LANES, ... in
 * order, and a tree adds the lanes.  Neither order depends on the number of columns, so a row of a
 * step gets the same bits alone and among others.
 *
 * Norm: x here is already multiplied by the norm's weight (the operation that produced the row
 * stored that product beside it); f = 1 / rms comes from the row itself and is applied to the sum.
 * Likewise this kernel stores y times the next norm's weight where one follows. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"

#define ROWS 4u

layout(constant_id = 1) const uint ROW_LANES = 1;
layout(constant_id = 2) const uint COLS = 1;
layout(constant_id = 3) const uint PAIR = 0;  /* 1: out = silu(part 0) * part 1 */

#ifdef EXO_TEXEL
layout(set = 0, binding = 13) uniform samplerBuffer input_texels;
layout(set = 0, binding = 14) uniform usamplerBuffer norm_texels;
vec4 load_x(uint i) { return texelFetch(input_texels, int(i)); }
vec4 load_norm(uint i) { return uintBitsToFloat(texelFetch(norm_texels, int(i))); }
#else
layout(set = 0, binding = 5, std430) readonly buffer Inputs { vec4 in4[]; };
layout(set = 0, binding = 6, std430) readonly buffer NormInputs { vec4 norm4[]; };
vec4 load_x(uint i) { return in4[i]; }
vec4 load_norm(uint i) { return norm4[i]; }
#endif
layout(set = 0, binding = 7, std430) buffer Outputs { float result[]; };
layout(set = 0, binding = 8, std430) readonly buffer Bias0 { float bias0[]; };
layout(set = 0, binding = 9, std430) readonly buffer Bias1 { float bias1[]; };
layout(set = 0, binding = 10, std430) readonly buffer Bias2 { float bias2[]; };
layout(set = 0, binding = 11, std430) readonly buffer NextNorm { float next_norm[]; };

struct Part {
    uint base;      /* of the matrix, in uvec4 */
    uint n_rows;    /* in this run of rows */
    uint row0;      /* first of them in the whole matrix */
    uint first;     /* workgroup of its first group */
    uint out_at;    /* in floats */
    uint out_ld;
};

layout(push_constant) uniform Push {
    uint n_units, in_ld4;   /* the input range begins at row 0 */
    uint norm_ld4;          /* vec4 per row of the norm's input */
    float norm_n, norm_eps; /* elements of a row */
    uint flags;
    uint next_at, next_ld; /* in floats */
    uint gather_at;        /* word of the step block: which rows of the input */
    Part part[3];
};

#define FLAG_NORM        1u  /* f from the sum of squares of the norm's input */
#define FLAG_FACTOR      2u  /* f is ready in the norm's input, one float per row */
#define FLAG_ADD         4u  /* out += y */
#define FLAG_NEXT        8u  /* store y * next_norm as well */
#define FLAG_GATHER      16u /* columns are the rows that want logits */
#define FLAG_BIAS        32u /* << part */

const uint K_LANES = T / ROW_LANES;

/* Does M for each column; those beyond COLS fall away when the pipeline is made. */
#define EACH_COLUMN(M)                                                                             \
    M(0)                                                                                           \
    if (COLS > 1u) { M(1) }                                                                        \
    if (COLS > 2u) { M(2) M(3) }

float silu_mul(float g, float u) {
    precise float y = (g / (1.0 + exact_exp(-g))) * u;
    return y;
}

float bias_of(uint i, uint row) { return i == 0u ? bias0[row] : i == 1u ? bias1[row] : bias2[row]; }

uint in_row(uint c, uint n) {
    uint i = min(c, n - 1u);
    return (flags & FLAG_GATHER) != 0u ? step_word[gather_at + i] : i;
}

float factor_of(uint row) {
    if ((flags & (FLAG_NORM | FLAG_FACTOR)) == 0u) return 1.0;
    if ((flags & FLAG_FACTOR) != 0u) return load_norm(row / 4u)[row & 3u];
    float s = 0.0;
    for (uint i = lane_index(); i < norm_ld4; i += T) {
        s = add_squares(s, load_norm(row * norm_ld4 + i));
    }
    return rms_factor(sum_lanes(s, 1), norm_n, norm_eps);
}

vec4 sum_rows(vec4 v) { /* over the lanes that share K */
    return vec4(sum_lanes(v.x, ROW_LANES), sum_lanes(v.y, ROW_LANES), sum_lanes(v.z, ROW_LANES),
                sum_lanes(v.w, ROW_LANES));
}

/* sum plus the products of four rows with x, elements in order. */
vec4 add_rows(vec4 sum, vec4 w0, vec4 w1, vec4 w2, vec4 w3, vec4 x) {
    return vec4(add_products(sum.x, w0, x), add_products(sum.y, w1, x), add_products(sum.z, w2, x),
                add_products(sum.w, w3, x));
}

float add_elements(float sum, vec4 x) {
    precise float s = (((sum + x.x) + x.y) + x.z) + x.w;
    return s;
}

#ifdef NEEDS_SUM_X
#define SUM_X(c, x) sum_x##c = add_elements(sum_x##c, x);
#else
#define SUM_X(c, x)
#endif

/* Chunk j of the unit's inputs goes through all rows. */
#define CHUNK(j)                                                                                   \
    {                                                                                              \
        vec4 w0 = row_chunk(row0, j), w1 = row_chunk(row1, j);                                     \
        vec4 w2 = row_chunk(row2, j), w3 = row_chunk(row3, j);                                     \
        vec4 v0, v1, v2, v3;                                                                       \
        if (PAIR != 0u) {                                                                          \
            v0 = row_chunk(up_row0, j);                                                            \
            v1 = row_chunk(up_row1, j);                                                            \
            v2 = row_chunk(up_row2, j);                                                            \
            v3 = row_chunk(up_row3, j);                                                            \
        }                                                                                          \
        EACH_COLUMN(CHUNK_OF_##j)                                                                  \
    }
#define CHUNK_COLUMN(c, j)                                                                         \
    {                                                                                              \
        vec4 x = load_x(x_at##c + u * 8u + j);                                                                    \
        SUM_X(c, x)                                                                                \
        sum##c = add_rows(sum##c, w0, w1, w2, w3, x);                                              \
        if (PAIR != 0u) up_sum##c = add_rows(up_sum##c, v0, v1, v2, v3, x);                        \
    }
#define CHUNK_OF_0u(c) CHUNK_COLUMN(c, 0u)
#define CHUNK_OF_1u(c) CHUNK_COLUMN(c, 1u)
#define CHUNK_OF_2u(c) CHUNK_COLUMN(c, 2u)
#define CHUNK_OF_3u(c) CHUNK_COLUMN(c, 3u)
#define CHUNK_OF_4u(c) CHUNK_COLUMN(c, 4u)
#define CHUNK_OF_5u(c) CHUNK_COLUMN(c, 5u)
#define CHUNK_OF_6u(c) CHUNK_COLUMN(c, 6u)
#define CHUNK_OF_7u(c) CHUNK_COLUMN(c, 7u)

#define LOAD_ROWS(half_unit)                                                                       \
    row0 = unit_row(m, i, 0u, half_unit);                                                          \
    row1 = unit_row(m, i, 1u, half_unit);                                                          \
    row2 = unit_row(m, i, 2u, half_unit);                                                          \
    row3 = unit_row(m, i, 3u, half_unit);                                                          \
    if (PAIR != 0u) {                                                                              \
        up_row0 = unit_row(up_m, i, 0u, half_unit);                                                \
        up_row1 = unit_row(up_m, i, 1u, half_unit);                                                \
        up_row2 = unit_row(up_m, i, 2u, half_unit);                                                \
        up_row3 = unit_row(up_m, i, 3u, half_unit);                                                \
    }

#define DECLARE_COLUMN(c)                                                                          \
    precise vec4 acc##c = vec4(0.0), up_acc##c = vec4(0.0);                                        \
    vec4 sum##c = vec4(0.0), up_sum##c = vec4(0.0);                              \
    float sum_x##c = 0.0;                                                                          \
    uint x_at##c = 0u;
#define ADDRESS_COLUMN(c) x_at##c = in_row(col0 + uint(c), n) * in_ld4;
#define ADD_COLUMN(c, half_unit)                                                                   \
    acc##c = unit_add(acc##c, scales, half_unit, sum##c, sum_x##c);                                \
    if (PAIR != 0u) up_acc##c = unit_add(up_acc##c, up_scales, half_unit, up_sum##c, sum_x##c);    \
    sum##c = up_sum##c = vec4(0.0);                                                                \
    sum_x##c = 0.0;
#define ADD_FIRST(c) ADD_COLUMN(c, 0u)
#define ADD_SECOND(c) ADD_COLUMN(c, 1u)
#define STORE_COLUMN(c)                                                                            \
    acc##c = sum_rows(acc##c);                                                                     \
    if (PAIR != 0u) up_acc##c = sum_rows(up_acc##c);                                               \
    if (col0 + uint(c) < n) {                                                                         \
        float f = factor_of(in_row(col0 + uint(c), n));                                               \
        store_rows(i_part, row, col0 + uint(c), acc##c * f, up_acc##c * f);                           \
    }

uint last_row; /* row of this lane's group at which storing ends */

void store_row(uint i_part, uint row, uint col, float value, float up_value) {
    if (row >= last_row) return;
    precise float y = value, up = up_value;
    if ((flags & FLAG_BIAS << i_part) != 0u) y = y + bias_of(i_part, row);
    if (PAIR != 0u) {
        if ((flags & FLAG_BIAS << 1) != 0u) up = up + bias1[row];
        y = silu_mul(y, up);
    }
    uint at = part[i_part].out_at + col * part[i_part].out_ld + row;
    if ((flags & FLAG_ADD) != 0u) y = result[at] + y;
    result[at] = y;
    if ((flags & FLAG_NEXT) != 0u) result[next_at + col * next_ld + row] = y * next_norm[row];
}

void store_rows(uint i_part, uint row, uint col, vec4 y, vec4 up) {
    store_row(i_part, row, col, y.x, up.x);
    store_row(i_part, row + 1u, col, y.y, up.y);
    store_row(i_part, row + 2u, col, y.z, up.z);
    store_row(i_part, row + 3u, col, y.w, up.w);
}

void main() {
    uint t = lane_index(), n = (flags & FLAG_GATHER) != 0u ? N_LOGITS : N_ROWS;
    uint col0 = gl_WorkGroupID.y * COLS;
    if (col0 >= n) return;
    uint i_part = 0;
    if (PAIR == 0u && gl_WorkGroupID.x >= part[1].first) {
        i_part = gl_WorkGroupID.x >= part[2].first ? 2u : 1u;
    }
    uint n_groups = (part[i_part].n_rows + ROWS - 1u) / ROWS;
    uint group = (gl_WorkGroupID.x - part[i_part].first) * ROW_LANES + t % ROW_LANES;
    uint g = min(group, n_groups - 1u);
    Matrix m = Matrix(part[i_part].base, n_groups * n_units);
    Matrix up_m = Matrix(part[1].base, n_groups * n_units);

    DECLARE_COLUMN(0) DECLARE_COLUMN(1) DECLARE_COLUMN(2) DECLARE_COLUMN(3)
    EACH_COLUMN(ADDRESS_COLUMN)
    for (uint u = t / ROW_LANES; u < n_units; u += K_LANES) {
        uint i = g * n_units + u;
        Scales scales = unit_scales(m, i), up_scales;
        if (PAIR != 0u) up_scales = unit_scales(up_m, i);
        Row row0, row1, row2, row3, up_row0, up_row1, up_row2, up_row3;
        LOAD_ROWS(0u)
        CHUNK(0u) CHUNK(1u) CHUNK(2u) CHUNK(3u)
#ifdef LOAD_HALVES
        LOAD_ROWS(1u)
#endif
#if HALVES == 2
        EACH_COLUMN(ADD_FIRST)
#endif
        CHUNK(4u) CHUNK(5u) CHUNK(6u) CHUNK(7u)
        EACH_COLUMN(ADD_SECOND)
    }

    /* all lanes take part in the sums; those of the first K lane store */
    bool stores = t < ROW_LANES && group < n_groups;
    uint row = part[i_part].row0 + group * ROWS;
    last_row = stores ? part[i_part].row0 + part[i_part].n_rows : 0u;
    EACH_COLUMN(STORE_COLUMN)
}
