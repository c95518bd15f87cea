/* pipeline_frame.c - the post_processor of a tokenizer.json: which ids come before and after a
 * text.
 *
 * Only what a single text gets counts; a template for pairs is left out.  The ids are the file's
 * own, so a template may name any token. */
#include "model/pipeline.h"

#include <string.h>

typedef struct {
    exo_pipeline *p;
    uint32_t n_tokens;
    exo_error *err;
} framing;

typedef struct {
    int32_t before[EXO_PIPELINE_MAX_FRAME], after[EXO_PIPELINE_MAX_FRAME];
    size_t n_before, n_after;
} layer;

static exo_status push(const framing *f, const json_t *id, int32_t *ids, size_t *n) {
    json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    if (i < 0 || i >= (json_int_t)f->n_tokens)
        return exo_error_set(f->err, EXO_EFORMAT,
                             "the post-processor adds id %lld, but there are %u tokens",
                             (long long)i, f->n_tokens);
    if (*n == EXO_PIPELINE_MAX_FRAME)
        return exo_error_set(f->err, EXO_EUNSUPPORTED,
                             "the post-processor adds more than %u tokens on a side",
                             EXO_PIPELINE_MAX_FRAME);
    ids[(*n)++] = (int32_t)i;
    return EXO_OK;
}

/* The library gives a second one the parts of the first as texts of their own. */
static exo_status put(const framing *f, const layer *l) {
    exo_pipeline *p = f->p;
    if (f->p->framed)
        return exo_error_set(f->err, EXO_EUNSUPPORTED,
                             "a post-processor \"Sequence\" of several that add tokens is not "
                             "supported");
    p->framed = true;
    memcpy(p->before, l->before, sizeof p->before);
    memcpy(p->after, l->after, sizeof p->after);
    p->n_before = l->n_before;
    p->n_after = l->n_after;
    return EXO_OK;
}

/* {"SpecialToken": {"id": "[CLS]", ...}}: its ids are in special_tokens. */
static exo_status special(const framing *f, const json_t *item, const json_t *known, int32_t *ids,
                          size_t *n) {
    const char *name = exo_json_text(json_object_get(item, "SpecialToken"), "id");
    const json_t *all = json_object_get(json_object_get(known, name), "ids");
    if (!json_is_array(all))
        return exo_error_set(f->err, EXO_EFORMAT,
                             "the post-processor's template has \"%.40s\", which special_tokens "
                             "do not explain",
                             name);
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < json_array_size(all); i++)
        st = push(f, json_array_get(all, i), ids, n);
    return st;
}

static exo_status read_template(const framing *f, const json_t *j) {
    const json_t *single = json_object_get(j, "single");
    layer l = {0};
    size_t n_texts = 0;
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *text = json_object_get(item, "Sequence");
        if (text == NULL) {
            st =
                special(f, item, json_object_get(j, "special_tokens"),
                        n_texts == 0 ? l.before : l.after, n_texts == 0 ? &l.n_before : &l.n_after);
        } else if (strcmp(exo_json_text(text, "id"), "A") == 0) {
            n_texts++;
        }
    }
    if (st == EXO_OK && n_texts != 1)
        return exo_error_set(f->err, EXO_EUNSUPPORTED,
                             "the post-processor's template has the text %zu times, not once",
                             n_texts);
    return st == EXO_OK ? put(f, &l) : st;
}

/* [CLS] text [SEP]: "cls": ["[CLS]", 101]. */
static exo_status read_bert(const framing *f, const json_t *j) {
    layer l = {0};
    exo_status st = push(f, json_array_get(json_object_get(j, "cls"), 1), l.before, &l.n_before);
    if (st == EXO_OK)
        st = push(f, json_array_get(json_object_get(j, "sep"), 1), l.after, &l.n_after);
    return st == EXO_OK ? put(f, &l) : st;
}

static exo_status read_any(const framing *f, const json_t *j, int depth) {
    const char *type = exo_json_text(j, "type");
    if (strcmp(type, "ByteLevel") == 0) return EXO_OK; /* offsets, which exo has none of */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(f, j);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return read_bert(f, j);
    const json_t *all = json_object_get(j, "processors");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(all) || depth == 0)
        return exo_error_set(f->err, EXO_EUNSUPPORTED, "post-processor \"%.32s\" is not supported",
                             type);
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < json_array_size(all); i++)
        st = read_any(f, json_array_get(all, i), depth - 1);
    return st;
}

exo_status exo_pipeline_read_frame(exo_pipeline *p, const json_t *post_processor, uint32_t n_tokens,
                                   exo_error *err) {
    const framing f = {p, n_tokens, err};
    exo_status st = EXO_OK;
    if (!json_is_null(post_processor)) st = read_any(&f, post_processor, 8);
    p->framed = true; /* by nothing, it may be */
    return st;
}
