/* elementwise.comp - what happens to single elements of a row when no product is near.
 *
 *   MODE 0   x = f16(x); and x * next_norm beside it where asked
 *   MODE 1   x * next_norm beside x (rows that came from the host)
 *   MODE 2   out = silu(gate) * up (gate and up of unlike types) */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint MODE = 0;

layout(set = 0, binding = 7, std430) buffer Outputs { float result[]; };
layout(set = 0, binding = 11, std430) readonly buffer NextNorm { float next_norm[]; };

layout(push_constant) uniform Push {
    uint n;              /* elements of a row */
    uint x_at, x_ld;     /* floats; MODE 2: gate */
    uint up_at, up_ld;   /* MODE 2 */
    uint out_at, out_ld; /* MODE 2 */
    uint has_next, next_at, next_ld;
};

float round_f16(float x) {
    uint h = f16_bits(x), e = h >> 10 & 31u;
    if (e != 0u && e != 31u) {
        return uintBitsToFloat((h & 0x8000u) << 16 | (e + 112u) << 23 | (h & 1023u) << 13);
    }
    if (e == 31u) return uintBitsToFloat((h & 0x8000u) << 16 | 0x7F800000u | (h & 1023u) << 13);
    float f = float(int(h & 1023u)) * 5.9604644775390625e-8; /* denormal: exact */
    return (h & 0x8000u) != 0u ? -f : f;
}

void main() {
    uint i = gl_WorkGroupID.x * T + lane_index(), row = gl_WorkGroupID.y;
    if (row >= N_ROWS || i >= n) return;
    precise float y = result[x_at + row * x_ld + i];
    if (MODE == 0u) {
        y = round_f16(y);
        result[x_at + row * x_ld + i] = y;
    }
    if (MODE == 2u) {
        y = (y / (1.0 + exact_exp(-y))) * result[up_at + row * up_ld + i];
        result[out_at + row * out_ld + i] = y;
        return;
    }
    if (has_next != 0u) result[next_at + row * next_ld + i] = y * next_norm[i];
}
