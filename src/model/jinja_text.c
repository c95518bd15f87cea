/* jinja_text.c - Unicode as Python's str sees it: UTF-8 walking, classes, case mapping.
 *
 * Callers hold valid UTF-8 (template sources are checked once, JSON strings are valid by
 * parsing), so walking needs no error path.  Classes come from utf8proc's categories. */
#include "model/jinja.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define SHOWN_BYTES 60 /* of a name in an error message */

uint32_t exo_jutf8_next(const char *s, size_t n, size_t *pos) {
    const unsigned char *b = (const unsigned char *)s + *pos;
    size_t left = n - *pos, len = b[0] < 0x80 ? 1 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
    if (len > left) len = left;
    uint32_t cp = len == 1 ? b[0] : b[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) cp = cp << 6 | (b[i] & 0x3Fu);
    *pos += len;
    return cp;
}

size_t exo_jutf8_prev(const char *s, size_t pos) {
    do {
        pos--;
    } while (pos > 0 && ((unsigned char)s[pos] & 0xC0) == 0x80);
    return pos;
}

int exo_jshown(const exo_jstr *s) {
    if (s->n <= SHOWN_BYTES) return (int)s->n;
    return (int)exo_jutf8_prev(s->s, SHOWN_BYTES + 1);
}

size_t exo_jutf8_count(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

bool exo_jutf8_valid(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        utf8proc_int32_t cp;
        utf8proc_ssize_t left = (utf8proc_ssize_t)(n - i);
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s + i, left, &cp);
        if (len <= 0) return false;
        i += (size_t)len;
    }
    return true;
}

size_t exo_jutf8_offset(const exo_jstr *s, size_t i_char) {
    if (i_char >= s->n_chars) return s->n;
    if (s->n == s->n_chars) return i_char;
    size_t pos = 0;
    for (; i_char > 0; i_char--) exo_jutf8_next(s->s, s->n, &pos);
    return pos;
}

static utf8proc_category_t category(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp); }

bool exo_jis_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    if (cp == 0x85) return true;
    utf8proc_category_t k = category(cp);
    return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

bool exo_jis_alpha(uint32_t cp) {
    utf8proc_category_t k = category(cp);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool exo_jis_decimal(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool exo_jis_digit(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    bool superscript = cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || (cp >= 0x2070 && cp <= 0x2079) ||
                       (cp >= 0x2080 && cp <= 0x2089);
    return superscript || category(cp) == UTF8PROC_CATEGORY_ND;
}

bool exo_jis_numeric(uint32_t cp) {
    utf8proc_category_t k = category(cp);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool exo_jis_word(uint32_t cp) { return cp == '_' || exo_jis_alpha(cp) || exo_jis_numeric(cp); }

bool exo_jis_upper(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LU; }

bool exo_jis_lower(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xAA || cp == 0xBA;
}

bool exo_jis_titlecase(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LT; }

bool exo_jis_identifier(uint32_t cp, bool first) {
    utf8proc_category_t k = category(cp);
    bool letter = cp == '_' || exo_jis_alpha(cp) || k == UTF8PROC_CATEGORY_NL;
    return letter || (!first && (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
                                 k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_PC));
}

bool exo_jis_printable(uint32_t cp) {
    if (cp == ' ') return true;
    utf8proc_category_t k = category(cp);
    bool separator = k >= UTF8PROC_CATEGORY_ZS && k <= UTF8PROC_CATEGORY_ZP;
    bool other = k == UTF8PROC_CATEGORY_CN || k >= UTF8PROC_CATEGORY_CC;
    return !separator && !other;
}

/* Letters whose upper case is longer than one character. */
static const struct {
    uint32_t cp;
    const char *upper, *title;
} expanding[] = {
    {0xDF, "SS", "Ss"},     {0x149, "\u02BCN", "\u02BCN"}, {0x1F0, "J\u030C", "J\u030C"},
    {0xFB00, "FF", "Ff"},   {0xFB01, "FI", "Fi"},          {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"}, {0xFB04, "FFL", "Ffl"},        {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
};

static bool put_expanded(exo_jctx *c, uint32_t cp, bool title) {
    for (size_t i = 0; i < sizeof expanding / sizeof *expanding; i++) {
        if (expanding[i].cp != cp) continue;
        exo_jputs(c, title ? expanding[i].title : expanding[i].upper);
        return true;
    }
    return false;
}

void exo_jput_upper(exo_jctx *c, uint32_t cp) {
    if (cp >= 0x80 && put_expanded(c, cp, false)) return;
    exo_jput_char(c, (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp));
}

void exo_jput_title(exo_jctx *c, uint32_t cp) {
    if (cp >= 0x80 && put_expanded(c, cp, true)) return;
    exo_jput_char(c, (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp));
}

void exo_jput_lower(exo_jctx *c, uint32_t cp) {
    if (cp == 0x130) {
        exo_jputs(c, "i\u0307");
        return;
    }
    exo_jput_char(c, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

void exo_jput_folded(exo_jctx *c, uint32_t cp) {
    utf8proc_int32_t parts[8];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n; i++) exo_jput_char(c, (uint32_t)parts[i]);
}

double exo_jparse_double(const char *s, size_t n, bool *ok) {
    char text[512], *end = text;
    *ok = false;
    const char *point = localeconv()->decimal_point;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        bool known =
            (s[i] >= '0' && s[i] <= '9') || (s[i] != '\0' && strchr("+-.eE", s[i]) != NULL);
        if (!known || k >= sizeof text - 1) return 0;
        text[k++] = s[i] == '.' && point[0] != '\0' ? point[0] : s[i];
    }
    text[k] = '\0';
    if (k == 0) return 0;
    double f = strtod(text, &end);
    *ok = *end == '\0';
    return f;
}
