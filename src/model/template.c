/* template.c - the public face of chat templates: compile, render, and JSON as variables.
 *
 * The only file of the evaluator that knows jansson.  Variables are converted before the render
 * begins; strings are borrowed from the JSON, so a long conversation is not copied. */
#include "model/template.h"

#include "base/mem.h"
#include "model/jinja.h"

struct exo_template {
    exo_arena arena; /* owns source and tree */
    exo_jstmt *body, *blocks;
};

exo_status exo_template_compile(const char *source, size_t n, exo_template **out, exo_error *err) {
    *out = NULL;
    if (n > EXO_J_MAX_SOURCE_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "a chat template of %zu bytes (at most %zu MiB)", n,
                             EXO_J_MAX_SOURCE_BYTES >> 20);
    }
    exo_template *t = exo_calloc(1, sizeof *t);
    if (t == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory in a chat template");
    exo_jctx c = {
        .arena = {.limit_bytes = EXO_J_MAX_ARENA_BYTES},
        .err = err,
        .fault = EXO_EFORMAT,
        .max_depth = EXO_J_MAX_PARSE_DEPTH,
        .max_steps = EXO_J_MAX_STEPS,
    };
    const exo_jtoken *tokens = exo_jlex(&c, source, n);
    if (tokens != NULL) t->body = exo_jparse(&c, tokens);
    exo_jcheck(&c, t->body, false);
    exo_jsettle_names(&c, &t->body);
    t->arena = c.arena;
    t->blocks = c.blocks;
    exo_buf_finish(&c.text);
    if (!exo_jok(&c)) {
        exo_template_destroy(t);
        return c.status;
    }
    *out = t;
    return EXO_OK;
}

void exo_template_destroy(exo_template *t) {
    if (t == NULL) return;
    exo_arena_finish(&t->arena);
    exo_free(t);
}

static exo_jvalue from_json(exo_jctx *c, json_t *json);

static exo_jvalue from_array(exo_jctx *c, json_t *json) {
    size_t i;
    json_t *item;
    exo_jlist *l = exo_jlist_new(c, json_array_size(json));
    json_array_foreach(json, i, item) {
        if (!exo_jok(c)) break;
        exo_jlist_append(c, l, from_json(c, item));
    }
    return exo_jlist_value(EXO_J_LIST, l);
}

static exo_jvalue from_object(exo_jctx *c, json_t *json) {
    const char *key;
    size_t n;
    json_t *item;
    exo_jdict *d = exo_jdict_new(c);
    json_object_keylen_foreach(json, key, n, item) {
        if (!exo_jok(c)) break;
        exo_jdict_set(c, d, exo_jname(c, key, n), from_json(c, item));
    }
    return d == NULL ? exo_jundefined : (exo_jvalue){.type = EXO_J_DICT, .dict = d};
}

static exo_jvalue from_json(exo_jctx *c, json_t *json) {
    exo_jvalue v = exo_jnone;
    if (!exo_jenter(c)) return v;
    switch (json_typeof(json)) {
    case JSON_OBJECT: v = from_object(c, json); break;
    case JSON_ARRAY: v = from_array(c, json); break;
    case JSON_STRING:
        v = exo_jstring_borrow(c, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER: v = exo_jint(json_integer_value(json)); break;
    case JSON_REAL: v = exo_jfloat(json_real_value(json)); break;
    case JSON_TRUE: v = exo_jbool(true); break;
    case JSON_FALSE: v = exo_jbool(false); break;
    case JSON_NULL: break;
    }
    exo_jleave(c);
    return v;
}

exo_status exo_template_render(const exo_template *t, json_t *vars, const exo_template_desc *desc,
                               exo_buf *out, exo_error *err) {
    if (!json_is_object(vars)) {
        return exo_error_set(err, EXO_EINVAL, "a template's variables must be a JSON object");
    }
    exo_jscope globals = {0};
    uint64_t max_steps = desc != NULL ? desc->max_steps : 0;
    exo_jctx c = {
        .arena = {.limit_bytes = EXO_J_MAX_ARENA_BYTES},
        .err = err,
        .fault = EXO_EINVAL,
        .max_depth = EXO_J_MAX_RENDER_DEPTH,
        .max_steps = max_steps != 0 && max_steps < EXO_J_MAX_STEPS ? max_steps : EXO_J_MAX_STEPS,
        .globals = &globals,
        .blocks = t->blocks,
        .now_unix = desc != NULL ? desc->now_unix : 0,
    };
    exo_jvalue root = from_json(&c, vars);
    if (exo_jok(&c)) {
        globals.vars = *root.dict;
        exo_jexec_template(&c, t->body);
    }
    if (exo_jok(&c)) {
        exo_buf_append(out, exo_buf_str(&c.text), c.text.n);
        if (!exo_buf_ok(out)) exo_jfail_as(&c, EXO_ENOMEM, "no room for the rendered prompt");
    }
    exo_buf_finish(&c.text);
    exo_arena_finish(&c.arena);
    return c.status;
}
