/* jinja_print.c - values as text, exactly as Python's str() and repr() write them.
 *
 * Appends to the context's text and makes no values of its own.  Nesting is bounded by the
 * context's depth, so a list that contains itself is an error, not a crash. */
#include "model/jinja.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes "d.ddde+xx" one larger in its last digit; true when that reads back as f.  Just above a
 * power of two the neighbours lie further apart, so the digits to print may not be the nearest. */
static bool next_digits(char *text, double f) {
    for (char *p = strchr(text, 'e') - 1; p >= text; p--) {
        if (*p == '9')
            *p = '0';
        else if (*p >= '0' && ++*p)
            return strtod(text, NULL) == f;
    }
    return false;
}

/* Decimal digits of |f| without a point, shortest that reads back as f; returns the exponent of
 * the first digit.  15 digits less their trailing zeros are the shortest whenever 15 suffice;
 * denormals have fewer good digits and are tried from one on. */
static int shortest_digits(double f, char digits[24]) {
    char text[40];
    for (int precision = fabs(f) < DBL_MIN ? 0 : 14; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, fabs(f));
        if (strtod(text, NULL) == fabs(f)) break;
        if (precision == 15 && next_digits(text, fabs(f))) break;
    }
    char *e = strchr(text, 'e');
    int n = 0;
    for (const char *p = text; p < e; p++) {
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    }
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = '\0';
    return (int)strtol(e + 1, NULL, 10);
}

size_t exo_jformat_double(double f, char out[40]) {
    if (isnan(f)) return (size_t)snprintf(out, 40, "nan");
    const char *sign = signbit(f) ? "-" : "";
    if (isinf(f)) return (size_t)snprintf(out, 40, "%sinf", sign);
    char digits[24];
    int e = f == 0 ? (strcpy(digits, "0"), 0) : shortest_digits(f, digits);
    int n = (int)strlen(digits);
    if (e < -4 || e >= 16) {
        return (size_t)snprintf(out, 40, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "",
                                digits + 1, e < 0 ? '-' : '+', abs(e));
    }
    if (e < 0) return (size_t)snprintf(out, 40, "%s0.%.*s%s", sign, -e - 1, "000", digits);
    if (n <= e + 1)
        return (size_t)snprintf(out, 40, "%s%s%.*s.0", sign, digits, e + 1 - n, "0000000000000000");
    return (size_t)snprintf(out, 40, "%s%.*s.%s", sign, e + 1, digits, digits + e + 1);
}

static size_t escape_char(uint32_t cp, char out[12]) {
    const char *form = cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x";
    return (size_t)snprintf(out, 12, form, (unsigned)cp);
}

static void repr_char(exo_jctx *c, uint32_t cp, char quote) {
    char escaped[12];
    if (cp == (uint32_t)quote || cp == '\\') {
        escaped[0] = '\\';
        escaped[1] = (char)cp;
        exo_jput(c, escaped, 2);
    } else if (cp == '\n' || cp == '\r' || cp == '\t') {
        exo_jputs(c, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
    } else if (exo_jis_printable(cp)) {
        exo_jput_char(c, cp);
    } else {
        exo_jput(c, escaped, escape_char(cp, escaped));
    }
}

exo_jvalue exo_jascii(exo_jctx *c, const exo_jstr *repr) {
    size_t mark = exo_jmark(c);
    char escaped[12];
    exo_jcharge(c, repr->n / 16);
    for (size_t pos = 0; pos < repr->n && exo_jok(c);) {
        size_t from = pos;
        uint32_t cp = exo_jutf8_next(repr->s, repr->n, &pos);
        if (cp < 0x80)
            exo_jput(c, repr->s + from, 1);
        else
            exo_jput(c, escaped, escape_char(cp, escaped));
    }
    return exo_jtake(c, mark);
}

static bool is_plain(char b) { return b >= ' ' && b < 0x7F && b != '\'' && b != '"' && b != '\\'; }

static void repr_string(exo_jctx *c, const exo_jstr *s) {
    bool single = s->n > 0 && memchr(s->s, '\'', s->n) != NULL;
    bool both = single && memchr(s->s, '"', s->n) != NULL;
    char quote = single && !both ? '"' : '\'';
    exo_jput(c, &quote, 1);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        size_t from = pos;
        while (pos < s->n && is_plain(s->s[pos])) pos++;
        exo_jput(c, s->s + from, pos - from);
        exo_jcharge(c, 1 + (pos - from) / 32);
        if (pos < s->n) repr_char(c, exo_jutf8_next(s->s, s->n, &pos), quote);
    }
    exo_jput(c, &quote, 1);
}

static void repr_items(exo_jctx *c, const exo_jlist *l) {
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        if (i > 0) exo_jputs(c, ", ");
        exo_jprint_repr(c, l->items[i]);
    }
}

/* Whether the container's text is being made: where it is within itself, Python prints dots. */
static bool is_open(const exo_jctx *c, const void *container) {
    for (const exo_jprinting *p = c->printing; p != NULL; p = p->outer) {
        if (p->container == container) return true;
    }
    return false;
}

static void repr_dict(exo_jctx *c, const exo_jdict *d) {
    const exo_jprinting printing = {d, c->printing};
    if (is_open(c, d)) {
        exo_jputs(c, "{...}");
        return;
    }
    c->printing = &printing;
    exo_jputs(c, "{");
    for (size_t i = 0; i < d->n && exo_jok(c); i++) {
        if (i > 0) exo_jputs(c, ", ");
        exo_jprint_repr(c, d->entries[i].key);
        exo_jputs(c, ": ");
        exo_jprint_repr(c, d->entries[i].value);
    }
    exo_jputs(c, "}");
    c->printing = printing.outer;
}

static void repr_sequence(exo_jctx *c, exo_jvalue v) {
    const exo_jprinting printing = {v.list, c->printing};
    bool list = v.type == EXO_J_LIST, tuple = v.type == EXO_J_TUPLE;
    if (is_open(c, v.list)) {
        exo_jputs(c, list ? "[...]" : "(...)");
        return;
    }
    c->printing = &printing;
    if (!list && !tuple) exo_jputs(c, exo_jtype_name(v)); /* a view */
    exo_jputs(c, list ? "[" : tuple ? "(" : "([");
    repr_items(c, v.list);
    exo_jputs(c, list ? "]" : !tuple ? "])" : v.list->n == 1 ? ",)" : ")");
    c->printing = printing.outer;
}

static void repr_object(exo_jctx *c, exo_jvalue v) {
    char text[96];
    switch ((exo_jtype)v.type) {
    case EXO_J_NAMESPACE:
        exo_jputs(c, "<Namespace ");
        repr_dict(c, v.dict);
        exo_jputs(c, ">");
        return;
    case EXO_J_RANGE: {
        const exo_jrange *r = v.range;
        const char *form = r->step == 1 ? "range(%" PRId64 ", %" PRId64 ")"
                                        : "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")";
        snprintf(text, sizeof text, form, r->start, r->stop, r->step);
        exo_jputs(c, text);
        return;
    }
    case EXO_J_LOOP: {
        static const exo_jstr length = {.s = "length", .n = 6, .n_chars = 6};
        int64_t n = exo_jloop_attr(c, v.loop, &length).i;
        snprintf(text, sizeof text, "<LoopContext %" PRId64 "/%" PRId64 ">", v.loop->index0 + 1, n);
        exo_jputs(c, text);
        return;
    }
    case EXO_J_BLOCKS: exo_jputs(c, "<TemplateReference None>"); return;
    case EXO_J_MACRO:
        exo_jputs(c, "<Macro ");
        if (v.macro->def->name != NULL)
            repr_string(c, v.macro->def->name);
        else
            exo_jputs(c, "anonymous");
        exo_jputs(c, ">");
        return;
    default:
        snprintf(text, sizeof text, "<%s object>", exo_jtype_name(v));
        exo_jputs(c, text);
        return;
    }
}

void exo_jprint_repr(exo_jctx *c, exo_jvalue v) {
    char text[40];
    if (!exo_jenter(c)) return;
    switch ((exo_jtype)v.type) {
    case EXO_J_UNDEFINED: exo_jputs(c, "Undefined"); break;
    case EXO_J_NONE: exo_jputs(c, "None"); break;
    case EXO_J_BOOL: exo_jputs(c, v.b ? "True" : "False"); break;
    case EXO_J_INT: exo_jput(c, text, (size_t)snprintf(text, sizeof text, "%" PRId64, v.i)); break;
    case EXO_J_FLOAT:
        exo_jcharge(c, EXO_J_FLOAT_STEPS);
        exo_jput(c, text, exo_jformat_double(v.f, text));
        break;
    case EXO_J_STRING:
        if (v.markup) exo_jputs(c, "Markup(");
        repr_string(c, v.s);
        if (v.markup) exo_jputs(c, ")");
        break;
    case EXO_J_LIST:
    case EXO_J_TUPLE:
    case EXO_J_VIEW: repr_sequence(c, v); break;
    case EXO_J_DICT: repr_dict(c, v.dict); break;
    default: repr_object(c, v); break;
    }
    exo_jleave(c);
}

void exo_jprint(exo_jctx *c, exo_jvalue v) {
    if (v.type == EXO_J_STRING)
        exo_jput_str(c, v.s);
    else if (v.type != EXO_J_UNDEFINED)
        exo_jprint_repr(c, v);
}

exo_jvalue exo_jto_str(exo_jctx *c, exo_jvalue v) {
    if (v.type == EXO_J_STRING) return v;
    size_t mark = exo_jmark(c);
    exo_jprint(c, v);
    return exo_jtake(c, mark);
}
