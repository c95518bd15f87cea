/* json_limits.c - see json_limits.h.
 *
 * Outside of strings each bracket, each quote and each run of other characters begins a value, so
 * no grammar is needed to count at least as much as any parser would build. */
#include "model/json_limits.h"

#include <stdbool.h>
#include <string.h>

typedef struct {
    const char *text;
    size_t n, at;
    uint32_t depth, containers, values;
} scan;

static exo_status too_much(size_t at, const char *what, size_t limit, exo_error *err) {
    return exo_error_set(err, EXO_EUNSUPPORTED, "JSON with %s %zu at byte %zu", what, limit, at);
}

/* Of a number, true, false, null; what is no JSON at all counts as one of them. */
static bool is_scalar(char c) { return strchr(" \t\r\n,:]}[{\"", c) == NULL || c == '\0'; }

/* From the quote to behind the one that ends it. */
static exo_status skip_string(scan *s, const exo_json_limits *limits, exo_error *err) {
    size_t begin = ++s->at;
    while (s->at < s->n && s->text[s->at] != '"') s->at += s->text[s->at] == '\\' ? 2 : 1;
    if (s->at > s->n) s->at = s->n; /* a backslash ends the text */
    if (s->at - begin > limits->string_bytes)
        return too_much(begin, "a string of more bytes than", limits->string_bytes, err);
    if (s->at < s->n) s->at++;
    return EXO_OK;
}

static exo_status open_container(scan *s, const exo_json_limits *limits, exo_error *err) {
    if (s->depth == limits->depth)
        return too_much(s->at, "lists and objects deeper than", limits->depth, err);
    if (s->containers == limits->containers)
        return too_much(s->at, "more lists and objects than", limits->containers, err);
    s->depth++;
    s->containers++;
    s->at++;
    return EXO_OK;
}

static exo_status step(scan *s, const exo_json_limits *limits, exo_error *err) {
    char c = s->text[s->at];
    if (c == '}' || c == ']') s->depth -= s->depth > 0;
    if (!is_scalar(c) && c != '{' && c != '[' && c != '"') {
        s->at++;
        return EXO_OK;
    }
    if (s->values == limits->values)
        return too_much(s->at, "more values than", limits->values, err);
    s->values++;
    if (c == '"') return skip_string(s, limits, err);
    if (c == '{' || c == '[') return open_container(s, limits, err);
    while (s->at < s->n && is_scalar(s->text[s->at])) s->at++;
    return EXO_OK;
}

exo_status exo_json_check(const char *text, size_t n, const exo_json_limits *limits,
                          exo_error *err) {
    scan s = {.text = text, .n = n};
    exo_status st = EXO_OK;
    while (st == EXO_OK && s.at < n) st = step(&s, limits, err);
    return st;
}
