/* embed.comp - row `token` of the embedding table as f32, one unit of 32 elements per lane.
 *
 * A table cut into several runs of rows takes one dispatch for each; tokens of other runs are left
 * to theirs.  Stores the row times the first norm's weight beside it where asked. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"

#define ROWS 4u

layout(set = 0, binding = 7, std430) writeonly buffer Outputs { float result[]; };
layout(set = 0, binding = 11, std430) readonly buffer NextNorm { float next_norm[]; };

layout(push_constant) uniform Push {
    uint base, n_rows, row0; /* the run of rows; base in uvec4 */
    uint n_units, n_cols;
    uint out_ld;          /* floats; the output range begins at row 0 */
    uint has_next, next_at, next_ld;
    uint rows_at; /* word of the step block: {seq, pos, token, flags} of each row */
};

void main() {
    uint u = gl_WorkGroupID.x * T + lane_index(), i = gl_WorkGroupID.y;
    if (i >= N_ROWS || u >= n_units) return;
    uint row = step_word[rows_at + 4u * i + 2u] - row0;
    if (row >= n_rows) return; /* of another run */
    Matrix m = Matrix(base, (n_rows + ROWS - 1u) / ROWS * n_units);
    uint unit = row / ROWS * n_units + u, r = row % ROWS;
    Scales scales = unit_scales(m, unit);
    for (uint j = 0; j < 8u; j++) {
        vec4 v = unit_value(scales, unit_row(m, unit, r, j / 4u), r, j);
        for (uint k = 0; k < 4u; k++) {
            uint e = u * 32u + j * 4u + k;
            if (e >= n_cols) return;
            result[i * out_ld + e] = v[k];
            if (has_next != 0u) result[next_at + i * next_ld + e] = v[k] * next_norm[e];
        }
    }
}
