/* jinja_strings.c - operations on strings that filters and methods share.
 *
 * Positions here are bytes; the callers that speak of characters convert.  Searching charges
 * steps for near misses, so that "aaa...b" in "aaa...a" ends as an error, not as a long wait. */
#include "model/jinja.h"

#include <string.h>

size_t exo_jstr_find(exo_jctx *c, const exo_jstr *s, size_t from, const exo_jstr *what) {
    if (what->n == 0) return from <= s->n ? from : SIZE_MAX;
    while (from <= s->n && what->n <= s->n - from && exo_jok(c)) {
        const char *at = memchr(s->s + from, what->s[0], s->n - from - what->n + 1);
        if (at == NULL) break;
        from = (size_t)(at - s->s);
        bool close = at[what->n - 1] == what->s[what->n - 1];
        if (close && memcmp(at, what->s, what->n) == 0) return from;
        exo_jcharge(c, close ? 1 + what->n / 64 : 1);
        from++;
    }
    return SIZE_MAX;
}

static bool in_set(const exo_jstr *chars, uint32_t cp) {
    for (size_t pos = 0; pos < chars->n;) {
        if (exo_jutf8_next(chars->s, chars->n, &pos) == cp) return true;
    }
    return false;
}

exo_jvalue exo_jstr_strip(exo_jctx *c, const exo_jstr *s, const exo_jstr *chars, bool left,
                          bool right) {
    size_t from = 0, to = s->n, cost = chars == NULL ? 1 : 1 + chars->n / 16;
    while (left && from < to && exo_jok(c)) {
        size_t next = from;
        uint32_t cp = exo_jutf8_next(s->s, to, &next);
        if (chars == NULL ? !exo_jis_space(cp) : !in_set(chars, cp)) break;
        from = next;
        exo_jcharge(c, cost);
    }
    while (right && from < to && exo_jok(c)) {
        size_t prev = exo_jutf8_prev(s->s, to), at = prev;
        uint32_t cp = exo_jutf8_next(s->s, to, &at);
        if (chars == NULL ? !exo_jis_space(cp) : !in_set(chars, cp)) break;
        to = prev;
        exo_jcharge(c, cost);
    }
    return exo_jsubstr(c, s, from, to);
}

/* Python's "abc".replace("", "-") is "-a-b-c-". */
static exo_jvalue replace_empty(exo_jctx *c, const exo_jstr *s, const exo_jstr *to, int64_t max) {
    size_t mark = exo_jmark(c), pos = 0;
    while (exo_jok(c)) {
        if (max != 0) exo_jput_str(c, to);
        if (max > 0) max--;
        if (pos >= s->n) break;
        size_t from = pos;
        exo_jutf8_next(s->s, s->n, &pos);
        exo_jput(c, s->s + from, pos - from);
        exo_jcharge(c, 1);
    }
    return exo_jtake(c, mark);
}

exo_jvalue exo_jstr_replace(exo_jctx *c, const exo_jstr *s, const exo_jstr *from,
                            const exo_jstr *to, int64_t max) {
    if (from->n == 0) return replace_empty(c, s, to, max);
    exo_jcharge(c, s->n / 64);
    size_t mark = exo_jmark(c), pos = 0, at = exo_jstr_find(c, s, 0, from);
    if (at == SIZE_MAX || max == 0) return exo_jsubstr(c, s, 0, s->n);
    for (; at != SIZE_MAX && max != 0 && exo_jok(c); max -= max > 0) {
        exo_jput(c, s->s + pos, at - pos);
        exo_jput_str(c, to);
        exo_jcharge(c, 1);
        pos = at + from->n;
        at = exo_jstr_find(c, s, pos, from);
    }
    exo_jput(c, s->s + pos, s->n - pos);
    return exo_jtake(c, mark);
}

exo_jvalue exo_jstr_escape(exo_jctx *c, const exo_jstr *s) {
    size_t mark = exo_jmark(c), from = 0;
    exo_jcharge(c, s->n / 32);
    for (size_t i = 0; i <= s->n && exo_jok(c); i++) {
        const char *entity = NULL;
        switch (i < s->n ? s->s[i] : '\0') {
        case '&': entity = "&amp;"; break;
        case '<': entity = "&lt;"; break;
        case '>': entity = "&gt;"; break;
        case '"': entity = "&#34;"; break;
        case '\'': entity = "&#39;"; break;
        default: break;
        }
        if (entity == NULL && i < s->n) continue;
        exo_jput(c, s->s + from, i - from);
        if (entity != NULL) exo_jputs(c, entity);
        from = i + 1;
    }
    exo_jvalue v = exo_jtake(c, mark);
    v.markup = true;
    return v;
}

static exo_jvalue map_chars(exo_jctx *c, const exo_jstr *s, void (*put)(exo_jctx *, uint32_t)) {
    size_t mark = exo_jmark(c);
    exo_jcharge(c, s->n / 4);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) put(c, exo_jutf8_next(s->s, s->n, &pos));
    return exo_jtake(c, mark);
}

exo_jvalue exo_jstr_upper(exo_jctx *c, const exo_jstr *s) {
    return map_chars(c, s, exo_jput_upper);
}

exo_jvalue exo_jstr_lower(exo_jctx *c, const exo_jstr *s) {
    return map_chars(c, s, exo_jput_lower);
}

exo_jvalue exo_jstr_casefold(exo_jctx *c, const exo_jstr *s) {
    return map_chars(c, s, exo_jput_folded);
}

exo_jvalue exo_jstr_capitalize(exo_jctx *c, const exo_jstr *s) {
    size_t mark = exo_jmark(c), pos = 0;
    exo_jcharge(c, s->n / 4);
    if (s->n > 0) exo_jput_title(c, exo_jutf8_next(s->s, s->n, &pos));
    while (pos < s->n && exo_jok(c)) exo_jput_lower(c, exo_jutf8_next(s->s, s->n, &pos));
    return exo_jtake(c, mark);
}

exo_jvalue exo_jstr_pad(exo_jctx *c, const exo_jstr *s, int64_t width, uint32_t fill, int side) {
    int64_t n = (int64_t)s->n_chars, missing = width > n ? width - n : 0;
    if (missing > (int64_t)EXO_J_MAX_TEXT_BYTES) {
        exo_jfail(c, "a field of %lld characters is too wide", (long long)width);
        missing = 0;
    }
    int64_t left = side > 0 ? missing : 0; /* right-justified */
    if (side == 0) left = missing / 2 + (missing & width & 1);
    size_t mark = exo_jmark(c);
    exo_jcharge(c, (size_t)missing / 4);
    for (int64_t i = 0; i < left && exo_jok(c); i++) exo_jput_char(c, fill);
    exo_jput_str(c, s);
    for (int64_t i = left; i < missing && exo_jok(c); i++) exo_jput_char(c, fill);
    return exo_jtake(c, mark);
}

static bool is_line_end(uint32_t cp) {
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

exo_jlist *exo_jstr_lines(exo_jctx *c, const exo_jstr *s, bool keep_ends) {
    exo_jlist *lines = exo_jlist_new(c, 0);
    size_t from = 0;
    exo_jcharge(c, s->n / 16);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        size_t end = pos;
        uint32_t cp = exo_jutf8_next(s->s, s->n, &pos);
        if (!is_line_end(cp)) continue;
        if (cp == '\r' && pos < s->n && s->s[pos] == '\n') pos++;
        exo_jlist_append(c, lines, exo_jsubstr(c, s, from, keep_ends ? pos : end));
        from = pos;
    }
    if (from < s->n) exo_jlist_append(c, lines, exo_jsubstr(c, s, from, s->n));
    return lines;
}

bool exo_jstr_cased(const exo_jstr *s, bool upper) {
    bool found = false;
    for (size_t pos = 0; pos < s->n;) {
        uint32_t cp = exo_jutf8_next(s->s, s->n, &pos);
        if (upper ? exo_jis_lower(cp) : exo_jis_upper(cp)) return false;
        found |= upper ? exo_jis_upper(cp) : exo_jis_lower(cp);
    }
    return found;
}
