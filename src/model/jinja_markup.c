/* jinja_markup.c - texts marked as HTML: what str methods do with them, and getting rid of it.
 *
 * As markupsafe's Markup: methods escape the texts that they are given and return markup. */
#include "model/html_entities.h"
#include "model/jinja.h"

#include <string.h>

/* ---- methods ---- */

static bool is_listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; *p != '\0';) {
        size_t word = strcspn(p, " ");
        if (word == n && memcmp(p, name, n) == 0) return true;
        p += word + (p[word] == ' ');
    }
    return false;
}

static exo_jvalue escaped(exo_jctx *c, exo_jvalue v, bool texts_only) {
    if (v.type == EXO_J_STRING ? v.markup : texts_only) return v;
    return exo_jstr_escape(c, exo_jto_str(c, v).s);
}

static exo_jvalue escaped_items(exo_jctx *c, exo_jvalue v) {
    exo_jlist *l = exo_jiterate(c, v), *out = exo_jlist_new(c, 0);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jvalue item = escaped(c, l->items[i], false);
        exo_jlist_append(c, out, item);
    }
    return exo_jlist_value(EXO_J_LIST, out);
}

static exo_jvalue marked(exo_jvalue v) {
    if (v.type == EXO_J_STRING) v.markup = true;
    if (v.type != EXO_J_LIST && v.type != EXO_J_TUPLE) return v;
    for (size_t i = 0; i < v.list->n; i++) v.list->items[i].markup = true;
    return v;
}

exo_jvalue exo_jcall_markup(exo_jctx *c, const exo_jnative *fn, exo_jvalue self,
                            const exo_jargs *a) {
    static const char escaping[] = "capitalize title lower upper replace ljust rjust lstrip rstrip "
                                   "center strip expandtabs swapcase zfill";
    static const char parting[] = "partition rpartition", cutting[] = "split rsplit splitlines";
    bool escapes = is_listed(escaping, fn->name), parts = is_listed(parting, fn->name);
    bool joins = strcmp(fn->name, "join") == 0;
    exo_jvalue args[EXO_J_MAX_PARAMS];
    size_t n = a->n < EXO_J_MAX_PARAMS ? a->n : EXO_J_MAX_PARAMS;
    for (size_t i = 0; i < n; i++) {
        args[i] = a->v[i];
        if (escapes || parts) args[i] = escaped(c, args[i], escapes);
        if (joins) args[i] = escaped_items(c, args[i]);
    }
    if (!exo_jok(c)) return exo_jundefined;
    exo_jargs made = {.v = args, .n = a->n, .kw = a->kw};
    exo_jvalue result = exo_jcall_native(c, fn, self, a->n <= EXO_J_MAX_PARAMS ? &made : a);
    bool marks = escapes || parts || joins || is_listed(cutting, fn->name);
    return marks ? marked(result) : result;
}

/* ---- character references ---- */

static bool is_refused(uint32_t cp) {
    return cp < 9 || cp == 0xB || (cp >= 0xE && cp < 0x20) || (cp >= 0x7F && cp < 0xA0) ||
           (cp >= 0xFDD0 && cp <= 0xFDEF) || (cp & 0xFFFE) == 0xFFFE;
}

/* "&#60;", "&#x3c"; pos stands behind the "#".  Returns the end, or 0 for what is none. */
static size_t put_number(exo_jctx *c, const exo_jstr *s, size_t pos) {
    static const uint16_t windows[32] = {
        0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,  0x2030, 0x160,
        0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
    bool hex = pos < s->n && (s->s[pos] | 0x20) == 'x';
    size_t from = pos + hex;
    uint32_t cp = 0;
    for (pos = from; pos < s->n; pos++) {
        char b = s->s[pos], low = (char)(b | 0x20);
        uint32_t d = b >= '0' && b <= '9' ? (uint32_t)(b - '0') : 99;
        if (hex && low >= 'a' && low <= 'f') d = (uint32_t)(low - 'a') + 10;
        if (d == 99) break;
        cp = cp > 0x10FFFF ? cp : cp * (hex ? 16 : 10) + d;
    }
    if (pos == from) return 0;
    if (pos < s->n && s->s[pos] == ';') pos++;
    if (cp == 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        exo_jput_char(c, 0xFFFD);
    else if (cp >= 0x80 && cp < 0xA0)
        exo_jput_char(c, windows[cp - 0x80]);
    else if (cp == '\r' || !is_refused(cp))
        exo_jput_char(c, cp);
    return pos;
}

/* A name of up to 32 characters from pos on; the longest known beginning of it counts. */
static size_t put_named(exo_jctx *c, const exo_jstr *s, size_t pos) {
    size_t end = pos, n = 0;
    for (; end < s->n && n < 32; n++) {
        if (s->s[end] == '\0' || strchr("\t\n\f <&#;", s->s[end]) != NULL) break;
        exo_jutf8_next(s->s, s->n, &end);
    }
    if (n == 0) return 0;
    if (end < s->n && s->s[end] == ';') end++;
    exo_jcharge(c, 1);
    for (size_t to = end; to > pos + 1; to--) {
        const char *text = exo_html_entity(s->s + pos, to - pos);
        if (text == NULL) continue;
        exo_jputs(c, text);
        exo_jput(c, s->s + to, end - to);
        return end;
    }
    return 0;
}

static exo_jvalue unescape(exo_jctx *c, const exo_jstr *s) {
    size_t mark = exo_jmark(c), from = 0;
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        const char *at = memchr(s->s + pos, '&', s->n - pos);
        if (at == NULL) break;
        pos = (size_t)(at - s->s);
        exo_jput(c, s->s + from, pos - from);
        from = pos++;
        bool number = pos < s->n && s->s[pos] == '#';
        size_t end = number ? put_number(c, s, pos + 1) : put_named(c, s, pos);
        exo_jcharge(c, 1);
        if (end != 0) from = pos = end;
    }
    exo_jput(c, s->s + from, s->n - from);
    return exo_jtake(c, mark);
}

/* ---- tags ---- */

/* s without what stands between each `open` and the next `close` behind it. */
static exo_jvalue without(exo_jctx *c, const exo_jstr *s, const char *open, const char *close) {
    const exo_jstr *begin = exo_jstring_borrow(c, open, strlen(open)).s;
    const exo_jstr *end = exo_jstring_borrow(c, close, strlen(close)).s;
    size_t mark = exo_jmark(c), from = 0;
    exo_jcharge(c, s->n / 32);
    while (exo_jok(c)) {
        size_t at = exo_jstr_find(c, s, from, begin);
        size_t to = at == SIZE_MAX ? SIZE_MAX : exo_jstr_find(c, s, at + begin->n, end);
        if (to == SIZE_MAX) break;
        exo_jput(c, s->s + from, at - from);
        exo_jcharge(c, 1);
        from = to + end->n;
    }
    exo_jput(c, s->s + from, s->n - from);
    return exo_jtake(c, mark);
}

/* Runs of white space become one blank; none at the ends. */
static exo_jvalue collapsed(exo_jctx *c, const exo_jstr *s) {
    size_t mark = exo_jmark(c);
    bool pending = false;
    exo_jcharge(c, s->n / 16);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        size_t from = pos;
        uint32_t cp = exo_jutf8_next(s->s, s->n, &pos);
        if (exo_jis_space(cp)) {
            pending = c->text.n > mark;
            continue;
        }
        if (pending) exo_jput(c, " ", 1);
        pending = false;
        exo_jput(c, s->s + from, pos - from);
    }
    return exo_jtake(c, mark);
}

exo_jvalue exo_jstr_striptags(exo_jctx *c, const exo_jstr *s) {
    exo_jvalue text = without(c, s, "<!--", "-->");
    text = without(c, text.s, "<", ">");
    return unescape(c, collapsed(c, text.s).s);
}
