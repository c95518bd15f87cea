/* le.h - little-endian integers read from and written to unaligned bytes.
 *
 * The only way numbers go to the wire or come from a file: field by field, never a struct. */
#ifndef EXO_BASE_LE_H
#define EXO_BASE_LE_H

#include <stdint.h>
#include <string.h>

static inline uint16_t exo_get_u16(const void *p) {
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t exo_get_u32(const void *p) {
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t exo_get_u64(const void *p) {
    const uint8_t *b = p;
    return (uint64_t)exo_get_u32(b) | (uint64_t)exo_get_u32(b + 4) << 32;
}
static inline float exo_get_f32(const void *p) {
    uint32_t u = exo_get_u32(p);
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline double exo_get_f64(const void *p) {
    uint64_t u = exo_get_u64(p);
    double f;
    memcpy(&f, &u, 8);
    return f;
}
static inline void exo_put_u16(void *p, uint16_t v) {
    uint8_t *b = p;
    b[0] = (uint8_t)(v & 0xFF);
    b[1] = (uint8_t)(v >> 8);
}
static inline void exo_put_u32(void *p, uint32_t v) {
    uint8_t *b = p;
    exo_put_u16(b, (uint16_t)(v & 0xFFFF));
    exo_put_u16(b + 2, (uint16_t)(v >> 16));
}
static inline void exo_put_u64(void *p, uint64_t v) {
    uint8_t *b = p;
    exo_put_u32(b, (uint32_t)(v & 0xFFFFFFFFu));
    exo_put_u32(b + 4, (uint32_t)(v >> 32));
}
static inline void exo_put_f32(void *p, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    exo_put_u32(p, u);
}

#endif
