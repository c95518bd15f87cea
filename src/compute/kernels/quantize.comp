/* quantize.comp - rows of a step as int8, for matmul_dot.comp; the CPU's formula: compute/cpu/
 * reference.h, quantize32 and quantize256.
 *
 *   amax = max |x| over a block; q = roundEven(x * (127 / amax)); d = amax / 127
 *
 * A lane makes one unit of 32 elements.  Where blocks have 256, each of the eight looks at all of
 * its block: reading is cheap, waiting for other lanes is not.  An element that is not finite makes
 * d NaN, so that the host sees it in the output. */
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint BLOCK_UNITS = 1; /* 1 or 8 */

layout(set = 0, binding = 5, std430) readonly buffer Inputs { vec4 in4[]; };
layout(set = 0, binding = 7, std430) writeonly buffer Outputs { uint word[]; };

layout(push_constant) uniform Push {
    uint n_units, in_ld4; /* the input range begins at row 0 */
    uint out_ld;          /* words of a row: q, 8 a unit; then {d, sum of q} of each unit */
};

uint pack(ivec4 q) {
    uvec4 b = uvec4(q & 255);
    return b.x | b.y << 8 | b.z << 16 | b.w << 24;
}

void main() {
    uint unit = gl_WorkGroupID.x * T + lane_index(), row = gl_WorkGroupID.y;
    if (row >= N_ROWS || unit >= n_units) return;
    uint block = unit / BLOCK_UNITS * BLOCK_UNITS;
    uint first = row * in_ld4 + block * 8u;
    float amax = 0.0;
    bool finite = true;
    for (uint i = 0; i < BLOCK_UNITS * 8u; i++) {
        vec4 x = abs(in4[first + i]);
        finite = finite && all(lessThan(floatBitsToUint(x), uvec4(0x7F800000u)));
        amax = max(amax, max(max(x.x, x.y), max(x.z, x.w)));
    }
    precise float d = amax / 127.0, id = 127.0 / amax;
    if (!finite || amax < 7.888609052210118e-31) { /* 2^-100: below it id may overflow */
        id = 0.0;
        d = finite ? 0.0 : uintBitsToFloat(0x7FC00000u);
    }
    uint at = row * out_ld + unit * 8u;
    int sum = 0;
    for (uint i = 0; i < 8u; i++) {
        precise vec4 x = in4[row * in_ld4 + unit * 8u + i] * id;
        ivec4 q = finite ? ivec4(roundEven(x)) : ivec4(0);
        sum += q.x + q.y + q.z + q.w;
        word[at + i] = pack(q);
    }
    word[row * out_ld + n_units * 8u + unit * 2u] = floatBitsToUint(d);
    word[row * out_ld + n_units * 8u + unit * 2u + 1u] = uint(sum);
}
