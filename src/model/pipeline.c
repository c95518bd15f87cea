/* pipeline.c - see pipeline.h: a pipeline's life, and what its JSON says beside the steps. */
#include "model/pipeline.h"

#include "base/json.h"
#include "base/mem.h"
#include "model/json_limits.h"

#include <string.h>

/* Of a description without its vocabulary. */
static const exo_json_limits limits = {
    .depth = 32, .containers = 20000, .values = 100000, .string_bytes = 96u << 20};

/* ---- members ---- */

const char *exo_json_text(const json_t *from, const char *name) {
    const char *s = json_string_value(json_object_get(from, name));
    return s != NULL ? s : "";
}

exo_status exo_json_flag(const json_t *from, const char *name, bool fallback, bool *out,
                         exo_error *err) {
    const json_t *v = json_object_get(from, name);
    *out = v == NULL || json_is_null(v) ? fallback : json_is_true(v);
    if (v == NULL || json_is_null(v) || json_is_boolean(v)) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "\"%s\" of \"%.32s\" is neither true nor false", name,
                         exo_json_text(from, "type"));
}

exo_status exo_json_copy(const json_t *from, const char *name, char **out, size_t *n,
                         exo_error *err) {
    const json_t *v = json_object_get(from, name);
    *n = json_string_length(v);
    if (!json_is_string(v))
        return exo_error_set(err, EXO_EFORMAT, "\"%s\" of \"%.32s\" is no text", name,
                             exo_json_text(from, "type"));
    *out = exo_malloc(*n + 1);
    if (*out == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a text");
    memcpy(*out, json_string_value(v), *n + 1);
    return EXO_OK;
}

/* A text as an expression that matches just it. */
static exo_status literal_regex(const json_t *text, exo_regex **out, exo_error *err) {
    exo_buf regex = {0};
    const char *s = json_string_value(text);
    for (size_t i = 0; i < json_string_length(text); i++) {
        uint32_t c = (uint8_t)s[i];
        if (c < 0x80) {
            exo_buf_printf(&regex, "\\x{%x}", c);
        } else {
            exo_buf_putc(&regex, s[i]);
        }
    }
    exo_status st = EXO_ENOMEM;
    if (exo_buf_ok(&regex)) {
        st = exo_regex_create((exo_str){exo_buf_str(&regex), regex.n}, out, err);
    } else {
        (void)exo_error_set(err, st, "out of memory for a regular expression");
    }
    exo_buf_finish(&regex);
    return st;
}

exo_status exo_json_pattern(const json_t *step, exo_regex **out, exo_error *err) {
    const json_t *pattern = json_object_get(step, "pattern");
    const json_t *text = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    if (json_is_string(text)) return literal_regex(text, out, err);
    if (json_is_string(regex))
        return exo_regex_create((exo_str){json_string_value(regex), json_string_length(regex)}, out,
                                err);
    return exo_error_set(err, EXO_EFORMAT,
                         "the pattern of \"%.32s\" is neither a String nor a Regex",
                         exo_json_text(step, "type"));
}

/* ---- the model ---- */

static exo_status read_part(const json_t *model, const char *name, char **out, size_t *n,
                            exo_error *err) {
    const json_t *v = json_object_get(model, name);
    if (v != NULL && !json_is_null(v)) return exo_json_copy(model, name, out, n, err);
    *n = 0;
    *out = exo_calloc(1, 1);
    return *out != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "out of memory for a text");
}

static exo_status read_model(exo_pipeline *p, const json_t *j, exo_error *err) {
    static const char *const types[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    const json_t *max = json_object_get(j, "max_input_chars_per_word");
    const char *type = exo_json_text(j, "type");
    size_t k = 0;
    while (k < 4 && strcmp(types[k], type) != 0) k++;
    if (k == 4)
        return exo_error_set(err, EXO_EUNSUPPORTED, "model \"%.32s\" is not supported", type);
    p->model = (exo_pipeline_model)k;
    p->max_chars = json_is_integer(max) && json_integer_value(max) >= 0
                       ? (size_t)json_integer_value(max)
                       : 100;
    exo_status st = exo_json_flag(j, "byte_fallback", false, &p->byte_fallback, err);
    if (st == EXO_OK)
        st = exo_json_flag(j, "fuse_unk", p->model == EXO_PIPELINE_UNIGRAM, &p->fuse_unk, err);
    if (st == EXO_OK) st = exo_json_flag(j, "ignore_merges", false, &p->ignore_merges, err);
    if (st == EXO_OK) st = read_part(j, "continuing_subword_prefix", &p->prefix, &p->n_prefix, err);
    if (st == EXO_OK) st = read_part(j, "end_of_word_suffix", &p->suffix, &p->n_suffix, err);
    return st;
}

/* ---- the decoder ---- */

static void read_decoder(exo_pipeline *p, const json_t *j, int depth) {
    const char *type = exo_json_text(j, "type");
    const json_t *all = json_object_get(j, "decoders");
    const char *pattern = exo_json_text(json_object_get(j, "pattern"), "String");
    if (strcmp(type, "ByteLevel") == 0) p->decoder = EXO_DECODE_STAND_INS;
    if (strcmp(type, "WordPiece") == 0) p->decoder = EXO_DECODE_WORDS;
    if (strcmp(type, "BPEDecoder") == 0) p->decoder = EXO_DECODE_SUFFIX;
    if (strcmp(type, "Metaspace") == 0) {
        p->decoder = EXO_DECODE_SPACES;
        const char *scheme = exo_json_text(j, "prepend_scheme");
        p->leads_with_space = scheme[0] != '\0'
                                  ? strcmp(scheme, "never") != 0
                                  : !json_is_false(json_object_get(j, "add_prefix_space"));
    }
    if (strcmp(type, "Replace") == 0 && strcmp(pattern, "\xE2\x96\x81") == 0)
        p->decoder = EXO_DECODE_SPACES;
    if (strcmp(type, "Strip") == 0 && json_integer_value(json_object_get(j, "start")) > 0)
        p->leads_with_space = true;
    for (size_t i = 0; depth > 0 && i < json_array_size(all); i++)
        read_decoder(p, json_array_get(all, i), depth - 1);
    if (p->decoder == EXO_DECODE_WORDS) p->leads_with_space = true;
}

/* ---- life ---- */

static exo_status read_all(exo_pipeline *p, const json_t *j, uint32_t n_tokens, exo_error *err) {
    const json_t *pre = json_object_get(j, "pre_tokenizer");
    const json_t *post = json_object_get(j, "post_processor");
    exo_status st = read_model(p, json_object_get(j, "model"), err);
    if (st == EXO_OK) st = exo_pipeline_read_norms(p, json_object_get(j, "normalizer"), err);
    p->named = pre == NULL;
    if (st == EXO_OK) st = exo_pipeline_read_cuts(p, pre, err);
    if (st == EXO_OK && post != NULL) st = exo_pipeline_read_frame(p, post, n_tokens, err);
    read_decoder(p, json_object_get(j, "decoder"), 8);
    return st;
}

exo_status exo_pipeline_create(exo_str json, uint32_t n_tokens, exo_pipeline **out,
                               exo_error *err) {
    json_error_t je;
    *out = NULL;
    exo_status st = exo_json_check(json.s, json.n, &limits, err);
    if (st != EXO_OK) return st;
    json_t *j = exo_json_load(json.s, json.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (!json_is_object(j)) {
        json_decref(j);
        return exo_error_set(err, EXO_EFORMAT, "the tokenizer's description is no JSON object");
    }
    exo_pipeline *p = exo_calloc(1, sizeof *p);
    st = p != NULL ? read_all(p, j, n_tokens, err)
                   : exo_error_set(err, EXO_ENOMEM, "out of memory for the tokenizer");
    json_decref(j);
    if (st != EXO_OK) {
        exo_pipeline_destroy(p);
        return st;
    }
    *out = p;
    return EXO_OK;
}

void exo_pipeline_destroy(exo_pipeline *p) {
    if (p == NULL) return;
    for (size_t i = 0; i < p->n_norms; i++) exo_normaliser_finish(&p->norms[i]);
    for (size_t i = 0; i < p->n_cuts; i++) exo_cut_step_finish(&p->cuts[i]);
    exo_free(p->prefix);
    exo_free(p->suffix);
    exo_free(p);
}

exo_status exo_pipeline_scratch_init(exo_pipeline_scratch *s, exo_error *err) {
    *s = (exo_pipeline_scratch){.match = exo_regex_match_create()};
    return s->match != NULL ? EXO_OK : exo_error_set(err, EXO_ENOMEM, "out of memory for a text");
}

void exo_pipeline_scratch_finish(exo_pipeline_scratch *s) {
    exo_regex_match_destroy(s->match);
    exo_buf_finish(&s->norm[0]);
    exo_buf_finish(&s->norm[1]);
    for (size_t i = 0; i < EXO_PIPELINE_MAX_STEPS; i++) exo_buf_finish(&s->cut[i]);
    for (size_t i = 0; i <= EXO_PIPELINE_MAX_STEPS; i++) exo_buf_finish(&s->stand_ins[i]);
}
