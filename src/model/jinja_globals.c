/* jinja_globals.c - the functions that every template sees: range, namespace, raise_exception,
 * strftime_now and friends.  A variable of the same name hides one. */
#define _POSIX_C_SOURCE 200809L /* localtime_r */
#include "model/jinja.h"

#include <stdio.h>
#include <time.h>

#define MAX_DATE_BYTES 1024

static exo_jvalue make_range(exo_jctx *c, int64_t start, int64_t stop, int64_t step) {
    if (step == 0) return exo_jfail(c, "range() arg 3 must not be zero");
    uint64_t span = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 && stop > start) span = (uint64_t)stop - (uint64_t)start;
    if (step < 0 && stop < start) span = (uint64_t)start - (uint64_t)stop;
    uint64_t n = span == 0 ? 0 : (span - 1) / stride + 1;
    if (n > EXO_J_MAX_RANGE) {
        return exo_jfail(c, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                         EXO_J_MAX_RANGE);
    }
    exo_jrange *r = exo_jalloc(c, 1, sizeof *r);
    if (r == NULL) return exo_jundefined;
    *r = (exo_jrange){.start = start, .stop = stop, .step = step, .n = (int64_t)n};
    return (exo_jvalue){.type = EXO_J_RANGE, .range = r};
}

static exo_jvalue global_range(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    int64_t first = exo_jarg_int(c, a, 0, 0);
    bool only_stop = a->v[1].type == EXO_J_ABSENT;
    int64_t stop = only_stop ? first : exo_jarg_int(c, a, 1, 0);
    int64_t step = exo_jarg_int(c, a, 2, 1);
    if (!exo_jok(c)) return exo_jundefined;
    return make_range(c, only_stop ? 0 : first, stop, step);
}

static void add_pairs(exo_jctx *c, exo_jdict *d, exo_jvalue from) {
    if (from.type == EXO_J_DICT) {
        for (size_t i = 0; i < from.dict->n && exo_jok(c); i++) {
            exo_jdict_set(c, d, from.dict->entries[i].key, from.dict->entries[i].value);
        }
        return;
    }
    if (from.type == EXO_J_UNDEFINED) exo_jundefined_fail(c, from);
    exo_jlist *l = exo_jok(c) ? exo_jiterate(c, from) : NULL;
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jlist *pair = exo_jiterate(c, l->items[i]);
        if (pair != NULL && pair->n == 2)
            exo_jdict_set(c, d, pair->items[0], pair->items[1]);
        else
            exo_jfail(c, "dictionary update sequence element #%zu is not a pair", i);
    }
}

static exo_jdict *dict_from(exo_jctx *c, const exo_jargs *a, const char *name) {
    exo_jdict *d = exo_jdict_new(c);
    if (a->n > 1) exo_jfail(c, "%s expected at most 1 argument, got %zu", name, a->n);
    if (a->n == 1 && d != NULL) add_pairs(c, d, a->v[0]);
    if (a->kw != NULL && d != NULL) {
        add_pairs(c, d, (exo_jvalue){.type = EXO_J_DICT, .dict = a->kw});
    }
    return exo_jok(c) ? d : NULL;
}

static exo_jvalue global_dict(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    exo_jdict *d = dict_from(c, a, "dict");
    return d == NULL ? exo_jundefined : (exo_jvalue){.type = EXO_J_DICT, .dict = d};
}

static exo_jvalue global_namespace(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    exo_jdict *d = dict_from(c, a, "namespace");
    return d == NULL ? exo_jundefined : (exo_jvalue){.type = EXO_J_NAMESPACE, .dict = d};
}

static exo_jvalue global_cycler(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    if (a->n == 0) return exo_jfail(c, "at least one item has to be provided");
    exo_jlist *l = exo_jlist_new(c, a->n);
    for (size_t i = 0; i < a->n; i++) exo_jlist_append(c, l, a->v[i]);
    return exo_jlist_value(EXO_J_CYCLER, l);
}

static exo_jvalue global_joiner(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    exo_jlist *l = exo_jlist_new(c, 1);
    bool given = a->v[0].type != EXO_J_ABSENT;
    exo_jvalue sep = given ? a->v[0] : exo_jstring_borrow(c, ", ", 2);
    exo_jlist_append(c, l, sep);
    return exo_jlist_value(EXO_J_JOINER, l);
}

static exo_jvalue global_raise(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    exo_jvalue message = exo_jto_str(c, a->v[0]);
    int n = message.s->n < EXO_ERROR_BYTES ? (int)message.s->n : EXO_ERROR_BYTES;
    exo_jfail_as(c, EXO_EINVAL, "%.*s", n, message.s->s);
    return exo_jundefined;
}

/* The format for strftime(): what a time without a zone says of its zone, nothing, and the
 * microseconds are filled in as Python does it.  False: too long. */
static bool read_pattern(const exo_jstr *format, long microseconds, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < format->n; i++) {
        char next = format->s[i] == '%' && i + 1 < format->n ? format->s[i + 1] : '\0';
        if (n + 8 >= size) return false;
        if (next == 'z' || next == 'Z') {
            i++;
        } else if (next == 'f') {
            n += (size_t)snprintf(out + n, size - n, "%06ld", microseconds);
            i++;
        } else {
            out[n++] = format->s[i];
            if (next == '%') out[n++] = format->s[++i];
        }
    }
    out[n] = '\0';
    return true;
}

/* Local time, as datetime.now().strftime(format) of transformers. */
static exo_jvalue global_strftime_now(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    const exo_jstr *format = exo_jarg_str(c, a, 0, "");
    char pattern[MAX_DATE_BYTES / 4], text[MAX_DATE_BYTES];
    struct timespec now = {.tv_sec = (time_t)c->now_unix};
    if (c->now_unix == 0) timespec_get(&now, TIME_UTC);
    if (!read_pattern(format, now.tv_nsec / 1000, pattern, sizeof pattern))
        return exo_jfail(c, "the date format is too long");
    struct tm local;
    if (localtime_r(&now.tv_sec, &local) == NULL)
        return exo_jfail(c, "the clock's time has no date");
    exo_jcharge(c, 100);
    size_t n = strftime(text, sizeof text, pattern, &local);
    return exo_jstring(c, text, n);
}

static exo_jvalue global_lipsum(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    (void)self;
    (void)a;
    return exo_jfail(c, "lipsum makes random text; a prompt must be the same each time");
}

static const exo_jnative globals[] = {
    {"range", global_range, "start stop step", 1},
    {"dict", global_dict, "*", 0},
    {"namespace", global_namespace, "*", 0},
    {"cycler", global_cycler, "*", 0},
    {"joiner", global_joiner, "sep", 0},
    {"lipsum", global_lipsum, "*", 0},
    {"raise_exception", global_raise, "message", 1},
    {"strftime_now", global_strftime_now, "format", 1},
};

const exo_jnative *exo_jglobal_find(const exo_jstr *name) {
    return exo_jnative_find(globals, sizeof globals / sizeof *globals, name);
}
