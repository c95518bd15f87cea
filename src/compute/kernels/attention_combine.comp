/* attention_combine.comp - joins the splits of attention.comp, in order, one head per workgroup. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(set = 0, binding = 5, std430) readonly buffer Partials { vec4 part4[]; };
layout(set = 0, binding = 7, std430) writeonly buffer Outputs { vec4 out4[]; };

layout(constant_id = 1) const uint SPLIT = 256; /* as attention.comp's */

layout(push_constant) uniform Push {
    uint out_ld4, n_heads, max_splits, dim4;
    uint rows_at;
};

void main() {
    uint row = gl_WorkGroupID.y, head = gl_WorkGroupID.x;
    if (row >= N_ROWS) return;
    uint n_splits = step_word[rows_at + 4u * row + 1u] / SPLIT + 1u;
    if (n_splits == 1u) return; /* finished by attention.comp */
    uint at = (row * n_heads + head) * max_splits * (dim4 + 1u);
    for (uint i = lane_index(); i < dim4; i += T) {
        precise vec4 total = part4[at + i];
        vec2 first = part4[at + dim4].xy;
        float top = first.x, below = first.y;
        for (uint split = 1; split < n_splits; split++) {
            uint from = at + split * (dim4 + 1u);
            vec2 ml = part4[from + dim4].xy;
            precise float newest = max(top, ml.x);
            float a = exact_exp(top - newest), b = exact_exp(ml.x - newest);
            precise float lb = ml.y * b;
            precise float sum = fma(below, a, lb);
            below = sum;
            top = newest;
            precise vec4 ob = part4[from + i] * b;
            total = vec4(fma(total.x, a, ob.x), fma(total.y, a, ob.y), fma(total.z, a, ob.z),
                         fma(total.w, a, ob.w));
        }
        precise float inverse = 1.0 / below;
        precise vec4 o = total * inverse;
        out4[row * out_ld4 + head * dim4 + i] = o;
    }
}
