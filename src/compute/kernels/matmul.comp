/* matmul.comp - products of a packed matrix with the rows of a step, one source for all types.
 *
 *   y[c][row] = f[c] * sum over k of W[row][k] x[c][k], then bias and epilogue
 *
 * Norm: x here is already multiplied by the norm's weight (the operation that produced the row
 * stored that product beside it); f = 1 / rms comes from the row itself and is applied to the sum.
 * Likewise this kernel stores y times the next norm's weight where one follows. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"
#include "product.glsl"

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

/* Does M for each column; those beyond COLS fall away when the pipeline is made. */
#define EACH_COLUMN(M)                                                                             \
    M(0)                                                                                           \
    if (COLS > 1u) { M(1) }                                                                        \
    if (COLS > 2u) { M(2) M(3) }

float factor_of(uint row) {
    if ((flags & (FLAG_NORM | FLAG_FACTOR)) == 0u) return 1.0;
    if ((flags & FLAG_FACTOR) != 0u) return load_norm(row / 4u)[row & 3u];
    float s = 0.0;
    for (uint i = lane_index(); i < norm_ld4; i += T) {
        s = add_squares(s, load_norm(row * norm_ld4 + i));
    }
    return rms_factor(sum_lanes(s, 1), norm_n, norm_eps);
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
#define ADDRESS_COLUMN(c) x_at##c = in_row(col0 + uint(c)) * in_ld4;
#define ADD_COLUMN(c, half_unit)                                                                   \
    acc##c = unit_add(acc##c, scales, half_unit, sum##c, sum_x##c);                                \
    if (PAIR != 0u) up_acc##c = unit_add(up_acc##c, up_scales, half_unit, up_sum##c, sum_x##c);    \
    sum##c = up_sum##c = vec4(0.0);                                                                \
    sum_x##c = 0.0;
#define ADD_FIRST(c) ADD_COLUMN(c, 0u)
#define ADD_SECOND(c) ADD_COLUMN(c, 1u)
#define STORE_COLUMN(c)                                                                            \
    acc##c = sum_lanes4(acc##c, ROW_LANES);                                                                     \
    if (PAIR != 0u) up_acc##c = sum_lanes4(up_acc##c, ROW_LANES);                                               \
    if (col0 + uint(c) < n_columns) {                                                              \
        float f = factor_of(in_row(col0 + uint(c)));                                               \
        store_rows(col0 + uint(c), acc##c * f, up_acc##c * f);                                     \
    }

/* A lane does all four rows: every input it loads serves four of them. */
void multiply_groups(uint t, uint g, Matrix m, Matrix up_m) {
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
    EACH_COLUMN(STORE_COLUMN)
}

#ifndef EXO_TEXEL /* CPUs, which want no such sharing */

/* ---- a lane does one row ----
 *
 * So neighbouring lanes load neighbouring words.  The inputs of the K_LANES units that are under way
 * stand in shared memory, and what the next ones need is on its way meanwhile. */

/* One of the vector's elements, without an array. */
float of_row(uint r, vec4 v) {
    return r < 2u ? (r == 0u ? v.x : v.y) : (r == 2u ? v.z : v.w);
}

#define STAGE_LD 9u /* vec4 per unit: 8 and one that keeps lanes apart in the banks */
shared vec4 staged[SPLIT == 1u ? 1u : COLS * K_LANES * STAGE_LD];

/* Inputs i and i + T of column c's row, and their part in the norm. */
#define LOAD_NEXT(c)                                                                               \
    next##c##_0 = load_x(x_at##c + min(at, end4 - 1u));                                            \
    next##c##_1 = load_x(x_at##c + min(at + T, end4 - 1u));                                        \
    if ((flags & FLAG_NORM) != 0u) {                                                               \
        if (at < norm_ld4) squares##c = add_squares(squares##c, load_norm(n_at##c + at));          \
        if (at + T < norm_ld4) squares##c = add_squares(squares##c, load_norm(n_at##c + at + T));  \
    }
#define STAGE(c)                                                                                   \
    staged[uint(c) * K_LANES * STAGE_LD + t / 8u * STAGE_LD + t % 8u] = next##c##_0;               \
    staged[uint(c) * K_LANES * STAGE_LD + (t + T) / 8u * STAGE_LD + t % 8u] = next##c##_1;
#define DECLARE_STAGED(c)                                                                          \
    vec4 next##c##_0, next##c##_1;                                                                 \
    float squares##c = 0.0;                                                                        \
    uint n_at##c = in_row(col0 + uint(c)) * norm_ld4;

#define ONE_ROW_COLUMN(c, j)                                                                       \
    {                                                                                              \
        vec4 x = staged[uint(c) * K_LANES * STAGE_LD + kl * STAGE_LD + j];                         \
        SUM_X(c, x)                                                                                \
        sum##c.x = add_products(sum##c.x, w, x);                                                   \
        if (PAIR != 0u) up_sum##c.x = add_products(up_sum##c.x, v, x);                             \
    }
#define ONE_ROW_OF_0u(c) ONE_ROW_COLUMN(c, 0u)
#define ONE_ROW_OF_1u(c) ONE_ROW_COLUMN(c, 1u)
#define ONE_ROW_OF_2u(c) ONE_ROW_COLUMN(c, 2u)
#define ONE_ROW_OF_3u(c) ONE_ROW_COLUMN(c, 3u)
#define ONE_ROW_OF_4u(c) ONE_ROW_COLUMN(c, 4u)
#define ONE_ROW_OF_5u(c) ONE_ROW_COLUMN(c, 5u)
#define ONE_ROW_OF_6u(c) ONE_ROW_COLUMN(c, 6u)
#define ONE_ROW_OF_7u(c) ONE_ROW_COLUMN(c, 7u)
#define ONE_ROW_CHUNK(row, up_row, j)                                                              \
    {                                                                                              \
        vec4 w = row_chunk(row, j), v;                                                             \
        if (PAIR != 0u) v = row_chunk(up_row, j);                                                  \
        EACH_COLUMN(ONE_ROW_OF_##j)                                                                \
    }
#define SPREAD(c)                                                                                  \
    sum##c = sum##c.xxxx;                                                                          \
    up_sum##c = up_sum##c.xxxx;
#define STORE_ONE_ROW(c)                                                                           \
    {                                                                                              \
        float y = sum_lanes(of_row(r, acc##c), SPLIT), up = 0.0, f = 1.0;                          \
        if (PAIR != 0u) up = sum_lanes(of_row(r, up_acc##c), SPLIT);                               \
        if ((flags & FLAG_FACTOR) != 0u) f = factor_of(in_row(col0 + uint(c)));                    \
        if ((flags & FLAG_NORM) != 0u) f = rms_factor(sum_lanes(squares##c, 1), norm_n, norm_eps); \
        if (col0 + uint(c) < n_columns) {                                                          \
            store_row(part[i_part].row0 + group * ROWS + r, col0 + uint(c), y * f, up * f);        \
        }                                                                                          \
    }

#ifdef LOAD_HALVES
#define LOAD_UNIT(i)                                                                               \
    row_a = unit_row(m, i, r, 0u);                                                                 \
    row_b = unit_row(m, i, r, 1u);                                                                 \
    if (PAIR != 0u) {                                                                              \
        up_row_a = unit_row(up_m, i, r, 0u);                                                       \
        up_row_b = unit_row(up_m, i, r, 1u);                                                       \
    }
#else
#define LOAD_UNIT(i)                                                                               \
    row_b = row_a = unit_row(m, i, r, 0u);                                                         \
    if (PAIR != 0u) up_row_b = up_row_a = unit_row(up_m, i, r, 0u);
#endif

void multiply_rows(uint t, uint g, Matrix m, Matrix up_m) {
    uint r = t % SPLIT, kl = t / SPLIT, end4 = n_units * 8u, at = t;
    DECLARE_COLUMN(0) DECLARE_COLUMN(1) DECLARE_COLUMN(2) DECLARE_COLUMN(3)
    DECLARE_STAGED(0) DECLARE_STAGED(1) DECLARE_STAGED(2) DECLARE_STAGED(3)
    EACH_COLUMN(ADDRESS_COLUMN)
    Row row_a, row_b, up_row_a, up_row_b;
    LOAD_UNIT(g * n_units + min(kl, n_units - 1u))
    EACH_COLUMN(LOAD_NEXT)
    for (uint u0 = 0u; u0 < n_units; u0 += K_LANES) {
        uint u = u0 + kl, i = g * n_units + min(u, n_units - 1u);
        barrier();
        EACH_COLUMN(STAGE)
        barrier();
        Row first = row_a, second = row_b, up_first = up_row_a, up_second = up_row_b;
        Scales scales = unit_scales(m, i), up_scales;
        if (PAIR != 0u) up_scales = unit_scales(up_m, i);
        at += 2u * T;
        if (u0 + K_LANES < n_units) {
            LOAD_UNIT(g * n_units + min(u + K_LANES, n_units - 1u))
            EACH_COLUMN(LOAD_NEXT)
        }
        if (u < n_units) {
            ONE_ROW_CHUNK(first, up_first, 0u)
            ONE_ROW_CHUNK(first, up_first, 1u)
            ONE_ROW_CHUNK(first, up_first, 2u)
            ONE_ROW_CHUNK(first, up_first, 3u)
#if HALVES == 2
            EACH_COLUMN(SPREAD)
            EACH_COLUMN(ADD_FIRST)
#endif
            ONE_ROW_CHUNK(second, up_second, 4u)
            ONE_ROW_CHUNK(second, up_second, 5u)
            ONE_ROW_CHUNK(second, up_second, 6u)
            ONE_ROW_CHUNK(second, up_second, 7u)
            EACH_COLUMN(SPREAD)
            EACH_COLUMN(ADD_SECOND)
        }
    }
    EACH_COLUMN(STORE_ONE_ROW)
}
#endif

void main() {
    uint t = lane_index();
    if (!find_place(t)) return;
    uint g = min(group, n_groups - 1u);
    Matrix m = Matrix(part[i_part].base, n_groups * n_units);
    Matrix up_m = Matrix(part[1].base, n_groups * n_units);
#ifndef EXO_TEXEL
    if (SPLIT != 1u) {
        multiply_rows(t, g, m, up_m);
        return;
    }
#endif
    multiply_groups(t, g, m, up_m);
}
