/* rms.comp - 1 / rms of each row, for steps of many rows; matmul.comp computes the same number in
 * place, in the same order, for steps of few. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(set = 0, binding = 6, std430) readonly buffer NormInputs { vec4 norm4[]; };
layout(set = 0, binding = 7, std430) writeonly buffer Outputs { float result[]; };

layout(push_constant) uniform Push {
    uint norm_ld4;
    float norm_n, norm_eps;
};

void main() {
    uint row = gl_WorkGroupID.y;
    if (row >= N_ROWS) return;
    float s = 0.0;
    uint n4 = norm_ld4;
    for (uint i = lane_index(); i < n4; i += T) s = add_squares(s, norm4[row * norm_ld4 + i]);
    float f = rms_factor(sum_lanes(s, 1), norm_n, norm_eps);
    if (lane_index() == 0u) result[row] = f;
}
