/* half.h - IEEE binary16 and bfloat16, exact and the same on every machine. */
#ifndef EXO_BASE_HALF_H
#define EXO_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float exo_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 1023, u;
    if (exp == 31) {
        u = sign | 0x7F800000u | man << 13;
    } else if (exp != 0) {
        u = sign | (exp + 112) << 23 | man << 13;
    } else {
        float f = (float)man * 0x1p-24f; /* denormal: exact */
        memcpy(&u, &f, 4);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest, ties to even; overflow gives infinity, NaN stays NaN. */
static inline uint16_t exo_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    uint32_t abs = u & 0x7FFFFFFFu;
    if (abs > 0x7F800000u) return (uint16_t)(sign | 0x7E00);
    if (abs >= 0x477FF000u) return (uint16_t)(sign | 0x7C00); /* rounds to 65536 or more */
    if (abs < 0x38800000u) { /* below the smallest normal: the sum's last bit is 2^-24 */
        float a;
        memcpy(&a, &abs, 4);
        float shifted = a + 0.5f;
        uint32_t v;
        memcpy(&v, &shifted, 4);
        return (uint16_t)(sign | (v - 0x3F000000u));
    }
    uint32_t r = abs + 0xFFFu + (abs >> 13 & 1);
    return (uint16_t)(sign | ((r - 0x38000000u) >> 13));
}

static inline float exo_bf16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t exo_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1)) >> 16);
}

#endif
