/* jinja_format.c - "%s: %d" % args and "{}: {:>5}".format(args).
 *
 * Both end in one field description and one printer, as far as templates use them: strings,
 * integers in four bases, floats in e, f and g, sign, fill, alignment, width and precision. */
#include "model/jinja.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_WIDTH     100000
#define MAX_PRECISION 100

typedef struct {
    uint32_t fill;
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' ' ' or 0 */
    bool alternate, grouped;
    int64_t width;
    int precision; /* -1 = none */
    char type;     /* conversion letter or 0 */
} field;

static const field plain_field = {.fill = ' ', .precision = -1};

/* ---- one field ---- */

static void put_padded(exo_jctx *c, const field *f, const char *prefix, const exo_jstr *digits,
                       char default_align) {
    char align = f->align != 0 ? f->align : default_align;
    exo_jvalue head = exo_jstring(c, prefix, strlen(prefix));
    if (align == '=') {
        exo_jput_str(c, head.s);
        int64_t rest = f->width - (int64_t)head.s->n;
        exo_jput_str(c, exo_jstr_pad(c, digits, rest, f->fill, 1).s);
        return;
    }
    exo_jvalue text = exo_jconcat(c, head.s, digits);
    int64_t missing = f->width - (int64_t)text.s->n_chars;
    int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
    for (int64_t i = 0; i < left && exo_jok(c); i++) exo_jput_char(c, f->fill);
    exo_jput_str(c, text.s);
    for (int64_t i = left; i < missing && exo_jok(c); i++) exo_jput_char(c, f->fill);
}

static void put_text(exo_jctx *c, const field *f, const exo_jstr *s, char default_align) {
    exo_jvalue cut = {.type = EXO_J_STRING, .s = s};
    if (f->precision >= 0) cut = exo_jsubstr(c, s, 0, exo_jutf8_offset(s, (size_t)f->precision));
    put_padded(c, f, "", cut.s, default_align);
}

static const char *sign_prefix(const field *f, bool negative) {
    return negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
}

/* Commas between the thousands of the leading run of digits. */
static exo_jvalue group_digits(exo_jctx *c, const exo_jstr *s) {
    size_t run = 0, mark = exo_jmark(c);
    while (run < s->n && s->s[run] >= '0' && s->s[run] <= '9') run++;
    for (size_t i = 0; i < run; i++) {
        if (i > 0 && (run - i) % 3 == 0) exo_jputs(c, ",");
        exo_jput(c, s->s + i, 1);
    }
    exo_jput(c, s->s + run, s->n - run);
    return exo_jtake(c, mark);
}

static void put_number(exo_jctx *c, const field *f, bool negative, const char *base,
                       const char *digits) {
    char prefix[8];
    snprintf(prefix, sizeof prefix, "%s%s", sign_prefix(f, negative), f->alternate ? base : "");
    exo_jvalue text = exo_jstring(c, digits, strlen(digits));
    if (f->grouped) text = group_digits(c, text.s);
    put_padded(c, f, prefix, text.s, '>');
}

static void put_int(exo_jctx *c, const field *f, int64_t i) {
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char digits[72];
    switch (f->type) {
    case 'x': snprintf(digits, sizeof digits, "%" PRIx64, u); break;
    case 'X': snprintf(digits, sizeof digits, "%" PRIX64, u); break;
    case 'o': snprintf(digits, sizeof digits, "%" PRIo64, u); break;
    case 'b': {
        size_t n = 1;
        while (n < 64 && u >> n != 0) n++;
        for (size_t k = 0; k < n; k++) digits[k] = (u >> (n - 1 - k) & 1) != 0 ? '1' : '0';
        digits[n] = '\0';
        break;
    }
    default: snprintf(digits, sizeof digits, "%" PRIu64, u); break;
    }
    const char *base = f->type == 'x'   ? "0x"
                       : f->type == 'X' ? "0X"
                       : f->type == 'o' ? "0o"
                       : f->type == 'b' ? "0b"
                                        : "";
    put_number(c, f, i < 0, base, digits);
}

static void put_float(exo_jctx *c, const field *f, double d) {
    char digits[512];
    int precision = f->precision < 0 ? 6 : f->precision;
    double size = fabs(d);
    switch (f->type) {
    case 'e': snprintf(digits, sizeof digits, "%.*e", precision, size); break;
    case 'E': snprintf(digits, sizeof digits, "%.*E", precision, size); break;
    case 'g': snprintf(digits, sizeof digits, "%.*g", precision, size); break;
    case 'G': snprintf(digits, sizeof digits, "%.*G", precision, size); break;
    case '%': snprintf(digits, sizeof digits, "%.*f%%", precision, size * 100); break;
    case 0:
        if (f->precision >= 0)
            snprintf(digits, sizeof digits, "%.*g", precision, size);
        else
            exo_jformat_double(size, digits);
        break;
    default: snprintf(digits, sizeof digits, "%.*f", precision, size); break;
    }
    exo_jcharge(c, 8);
    put_number(c, f, signbit(d) && !isnan(d), "", digits);
}

static bool is_number(exo_jvalue v) {
    return v.type == EXO_J_INT || v.type == EXO_J_FLOAT || v.type == EXO_J_BOOL;
}

static double as_double(exo_jvalue v) {
    return v.type == EXO_J_FLOAT ? v.f : v.type == EXO_J_BOOL ? v.b : (double)v.i;
}

static void put_field(exo_jctx *c, const field *f, exo_jvalue v) {
    bool as_float = f->type != 0 && strchr("eEfFgG%", f->type) != NULL;
    bool as_int = f->type != 0 && strchr("diuxXob", f->type) != NULL;
    if (f->type == 'c' && v.type == EXO_J_STRING && v.s->n_chars == 1) {
        put_text(c, f, v.s, '<');
    } else if (f->type == 'c' && v.type == EXO_J_INT && v.i >= 0 && v.i <= 0x10FFFF) {
        size_t mark = exo_jmark(c);
        exo_jput_char(c, (uint32_t)v.i);
        put_text(c, f, exo_jtake(c, mark).s, '<');
    } else if (is_number(v) && (as_float || (v.type == EXO_J_FLOAT && f->type == 0))) {
        put_float(c, f, as_double(v));
    } else if (is_number(v) && v.type != EXO_J_FLOAT && as_int) {
        put_int(c, f, v.type == EXO_J_BOOL ? v.b : v.i);
    } else if (v.type == EXO_J_INT && f->type == 0 && f->precision < 0) {
        put_int(c, f, v.i);
    } else if (f->type == 0 || f->type == 's') {
        put_text(c, f, exo_jto_str(c, v).s, '<');
    } else {
        exo_jfail(c, "a value of type %s does not fit the format '%c'", exo_jtype_name(v), f->type);
    }
}

/* Digits at *pos, bounded. */
static int64_t read_count(exo_jctx *c, const exo_jstr *s, size_t *pos, int64_t max) {
    int64_t n = 0;
    for (; *pos < s->n && s->s[*pos] >= '0' && s->s[*pos] <= '9'; (*pos)++) {
        n = n * 10 + (s->s[*pos] - '0');
        if (n <= max) continue;
        exo_jfail(c, "a format asks for more than %" PRId64 " characters", max);
        return 0;
    }
    return n;
}

/* ---- percent ---- */

typedef struct {
    exo_jvalue args;
    size_t next;
} percent_args;

static exo_jvalue next_arg(exo_jctx *c, percent_args *p) {
    if (p->args.type == EXO_J_TUPLE) {
        if (p->next < p->args.list->n) return p->args.list->items[p->next++];
    } else if (p->next++ == 0) {
        return p->args;
    }
    return exo_jfail(c, "not enough arguments for format string");
}

static exo_jvalue named_arg(exo_jctx *c, percent_args *p, const exo_jstr *s, size_t *pos) {
    size_t from = ++*pos;
    exo_jvalue v;
    while (*pos < s->n && s->s[*pos] != ')') (*pos)++;
    if (*pos == s->n) return exo_jfail(c, "incomplete format key");
    if (p->args.type != EXO_J_DICT) return exo_jfail(c, "format requires a mapping");
    exo_jvalue key = exo_jsubstr(c, s, from, (*pos)++);
    p->next = 1;
    if (exo_jdict_get(c, p->args.dict, key, &v)) return v;
    return exo_jfail(c, "format key '%.*s' is missing", exo_jshown(key.s), key.s->s);
}

static void percent_flags(field *f, const exo_jstr *s, size_t *pos) {
    for (; *pos < s->n && s->s[*pos] != '\0'; (*pos)++) {
        switch (s->s[*pos]) {
        case '-': f->align = '<'; break;
        case '+': f->sign = '+'; break;
        case ' ': f->sign = f->sign != 0 ? f->sign : ' '; break;
        case '#': f->alternate = true; break;
        case '0':
            f->fill = '0';
            if (f->align == 0) f->align = '=';
            break;
        default: return;
        }
    }
}

static void percent_field(exo_jctx *c, const exo_jstr *s, size_t *pos, percent_args *p) {
    field f = plain_field;
    bool named = *pos < s->n && s->s[*pos] == '(';
    exo_jvalue v = named ? named_arg(c, p, s, pos) : exo_jundefined;
    percent_flags(&f, s, pos);
    bool star = *pos < s->n && s->s[*pos] == '*';
    if (star) {
        exo_jvalue width = next_arg(c, p);
        f.width = width.type == EXO_J_INT && width.i >= 0 && width.i < MAX_WIDTH ? width.i : 0;
        (*pos)++;
    } else {
        f.width = read_count(c, s, pos, MAX_WIDTH);
    }
    if (*pos < s->n && s->s[*pos] == '.') {
        (*pos)++;
        f.precision = (int)read_count(c, s, pos, MAX_PRECISION);
    }
    if (*pos >= s->n) {
        exo_jfail(c, "incomplete format");
        return;
    }
    char type = s->s[(*pos)++];
    if (type == '%') {
        exo_jputs(c, "%");
        return;
    }
    if (!named) v = next_arg(c, p);
    if (!exo_jok(c)) return;
    if (v.type == EXO_J_FLOAT && strchr("diu", type) != NULL) v = exo_jint((int64_t)v.f);
    if (type == 'r' || type == 's') {
        size_t mark = exo_jmark(c);
        if (type == 'r')
            exo_jprint_repr(c, v);
        else
            exo_jprint(c, v);
        v = exo_jtake(c, mark);
    }
    bool text = strchr("rsc", type) != NULL;
    if (text && f.align == '=')
        f = (field){.fill = ' ', .width = f.width, .precision = f.precision};
    f.type = text && type != 'c' ? 's' : type;
    if (f.align == 0) f.align = '>';
    put_field(c, &f, v);
}

exo_jvalue exo_jformat_percent(exo_jctx *c, const exo_jstr *format, exo_jvalue args) {
    percent_args p = {.args = args};
    size_t mark = exo_jmark(c);
    for (size_t pos = 0; pos < format->n && exo_jok(c);) {
        const char *at = memchr(format->s + pos, '%', format->n - pos);
        size_t end = at == NULL ? format->n : (size_t)(at - format->s);
        exo_jput(c, format->s + pos, end - pos);
        pos = end + 1;
        if (at != NULL) percent_field(c, format, &pos, &p);
        exo_jcharge(c, 1);
    }
    bool surplus = args.type == EXO_J_TUPLE
                       ? p.next < args.list->n
                       : p.next == 0 && args.type != EXO_J_DICT && args.type != EXO_J_LIST;
    if (surplus) exo_jfail(c, "not all arguments converted during string formatting");
    return exo_jtake(c, mark);
}

/* ---- braces ---- */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool read_spec(exo_jctx *c, const exo_jstr *s, field *f) {
    size_t pos = 0, after = 0;
    *f = plain_field;
    if (s->n > 0) {
        uint32_t first = exo_jutf8_next(s->s, s->n, &after);
        if (after < s->n && strchr("<>^=", s->s[after]) != NULL && s->s[after] != '\0') {
            f->fill = first;
            f->align = s->s[after];
            pos = after + 1;
        } else if (strchr("<>^=", s->s[0]) != NULL) {
            f->align = s->s[0];
            pos = 1;
        }
    }
    if (pos < s->n && (s->s[pos] == '+' || s->s[pos] == ' ' || s->s[pos] == '-')) {
        f->sign = s->s[pos] == '-' ? 0 : s->s[pos];
        pos++;
    }
    if (pos < s->n && s->s[pos] == '#') {
        f->alternate = true;
        pos++;
    }
    if (pos < s->n && s->s[pos] == '0' && f->align == 0) {
        f->fill = '0';
        f->align = '=';
    }
    f->width = read_count(c, s, &pos, MAX_WIDTH);
    if (pos < s->n && s->s[pos] == ',') {
        f->grouped = true;
        pos++;
    }
    if (pos < s->n && s->s[pos] == '.') {
        pos++;
        f->precision = (int)read_count(c, s, &pos, MAX_PRECISION);
    }
    if (pos < s->n) f->type = s->s[pos++];
    return pos == s->n;
}

#define MAX_NESTED 2 /* "{:{}}", as in Python */

typedef struct {
    const exo_jargs *args;
    size_t next;
    bool counted, numbered; /* "{}" and "{0}" do not go together */
} brace_args;

static exo_jvalue expand(exo_jctx *c, brace_args *b, const exo_jstr *format, int nested);

/* "", "0", "name", each followed by .attr and [item] */
static exo_jvalue lookup(exo_jctx *c, brace_args *b, const exo_jstr *path) {
    size_t end = 0;
    bool digits = true;
    while (end < path->n && path->s[end] != '.' && path->s[end] != '[') {
        digits = digits && path->s[end] >= '0' && path->s[end] <= '9';
        end++;
    }
    exo_jvalue v = exo_jundefined, name = exo_jsubstr(c, path, 0, end);
    if (digits) {
        size_t pos = 0;
        b->counted |= end == 0;
        b->numbered |= end > 0;
        if (b->counted && b->numbered)
            return exo_jfail(c, "cannot switch between automatic and manual field numbering");
        size_t i = end == 0 ? b->next++ : (size_t)read_count(c, name.s, &pos, MAX_WIDTH);
        if (i >= b->args->n) return exo_jfail(c, "Replacement index %zu out of range", i);
        v = b->args->v[i];
    } else if (b->args->kw == NULL || !exo_jdict_get(c, b->args->kw, name, &v)) {
        return exo_jfail(c, "format field '%.*s' is missing", exo_jshown(name.s), name.s->s);
    }
    while (end < path->n && exo_jok(c)) {
        bool item = path->s[end++] == '[';
        size_t from = end;
        while (end < path->n &&
               (item ? path->s[end] != ']' : path->s[end] != '.' && path->s[end] != '[')) {
            end++;
        }
        exo_jvalue part = exo_jsubstr(c, path, from, end);
        v = exo_jget_path(c, v, part, exo_jabsent);
        if (item && end < path->n) end++;
    }
    return v;
}

/* The field between braces: path[!conversion][:spec]; the spec may hold fields. */
static void brace_field(exo_jctx *c, brace_args *b, const exo_jstr *inside, int nested) {
    const char *colon = inside->n > 0 ? memchr(inside->s, ':', inside->n) : NULL;
    size_t end = colon == NULL ? inside->n : (size_t)(colon - inside->s);
    exo_jvalue spec = exo_jsubstr(c, inside, end + 1, inside->n);
    const char *bang = end > 0 ? memchr(inside->s, '!', end) : NULL;
    char conversion = bang != NULL && bang + 2 == inside->s + end ? bang[1] : 0;
    if (bang != NULL) end = (size_t)(bang - inside->s);
    exo_jvalue path = exo_jsubstr(c, inside, 0, end);
    exo_jvalue v = lookup(c, b, path.s);
    field f;
    spec = expand(c, b, spec.s, nested + 1);
    bool valid = read_spec(c, spec.s, &f) && (bang == NULL) == (conversion == 0);
    if (!valid) exo_jfail(c, "Invalid format specifier");
    if (conversion == 'r') {
        size_t mark = exo_jmark(c);
        exo_jprint_repr(c, v);
        v = exo_jtake(c, mark);
    } else if (conversion == 's') {
        v = exo_jto_str(c, v);
    }
    if (spec.s->n > 0 && v.type == EXO_J_BOOL) v = exo_jint(v.b);
    if (spec.s->n > 0 && v.type != EXO_J_STRING && !is_number(v)) {
        exo_jfail(c, "unsupported format string passed to %s.__format__", exo_jtype_name(v));
    }
    if (f.grouped && v.type == EXO_J_STRING) exo_jfail(c, "Cannot specify ',' with 's'.");
    if (exo_jok(c)) put_field(c, &f, v);
}

/* The brace that ends what format->s[pos] begins, or SIZE_MAX. */
static size_t closing_brace(const exo_jstr *format, size_t pos) {
    int open = 0;
    for (; pos < format->n; pos++) {
        open += format->s[pos] == '{';
        open -= format->s[pos] == '}';
        if (open == 0) return pos;
    }
    return SIZE_MAX;
}

static exo_jvalue expand(exo_jctx *c, brace_args *b, const exo_jstr *format, int nested) {
    size_t mark = exo_jmark(c), pos = 0;
    if (nested >= MAX_NESTED && format->n > 0 && memchr(format->s, '{', format->n) != NULL)
        exo_jfail(c, "Max string recursion exceeded");
    while (pos < format->n && exo_jok(c)) {
        char ch = format->s[pos];
        bool doubled = pos + 1 < format->n && format->s[pos + 1] == ch && nested == 0;
        if (ch != '{' && ch != '}') {
            exo_jput(c, &format->s[pos++], 1);
        } else if (doubled) {
            exo_jput(c, &ch, 1);
            pos += 2;
        } else {
            size_t close = ch == '{' ? closing_brace(format, pos) : SIZE_MAX;
            if (close == SIZE_MAX) {
                exo_jfail(c, "Single '%c' encountered in format string", ch);
                break;
            }
            brace_field(c, b, exo_jsubstr(c, format, pos + 1, close).s, nested);
            pos = close + 1;
        }
    }
    return exo_jtake(c, mark);
}

exo_jvalue exo_jformat_braces(exo_jctx *c, const exo_jstr *format, const exo_jargs *a) {
    brace_args b = {.args = a};
    return expand(c, &b, format, 0);
}
