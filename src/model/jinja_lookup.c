/* jinja_lookup.c - object.name, object[index], object[a:b:c].
 *
 * jinja2's rule: a dot tries the attribute first and the item second, brackets the other way
 * round; what is missing in both is undefined, not an error.  So message.items is the method even
 * when the message has such a key. */
#include "model/jinja.h"

#include <stdio.h>
#include <string.h>

static exo_jvalue missing_attr(exo_jvalue object, const exo_jstr *name) {
    return (exo_jvalue){.type = EXO_J_UNDEFINED, .owner = object.type, .s = name};
}

static exo_jvalue missing_element(exo_jctx *c, exo_jvalue object, exo_jvalue index) {
    size_t mark = exo_jmark(c);
    exo_jputs(c, exo_jowner_name((exo_jtype)object.type));
    exo_jputs(c, " has no element ");
    exo_jprint_repr(c, index);
    exo_jvalue message = exo_jtake(c, mark);
    return (exo_jvalue){.type = EXO_J_UNDEFINED, .hint = true, .s = message.s};
}

static bool group_attr(exo_jvalue object, const exo_jstr *name, exo_jvalue *out) {
    if (object.type != EXO_J_TUPLE || !object.list->group) return false;
    if (exo_jstr_is(name, "grouper"))
        *out = object.list->items[0];
    else if (exo_jstr_is(name, "list"))
        *out = object.list->items[1];
    else
        return false;
    return true;
}

static bool macro_attr(exo_jctx *c, const exo_jmacro *macro, const exo_jstr *name,
                       exo_jvalue *out) {
    const exo_jmacro_def *def = macro->def;
    if (exo_jstr_is(name, "name")) {
        *out = def->name == NULL ? exo_jnone : (exo_jvalue){.type = EXO_J_STRING, .s = def->name};
        return true;
    }
    if (!exo_jstr_is(name, "arguments")) return false;
    exo_jlist *l = exo_jlist_new(c, def->n_params);
    for (size_t i = 0; i < def->n_params; i++) {
        exo_jlist_append(c, l, (exo_jvalue){.type = EXO_J_STRING, .s = def->params[i]});
    }
    *out = exo_jlist_value(EXO_J_TUPLE, l);
    return true;
}

static bool block_named(exo_jctx *c, const exo_jstr *name, exo_jvalue *out) {
    for (const exo_jstmt *b = c->blocks; b != NULL; b = b->block.next_block) {
        exo_jcharge(c, 1);
        if (!exo_jstr_equal(b->block.name, name)) continue;
        *out = (exo_jvalue){.type = EXO_J_BLOCK, .block = b};
        return true;
    }
    return false;
}

static bool range_attr(exo_jvalue object, const exo_jstr *name, exo_jvalue *out) {
    if (object.type != EXO_J_RANGE) return false;
    if (exo_jstr_is(name, "start"))
        *out = exo_jint(object.range->start);
    else if (exo_jstr_is(name, "stop"))
        *out = exo_jint(object.range->stop);
    else if (exo_jstr_is(name, "step"))
        *out = exo_jint(object.range->step);
    else
        return false;
    return true;
}

static bool number_attr(exo_jvalue object, const exo_jstr *name, exo_jvalue *out) {
    bool integral = object.type == EXO_J_INT || object.type == EXO_J_BOOL;
    if (!integral && object.type != EXO_J_FLOAT) return false;
    exo_jvalue number = object.type == EXO_J_BOOL ? exo_jint(object.b) : object;
    if (exo_jstr_is(name, "real") || (integral && exo_jstr_is(name, "numerator")))
        *out = number;
    else if (exo_jstr_is(name, "imag"))
        *out = integral ? exo_jint(0) : exo_jfloat(0);
    else if (integral && exo_jstr_is(name, "denominator"))
        *out = exo_jint(1);
    else
        return false;
    return true;
}

/* What Python's getattr() finds: methods and properties. */
static bool real_attr(exo_jctx *c, exo_jvalue object, const exo_jstr *name, exo_jvalue *out) {
    if (object.type == EXO_J_NAMESPACE) return exo_jdict_get_name(c, object.dict, name, out);
    if (object.type == EXO_J_MACRO) return macro_attr(c, object.macro, name, out);
    if (object.type == EXO_J_LOOP) {
        *out = exo_jloop_attr(c, object.loop, name);
        if (out->type != EXO_J_ABSENT) return true;
    }
    if (object.type == EXO_J_CYCLER && exo_jstr_is(name, "current")) {
        *out = object.list->items[object.list->pos];
        return true;
    }
    if (group_attr(object, name, out)) return true;
    if (object.type == EXO_J_BLOCKS) return block_named(c, name, out);
    if (object.type == EXO_J_BLOCK && exo_jstr_is(name, "super")) {
        *out = exo_jundefined_hint(c, "there is no parent block called this");
        return true;
    }
    if (number_attr(object, name, out) || range_attr(object, name, out)) return true;
    const exo_jnative *method = exo_jmethod_find((exo_jtype)object.type, name);
    if (method == NULL) return false;
    exo_jbound *bound = exo_jalloc(c, 1, sizeof *bound);
    if (bound == NULL) return false;
    *bound = (exo_jbound){.fn = method, .self = object};
    *out = (exo_jvalue){.type = EXO_J_NATIVE, .native = bound};
    return true;
}

exo_jvalue exo_jget_attr(exo_jctx *c, exo_jvalue object, const exo_jstr *name) {
    exo_jvalue v;
    if (object.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, object);
    if (real_attr(c, object, name, &v)) return v;
    if (object.type == EXO_J_DICT && exo_jdict_get_name(c, object.dict, name, &v)) return v;
    return missing_attr(object, name);
}

static exo_jvalue char_at(exo_jctx *c, const exo_jstr *s, size_t i) {
    if (s->n != s->n_chars) exo_jcharge(c, s->n / 64);
    size_t from = exo_jutf8_offset(s, i), to = from;
    exo_jutf8_next(s->s, s->n, &to);
    return exo_jsubstr(c, s, from, to);
}

static exo_jvalue element(exo_jctx *c, exo_jvalue object, exo_jvalue index) {
    int64_t n = exo_jlength(c, object), i = index.type == EXO_J_BOOL ? index.b : index.i;
    if (i < 0 && i >= -n) i += n;
    if (i < 0 || i >= n) return missing_element(c, object, index);
    if (object.type == EXO_J_STRING) {
        exo_jvalue one = char_at(c, object.s, (size_t)i);
        one.markup = object.markup;
        return one;
    }
    if (object.type == EXO_J_RANGE) return exo_jint(object.range->start + i * object.range->step);
    return object.list->items[i];
}

exo_jvalue exo_jget_item(exo_jctx *c, exo_jvalue object, exo_jvalue index) {
    exo_jvalue v;
    if (object.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, object);
    bool hashable = index.type != EXO_J_LIST && index.type != EXO_J_DICT;
    if (object.type == EXO_J_DICT && hashable && exo_jdict_get(c, object.dict, index, &v)) {
        return v;
    }
    bool sequence = object.type == EXO_J_STRING || object.type == EXO_J_LIST ||
                    object.type == EXO_J_TUPLE || object.type == EXO_J_RANGE;
    if (sequence && (index.type == EXO_J_INT || index.type == EXO_J_BOOL)) {
        return element(c, object, index);
    }
    if (index.type != EXO_J_STRING) return missing_element(c, object, index);
    return real_attr(c, object, index.s, &v) ? v : missing_attr(object, index.s);
}

/* ---- slices ---- */

static bool read_bound(exo_jctx *c, exo_jvalue v, int64_t *out) {
    if (v.type == EXO_J_NONE || !exo_jok(c)) return false;
    if (v.type == EXO_J_INT || v.type == EXO_J_BOOL) {
        *out = v.type == EXO_J_BOOL ? v.b : v.i;
        return true;
    }
    exo_jfail(c, "slice indices must be integers or None or have an __index__ method");
    return false;
}

/* A given bound moved into [low, high], counted from the end where negative. */
static int64_t clamp_bound(int64_t i, int64_t n, int64_t low, int64_t high) {
    if (i < 0) i = i < -n ? -1 - n : i;
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

static exo_jvalue slice_string(exo_jctx *c, const exo_jstr *s, int64_t start, int64_t step,
                               int64_t count) {
    exo_jcharge(c, s->n / 64);
    if (step == 1) {
        size_t from = exo_jutf8_offset(s, (size_t)start);
        size_t to = exo_jutf8_offset(s, (size_t)(start + count));
        return exo_jsubstr(c, s, from, to);
    }
    exo_jlist *chars = exo_jiterate(c, (exo_jvalue){.type = EXO_J_STRING, .s = s});
    size_t mark = exo_jmark(c);
    for (int64_t i = 0; chars != NULL && i < count && exo_jok(c); i++) {
        exo_jput_str(c, chars->items[start + i * step].s);
    }
    return exo_jtake(c, mark);
}

/* stop: the index behind the last one, as given; a range shows it. */
static exo_jvalue slice_range(exo_jctx *c, const exo_jrange *range, int64_t start, int64_t stop,
                              int64_t step, int64_t count) {
    exo_jrange *r = exo_jalloc(c, 1, sizeof *r);
    if (r == NULL) return exo_jundefined;
    *r = (exo_jrange){.start = range->start + start * range->step,
                      .stop = range->start + stop * range->step,
                      .step = range->step * step,
                      .n = count};
    return (exo_jvalue){.type = EXO_J_RANGE, .range = r};
}

static exo_jvalue slice_items(exo_jctx *c, exo_jvalue object, int64_t start, int64_t step,
                              int64_t count) {
    exo_jlist *l = exo_jlist_new(c, (size_t)count);
    for (int64_t i = 0; i < count && exo_jok(c); i++) {
        exo_jlist_append(c, l, object.list->items[start + i * step]);
    }
    return exo_jlist_value((exo_jtype)object.type, l);
}

exo_jvalue exo_jslice(exo_jctx *c, exo_jvalue object, const exo_jvalue bounds[3]) {
    if (object.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, object);
    if (object.type == EXO_J_DICT) return exo_jfail(c, "unhashable type: 'slice'");
    bool string = object.type == EXO_J_STRING, range = object.type == EXO_J_RANGE;
    if (!string && !range && object.type != EXO_J_LIST && object.type != EXO_J_TUPLE) {
        return exo_jfail(c, "'%s' object is not subscriptable", exo_jtype_name(object));
    }
    int64_t n = exo_jlength(c, object), step = 1, start, stop;
    read_bound(c, bounds[2], &step);
    if (step == 0) return exo_jfail(c, "slice step cannot be zero");
    const int64_t given_step = step;
    if (step < -n - 1) step = -n - 1; /* one element at most: keeps products small */
    if (step > n + 1) step = n + 1;
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    start = step > 0 ? low : high;
    stop = step > 0 ? high : low;
    int64_t given;
    if (read_bound(c, bounds[0], &given)) start = clamp_bound(given, n, low, high);
    if (read_bound(c, bounds[1], &given)) stop = clamp_bound(given, n, low, high);
    if (!exo_jok(c)) return exo_jundefined;
    int64_t count = 0;
    if (step > 0 && start < stop) count = (stop - start - 1) / step + 1;
    if (step < 0 && stop < start) count = (start - stop - 1) / -step + 1;
    if (range) {
        bool small = given_step > INT32_MIN && given_step < INT32_MAX;
        return slice_range(c, object.range, start, stop, small ? given_step : step, count);
    }
    if (!string) return slice_items(c, object, start, step, count);
    exo_jvalue text = slice_string(c, object.s, start, step, count);
    text.markup = object.markup;
    return text;
}

/* ---- paths ---- */

static exo_jvalue path_part(exo_jctx *c, const exo_jstr *path, size_t from, size_t to) {
    bool digits = to > from && to - from < 18;
    int64_t number = 0;
    for (size_t i = from; i < to && digits; i++) {
        digits = path->s[i] >= '0' && path->s[i] <= '9';
        number = number * 10 + (path->s[i] - '0');
    }
    return digits ? exo_jint(number) : exo_jsubstr(c, path, from, to);
}

exo_jvalue exo_jget_path(exo_jctx *c, exo_jvalue object, exo_jvalue attribute,
                         exo_jvalue otherwise) {
    if (attribute.type == EXO_J_NONE || attribute.type == EXO_J_ABSENT) return object;
    bool has_default = otherwise.type != EXO_J_ABSENT && otherwise.type != EXO_J_NONE;
    bool dotted = attribute.type == EXO_J_STRING;
    size_t from = 0, n = dotted ? attribute.s->n : 0;
    while (from <= n && exo_jok(c)) {
        size_t to = n;
        exo_jvalue part = attribute;
        if (dotted) {
            const char *s = attribute.s->s;
            const char *dot = from < n ? memchr(s + from, '.', n - from) : NULL;
            if (dot != NULL) to = (size_t)(dot - s);
            part = path_part(c, attribute.s, from, to);
        }
        object = exo_jget_item(c, object, part);
        if (has_default && object.type == EXO_J_UNDEFINED) object = otherwise;
        from = to + 1;
    }
    return object;
}
