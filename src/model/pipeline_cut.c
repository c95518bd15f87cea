/* pipeline_cut.c - the pre_tokenizer of a tokenizer.json, step by step.
 *
 * Every step cuts each piece of the step before it, and takes it for a whole text.  Pieces go
 * down through the steps one by one, so only a step that changes its text needs memory. */
#include "model/pipeline.h"

#include "model/utf8.h"

#include <string.h>

#define GPT2_WORDS                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD_CHARS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"

void exo_cut_step_finish(exo_cut_step *s) {
    exo_regex_destroy(s->regex);
    *s = (exo_cut_step){0};
}

/* ---- reading ---- */

static exo_cut_step *next_step(exo_pipeline *p, exo_cut_kind kind, exo_error *err) {
    if (p->n_cuts == EXO_PIPELINE_MAX_STEPS) {
        (void)exo_error_set(err, EXO_EUNSUPPORTED, "the pre-tokenizer has more than %u steps",
                            EXO_PIPELINE_MAX_STEPS);
        return NULL;
    }
    exo_cut_step *s = &p->cuts[p->n_cuts++];
    s->kind = kind;
    return s;
}

static exo_status add_regex(exo_pipeline *p, const char *regex, exo_split_behaviour behaviour,
                            bool invert, exo_error *err) {
    exo_cut_step *s = next_step(p, EXO_CUT_SPLIT, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    s->behaviour = behaviour;
    s->invert = invert;
    return exo_regex_create((exo_str){regex, strlen(regex)}, &s->regex, err);
}

static exo_status add_chars(exo_pipeline *p, bool (*is)(uint32_t), exo_split_behaviour behaviour,
                            exo_error *err) {
    exo_cut_step *s = next_step(p, EXO_CUT_CHARS, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    s->behaviour = behaviour;
    s->is = is;
    return EXO_OK;
}

static exo_status read_behaviour(const json_t *j, exo_split_behaviour *out, exo_error *err) {
    static const struct {
        const char *name;
        exo_split_behaviour behaviour;
    } all[] = {{"Removed", EXO_SPLIT_REMOVED},
               {"Isolated", EXO_SPLIT_ISOLATED},
               {"MergedWithPrevious", EXO_SPLIT_WITH_PREVIOUS},
               {"MergedWithNext", EXO_SPLIT_WITH_NEXT},
               {"Contiguous", EXO_SPLIT_CONTIGUOUS}};
    const char *name = exo_json_text(j, "behavior");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        *out = all[i].behaviour;
        return EXO_OK;
    }
    return exo_error_set(err, EXO_EFORMAT, "the behavior \"%.32s\" of a pre-tokenizer is unknown",
                         name);
}

static exo_status read_split(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_cut_step *s = next_step(p, EXO_CUT_SPLIT, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    exo_status st = read_behaviour(j, &s->behaviour, err);
    if (st == EXO_OK) st = exo_json_flag(j, "invert", false, &s->invert, err);
    return st == EXO_OK ? exo_json_pattern(j, &s->regex, err) : st;
}

static exo_status read_byte_level(exo_pipeline *p, const json_t *j, exo_error *err) {
    bool prefix, words;
    exo_cut_step *s = next_step(p, EXO_CUT_BYTE_LEVEL, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    exo_status st = exo_json_flag(j, "add_prefix_space", true, &prefix, err);
    if (st == EXO_OK) st = exo_json_flag(j, "use_regex", true, &words, err);
    s->prepend = prefix ? EXO_PREPEND_ALWAYS : EXO_PREPEND_NEVER;
    if (st != EXO_OK || !words) return st;
    return exo_regex_create((exo_str){GPT2_WORDS, strlen(GPT2_WORDS)}, &s->regex, err);
}

/* The only character of a member. */
static exo_status read_char(const json_t *j, const char *name, uint32_t *out, exo_error *err) {
    const json_t *v = json_object_get(j, name);
    const char *s = json_string_value(v);
    size_t n = json_string_length(v), len = 0;
    bool one = n > 0 && exo_utf8_step((const uint8_t *)s, n, &len) == EXO_UTF8_WHOLE && len == n;
    if (!one)
        return exo_error_set(err, EXO_EFORMAT, "\"%s\" of a pre-tokenizer is not one character",
                             name);
    *out = exo_utf8_decode((const uint8_t *)s, len);
    return EXO_OK;
}

static exo_status read_metaspace(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_cut_step *s = next_step(p, EXO_CUT_METASPACE, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    bool old_way;
    exo_status st = read_char(j, "replacement", &s->delimiter, err);
    if (st == EXO_OK) st = exo_json_flag(j, "add_prefix_space", true, &old_way, err);
    if (st == EXO_OK) st = exo_json_flag(j, "split", true, &s->cuts, err);
    if (st != EXO_OK) return st;
    const char *scheme = exo_json_text(j, "prepend_scheme");
    s->prepend = old_way ? EXO_PREPEND_ALWAYS : EXO_PREPEND_NEVER;
    if (strcmp(scheme, "first") == 0) s->prepend = EXO_PREPEND_FIRST;
    if (strcmp(scheme, "never") == 0) s->prepend = EXO_PREPEND_NEVER;
    if (s->prepend == EXO_PREPEND_FIRST && p->n_cuts > 1)
        return exo_error_set(err, EXO_EUNSUPPORTED,
                             "Metaspace with prepend_scheme \"first\" behind another pre-tokenizer "
                             "is not supported");
    bool known =
        scheme[0] == '\0' || s->prepend != EXO_PREPEND_ALWAYS || strcmp(scheme, "always") == 0;
    if (known) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "prepend_scheme \"%.32s\" is unknown", scheme);
}

static exo_status read_length(exo_pipeline *p, const json_t *j, exo_error *err) {
    json_int_t length = json_integer_value(json_object_get(j, "length"));
    exo_cut_step *s = next_step(p, EXO_CUT_LENGTH, err);
    if (s == NULL) return EXO_EUNSUPPORTED;
    if (length < 1 || length > INT32_MAX)
        return exo_error_set(err, EXO_EFORMAT, "FixedLength of %lld characters", (long long)length);
    s->length = (size_t)length;
    return EXO_OK;
}

static exo_status read_delimiter(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_status st = add_chars(p, NULL, EXO_SPLIT_REMOVED, err);
    return st == EXO_OK ? read_char(j, "delimiter", &p->cuts[p->n_cuts - 1].delimiter, err) : st;
}

static exo_status read_bert(exo_pipeline *p, const json_t *j, exo_error *err) {
    (void)j;
    exo_status st = add_chars(p, exo_is_white, EXO_SPLIT_REMOVED, err);
    return st == EXO_OK ? add_chars(p, exo_is_punctuation, EXO_SPLIT_ISOLATED, err) : st;
}

static exo_status read_white(exo_pipeline *p, const json_t *j, exo_error *err) {
    (void)j;
    return add_chars(p, exo_is_white, EXO_SPLIT_REMOVED, err);
}

static exo_status read_words(exo_pipeline *p, const json_t *j, exo_error *err) {
    (void)j;
    return add_regex(p, "[" WORD_CHARS "]+|[^\\s" WORD_CHARS "]+", EXO_SPLIT_REMOVED, true, err);
}

static exo_status read_digits(exo_pipeline *p, const json_t *j, exo_error *err) {
    bool each;
    exo_status st = exo_json_flag(j, "individual_digits", false, &each, err);
    if (st != EXO_OK) return st;
    return add_chars(p, exo_is_number, each ? EXO_SPLIT_ISOLATED : EXO_SPLIT_CONTIGUOUS, err);
}

static exo_status read_punctuation(exo_pipeline *p, const json_t *j, exo_error *err) {
    exo_split_behaviour behaviour = EXO_SPLIT_ISOLATED;
    exo_status st = EXO_OK;
    if (exo_json_text(j, "behavior")[0] != '\0') st = read_behaviour(j, &behaviour, err);
    return st == EXO_OK ? add_chars(p, exo_is_punctuation, behaviour, err) : st;
}

static exo_status read_one(exo_pipeline *p, const json_t *j, exo_error *err) {
    static const struct {
        const char *type;
        exo_status (*read)(exo_pipeline *, const json_t *, exo_error *);
    } types[] = {
        {"Split", read_split},
        {"ByteLevel", read_byte_level},
        {"Metaspace", read_metaspace},
        {"Digits", read_digits},
        {"Punctuation", read_punctuation},
        {"BertPreTokenizer", read_bert},
        {"Whitespace", read_words},
        {"WhitespaceSplit", read_white},
        {"FixedLength", read_length},
        {"CharDelimiterSplit", read_delimiter},
    };
    const char *type = exo_json_text(j, "type");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].type, type) == 0) return types[i].read(p, j, err);
    }
    return exo_error_set(err, EXO_EUNSUPPORTED, "pre-tokenizer \"%.32s\" is not supported", type);
}

static exo_status read_nested(exo_pipeline *p, const json_t *j, int depth, exo_error *err) {
    const json_t *all = json_object_get(j, "pretokenizers");
    if (strcmp(exo_json_text(j, "type"), "Sequence") != 0) return read_one(p, j, err);
    if (!json_is_array(all) || depth == 0)
        return exo_error_set(err, EXO_EFORMAT,
                             "a pre-tokenizer \"Sequence\" without "
                             "pretokenizers, or too many within each other");
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < json_array_size(all); i++)
        st = read_nested(p, json_array_get(all, i), depth - 1, err);
    return st;
}

exo_status exo_pipeline_read_cuts(exo_pipeline *p, const json_t *pre_tokenizer, exo_error *err) {
    if (pre_tokenizer == NULL || json_is_null(pre_tokenizer)) return EXO_OK;
    return read_nested(p, pre_tokenizer, 8, err);
}

/* ---- running ---- */

typedef struct {
    const exo_pipeline *p;
    exo_pipeline_scratch *scratch;
    exo_piece_fn fn;
    void *ud;
    exo_error *err;
} cutting;

static exo_status cut(const cutting *c, size_t step, exo_str s, bool first);

/* Parts of one piece on their way to the next step: matches and what is between them, joined as
 * the behaviour says. */
typedef struct {
    const cutting *c;
    size_t step; /* the next one */
    exo_str s;
    bool first;
    exo_split_behaviour behaviour;
    bool invert;
    size_t begin, end;   /* of what waits for more, if anything does */
    bool waits, matched; /* matched: the last part was a match */
    bool bytes;          /* the next step gets stand-ins for the bytes */
} joining;

static exo_status no_memory(exo_error *err) {
    return exo_error_set(err, EXO_ENOMEM, "out of memory for a piece of text");
}

static exo_status in_stand_ins(const cutting *c, size_t step, exo_str s, bool first) {
    exo_buf *out = &c->scratch->stand_ins[step];
    exo_buf_clear(out);
    exo_append_stand_ins(out, (const uint8_t *)s.s, s.n);
    if (!exo_buf_ok(out)) return no_memory(c->err);
    return cut(c, step, (exo_str){exo_buf_str(out), out->n}, first);
}

static exo_status flush(joining *j) {
    if (!j->waits) return EXO_OK;
    j->waits = false;
    exo_str piece = {j->s.s + j->begin, j->end - j->begin};
    bool first = j->first && j->begin == 0;
    return j->bytes ? in_stand_ins(j->c, j->step, piece, first) : cut(j->c, j->step, piece, first);
}

/* Whether a part belongs to what waits. */
static bool belongs(const joining *j, bool match) {
    switch (j->behaviour) {
    case EXO_SPLIT_CONTIGUOUS: return match == j->matched;
    case EXO_SPLIT_WITH_PREVIOUS: return match && !j->matched;
    case EXO_SPLIT_WITH_NEXT: return !match && j->matched;
    default: return false;
    }
}

static exo_status part(joining *j, size_t begin, size_t end, bool match) {
    exo_status st = EXO_OK;
    match = match != j->invert;
    if (match && j->behaviour == EXO_SPLIT_REMOVED) return EXO_OK;
    if (j->waits && belongs(j, match)) {
        j->end = end;
    } else {
        st = flush(j);
        j->begin = begin;
        j->end = end;
        j->waits = true;
    }
    j->matched = match;
    return st;
}

static exo_status by_regex(const cutting *c, const exo_cut_step *step, joining *j) {
    exo_regex_walk w = {step->regex, c->scratch->match, (const uint8_t *)j->s.s, j->s.n,
                        0,           SIZE_MAX};
    size_t done = 0, begin, end;
    for (;;) {
        bool found;
        exo_status st = exo_regex_next(&w, &begin, &end, &found, c->err);
        if (st == EXO_OK && found && done < begin) st = part(j, done, begin, false);
        if (st == EXO_OK && found) st = part(j, begin, end, true);
        if (st != EXO_OK) return st;
        if (!found) break;
        done = end;
    }
    exo_status st = done < j->s.n ? part(j, done, j->s.n, false) : EXO_OK;
    return st == EXO_OK ? flush(j) : st;
}

static exo_status by_chars(const exo_cut_step *step, joining *j) {
    exo_status st = EXO_OK;
    size_t done = 0;
    for (size_t i = 0, len; st == EXO_OK && i < j->s.n; i += len) {
        const uint8_t *s = (const uint8_t *)j->s.s + i;
        exo_utf8_step(s, j->s.n - i, &len);
        uint32_t code = exo_utf8_decode(s, len);
        bool match = step->is != NULL ? step->is(code) : code == step->delimiter;
        if (!match) continue;
        if (done < i) st = part(j, done, i, false);
        if (st == EXO_OK) st = part(j, i, i + len, true);
        done = i + len;
    }
    if (st == EXO_OK && done < j->s.n) st = part(j, done, j->s.n, false);
    return st == EXO_OK ? flush(j) : st;
}

static exo_status by_length(const exo_cut_step *step, joining *j) {
    exo_status st = EXO_OK;
    size_t begin = 0, n_chars = 0;
    for (size_t i = 0, len; st == EXO_OK && i < j->s.n; i += len) {
        exo_utf8_step((const uint8_t *)j->s.s + i, j->s.n - i, &len);
        if (n_chars++ < step->length) continue;
        st = part(j, begin, i, false);
        begin = i;
        n_chars = 1;
    }
    if (st == EXO_OK) st = part(j, begin, j->s.n, false);
    return st == EXO_OK ? flush(j) : st;
}

/* s with U+2581, or what the file has in its place, for spaces. */
static exo_status metaspace(const cutting *c, size_t i, joining *j) {
    const exo_cut_step *step = &c->p->cuts[i];
    exo_buf *out = &c->scratch->cut[i];
    uint8_t mark[4];
    size_t n_mark = exo_utf8_encode(step->delimiter, mark);
    exo_buf_clear(out);
    bool prefix =
        step->prepend == EXO_PREPEND_ALWAYS || (step->prepend == EXO_PREPEND_FIRST && j->first);
    bool there = j->s.s[0] == ' ' || (j->s.n >= n_mark && memcmp(j->s.s, mark, n_mark) == 0);
    if (prefix && !there) exo_buf_append(out, mark, n_mark);
    for (const char *s = j->s.s, *end = s + j->s.n; s < end;) {
        const char *space = memchr(s, ' ', (size_t)(end - s));
        size_t run = (size_t)((space != NULL ? space : end) - s);
        exo_buf_append(out, s, run);
        if (space != NULL) exo_buf_append(out, mark, n_mark);
        s += run + (space != NULL);
    }
    if (!exo_buf_ok(out)) return no_memory(c->err);
    j->s = (exo_str){exo_buf_str(out), out->n};
    if (!step->cuts) return cut(c, i + 1, j->s, j->first);
    j->behaviour = EXO_SPLIT_WITH_NEXT;
    return by_chars(step, j);
}

static exo_status byte_level(const cutting *c, size_t i, joining *j) {
    const exo_cut_step *step = &c->p->cuts[i];
    exo_buf *out = &c->scratch->cut[i];
    if (step->prepend == EXO_PREPEND_ALWAYS && j->s.s[0] != ' ') {
        exo_buf_clear(out);
        exo_buf_putc(out, ' ');
        exo_buf_append(out, j->s.s, j->s.n);
        if (!exo_buf_ok(out)) return no_memory(c->err);
        j->s = (exo_str){exo_buf_str(out), out->n};
    }
    if (step->regex == NULL) return in_stand_ins(c, i + 1, j->s, j->first);
    j->behaviour = EXO_SPLIT_ISOLATED;
    j->bytes = true;
    return by_regex(c, step, j);
}

static exo_status cut(const cutting *c, size_t i, exo_str s, bool first) {
    if (s.n == 0) return EXO_OK;
    if (i == c->p->n_cuts) return c->fn(c->ud, (const uint8_t *)s.s, s.n, c->err);
    const exo_cut_step *step = &c->p->cuts[i];
    joining j = {.c = c,
                 .step = i + 1,
                 .s = s,
                 .first = first,
                 .behaviour = step->behaviour,
                 .invert = step->invert};
    switch (step->kind) {
    case EXO_CUT_SPLIT: return by_regex(c, step, &j);
    case EXO_CUT_CHARS: return by_chars(step, &j);
    case EXO_CUT_BYTE_LEVEL: return byte_level(c, i, &j);
    case EXO_CUT_METASPACE: return metaspace(c, i, &j);
    case EXO_CUT_LENGTH: return by_length(step, &j);
    }
    return EXO_OK;
}

exo_status exo_pipeline_cut(const exo_pipeline *p, exo_pipeline_scratch *scratch, exo_str s,
                            bool first, exo_piece_fn fn, void *ud, exo_error *err) {
    const cutting c = {p, scratch, fn, ud, err};
    return cut(&c, 0, s, first);
}
