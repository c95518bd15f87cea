/* jinja_wrap.c - the filter wordwrap: lines of a given width, as Python's textwrap makes them.
 *
 * A line is cut into chunks (words, white space, parts of hyphenated words, dashes), which are put
 * on lines until one does not fit. */
#include "model/jinja.h"

#include <math.h>

typedef struct {
    int64_t width;
    bool whole; /* the width is an integer: only then can a word be cut */
    bool break_words, break_on_hyphens;
} wrapping;

/* ---- chunks ---- */

/* A text as code points, to look around in. */
typedef struct {
    const uint32_t *cp;
    const size_t *offset; /* (n + 1) */
    size_t n;
} chars;

static bool read_chars(exo_jctx *c, const exo_jstr *s, chars *out) {
    uint32_t *cp = exo_jalloc(c, s->n_chars + 1, sizeof *cp);
    size_t *offset = exo_jalloc(c, s->n_chars + 1, sizeof *offset), pos = 0;
    if (cp == NULL || offset == NULL) return false;
    for (size_t i = 0; i < s->n_chars; i++) {
        offset[i] = pos;
        cp[i] = exo_jutf8_next(s->s, s->n, &pos);
    }
    offset[s->n_chars] = s->n;
    *out = (chars){cp, offset, s->n_chars};
    return true;
}

static bool is_blank(uint32_t cp) { return cp == ' ' || (cp >= '\t' && cp <= '\r'); }
static bool is_letter(uint32_t cp) { return exo_jis_word(cp) && !exo_jis_decimal(cp); }

static bool is_word_part(uint32_t cp) {
    return cp == '!' || cp == '"' || cp == '\'' || cp == '&' || cp == '.' || cp == ',' ||
           cp == '?' || exo_jis_word(cp);
}

static bool letter_at(const chars *s, size_t i) { return i < s->n && is_letter(s->cp[i]); }
static bool hyphen_at(const chars *s, size_t i) { return i < s->n && s->cp[i] == '-'; }

/* The end of two or more hyphens at i that a word follows, or 0. */
static size_t dash_end(const chars *s, size_t i) {
    size_t end = i;
    while (hyphen_at(s, end)) end++;
    return end >= i + 2 && end < s->n && exo_jis_word(s->cp[end]) ? end : 0;
}

/* Whether the hyphen at i stands within a word: two letters on each side, or a-b-. */
static bool joins_letters(const chars *s, size_t i) {
    if (!hyphen_at(s, i)) return false;
    bool two = i >= 2 && letter_at(s, i - 1) && letter_at(s, i - 2);
    bool single = i >= 3 && letter_at(s, i - 1) && hyphen_at(s, i - 2) && letter_at(s, i - 3);
    if (!two && !single) return false;
    return letter_at(s, i + 1) && letter_at(s, i + 2 + hyphen_at(s, i + 2));
}

/* The end of the chunk that begins at i. */
static size_t chunk_end(const chars *s, size_t i, bool hyphens) {
    size_t end = i;
    if (is_blank(s->cp[i])) {
        while (end < s->n && is_blank(s->cp[end])) end++;
        return end;
    }
    size_t dash = hyphens && i > 0 && is_word_part(s->cp[i - 1]) ? dash_end(s, i) : 0;
    if (dash > 0) return dash;
    for (end = i + 1; end < s->n && !is_blank(s->cp[end]); end++) {
        if (!hyphens || s->cp[end] != '-') continue;
        if (joins_letters(s, end)) return end + 1;
        if (is_word_part(s->cp[end - 1]) && dash_end(s, end) > 0) return end;
    }
    return end;
}

static exo_jlist *split_chunks(exo_jctx *c, const exo_jstr *line, bool hyphens) {
    chars s;
    exo_jlist *chunks = exo_jlist_new(c, 0);
    exo_jcharge(c, line->n / 4);
    if (!read_chars(c, line, &s)) return NULL;
    for (size_t i = 0, end; i < s.n && exo_jok(c); i = end) {
        end = chunk_end(&s, i, hyphens);
        exo_jlist_append(c, chunks, exo_jsubstr(c, line, s.offset[i], s.offset[end]));
    }
    return exo_jok(c) ? chunks : NULL;
}

/* ---- lines ---- */

static bool is_space(const exo_jstr *s) {
    for (size_t pos = 0; pos < s->n;) {
        if (!exo_jis_space(exo_jutf8_next(s->s, s->n, &pos))) return false;
    }
    return true;
}

/* Where to cut a chunk that is longer than the room: behind a hyphen where there is one. */
static int64_t cut_at(const exo_jstr *chunk, int64_t room) {
    bool other = false;
    int64_t i = 0, cut = room;
    for (size_t pos = 0; pos < chunk->n && i < room; i++) {
        uint32_t cp = exo_jutf8_next(chunk->s, chunk->n, &pos);
        if (cp == '-' && other) cut = i + 1;
        other |= cp != '-';
    }
    return cut;
}

/* The next chunk is longer than any line: a part of it goes on this one, or all on its own. */
static void put_long(exo_jctx *c, const wrapping *w, exo_jlist *chunks, size_t *next,
                     exo_jlist *line, int64_t length) {
    exo_jvalue *chunk = &chunks->items[*next];
    if (!w->break_words) {
        if (line->n == 0) exo_jlist_append(c, line, chunks->items[(*next)++]);
        return;
    }
    if (!w->whole) {
        exo_jfail(c, "slice indices must be integers or None or have an __index__ method");
        return;
    }
    int64_t room = w->width - length;
    int64_t end = w->break_on_hyphens ? cut_at(chunk->s, room) : room;
    size_t bytes = exo_jutf8_offset(chunk->s, (size_t)end);
    exo_jcharge(c, (size_t)room / 16);
    exo_jlist_append(c, line, exo_jsubstr(c, chunk->s, 0, bytes));
    *chunk = exo_jsubstr(c, chunk->s, bytes, chunk->s->n);
}

/* Puts the wrapped line; returns the number of lines. */
static void wrap_line(exo_jctx *c, const wrapping *w, const exo_jstr *text, exo_jlist *out) {
    exo_jlist *chunks = split_chunks(c, text, w->break_on_hyphens);
    size_t next = 0, before = out->n;
    while (chunks != NULL && next < chunks->n && exo_jok(c)) {
        exo_jlist *line = exo_jlist_new(c, 0);
        int64_t length = 0;
        exo_jcharge(c, 1);
        if (is_space(chunks->items[next].s) && out->n > before) next++;
        for (; next < chunks->n; next++) {
            int64_t n = (int64_t)chunks->items[next].s->n_chars;
            if (length + n > w->width) break;
            exo_jlist_append(c, line, chunks->items[next]);
            length += n;
        }
        if (!exo_jok(c)) return;
        if (next < chunks->n && (int64_t)chunks->items[next].s->n_chars > w->width)
            put_long(c, w, chunks, &next, line, length);
        if (exo_jok(c) && line->n > 0 && is_space(line->items[line->n - 1].s)) line->n--;
        size_t mark = exo_jmark(c);
        for (size_t i = 0; exo_jok(c) && i < line->n; i++) exo_jput_str(c, line->items[i].s);
        if (exo_jok(c) && line->n > 0) exo_jlist_append(c, out, exo_jtake(c, mark));
    }
}

/* wordwrap(width=79, break_long_words=true, wrapstring=none, break_on_hyphens=true) */
exo_jvalue exo_jfilter_wordwrap(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue width = a->v[0].type == EXO_J_ABSENT ? exo_jint(79) : a->v[0];
    exo_jvalue between = exo_jstring_borrow(c, "\n", 1);
    wrapping w = {.whole = width.type != EXO_J_FLOAT,
                  .break_words = exo_jarg_bool(a, 1, true),
                  .break_on_hyphens = exo_jarg_bool(a, 3, true)};
    if (exo_jgiven(a, 2)) between = a->v[2];
    if (self.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, self);
    if (self.type != EXO_J_STRING)
        return exo_jfail(c, "'%s' object has no attribute 'splitlines'", exo_jtype_name(self));
    if (between.type != EXO_J_STRING)
        return exo_jfail(c, "'%s' object has no attribute 'join'", exo_jtype_name(between));
    exo_jlist *lines = exo_jstr_lines(c, self.s, false), *out = exo_jlist_new(c, 0);
    if (!exo_jok(c) || lines->n == 0) return exo_jstring_borrow(c, "", 0);
    if (width.type == EXO_J_FLOAT && fabs(width.f) < 0x1p53)
        w.width = (int64_t)floor(width.f);
    else
        w.width = exo_jarg_int(c, &(exo_jargs){.v = &width, .n = 1}, 0, 79);
    bool positive = width.type == EXO_J_FLOAT ? width.f > 0 : w.width > 0;
    if (!positive) return exo_jfail(c, "invalid width %lld (must be > 0)", (long long)w.width);
    size_t mark = exo_jmark(c);
    for (size_t i = 0; i < lines->n && exo_jok(c); i++) {
        out->n = 0;
        wrap_line(c, &w, lines->items[i].s, out);
        if (i > 0) exo_jput_str(c, between.s);
        for (size_t k = 0; k < out->n && exo_jok(c); k++) {
            exo_jvalue line = out->items[k];
            if (k > 0) exo_jput_str(c, between.s);
            exo_jput_str(c, between.markup ? exo_jstr_escape(c, line.s).s : line.s);
        }
    }
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = between.markup;
    return text;
}
