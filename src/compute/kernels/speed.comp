/* speed.comp - how fast a device multiplies and reads: what the self-test measures.
 *
 *   MODE 0   ROUNDS times sixteen independent fused multiply-adds per lane
 *   MODE 1   each workgroup adds up a stretch of the input
 *
 * Each lane stores what it got: nothing can be left out. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint MODE = 0;

#ifdef EXO_TEXEL
layout(set = 0, binding = 13) uniform samplerBuffer input_texels;
vec4 load(uint i) { return texelFetch(input_texels, int(i)); }
#else
layout(set = 0, binding = 5, std430) readonly buffer Inputs { vec4 in4[]; };
vec4 load(uint i) { return in4[i]; }
#endif
layout(set = 0, binding = 7, std430) writeonly buffer Outputs { vec4 out4[]; };

layout(push_constant) uniform Push {
    uint rounds;  /* MODE 0 */
    uint stretch; /* MODE 1: vec4 of a workgroup, a multiple of 8 T */
    uint n_lanes;
    float a, b;
};

vec4 multiply(uint lane) {
    vec4 w = vec4(float(lane)), x = w + 1.0, y = w + 2.0, z = w + 3.0;
    for (uint i = 0; i < rounds; i++) {
        w = fma(w, vec4(a), vec4(b));
        x = fma(x, vec4(a), vec4(b));
        y = fma(y, vec4(a), vec4(b));
        z = fma(z, vec4(a), vec4(b));
    }
    return (w + x) + (y + z);
}

/* The workgroup's own stretch, its lanes side by side. */
vec4 read_all() {
    vec4 s = vec4(0.0), r = vec4(0.0), p = vec4(0.0), q = vec4(0.0);
    uint begin = gl_WorkGroupID.x * stretch + lane_index();
    for (uint i = 0; i < stretch; i += 8u * T) {
        uint at = begin + i;
        s += load(at) + load(at + T);
        r += load(at + 2u * T) + load(at + 3u * T);
        p += load(at + 4u * T) + load(at + 5u * T);
        q += load(at + 6u * T) + load(at + 7u * T);
    }
    return (s + r) + (p + q);
}

void main() {
    uint lane = gl_WorkGroupID.x * T + lane_index();
    if (lane >= n_lanes) return;
    out4[lane] = MODE == 0u ? multiply(lane) : read_all();
}
