/* common.glsl - what every kernel shares: the step block, sums over lanes, exp, f16.
 *
 * One source serves every device: no 8- or 16-bit storage, no f16 or int8 arithmetic, buffers are
 * read as 32-bit words.  EXO_SUBGROUP builds a second module of the same kernel that adds lanes by
 * subgroup shuffles where it can; the tree of additions is the same, so both give the same bits.
 *
 * Sums are `precise`: their order is the one written here, for any number of rows in a step.
 * Buffer bindings start at 1; what each number holds is said in vulkan/shader.h. */
#extension GL_EXT_control_flow_attributes : require
#ifdef EXO_SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
const uint T = gl_WorkGroupSize.x; /* lanes of a workgroup: a power of two */

/* The parameter block of one step; see vulkan/plan.h. */
layout(set = 0, binding = 1, std430) readonly buffer StepBlock { uint step_word[]; };
#define N_ROWS   step_word[0]
#define N_LOGITS step_word[1]

shared vec4 lane_value[gl_WorkGroupSize.x];

uint lane_index() {
#ifdef EXO_SUBGROUP
    return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
#else
    return gl_LocalInvocationID.x;
#endif
}

/* The sum over lanes whose index differs in the bits first, 2 first, ... end/2; each lane gets it.
 * A tree: neighbours at distance `first` are added, then at twice that, and so on. */
float sum_lanes_below(float value, uint first, uint end) {
    precise float v = value;
    uint d = first;
#ifdef EXO_SUBGROUP
    uint width = min(end, gl_SubgroupSize);
    for (; d < width; d *= 2) v = v + subgroupShuffleXor(v, d);
#endif
    uint t = lane_index();
    for (; d < end; d *= 2) {
        barrier();
        lane_value[t].x = v;
        barrier();
        v = v + lane_value[t ^ d].x;
    }
    return v;
}

float sum_lanes(float value, uint first) { return sum_lanes_below(value, first, T); }
float sum_near(float value, uint count) { return sum_lanes_below(value, 1u, count); }

vec4 sum_lanes4(vec4 value, uint first) {
    precise vec4 v = value;
    uint d = first;
#ifdef EXO_SUBGROUP
    uint width = min(T, gl_SubgroupSize);
    for (; d < width; d *= 2) v = v + subgroupShuffleXor(v, d);
#endif
    uint t = lane_index();
    for (; d < T; d *= 2) {
        barrier();
        lane_value[t] = v;
        barrier();
        v = v + lane_value[t ^ d];
    }
    return v;
}

float max_lanes(float v) {
    uint d = 1;
#ifdef EXO_SUBGROUP
    uint width = min(T, gl_SubgroupSize);
    for (; d < width; d *= 2) v = max(v, subgroupShuffleXor(v, d));
#endif
    uint t = lane_index();
    for (; d < T; d *= 2) {
        barrier();
        lane_value[t].x = v;
        barrier();
        v = max(v, lane_value[t ^ d].x);
    }
    return v;
}

/* s += v.x v.x + ... in order. */
float add_squares(float s, vec4 v) {
    precise float r = s;
    r = fma(v.x, v.x, r);
    r = fma(v.y, v.y, r);
    r = fma(v.z, v.z, r);
    r = fma(v.w, v.w, r);
    return r;
}

/* s += a.x b.x + ... in order. */
float add_products(float s, vec4 a, vec4 b) {
    precise float r = s;
    r = fma(a.x, b.x, r);
    r = fma(a.y, b.y, r);
    r = fma(a.z, b.z, r);
    r = fma(a.w, b.w, r);
    return r;
}

/* 1 / rms; NaN when the sum of squares is not finite, so that the host sees it in the output. */
float rms_factor(float squares, float n, float eps) {
    if ((floatBitsToUint(squares) & 0x7F800000u) == 0x7F800000u) return uintBitsToFloat(0x7FC00000u);
    precise float f = 1.0 / sqrt(squares / n + eps);
    return f;
}

/* As the CPU's: compute/cpu/reference.h. */
float exact_exp(float value) {
    precise float x = max(min(value, 88.0), -87.0);
    precise float n = roundEven(x * 1.44269504088896341);
    precise float r = fma(n, -0.693359375, x);
    r = fma(n, 2.12194440e-4, r);
    precise float p = 1.9875691500e-4;
    p = fma(p, r, 1.3981999507e-3);
    p = fma(p, r, 8.3334519073e-3);
    p = fma(p, r, 4.1665795894e-2);
    p = fma(p, r, 1.6666665459e-1);
    p = fma(p, r, 5.0000001201e-1);
    p = fma(p, r * r, r) + 1.0;
    return p * uintBitsToFloat(uint(int(n) + 127) << 23);
}

/* Round to nearest even; overflow gives infinity, NaN stays NaN. */
uint f16_bits(float f) {
    uint u = floatBitsToUint(f), sign = u >> 16 & 0x8000u, a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) return sign | 0x7E00u;
    if (a >= 0x477FF000u) return sign | 0x7C00u;
    if (a < 0x38800000u) { /* below the smallest normal: the sum's last bit is 2^-24 */
        precise float shifted = uintBitsToFloat(a) + 0.5;
        return sign | (floatBitsToUint(shifted) - 0x3F000000u);
    }
    return sign | (a + 0xFFFu + (a >> 13 & 1u) - 0x38000000u) >> 13;
}
