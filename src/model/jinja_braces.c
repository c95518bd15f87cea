/* jinja_braces.c - "{}: {:>5}".format(args), as string.Formatter does it within jinja2's sandbox.
 *
 * Three layers: the text is cut into fields, a field's path is followed (with jinja2's lookups, so
 * that what is missing is undefined), and a value is written by what Python's format() makes of
 * its type and the specification behind the colon. */
#include "model/jinja.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_NESTED 2 /* specifications within specifications */

/* ---- the specification: [[fill]align][sign][z][#][0][width][,|_][.precision][type] ---- */

typedef struct {
    uint32_t fill;
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' '-' ' ' or 0 */
    bool no_negative_zero, alternate;
    char separator;           /* ',' '_' or 0 */
    int64_t width, precision; /* -1 = not given */
    char type;                /* 0 = not given */
} spec;

static bool at_one_of(const exo_jstr *s, size_t pos, const char *set) {
    return pos < s->n && s->s[pos] != '\0' && strchr(set, s->s[pos]) != NULL;
}

static bool accept_char(const exo_jstr *s, size_t *pos, char wanted) {
    if (*pos >= s->n || s->s[*pos] != wanted) return false;
    (*pos)++;
    return true;
}

/* Returns whether fill was given; moves behind the alignment. */
static bool read_align(const exo_jstr *s, size_t *pos, spec *f) {
    size_t after = 0;
    if (s->n == 0) return false;
    uint32_t first = exo_jutf8_next(s->s, s->n, &after);
    bool filled = at_one_of(s, after, "<>^=");
    if (filled) {
        f->fill = first;
        f->align = s->s[after];
        *pos = after + 1;
    } else if (at_one_of(s, 0, "<>^=")) {
        f->align = s->s[0];
        *pos = 1;
    }
    return filled;
}

static void read_separator(exo_jctx *c, const exo_jstr *s, size_t *pos, spec *f) {
    if (accept_char(s, pos, ',')) f->separator = ',';
    if (at_one_of(s, *pos, "_")) {
        if (f->separator != 0) exo_jfail(c, "Cannot specify both ',' and '_'.");
        f->separator = '_';
        (*pos)++;
        if (at_one_of(s, *pos, ",")) exo_jfail(c, "Cannot specify both ',' and '_'.");
    }
}

static void check_separator(exo_jctx *c, const spec *f, bool is_text) {
    const char *allowed = f->separator == '_' ? "defgEG%FboxX" : "defgEG%F";
    if (f->separator == 0 || (f->type == 0 && !is_text)) return;
    char type = f->type == 0 ? 's' : f->type;
    if (strchr(allowed, type) == NULL)
        exo_jfail(c, "Cannot specify '%c' with '%c'.", f->separator, type);
}

static void read_spec(exo_jctx *c, const exo_jstr *s, exo_jvalue v, spec *f) {
    size_t pos = 0, digits;
    bool is_text = v.type == EXO_J_STRING;
    *f = (spec){.fill = ' ', .width = -1, .precision = -1};
    bool filled = read_align(s, &pos, f);
    if (at_one_of(s, pos, " +-")) f->sign = s->s[pos++];
    f->no_negative_zero = accept_char(s, &pos, 'z');
    f->alternate = accept_char(s, &pos, '#');
    if (!filled && accept_char(s, &pos, '0')) {
        f->fill = '0';
        if (f->align == 0 && !is_text) f->align = '=';
    }
    digits = pos;
    int64_t width = exo_jread_count(c, s, &pos);
    if (pos > digits) f->width = width;
    read_separator(c, s, &pos, f);
    if (accept_char(s, &pos, '.')) {
        digits = pos;
        f->precision = exo_jread_count(c, s, &pos);
        if (pos == digits) exo_jfail(c, "Format specifier missing precision");
    }
    if (pos + 1 < s->n || (pos < s->n && (unsigned char)s->s[pos] >= 0x80)) {
        exo_jfail(c, "Invalid format specifier '%.*s' for object of type '%s'", exo_jshown(s), s->s,
                  exo_jtype_name(v));
    } else if (pos < s->n) {
        f->type = s->s[pos];
    }
    check_separator(c, f, is_text);
}

/* ---- writing ---- */

/* What a number is made of: sign, prefix, digits, and the rest from the point on. */
typedef struct {
    bool negative;
    const char *prefix;
    const char *digits;
    size_t n_digits;
    const exo_jstr *rest;
} parts;

/* Digits in groups, with zeros before them up to min_width: from the right, as CPython counts. */
static exo_jvalue group_digits(exo_jctx *c, const parts *p, const spec *f, int64_t min_width) {
    int64_t size = INT64_MAX, remaining = (int64_t)p->n_digits, zeros = 0, least = min_width;
    size_t mark = exo_jmark(c);
    if (f->separator != 0) size = f->type != 0 && strchr("boxX", f->type) != NULL ? 4 : 3;
    while (size != INT64_MAX) { /* how many zeros are wanted */
        int64_t most = remaining > least ? remaining : least;
        int64_t len = most < 1 ? 1 : most < size ? most : size;
        zeros += len > remaining ? len - remaining : 0;
        remaining -= remaining < len ? remaining : len;
        least -= len;
        if (remaining <= 0 && least <= 0) break;
        least--;
    }
    if (size == INT64_MAX && min_width > remaining) zeros = min_width - remaining;
    int64_t n = zeros + (int64_t)p->n_digits;
    for (int64_t i = 0; i < n && exo_jok(c); i++) {
        if (i > 0 && (n - i) % size == 0) exo_jput(c, &f->separator, 1);
        exo_jput(c, i < zeros ? "0" : p->digits + (i - zeros), 1);
        exo_jcharge(c, (size_t)(i % 16 == 0));
    }
    return exo_jtake(c, mark);
}

static void put_number(exo_jctx *c, const spec *f, const parts *p) {
    const char *sign = p->negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
    char align = f->align != 0 ? f->align : '>';
    int64_t others = (int64_t)(strlen(sign) + strlen(p->prefix) + p->rest->n_chars);
    bool zeros = f->fill == '0' && align == '=';
    if (f->width > (int64_t)EXO_J_MAX_TEXT_BYTES) {
        exo_jput_fill(c, f->fill, f->width);
        return;
    }
    exo_jvalue digits = exo_jstring_borrow(c, "", 0);
    if (p->n_digits > 0) digits = group_digits(c, p, f, zeros ? f->width - others : 0);
    int64_t missing = f->width - others - (int64_t)digits.s->n;
    if (missing < 0) missing = 0;
    int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
    exo_jput_fill(c, f->fill, left);
    exo_jputs(c, sign);
    exo_jputs(c, p->prefix);
    if (align == '=') exo_jput_fill(c, f->fill, missing);
    exo_jput_str(c, digits.s);
    exo_jput_str(c, p->rest);
    if (align == '<' || align == '^') exo_jput_fill(c, f->fill, missing - left);
}

static void unknown_type(exo_jctx *c, const spec *f, exo_jvalue v) {
    exo_jfail(c, "Unknown format code '%c' for object of type '%s'", f->type, exo_jtype_name(v));
}

static void put_text(exo_jctx *c, const spec *f, exo_jvalue v) {
    if (f->sign != 0) exo_jfail(c, "Sign not allowed in string format specifier");
    if (f->no_negative_zero)
        exo_jfail(c, "Negative zero coercion (z) not allowed in string format specifier");
    if (f->alternate) exo_jfail(c, "Alternate form (#) not allowed in string format specifier");
    if (f->align == '=') exo_jfail(c, "'=' alignment not allowed in string format specifier");
    if (f->type != 0 && f->type != 's') unknown_type(c, f, v);
    if (!exo_jok(c)) return;
    const exo_jstr *s = v.s;
    if (f->precision >= 0) s = exo_jsubstr(c, s, 0, exo_jutf8_offset(s, (size_t)f->precision)).s;
    spec text = *f;
    if (text.align == 0) text.align = '<';
    text.separator = 0;
    put_number(c, &text, &(parts){.prefix = "", .digits = "", .rest = s});
}

static void put_float(exo_jctx *c, const spec *f, exo_jvalue v);

static void put_char(exo_jctx *c, const spec *f, int64_t i) {
    if (f->sign != 0) exo_jfail(c, "Sign not allowed with integer format specifier 'c'");
    if (f->alternate)
        exo_jfail(c, "Alternate form (#) not allowed with integer format specifier 'c'");
    if (i < 0 || i > 0x10FFFF || i >> 11 == 0x1B) exo_jfail(c, "%%c arg not in range(0x110000)");
    if (!exo_jok(c)) return;
    size_t mark = exo_jmark(c);
    exo_jput_char(c, (uint32_t)i);
    exo_jvalue text = exo_jtake(c, mark);
    put_number(c, f, &(parts){.prefix = "", .digits = "", .rest = text.s});
}

static void put_int(exo_jctx *c, const spec *f, exo_jvalue v) {
    static const exo_jstr none = {.s = ""};
    char digits[72], type = f->type == 0 || f->type == 'n' ? 'd' : f->type;
    int64_t i = v.type == EXO_J_BOOL ? v.b : v.i;
    if (strchr("eEfFgG%", type) != NULL) {
        put_float(c, f, exo_jfloat((double)i));
        return;
    }
    if (strchr("bcdoxX", type) == NULL) unknown_type(c, f, v);
    if (f->precision >= 0) exo_jfail(c, "Precision not allowed in integer format specifier");
    if (f->no_negative_zero)
        exo_jfail(c, "Negative zero coercion (z) not allowed in format specifier with integer");
    if (!exo_jok(c)) return;
    if (type == 'c') {
        put_char(c, f, i);
        return;
    }
    exo_jint_digits(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, type, digits);
    const char *prefix = type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : "0b";
    if (!f->alternate || type == 'd') prefix = "";
    put_number(c, f, &(parts){i < 0, prefix, digits, strlen(digits), &none});
}

/* Without a type: as repr, or as 'g' with a digit behind the point. */
static bool plain_digits(exo_jctx *c, const spec *f, double d, char out[EXO_J_FLOAT_BYTES]) {
    if (f->precision < 0) {
        out[exo_jformat_double(d < 0 ? -d : d, out)] = '\0';
        if (out[0] == '-') memmove(out, out + 1, strlen(out)); /* -0.0 */
        char *e = strchr(out, 'e');
        if (f->alternate && e != NULL && strchr(out, '.') == NULL) {
            memmove(e + 1, e, strlen(e) + 1);
            *e = '.';
        }
        return true;
    }
    int64_t precision = f->precision > 0 ? f->precision : 1;
    exo_jfloat_form form = {'e', precision - 1, f->alternate};
    if (!exo_jfloat_digits(c, d, &form, out) || !isfinite(d)) return exo_jok(c);
    char *e = strchr(out, 'e');
    long exponent = 0;
    sscanf(e + 1, "%ld", &exponent);
    if (exponent != precision - 1) {
        form = (exo_jfloat_form){'g', precision, f->alternate};
        if (!exo_jfloat_digits(c, d, &form, out)) return false;
        if (strpbrk(out, ".e") == NULL) strcat(out, ".0");
        return true;
    }
    char *end = e; /* one digit fewer than 'g' allows before the point: an exponent */
    if (!f->alternate && memchr(out, '.', (size_t)(e - out)) != NULL) {
        while (end[-1] == '0') end--;
        if (end[-1] == '.') end--;
    }
    memmove(end, e, strlen(e) + 1);
    return true;
}

static void put_float(exo_jctx *c, const spec *f, exo_jvalue v) {
    char digits[EXO_J_FLOAT_BYTES + 8];
    double d = f->type == '%' ? v.f * 100 : v.f;
    if (f->type != 0 && strchr("eEfFgGn%", f->type) == NULL) {
        unknown_type(c, f, v);
        return;
    }
    if (f->type == 0) {
        if (!plain_digits(c, f, d, digits)) return;
    } else {
        exo_jfloat_form form = {f->type == 'n'   ? 'g'
                                : f->type == '%' ? 'f'
                                                 : f->type,
                                f->precision < 0 ? 6 : f->precision, f->alternate};
        if (!exo_jfloat_digits(c, d, &form, digits)) return;
        if (f->type == '%') strcat(digits, "%");
    }
    size_t n = strspn(digits, "0123456789");
    bool negative = signbit(d) && !isnan(d);
    if (f->no_negative_zero && strpbrk(digits, "123456789in") == NULL) negative = false;
    exo_jvalue rest = exo_jstring(c, digits + n, strlen(digits + n));
    put_number(c, f, &(parts){negative, "", digits, n, rest.s});
}

void exo_jformat_value(exo_jctx *c, exo_jvalue v, const exo_jstr *text) {
    spec f;
    if (text->n == 0) {
        exo_jprint(c, v);
        return;
    }
    bool integral = v.type == EXO_J_INT || v.type == EXO_J_BOOL;
    if (!integral && v.type != EXO_J_FLOAT && v.type != EXO_J_STRING) {
        exo_jfail(c, "unsupported format string passed to %s.__format__", exo_jtype_name(v));
        return;
    }
    read_spec(c, text, v, &f);
    if (!exo_jok(c)) return;
    if (v.type == EXO_J_STRING)
        put_text(c, &f, v);
    else if (integral)
        put_int(c, &f, v);
    else
        put_float(c, &f, v);
}

/* ---- fields ---- */

typedef struct {
    const exo_jargs *args;
    size_t next;
    bool numbered; /* a field was "{0}": none may be "{}" from now on */
    bool markup;   /* values are escaped */
} brace_args;

static exo_jvalue expand(exo_jctx *c, brace_args *b, const exo_jstr *format, int nested);

/* The number that name is, or -1. */
static int64_t number_of(exo_jctx *c, const exo_jstr *name) {
    size_t pos = 0;
    while (pos < name->n && name->s[pos] >= '0' && name->s[pos] <= '9') pos++;
    if (pos == 0 || pos < name->n) return -1;
    pos = 0;
    return exo_jread_count(c, name, &pos);
}

static exo_jvalue first_value(exo_jctx *c, const brace_args *b, const exo_jstr *name) {
    exo_jvalue v = exo_jundefined, key = {.type = EXO_J_STRING, .s = name};
    int64_t i = number_of(c, name);
    if (i >= 0) {
        if ((uint64_t)i < b->args->n) return b->args->v[i];
        return exo_jfail(c, "Replacement index %lld out of range for positional args tuple",
                         (long long)i);
    }
    if (b->args->kw != NULL && exo_jdict_get(c, b->args->kw, key, &v)) return v;
    return exo_jfail(c, "'%.*s'", exo_jshown(name), name->s);
}

/* "0.name[item]", from the first '.' or '[' on. */
static exo_jvalue follow(exo_jctx *c, exo_jvalue v, const exo_jstr *path, size_t pos) {
    while (pos < path->n && exo_jok(c)) {
        char kind = path->s[pos++];
        size_t from = pos;
        if (kind != '.' && kind != '[')
            return exo_jfail(c, "Only '.' or '[' may follow ']' in format field specifier");
        while (pos < path->n &&
               (kind == '[' ? path->s[pos] != ']' : path->s[pos] != '.' && path->s[pos] != '[')) {
            pos++;
        }
        if (kind == '[' && pos == path->n) return exo_jfail(c, "Missing ']' in format string");
        exo_jvalue part = exo_jsubstr(c, path, from, pos);
        pos += kind == '[';
        if (part.s->n == 0) return exo_jfail(c, "Empty attribute in format string");
        int64_t i = kind == '[' ? number_of(c, part.s) : -1;
        if (i >= 0)
            v = exo_jget_item(c, v, exo_jint(i));
        else
            v = kind == '[' ? exo_jget_item(c, v, part) : exo_jget_attr(c, v, part.s);
    }
    return v;
}

static exo_jvalue lookup(exo_jctx *c, brace_args *b, const exo_jstr *path) {
    size_t end = 0;
    if (path->n == 0) {
        if (b->numbered)
            return exo_jfail(c, "cannot switch from manual field specification to automatic "
                                "field numbering");
        size_t i = b->next++;
        if (i < b->args->n) return b->args->v[i];
        return exo_jfail(c, "Replacement index %zu out of range for positional args tuple", i);
    }
    if (number_of(c, path) >= 0) {
        if (b->next > 0)
            return exo_jfail(c, "cannot switch from manual field specification to automatic "
                                "field numbering");
        b->numbered = true;
    }
    while (end < path->n && path->s[end] != '.' && path->s[end] != '[') end++;
    exo_jvalue v = first_value(c, b, exo_jsubstr(c, path, 0, end).s);
    return exo_jok(c) ? follow(c, v, path, end) : exo_jundefined;
}

static exo_jvalue convert(exo_jctx *c, exo_jvalue v, char conversion) {
    size_t mark = exo_jmark(c);
    if (conversion == 0) return v;
    if (conversion == 's') {
        exo_jprint(c, v);
    } else if (conversion == 'r' || conversion == 'a') {
        exo_jprint_repr(c, v);
    } else {
        exo_jfail(c, "Unknown conversion specifier %c", conversion);
    }
    exo_jvalue text = exo_jtake(c, mark);
    return conversion == 'a' ? exo_jascii(c, text.s) : text;
}

static void put_value(exo_jctx *c, const brace_args *b, exo_jvalue v, const exo_jstr *text) {
    size_t mark = exo_jmark(c);
    bool safe = v.type == EXO_J_STRING && v.markup;
    if (b->markup && safe && text->n > 0) {
        exo_jfail(c, "Unsupported format specification for Markup.");
        return;
    }
    exo_jformat_value(c, v, text);
    if (b->markup && !safe) {
        exo_jvalue plain = exo_jtake(c, mark);
        exo_jput_str(c, exo_jstr_escape(c, plain.s).s);
    }
}

/* The parts of a field: path[!conversion][:spec]. */
typedef struct {
    size_t path_end, spec, spec_end;
    char conversion;
} field;

/* Reads the field whose path begins at *pos; *pos moves behind its closing brace. */
static void read_field(exo_jctx *c, const exo_jstr *s, size_t *pos, field *f) {
    size_t at = *pos;
    char ch = 0;
    for (; at < s->n; at++) {
        ch = s->s[at];
        if (ch == '[')
            while (at + 1 < s->n && s->s[at + 1] != ']') at++;
        else if (ch == '{' || ch == '}' || ch == ':' || ch == '!')
            break;
    }
    *f = (field){.path_end = at, .spec = at, .spec_end = at};
    if (at == s->n) exo_jfail(c, "expected '}' before end of string");
    if (ch == '{') exo_jfail(c, "unexpected '{' in field name");
    if (!exo_jok(c)) return;
    at++;
    if (ch == '!') {
        if (at + 1 >= s->n)
            exo_jfail(c, "end of string while looking for conversion specifier");
        else if (s->s[at + 1] != '}' && s->s[at + 1] != ':')
            exo_jfail(c, "expected ':' after conversion specifier");
        if (!exo_jok(c)) return;
        f->conversion = s->s[at];
        ch = s->s[at + 1];
        at += 2;
    }
    f->spec = f->spec_end = at;
    for (int open = 1; ch == ':' && open > 0; at++) {
        if (at >= s->n) {
            exo_jfail(c, "unmatched '{' in format spec");
            return;
        }
        open += s->s[at] == '{';
        open -= s->s[at] == '}';
        f->spec_end = at;
    }
    *pos = at;
}

static void put_field(exo_jctx *c, brace_args *b, const exo_jstr *s, size_t *pos, int nested) {
    field f;
    size_t from = *pos;
    read_field(c, s, pos, &f);
    if (!exo_jok(c)) return;
    exo_jvalue v = lookup(c, b, exo_jsubstr(c, s, from, f.path_end).s);
    if (exo_jok(c)) v = convert(c, v, f.conversion);
    exo_jvalue text = expand(c, b, exo_jsubstr(c, s, f.spec, f.spec_end).s, nested + 1);
    if (exo_jok(c)) put_value(c, b, v, text.s);
}

static exo_jvalue expand(exo_jctx *c, brace_args *b, const exo_jstr *format, int nested) {
    size_t mark = exo_jmark(c), pos = 0;
    if (nested > MAX_NESTED) exo_jfail(c, "Max string recursion exceeded");
    while (pos < format->n && exo_jok(c)) {
        size_t from = pos;
        while (pos < format->n && format->s[pos] != '{' && format->s[pos] != '}') pos++;
        exo_jput(c, format->s + from, pos - from);
        if (pos == format->n) break;
        char ch = format->s[pos++];
        exo_jcharge(c, 1);
        if (pos < format->n && format->s[pos] == ch) {
            exo_jput(c, &ch, 1);
            pos++;
        } else if (ch == '}' || pos == format->n) {
            exo_jfail(c, "Single '%c' encountered in format string", ch);
        } else {
            put_field(c, b, format, &pos, nested);
        }
    }
    return exo_jtake(c, mark);
}

exo_jvalue exo_jformat_braces(exo_jctx *c, exo_jvalue format, const exo_jargs *a) {
    brace_args b = {.args = a, .markup = format.markup};
    exo_jvalue text = expand(c, &b, format.s, 0);
    text.markup = format.markup;
    return text;
}
