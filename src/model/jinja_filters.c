/* jinja_filters.c - filters on strings, numbers and single values; jinja_seq.c has the rest.
 *
 * Parameters, defaults and results are jinja2's, which are sometimes not what the name suggests:
 * "x"|upper of a number works on its text, 2.5|round is 2.0, "42.9"|int is 42. */
#include "model/jinja.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- any value ---- */

static exo_jvalue filter_default(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    bool missing = self.type == EXO_J_UNDEFINED;
    if (!missing && exo_jarg_bool(a, 1, false)) missing = !exo_jtruth(self);
    if (!missing) return self;
    return a->v[0].type == EXO_J_ABSENT ? exo_jstring_borrow(c, "", 0) : a->v[0];
}

static exo_jvalue filter_string(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jto_str(c, self);
}

static exo_jvalue filter_safe(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jvalue v = exo_jto_str(c, self);
    v.markup = true;
    return v;
}

static exo_jvalue filter_escape(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jvalue v = exo_jto_str(c, self);
    return v.markup ? v : exo_jstr_escape(c, v.s);
}

static exo_jvalue filter_forceescape(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jstr_escape(c, exo_jto_str(c, self).s);
}

static exo_jvalue filter_length(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jint(exo_jlength(c, self));
}

/* Attributes only: an item of that name does not count. */
static exo_jvalue filter_attr(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *name = exo_jarg_str(c, a, 0, "");
    bool item = self.type == EXO_J_DICT && exo_jmethod_find(EXO_J_DICT, name) == NULL;
    if (item) return (exo_jvalue){.type = EXO_J_UNDEFINED, .owner = self.type, .s = name};
    return exo_jget_attr(c, self, name);
}

/* ---- strings ---- */

/* Markup in, markup out. */
static exo_jvalue marked_as(exo_jvalue text, exo_jvalue self) {
    text.markup = self.type == EXO_J_STRING && self.markup;
    return text;
}

static exo_jvalue filter_upper(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return marked_as(exo_jstr_upper(c, exo_jto_str(c, self).s), self);
}

static exo_jvalue filter_lower(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return marked_as(exo_jstr_lower(c, exo_jto_str(c, self).s), self);
}

static exo_jvalue filter_capitalize(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return marked_as(exo_jstr_capitalize(c, exo_jto_str(c, self).s), self);
}

static exo_jvalue filter_title(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    const exo_jstr *s = exo_jto_str(c, self).s;
    size_t mark = exo_jmark(c);
    bool begins = true;
    exo_jcharge(c, s->n / 4);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        uint32_t cp = exo_jutf8_next(s->s, s->n, &pos);
        bool separator =
            cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || exo_jis_space(cp);
        if (begins)
            exo_jput_upper(c, cp);
        else
            exo_jput_lower(c, cp);
        begins = separator;
    }
    return exo_jtake(c, mark);
}

static exo_jvalue filter_trim(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *chars = exo_jgiven(a, 0) ? exo_jarg_str(c, a, 0, "") : NULL;
    return marked_as(exo_jstr_strip(c, exo_jto_str(c, self).s, chars, true, true), self);
}

/* With autoescape, markup among the three makes the others markup. */
static exo_jvalue replace_safely(exo_jctx *c, exo_jvalue self, const exo_jargs *a, int64_t count) {
    exo_jvalue s = exo_jto_str(c, self), old = exo_jto_str(c, a->v[0]);
    exo_jvalue new_text = exo_jto_str(c, a->v[1]);
    if ((old.markup || new_text.markup) && !s.markup) s = exo_jstr_escape(c, s.s);
    if (s.markup && !old.markup) old = exo_jstr_escape(c, old.s);
    if (s.markup && !new_text.markup) new_text = exo_jstr_escape(c, new_text.s);
    return marked_as(exo_jstr_replace(c, s.s, old.s, new_text.s, count), s);
}

static exo_jvalue filter_replace(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    if (c->autoescape) return replace_safely(c, self, a, exo_jarg_bound(c, a, 2, -1));
    const exo_jstr *old = exo_jto_str(c, a->v[0]).s, *new_text = exo_jto_str(c, a->v[1]).s;
    return exo_jstr_replace(c, exo_jto_str(c, self).s, old, new_text, exo_jarg_bound(c, a, 2, -1));
}

static exo_jvalue filter_format(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue args = {.type = EXO_J_DICT, .dict = a->kw};
    if (a->kw == NULL) {
        exo_jlist *l = exo_jlist_new(c, a->n);
        for (size_t i = 0; i < a->n; i++) exo_jlist_append(c, l, a->v[i]);
        args = exo_jlist_value(EXO_J_TUPLE, l);
    } else if (a->n > 0) {
        return exo_jfail(c, "can't handle positional and keyword arguments at the same time");
    }
    return exo_jok(c) ? exo_jformat_percent(c, exo_jto_str(c, self), args) : exo_jundefined;
}

static exo_jvalue filter_center(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *s = exo_jto_str(c, self).s;
    return marked_as(exo_jstr_pad(c, s, exo_jarg_int(c, a, 0, 80), ' ', 0), self);
}

static exo_jvalue filter_wordcount(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    const exo_jstr *s = exo_jto_str(c, self).s;
    int64_t n = 0;
    bool inside = false;
    exo_jcharge(c, s->n / 4);
    for (size_t pos = 0; pos < s->n;) {
        bool word = exo_jis_word(exo_jutf8_next(s->s, s->n, &pos));
        n += word && !inside;
        inside = word;
    }
    return exo_jint(n);
}

static exo_jvalue indent_text(exo_jctx *c, const exo_jargs *a) {
    if (exo_jgiven(a, 0) && a->v[0].type == EXO_J_STRING) return a->v[0];
    return exo_jstr_pad(c, exo_jstring_borrow(c, "", 0).s, exo_jarg_int(c, a, 0, 4), ' ', -1);
}

/* indent(width=4, first=false, blank=false) */
static exo_jvalue filter_indent(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue newline = exo_jstring_borrow(c, "\n", 1), indent = indent_text(c, a);
    exo_jvalue text = exo_jbinary(c, EXO_J_ADD, self, newline);
    if (!exo_jok(c)) return exo_jundefined;
    exo_jlist *lines = exo_jstr_lines(c, text.s, false);
    bool blank = exo_jarg_bool(a, 2, false);
    size_t mark = exo_jmark(c);
    if (exo_jarg_bool(a, 1, false)) exo_jput_str(c, indent.s);
    for (size_t i = 0; lines != NULL && i < lines->n && exo_jok(c); i++) {
        const exo_jstr *line = lines->items[i].s;
        if (i > 0) exo_jputs(c, "\n");
        if (i > 0 && (blank || line->n > 0)) exo_jput_str(c, indent.s);
        exo_jput_str(c, line);
    }
    return marked_as(exo_jtake(c, mark), self);
}

/* truncate(length=255, killwords=false, end="...", leeway=5) */
static exo_jvalue filter_truncate(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t leeway = exo_jarg_bound(c, a, 3, 5);
    exo_jvalue wanted = a->v[0].type == EXO_J_ABSENT ? exo_jint(255) : a->v[0];
    double most = wanted.type == EXO_J_FLOAT ? wanted.f
                  : wanted.type == EXO_J_INT ? (double)wanted.i
                                             : -1;
    int64_t n_end = a->v[2].type == EXO_J_ABSENT ? 3 : exo_jlength(c, a->v[2]);
    bool short_enough = most >= (double)n_end && leeway >= 0 &&
                        (double)exo_jlength(c, self) <= most + (double)leeway;
    if (!exo_jok(c)) return exo_jundefined;
    if (short_enough) return self; /* whatever the kinds of the arguments are */
    const exo_jstr *end = exo_jarg_str(c, a, 2, "...");
    int64_t length = exo_jarg_int(c, a, 0, 255);
    if (length < (int64_t)end->n_chars) {
        return exo_jfail(c, "expected length >= %zu, got %" PRId64, end->n_chars, length);
    }
    if (leeway < 0) return exo_jfail(c, "expected leeway >= 0, got %" PRId64, leeway);
    if (length > INT64_MAX - leeway || exo_jlength(c, self) <= length + leeway) return self;
    if (self.type != EXO_J_STRING) {
        return exo_jfail(c, "truncate works on strings, not on '%s'", exo_jtype_name(self));
    }
    size_t cut = exo_jutf8_offset(self.s, (size_t)length - end->n_chars);
    if (!exo_jarg_bool(a, 1, false)) {
        size_t space = cut;
        while (space > 0 && self.s->s[space - 1] != ' ') space--;
        if (space > 0) cut = space - 1;
    }
    exo_jvalue head = marked_as(exo_jsubstr(c, self.s, 0, cut), self);
    exo_jvalue tail =
        a->v[2].type == EXO_J_STRING ? a->v[2] : exo_jstring_borrow(c, end->s, end->n);
    return exo_jbinary(c, EXO_J_ADD, head, tail);
}

/* ---- numbers ---- */

static exo_jvalue filter_abs(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    if (self.type == EXO_J_FLOAT) return exo_jfloat(fabs(self.f));
    if (self.type == EXO_J_BOOL) return exo_jint(self.b);
    if (self.type == EXO_J_INT) return self.i < 0 ? exo_jnegate(c, self) : self;
    if (self.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, self);
    return exo_jfail(c, "bad operand type for abs(): '%s'", exo_jtype_name(self));
}

static bool parse_int(const exo_jstr *s, int64_t base, int64_t *out) {
    char text[80];
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->s[i] == '_' && i > 0 && i + 1 < s->n) continue;
        if (n == sizeof text - 1) return false;
        text[n++] = s->s[i];
    }
    text[n] = '\0';
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    bool prefixed = digits[0] == '0' && digits[1] != '\0';
    char kind = prefixed ? (char)(digits[1] | 0x20) : 0;
    int64_t named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (base == 0) { /* as the prefix says; without one, no zero but in 0 */
        base = named != 0 ? named : 10;
        if (named == 0 && prefixed && strspn(digits, "0") != strlen(digits)) return false;
    }
    if (named == base) digits += 2;
    if (base == 16 && digits[0] == '0' && (digits[1] | 0x20) == 'x') return false; /* once more */
    if (n == 0 || digits[0] == '\0' || exo_jis_space((uint32_t)(unsigned char)digits[0]) ||
        digits[0] == '-' || digits[0] == '+') {
        return false;
    }
    char *end;
    unsigned long long u = strtoull(digits, &end, (int)base);
    if (*end != '\0' || u > INT64_MAX) return false;
    *out = text[0] == '-' ? -(int64_t)u : (int64_t)u;
    return true;
}

static bool parse_float(exo_jctx *c, const exo_jstr *s, double *out) {
    const exo_jstr *t = exo_jstr_strip(c, s, NULL, true, true).s;
    t = exo_jstr_lower(c, t).s;
    bool negative = t->n > 0 && t->s[0] == '-', ok = true;
    size_t from = t->n > 0 && (negative || t->s[0] == '+');
    const exo_jstr *body = exo_jsubstr(c, t, from, t->n).s;
    if (exo_jstr_is(body, "inf") || exo_jstr_is(body, "infinity"))
        *out = INFINITY;
    else if (exo_jstr_is(body, "nan"))
        *out = NAN;
    else
        *out = exo_jparse_double(body->s, body->n, &ok);
    if (body->n == 0 || body->s[0] == '-' || body->s[0] == '+') ok = false;
    if (negative) *out = -*out;
    return ok;
}

static exo_jvalue truncated(exo_jctx *c, double d, exo_jvalue otherwise) {
    if (isnan(d)) return otherwise;
    if (!(fabs(d) < 0x1p63))
        return exo_jfail(c, "the integer part of this float does not fit 64 bits");
    return exo_jint((int64_t)d);
}

/* int(default=0, base=10) */
static exo_jvalue filter_int(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue otherwise = a->v[0].type == EXO_J_ABSENT ? exo_jint(0) : a->v[0];
    int64_t base = 10, i;
    bool usable = true; /* what is no base fails as a text that is no number does */
    if (a->v[1].type != EXO_J_ABSENT) {
        usable = a->v[1].type == EXO_J_INT && (a->v[1].i == 0 || a->v[1].i >= 2) && a->v[1].i <= 36;
        base = usable ? a->v[1].i : 10;
    }
    double d;
    switch ((exo_jtype)self.type) {
    case EXO_J_INT: return self;
    case EXO_J_BOOL: return exo_jint(self.b);
    case EXO_J_FLOAT: return truncated(c, self.f, otherwise);
    case EXO_J_UNDEFINED: return exo_jundefined_fail(c, self);
    case EXO_J_STRING: break;
    default: return otherwise;
    }
    if (usable && parse_int(exo_jstr_strip(c, self.s, NULL, true, true).s, base, &i))
        return exo_jint(i);
    return parse_float(c, self.s, &d) ? truncated(c, d, otherwise) : otherwise;
}

exo_jvalue exo_jint_of(exo_jctx *c, exo_jvalue text) {
    int64_t i;
    bool ok = parse_int(exo_jstr_strip(c, text.s, NULL, true, true).s, 10, &i);
    return ok ? exo_jint(i) : text;
}

exo_jvalue exo_jfloat_of(exo_jctx *c, exo_jvalue text) {
    double d;
    return parse_float(c, text.s, &d) ? exo_jfloat(d) : text;
}

static exo_jvalue filter_float(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    double d;
    switch ((exo_jtype)self.type) {
    case EXO_J_FLOAT: return self;
    case EXO_J_INT: return exo_jfloat((double)self.i);
    case EXO_J_BOOL: return exo_jfloat(self.b);
    case EXO_J_UNDEFINED: return exo_jundefined_fail(c, self);
    case EXO_J_STRING:
        if (parse_float(c, self.s, &d)) return exo_jfloat(d);
        break;
    default: break;
    }
    return a->v[0].type == EXO_J_ABSENT ? exo_jfloat(0) : a->v[0];
}

/* Half to even on the exact binary value, as Python: printf rounds that way. */
static double round_half_even(double d, int64_t precision) {
    if (!isfinite(d) || precision > 300) return d;
    if (precision < 0) {
        double unit = pow(10, (double)(precision < -308 ? 308 : -precision));
        return nearbyint(d / unit) * unit;
    }
    char text[700];
    bool ok;
    int n = snprintf(text, sizeof text, "%.*f", (int)precision, d);
    for (int i = 0; i < n; i++) {
        if (text[i] == ',') text[i] = '.'; /* a locale's decimal point */
    }
    double rounded = exo_jparse_double(text, (size_t)n, &ok);
    return ok ? rounded : d;
}

/* ceil or floor of v * 10**power, divided by that; Python's integers make both steps exact. */
static exo_jvalue directed_round(exo_jctx *c, exo_jvalue v, exo_jvalue power, bool up) {
    bool integral = v.type == EXO_J_INT || v.type == EXO_J_BOOL, ok;
    double d = v.type == EXO_J_FLOAT ? v.f : v.type == EXO_J_BOOL ? v.b : (double)v.i;
    double places = power.type == EXO_J_FLOAT ? power.f : (double)power.i;
    if (integral && power.type == EXO_J_INT && power.i >= 0) return exo_jfloat(d);
    double unit = pow(10, places);
    if (!isfinite(unit)) return exo_jfail(c, "int too large to convert to float");
    if (unit == 0) return exo_jfail(c, "float division by zero");
    if (!isfinite(d * unit)) return exo_jfail(c, "cannot convert float infinity or NaN to integer");
    /* adding 0 turns -0.0 into 0.0: Python's floor and ceil give integers */
    double whole = (up ? ceil(d * unit) : floor(d * unit)) + 0;
    if (power.type == EXO_J_FLOAT || places <= 22) return exo_jfloat(whole / unit);
    char text[400]; /* 10**23 and beyond are no doubles */
    int n = snprintf(text, sizeof text, "%.0fe-%.0f", whole, places);
    return exo_jfloat(exo_jparse_double(text, (size_t)n, &ok));
}

/* round(precision=0, method="common") */
static exo_jvalue filter_round(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *method = exo_jarg_str(c, a, 1, "common");
    bool common = exo_jstr_is(method, "common"), up = exo_jstr_is(method, "ceil");
    bool to_int = common && a->v[0].type == EXO_J_NONE; /* Python's round(number, None) */
    exo_jvalue power = a->v[0].type == EXO_J_FLOAT && !common ? a->v[0] : exo_jint(0);
    int64_t precision = to_int || power.type == EXO_J_FLOAT ? 0 : exo_jarg_int(c, a, 0, 0);
    if (power.type == EXO_J_INT) power.i = precision;
    if (!common && !up && !exo_jstr_is(method, "floor")) {
        return exo_jfail(c, "method must be common, ceil or floor");
    }
    if (self.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, self);
    bool integral = self.type == EXO_J_INT || self.type == EXO_J_BOOL;
    if (!integral && self.type != EXO_J_FLOAT) {
        return exo_jfail(c, "type %s doesn't define __round__ method", exo_jtype_name(self));
    }
    int64_t i = self.type == EXO_J_BOOL ? self.b : self.i;
    exo_jcharge(c, 50); /* up to 600 digits printed and read */
    double d = integral ? (double)i : self.f;
    if (common && integral) {
        return precision >= 0 ? exo_jint(i) : exo_jint((int64_t)round_half_even(d, precision));
    }
    if (to_int && isnan(d)) return exo_jfail(c, "cannot convert float NaN to integer");
    if (to_int) return truncated(c, round_half_even(d, 0), exo_jnone);
    if (common) return exo_jfloat(round_half_even(d, precision));
    return directed_round(c, self, power, up);
}

static const exo_jnative filters[] = {
    {"default", filter_default, "default_value boolean", 0},
    {"d", filter_default, "default_value boolean", 0},
    {"string", filter_string, "", 0},
    {"safe", filter_safe, "", 0},
    {"escape", filter_escape, "", 0},
    {"e", filter_escape, "", 0},
    {"forceescape", filter_forceescape, "", 0},
    {"length", filter_length, "", 0},
    {"count", filter_length, "", 0},
    {"attr", filter_attr, "name", 1},
    {"tojson", exo_jfilter_tojson, "ensure_ascii indent separators sort_keys", 0},
    {"upper", filter_upper, "", 0},
    {"lower", filter_lower, "", 0},
    {"capitalize", filter_capitalize, "", 0},
    {"title", filter_title, "", 0},
    {"trim", filter_trim, "chars", 0},
    {"replace", filter_replace, "old new count", 2},
    {"format", filter_format, "*", 0},
    {"center", filter_center, "width", 0},
    {"wordcount", filter_wordcount, "", 0},
    {"indent", filter_indent, "width first blank", 0},
    {"truncate", filter_truncate, "length killwords end leeway", 0},
    {"abs", filter_abs, "", 0},
    {"int", filter_int, "default base", 0},
    {"float", filter_float, "default", 0},
    {"round", filter_round, "precision method", 0},
};

const exo_jnative *exo_jfilter_find(const exo_jstr *name) {
    const exo_jnative *f = exo_jnative_find(filters, sizeof filters / sizeof *filters, name);
    if (f == NULL) f = exo_jseq_filter_find(name);
    if (f == NULL) f = exo_jlazy_filter_find(name);
    return f != NULL ? f : exo_jweb_filter_find(name);
}
