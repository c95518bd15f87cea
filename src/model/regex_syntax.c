/* regex_syntax.c - an expression in Oniguruma's syntax respelled for PCRE2.
 *
 * One pass from left to right that copies what both mean alike.  White space, word characters and
 * the names of scripts are spelled out: PCRE2's \s also holds U+180E, its \w depends on its
 * version, and its \p{Han} is by extensions of scripts.  An interval with a plus behind it repeats
 * the interval, where PCRE2 would take it as possessive.  Sets within sets are refused. */
#include "model/regex.h"

#include "model/utf8.h"

#include <string.h>

#define WHITE                                                                                      \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"    \
    "\\x{205F}\\x{3000}"
#define NOT_WHITE                                                                                  \
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-"         \
    "\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"        \
    "\\x{3001}-\\x{D7FF}\\x{E000}-\\x{10FFFF}"
#define POSIX_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD       POSIX_WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* Latin-1's numbers, no others */
#define BOUNDARY   "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
#define INSIDE     "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"

#define NO_ATOM SIZE_MAX

typedef struct {
    const char *s;
    size_t n, i;
    exo_buf *out;
    size_t atom; /* where in out what a quantifier repeats begins */
    size_t groups[EXO_REGEX_MAX_GROUPS];
    size_t n_groups;
    exo_error *err;
} spelling;

static exo_status refuse(const spelling *p, size_t at, const char *what) {
    size_t n = p->n - at < 24 ? p->n - at : 24;
    return exo_error_set(p->err, EXO_EUNSUPPORTED,
                         "%s in an expression of the tokenizer is not supported: \"%.*s\"", what,
                         (int)n, p->s + at);
}

static bool looking_at(const spelling *p, const char *text) {
    size_t n = strlen(text);
    return p->n - p->i >= n && memcmp(p->s + p->i, text, n) == 0;
}

static void copy(spelling *p, size_t n) {
    exo_buf_append(p->out, p->s + p->i, n);
    p->i += n;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f'); }
static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

/* ---- properties ---- */

static const struct {
    const char *theirs, *ours;
} categories[] = {
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
    {"alphabetic", "Alphabetic"},
    {"uppercase", "Uppercase"},
    {"lowercase", "Lowercase"},
    {"ideographic", "Ideographic"},
    {"emoji", "Emoji"},
    {"any", "Any"},
};

/* The name of a property in small letters, without spaces and underlines. */
static size_t fold_name(const char *s, size_t n, char out[32]) {
    size_t k = 0;
    for (size_t i = 0; i < n && k < 31; i++) {
        if (s[i] != ' ' && s[i] != '_' && s[i] != '-')
            out[k++] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 32 : s[i]);
    }
    out[k] = '\0';
    return k;
}

/* \p{L}, \P{Han}, \p{^Letter} from the backslash on. */
static exo_status property(spelling *p) {
    size_t at = p->i;
    bool negated = p->s[p->i + 1] == 'P';
    const char *name = p->s + p->i + 3;
    const char *end = p->i + 3 < p->n ? memchr(name, '}', p->n - p->i - 3) : NULL;
    if (p->i + 3 >= p->n || p->s[p->i + 2] != '{' || end == NULL || end - name > 30)
        return refuse(p, at, "a property");
    p->i = (size_t)(end - p->s) + 1;
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    char folded[32];
    size_t n = fold_name(name, (size_t)(end - name), folded);
    const char *ours = NULL;
    for (size_t k = 0; k < sizeof categories / sizeof *categories; k++) {
        if (strcmp(categories[k].theirs, folded) == 0) ours = categories[k].ours;
    }
    for (size_t k = 0; k < n; k++) {
        if (!is_letter(folded[k])) return refuse(p, at, "a property");
    }
    exo_buf_puts(p->out, negated ? "\\P{" : "\\p{");
    if (ours != NULL) {
        exo_buf_puts(p->out, ours);
    } else if (n <= 2) { /* Lu */
        exo_buf_append(p->out, name, (size_t)(end - name));
    } else {
        exo_buf_printf(p->out, "sc:%s", folded);
    }
    exo_buf_putc(p->out, '}');
    return EXO_OK;
}

/* ---- escapes ---- */

/* \x{..}, \xHH and \uHHHH. */
static exo_status by_number(spelling *p) {
    size_t at = p->i, digits = 0, begin = p->i + 2;
    bool braces = p->s[p->i + 1] == 'x' && begin < p->n && p->s[begin] == '{';
    begin += braces;
    while (begin + digits < p->n && digits < 8 && is_hex(p->s[begin + digits])) digits++;
    if (!braces && digits > (p->s[p->i + 1] == 'x' ? 2 : 4)) digits = p->s[p->i + 1] == 'x' ? 2 : 4;
    bool closed = !braces || (begin + digits < p->n && p->s[begin + digits] == '}');
    bool whole = p->s[p->i + 1] == 'u' ? digits == 4 : digits > 0;
    /* \x80 and above mean bytes. */
    if (!braces && p->s[p->i + 1] == 'x' && (digits != 2 || p->s[begin] > '7')) whole = false;
    if (!closed || !whole) return refuse(p, at, "a character by its number");
    exo_buf_printf(p->out, "\\x{%.*s}", (int)digits, p->s + begin);
    p->i = begin + digits + braces;
    return EXO_OK;
}

/* What \c stands for as part of a class, without brackets; NULL: something else. */
static const char *class_of(char c) {
    switch (c) {
    case 's': return WHITE;
    case 'S': return NOT_WHITE;
    case 'd': return "\\p{Nd}";
    case 'D': return "\\P{Nd}";
    case 'w': return WORD;
    case 'h': return "0-9A-Fa-f";
    default: return NULL;
    }
}

/* Escapes that mean one character to both, or the same place in a text. */
static bool is_plain_escape(char c, bool in_class) {
    if (strchr("nrtfae", c) != NULL) return true;
    if (!in_class && strchr("AzZG", c) != NULL) return true;
    return !is_letter(c) && !is_digit(c) && (uint8_t)c < 0x80;
}

static exo_status escape(spelling *p, bool in_class) {
    if (p->i + 1 >= p->n) return refuse(p, p->i, "a backslash at the end");
    char c = p->s[p->i + 1];
    const char *class = class_of(c);
    if (c == 'p' || c == 'P') return property(p);
    if (c == 'x' || c == 'u') return by_number(p);
    if (class != NULL) {
        exo_buf_printf(p->out, in_class ? "%s" : "[%s]", class);
    } else if (c == 'v') {
        exo_buf_puts(p->out, "\\x{B}");
    } else if (c == 'W' && !in_class) {
        exo_buf_puts(p->out, "[^" WORD "]");
    } else if (c == 'H' && !in_class) {
        exo_buf_puts(p->out, "[^0-9A-Fa-f]");
    } else if (c == 'b' && !in_class) {
        exo_buf_puts(p->out, BOUNDARY);
    } else if (c == 'B' && !in_class) {
        exo_buf_puts(p->out, INSIDE);
    } else if (c != '\0' && is_plain_escape(c, in_class)) {
        exo_buf_append(p->out, p->s + p->i, 2);
    } else {
        return refuse(p, p->i, "an escape");
    }
    p->i += 2;
    return EXO_OK;
}

/* ---- classes ---- */

static const struct {
    const char *theirs, *ours;
} posix[] = {
    {"[:space:]", WHITE},
    {"[:digit:]", "\\p{Nd}"},
    {"[:alpha:]", "\\p{Alphabetic}"},
    {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
    {"[:upper:]", "\\p{Uppercase}"},
    {"[:lower:]", "\\p{Lowercase}"},
    {"[:word:]", POSIX_WORD},
    {"[:xdigit:]", "0-9A-Fa-f"},
    {"[:cntrl:]", "\\p{Cc}"},
};

static bool posix_class(spelling *p) {
    for (size_t k = 0; k < sizeof posix / sizeof *posix; k++) {
        if (!looking_at(p, posix[k].theirs)) continue;
        exo_buf_puts(p->out, posix[k].ours);
        p->i += strlen(posix[k].theirs);
        return true;
    }
    return false;
}

/* Whether a class, not a character, begins here: no end of a range. */
static bool class_here(const spelling *p) {
    if (looking_at(p, "[:")) return true;
    if (p->i + 1 >= p->n || p->s[p->i] != '\\') return false;
    char c = p->s[p->i + 1];
    return c == 'p' || c == 'P' || class_of(c) != NULL;
}

static exo_status class_item(spelling *p, bool *was_class) {
    if (looking_at(p, "&&")) return refuse(p, p->i, "an intersection of sets");
    if (p->s[p->i] == '[') {
        if (!posix_class(p)) return refuse(p, p->i, "a set within a set");
        *was_class = true;
        return EXO_OK;
    }
    if (p->s[p->i] == '\\') {
        *was_class = class_here(p);
        return escape(p, true);
    }
    if (p->s[p->i] == '-') {
        p->i++;
        bool plain = *was_class || class_here(p);
        exo_buf_puts(p->out, plain ? "\\-" : "-");
        *was_class = false;
        return EXO_OK;
    }
    *was_class = false;
    copy(p, 1);
    return EXO_OK;
}

static exo_status class(spelling *p) {
    size_t begin = p->i;
    bool was_class = false;
    exo_status st = EXO_OK;
    copy(p, 1);
    if (looking_at(p, "^")) copy(p, 1);
    if (looking_at(p, "]")) return refuse(p, begin, "a set that begins with ']'");
    while (st == EXO_OK && p->i < p->n && p->s[p->i] != ']') st = class_item(p, &was_class);
    if (st != EXO_OK) return st;
    if (p->i >= p->n)
        return exo_error_set(p->err, EXO_EFORMAT,
                             "an expression of the tokenizer has a set "
                             "without an end");
    copy(p, 1);
    return EXO_OK;
}

/* ---- groups and quantifiers ---- */

static exo_status open_group(spelling *p) {
    static const char *const known[] = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
    if (p->n_groups == EXO_REGEX_MAX_GROUPS) return refuse(p, p->i, "so many groups");
    size_t at = p->out->n, len = 0;
    if (!looking_at(p, "(?")) len = 1;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (looking_at(p, known[k])) len = strlen(known[k]);
    }
    if (looking_at(p, "(?i)")) { /* Oniguruma: for the rest, as if it were a group */
        if (p->i > 0) return refuse(p, p->i, "an option within an expression");
        copy(p, 4);
        p->atom = NO_ATOM;
        return EXO_OK;
    }
    if (len == 0 && looking_at(p, "(?<") && p->i + 3 < p->n && is_letter(p->s[p->i + 3])) len = 3;
    if (len == 0) return refuse(p, p->i, "this kind of group");
    copy(p, len);
    p->groups[p->n_groups++] = at;
    p->atom = NO_ATOM;
    return EXO_OK;
}

/* "{2}", "{2,}", "{2,5}", "{,5}": its length; 0: plain characters. */
static size_t interval_at(const spelling *p, bool *exact, bool *from_zero) {
    size_t k = p->i + 1;
    if (p->s[p->i] != '{') return 0;
    while (k < p->n && is_digit(p->s[k])) k++;
    *from_zero = k == p->i + 1;
    *exact = k < p->n && p->s[k] == '}';
    if (*exact) return *from_zero ? 0 : k + 1 - p->i;
    if (k >= p->n || p->s[k] != ',') return 0;
    size_t comma = k++;
    while (k < p->n && is_digit(p->s[k])) k++;
    if (k >= p->n || p->s[k] != '}' || (*from_zero && k == comma + 1)) return 0;
    return k + 1 - p->i;
}

static bool is_quantifier(const spelling *p) {
    bool exact, from_zero;
    if (p->i >= p->n || p->s[p->i] == '\0') return false;
    return strchr("*+?", p->s[p->i]) != NULL || interval_at(p, &exact, &from_zero) > 0;
}

/* Puts (?: and ) around the atom, which another quantifier follows. */
static void wrap(spelling *p) {
    size_t n = p->out->n - p->atom;
    exo_buf_puts(p->out, "(?:)");
    if (!exo_buf_ok(p->out)) return;
    char *atom = p->out->data + p->atom;
    memmove(atom + 3, atom, n);
    memcpy(atom, "(?:", 3);
    p->out->data[p->out->n - 1] = ')';
}

static exo_status quantifier(spelling *p) {
    size_t at = p->i;
    bool exact = false, from_zero = false;
    size_t n = interval_at(p, &exact, &from_zero);
    if (p->atom == NO_ATOM) return refuse(p, at, "a repetition of nothing");
    if (n == 0) {
        copy(p, 1);
        if (looking_at(p, "?") || looking_at(p, "+")) copy(p, 1);
    } else {
        exo_buf_puts(p->out, from_zero ? "{0" : "{");
        p->i++;
        copy(p, n - 1);
        if (exact && looking_at(p, "?")) return refuse(p, at, "a repetition");
        if (looking_at(p, "?")) copy(p, 1);
    }
    if (is_quantifier(p)) wrap(p);
    return EXO_OK;
}

static exo_status item(spelling *p) {
    char c = p->s[p->i];
    size_t begin = p->out->n;
    exo_status st = EXO_OK;
    if (c == '(') return open_group(p);
    if (c == ')') {
        if (p->n_groups == 0)
            return exo_error_set(p->err, EXO_EFORMAT,
                                 "an expression of the tokenizer has a ')' too many");
        copy(p, 1);
        p->atom = p->groups[--p->n_groups];
        return EXO_OK;
    }
    if (c == '|') {
        copy(p, 1);
        p->atom = NO_ATOM;
        return EXO_OK;
    }
    if (is_quantifier(p)) return quantifier(p);
    if (c == '\\') {
        st = escape(p, false);
    } else if (c == '[') {
        st = class(p);
    } else if (c == '{' || c == '}' || c == ']') {
        exo_buf_printf(p->out, "\\%c", c);
        p->i++;
    } else {
        size_t len;
        exo_utf8_step((const uint8_t *)p->s + p->i, p->n - p->i, &len);
        copy(p, len);
    }
    p->atom = begin;
    return st;
}

exo_status exo_regex_respell(exo_str pattern, exo_buf *out, exo_error *err) {
    spelling p = {.s = pattern.s, .n = pattern.n, .out = out, .atom = NO_ATOM, .err = err};
    exo_status st = EXO_OK;
    if (pattern.n > EXO_REGEX_MAX_BYTES)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "an expression of the tokenizer has %zu bytes; %u are accepted",
                             pattern.n, EXO_REGEX_MAX_BYTES);
    while (st == EXO_OK && p.i < p.n) st = item(&p);
    if (st == EXO_OK && !exo_buf_ok(out))
        st = exo_error_set(err, EXO_ENOMEM, "out of memory for a regular expression");
    return st;
}
