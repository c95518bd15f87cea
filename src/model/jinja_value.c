/* jinja_value.c - strings, lists and dictionaries in the arena of one render.
 *
 * Strings are immutable and share bytes freely (a slice points into its origin).  A string made
 * by concatenation keeps spare room behind it, so that a template which builds its prompt with
 * `x = x + part` in a loop costs linear, not quadratic, memory.
 * Dictionaries keep the order of insertion, as Python's do. */
#include "base/hash.h"
#include "model/jinja.h"

#include <math.h>
#include <string.h>

#define TAIL_MIN_BYTES  64
#define DICT_LINEAR_MAX 8 /* entries looked through one by one, without an index */
#define NOT_FOUND       SIZE_MAX

/* The unused end of a block that concatenated strings share.  Only a string that ends exactly
 * where the used part ends may grow into it; all others keep seeing the bytes they had. */
struct exo_jtail {
    char *used_end;
    size_t room;
};

const exo_jvalue exo_jundefined = {.type = EXO_J_UNDEFINED};
const exo_jvalue exo_jnone = {.type = EXO_J_NONE};
const exo_jvalue exo_jabsent = {.type = EXO_J_ABSENT};

static const exo_jstr empty_str = {.s = ""};

/* ---- strings ---- */

static exo_jvalue wrap(const exo_jstr *s) { return (exo_jvalue){.type = EXO_J_STRING, .s = s}; }

static exo_jvalue make(exo_jctx *c, const char *s, size_t n, size_t n_chars) {
    exo_jstr *str = exo_jalloc(c, 1, sizeof *str);
    if (str == NULL) return wrap(&empty_str);
    *str = (exo_jstr){.s = s, .n = n, .n_chars = n_chars};
    return wrap(str);
}

exo_jvalue exo_jstring_borrow(exo_jctx *c, const char *s, size_t n) {
    return n == 0 ? wrap(&empty_str) : make(c, s, n, exo_jutf8_count(s, n));
}

exo_jvalue exo_jstring(exo_jctx *c, const char *s, size_t n) {
    if (n == 0) return wrap(&empty_str);
    char *copy = exo_jalloc(c, n, 1);
    if (copy == NULL) return wrap(&empty_str);
    memcpy(copy, s, n);
    return exo_jstring_borrow(c, copy, n);
}

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = exo_hash64(s, n, 0);
    return h != 0 ? h : 1;
}

static uint64_t str_hash(exo_jctx *c, const exo_jstr *s) {
    if (s->hash != 0) return s->hash;
    exo_jcharge(c, s->n / 64);
    return hash_bytes(s->s, s->n);
}

exo_jvalue exo_jname(exo_jctx *c, const char *s, size_t n) {
    exo_jstr *str = exo_jalloc(c, 1, sizeof *str);
    if (str == NULL) return wrap(&empty_str);
    *str = (exo_jstr){.s = s, .n = n, .n_chars = exo_jutf8_count(s, n), .hash = hash_bytes(s, n)};
    return wrap(str);
}

exo_jvalue exo_jsubstr(exo_jctx *c, const exo_jstr *s, size_t from, size_t to) {
    if (to > s->n) to = s->n;
    if (from >= to) return wrap(&empty_str);
    if (from == 0 && to == s->n) return wrap(s);
    size_t n = to - from;
    bool ascii = s->n == s->n_chars;
    if (!ascii) exo_jcharge(c, n / 64);
    return make(c, s->s + from, n, ascii ? n : exo_jutf8_count(s->s + from, n));
}

/* A new block with a's bytes and as much room again. */
static exo_jtail *make_tail(exo_jctx *c, const exo_jstr *a, size_t more, const char **begin) {
    size_t n = a->n + more, cap = n < TAIL_MIN_BYTES ? n : 2 * n;
    exo_jtail *tail = exo_jalloc(c, 1, sizeof *tail);
    char *block = exo_jalloc(c, cap, 1);
    if (tail == NULL || block == NULL) return NULL;
    if (a->n > 0) memcpy(block, a->s, a->n);
    *tail = (exo_jtail){.used_end = block + a->n, .room = cap - a->n};
    *begin = block;
    return tail;
}

exo_jvalue exo_jconcat(exo_jctx *c, const exo_jstr *a, const exo_jstr *b) {
    if (a->n == 0) return wrap(b);
    if (b->n == 0) return wrap(a);
    exo_jtail *tail = a->tail;
    const char *begin = a->s;
    if (tail == NULL || tail->used_end != a->s + a->n || tail->room < b->n) {
        tail = make_tail(c, a, b->n, &begin);
    }
    exo_jstr *str = exo_jalloc(c, 1, sizeof *str);
    if (str == NULL || tail == NULL) return wrap(&empty_str);
    exo_jcharge(c, b->n / 64);
    memcpy(tail->used_end, b->s, b->n);
    tail->used_end += b->n;
    tail->room -= b->n;
    *str =
        (exo_jstr){.s = begin, .n = a->n + b->n, .n_chars = a->n_chars + b->n_chars, .tail = tail};
    return wrap(str);
}

exo_jvalue exo_jundefined_name(const exo_jstr *name) {
    return (exo_jvalue){.type = EXO_J_UNDEFINED, .s = name};
}

exo_jvalue exo_jundefined_hint(exo_jctx *c, const char *message) {
    exo_jvalue v = exo_jstring(c, message, strlen(message));
    return (exo_jvalue){.type = EXO_J_UNDEFINED, .hint = true, .s = v.s};
}

bool exo_jstr_equal(const exo_jstr *a, const exo_jstr *b) {
    return a == b || (a->n == b->n && memcmp(a->s, b->s, a->n) == 0);
}

bool exo_jstr_is(const exo_jstr *a, const char *text) {
    return a->n == strlen(text) && memcmp(a->s, text, a->n) == 0;
}

/* ---- lists ---- */

exo_jlist *exo_jlist_new(exo_jctx *c, size_t cap) {
    exo_jlist *l = exo_jalloc(c, 1, sizeof *l);
    if (l == NULL || cap == 0) return l;
    l->items = exo_jalloc(c, cap, sizeof *l->items);
    if (l->items == NULL) return NULL;
    l->cap = cap;
    return l;
}

static bool list_reserve(exo_jctx *c, exo_jlist *l) {
    if (l->n < l->cap) return true;
    size_t cap = l->cap < 4 ? 4 : 2 * l->cap;
    exo_jvalue *items = exo_jalloc(c, cap, sizeof *items);
    if (items == NULL) return false;
    if (l->n > 0) memcpy(items, l->items, l->n * sizeof *items);
    l->items = items;
    l->cap = cap;
    return true;
}

void exo_jlist_append(exo_jctx *c, exo_jlist *l, exo_jvalue v) {
    if (l == NULL || !list_reserve(c, l)) return;
    l->items[l->n++] = v;
}

void exo_jlist_insert(exo_jctx *c, exo_jlist *l, size_t at, exo_jvalue v) {
    if (!list_reserve(c, l)) return;
    exo_jcharge(c, (l->n - at) / 4);
    memmove(l->items + at + 1, l->items + at, (l->n - at) * sizeof *l->items);
    l->items[at] = v;
    l->n++;
}

void exo_jlist_remove(exo_jctx *c, exo_jlist *l, size_t at) {
    exo_jcharge(c, (l->n - at) / 4);
    l->n--;
    memmove(l->items + at, l->items + at + 1, (l->n - at) * sizeof *l->items);
}

exo_jvalue exo_jlist_value(exo_jtype type, exo_jlist *l) {
    return l == NULL ? exo_jundefined : (exo_jvalue){.type = (uint8_t)type, .list = l};
}

exo_jvalue exo_jpair(exo_jctx *c, exo_jvalue first, exo_jvalue second) {
    exo_jlist *l = exo_jlist_new(c, 2);
    exo_jlist_append(c, l, first);
    exo_jlist_append(c, l, second);
    return exo_jlist_value(EXO_J_TUPLE, l);
}

/* ---- dictionaries ---- */

static uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDu;
    h ^= h >> 33;
    return h;
}

/* Equal values have equal hashes: 1, 1.0 and true are one key, as in Python. */
static uint64_t hash_of(exo_jctx *c, exo_jvalue v) {
    switch ((exo_jtype)v.type) {
    case EXO_J_STRING: return str_hash(c, v.s);
    case EXO_J_BOOL: return mix(v.b ? 1 : 0);
    case EXO_J_INT: return mix((uint64_t)v.i);
    case EXO_J_FLOAT:
        if (v.f == floor(v.f) && fabs(v.f) < 0x1p62) return mix((uint64_t)(int64_t)v.f);
        return exo_hash64(&v.f, sizeof v.f, 0);
    case EXO_J_TUPLE: {
        uint64_t h = 7;
        if (!exo_jenter(c)) return 0;
        for (size_t i = 0; i < v.list->n && exo_jok(c); i++) {
            exo_jcharge(c, 1);
            h = mix(h * 31 + hash_of(c, v.list->items[i]));
        }
        exo_jleave(c);
        return h;
    }
    case EXO_J_VIEW:
        if (v.list->view_kind == EXO_J_VALUES) return mix((uint64_t)(uintptr_t)v.list);
        exo_jfail(c, "unhashable type: '%s'", exo_jtype_name(v));
        return 0;
    case EXO_J_LIST:
    case EXO_J_DICT: exo_jfail(c, "unhashable type: '%s'", exo_jtype_name(v)); return 0;
    case EXO_J_NONE:
    case EXO_J_UNDEFINED: return v.type;
    default: return mix((uint64_t)(uintptr_t)v.list);
    }
}

bool exo_jhashable(exo_jctx *c, exo_jvalue v) {
    hash_of(c, v);
    return exo_jok(c);
}

static bool key_equal(exo_jctx *c, const exo_jentry *e, exo_jvalue key, uint64_t hash) {
    if (e->hash != hash) return false;
    if (key.type == EXO_J_STRING && e->key.type == EXO_J_STRING) {
        if (key.s->n > 64 && key.s != e->key.s) exo_jcharge(c, key.s->n / 64);
        return exo_jstr_equal(key.s, e->key.s);
    }
    return exo_jequal(c, e->key, key);
}

static size_t find(exo_jctx *c, const exo_jdict *d, exo_jvalue key, uint64_t hash) {
    if (d->index == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            if (key_equal(c, &d->entries[i], key, hash)) return i;
        }
        return NOT_FOUND;
    }
    size_t mask = d->index_cap - 1;
    for (size_t slot = hash & mask; d->index[slot] != 0; slot = (slot + 1) & mask) {
        size_t i = d->index[slot] - 1;
        if (key_equal(c, &d->entries[i], key, hash)) return i;
        exo_jcharge(c, 1); /* keys made to collide pay for it */
        if (!exo_jok(c)) break;
    }
    return NOT_FOUND;
}

static void index_entry(exo_jdict *d, size_t i) {
    size_t mask = d->index_cap - 1, slot = d->entries[i].hash & mask;
    while (d->index[slot] != 0) slot = (slot + 1) & mask;
    d->index[slot] = (uint32_t)(i + 1);
}

static void reindex(exo_jdict *d) {
    memset(d->index, 0, d->index_cap * sizeof *d->index);
    for (size_t i = 0; i < d->n; i++) index_entry(d, i);
}

static bool dict_reserve(exo_jctx *c, exo_jdict *d) {
    if (d->n < d->cap) return true;
    size_t cap = d->cap < 4 ? 4 : 2 * d->cap;
    exo_jentry *entries = exo_jalloc(c, cap, sizeof *entries);
    if (entries == NULL) return false;
    if (d->n > 0) memcpy(entries, d->entries, d->n * sizeof *entries);
    d->entries = entries;
    d->cap = cap;
    if (cap <= DICT_LINEAR_MAX) return true;
    d->index_cap = 2 * cap;
    d->index = exo_jalloc(c, d->index_cap, sizeof *d->index);
    if (d->index == NULL) return false;
    reindex(d);
    return true;
}

static void dict_put(exo_jctx *c, exo_jdict *d, exo_jvalue key, uint64_t hash, exo_jvalue value) {
    size_t i = find(c, d, key, hash);
    if (i != NOT_FOUND) {
        d->entries[i].value = value;
        return;
    }
    if (!exo_jok(c) || !dict_reserve(c, d)) return;
    d->entries[d->n] = (exo_jentry){.key = key, .value = value, .hash = hash};
    if (d->index != NULL) index_entry(d, d->n);
    d->n++;
}

exo_jdict *exo_jdict_new(exo_jctx *c) { return exo_jalloc(c, 1, sizeof(exo_jdict)); }

void exo_jdict_set(exo_jctx *c, exo_jdict *d, exo_jvalue key, exo_jvalue value) {
    if (d == NULL) return;
    uint64_t hash = hash_of(c, key);
    if (exo_jok(c)) dict_put(c, d, key, hash, value);
}

void exo_jdict_set_name(exo_jctx *c, exo_jdict *d, const exo_jstr *key, exo_jvalue value) {
    if (d != NULL) dict_put(c, d, wrap(key), str_hash(c, key), value);
}

bool exo_jdict_get(exo_jctx *c, const exo_jdict *d, exo_jvalue key, exo_jvalue *out) {
    if (d->n == 0) {
        exo_jhashable(c, key);
        return false;
    }
    uint64_t hash = hash_of(c, key);
    size_t i = exo_jok(c) ? find(c, d, key, hash) : NOT_FOUND;
    if (i != NOT_FOUND) *out = d->entries[i].value;
    return i != NOT_FOUND;
}

bool exo_jdict_get_name(exo_jctx *c, const exo_jdict *d, const exo_jstr *key, exo_jvalue *out) {
    size_t i = d->n == 0 ? NOT_FOUND : find(c, d, wrap(key), str_hash(c, key));
    if (i != NOT_FOUND) *out = d->entries[i].value;
    return i != NOT_FOUND;
}

bool exo_jdict_remove(exo_jctx *c, exo_jdict *d, exo_jvalue key, exo_jvalue *out) {
    uint64_t hash = hash_of(c, key);
    size_t i = exo_jok(c) ? find(c, d, key, hash) : NOT_FOUND;
    if (i == NOT_FOUND) return false;
    *out = d->entries[i].value;
    exo_jcharge(c, d->n / 2);
    d->n--;
    memmove(d->entries + i, d->entries + i + 1, (d->n - i) * sizeof *d->entries);
    if (d->index != NULL) reindex(d);
    return true;
}
