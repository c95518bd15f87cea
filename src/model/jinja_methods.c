/* jinja_methods.c - the methods of lists, dictionaries, loops and cyclers.
 *
 * Lists and dictionaries may be changed by templates (Kimi-K2's does), as in llama.cpp. */
#include "model/jinja.h"

#include <string.h>

/* ---- lists and tuples ---- */

static exo_jvalue list_append(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist_append(c, self.list, a->v[0]);
    return exo_jnone;
}

static exo_jvalue list_extend(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *more = exo_jiterate(c, a->v[0]);
    size_t n = more == NULL ? 0 : more->n; /* fixed: more may be self */
    for (size_t i = 0; i < n && exo_jok(c); i++) {
        exo_jlist_append(c, self.list, more->items[i]);
    }
    return exo_jnone;
}

static exo_jvalue list_insert(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t n = (int64_t)self.list->n, i = exo_jarg_int(c, a, 0, 0);
    if (i < 0) i = i < -n ? 0 : i + n;
    if (i > n) i = n;
    if (exo_jok(c)) exo_jlist_insert(c, self.list, (size_t)i, a->v[1]);
    return exo_jnone;
}

static exo_jvalue list_pop(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t n = (int64_t)self.list->n, i = exo_jarg_int(c, a, 0, -1);
    if (n == 0) return exo_jfail(c, "pop from empty list");
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0 || i >= n) return exo_jfail(c, "pop index out of range");
    exo_jvalue v = self.list->items[i];
    exo_jlist_remove(c, self.list, (size_t)i);
    return v;
}

/* From and up to the positions that a->v[1] and a->v[2] give. */
static size_t position_within(exo_jctx *c, const exo_jlist *l, const exo_jargs *a) {
    int64_t n = (int64_t)l->n, from = exo_jarg_int(c, a, 1, 0), to = exo_jarg_int(c, a, 2, n);
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to = to < -n ? 0 : to + n;
    for (int64_t i = from; i < to && i < n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        if (exo_jequal(c, l->items[i], a->v[0])) return (size_t)i;
    }
    return SIZE_MAX;
}

static size_t position(exo_jctx *c, const exo_jlist *l, exo_jvalue v) {
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        if (exo_jequal(c, l->items[i], v)) return i;
    }
    return SIZE_MAX;
}

static exo_jvalue list_index(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    size_t i = position_within(c, self.list, a);
    return i != SIZE_MAX ? exo_jint((int64_t)i) : exo_jfail(c, "the value is not in the list");
}

static exo_jvalue list_remove(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    size_t i = position(c, self.list, a->v[0]);
    if (i == SIZE_MAX) return exo_jfail(c, "list.remove(x): x not in list");
    exo_jlist_remove(c, self.list, i);
    return exo_jnone;
}

static exo_jvalue list_count(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t n = 0;
    for (size_t i = 0; i < self.list->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        n += exo_jequal(c, self.list->items[i], a->v[0]);
    }
    return exo_jint(n);
}

static exo_jvalue list_reverse(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jlist *l = self.list;
    exo_jcharge(c, l->n / 4);
    for (size_t i = 0; i < l->n / 2; i++) {
        exo_jvalue other = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = l->items[i];
        l->items[i] = other;
    }
    return exo_jnone;
}

static exo_jvalue list_sort(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    static const exo_jstr reverse_name = {.s = "reverse", .n = 7, .n_chars = 7};
    exo_jlist *keys = exo_jlist_new(c, self.list->n);
    exo_jvalue reverse = exo_jint(0);
    bool given = a->kw != NULL && exo_jdict_get_name(c, a->kw, &reverse_name, &reverse);
    if (a->n > 0) return exo_jfail(c, "sort() takes no positional arguments");
    if (a->kw != NULL && a->kw->n > given) return exo_jfail(c, "sort() takes reverse only");
    int64_t backwards = exo_jarg_int(c, &(exo_jargs){.v = &reverse, .n = 1}, 0, 0);
    if (keys == NULL || !exo_jok(c)) return exo_jnone;
    if (self.list->n > 0) memcpy(keys->items, self.list->items, self.list->n * sizeof *keys->items);
    exo_jsort(c, keys->items, self.list->items, self.list->n, backwards != 0);
    return exo_jnone;
}

static exo_jvalue list_copy(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jlist *copy = exo_jlist_new(c, self.list->n);
    for (size_t i = 0; i < self.list->n; i++) exo_jlist_append(c, copy, self.list->items[i]);
    return exo_jlist_value(EXO_J_LIST, copy);
}

static exo_jvalue list_clear(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)c;
    (void)a;
    self.list->n = 0;
    return exo_jnone;
}

static const exo_jnative list_methods[] = {
    {"append", list_append, "/ object", 1},
    {"extend", list_extend, "/ iterable", 1},
    {"insert", list_insert, "/ index object", 2},
    {"pop", list_pop, "/ index", 0},
    {"index", list_index, "/ value start stop", 1},
    {"remove", list_remove, "/ value", 1},
    {"count", list_count, "/ value", 1},
    {"reverse", list_reverse, "", 0},
    {"sort", list_sort, "*", 0},
    {"copy", list_copy, "", 0},
    {"clear", list_clear, "", 0},
};

static exo_jvalue range_index(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *l = exo_jiterate(c, self);
    return l != NULL ? list_index(c, exo_jlist_value(EXO_J_LIST, l), a) : exo_jundefined;
}

static exo_jvalue range_count(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *l = exo_jiterate(c, self);
    return l != NULL ? list_count(c, exo_jlist_value(EXO_J_LIST, l), a) : exo_jundefined;
}

static const exo_jnative range_methods[] = {
    {"index", range_index, "/ value", 1},
    {"count", range_count, "/ value", 1},
};

static const exo_jnative tuple_methods[] = {
    {"index", list_index, "/ value start stop", 1},
    {"count", list_count, "/ value", 1},
};

/* ---- dictionaries ---- */

static exo_jvalue view_of(exo_jctx *c, const exo_jdict *d, exo_jview_kind kind) {
    exo_jlist *l = exo_jlist_new(c, d->n);
    if (l == NULL) return exo_jundefined;
    l->view_kind = kind;
    for (size_t i = 0; i < d->n && exo_jok(c); i++) {
        const exo_jentry *e = &d->entries[i];
        exo_jlist_append(c, l,
                         kind == EXO_J_KEYS     ? e->key
                         : kind == EXO_J_VALUES ? e->value
                                                : exo_jpair(c, e->key, e->value));
    }
    return exo_jlist_value(EXO_J_VIEW, l);
}

static exo_jvalue dict_keys(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return view_of(c, self.dict, EXO_J_KEYS);
}

static exo_jvalue dict_values(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return view_of(c, self.dict, EXO_J_VALUES);
}

static exo_jvalue dict_items(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return view_of(c, self.dict, EXO_J_ITEMS);
}

static exo_jvalue given_or_none(const exo_jargs *a, size_t i) {
    return a->v[i].type == EXO_J_ABSENT ? exo_jnone : a->v[i];
}

static exo_jvalue dict_get(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue v;
    return exo_jdict_get(c, self.dict, a->v[0], &v) ? v : given_or_none(a, 1);
}

static exo_jvalue dict_pop(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue v;
    if (exo_jdict_remove(c, self.dict, a->v[0], &v)) return v;
    if (a->v[1].type != EXO_J_ABSENT) return a->v[1];
    return exo_jfail(c, "pop: the key is not in the dictionary");
}

static exo_jvalue dict_popitem(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jvalue value;
    if (self.dict->n == 0) return exo_jfail(c, "popitem(): dictionary is empty");
    exo_jvalue key = self.dict->entries[self.dict->n - 1].key;
    exo_jdict_remove(c, self.dict, key, &value);
    return exo_jpair(c, key, value);
}

/* A new dictionary with the given keys, whatever is in this one. */
static exo_jvalue dict_fromkeys(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    exo_jlist *keys = exo_jiterate(c, a->v[0]);
    exo_jdict *d = exo_jdict_new(c);
    for (size_t i = 0; exo_jok(c) && i < keys->n; i++)
        exo_jdict_set(c, d, keys->items[i], given_or_none(a, 1));
    return d == NULL ? exo_jundefined : (exo_jvalue){.type = EXO_J_DICT, .dict = d};
}

static exo_jvalue dict_setdefault(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue v;
    if (exo_jdict_get(c, self.dict, a->v[0], &v)) return v;
    v = given_or_none(a, 1);
    exo_jdict_set(c, self.dict, a->v[0], v);
    return v;
}

static void add_all(exo_jctx *c, exo_jdict *to, const exo_jdict *from) {
    for (size_t i = 0; i < from->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        exo_jdict_set(c, to, from->entries[i].key, from->entries[i].value);
    }
}

static exo_jvalue dict_update(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    if (a->n > 1 || (a->n == 1 && a->v[0].type != EXO_J_DICT)) {
        return exo_jfail(c, "update() expects one dictionary");
    }
    if (a->n == 1) add_all(c, self.dict, a->v[0].dict);
    if (a->kw != NULL) add_all(c, self.dict, a->kw);
    return exo_jnone;
}

static exo_jvalue dict_copy(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jdict *copy = exo_jdict_new(c);
    if (copy == NULL) return exo_jundefined;
    add_all(c, copy, self.dict);
    return (exo_jvalue){.type = EXO_J_DICT, .dict = copy};
}

static exo_jvalue dict_clear(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)c;
    (void)a;
    *self.dict = (exo_jdict){0};
    return exo_jnone;
}

static const exo_jnative dict_methods[] = {
    {"items", dict_items, "", 0},
    {"keys", dict_keys, "", 0},
    {"values", dict_values, "", 0},
    {"get", dict_get, "/ key default", 1},
    {"pop", dict_pop, "/ key default", 1},
    {"setdefault", dict_setdefault, "/ key default", 1},
    {"update", dict_update, "*", 0},
    {"copy", dict_copy, "", 0},
    {"clear", dict_clear, "", 0},
    {"popitem", dict_popitem, "", 0},
    {"fromkeys", dict_fromkeys, "/ iterable value", 1},
};

/* ---- loops and cyclers ---- */

static exo_jvalue loop_cycle(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    if (a->n == 0) return exo_jfail(c, "no items for cycling given");
    return a->v[(size_t)self.loop->index0 % a->n];
}

static exo_jvalue loop_changed(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *now = exo_jlist_new(c, a->n), *last = self.loop->last_changed;
    for (size_t i = 0; i < a->n; i++) exo_jlist_append(c, now, a->v[i]);
    self.loop->last_changed = now;
    if (last == NULL || now == NULL) return exo_jbool(true);
    return exo_jbool(
        !exo_jequal(c, exo_jlist_value(EXO_J_TUPLE, now), exo_jlist_value(EXO_J_TUPLE, last)));
}

static exo_jvalue cycler_next(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)c;
    (void)a;
    exo_jvalue v = self.list->items[self.list->pos];
    self.list->pos = (self.list->pos + 1) % self.list->n;
    return v;
}

static exo_jvalue cycler_reset(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)c;
    (void)a;
    self.list->pos = 0;
    return exo_jnone;
}

static const exo_jnative loop_methods[] = {
    {"cycle", loop_cycle, "*", 0},
    {"changed", loop_changed, "*", 0},
};

static const exo_jnative cycler_methods[] = {
    {"next", cycler_next, "", 0},
    {"reset", cycler_reset, "", 0},
};

#define METHODS(type, table)                                                                       \
    { type, table, sizeof(table) / sizeof *(table) }

static const struct {
    exo_jtype type;
    const exo_jnative *methods;
    size_t n;
} types[] = {
    METHODS(EXO_J_LIST, list_methods),     METHODS(EXO_J_TUPLE, tuple_methods),
    METHODS(EXO_J_DICT, dict_methods),     METHODS(EXO_J_LOOP, loop_methods),
    METHODS(EXO_J_CYCLER, cycler_methods), METHODS(EXO_J_RANGE, range_methods),
};

#undef METHODS

const exo_jnative *exo_jmethod_find(exo_jtype type, const exo_jstr *name) {
    if (type == EXO_J_STRING) return exo_jstr_method_find(name);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == type) return exo_jnative_find(types[i].methods, types[i].n, name);
    }
    return NULL;
}
