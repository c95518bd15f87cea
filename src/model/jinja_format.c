/* jinja_format.c - "%s: %d" % args, and the digits of numbers for every kind of format.
 *
 * Follows CPython's own formatter step by step, oddities included: a list as the right side
 * counts as a mapping, "%5%" is an error, "%-05d" pads with blanks.
 * Markup on the left escapes what is put into it. */
#include "model/jinja.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_DIGITS 1000 /* behind the point */

/* ---- digits ---- */

void exo_jput_fill(exo_jctx *c, uint32_t fill, int64_t n) {
    if (n > (int64_t)EXO_J_MAX_TEXT_BYTES) {
        exo_jfail(c, "a field of more than %zu characters is too wide", EXO_J_MAX_TEXT_BYTES);
        return;
    }
    if (n > 0) exo_jcharge(c, (size_t)n / 16);
    char chunk[256];
    if (fill < 0x80) memset(chunk, (int)fill, sizeof chunk);
    for (int64_t size; fill < 0x80 && n > 0 && exo_jok(c); n -= size) {
        size = n < (int64_t)sizeof chunk ? n : (int64_t)sizeof chunk;
        exo_jput(c, chunk, (size_t)size);
    }
    for (; n > 0 && exo_jok(c); n--) exo_jput_char(c, fill);
}

void exo_jint_digits(uint64_t u, char type, char out[72]) {
    size_t n = 1;
    switch (type) {
    case 'x': snprintf(out, 72, "%" PRIx64, u); break;
    case 'X': snprintf(out, 72, "%" PRIX64, u); break;
    case 'o': snprintf(out, 72, "%" PRIo64, u); break;
    case 'b':
        while (n < 64 && u >> n != 0) n++;
        for (size_t k = 0; k < n; k++) out[k] = (u >> (n - 1 - k) & 1) != 0 ? '1' : '0';
        out[n] = '\0';
        break;
    default: snprintf(out, 72, "%" PRIu64, u); break;
    }
}

bool exo_jfloat_digits(exo_jctx *c, double d, const exo_jfloat_form *form,
                       char out[EXO_J_FLOAT_BYTES]) {
    static const struct {
        char type;
        const char *plain, *alternate;
    } forms[] = {{'e', "%.*e", "%#.*e"}, {'E', "%.*E", "%#.*E"}, {'f', "%.*f", "%#.*f"},
                 {'F', "%.*F", "%#.*F"}, {'g', "%.*g", "%#.*g"}, {'G', "%.*G", "%#.*G"}};
    double size = isnan(d) ? NAN : fabs(d);
    size_t i = 0;
    if (form->precision > MAX_DIGITS) {
        exo_jfail(c, "a format asks for more than %d digits", MAX_DIGITS);
        return false;
    }
    exo_jcharge(c, EXO_J_FLOAT_STEPS + (size_t)form->precision / 4);
    while (forms[i].type != form->type) i++;
    snprintf(out, EXO_J_FLOAT_BYTES,
             form->alternate && isfinite(d) ? forms[i].alternate : forms[i].plain,
             (int)form->precision, size);
    return true;
}

/* ---- one percent field ---- */

typedef struct {
    bool left, plus, blank, alternate, zero;
    int64_t width, precision; /* -1 = not given */
    char type;
} field;

/* text: digits with their sign and prefix before them, or words. */
static void put_field(exo_jctx *c, const field *f, const exo_jstr *text, const char *sign,
                      const char *prefix) {
    uint32_t fill = f->zero ? '0' : ' ';
    int64_t taken = (int64_t)(text->n_chars + strlen(sign) + strlen(prefix));
    int64_t missing = f->width > taken ? f->width - taken : 0;
    if (f->zero) exo_jputs(c, sign);
    if (f->zero) exo_jputs(c, prefix);
    if (!f->left) exo_jput_fill(c, fill, missing);
    if (!f->zero) exo_jputs(c, sign);
    if (!f->zero) exo_jputs(c, prefix);
    exo_jput_str(c, text);
    if (f->left) exo_jput_fill(c, ' ', missing);
}

static const char *sign_of(const field *f, bool negative) {
    return negative ? "-" : f->plus ? "+" : f->blank ? " " : "";
}

/* Zeros before the digits, as many as the precision wants. */
static void put_whole(exo_jctx *c, const field *f, bool negative, const char *digits) {
    static const char *const prefixes[] = {"0x", "0X", "0o"};
    const char *kind = strchr("xXo", f->type);
    size_t mark = exo_jmark(c);
    exo_jput_fill(c, '0', f->precision - (int64_t)strlen(digits));
    exo_jputs(c, digits);
    exo_jvalue text = exo_jtake(c, mark);
    put_field(c, f, text.s, sign_of(f, negative),
              f->alternate && kind != NULL ? prefixes[kind - "xXo"] : "");
}

static bool put_int(exo_jctx *c, const field *f, exo_jvalue v) {
    char digits[EXO_J_FLOAT_BYTES];
    bool decimal = strchr("diu", f->type) != NULL;
    if (v.type == EXO_J_BOOL) v = exo_jint(v.b);
    if (v.type == EXO_J_FLOAT && decimal && isfinite(v.f)) {
        snprintf(digits, sizeof digits, "%.0f", fabs(trunc(v.f)));
        put_whole(c, f, v.f <= -1, digits);
    } else if (v.type == EXO_J_INT) {
        exo_jint_digits(v.i < 0 ? 0 - (uint64_t)v.i : (uint64_t)v.i, f->type, digits);
        put_whole(c, f, v.i < 0, digits);
    } else {
        return false;
    }
    return true;
}

static bool put_float(exo_jctx *c, const field *f, exo_jvalue v) {
    char digits[EXO_J_FLOAT_BYTES];
    double d = v.type == EXO_J_FLOAT ? v.f : v.type == EXO_J_BOOL ? v.b : (double)v.i;
    exo_jfloat_form form = {f->type, f->precision < 0 ? 6 : f->precision, f->alternate};
    if (v.type != EXO_J_INT && v.type != EXO_J_BOOL && v.type != EXO_J_FLOAT) return false;
    if (!exo_jfloat_digits(c, d, &form, digits)) return true;
    exo_jvalue text = exo_jstring(c, digits, strlen(digits));
    put_field(c, f, text.s, sign_of(f, signbit(d) && !isnan(d)), "");
    return true;
}

static bool put_char(exo_jctx *c, const field *f, exo_jvalue v) {
    field plain = {.left = f->left, .width = f->width};
    if (v.type == EXO_J_BOOL) v = exo_jint(v.b);
    if (v.type == EXO_J_STRING) {
        if (v.s->n_chars != 1) return false;
    } else {
        bool valid = v.type == EXO_J_INT && v.i >= 0 && v.i <= 0x10FFFF && v.i >> 11 != 0x1B;
        if (!valid) return false;
        size_t mark = exo_jmark(c);
        exo_jput_char(c, (uint32_t)v.i);
        v = exo_jtake(c, mark);
    }
    put_field(c, &plain, v.s, "", "");
    return true;
}

static bool put_text(exo_jctx *c, const field *f, exo_jvalue v, bool markup) {
    field plain = {.left = f->left, .width = f->width};
    size_t mark = exo_jmark(c);
    if (f->type == 's')
        exo_jprint(c, v);
    else
        exo_jprint_repr(c, v);
    exo_jvalue text = exo_jtake(c, mark);
    if (markup && !(f->type == 's' && v.type == EXO_J_STRING && v.markup))
        text = exo_jstr_escape(c, text.s);
    if (f->type == 'a') text = exo_jascii(c, text.s);
    if (f->precision >= 0) {
        text = exo_jsubstr(c, text.s, 0, exo_jutf8_offset(text.s, (size_t)f->precision));
    }
    put_field(c, &plain, text.s, "", "");
    return true;
}

/* ---- arguments ---- */

typedef struct {
    exo_jvalue args, current; /* current: of the last %(name) */
    bool is_mapping, markup;
    bool named, used; /* current is the argument; the only argument was taken */
    size_t next;
} arguments;

static exo_jvalue next_arg(exo_jctx *c, arguments *p) {
    if (!p->named && p->args.type == EXO_J_TUPLE) {
        if (p->next < p->args.list->n) return p->args.list->items[p->next++];
    } else if (!p->used) {
        p->used = true;
        return p->named ? p->current : p->args;
    }
    return exo_jfail(c, "not enough arguments for format string");
}

/* "(name)"; parentheses within it balance. */
static void read_name(exo_jctx *c, arguments *p, const exo_jstr *s, size_t *pos) {
    size_t from = ++*pos, open = 1;
    for (; *pos < s->n && open > 0; (*pos)++) {
        open += s->s[*pos] == '(';
        open -= s->s[*pos] == ')';
    }
    exo_jvalue key = exo_jsubstr(c, s, from, *pos - 1), v = exo_jundefined;
    if (!p->is_mapping) exo_jfail(c, "format requires a mapping");
    if (open > 0) exo_jfail(c, "incomplete format key");
    if (!exo_jok(c)) return;
    if (p->args.type == EXO_J_UNDEFINED) {
        exo_jundefined_fail(c, p->args);
    } else if (p->args.type != EXO_J_DICT) {
        exo_jfail(c, "%s indices must be integers or slices, not str", exo_jtype_name(p->args));
    } else if (!exo_jdict_get(c, p->args.dict, key, &v)) {
        exo_jfail(c, "format key '%.*s' is missing", exo_jshown(key.s), key.s->s);
    }
    p->current = v;
    p->named = true;
    p->used = false;
}

static void read_flags(field *f, const exo_jstr *s, size_t *pos) {
    for (; *pos < s->n; (*pos)++) {
        switch (s->s[*pos]) {
        case '-': f->left = true; break;
        case '+': f->plus = true; break;
        case ' ': f->blank = true; break;
        case '#': f->alternate = true; break;
        case '0': f->zero = true; break;
        default: return;
        }
    }
}

int64_t exo_jread_count(exo_jctx *c, const exo_jstr *s, size_t *pos) {
    int64_t n = 0;
    for (; *pos < s->n && s->s[*pos] >= '0' && s->s[*pos] <= '9'; (*pos)++) {
        int64_t digit = s->s[*pos] - '0';
        if (n <= (INT64_MAX - digit) / 10) {
            n = n * 10 + digit;
            continue;
        }
        exo_jfail(c, "too many decimal digits in a format");
        return 0;
    }
    return n;
}

/* Digits, or a star and the next argument. */
static int64_t read_size(exo_jctx *c, const exo_jstr *s, size_t *pos, arguments *p) {
    if (*pos >= s->n || s->s[*pos] != '*') return exo_jread_count(c, s, pos);
    (*pos)++;
    exo_jvalue v = next_arg(c, p);
    if (v.type == EXO_J_BOOL) return v.b;
    if (v.type == EXO_J_INT && !p->markup) return v.i;
    exo_jfail(c, "* wants int");
    return 0;
}

static void put_arg(exo_jctx *c, const field *f, exo_jvalue v, bool markup) {
    bool fits = false;
    if (v.type == EXO_J_UNDEFINED && strchr("diueEfFgG", f->type) != NULL) {
        exo_jundefined_fail(c, v);
        return;
    }
    if (markup && v.type == EXO_J_STRING && strchr("diu", f->type) != NULL)
        v = exo_jint_of(c, v); /* Markup reads numbers from texts */
    if (markup && v.type == EXO_J_STRING && strchr("eEfFgG", f->type) != NULL)
        v = exo_jfloat_of(c, v);
    switch (f->type) {
    case 's':
    case 'r':
    case 'a': fits = put_text(c, f, v, markup); break;
    case 'c': fits = !markup && put_char(c, f, v); break;
    case 'x':
    case 'X':
    case 'o': fits = !markup && put_int(c, f, v); break;
    case 'd':
    case 'i':
    case 'u': fits = put_int(c, f, v); break;
    default: fits = put_float(c, f, v); break;
    }
    if (!fits) exo_jfail(c, "%%%c format: not for %s", f->type, exo_jtype_name(v));
}

static void percent_field(exo_jctx *c, const exo_jstr *s, size_t *pos, arguments *p) {
    field f = {.width = -1, .precision = -1};
    if (*pos < s->n && s->s[*pos] == '%') {
        exo_jputs(c, "%");
        (*pos)++;
        return;
    }
    if (*pos < s->n && s->s[*pos] == '(') read_name(c, p, s, pos);
    read_flags(&f, s, pos);
    f.width = read_size(c, s, pos, p);
    if (f.width < 0) {
        f.left = true;
        f.width = f.width > -INT64_MAX ? -f.width : INT64_MAX;
    }
    if (*pos < s->n && s->s[*pos] == '.') {
        (*pos)++;
        f.precision = read_size(c, s, pos, p);
        if (f.precision < 0) f.precision = 0;
    }
    if (*pos < s->n && s->s[*pos] != '\0' && strchr("hlL", s->s[*pos]) != NULL) (*pos)++;
    if (*pos >= s->n) {
        exo_jfail(c, "incomplete format");
        return;
    }
    f.type = s->s[(*pos)++];
    exo_jvalue v = exo_jok(c) ? next_arg(c, p) : exo_jundefined;
    if (f.type == '\0' || strchr("srcdiuxXoeEfFgGa", f.type) == NULL) {
        exo_jfail(c, "unsupported format character '%c' at index %zu", f.type, *pos - 1);
    }
    if (exo_jok(c)) put_arg(c, &f, v, p->markup);
}

exo_jvalue exo_jformat_percent(exo_jctx *c, exo_jvalue format, exo_jvalue args) {
    arguments p = {.args = args, .markup = format.markup};
    const exo_jstr *s = format.s;
    size_t mark = exo_jmark(c);
    p.is_mapping = args.type == EXO_J_DICT || args.type == EXO_J_LIST || args.type == EXO_J_RANGE ||
                   args.type == EXO_J_UNDEFINED;
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        const char *at = memchr(s->s + pos, '%', s->n - pos);
        size_t end = at == NULL ? s->n : (size_t)(at - s->s);
        exo_jput(c, s->s + pos, end - pos);
        pos = end + 1;
        if (at != NULL) percent_field(c, s, &pos, &p);
        exo_jcharge(c, 1);
    }
    bool surplus = args.type == EXO_J_TUPLE && !p.named ? p.next < args.list->n : !p.used;
    if (surplus && !p.is_mapping)
        exo_jfail(c, "not all arguments converted during string formatting");
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = format.markup;
    return text;
}
