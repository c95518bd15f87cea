/* jinja_str_methods.c - the methods of str, as a table and the functions in its rows.
 *
 * Arguments that count characters are converted to bytes here; the work is in
 * jinja_strings.c. */
#include "model/jinja.h"

#include <string.h>

static exo_jvalue upper(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_upper(c, self.s);
}

static exo_jvalue lower(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_lower(c, self.s);
}

static exo_jvalue casefold(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_casefold(c, self.s);
}

static exo_jvalue capitalize(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_capitalize(c, self.s);
}

static exo_jvalue swapcase(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    size_t mark = exo_jmark(c);
    exo_jcharge(c, self.s->n / 4);
    for (size_t pos = 0; pos < self.s->n && exo_jok(c);) {
        uint32_t cp = exo_jutf8_next(self.s->s, self.s->n, &pos);
        if (exo_jis_upper(cp))
            exo_jput_lower(c, cp);
        else
            exo_jput_upper(c, cp);
    }
    return exo_jtake(c, mark);
}

static exo_jvalue title(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    size_t mark = exo_jmark(c);
    bool inside = false;
    exo_jcharge(c, self.s->n / 4);
    for (size_t pos = 0; pos < self.s->n && exo_jok(c);) {
        uint32_t cp = exo_jutf8_next(self.s->s, self.s->n, &pos);
        if (inside)
            exo_jput_lower(c, cp);
        else
            exo_jput_title(c, cp);
        inside = exo_jis_upper(cp) || exo_jis_lower(cp);
    }
    return exo_jtake(c, mark);
}

/* ---- stripping and padding ---- */

static exo_jvalue strip_sides(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool left,
                              bool right) {
    const exo_jstr *chars = exo_jgiven(a, 0) ? exo_jarg_str(c, a, 0, "") : NULL;
    return exo_jstr_strip(c, self.s, chars, left, right);
}

static exo_jvalue strip(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return strip_sides(c, self, a, true, true);
}

static exo_jvalue lstrip(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return strip_sides(c, self, a, true, false);
}

static exo_jvalue rstrip(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return strip_sides(c, self, a, false, true);
}

static bool has_affix(exo_jctx *c, const exo_jstr *s, const exo_jstr *affix, bool at_end) {
    if (affix->n > s->n) return false;
    exo_jcharge(c, 1 + affix->n / 64);
    return memcmp(at_end ? s->s + s->n - affix->n : s->s, affix->s, affix->n) == 0;
}

static exo_jvalue remove_prefix(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *p = exo_jarg_str(c, a, 0, "");
    bool there = has_affix(c, self.s, p, false);
    return exo_jsubstr(c, self.s, there ? p->n : 0, self.s->n);
}

static exo_jvalue remove_suffix(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *p = exo_jarg_str(c, a, 0, "");
    bool there = has_affix(c, self.s, p, true);
    return exo_jsubstr(c, self.s, 0, self.s->n - (there ? p->n : 0));
}

static exo_jvalue pad(exo_jctx *c, exo_jvalue self, const exo_jargs *a, int side) {
    const exo_jstr *fill = exo_jarg_str(c, a, 1, " ");
    if (fill->n_chars != 1) {
        return exo_jfail(c, "The fill character must be exactly one character long");
    }
    size_t pos = 0;
    uint32_t cp = exo_jutf8_next(fill->s, fill->n, &pos);
    return exo_jstr_pad(c, self.s, exo_jarg_int(c, a, 0, 0), cp, side);
}

static exo_jvalue ljust(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return pad(c, self, a, -1);
}

static exo_jvalue rjust(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return pad(c, self, a, 1);
}

static exo_jvalue center(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return pad(c, self, a, 0);
}

static exo_jvalue zfill(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    bool sign = self.s->n > 0 && (self.s->s[0] == '-' || self.s->s[0] == '+');
    exo_jvalue digits = exo_jsubstr(c, self.s, sign, self.s->n);
    digits = exo_jstr_pad(c, digits.s, exo_jarg_int(c, a, 0, 0) - sign, '0', 1);
    return sign ? exo_jconcat(c, exo_jsubstr(c, self.s, 0, 1).s, digits.s) : digits;
}

/* ---- searching ---- */

/* The part that start and end (characters, arguments i and i + 1) leave; false: start is past
 * the end. */
static bool window(exo_jctx *c, const exo_jstr *s, const exo_jargs *a, size_t i, exo_jstr *out,
                   size_t *first) {
    int64_t n = (int64_t)s->n_chars;
    int64_t start = exo_jarg_bound(c, a, i, 0), end = exo_jarg_bound(c, a, i + 1, n);
    if (start < 0) start = start < -n ? 0 : start + n;
    if (end < 0) end = end < -n ? 0 : end + n;
    if (end > n) end = n;
    if (start > end) return false;
    exo_jcharge(c, s->n / 64);
    size_t from = exo_jutf8_offset(s, (size_t)start), to = exo_jutf8_offset(s, (size_t)end);
    *out = (exo_jstr){.s = s->s + from, .n = to - from, .n_chars = (size_t)(end - start)};
    *first = (size_t)start;
    return true;
}

static size_t find_last(exo_jctx *c, const exo_jstr *s, const exo_jstr *what) {
    if (what->n == 0) return s->n;
    if (what->n > s->n) return SIZE_MAX;
    for (size_t at = s->n - what->n + 1; at-- > 0 && exo_jok(c);) {
        if (at % 64 == 0) exo_jcharge(c, 1);
        const char *here = s->s + at;
        if (here[0] != what->s[0] || here[what->n - 1] != what->s[what->n - 1]) continue;
        if (memcmp(here, what->s, what->n) == 0) return at;
        exo_jcharge(c, 1 + what->n / 64);
    }
    return SIZE_MAX;
}

/* The character index of what, or -1. */
static int64_t position(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool last) {
    const exo_jstr *what = exo_jarg_str(c, a, 0, "");
    exo_jstr part;
    size_t first;
    if (!window(c, self.s, a, 1, &part, &first)) return -1;
    size_t at = last ? find_last(c, &part, what) : exo_jstr_find(c, &part, 0, what);
    if (at == SIZE_MAX) return -1;
    return (int64_t)(first + exo_jutf8_count(part.s, at));
}

static exo_jvalue find(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jint(position(c, self, a, false));
}

static exo_jvalue rfind(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jint(position(c, self, a, true));
}

static exo_jvalue index_of(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t i = position(c, self, a, false);
    return i >= 0 ? exo_jint(i) : exo_jfail(c, "substring not found");
}

static exo_jvalue rindex_of(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t i = position(c, self, a, true);
    return i >= 0 ? exo_jint(i) : exo_jfail(c, "substring not found");
}

static exo_jvalue count(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *what = exo_jarg_str(c, a, 0, "");
    exo_jstr part;
    size_t first;
    int64_t n = 0;
    if (!window(c, self.s, a, 1, &part, &first)) return exo_jint(0);
    if (what->n == 0) return exo_jint((int64_t)part.n_chars + 1);
    size_t at = exo_jstr_find(c, &part, 0, what);
    for (; at != SIZE_MAX && exo_jok(c); n++) {
        exo_jcharge(c, 1);
        at = exo_jstr_find(c, &part, at + what->n, what);
    }
    return exo_jint(n);
}

static exo_jvalue test_affix(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool at_end) {
    exo_jvalue affix = a->v[0];
    exo_jstr part;
    size_t first;
    bool tuple = affix.type == EXO_J_TUPLE;
    if (!tuple && affix.type != EXO_J_STRING) {
        return exo_jfail(c, "%s first arg must be str or a tuple of str, not %s",
                         at_end ? "endswith" : "startswith", exo_jtype_name(affix));
    }
    if (!window(c, self.s, a, 1, &part, &first)) return exo_jbool(false);
    if (!tuple) return exo_jbool(has_affix(c, &part, affix.s, at_end));
    for (size_t i = 0; i < affix.list->n; i++) {
        exo_jvalue one = affix.list->items[i];
        if (one.type != EXO_J_STRING) {
            return exo_jfail(c, "tuple for %s must only contain str, not %s",
                             at_end ? "endswith" : "startswith", exo_jtype_name(one));
        }
        if (has_affix(c, &part, one.s, at_end)) return exo_jbool(true);
    }
    return exo_jbool(false);
}

static exo_jvalue startswith(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return test_affix(c, self, a, false);
}

static exo_jvalue endswith(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return test_affix(c, self, a, true);
}

/* ---- taking apart and putting together ---- */

static void reverse_list(exo_jlist *l) {
    for (size_t i = 0; l != NULL && i < l->n / 2; i++) {
        exo_jvalue other = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = l->items[i];
        l->items[i] = other;
    }
}

/* Words between white space, from the left. */
static exo_jlist *split_words(exo_jctx *c, const exo_jstr *s, int64_t max) {
    exo_jlist *l = exo_jlist_new(c, 0);
    size_t pos = 0, from = SIZE_MAX;
    exo_jcharge(c, s->n / 16);
    while (pos < s->n && exo_jok(c)) {
        size_t at = pos;
        bool space = exo_jis_space(exo_jutf8_next(s->s, s->n, &pos));
        if (space && from != SIZE_MAX) {
            exo_jlist_append(c, l, exo_jsubstr(c, s, from, at));
            from = SIZE_MAX;
        } else if (!space && from == SIZE_MAX) {
            from = at;
            if (max >= 0 && l != NULL && (int64_t)l->n >= max) break;
        }
    }
    if (from == SIZE_MAX) return l;
    bool limited = max >= 0 && l != NULL && (int64_t)l->n >= max;
    exo_jvalue tail = exo_jsubstr(c, s, from, s->n);
    exo_jlist_append(c, l, limited ? exo_jstr_strip(c, tail.s, NULL, false, true) : tail);
    return l;
}

static exo_jlist *rsplit_words(exo_jctx *c, const exo_jstr *s, int64_t max) {
    exo_jlist *l = exo_jlist_new(c, 0);
    size_t end = SIZE_MAX, pos = s->n;
    exo_jcharge(c, s->n / 16);
    while (pos > 0 && exo_jok(c)) {
        size_t at = exo_jutf8_prev(s->s, pos), next = at;
        bool space = exo_jis_space(exo_jutf8_next(s->s, s->n, &next));
        if (space && end != SIZE_MAX) {
            exo_jlist_append(c, l, exo_jsubstr(c, s, pos, end));
            end = SIZE_MAX;
        } else if (!space && end == SIZE_MAX) {
            end = pos;
            if (max >= 0 && l != NULL && (int64_t)l->n >= max) break;
        }
        pos = at;
    }
    if (end != SIZE_MAX) {
        exo_jvalue head = exo_jsubstr(c, s, 0, end);
        exo_jlist_append(c, l, exo_jstr_strip(c, head.s, NULL, true, false));
    }
    reverse_list(l);
    return l;
}

static exo_jlist *split_at(exo_jctx *c, const exo_jstr *s, const exo_jstr *sep, int64_t max) {
    exo_jlist *l = exo_jlist_new(c, 0);
    size_t from = 0, at = exo_jstr_find(c, s, 0, sep);
    exo_jcharge(c, s->n / 64);
    for (; at != SIZE_MAX && max != 0 && exo_jok(c); max -= max > 0) {
        exo_jlist_append(c, l, exo_jsubstr(c, s, from, at));
        from = at + sep->n;
        at = exo_jstr_find(c, s, from, sep);
    }
    exo_jlist_append(c, l, exo_jsubstr(c, s, from, s->n));
    return l;
}

static exo_jlist *rsplit_at(exo_jctx *c, const exo_jstr *s, const exo_jstr *sep, int64_t max) {
    exo_jlist *l = exo_jlist_new(c, 0);
    exo_jstr head = *s;
    for (; max != 0 && exo_jok(c); max -= max > 0) {
        size_t at = find_last(c, &head, sep);
        if (at == SIZE_MAX) break;
        exo_jlist_append(c, l, exo_jsubstr(c, s, at + sep->n, head.n));
        head.n = at;
    }
    exo_jlist_append(c, l, exo_jsubstr(c, s, 0, head.n));
    reverse_list(l);
    return l;
}

static exo_jvalue split_from(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool right) {
    int64_t max = exo_jarg_int(c, a, 1, -1);
    exo_jlist *l;
    if (!exo_jgiven(a, 0)) {
        l = right ? rsplit_words(c, self.s, max) : split_words(c, self.s, max);
        return exo_jlist_value(EXO_J_LIST, l);
    }
    const exo_jstr *sep = exo_jarg_str(c, a, 0, " ");
    if (sep->n == 0) return exo_jfail(c, "empty separator");
    l = right ? rsplit_at(c, self.s, sep, max) : split_at(c, self.s, sep, max);
    return exo_jlist_value(EXO_J_LIST, l);
}

static exo_jvalue split(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return split_from(c, self, a, false);
}

static exo_jvalue rsplit(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return split_from(c, self, a, true);
}

static exo_jvalue partition_from(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool right) {
    const exo_jstr *sep = exo_jarg_str(c, a, 0, " ");
    if (sep->n == 0) return exo_jfail(c, "empty separator");
    size_t at = right ? find_last(c, self.s, sep) : exo_jstr_find(c, self.s, 0, sep);
    bool found = at != SIZE_MAX;
    size_t head_end = found ? at : right ? 0 : self.s->n;
    size_t tail_begin = found ? at + sep->n : head_end;
    exo_jlist *l = exo_jlist_new(c, 3);
    exo_jlist_append(c, l, exo_jsubstr(c, self.s, 0, head_end));
    exo_jlist_append(c, l, exo_jsubstr(c, self.s, head_end, tail_begin));
    exo_jlist_append(c, l, exo_jsubstr(c, self.s, tail_begin, self.s->n));
    return exo_jlist_value(EXO_J_TUPLE, l);
}

static exo_jvalue partition(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return partition_from(c, self, a, false);
}

static exo_jvalue rpartition(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return partition_from(c, self, a, true);
}

static exo_jvalue splitlines(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jlist_value(EXO_J_LIST, exo_jstr_lines(c, self.s, exo_jarg_int(c, a, 0, 0) != 0));
}

static exo_jvalue replace(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jstr_replace(c, self.s, exo_jarg_str(c, a, 0, ""), exo_jarg_str(c, a, 1, ""),
                            exo_jarg_int(c, a, 2, -1));
}

static exo_jvalue join(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *l = exo_jiterate(c, a->v[0]);
    size_t mark = exo_jmark(c);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        if (l->items[i].type != EXO_J_STRING) {
            return exo_jfail(c, "sequence item %zu: expected str instance, %s found", i,
                             exo_jtype_name(l->items[i]));
        }
        if (i > 0) exo_jput_str(c, self.s);
        exo_jput_str(c, l->items[i].s);
        exo_jcharge(c, 1);
    }
    return exo_jtake(c, mark);
}

static exo_jvalue format(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jformat_braces(c, self, a);
}

static exo_jvalue format_map(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jargs named = {.kw = a->v[0].type == EXO_J_DICT ? a->v[0].dict : NULL};
    return exo_jformat_braces(c, self, &named);
}

static exo_jvalue expandtabs(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t size = exo_jarg_int(c, a, 0, 8), column = 0;
    if (a->v[0].type == EXO_J_NONE)
        return exo_jfail(c, "'NoneType' object cannot be interpreted as an integer");
    if (size > (int64_t)EXO_J_MAX_TEXT_BYTES) return exo_jfail(c, "result is too long");
    size_t mark = exo_jmark(c);
    exo_jcharge(c, self.s->n / 4);
    for (size_t pos = 0; pos < self.s->n && exo_jok(c);) {
        uint32_t cp = exo_jutf8_next(self.s->s, self.s->n, &pos);
        int64_t gap = cp == '\t' && size > 0 ? size - column % size : 0;
        if (cp != '\t') exo_jput_char(c, cp);
        exo_jcharge(c, (size_t)gap / 8);
        for (int64_t i = 0; i < gap && exo_jok(c); i++) exo_jput(c, " ", 1);
        column = cp == '\n' || cp == '\r' ? 0 : column + (cp == '\t' ? gap : 1);
    }
    return exo_jtake(c, mark);
}

/* ---- classes ---- */

static exo_jvalue all_chars(exo_jvalue self, bool (*is)(uint32_t)) {
    for (size_t pos = 0; pos < self.s->n;) {
        if (!is(exo_jutf8_next(self.s->s, self.s->n, &pos))) return exo_jbool(false);
    }
    return exo_jbool(self.s->n > 0);
}

static bool is_alnum(uint32_t cp) { return exo_jis_alpha(cp) || exo_jis_numeric(cp); }

static exo_jvalue all_digit(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, exo_jis_digit);
}

static exo_jvalue all_decimal(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, exo_jis_decimal);
}

static exo_jvalue all_numeric(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, exo_jis_numeric);
}

static exo_jvalue all_alpha(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, exo_jis_alpha);
}

static exo_jvalue all_alnum(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, is_alnum);
}

static exo_jvalue all_space(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return all_chars(self, exo_jis_space);
}

static exo_jvalue all_ascii(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(self.s->n == self.s->n_chars);
}

/* Capitals follow what has no case, small letters follow letters. */
static exo_jvalue is_title(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    bool inside = false, found = false;
    exo_jcharge(c, self.s->n / 4);
    for (size_t pos = 0; pos < self.s->n;) {
        uint32_t cp = exo_jutf8_next(self.s->s, self.s->n, &pos);
        bool capital = exo_jis_upper(cp) || exo_jis_titlecase(cp), small = exo_jis_lower(cp);
        if ((capital && inside) || (small && !inside)) return exo_jbool(false);
        inside = capital || small;
        found |= inside;
    }
    return exo_jbool(found);
}

static exo_jvalue is_identifier(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    for (size_t pos = 0; pos < self.s->n;) {
        bool first = pos == 0;
        if (!exo_jis_identifier(exo_jutf8_next(self.s->s, self.s->n, &pos), first))
            return exo_jbool(false);
    }
    return exo_jbool(self.s->n > 0);
}

static exo_jvalue all_printable(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return self.s->n == 0 ? exo_jbool(true) : all_chars(self, exo_jis_printable);
}

static exo_jvalue all_lower(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return exo_jbool(exo_jstr_cased(self.s, false));
}

static exo_jvalue all_upper(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jcharge(c, self.s->n / 4);
    return exo_jbool(exo_jstr_cased(self.s, true));
}

static const exo_jnative methods[] = {
    {"upper", upper, "", 0},
    {"lower", lower, "", 0},
    {"casefold", casefold, "", 0},
    {"capitalize", capitalize, "", 0},
    {"swapcase", swapcase, "", 0},
    {"title", title, "", 0},
    {"strip", strip, "/ chars", 0},
    {"lstrip", lstrip, "/ chars", 0},
    {"rstrip", rstrip, "/ chars", 0},
    {"removeprefix", remove_prefix, "/ prefix", 1},
    {"removesuffix", remove_suffix, "/ suffix", 1},
    {"ljust", ljust, "/ width fillchar", 1},
    {"rjust", rjust, "/ width fillchar", 1},
    {"center", center, "/ width fillchar", 1},
    {"zfill", zfill, "/ width", 1},
    {"find", find, "/ sub start end", 1},
    {"rfind", rfind, "/ sub start end", 1},
    {"index", index_of, "/ sub start end", 1},
    {"rindex", rindex_of, "/ sub start end", 1},
    {"count", count, "/ sub start end", 1},
    {"startswith", startswith, "/ prefix start end", 1},
    {"endswith", endswith, "/ suffix start end", 1},
    {"split", split, "sep maxsplit", 0},
    {"rsplit", rsplit, "sep maxsplit", 0},
    {"partition", partition, "/ sep", 1},
    {"rpartition", rpartition, "/ sep", 1},
    {"splitlines", splitlines, "keepends", 0},
    {"replace", replace, "/ old new count", 2},
    {"join", join, "/ iterable", 1},
    {"format", format, "*", 0},
    {"format_map", format_map, "/ mapping", 1},
    {"expandtabs", expandtabs, "tabsize", 0},
    {"isdigit", all_digit, "", 0},
    {"isdecimal", all_decimal, "", 0},
    {"isnumeric", all_numeric, "", 0},
    {"isalpha", all_alpha, "", 0},
    {"isalnum", all_alnum, "", 0},
    {"isspace", all_space, "", 0},
    {"isascii", all_ascii, "", 0},
    {"istitle", is_title, "", 0},
    {"isidentifier", is_identifier, "", 0},
    {"isprintable", all_printable, "", 0},
    {"islower", all_lower, "", 0},
    {"isupper", all_upper, "", 0},
};

const exo_jnative *exo_jstr_method_find(const exo_jstr *name) {
    return exo_jnative_find(methods, sizeof methods / sizeof *methods, name);
}
