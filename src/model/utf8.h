/* utf8.h - stepping through bytes that may or may not be UTF-8.
 *
 * Well-formed is what Unicode's table 3-7 says: no overlong forms, no surrogates, nothing above
 * U+10FFFF.  Broken bytes are grouped into "maximal subparts" as Unicode recommends for U+FFFD,
 * so that a replacement count here equals that of browsers and Python. */
#ifndef EXO_MODEL_UTF8_H
#define EXO_MODEL_UTF8_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    EXO_UTF8_WHOLE,  /* a well-formed sequence */
    EXO_UTF8_CUT,    /* the input ends inside a sequence that is well-formed so far */
    EXO_UTF8_BROKEN, /* bytes that no sequence begins with or goes on with */
} exo_utf8_kind;

/* Looks at the first sequence of s (n > 0 bytes); *len: the bytes that belong to it. */
static inline exo_utf8_kind exo_utf8_step(const uint8_t *s, size_t n, size_t *len) {
    uint8_t lead = s[0];
    *len = 1;
    if (lead < 0x80) return EXO_UTF8_WHOLE;
    if (lead < 0xC2 || lead > 0xF4) return EXO_UTF8_BROKEN;
    size_t want = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80; /* of the second byte */
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (; *len < want; ++*len) {
        if (*len == n) return EXO_UTF8_CUT;
        if (s[*len] < low || s[*len] > high) return EXO_UTF8_BROKEN;
        low = 0x80;
        high = 0xBF;
    }
    return EXO_UTF8_WHOLE;
}

/* The length that a first byte promises; 1 for a byte that begins no sequence. */
static inline size_t exo_utf8_promised(uint8_t lead) {
    return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The code point of a well-formed sequence of len bytes. */
static inline uint32_t exo_utf8_decode(const uint8_t *s, size_t len) {
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) c = c << 6 | (s[i] & 0x3Fu);
    return c;
}

/* Writes c (no surrogate, at most U+10FFFF); returns its length. */
static inline size_t exo_utf8_encode(uint32_t c, uint8_t out[4]) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)(0xF00u >> n | c);
    return n;
}

/* Bytes of s, from its beginning, that are well-formed UTF-8. */
static inline size_t exo_utf8_valid(const uint8_t *s, size_t n) {
    size_t i = 0, len;
    while (i < n) {
        if (s[i] < 0x80) {
            i++;
        } else if (exo_utf8_step(s + i, n - i, &len) == EXO_UTF8_WHOLE) {
            i += len;
        } else {
            break;
        }
    }
    return i;
}

#endif
