/* pipeline_unicode.c - Unicode's normal forms, and what characters are.
 *
 * utf8proc has the tables; the order of marks is made here by counting, because a text of nothing
 * but marks must not take quadratic time. */
#include "model/pipeline.h"

#include "base/mem.h"
#include "model/utf8.h"

#include <utf8proc.h>

/* ---- characters ---- */

bool exo_is_white(uint32_t c) {
    if (c <= 0x20) return c == ' ' || (c >= '\t' && c <= '\r');
    if (c < 0x1680) return c == 0x85 || c == 0xA0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool category_within(uint32_t c, utf8proc_category_t from, utf8proc_category_t to) {
    utf8proc_category_t category = utf8proc_category((int32_t)c);
    return category >= from && category <= to;
}

bool exo_is_word_char(uint32_t c) {
    if (c == 0x200C || c == 0x200D) return true;
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
        (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189))
        return true; /* letters in circles and squares */
    return category_within(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) ||
           category_within(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PC);
}

bool exo_is_number(uint32_t c) {
    return category_within(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool exo_is_punctuation(uint32_t c) {
    if (c < 0x80)
        return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') &&
               !((c | 32) >= 'a' && (c | 32) <= 'z');
    return category_within(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

void exo_append_char(exo_buf *out, uint32_t c) {
    uint8_t bytes[4];
    exo_buf_append(out, bytes, exo_utf8_encode(c, bytes));
}

void exo_append_lower(exo_buf *out, uint32_t c) {
    exo_append_char(out, c == 0x130 ? 'i' : (uint32_t)utf8proc_tolower((int32_t)c));
    if (c == 0x130) exo_append_char(out, 0x307); /* the only one that becomes two */
}

void exo_append_stand_ins(exo_buf *out, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t c = s[i];
        if (c <= 0x20) {
            c += 0x100;
        } else if (c >= 0x7F && c <= 0xA0) {
            c = 0x121 + c - 0x7F;
        } else if (c == 0xAD) {
            c = 0x143;
        }
        exo_append_char(out, c);
    }
}

/* ---- normal forms ---- */

#define MAX_DECOMPOSED 32 /* code points; the longest, U+FDFA, has 18 */

typedef struct {
    int32_t *codes;
    size_t n, cap;
} codes;

static int class_of(int32_t c) { return utf8proc_get_property(c)->combining_class; }

/* Puts a run of marks in the order of their classes, those of one class as they were. */
static bool order_run(int32_t *run, size_t n, codes *spare) {
    size_t places[257] = {0};
    if (n < 2) return true;
    if (exo_grow((void **)&spare->codes, &spare->cap, n, sizeof *spare->codes) != 0) return false;
    for (size_t i = 0; i < n; i++) places[class_of(run[i]) + 1]++;
    for (int k = 1; k < 257; k++) places[k] += places[k - 1];
    for (size_t i = 0; i < n; i++) spare->codes[places[class_of(run[i])]++] = run[i];
    for (size_t i = 0; i < n; i++) run[i] = spare->codes[i];
    return true;
}

static bool order_marks(codes *all, codes *spare) {
    for (size_t i = 0, end; i < all->n; i = end) {
        end = i + 1;
        if (class_of(all->codes[i]) == 0) continue;
        while (end < all->n && class_of(all->codes[end]) != 0) end++;
        if (!order_run(all->codes + i, end - i, spare)) return false;
    }
    return true;
}

static bool decompose(const uint8_t *s, size_t n, int options, codes *all) {
    int boundary = 0;
    for (size_t i = 0, len; i < n; i += len) {
        exo_utf8_step(s + i, n - i, &len);
        int32_t c = (int32_t)exo_utf8_decode(s + i, len);
        if (exo_grow((void **)&all->codes, &all->cap, all->n + MAX_DECOMPOSED,
                     sizeof *all->codes) != 0)
            return false;
        ptrdiff_t made = utf8proc_decompose_char(c, all->codes + all->n, MAX_DECOMPOSED,
                                                 (utf8proc_option_t)options, &boundary);
        if (made < 1 || made > MAX_DECOMPOSED) { /* no code point has so many */
            all->codes[all->n] = c;
            made = 1;
        }
        all->n += (size_t)made;
    }
    return true;
}

static bool append_segment(exo_normal_form form, const uint8_t *s, size_t n, codes *all,
                           codes *spare, exo_buf *out) {
    bool compose = form == EXO_NFC || form == EXO_NFKC;
    bool compat = form == EXO_NFKC || form == EXO_NFKD;
    int options = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    all->n = 0;
    if (!decompose(s, n, options, all) || !order_marks(all, spare)) return false;
    if (compose) {
        ptrdiff_t left = utf8proc_normalize_utf32(all->codes, (ptrdiff_t)all->n,
                                                  UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (left >= 0) all->n = (size_t)left;
    }
    for (size_t i = 0; i < all->n; i++) exo_append_char(out, (uint32_t)all->codes[i]);
    return exo_buf_ok(out);
}

/* Characters that stay as they are and never join what is before them. */
static bool stays(exo_normal_form form, uint32_t c) {
    if (c < 0x80) return true;
    if (c >= 0x3400 && c <= 0x9FFF) return true; /* ideographs */
    if (form == EXO_NFC) return c < 0x300 || (c >= 0xAC00 && c <= 0xD7A3);
    return false;
}

bool exo_nfc_may_change(const uint8_t *s, size_t n) {
    uint8_t highest = 0;
    for (size_t i = 0; i < n; i++) highest = s[i] > highest ? s[i] : highest;
    return highest >= 0xCC; /* U+0300 and above begin so */
}

bool exo_normal_form_append(exo_normal_form form, const uint8_t *s, size_t n, exo_buf *out) {
    codes all = {0}, spare = {0};
    bool ok = true;
    size_t done = 0, last = 0; /* where the last character that stays begins */
    for (size_t i = 0, len; ok && i < n; i += len) {
        exo_utf8_step(s + i, n - i, &len);
        if (stays(form, exo_utf8_decode(s + i, len))) {
            last = i;
            continue;
        }
        size_t end = i + len;
        for (size_t more; end < n; end += more) {
            exo_utf8_step(s + end, n - end, &more);
            if (stays(form, exo_utf8_decode(s + end, more))) break;
        }
        exo_buf_append(out, s + done, last - done); /* what it may join is not in it */
        ok = append_segment(form, s + last, end - last, &all, &spare, out);
        done = last = end;
        len = end - i;
    }
    exo_buf_append(out, s + done, n - done);
    exo_free(all.codes);
    exo_free(spare.codes);
    return ok && exo_buf_ok(out);
}
