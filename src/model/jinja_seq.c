/* jinja_seq.c - filters on sequences and mappings, and the one sort behind all of them.
 *
 * What is a generator in jinja2 is an iterator here: always true, without a length, read once.
 * Templates lean on that ("{% if x|selectattr(...) %}" is always taken). */
#include "model/jinja.h"

#include <math.h>

#include <string.h>

/* ---- sorting ---- */

/* Each list holds n keys and behind them their n items. */
typedef struct {
    exo_jlist *in, *out;
    size_t n;
    bool reverse;
} sorter;

static bool comes_after(exo_jctx *c, const sorter *s, exo_jvalue a, exo_jvalue b) {
    exo_jcharge(c, 1);
    return s->reverse ? exo_jcompare(c, EXO_J_LT, a, b) : exo_jcompare(c, EXO_J_LT, b, a);
}

/* Merges the sorted runs [from, mid) and [mid, to). */
static void merge(exo_jctx *c, const sorter *s, size_t from, size_t mid, size_t to) {
    const exo_jvalue *keys = s->in->items;
    size_t i = from, k = mid;
    for (size_t at = from; at < to; at++) {
        bool right = i == mid || (k < to && comes_after(c, s, keys[i], keys[k]));
        size_t take = right ? k++ : i++;
        s->out->items[at] = keys[take];
        s->out->items[s->n + at] = keys[s->n + take];
    }
}

void exo_jsort(exo_jctx *c, exo_jvalue *keys, exo_jvalue *items, size_t n, bool reverse) {
    if (n < 2) return;
    sorter s = {exo_jlist_new(c, 2 * n), exo_jlist_new(c, 2 * n), n, reverse};
    if (s.in == NULL || s.out == NULL) return;
    memcpy(s.in->items, keys, n * sizeof *keys);
    memcpy(s.in->items + n, items, n * sizeof *items);
    for (size_t width = 1; width < n && exo_jok(c); width *= 2) {
        for (size_t from = 0; from < n && exo_jok(c); from += 2 * width) {
            size_t mid = from + width < n ? from + width : n;
            merge(c, &s, from, mid, mid + width < n ? mid + width : n);
        }
        exo_jlist *swap = s.in;
        s.in = s.out;
        s.out = swap;
    }
    if (!exo_jok(c)) return;
    memcpy(keys, s.in->items, n * sizeof *keys);
    memcpy(items, s.in->items + n, n * sizeof *items);
}

static exo_jvalue fold_case(exo_jctx *c, exo_jvalue v, bool case_sensitive) {
    return v.type == EXO_J_STRING && !case_sensitive ? exo_jstr_lower(c, v.s) : v;
}

/* "name,age" sorts by a list of both. */
static exo_jvalue sort_key(exo_jctx *c, exo_jvalue item, exo_jvalue attribute, bool cased) {
    bool several = attribute.type == EXO_J_STRING && attribute.s->n > 0 &&
                   memchr(attribute.s->s, ',', attribute.s->n) != NULL;
    if (!several) return fold_case(c, exo_jget_path(c, item, attribute, exo_jabsent), cased);
    exo_jlist *key = exo_jlist_new(c, 2);
    const exo_jstr *paths = attribute.s;
    for (size_t from = 0; from <= paths->n && exo_jok(c);) {
        const char *comma = from < paths->n ? memchr(paths->s + from, ',', paths->n - from) : NULL;
        size_t to = comma != NULL ? (size_t)(comma - paths->s) : paths->n;
        exo_jvalue path = exo_jsubstr(c, paths, from, to);
        exo_jvalue part = exo_jget_path(c, item, path, exo_jabsent);
        exo_jlist_append(c, key, fold_case(c, part, cased));
        from = to + 1;
    }
    return exo_jlist_value(EXO_J_LIST, key);
}

static exo_jlist *copy_items(exo_jctx *c, exo_jvalue v) {
    exo_jlist *from = exo_jiterate(c, v);
    if (from == NULL) return NULL;
    exo_jcharge(c, from->n / 4);
    exo_jlist *copy = exo_jlist_new(c, from->n);
    for (size_t i = 0; i < from->n && exo_jok(c); i++) exo_jlist_append(c, copy, from->items[i]);
    return exo_jok(c) ? copy : NULL;
}

/* Lists of what "a.b,c" names of an item: they compare one by one, and equals (two undefined
 * values, say) are never asked which is less. */
static exo_jvalue sort_keys(exo_jctx *c, exo_jvalue item, exo_jvalue attribute, bool cased) {
    exo_jlist *keys = exo_jlist_new(c, 1);
    if (attribute.type != EXO_J_STRING) {
        exo_jlist_append(c, keys, sort_key(c, item, attribute, cased));
        return exo_jlist_value(EXO_J_LIST, keys);
    }
    const exo_jstr *s = attribute.s;
    for (size_t from = 0, end; from <= s->n && exo_jok(c); from = end + 1) {
        const char *comma = from < s->n ? memchr(s->s + from, ',', s->n - from) : NULL;
        end = comma != NULL ? (size_t)(comma - s->s) : s->n;
        exo_jlist_append(c, keys, sort_key(c, item, exo_jsubstr(c, s, from, end), cased));
    }
    return exo_jlist_value(EXO_J_LIST, keys);
}

/* sort(reverse=false, case_sensitive=false, attribute=none) */
static exo_jvalue filter_sort(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *l = copy_items(c, self), *keys = exo_jlist_new(c, l == NULL ? 0 : l->n);
    bool cased = exo_jarg_bool(a, 1, false);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        exo_jlist_append(c, keys, sort_keys(c, l->items[i], a->v[2], cased));
    }
    if (!exo_jok(c)) keys = NULL;
    bool reverse = exo_jarg_int(c, a, 0, 0) != 0;
    if (keys != NULL && exo_jok(c)) exo_jsort(c, keys->items, l->items, l->n, reverse);
    return exo_jlist_value(EXO_J_LIST, l);
}

/* dictsort(case_sensitive=false, by="key", reverse=false) */
static exo_jvalue filter_dictsort(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    const exo_jstr *by = exo_jarg_str(c, a, 1, "key");
    bool by_value = exo_jstr_is(by, "value"), cased = exo_jarg_bool(a, 0, false);
    if (!by_value && !exo_jstr_is(by, "key")) {
        return exo_jfail(c, "You can only sort by either \"key\" or \"value\"");
    }
    if (self.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, self);
    if (self.type != EXO_J_DICT) return exo_jfail(c, "dictsort works on mappings");
    size_t n = self.dict->n;
    exo_jlist *pairs = exo_jlist_new(c, n), *keys = exo_jlist_new(c, n);
    for (size_t i = 0; i < n && exo_jok(c); i++) {
        const exo_jentry *e = &self.dict->entries[i];
        exo_jlist_append(c, pairs, exo_jpair(c, e->key, e->value));
        exo_jlist_append(c, keys, fold_case(c, by_value ? e->value : e->key, cased));
    }
    bool reverse = exo_jarg_int(c, a, 2, 0) != 0;
    if (exo_jok(c)) exo_jsort(c, keys->items, pairs->items, n, reverse);
    return exo_jlist_value(EXO_J_LIST, pairs);
}

/* groupby(attribute, default=none, case_sensitive=false) */
static exo_jvalue filter_groupby(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    bool cased = exo_jarg_bool(a, 2, false);
    exo_jlist *l = copy_items(c, self), *groups = exo_jlist_new(c, 0), *members = NULL;
    exo_jlist *keys = exo_jlist_new(c, l == NULL ? 0 : l->n);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jvalue key = exo_jget_path(c, l->items[i], a->v[0], a->v[1]);
        exo_jlist_append(c, keys, fold_case(c, key, cased));
    }
    if (!exo_jok(c)) return exo_jundefined;
    exo_jsort(c, keys->items, l->items, l->n, false);
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        if (i == 0 || !exo_jequal(c, keys->items[i], keys->items[i - 1])) {
            members = exo_jlist_new(c, 0);
            exo_jvalue name = exo_jget_path(c, l->items[i], a->v[0], a->v[1]);
            exo_jvalue group = exo_jpair(c, name, exo_jlist_value(EXO_J_LIST, members));
            if (exo_jok(c)) group.list->group = true;
            exo_jlist_append(c, groups, group);
        }
        exo_jlist_append(c, members, l->items[i]);
    }
    return exo_jlist_value(EXO_J_LIST, groups);
}

/* unique(case_sensitive=false, attribute=none) */
static exo_jlist *make_unique(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jlist *l = exo_jiterate(c, self), *out = exo_jlist_new(c, 0);
    exo_jdict *seen = exo_jdict_new(c);
    for (size_t i = 0; l != NULL && seen != NULL && i < l->n && exo_jok(c); i++) {
        exo_jvalue key = exo_jget_path(c, l->items[i], a->v[1], exo_jabsent), ignored;
        key = fold_case(c, key, exo_jarg_bool(a, 0, false));
        exo_jcharge(c, 1);
        if (!exo_jok(c) || exo_jdict_get(c, seen, key, &ignored)) continue;
        exo_jdict_set(c, seen, key, exo_jnone);
        exo_jlist_append(c, out, l->items[i]);
    }
    return out;
}

static exo_jvalue filter_unique(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jdefer(c, make_unique, self, a);
}

static exo_jvalue extreme(exo_jctx *c, exo_jvalue self, const exo_jargs *a, exo_jcmp better) {
    exo_jlist *l = exo_jiterate(c, self);
    if (l == NULL) return exo_jundefined;
    if (l->n == 0) return exo_jundefined_hint(c, "No aggregated item, sequence was empty.");
    size_t best = 0;
    exo_jvalue best_key = exo_jundefined;
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        exo_jvalue key = exo_jget_path(c, l->items[i], a->v[1], exo_jabsent);
        key = fold_case(c, key, exo_jarg_bool(a, 0, false));
        exo_jcharge(c, 1);
        if (i > 0 && !exo_jcompare(c, better, key, best_key)) continue;
        best = i;
        best_key = key;
    }
    return l->items[best];
}

static exo_jvalue filter_min(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return extreme(c, self, a, EXO_J_LT);
}

static exo_jvalue filter_max(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return extreme(c, self, a, EXO_J_GT);
}

/* ---- taking and joining ---- */

static exo_jvalue filter_list(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    return exo_jlist_value(EXO_J_LIST, copy_items(c, self));
}

static exo_jlist *make_items(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    if (self.type != EXO_J_UNDEFINED && self.type != EXO_J_DICT) {
        exo_jfail(c, "Can only get item pairs from a mapping.");
        return NULL;
    }
    size_t n = self.type == EXO_J_DICT ? self.dict->n : 0;
    exo_jlist *l = exo_jlist_new(c, n);
    for (size_t i = 0; i < n && exo_jok(c); i++) {
        exo_jlist_append(c, l,
                         exo_jpair(c, self.dict->entries[i].key, self.dict->entries[i].value));
    }
    return l;
}

static exo_jvalue filter_items(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jdefer(c, make_items, self, a);
}

static exo_jvalue filter_first(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    exo_jvalue v;
    if (self.type == EXO_J_ITERATOR && exo_jpull(c, self.list, &v)) return v;
    if (self.type == EXO_J_STRING && self.s->n > 0) return exo_jget_item(c, self, exo_jint(0));
    exo_jlist *l = exo_jiterate(c, self);
    if (l == NULL) return exo_jundefined;
    if (l->n == 0) return exo_jundefined_hint(c, "No first item, sequence was empty.");
    return l->items[0];
}

static exo_jvalue filter_last(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    if (self.type == EXO_J_ITERATOR) return exo_jfail(c, "'generator' object is not reversible");
    if (self.type == EXO_J_STRING && self.s->n > 0) return exo_jget_item(c, self, exo_jint(-1));
    exo_jlist *l = exo_jiterate(c, self);
    if (l == NULL) return exo_jundefined;
    if (l->n == 0) return exo_jundefined_hint(c, "No last item, sequence was empty.");
    return l->items[l->n - 1];
}

static void put_part(exo_jctx *c, exo_jvalue part, bool safe) {
    if (!safe || (part.type == EXO_J_STRING && part.markup))
        exo_jprint(c, part);
    else
        exo_jput_str(c, exo_jstr_escape(c, exo_jto_str(c, part).s).s);
}

/* join(d="", attribute=none); with autoescape, markup among the parts escapes the others */
static exo_jvalue filter_join(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue d =
        a->v[0].type == EXO_J_ABSENT ? exo_jstring_borrow(c, "", 0) : exo_jto_str(c, a->v[0]);
    exo_jlist *l = exo_jiterate(c, self);
    exo_jlist *parts = exo_jlist_new(c, 0);
    bool safe = c->autoescape && d.markup;
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jvalue item = exo_jget_path(c, l->items[i], a->v[1], exo_jabsent);
        exo_jcharge(c, 1);
        safe |= c->autoescape && item.type == EXO_J_STRING && item.markup;
        exo_jlist_append(c, parts, item);
    }
    size_t mark = exo_jmark(c);
    for (size_t i = 0; exo_jok(c) && i < parts->n; i++) {
        if (i > 0) put_part(c, d, safe);
        put_part(c, parts->items[i], safe);
    }
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = safe;
    return text;
}

static exo_jvalue reversed_string(exo_jctx *c, const exo_jstr *s) {
    size_t mark = exo_jmark(c);
    exo_jcharge(c, s->n / 8);
    for (size_t pos = s->n; pos > 0 && exo_jok(c);) {
        size_t prev = exo_jutf8_prev(s->s, pos);
        exo_jput(c, s->s + prev, pos - prev);
        pos = prev;
    }
    return exo_jtake(c, mark);
}

static exo_jvalue filter_reverse(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    if (self.type == EXO_J_STRING) {
        exo_jvalue text = reversed_string(c, self.s);
        text.markup = self.markup;
        return text;
    }
    exo_jlist *l = exo_jiterate(c, self), *out;
    if (l == NULL) return exo_jundefined;
    out = exo_jlist_new(c, l->n);
    for (size_t i = l->n; i > 0 && exo_jok(c); i--) exo_jlist_append(c, out, l->items[i - 1]);
    return exo_jlist_value(self.type == EXO_J_ITERATOR ? EXO_J_LIST : EXO_J_ITERATOR, out);
}

/* sum(attribute=none, start=0) */
static exo_jvalue filter_sum(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue sum = a->v[1].type == EXO_J_ABSENT ? exo_jint(0) : a->v[1];
    if (sum.type == EXO_J_STRING)
        return exo_jfail(c, "sum() can't sum strings [use ''.join(seq) instead]");
    exo_jlist *l = exo_jiterate(c, self);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        sum = exo_jbinary(c, EXO_J_ADD, sum, exo_jget_path(c, l->items[i], a->v[0], exo_jabsent));
    }
    return sum;
}

/* batch(linecount, fill_with=none) */
static exo_jlist *make_batch(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    exo_jvalue count = a->v[0];
    int64_t size = -1; /* no number of items equals what is no number */
    if (count.type == EXO_J_INT) size = count.i;
    if (count.type == EXO_J_BOOL) size = count.b;
    if (count.type == EXO_J_FLOAT && count.f == floor(count.f) && fabs(count.f) < 0x1p53)
        size = (int64_t)count.f;
    if (exo_jgiven(a, 1)) size = exo_jarg_int(c, a, 0, 1);
    exo_jlist *l = exo_jiterate(c, self), *out = exo_jlist_new(c, 0), *row = NULL;
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        if (row == NULL || (int64_t)row->n == size) {
            if (row == NULL && size == 0) /* full before anything is in it */
                exo_jlist_append(c, out, exo_jlist_value(EXO_J_LIST, exo_jlist_new(c, 0)));
            row = exo_jlist_new(c, 0);
            exo_jlist_append(c, out, exo_jlist_value(EXO_J_LIST, row));
        }
        exo_jlist_append(c, row, l->items[i]);
    }
    while (row != NULL && exo_jgiven(a, 1) && (int64_t)row->n < size && exo_jok(c)) {
        exo_jlist_append(c, row, a->v[1]);
        exo_jcharge(c, 1);
    }
    return out;
}

static exo_jvalue filter_batch(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jdefer(c, make_batch, self, a);
}

/* slice(slices, fill_with=none) */
static exo_jlist *make_slice(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    int64_t n_slices = exo_jarg_int(c, a, 0, 1);
    exo_jlist *l = exo_jiterate(c, self), *out = exo_jlist_new(c, 0);
    if (n_slices == 0) {
        exo_jfail(c, "integer division or modulo by zero");
        return NULL;
    }
    int64_t n = l == NULL ? 0 : (int64_t)l->n, at = 0;
    for (int64_t i = 0; i < n_slices && exo_jok(c); i++) {
        exo_jlist *column = exo_jlist_new(c, 0);
        int64_t end = at + n / n_slices + (i < n % n_slices);
        for (; at < end; at++) exo_jlist_append(c, column, l->items[at]);
        if (exo_jgiven(a, 1) && i >= n % n_slices) exo_jlist_append(c, column, a->v[1]);
        exo_jlist_append(c, out, exo_jlist_value(EXO_J_LIST, column));
        exo_jcharge(c, 1);
    }
    return out;
}

static exo_jvalue filter_slice(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    return exo_jdefer(c, make_slice, self, a);
}

static const exo_jnative filters[] = {
    {"sort", filter_sort, "reverse case_sensitive attribute", 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1},
    {"unique", filter_unique, "case_sensitive attribute", 0},
    {"min", filter_min, "case_sensitive attribute", 0},
    {"max", filter_max, "case_sensitive attribute", 0},
    {"list", filter_list, "", 0},
    {"items", filter_items, "", 0},
    {"first", filter_first, "", 0},
    {"last", filter_last, "", 0},
    {"join", filter_join, "d attribute", 0},
    {"reverse", filter_reverse, "", 0},
    {"sum", filter_sum, "attribute start", 0},
    {"batch", filter_batch, "linecount fill_with", 1},
    {"slice", filter_slice, "slices fill_with", 1},
};

const exo_jnative *exo_jseq_filter_find(const exo_jstr *name) {
    return exo_jnative_find(filters, sizeof filters / sizeof *filters, name);
}
