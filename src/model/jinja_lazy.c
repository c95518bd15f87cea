/* jinja_lazy.c - what map, select, batch and their like return: elements made when they are asked
 * for.
 *
 * As generators in jinja2: nothing is looked at, and nothing fails, before the first element is
 * wanted, and what nobody wants is never made. */
#include "model/jinja.h"

#include <string.h>

typedef bool next_fn(exo_jctx *c, exo_jlazy *lazy, exo_jvalue *out);

struct exo_jlazy {
    next_fn *next;
    exo_jlazy_fn *make; /* DEFERRED: all elements at once */
    exo_jvalue source;
    exo_jargs args;
    const exo_jnative *fn; /* a filter or test, or NULL */
    exo_jvalue attribute, otherwise;
    bool wanted, by_attribute;
    bool started;
    exo_jlist *items; /* of the source, unless that is an iterator */
    size_t pos;
};

bool exo_jpull(exo_jctx *c, exo_jlist *iterator, exo_jvalue *out) {
    if (!exo_jok(c)) return false;
    if (iterator->pos < iterator->n) {
        *out = iterator->items[iterator->pos++];
        return true;
    }
    if (iterator->lazy == NULL || !exo_jenter(c)) return false;
    bool more = iterator->lazy->next(c, iterator->lazy, out) && exo_jok(c);
    exo_jleave(c);
    return more;
}

static bool next_of_source(exo_jctx *c, exo_jlazy *lazy, exo_jvalue *out) {
    exo_jcharge(c, 1);
    if (lazy->source.type == EXO_J_ITERATOR) return exo_jpull(c, lazy->source.list, out);
    if (lazy->items == NULL) lazy->items = exo_jiterate(c, lazy->source);
    if (!exo_jok(c) || lazy->pos >= lazy->items->n) return false;
    *out = lazy->items->items[lazy->pos++];
    return true;
}

static exo_jvalue lazy_value(exo_jctx *c, const exo_jlazy *lazy) {
    exo_jlist *l = exo_jlist_new(c, 0);
    exo_jlazy *copy = exo_jalloc(c, 1, sizeof *copy);
    if (l == NULL || copy == NULL) return exo_jundefined;
    *copy = *lazy;
    l->lazy = copy;
    return exo_jlist_value(EXO_J_ITERATOR, l);
}

/* ---- all at once, but later ---- */

static bool next_deferred(exo_jctx *c, exo_jlazy *lazy, exo_jvalue *out) {
    if (!lazy->started) {
        lazy->started = true;
        lazy->items = lazy->make(c, lazy->source, &lazy->args);
    }
    if (!exo_jok(c) || lazy->items == NULL || lazy->pos >= lazy->items->n) return false;
    *out = lazy->items->items[lazy->pos++];
    return true;
}

exo_jvalue exo_jdefer(exo_jctx *c, exo_jlazy_fn *make, exo_jvalue source, const exo_jargs *a) {
    exo_jvalue *v = exo_jalloc(c, a->n > 0 ? a->n : 1, sizeof *v);
    if (v == NULL) return exo_jundefined;
    if (a->n > 0) memcpy(v, a->v, a->n * sizeof *v);
    exo_jlazy lazy = {
        .next = next_deferred, .make = make, .source = source, .args = {.v = v, .n = a->n}};
    return lazy_value(c, &lazy);
}

/* ---- map, select, reject ---- */

static exo_jargs rest_of(const exo_jargs *a, size_t from) {
    return (exo_jargs){
        .v = a->n > from ? a->v + from : NULL, .n = a->n > from ? a->n - from : 0, .kw = a->kw};
}

static exo_jvalue keyword(exo_jctx *c, const exo_jargs *a, const char *name) {
    exo_jvalue v;
    if (a->kw == NULL) return exo_jabsent;
    const exo_jstr *key = exo_jstring_borrow(c, name, strlen(name)).s;
    return exo_jdict_get_name(c, a->kw, key, &v) ? v : exo_jabsent;
}

static const exo_jnative *find_named(exo_jctx *c, exo_jvalue name, bool test) {
    const exo_jnative *fn = NULL;
    if (name.type == EXO_J_STRING) fn = test ? exo_jtest_find(name.s) : exo_jfilter_find(name.s);
    if (fn == NULL) {
        const exo_jstr *s = exo_jto_str(c, name).s;
        exo_jfail(c, "No %s named '%.*s'.", test ? "test" : "filter", exo_jshown(s), s->s);
    }
    return fn;
}

static void start_map(exo_jctx *c, exo_jlazy *lazy) {
    const exo_jargs *a = &lazy->args;
    lazy->attribute = keyword(c, a, "attribute");
    lazy->otherwise = keyword(c, a, "default");
    bool by_path = a->n == 0 && lazy->attribute.type != EXO_J_ABSENT;
    if (a->n == 0 && !by_path) {
        exo_jfail(c, "map requires a filter argument");
    } else if (!by_path) {
        lazy->fn = find_named(c, a->v[0], false);
    } else if (a->kw->n > 1u + (lazy->otherwise.type != EXO_J_ABSENT)) {
        exo_jfail(c, "map(attribute=...) takes no keyword arguments but default");
    }
}

static bool next_mapped(exo_jctx *c, exo_jlazy *lazy, exo_jvalue *out) {
    exo_jvalue item;
    if (!lazy->started) {
        lazy->started = true;
        if (!exo_jtruth(lazy->source)) lazy->items = exo_jlist_new(c, 0);
        if (exo_jtruth(lazy->source)) start_map(c, lazy);
    }
    if (!exo_jok(c) || !next_of_source(c, lazy, &item)) return false;
    exo_jargs rest = rest_of(&lazy->args, 1);
    *out = lazy->fn == NULL ? exo_jget_path(c, item, lazy->attribute, lazy->otherwise)
                            : exo_jcall_native(c, lazy->fn, item, &rest);
    return true;
}

static void start_choice(exo_jctx *c, exo_jlazy *lazy) {
    const exo_jargs *a = &lazy->args;
    size_t i_test = lazy->by_attribute;
    lazy->attribute = exo_jabsent;
    if (lazy->by_attribute && a->n == 0) {
        exo_jfail(c, "Missing parameter for attribute name");
        return;
    }
    if (lazy->by_attribute) lazy->attribute = a->v[0];
    if (a->n > i_test) lazy->fn = find_named(c, a->v[i_test], true);
}

static bool next_chosen(exo_jctx *c, exo_jlazy *lazy, exo_jvalue *out) {
    exo_jvalue item;
    if (!lazy->started) {
        lazy->started = true;
        if (!exo_jtruth(lazy->source)) lazy->items = exo_jlist_new(c, 0);
        if (exo_jtruth(lazy->source)) start_choice(c, lazy);
    }
    exo_jargs rest = rest_of(&lazy->args, 1u + lazy->by_attribute);
    while (exo_jok(c) && next_of_source(c, lazy, &item)) {
        exo_jvalue v = exo_jget_path(c, item, lazy->attribute, exo_jabsent);
        if (!exo_jok(c)) return false;
        if (lazy->fn != NULL) v = exo_jcall_native(c, lazy->fn, v, &rest);
        if (!exo_jok(c) || exo_jtruth(v) != lazy->wanted) continue;
        *out = item;
        return true;
    }
    return false;
}

/* map("filter", args...) or map(attribute="path", default=none) */
static exo_jvalue filter_map(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return lazy_value(c, &(exo_jlazy){.next = next_mapped, .source = self, .args = *a});
}

static exo_jvalue choose(exo_jctx *c, exo_jvalue self, const exo_jargs *a, bool wanted,
                         bool by_attribute) {
    return lazy_value(c, &(exo_jlazy){.next = next_chosen,
                                      .source = self,
                                      .args = *a,
                                      .wanted = wanted,
                                      .by_attribute = by_attribute});
}

static exo_jvalue filter_select(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return choose(c, self, a, true, false);
}

static exo_jvalue filter_reject(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return choose(c, self, a, false, false);
}

static exo_jvalue filter_selectattr(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return choose(c, self, a, true, true);
}

static exo_jvalue filter_rejectattr(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return choose(c, self, a, false, true);
}

static const exo_jnative filters[] = {
    {"map", filter_map, "*", 0},
    {"select", filter_select, "*", 0},
    {"reject", filter_reject, "*", 0},
    {"selectattr", filter_selectattr, "*", 0},
    {"rejectattr", filter_rejectattr, "*", 0},
};

const exo_jnative *exo_jlazy_filter_find(const exo_jstr *name) {
    return exo_jnative_find(filters, sizeof filters / sizeof *filters, name);
}
