/* charsmap.c - see charsmap.h. */
#include "model/charsmap.h"

#include "base/le.h"

#include <string.h>

#define VALUE_BIT 0x80000000u

static uint32_t children_of(uint32_t unit) { return unit >> 10 << ((unit >> 9 & 1) * 8); }

bool exo_charsmap_is_whole(const uint8_t *map, size_t n) {
    return n >= 8 && exo_get_u32(map) % 4 == 0 && exo_get_u32(map) <= n - 5 && map[n - 1] == 0;
}

typedef struct {
    const uint8_t *units;
    uint32_t n_units, node;
} walk;

/* One byte on; false at the end of the trie.  *value: the one that stands here; UINT32_MAX: none.
 * Where the map points outside of itself, *broken. */
static bool step(walk *w, uint8_t byte, uint32_t *value, bool *broken) {
    *value = UINT32_MAX;
    w->node ^= byte;
    *broken = w->node >= w->n_units;
    if (*broken) return false;
    uint32_t unit = exo_get_u32(w->units + 4 * (size_t)w->node);
    if ((unit & (VALUE_BIT | 0xFF)) != byte) return false;
    w->node ^= children_of(unit);
    if ((unit >> 8 & 1) == 0) return true;
    *broken = w->node >= w->n_units;
    if (*broken) return false;
    *value = exo_get_u32(w->units + 4 * (size_t)w->node) & ~VALUE_BIT;
    return true;
}

static bool text_at(const uint8_t *map, size_t n_map, uint32_t value, exo_str *text) {
    uint32_t bytes = exo_get_u32(map);
    if (value >= n_map - 4 - bytes) return false;
    const char *s = (const char *)map + 4 + bytes + value;
    *text = (exo_str){s, strlen(s)}; /* the last byte of all is zero */
    return true;
}

static walk begin(const uint8_t *map) {
    walk w = {map + 4, exo_get_u32(map) / 4, 0};
    if (w.n_units > 0) w.node = children_of(exo_get_u32(w.units));
    return w;
}

bool exo_charsmap_longest(const uint8_t *map, size_t n_map, exo_str s, size_t *used,
                          exo_str *text) {
    *used = 0;
    if (map == NULL) return true;
    walk w = begin(map);
    uint32_t value, found = 0;
    bool broken;
    if (w.n_units == 0) return true;
    for (size_t i = 0; i < s.n && s.s[i] != 0; i++) {
        if (!step(&w, (uint8_t)s.s[i], &value, &broken)) {
            if (broken) return false;
            break;
        }
        if (value == UINT32_MAX) continue;
        found = value;
        *used = i + 1;
    }
    return *used == 0 || text_at(map, n_map, found, text);
}

bool exo_charsmap_shortest(const uint8_t *map, size_t n_map, exo_str s, exo_str *text) {
    walk w = begin(map);
    uint32_t value;
    bool broken;
    if (w.n_units == 0) return false;
    for (size_t i = 0; i < s.n && s.s[i] != 0; i++) {
        if (!step(&w, (uint8_t)s.s[i], &value, &broken)) return false;
        if (value != UINT32_MAX) return text_at(map, n_map, value, text);
    }
    return false;
}
