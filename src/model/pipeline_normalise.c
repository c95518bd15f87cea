/* pipeline_normalise.c - the normalizer of a tokenizer.json, step by step.
 *
 * Each step reads one buffer and writes the other; plain ASCII, which most steps leave alone, is
 * passed through without a copy. */
#include "model/pipeline.h"

#include "base/le.h"
#include "base/mem.h"
#include "model/charsmap.h"
#include "model/utf8.h"

#include <string.h>
#include <utf8proc.h>

#define MAX_CHARSMAP_BYTES (64u << 20)
#define MAX_GROWTH         64 /* a text may become so many times as long, and 1 MiB */

void exo_normaliser_finish(exo_normaliser *s) {
    exo_regex_destroy(s->regex);
    exo_free(s->text);
    *s = (exo_normaliser){0};
}

/* ---- reading ---- */

static exo_normaliser *next_step(exo_pipeline *p, exo_normaliser_kind kind, exo_error *err) {
    if (p->n_norms == EXO_PIPELINE_MAX_STEPS) {
        (void)exo_error_set(err, EXO_EUNSUPPORTED, "the normalizer has more than %u steps",
                            EXO_PIPELINE_MAX_STEPS);
        return NULL;
    }
    exo_normaliser *s = &p->norms[p->n_norms++];
    s->kind = kind;
    return s;
}

static exo_status add_simple(exo_pipeline *p, exo_normaliser_kind kind, exo_error *err) {
    return next_step(p, kind, err) != NULL ? EXO_OK : EXO_EUNSUPPORTED;
}

static exo_status read_bert(exo_pipeline *p, const json_t *j, exo_error *err) {
    bool clean, chinese, lower, strip;
    exo_status st = exo_json_flag(j, "clean_text", true, &clean, err);
    if (st == EXO_OK) st = exo_json_flag(j, "handle_chinese_chars", true, &chinese, err);
    if (st == EXO_OK) st = exo_json_flag(j, "lowercase", true, &lower, err);
    if (st == EXO_OK) st = exo_json_flag(j, "strip_accents", lower, &strip, err);
    if (st == EXO_OK && clean) st = add_simple(p, EXO_NORMALISE_CLEAN, err);
    if (st == EXO_OK && chinese) st = add_simple(p, EXO_NORMALISE_CHINESE, err);
    if (st == EXO_OK && strip) {
        exo_normaliser *s = next_step(p, EXO_NORMALISE_FORM, err);
        if (s == NULL) return EXO_EUNSUPPORTED;
        s->form = EXO_NFD;
        st = add_simple(p, EXO_NORMALISE_STRIP_MN, err);
    }
    if (st == EXO_OK && lower) st = add_simple(p, EXO_NORMALISE_LOWERCASE, err);
    return st;
}

static int digit64(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64; false where it is none. */
static bool decode64(const char *s, size_t n, uint8_t *out, size_t *n_out) {
    uint32_t bits = 0;
    size_t k = 0, n_bits = 0;
    while (n > 0 && s[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        int d = digit64(s[i]);
        if (d < 0) return false;
        bits = bits << 6 | (uint32_t)d;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        out[k++] = (uint8_t)(bits >> n_bits);
    }
    *n_out = k;
    return true;
}

static exo_status read_charsmap(exo_pipeline *p, const json_t *j, exo_error *err) {
    const json_t *map = json_object_get(j, "precompiled_charsmap");
    size_t n = json_string_length(map);
    if (map == NULL || json_is_null(map) || (json_is_string(map) && n == 0)) return EXO_OK;
    exo_normaliser *s = next_step(p, EXO_NORMALISE_CHARSMAP, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    if (!json_is_string(map) || n > MAX_CHARSMAP_BYTES)
        return exo_error_set(err, EXO_EFORMAT, "precompiled_charsmap is no text of up to %u bytes",
                             MAX_CHARSMAP_BYTES);
    s->text = exo_malloc(n);
    if (s->text == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a charsmap");
    if (!decode64(json_string_value(map), n, s->text, &s->n_text) ||
        !exo_charsmap_is_whole(s->text, s->n_text))
        return exo_error_set(err, EXO_EFORMAT,
                             "precompiled_charsmap is not a table and the texts it points to");
    return EXO_OK;
}

static exo_status read_replace(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_normaliser *s = next_step(p, EXO_NORMALISE_REPLACE, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    exo_status st = exo_json_pattern(j, &s->regex, err);
    if (st != EXO_OK) return st;
    return exo_json_copy(j, "content", (char **)&s->text, &s->n_text, err);
}

static exo_status read_strip(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_normaliser *s = next_step(p, EXO_NORMALISE_STRIP, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    exo_status st = exo_json_flag(j, "strip_left", true, &s->left, err);
    return st == EXO_OK ? exo_json_flag(j, "strip_right", true, &s->right, err) : st;
}

static exo_status read_prepend(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_normaliser *s = next_step(p, EXO_NORMALISE_PREPEND, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    return exo_json_copy(j, "prepend", (char **)&s->text, &s->n_text, err);
}

static exo_status read_one(exo_pipeline *p, const json_t *j, exo_error *err) {
    static const struct {
        const char *type;
        exo_normaliser_kind kind;
        exo_normal_form form;
    } simple[] = {
        {"NFC", EXO_NORMALISE_FORM, EXO_NFC},
        {"NFD", EXO_NORMALISE_FORM, EXO_NFD},
        {"NFKC", EXO_NORMALISE_FORM, EXO_NFKC},
        {"NFKD", EXO_NORMALISE_FORM, EXO_NFKD},
        {"Lowercase", EXO_NORMALISE_LOWERCASE, 0},
        {"StripAccents", EXO_NORMALISE_STRIP_ACCENTS, 0},
        {"Nmt", EXO_NORMALISE_NMT, 0},
        {"ByteLevel", EXO_NORMALISE_STAND_INS, 0},
    };
    const char *type = exo_json_text(j, "type");
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++) {
        if (strcmp(simple[i].type, type) != 0) continue;
        exo_normaliser *s = next_step(p, simple[i].kind, err);
        if (s == NULL) return EXO_EUNSUPPORTED;
        s->form = simple[i].form;
        return EXO_OK;
    }
    if (strcmp(type, "BertNormalizer") == 0) return read_bert(p, j, err);
    if (strcmp(type, "Precompiled") == 0) return read_charsmap(p, j, err);
    if (strcmp(type, "Replace") == 0) return read_replace(p, j, err);
    if (strcmp(type, "Strip") == 0) return read_strip(p, j, err);
    if (strcmp(type, "Prepend") == 0) return read_prepend(p, j, err);
    return exo_error_set(err, EXO_EUNSUPPORTED, "normalizer \"%.32s\" is not supported", type);
}

static exo_status read_nested(exo_pipeline *p, const json_t *j, int depth, exo_error *err) {
    const json_t *all = json_object_get(j, "normalizers");
    if (strcmp(exo_json_text(j, "type"), "Sequence") != 0) return read_one(p, j, err);
    if (!json_is_array(all) || depth == 0)
        return exo_error_set(err, EXO_EFORMAT,
                             "a normalizer \"Sequence\" without normalizers, or "
                             "too many within each other");
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < json_array_size(all); i++)
        st = read_nested(p, json_array_get(all, i), depth - 1, err);
    return st;
}

exo_status exo_pipeline_read_norms(exo_pipeline *p, const json_t *normalizer, exo_error *err) {
    if (normalizer == NULL || json_is_null(normalizer)) return EXO_OK;
    return read_nested(p, normalizer, 8, err);
}

/* ---- running ---- */

static bool is_ascii(exo_str s) {
    for (size_t i = 0; i < s.n; i++) {
        if ((uint8_t)s.s[i] >= 0x80) return false;
    }
    return true;
}

static uint32_t code_at(exo_str s, size_t i, size_t *len) {
    const uint8_t *p = (const uint8_t *)s.s + i;
    exo_utf8_step(p, s.n - i, len);
    return exo_utf8_decode(p, *len);
}

static exo_str strip(const exo_normaliser *step, exo_str s) {
    size_t begin = 0, end = 0, len;
    bool text = false;
    for (size_t i = 0; i < s.n; i += len) {
        if (exo_is_white(code_at(s, i, &len))) continue;
        if (!text) begin = i;
        text = true;
        end = i + len;
    }
    if (!text) begin = s.n, end = 0;
    if (!step->left) begin = 0;
    if (!step->right) end = s.n;
    return begin < end ? (exo_str){s.s + begin, end - begin} : (exo_str){s.s, 0};
}

static bool is_control(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((int32_t)c);
    if (c == '\t' || c == '\n' || c == '\r') return false;
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

static void put_clean(exo_buf *out, uint32_t c) {
    if (c == 0 || c == 0xFFFD || is_control(c)) return;
    exo_append_char(out, exo_is_white(c) ? ' ' : c);
}

/* BERT's list, with the gap that its implementations have at U+2B820. */
static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static void put_nmt(exo_buf *out, uint32_t c) {
    bool gone = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                c == 0x8F || c == 0x9F;
    bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                 (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                 c == 0xFEFF || c == 0xFFFD;
    if (!gone) exo_append_char(out, space ? ' ' : c);
}

static void put_char(exo_normaliser_kind kind, exo_buf *out, uint32_t c) {
    utf8proc_category_t category;
    switch (kind) {
    case EXO_NORMALISE_LOWERCASE: exo_append_lower(out, c); return;
    case EXO_NORMALISE_CLEAN: put_clean(out, c); return;
    case EXO_NORMALISE_NMT: put_nmt(out, c); return;
    case EXO_NORMALISE_STRIP_ACCENTS:
    case EXO_NORMALISE_STRIP_MN:
        category = c < 0x300 ? UTF8PROC_CATEGORY_CN : utf8proc_category((int32_t)c);
        if (category == UTF8PROC_CATEGORY_MN) return;
        if (kind == EXO_NORMALISE_STRIP_ACCENTS &&
            (category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME))
            return;
        exo_append_char(out, c);
        return;
    default: /* CHINESE */
        if (is_chinese(c)) exo_buf_putc(out, ' ');
        exo_append_char(out, c);
        if (is_chinese(c)) exo_buf_putc(out, ' ');
    }
}

static exo_status replace(const exo_normaliser *step, exo_regex_match *m, exo_str s, exo_buf *out,
                          exo_error *err) {
    const uint8_t *text = (const uint8_t *)s.s;
    exo_regex_walk w = {step->regex, m, text, s.n, 0, SIZE_MAX};
    size_t done = 0, begin = 0, end = 0;
    for (;;) {
        bool found;
        exo_status st = exo_regex_next(&w, &begin, &end, &found, err);
        if (st != EXO_OK) return st;
        if (!found) break;
        exo_buf_append(out, s.s + done, begin - done);
        exo_buf_append(out, step->text, step->n_text);
        done = end;
    }
    exo_buf_append(out, s.s + done, s.n - done);
    return EXO_OK;
}

/* What SentencePiece's map makes of a cluster of characters up to 5 bytes long, or of each one. */
static void put_cluster(const exo_normaliser *step, exo_str s, exo_buf *out) {
    exo_str text;
    if (s.n < 6 && exo_charsmap_shortest(step->text, step->n_text, s, &text)) {
        exo_buf_append(out, text.s, text.n);
        return;
    }
    for (size_t i = 0, len; i < s.n; i += len) {
        (void)code_at(s, i, &len);
        exo_str one = {s.s + i, len};
        bool mapped = exo_charsmap_shortest(step->text, step->n_text, one, &text);
        exo_buf_append(out, mapped ? text.s : one.s, mapped ? text.n : one.n);
    }
}

static void map_clusters(const exo_normaliser *step, exo_str s, exo_buf *out) {
    int32_t state = 0, last = -1;
    size_t begin = 0;
    for (size_t i = 0, len; i < s.n; i += len) {
        int32_t c = (int32_t)code_at(s, i, &len);
        if (last >= 0 && utf8proc_grapheme_break_stateful(last, c, &state)) {
            put_cluster(step, (exo_str){s.s + begin, i - begin}, out);
            begin = i;
        }
        last = c;
    }
    if (s.n > 0) put_cluster(step, (exo_str){s.s + begin, s.n - begin}, out);
}

/* False: the step leaves s as it is. */
static bool changes(const exo_normaliser *step, exo_str s) {
    bool beyond_ascii = step->kind == EXO_NORMALISE_FORM ||
                        step->kind == EXO_NORMALISE_STRIP_ACCENTS ||
                        step->kind == EXO_NORMALISE_STRIP_MN || step->kind == EXO_NORMALISE_CHINESE;
    if (step->kind == EXO_NORMALISE_FORM && step->form == EXO_NFC)
        return exo_nfc_may_change((const uint8_t *)s.s, s.n);
    return !beyond_ascii || !is_ascii(s);
}

static exo_status run(const exo_normaliser *step, exo_regex_match *m, exo_str s, exo_buf *out,
                      exo_error *err) {
    exo_status st = EXO_OK;
    switch (step->kind) {
    case EXO_NORMALISE_FORM:
        if (!exo_normal_form_append(step->form, (const uint8_t *)s.s, s.n, out))
            st = exo_error_set(err, EXO_ENOMEM, "out of memory for a normalised text");
        break;
    case EXO_NORMALISE_REPLACE: st = replace(step, m, s, out, err); break;
    case EXO_NORMALISE_PREPEND:
        if (s.n > 0) exo_buf_append(out, step->text, step->n_text);
        exo_buf_append(out, s.s, s.n);
        break;
    case EXO_NORMALISE_CHARSMAP: map_clusters(step, s, out); break;
    case EXO_NORMALISE_STAND_INS: exo_append_stand_ins(out, (const uint8_t *)s.s, s.n); break;
    default:
        for (size_t i = 0, len; i < s.n; i += len) {
            uint32_t c = code_at(s, i, &len);
            put_char(step->kind, out, c);
        }
    }
    return st;
}

/* Whether the step lets what s begins with vanish. */
static bool loses_beginning(const exo_normaliser *step, exo_regex_match *m, exo_str s) {
    size_t len, begin = 1, end = 0;
    if (s.n == 0 || step->kind == EXO_NORMALISE_PREPEND) return false;
    (void)code_at(s, 0, &len);
    if (step->kind == EXO_NORMALISE_STRIP) return strip(step, s).s != s.s;
    if (step->kind == EXO_NORMALISE_REPLACE) {
        exo_regex_walk w = {step->regex, m, (const uint8_t *)s.s, s.n, 0, SIZE_MAX};
        bool found;
        bool ok = exo_regex_next(&w, &begin, &end, &found, NULL) == EXO_OK;
        /* What is put in stands where the last character of a match was. */
        return ok && found && begin == 0 && (end > len || (end > 0 && step->n_text == 0));
    }
    exo_buf out = {0};
    bool ok = run(step, m, (exo_str){s.s, len}, &out, NULL) == EXO_OK && exo_buf_ok(&out);
    bool lost = ok && out.n == 0;
    exo_buf_finish(&out);
    return lost;
}

exo_status exo_pipeline_normalise(const exo_pipeline *p, exo_pipeline_scratch *scratch, exo_str s,
                                  exo_str *out, bool *begins, exo_error *err) {
    size_t limit = s.n * MAX_GROWTH + (1u << 20);
    exo_status st = EXO_OK;
    int free_one = 0; /* of the two buffers; s may lie in the other */
    bool lost = false;
    for (size_t i = 0; st == EXO_OK && i < p->n_norms; i++) {
        const exo_normaliser *step = &p->norms[i];
        exo_buf *to = &scratch->norm[free_one];
        if (step->kind == EXO_NORMALISE_PREPEND) lost = false; /* it stands where the text began */
        lost = lost || (begins != NULL && loses_beginning(step, scratch->match, s));
        if (step->kind == EXO_NORMALISE_STRIP) {
            s = strip(step, s);
            continue;
        }
        if (!changes(step, s)) continue;
        free_one = !free_one;
        exo_buf_clear(to);
        to->limit_bytes = limit;
        st = run(step, scratch->match, s, to, err);
        if (st == EXO_OK && !exo_buf_ok(to))
            st = exo_error_set(err, EXO_ETOOLONG,
                               "the normalizer makes more than %zu bytes of a text", limit);
        s = (exo_str){exo_buf_str(to), to->n};
    }
    *out = s;
    if (begins != NULL) *begins = !lost;
    return st;
}
