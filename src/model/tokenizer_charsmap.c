/* tokenizer_charsmap.c - SentencePiece's precompiled character map: what to replace by what.
 *
 * A u32 of bytes, then that many bytes of a double-array trie over the texts to be replaced (units
 * of 32 bits: label in bits 0-7, "a value stands below" in bit 8, distance to the children in
 * bits 10-30, shifted by 8 if bit 9 is set; a value has bit 31), then the replacements, each ended
 * by a zero byte; a value is the place of one.  Files are hostile: no unit outside is read. */
#include "model/tokenizer_impl.h"

#include "base/le.h"

#include <string.h>

#define VALUE_BIT 0x80000000u

static uint32_t children_of(uint32_t unit) { return unit >> 10 << ((unit >> 9 & 1) * 8); }

bool exo_charsmap_find(const exo_vocab *v, const uint8_t *s, size_t n, size_t *used,
                       exo_str *text) {
    *used = 0;
    if (v->charsmap == NULL) return true;
    uint32_t bytes = exo_get_u32(v->charsmap), n_units = bytes / 4;
    const uint8_t *units = v->charsmap + 4, *texts = units + bytes;
    if (n_units == 0) return true;
    uint32_t node = children_of(exo_get_u32(units));
    uint32_t found = 0;
    for (size_t i = 0; i < n && s[i] != 0; i++) {
        node ^= s[i];
        if (node >= n_units) return false;
        uint32_t unit = exo_get_u32(units + 4 * (size_t)node);
        if ((unit & (VALUE_BIT | 0xFF)) != s[i]) break;
        node ^= children_of(unit);
        if ((unit >> 8 & 1) == 0) continue;
        if (node >= n_units) return false;
        found = exo_get_u32(units + 4 * (size_t)node) & ~VALUE_BIT;
        *used = i + 1;
    }
    if (*used == 0) return true;
    size_t n_texts = v->n_charsmap - 4 - bytes;
    if (found >= n_texts) return false;
    *text = (exo_str){(const char *)texts + found, strlen((const char *)texts + found)};
    return true; /* the last byte of all is zero: tokenizer_meta.c looked */
}
