/* jinja_web.c - filters that write for browsers and people: urlencode, xmlattr, filesizeformat. */
#include "model/jinja.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- URLs ---- */

static void put_quoted(exo_jctx *c, const exo_jstr *s, bool query) {
    static const char kept[] = "_.-~";
    static const char hex[] = "0123456789ABCDEF";
    exo_jcharge(c, s->n / 16);
    for (size_t i = 0; i < s->n && exo_jok(c); i++) {
        unsigned char b = (unsigned char)s->s[i];
        bool letter = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9');
        char code[3] = {'%', hex[b >> 4], hex[b & 15]};
        if (letter || (b != 0 && strchr(kept, b) != NULL) || (b == '/' && !query)) {
            exo_jput(c, &s->s[i], 1);
        } else if (b == ' ' && query) {
            exo_jput(c, "+", 1);
        } else {
            exo_jput(c, code, 3);
        }
    }
}

static void put_pair(exo_jctx *c, exo_jvalue key, exo_jvalue value) {
    exo_jvalue k = exo_jto_str(c, key), v = exo_jto_str(c, value);
    put_quoted(c, k.s, true);
    exo_jput(c, "=", 1);
    put_quoted(c, v.s, true);
}

/* A text is quoted; a mapping or a list of pairs becomes a query. */
static exo_jvalue filter_urlencode(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    size_t mark = exo_jmark(c);
    if (self.type == EXO_J_UNDEFINED || self.type == EXO_J_STRING || !exo_jiterable(self)) {
        exo_jvalue text = exo_jto_str(c, self);
        if (self.type != EXO_J_UNDEFINED) put_quoted(c, text.s, false);
        return exo_jtake(c, mark);
    }
    if (self.type == EXO_J_DICT) {
        for (size_t i = 0; i < self.dict->n && exo_jok(c); i++) {
            if (i > 0) exo_jput(c, "&", 1);
            put_pair(c, self.dict->entries[i].key, self.dict->entries[i].value);
        }
        return exo_jtake(c, mark);
    }
    const exo_jlist *items = exo_jiterate(c, self);
    for (size_t i = 0; exo_jok(c) && i < items->n; i++) {
        const exo_jlist *pair = exo_jiterate(c, items->items[i]);
        if (!exo_jok(c)) break;
        if (pair->n != 2) return exo_jfail(c, "urlencode wants pairs, not %zu values", pair->n);
        if (i > 0) exo_jput(c, "&", 1);
        put_pair(c, pair->items[0], pair->items[1]);
    }
    return exo_jtake(c, mark);
}

/* ---- attributes of a tag ---- */

/* xmlattr(autospace=true) */
static exo_jvalue filter_xmlattr(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    if (self.type != EXO_J_DICT) {
        return exo_jfail(c, "'%s' object has no attribute 'items'", exo_jtype_name(self));
    }
    size_t mark = exo_jmark(c);
    bool space = exo_jarg_bool(a, 0, true);
    for (size_t i = 0; i < self.dict->n && exo_jok(c); i++) {
        const exo_jentry *e = &self.dict->entries[i];
        if (e->value.type == EXO_J_NONE || e->value.type == EXO_J_UNDEFINED) continue;
        if (e->key.type != EXO_J_STRING) {
            return exo_jfail(c, "expected string or bytes-like object, got '%s'",
                             exo_jtype_name(e->key));
        }
        const exo_jstr *key = e->key.s;
        for (size_t k = 0; k < key->n; k++) {
            char ch = key->s[k];
            if (ch != '\0' && strchr(" \t\n\v\f\r/>=", ch) != NULL)
                return exo_jfail(c, "Invalid character in attribute name: '%.*s'", exo_jshown(key),
                                 key->s);
        }
        exo_jvalue name = exo_jstr_escape(c, key), value = exo_jto_str(c, e->value);
        if (!value.markup) value = exo_jstr_escape(c, value.s);
        if (space) exo_jput(c, " ", 1);
        space = true;
        exo_jput_str(c, name.s);
        exo_jputs(c, "=\"");
        exo_jput_str(c, value.s);
        exo_jput(c, "\"", 1);
    }
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = c->autoescape;
    return text;
}

/* ---- sizes ---- */

/* filesizeformat(binary=false) */
static exo_jvalue filter_filesizeformat(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    static const char prefixes[] = "kMGTPEZY";
    bool binary = exo_jarg_bool(a, 0, false);
    double base = binary ? 1024 : 1000, unit = base, bytes = 0;
    char text[400];
    switch ((exo_jtype)self.type) {
    case EXO_J_INT: bytes = (double)self.i; break;
    case EXO_J_BOOL: bytes = self.b; break;
    case EXO_J_FLOAT: bytes = self.f; break;
    case EXO_J_STRING: {
        bool number;
        bytes = exo_jparse_double(self.s->s, self.s->n, &number);
        if (number) break;
        return exo_jfail(c, "could not convert string to float: '%.*s'", exo_jshown(self.s),
                         self.s->s);
    }
    default:
        return exo_jfail(c, "float() argument must be a number, not '%s'", exo_jtype_name(self));
    }
    if (isnan(bytes)) return exo_jfail(c, "cannot convert float NaN to integer");
    if (bytes == 1) return exo_jstring_borrow(c, "1 Byte", 6);
    if (bytes < base) {
        if (!(bytes > -0x1p63)) return exo_jfail(c, "this size does not fit 64 bits");
        snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
    } else {
        size_t i = 0;
        while (i + 2 < sizeof prefixes && bytes >= unit * base) {
            unit *= base;
            i++;
        }
        char prefix = binary && prefixes[i] == 'k' ? 'K' : prefixes[i];
        snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / (unit * base), prefix,
                 binary ? "i" : "");
    }
    return exo_jstring(c, text, strlen(text));
}

/* ---- random, tags ---- */

/* The only element.  A prompt must be the same each time it is made, so of several none is
 * picked. */
static exo_jvalue filter_random(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    if (self.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, self);
    int64_t n = exo_jlength(c, self);
    if (!exo_jok(c)) return exo_jundefined;
    if (self.type == EXO_J_DICT || self.type == EXO_J_VIEW)
        return exo_jfail(c, "'%s' object cannot be indexed by random", exo_jtype_name(self));
    if (n == 0) return exo_jundefined_hint(c, "No random item, sequence was empty.");
    if (n == 1) return exo_jget_item(c, self, exo_jint(0));
    return exo_jfail(c, "random of %lld elements: a prompt must be the same each time",
                     (long long)n);
}

static exo_jvalue filter_striptags(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_striptags(c, exo_jto_str(c, self).s);
}

static const exo_jnative filters[] = {
    {"pprint", exo_jfilter_pprint, "", 0},
    {"random", filter_random, "", 0},
    {"striptags", filter_striptags, "", 0},
    {"urlize", exo_jfilter_urlize, "trim_url_limit nofollow target rel extra_schemes", 0},
    {"wordwrap", exo_jfilter_wordwrap, "width break_long_words wrapstring break_on_hyphens", 0},
    {"urlencode", filter_urlencode, "", 0},
    {"xmlattr", filter_xmlattr, "autospace", 0},
    {"filesizeformat", filter_filesizeformat, "binary", 0},
};

const exo_jnative *exo_jweb_filter_find(const exo_jstr *name) {
    return exo_jnative_find(filters, sizeof filters / sizeof *filters, name);
}
