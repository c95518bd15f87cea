/* jinja_pprint.c - the filter pprint: values on several lines, as Python's pprint.pformat.
 *
 * What fits into 80 columns stays on one line; longer lists and dictionaries get a line for each
 * element, longer texts are cut between words.  Dictionaries come sorted. */
#include "model/jinja.h"

#include <string.h>

#define WIDTH 80

typedef struct {
    int64_t indent, allowance; /* columns before it, and wanted behind its last line */
    int level;
} place;

static void put_safe(exo_jctx *c, exo_jvalue v);
static void put_pretty(exo_jctx *c, exo_jvalue v, const place *at);

/* ---- on one line ---- */

/* Numbers, then texts, then the rest: Python falls back to the names of the types. */
static exo_jvalue sort_key(exo_jctx *c, exo_jvalue key) {
    bool number = key.type == EXO_J_INT || key.type == EXO_J_FLOAT || key.type == EXO_J_BOOL;
    int64_t rank = key.type == EXO_J_NONE ? 0 : number ? 1 : key.type == EXO_J_STRING ? 2 : 3;
    return exo_jpair(c, exo_jint(rank), rank == 0 ? exo_jint(0) : key);
}

/* The entries as pairs, by key. */
static exo_jlist *sorted_items(exo_jctx *c, const exo_jdict *d) {
    exo_jlist *keys = exo_jlist_new(c, d->n), *pairs = exo_jlist_new(c, d->n);
    for (size_t i = 0; i < d->n && exo_jok(c); i++) {
        exo_jlist_append(c, keys, sort_key(c, d->entries[i].key));
        exo_jlist_append(c, pairs, exo_jpair(c, d->entries[i].key, d->entries[i].value));
    }
    if (exo_jok(c)) exo_jsort(c, keys->items, pairs->items, d->n, false);
    return exo_jok(c) ? pairs : NULL;
}

static bool is_open(exo_jctx *c, const void *container) {
    for (const exo_jprinting *p = c->printing; p != NULL; p = p->outer) {
        if (p->container == container) return true;
    }
    return false;
}

static void put_safe_dict(exo_jctx *c, const exo_jdict *d) {
    const exo_jlist *pairs = sorted_items(c, d);
    exo_jputs(c, "{");
    for (size_t i = 0; pairs != NULL && i < pairs->n && exo_jok(c); i++) {
        if (i > 0) exo_jputs(c, ", ");
        put_safe(c, pairs->items[i].list->items[0]);
        exo_jputs(c, ": ");
        put_safe(c, pairs->items[i].list->items[1]);
    }
    exo_jputs(c, "}");
}

static void put_safe_list(exo_jctx *c, exo_jvalue v) {
    bool list = v.type == EXO_J_LIST;
    exo_jputs(c, list ? "[" : "(");
    for (size_t i = 0; i < v.list->n && exo_jok(c); i++) {
        if (i > 0) exo_jputs(c, ", ");
        put_safe(c, v.list->items[i]);
    }
    exo_jputs(c, list ? "]" : v.list->n == 1 ? ",)" : ")");
}

static bool is_container(exo_jvalue v) {
    return v.type == EXO_J_DICT || v.type == EXO_J_LIST ||
           (v.type == EXO_J_TUPLE && !v.list->group);
}

static void put_safe(exo_jctx *c, exo_jvalue v) {
    const exo_jprinting printing = {v.list, c->printing};
    if (!is_container(v)) {
        exo_jprint_repr(c, v);
        return;
    }
    if (is_open(c, v.list)) {
        exo_jfail(c, "pprint of a %s that is within itself", exo_jtype_name(v));
        return;
    }
    if (!exo_jenter(c)) return;
    c->printing = &printing;
    if (v.type == EXO_J_DICT)
        put_safe_dict(c, v.dict);
    else
        put_safe_list(c, v);
    c->printing = printing.outer;
    exo_jleave(c);
}

static exo_jvalue safe_text(exo_jctx *c, exo_jvalue v) {
    size_t mark = exo_jmark(c);
    put_safe(c, v);
    return exo_jtake(c, mark);
}

/* ---- on several lines ---- */

static void new_line(exo_jctx *c, int64_t indent) {
    exo_jputs(c, "\n");
    exo_jput_fill(c, ' ', indent);
}

static void put_items(exo_jctx *c, const exo_jlist *l, const place *at) {
    place inner = {at->indent + 1, 1, at->level};
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        if (i > 0) exo_jputs(c, ",");
        if (i > 0) new_line(c, inner.indent);
        if (i + 1 == l->n) inner.allowance = at->allowance;
        put_pretty(c, l->items[i], &inner);
    }
}

static void put_pairs(exo_jctx *c, const exo_jlist *pairs, const place *at) {
    for (size_t i = 0; i < pairs->n && exo_jok(c); i++) {
        exo_jvalue key = safe_text(c, pairs->items[i].list->items[0]);
        bool last = i + 1 == pairs->n;
        place inner = {at->indent + 1 + (int64_t)key.s->n_chars + 2, last ? at->allowance : 1,
                       at->level};
        exo_jput_str(c, key.s);
        exo_jputs(c, ": ");
        put_pretty(c, pairs->items[i].list->items[1], &inner);
        if (!last) exo_jputs(c, ",");
        if (!last) new_line(c, at->indent + 1);
    }
}

static exo_jvalue repr_of(exo_jctx *c, const exo_jstr *s, size_t from, size_t to) {
    size_t mark = exo_jmark(c);
    exo_jprint_repr(c, exo_jsubstr(c, s, from, to));
    return exo_jtake(c, mark);
}

/* The end of the word at pos with the white space behind it. */
static size_t word_end(const exo_jstr *s, size_t pos) {
    bool space = false;
    while (pos < s->n) {
        size_t next = pos;
        bool is_space = exo_jis_space(exo_jutf8_next(s->s, s->n, &next));
        if (space && !is_space) break;
        space = is_space;
        pos = next;
    }
    return pos;
}

/* A line that is too long, in pieces of whole words.  last: it is the text's last line. */
static void cut_line(exo_jctx *c, exo_jlist *chunks, const exo_jstr *line, int64_t width,
                     int64_t last_width) {
    size_t from = 0;
    for (size_t pos = 0; pos < line->n && exo_jok(c);) {
        size_t end = word_end(line, pos);
        int64_t most = end == line->n ? last_width : width;
        if ((int64_t)repr_of(c, line, from, end).s->n_chars > most) {
            if (pos > from) exo_jlist_append(c, chunks, repr_of(c, line, from, pos));
            from = pos;
        }
        pos = end;
    }
    if (from < line->n) exo_jlist_append(c, chunks, repr_of(c, line, from, line->n));
}

static void put_string(exo_jctx *c, exo_jvalue v, const place *at) {
    bool outermost = at->level == 1;
    int64_t indent = at->indent + outermost, allowance = at->allowance + outermost;
    int64_t width = WIDTH - indent;
    const exo_jlist *lines = exo_jstr_lines(c, v.s, true);
    exo_jlist *chunks = exo_jlist_new(c, 0);
    exo_jvalue rep = exo_jundefined;
    for (size_t i = 0; exo_jok(c) && i < lines->n; i++) {
        const exo_jstr *line = lines->items[i].s;
        int64_t most = i + 1 == lines->n ? width - allowance : width;
        rep = repr_of(c, line, 0, line->n);
        if ((int64_t)rep.s->n_chars <= most)
            exo_jlist_append(c, chunks, rep);
        else
            cut_line(c, chunks, line, width, most);
    }
    if (!exo_jok(c)) return;
    if (chunks->n == 1) {
        exo_jput_str(c, rep.s);
        return;
    }
    if (outermost) exo_jputs(c, "(");
    for (size_t i = 0; i < chunks->n && exo_jok(c); i++) {
        if (i > 0) new_line(c, indent);
        exo_jput_str(c, chunks->items[i].s);
    }
    if (outermost) exo_jputs(c, ")");
}

static void put_container(exo_jctx *c, exo_jvalue v, const place *at) {
    const exo_jprinting printing = {v.list, c->printing};
    place inner = {at->indent, at->allowance + 1, at->level};
    c->printing = &printing;
    if (v.type == EXO_J_DICT) {
        const exo_jlist *pairs = sorted_items(c, v.dict);
        exo_jputs(c, "{");
        if (pairs != NULL) put_pairs(c, pairs, &inner);
        exo_jputs(c, "}");
    } else {
        bool list = v.type == EXO_J_LIST;
        const char *end = list ? "]" : v.list->n == 1 ? ",)" : ")";
        inner.allowance = at->allowance + (int64_t)strlen(end);
        exo_jputs(c, list ? "[" : "(");
        put_items(c, v.list, &inner);
        exo_jputs(c, end);
    }
    c->printing = printing.outer;
}

static void put_pretty(exo_jctx *c, exo_jvalue v, const place *at) {
    exo_jvalue rep = safe_text(c, v);
    place inner = {at->indent, at->allowance, at->level + 1};
    if (!exo_jenter(c)) return;
    if ((int64_t)rep.s->n_chars <= WIDTH - at->indent - at->allowance)
        exo_jput_str(c, rep.s);
    else if (is_container(v))
        put_container(c, v, &inner);
    else if (v.type == EXO_J_STRING && !v.markup && v.s->n > 0)
        put_string(c, v, &inner);
    else
        exo_jput_str(c, rep.s);
    exo_jleave(c);
}

exo_jvalue exo_jfilter_pprint(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)a;
    size_t mark = exo_jmark(c);
    put_pretty(c, self, &(place){0, 0, 0});
    return exo_jtake(c, mark);
}
