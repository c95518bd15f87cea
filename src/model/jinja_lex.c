/* jinja_lex.c - template source to tokens, with all of Jinja's white-space control.
 *
 * Set up as transformers does: trim_blocks (the newline after a block or comment tag goes),
 * lstrip_blocks (blanks before a tag that starts its line go), one trailing newline of the
 * template dropped, "-" and "+" markers.  Follows jinja2's own rules, including that brackets
 * must balance before an end tag counts as one: {{ {'a': {}} }}.
 * Knows nothing of grammar: keywords are names here. */
#include "model/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BRACKETS EXO_J_MAX_PARSE_DEPTH

typedef struct {
    exo_jctx *c;
    const char *s; /* newlines normalised */
    size_t n, pos;
    exo_jtoken *tokens;
    size_t n_tokens, cap;
    char closing[MAX_BRACKETS]; /* brackets still open */
    size_t n_open;
} lexer;

static bool looking_at(const lexer *lx, size_t pos, const char *text) {
    size_t n = strlen(text);
    return n <= lx->n - pos && memcmp(lx->s + pos, text, n) == 0;
}

static size_t skip_space(const lexer *lx, size_t pos) {
    while (pos < lx->n) {
        size_t next = pos;
        if (!exo_jis_space(exo_jutf8_next(lx->s, lx->n, &next))) break;
        pos = next;
    }
    return pos;
}

/* Moves on, counting lines. */
static void advance(lexer *lx, size_t to) {
    for (; lx->pos < to; lx->pos++) lx->c->line += lx->s[lx->pos] == '\n';
}

static exo_jtoken *emit(lexer *lx, exo_jtok kind) {
    exo_jctx *c = lx->c;
    if (lx->n_tokens == lx->cap) {
        size_t cap = lx->cap == 0 ? 64 : 2 * lx->cap;
        exo_jtoken *grown = exo_jalloc(c, cap, sizeof *grown);
        if (grown == NULL) return NULL;
        if (lx->n_tokens > 0) memcpy(grown, lx->tokens, lx->n_tokens * sizeof *grown);
        lx->tokens = grown;
        lx->cap = cap;
    }
    exo_jtoken *t = &lx->tokens[lx->n_tokens++];
    *t = (exo_jtoken){.kind = kind, .line = c->line};
    return t;
}

/* ---- text between tags ---- */

/* Text up to the tag at `to`, less what the tag's marker or lstrip_blocks takes from its end. */
static void emit_text(lexer *lx, size_t to, char marker, bool lstrip) {
    size_t from = lx->pos, end = to;
    if (marker == '-') {
        while (end > from) {
            size_t prev = exo_jutf8_prev(lx->s, end), at = prev;
            if (prev < from || !exo_jis_space(exo_jutf8_next(lx->s, lx->n, &at))) break;
            end = prev;
        }
    } else if (marker != '+' && lstrip) {
        size_t line = to;
        while (line > from && lx->s[line - 1] != '\n') line--;
        bool starts_line = line == 0 || lx->s[line - 1] == '\n';
        if (starts_line && skip_space(lx, line) >= to) end = line;
    }
    if (end > from) {
        exo_jtoken *t = emit(lx, EXO_J_TOK_DATA);
        if (t != NULL) t->value = exo_jstring_borrow(lx->c, lx->s + from, end - from);
    }
    advance(lx, to);
}

static char marker_at(const lexer *lx, size_t pos) {
    return pos < lx->n && (lx->s[pos] == '-' || lx->s[pos] == '+') ? lx->s[pos] : '\0';
}

/* End of the "-%}", "+%}" or "%}" at pos with the white space it eats, or 0. */
static size_t tag_end(const lexer *lx, size_t pos, const char *close, bool trim) {
    char marker = marker_at(lx, pos);
    if (marker == '+' && !trim) return 0; /* }} knows no plus */
    size_t at = pos + (marker != '\0');
    if (at > lx->n || !looking_at(lx, at, close)) return 0;
    at += 2;
    if (marker == '-') return skip_space(lx, at);
    return marker == '\0' && trim && at < lx->n && lx->s[at] == '\n' ? at + 1 : at;
}

static void lex_comment(lexer *lx, size_t body) {
    for (size_t pos = body; pos < lx->n; pos++) {
        size_t end = tag_end(lx, pos, "#}", true);
        if (end == 0) continue;
        advance(lx, end);
        return;
    }
    exo_jfail(lx->c, "Missing end of comment tag");
}

/* Position behind "{% name %}" that begins at pos, or 0. */
static size_t match_word_tag(const lexer *lx, size_t pos, const char *name, bool is_end) {
    if (!looking_at(lx, pos, "{%")) return 0;
    pos += 2;
    if (marker_at(lx, pos) != '\0') pos++;
    pos = skip_space(lx, pos);
    if (!looking_at(lx, pos, name)) return 0;
    pos = skip_space(lx, pos + strlen(name));
    if (pos < lx->n && lx->s[pos] == '+' && !is_end) return 0;
    return tag_end(lx, pos, "%}", is_end || marker_at(lx, pos) == '-');
}

static void lex_raw(lexer *lx) {
    for (size_t pos = lx->pos; pos < lx->n; pos++) {
        const char *brace = memchr(lx->s + pos, '{', lx->n - pos);
        if (brace == NULL) break;
        pos = (size_t)(brace - lx->s);
        size_t end = match_word_tag(lx, pos, "endraw", true);
        if (end == 0) continue;
        emit_text(lx, pos, marker_at(lx, pos + 2), true);
        advance(lx, end);
        return;
    }
    if (lx->pos < lx->n) exo_jfail(lx->c, "Missing end of raw directive");
}

/* ---- inside tags ---- */

static bool is_decimal(char b) { return b >= '0' && b <= '9'; }

/* Digits with single underscores between them, from pos; the end, or pos when there are none. */
static size_t skip_digits(const lexer *lx, size_t pos) {
    size_t end = pos;
    while (pos < lx->n && is_decimal(lx->s[pos])) {
        end = ++pos;
        if (pos < lx->n && lx->s[pos] == '_') pos++;
    }
    return end;
}

static size_t float_end(const lexer *lx, size_t pos) {
    if (pos > 0 && lx->s[pos - 1] == '.') return 0;
    size_t whole = skip_digits(lx, pos), end = 0, at = whole;
    if (at + 1 < lx->n && lx->s[at] == '.' && is_decimal(lx->s[at + 1])) {
        end = at = skip_digits(lx, at + 1);
    }
    if (at < lx->n && (lx->s[at] | 0x20) == 'e') {
        size_t exp = at + 1;
        if (exp < lx->n && (lx->s[exp] == '+' || lx->s[exp] == '-')) exp++;
        if (exp < lx->n && is_decimal(lx->s[exp])) end = skip_digits(lx, exp);
    }
    return end;
}

static int digit_value(char b) {
    if (is_decimal(b)) return b - '0';
    char lower = (char)(b | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

static size_t lex_int(lexer *lx, size_t pos, int64_t *out) {
    int base = 10;
    if (lx->s[pos] == '0' && pos + 1 < lx->n) {
        char kind = (char)(lx->s[pos + 1] | 0x20);
        base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    }
    size_t at = base == 10 ? pos : pos + 2, end = pos + 1;
    bool zeros = base == 10 && lx->s[pos] == '0'; /* 007 is 00 followed by 7 */
    int64_t value = 0;
    for (; at < lx->n; at++) {
        if (lx->s[at] == '_' && at + 1 < lx->n && digit_value(lx->s[at + 1]) < base) continue;
        int d = digit_value(lx->s[at]);
        if (d >= base || (zeros && d != 0)) break;
        if (value > (INT64_MAX - d) / base) {
            exo_jfail(lx->c, "an integer literal does not fit 64 bits");
            return lx->n;
        }
        value = value * base + d;
        end = at + 1;
    }
    *out = value;
    return end;
}

static void lex_number(lexer *lx) {
    exo_jtoken *t = emit(lx, EXO_J_TOK_NUMBER);
    if (t == NULL) return;
    size_t end = float_end(lx, lx->pos);
    if (end == 0) {
        int64_t value = 0;
        end = lex_int(lx, lx->pos, &value);
        t->value = exo_jint(value);
    } else {
        char digits[128];
        size_t n = 0;
        for (size_t i = lx->pos; i < end && n < sizeof digits; i++) {
            if (lx->s[i] != '_') digits[n++] = lx->s[i];
        }
        bool ok;
        t->value = exo_jfloat(exo_jparse_double(digits, n, &ok));
        if (!ok || n == sizeof digits) exo_jfail(lx->c, "a float literal is too long");
    }
    advance(lx, end);
}

/* Reads up to max hex digits; false unless all max are there. */
static bool read_hex(const char *s, size_t n, size_t *pos, int max, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < max; i++, (*pos)++) {
        int d = *pos < n ? digit_value(s[*pos]) : 99;
        if (d >= 16) return false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

/* One escape; pos stands behind the backslash.  Unknown escapes keep it, as in Python. */
static void unescape(lexer *lx, const char *s, size_t n, size_t *pos) {
    static const char letters[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    exo_jctx *c = lx->c;
    char kind = s[*pos];
    const char *at = kind == '\0' ? NULL : strchr(letters, kind);
    uint32_t cp = 0;
    if (at != NULL) {
        (*pos)++;
        exo_jput_char(c, (uint32_t)(unsigned char)values[at - letters]);
    } else if (kind == '\n') {
        (*pos)++;
    } else if (kind >= '0' && kind <= '7') {
        for (int i = 0; i < 3 && *pos < n && s[*pos] >= '0' && s[*pos] <= '7'; i++) {
            cp = cp << 3 | (uint32_t)(s[(*pos)++] - '0');
        }
        exo_jput_char(c, cp);
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
        (*pos)++;
        bool ok = read_hex(s, n, pos, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, &cp);
        if (!ok || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) {
            exo_jfail(c, "bad \\%c escape in a string", kind);
        } else {
            exo_jput_char(c, cp);
        }
    } else if (kind == 'N') {
        exo_jfail(c, "\\N{...} escapes are not supported");
    } else {
        exo_jputs(c, "\\");
    }
}

static bool lex_string(lexer *lx) {
    char quote = lx->s[lx->pos];
    size_t from = lx->pos + 1, end = from;
    bool escapes = false;
    while (end < lx->n && lx->s[end] != quote) {
        if (lx->s[end] == '\\') {
            escapes = true;
            end++;
        }
        end++;
    }
    if (end >= lx->n) return false;
    exo_jtoken *t = emit(lx, EXO_J_TOK_STRING);
    if (t == NULL) return true;
    if (!escapes) {
        t->value = exo_jname(lx->c, lx->s + from, end - from);
    } else {
        size_t mark = exo_jmark(lx->c);
        for (size_t pos = from; pos < end && exo_jok(lx->c);) {
            if (lx->s[pos] != '\\') {
                exo_jput(lx->c, lx->s + pos++, 1);
                continue;
            }
            pos++;
            unescape(lx, lx->s, end, &pos);
        }
        t->value = exo_jtake(lx->c, mark);
    }
    advance(lx, end + 1);
    return true;
}

static bool check_bracket(lexer *lx, char b) {
    const char *pairs = "()[]{}", *at = strchr(pairs, b);
    if (at == NULL) return true;
    if ((at - pairs) % 2 == 0) {
        if (lx->n_open == MAX_BRACKETS) {
            exo_jfail(lx->c, "nested deeper than %d levels", MAX_BRACKETS);
            return false;
        }
        lx->closing[lx->n_open++] = at[1];
        return true;
    }
    if (lx->n_open == 0)
        exo_jfail(lx->c, "unexpected '%c'", b);
    else if (lx->closing[--lx->n_open] != b) {
        exo_jfail(lx->c, "unexpected '%c', expected '%c'", b, lx->closing[lx->n_open]);
    }
    return exo_jok(lx->c);
}

static bool lex_operator(lexer *lx) {
    static const char *const operators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!looking_at(lx, lx->pos, operators[i])) continue;
        if (!check_bracket(lx, operators[i][0])) return true;
        exo_jtoken *t = emit(lx, EXO_J_TOK_OP);
        if (t != NULL) memcpy(t->op, operators[i], strlen(operators[i]));
        advance(lx, lx->pos + strlen(operators[i]));
        return true;
    }
    return false;
}

static void lex_name(lexer *lx) {
    size_t end = lx->pos;
    while (end < lx->n) {
        size_t next = end;
        if (!exo_jis_word(exo_jutf8_next(lx->s, lx->n, &next))) break;
        end = next;
    }
    exo_jtoken *t = emit(lx, EXO_J_TOK_NAME);
    if (t != NULL) t->value = exo_jname(lx->c, lx->s + lx->pos, end - lx->pos);
    advance(lx, end);
}

static void lex_one(lexer *lx) {
    size_t next = lx->pos;
    uint32_t cp = exo_jutf8_next(lx->s, lx->n, &next);
    if (exo_jis_space(cp)) {
        advance(lx, skip_space(lx, lx->pos));
    } else if (cp >= '0' && cp <= '9') {
        lex_number(lx);
    } else if (exo_jis_word(cp)) {
        lex_name(lx);
    } else if ((cp == '\'' || cp == '"') && lex_string(lx)) {
        return;
    } else if (!lex_operator(lx)) {
        exo_jfail(lx->c, "unexpected char '%.*s'", (int)(next - lx->pos), lx->s + lx->pos);
    }
}

/* Tokens of one {{ }} or {% %}, its end included; pos stands behind the opening marker. */
static void lex_code(lexer *lx, bool block) {
    while (lx->pos < lx->n && exo_jok(lx->c)) {
        size_t end = 0;
        if (lx->n_open == 0) end = tag_end(lx, lx->pos, block ? "%}" : "}}", block);
        if (end != 0) {
            emit(lx, block ? EXO_J_TOK_BLOCK_END : EXO_J_TOK_VARIABLE_END);
            advance(lx, end);
            return;
        }
        lex_one(lx);
    }
}

/* ---- the whole source ---- */

static size_t find_tag(const lexer *lx) {
    for (size_t pos = lx->pos; pos + 1 < lx->n; pos++) {
        const char *brace = memchr(lx->s + pos, '{', lx->n - 1 - pos);
        if (brace == NULL) break;
        pos = (size_t)(brace - lx->s);
        if (strchr("%{#", lx->s[pos + 1]) != NULL && lx->s[pos + 1] != '\0') return pos;
    }
    return lx->n;
}

static void lex_tag(lexer *lx, size_t tag) {
    char kind = lx->s[tag + 1], marker = marker_at(lx, tag + 2);
    size_t raw_end = kind == '%' ? match_word_tag(lx, tag, "raw", false) : 0;
    emit_text(lx, tag, marker, kind != '{');
    if (raw_end != 0) {
        advance(lx, raw_end);
        lex_raw(lx);
        return;
    }
    size_t body = tag + 2 + (marker != '\0');
    if (kind == '#') {
        lex_comment(lx, body);
        return;
    }
    emit(lx, kind == '%' ? EXO_J_TOK_BLOCK_BEGIN : EXO_J_TOK_VARIABLE_BEGIN);
    advance(lx, body);
    lex_code(lx, kind == '%');
}

/* "\r\n" and "\r" become "\n"; one newline at the very end goes. */
static char *normalize(exo_jctx *c, const char *source, size_t n, size_t *out_n) {
    char *s = exo_jalloc(c, n + 1, 1);
    if (s == NULL) return NULL;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        bool cr = source[i] == '\r';
        if (cr && i + 1 < n && source[i + 1] == '\n') i++;
        s[k++] = cr ? '\n' : source[i];
    }
    if (k > 0 && s[k - 1] == '\n') k--;
    *out_n = k;
    return s;
}

const exo_jtoken *exo_jlex(exo_jctx *c, const char *source, size_t n) {
    lexer lx = {.c = c};
    c->line = 1;
    if (!exo_jutf8_valid(source, n)) exo_jfail(c, "the template is not valid UTF-8");
    lx.s = normalize(c, source, n, &lx.n);
    while (exo_jok(c) && lx.pos < lx.n) {
        size_t tag = find_tag(&lx);
        if (tag == lx.n) {
            emit_text(&lx, lx.n, '+', false);
            break;
        }
        lex_tag(&lx, tag);
    }
    emit(&lx, EXO_J_TOK_EOF);
    return exo_jok(c) ? lx.tokens : NULL;
}
