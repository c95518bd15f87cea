/* matmul_dot.comp - products of a packed matrix with rows in int8, by integer dot products.
 *
 *   y[c][row] = f[c] * sum over units of scale[row] d[c] (sum over k of W[row][k] q[c][k])
 *
 * The kernel of prompts on devices where it is faster than matmul.comp.  quantize.comp has made q
 * and d; the inner sums are integers, so exact in any order; the outer one is in the order of
 * product.glsl.  f = 1 / rms is ready, one float per row.
 *
 * The compilers of the time do not know GL_EXT_integer_dot_product, so the instruction is written
 * by its number: OpSDot of four packed signed bytes. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#include "common.glsl"
#include "weights.glsl"
#include "product.glsl"

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018],
                  id = 4450) int dot_bytes(uint a, uint b, spirv_literal int packed_4x8);

#ifdef EXO_TEXEL
layout(set = 0, binding = 13) uniform samplerBuffer factor_texels;
layout(set = 0, binding = 14) uniform usamplerBuffer input_texels;
vec4 load_factor(uint i) { return texelFetch(factor_texels, int(i)); }
uvec4 load_input(uint i) { return texelFetch(input_texels, int(i)); }
#else
layout(set = 0, binding = 5, std430) readonly buffer Factors { vec4 factor4[]; };
layout(set = 0, binding = 6, std430) readonly buffer Inputs { uvec4 in16[]; };
vec4 load_factor(uint i) { return factor4[i]; }
uvec4 load_input(uint i) { return in16[i]; }
#endif

/* Does M for each column; those beyond COLS fall away when the pipeline is made. */
#define EACH_COLUMN(M)                                                                             \
    M(0)                                                                                           \
    if (COLS > 1u) { M(1) }                                                                        \
    if (COLS > 2u) { M(2) M(3) }                                                                   \
    if (COLS > 4u) { M(4) M(5) M(6) M(7) }

float factor_of(uint row) {
    return (flags & FLAG_FACTOR) != 0u ? load_factor(row / 4u)[row & 3u] : 1.0;
}

int dot16(uvec4 a, uvec4 b) {
    return dot_bytes(a.x, b.x, 0) + dot_bytes(a.y, b.y, 0) + dot_bytes(a.z, b.z, 0) +
           dot_bytes(a.w, b.w, 0);
}

#define DECLARE_COLUMN(c)                                                                          \
    vec4 acc##c = vec4(0.0), up_acc##c = vec4(0.0);                                                \
    ivec4 dot##c = ivec4(0), up_dot##c = ivec4(0);                                                 \
    uint x_at##c = 0u;
#define ADDRESS_COLUMN(c) x_at##c = in_row(col0 + uint(c)) * in_ld4;

/* One half of the unit's inputs goes through all rows. */
#define HALF(half_unit)                                                                            \
    r0 = row_bytes(unit_row(m, i, 0u, half_unit), half_unit);                                      \
    r1 = row_bytes(unit_row(m, i, 1u, half_unit), half_unit);                                      \
    r2 = row_bytes(unit_row(m, i, 2u, half_unit), half_unit);                                      \
    r3 = row_bytes(unit_row(m, i, 3u, half_unit), half_unit);                                      \
    if (PAIR != 0u) {                                                                              \
        v0 = row_bytes(unit_row(up_m, i, 0u, half_unit), half_unit);                               \
        v1 = row_bytes(unit_row(up_m, i, 1u, half_unit), half_unit);                               \
        v2 = row_bytes(unit_row(up_m, i, 2u, half_unit), half_unit);                               \
        v3 = row_bytes(unit_row(up_m, i, 3u, half_unit), half_unit);                               \
    }                                                                                              \
    EACH_COLUMN(DOT_##half_unit)
#define DOT_COLUMN(c, half_unit)                                                                   \
    {                                                                                              \
        uvec4 x = load_input(x_at##c + u * 2u + half_unit);                                        \
        dot##c += ivec4(dot16(r0, x), dot16(r1, x), dot16(r2, x), dot16(r3, x));                   \
        if (PAIR != 0u) {                                                                          \
            up_dot##c += ivec4(dot16(v0, x), dot16(v1, x), dot16(v2, x), dot16(v3, x));            \
        }                                                                                          \
    }
#define DOT_0u(c) DOT_COLUMN(c, 0u)
#define DOT_1u(c) DOT_COLUMN(c, 1u)

/* A row of inputs: q, 2 uvec4 a unit; then d and the sum of q of each unit. */
#define ADD_COLUMN(c, half_unit)                                                                   \
    {                                                                                              \
        uvec4 two = load_input(x_at##c + n_units * 2u + u / 2u);                                   \
        uvec2 one = (u & 1u) != 0u ? two.zw : two.xy;                                              \
        float d = uintBitsToFloat(one.x);                                                          \
        acc##c = unit_add_ints(acc##c, scales, half_unit, dot##c, d, int(one.y));                  \
        dot##c = ivec4(0);                                                                         \
        if (PAIR != 0u) {                                                                          \
            up_acc##c = unit_add_ints(up_acc##c, up_scales, half_unit, up_dot##c, d, int(one.y));  \
            up_dot##c = ivec4(0);                                                                  \
        }                                                                                          \
    }
#define ADD_FIRST(c) ADD_COLUMN(c, 0u)
#define ADD_SECOND(c) ADD_COLUMN(c, 1u)
#define STORE_COLUMN(c)                                                                            \
    {                                                                                              \
        precise vec4 y = sum_lanes4(acc##c, ROW_LANES), up = vec4(0.0);                                         \
        if (PAIR != 0u) up = sum_lanes4(up_acc##c, ROW_LANES);                                                  \
        if (col0 + uint(c) < n_columns) {                                                          \
            float f = factor_of(in_row(col0 + uint(c)));                                           \
            store_rows(col0 + uint(c), y * f, up * f);                                             \
        }                                                                                          \
    }

void main() {
    uint t = lane_index();
    if (!find_place(t)) return;
    uint g = min(group, n_groups - 1u);
    Matrix m = Matrix(part[i_part].base, n_groups * n_units);
    Matrix up_m = Matrix(part[1].base, n_groups * n_units);

    DECLARE_COLUMN(0) DECLARE_COLUMN(1) DECLARE_COLUMN(2) DECLARE_COLUMN(3)
    DECLARE_COLUMN(4) DECLARE_COLUMN(5) DECLARE_COLUMN(6) DECLARE_COLUMN(7)
    EACH_COLUMN(ADDRESS_COLUMN)
    for (uint u = t / ROW_LANES; u < n_units; u += K_LANES) {
        uint i = g * n_units + u;
        uvec4 r0, r1, r2, r3, v0, v1, v2, v3;
        Scales scales = unit_scales(m, i), up_scales;
        if (PAIR != 0u) up_scales = unit_scales(up_m, i);
        HALF(0u)
#if HALVES == 2
        EACH_COLUMN(ADD_FIRST)
#endif
        HALF(1u)
        EACH_COLUMN(ADD_SECOND)
    }
    EACH_COLUMN(STORE_COLUMN)
}
