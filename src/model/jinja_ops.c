/* jinja_ops.c - what operators mean: truth, equality, order, arithmetic, membership, iteration.
 *
 * Python's rules over eight types.  Integers are 64 bits wide; a result beyond that is an error,
 * never a wrapped number.  Error texts are CPython's, since template authors know those. */
#include "model/jinja.h"

#include <math.h>
#include <string.h>

const char *exo_jtype_name(exo_jvalue v) {
    switch ((exo_jtype)v.type) {
    case EXO_J_UNDEFINED: return "Undefined";
    case EXO_J_NONE: return "NoneType";
    case EXO_J_BOOL: return "bool";
    case EXO_J_INT: return "int";
    case EXO_J_FLOAT: return "float";
    case EXO_J_STRING: return v.markup ? "Markup" : "str";
    case EXO_J_LIST: return "list";
    case EXO_J_TUPLE: return "tuple";
    case EXO_J_VIEW: {
        static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
        return names[v.list->view_kind];
    }
    case EXO_J_ITERATOR: return "generator";
    case EXO_J_RANGE: return "range";
    case EXO_J_DICT: return "dict";
    case EXO_J_NAMESPACE: return "Namespace";
    case EXO_J_MACRO: return "Macro";
    case EXO_J_NATIVE: return "builtin_function_or_method";
    case EXO_J_LOOP: return "LoopContext";
    case EXO_J_CYCLER: return "Cycler";
    case EXO_J_JOINER: return "Joiner";
    case EXO_J_BLOCKS: return "TemplateReference";
    case EXO_J_BLOCK: return "BlockReference";
    case EXO_J_ABSENT: break;
    }
    return "object";
}

const char *exo_jowner_name(exo_jtype owner) {
    switch (owner) {
    case EXO_J_NONE: return "None";
    case EXO_J_VIEW: return "dict view object";
    case EXO_J_NAMESPACE: return "jinja2.utils.Namespace object";
    case EXO_J_MACRO: return "jinja2.runtime.Macro object";
    case EXO_J_LOOP: return "jinja2.runtime.LoopContext object";
    case EXO_J_STRING: return "str object";
    case EXO_J_BOOL: return "bool object";
    case EXO_J_INT: return "int object";
    case EXO_J_FLOAT: return "float object";
    case EXO_J_LIST: return "list object";
    case EXO_J_TUPLE: return "tuple object";
    case EXO_J_RANGE: return "range object";
    case EXO_J_DICT: return "dict object";
    default: return "object";
    }
}

exo_jvalue exo_jundefined_fail(exo_jctx *c, exo_jvalue v) {
    if (v.s == NULL) return exo_jfail(c, "an undefined value was used");
    int n = exo_jshown(v.s);
    if (v.hint) return exo_jfail(c, "%.*s", n, v.s->s);
    if (v.owner == EXO_J_UNDEFINED) return exo_jfail(c, "'%.*s' is undefined", n, v.s->s);
    return exo_jfail(c, "'%s' has no attribute '%.*s'", exo_jowner_name((exo_jtype)v.owner), n,
                     v.s->s);
}

bool exo_jtruth(exo_jvalue v) {
    switch ((exo_jtype)v.type) {
    case EXO_J_UNDEFINED:
    case EXO_J_NONE:
    case EXO_J_ABSENT: return false;
    case EXO_J_BOOL: return v.b;
    case EXO_J_INT: return v.i != 0;
    case EXO_J_FLOAT: return v.f != 0;
    case EXO_J_STRING: return v.s->n > 0;
    case EXO_J_LIST:
    case EXO_J_TUPLE:
    case EXO_J_VIEW: return v.list->n > 0;
    case EXO_J_RANGE: return v.range->n > 0;
    case EXO_J_DICT: return v.dict->n > 0;
    default: return true;
    }
}

/* ---- numbers ---- */

static bool is_integral(exo_jvalue v) { return v.type == EXO_J_INT || v.type == EXO_J_BOOL; }
static bool is_number(exo_jvalue v) { return is_integral(v) || v.type == EXO_J_FLOAT; }
static int64_t as_int(exo_jvalue v) { return v.type == EXO_J_BOOL ? v.b : v.i; }
static double as_float(exo_jvalue v) { return v.type == EXO_J_FLOAT ? v.f : (double)as_int(v); }

/* -1, 0, 1, or 2 when a NaN is involved. */
static int compare_numbers(exo_jvalue a, exo_jvalue b) {
    if (is_integral(a) && is_integral(b)) {
        int64_t x = as_int(a), y = as_int(b);
        return (x > y) - (x < y);
    }
    double x = as_float(a), y = as_float(b);
    if (isnan(x) || isnan(y)) return 2;
    return (x > y) - (x < y);
}

static exo_jvalue overflow(exo_jctx *c) {
    return exo_jfail(c, "an integer result does not fit 64 bits");
}

static bool mul_overflows(int64_t a, int64_t b) {
    if (a == 0 || b == 0) return false;
    if (a == -1 || b == -1) return a == INT64_MIN || b == INT64_MIN;
    return a > 0 ? (b > 0 ? a > INT64_MAX / b : b < INT64_MIN / a)
                 : (b > 0 ? a < INT64_MIN / b : b < INT64_MAX / a);
}

static exo_jvalue power(exo_jctx *c, int64_t base, int64_t exp) {
    int64_t result = 1;
    while (exp > 0) {
        if (exp & 1) {
            if (mul_overflows(result, base)) return overflow(c);
            result *= base;
        }
        exp >>= 1;
        if (exp > 0) {
            if (mul_overflows(base, base)) return overflow(c);
            base *= base;
        }
    }
    return exo_jint(result);
}

static exo_jvalue int_arithmetic(exo_jctx *c, exo_jop op, int64_t a, int64_t b) {
    switch (op) {
    case EXO_J_ADD:
        if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) return overflow(c);
        return exo_jint(a + b);
    case EXO_J_SUB:
        if (b < 0 ? a > INT64_MAX + b : a < INT64_MIN + b) return overflow(c);
        return exo_jint(a - b);
    case EXO_J_MUL: return mul_overflows(a, b) ? overflow(c) : exo_jint(a * b);
    case EXO_J_FLOORDIV:
    case EXO_J_MOD: {
        if (b == 0) return exo_jfail(c, "integer division or modulo by zero");
        if (b == -1) { /* INT64_MIN / -1 traps */
            if (op == EXO_J_MOD) return exo_jint(0);
            return a == INT64_MIN ? overflow(c) : exo_jint(-a);
        }
        int64_t q = a / b, r = a % b;
        if (r != 0 && (r < 0) != (b < 0)) {
            q--;
            r += b;
        }
        return exo_jint(op == EXO_J_MOD ? r : q);
    }
    case EXO_J_POW: return power(c, a, b);
    case EXO_J_DIV: break;
    }
    return exo_jundefined;
}

static exo_jvalue float_arithmetic(exo_jctx *c, exo_jop op, double a, double b) {
    switch (op) {
    case EXO_J_ADD: return exo_jfloat(a + b);
    case EXO_J_SUB: return exo_jfloat(a - b);
    case EXO_J_MUL: return exo_jfloat(a * b);
    case EXO_J_DIV:
        if (b == 0) return exo_jfail(c, "division by zero");
        return exo_jfloat(a / b);
    case EXO_J_FLOORDIV:
    case EXO_J_MOD: {
        if (b == 0) return exo_jfail(c, "float floor division by zero");
        double mod = fmod(a, b), div = (a - mod) / b;
        if (mod != 0 && (b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
        if (op == EXO_J_MOD) return exo_jfloat(mod == 0 ? copysign(0, b) : mod);
        if (div == 0) return exo_jfloat(copysign(0, a / b));
        double whole = floor(div);
        return exo_jfloat(div - whole > 0.5 ? whole + 1 : whole);
    }
    case EXO_J_POW:
        if (a == 0 && b < 0) return exo_jfail(c, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b)) return exo_jfail(c, "the power would be a complex number");
        return exo_jfloat(pow(a, b));
    }
    return exo_jundefined;
}

static exo_jvalue arithmetic(exo_jctx *c, exo_jop op, exo_jvalue a, exo_jvalue b) {
    bool integral = is_integral(a) && is_integral(b) && op != EXO_J_DIV;
    if (integral && op == EXO_J_POW) integral = as_int(b) >= 0;
    if (integral) return int_arithmetic(c, op, as_int(a), as_int(b));
    return float_arithmetic(c, op, as_float(a), as_float(b));
}

/* ---- equality and order ---- */

static bool lists_equal(exo_jctx *c, const exo_jlist *a, const exo_jlist *b) {
    if (a == b) return true;
    if (a->n != b->n || !exo_jenter(c)) return false;
    bool equal = true;
    for (size_t i = 0; i < a->n && equal && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        equal = exo_jequal(c, a->items[i], b->items[i]);
    }
    exo_jleave(c);
    return equal;
}

static bool dicts_equal(exo_jctx *c, const exo_jdict *a, const exo_jdict *b) {
    if (a == b) return true;
    if (a->n != b->n || !exo_jenter(c)) return false;
    bool equal = true;
    for (size_t i = 0; i < a->n && equal && exo_jok(c); i++) {
        exo_jvalue other;
        exo_jcharge(c, 1);
        equal = exo_jdict_get(c, b, a->entries[i].key, &other) &&
                exo_jequal(c, a->entries[i].value, other);
    }
    exo_jleave(c);
    return equal;
}

/* Views of keys and of items compare as sets. */
static bool is_set(exo_jvalue v) {
    return v.type == EXO_J_VIEW && v.list->view_kind != EXO_J_VALUES;
}

static bool is_subset(exo_jctx *c, const exo_jlist *small, const exo_jlist *large) {
    for (size_t i = 0; i < small->n && exo_jok(c); i++) {
        size_t k = 0;
        while (k < large->n && exo_jok(c) && !exo_jequal(c, small->items[i], large->items[k])) k++;
        exo_jcharge(c, k + 1);
        if (k == large->n) return false;
    }
    return exo_jok(c);
}

bool exo_jsame(exo_jvalue a, exo_jvalue b) {
    if (a.type != b.type) return false;
    switch ((exo_jtype)a.type) {
    case EXO_J_NONE: return true;
    case EXO_J_BOOL: return a.b == b.b;
    case EXO_J_INT: return a.i == b.i;
    case EXO_J_FLOAT: return a.f == b.f;
    case EXO_J_STRING: return exo_jstr_equal(a.s, b.s);
    case EXO_J_UNDEFINED: return a.s == b.s;
    default: return a.list == b.list;
    }
}

bool exo_jequal(exo_jctx *c, exo_jvalue a, exo_jvalue b) {
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return false;
    switch ((exo_jtype)a.type) {
    case EXO_J_UNDEFINED:
    case EXO_J_NONE: return true;
    case EXO_J_STRING: exo_jcharge(c, a.s->n / 64); return exo_jstr_equal(a.s, b.s);
    case EXO_J_LIST:
    case EXO_J_TUPLE: return lists_equal(c, a.list, b.list);
    case EXO_J_VIEW:
        if (!is_set(a) || !is_set(b)) return a.list == b.list;
        return a.list->n == b.list->n && is_subset(c, a.list, b.list);
    case EXO_J_DICT: return dicts_equal(c, a.dict, b.dict);
    case EXO_J_RANGE:
        return a.range->n == b.range->n && a.range->start == b.range->start &&
               a.range->step == b.range->step;
    case EXO_J_NATIVE:
        return a.native->fn == b.native->fn && exo_jsame(a.native->self, b.native->self);
    default: return a.list == b.list;
    }
}

static int compare_strings(const exo_jstr *a, const exo_jstr *b) {
    int order = memcmp(a->s, b->s, a->n < b->n ? a->n : b->n);
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

static bool holds(exo_jcmp op, int order) {
    switch (op) {
    case EXO_J_EQ: return order == 0;
    case EXO_J_NE: return order != 0;
    case EXO_J_LT: return order < 0;
    case EXO_J_LE: return order <= 0;
    case EXO_J_GT: return order == 1;
    case EXO_J_GE: return order == 0 || order == 1;
    }
    return false;
}

static bool compare_lists(exo_jctx *c, exo_jcmp op, const exo_jlist *a, const exo_jlist *b) {
    if (!exo_jenter(c)) return false;
    size_t i = 0, n = a->n < b->n ? a->n : b->n;
    while (i < n && exo_jok(c) && exo_jequal(c, a->items[i], b->items[i])) {
        exo_jcharge(c, 1);
        i++;
    }
    bool result = i < n ? exo_jcompare(c, op, a->items[i], b->items[i])
                        : holds(op, (a->n > b->n) - (a->n < b->n));
    exo_jleave(c);
    return result;
}

bool exo_jcompare(exo_jctx *c, exo_jcmp op, exo_jvalue a, exo_jvalue b) {
    static const char *const texts[] = {"==", "!=", "<", "<=", ">", ">="};
    if (op == EXO_J_EQ) return exo_jequal(c, a, b);
    if (op == EXO_J_NE) return !exo_jequal(c, a, b);
    if (is_number(a) && is_number(b)) return holds(op, compare_numbers(a, b));
    if (a.type == EXO_J_STRING && b.type == EXO_J_STRING) {
        exo_jcharge(c, (a.s->n < b.s->n ? a.s->n : b.s->n) / 64);
        int order = compare_strings(a.s, b.s);
        return holds(op, (order > 0) - (order < 0));
    }
    if (a.type == b.type && (a.type == EXO_J_LIST || a.type == EXO_J_TUPLE)) {
        return compare_lists(c, op, a.list, b.list);
    }
    if (is_set(a) && is_set(b)) {
        bool less = op == EXO_J_LT || op == EXO_J_LE, strict = op == EXO_J_LT || op == EXO_J_GT;
        const exo_jlist *small = less ? a.list : b.list, *large = less ? b.list : a.list;
        return (strict ? small->n < large->n : small->n <= large->n) && is_subset(c, small, large);
    }
    if (a.type == EXO_J_UNDEFINED || b.type == EXO_J_UNDEFINED) {
        exo_jundefined_fail(c, a.type == EXO_J_UNDEFINED ? a : b);
        return false;
    }
    exo_jfail(c, "'%s' not supported between instances of '%s' and '%s'", texts[op],
              exo_jtype_name(a), exo_jtype_name(b));
    return false;
}

bool exo_jcontains(exo_jctx *c, exo_jvalue container, exo_jvalue item) {
    exo_jvalue ignored;
    if (container.type == EXO_J_STRING) {
        if (item.type != EXO_J_STRING) {
            exo_jfail(c, "'in <string>' requires string as left operand, not %s",
                      exo_jtype_name(item));
            return false;
        }
        exo_jcharge(c, container.s->n / 64);
        return exo_jstr_find(c, container.s, 0, item.s) != SIZE_MAX;
    }
    if (container.type == EXO_J_VIEW && container.list->view_kind == EXO_J_KEYS)
        exo_jhashable(c, item);
    if (container.type == EXO_J_DICT) return exo_jdict_get(c, container.dict, item, &ignored);
    if (!exo_jiterable(container)) {
        exo_jfail(c, "argument of type '%s' is not iterable", exo_jtype_name(container));
        return false;
    }
    if (container.type == EXO_J_ITERATOR) {
        while (exo_jpull(c, container.list, &ignored)) {
            if (exo_jequal(c, ignored, item)) return true;
        }
        return false;
    }
    exo_jlist *l = exo_jiterate(c, container);
    for (size_t i = 0; l != NULL && i < l->n && exo_jok(c); i++) {
        exo_jcharge(c, 1);
        if (exo_jequal(c, l->items[i], item)) return true;
    }
    return false;
}

/* ---- operators on sequences ---- */

/* Markup escapes plain strings that are added to it. */
static exo_jvalue add_strings(exo_jctx *c, exo_jvalue a, exo_jvalue b) {
    if (a.markup && !b.markup) b = exo_jstr_escape(c, b.s);
    if (b.markup && !a.markup) a = exo_jstr_escape(c, a.s);
    exo_jvalue sum = exo_jconcat(c, a.s, b.s);
    sum.markup = a.markup || b.markup;
    return sum;
}

static exo_jvalue add_lists(exo_jctx *c, exo_jvalue a, exo_jvalue b) {
    size_t n = a.list->n + b.list->n;
    exo_jlist *l = exo_jlist_new(c, n);
    if (l == NULL) return exo_jundefined;
    if (a.list->n > 0) memcpy(l->items, a.list->items, a.list->n * sizeof *l->items);
    if (b.list->n > 0) memcpy(l->items + a.list->n, b.list->items, b.list->n * sizeof *l->items);
    l->n = n;
    return exo_jlist_value((exo_jtype)a.type, l);
}

static exo_jvalue repeat(exo_jctx *c, exo_jvalue sequence, int64_t times) {
    if (sequence.type == EXO_J_STRING) {
        size_t mark = exo_jmark(c);
        for (int64_t i = 0; i < times && exo_jok(c) && sequence.s->n > 0; i++) {
            exo_jcharge(c, 1);
            exo_jput_str(c, sequence.s);
        }
        exo_jvalue text = exo_jtake(c, mark);
        text.markup = sequence.markup;
        return text;
    }
    exo_jlist *l = exo_jlist_new(c, 0);
    for (int64_t i = 0; i < times && exo_jok(c) && sequence.list->n > 0; i++) {
        for (size_t k = 0; k < sequence.list->n && exo_jok(c); k++) {
            exo_jlist_append(c, l, sequence.list->items[k]);
        }
    }
    return exo_jlist_value((exo_jtype)sequence.type, l);
}

static bool is_sequence(exo_jvalue v) {
    return v.type == EXO_J_STRING || v.type == EXO_J_LIST || v.type == EXO_J_TUPLE;
}

exo_jvalue exo_jbinary(exo_jctx *c, exo_jop op, exo_jvalue a, exo_jvalue b) {
    static const char *const texts[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    if (is_number(a) && is_number(b)) return arithmetic(c, op, a, b);
    if (op == EXO_J_MOD && a.type == EXO_J_STRING) return exo_jformat_percent(c, a, b);
    if (a.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, a);
    if (b.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, b);
    if (op == EXO_J_ADD && a.type == b.type && is_sequence(a)) {
        return a.type == EXO_J_STRING ? add_strings(c, a, b) : add_lists(c, a, b);
    }
    if (op == EXO_J_MUL && is_sequence(a) && is_integral(b)) return repeat(c, a, as_int(b));
    if (op == EXO_J_MUL && is_sequence(b) && is_integral(a)) return repeat(c, b, as_int(a));
    if (op == EXO_J_ADD && is_sequence(a)) {
        return exo_jfail(c, "can only concatenate %s (not \"%s\") to %s", exo_jtype_name(a),
                         exo_jtype_name(b), exo_jtype_name(a));
    }
    return exo_jfail(c, "unsupported operand type(s) for %s: '%s' and '%s'", texts[op],
                     exo_jtype_name(a), exo_jtype_name(b));
}

exo_jvalue exo_jnegate(exo_jctx *c, exo_jvalue a) {
    if (a.type == EXO_J_FLOAT) return exo_jfloat(-a.f);
    if (is_integral(a)) return int_arithmetic(c, EXO_J_SUB, 0, as_int(a));
    if (a.type == EXO_J_UNDEFINED) return exo_jundefined_fail(c, a);
    return exo_jfail(c, "bad operand type for unary -: '%s'", exo_jtype_name(a));
}

/* ---- length and iteration ---- */

int64_t exo_jlength(exo_jctx *c, exo_jvalue v) {
    switch ((exo_jtype)v.type) {
    case EXO_J_UNDEFINED: return 0;
    case EXO_J_STRING: return (int64_t)v.s->n_chars;
    case EXO_J_LIST:
    case EXO_J_TUPLE:
    case EXO_J_VIEW: return (int64_t)v.list->n;
    case EXO_J_RANGE: return v.range->n;
    case EXO_J_DICT: return (int64_t)v.dict->n;
    default: exo_jfail(c, "object of type '%s' has no len()", exo_jtype_name(v)); return 0;
    }
}

bool exo_jiterable(exo_jvalue v) {
    return v.type == EXO_J_UNDEFINED || (v.type >= EXO_J_STRING && v.type <= EXO_J_DICT);
}

static exo_jlist *chars_of(exo_jctx *c, const exo_jstr *s) {
    exo_jlist *l = exo_jlist_new(c, s->n_chars);
    for (size_t pos = 0, from = 0; pos < s->n && exo_jok(c); from = pos) {
        exo_jutf8_next(s->s, s->n, &pos);
        exo_jlist_append(c, l, exo_jsubstr(c, s, from, pos));
    }
    return l;
}

exo_jlist *exo_jiterate(exo_jctx *c, exo_jvalue v) {
    exo_jlist *l;
    exo_jvalue item;
    switch ((exo_jtype)v.type) {
    case EXO_J_LIST:
    case EXO_J_TUPLE:
    case EXO_J_VIEW: return v.list;
    case EXO_J_UNDEFINED: return exo_jlist_new(c, 0);
    case EXO_J_STRING: return chars_of(c, v.s);
    case EXO_J_ITERATOR:
        l = exo_jlist_new(c, v.list->n - v.list->pos);
        while (exo_jpull(c, v.list, &item)) exo_jlist_append(c, l, item);
        return l;
    case EXO_J_RANGE:
        l = exo_jlist_new(c, (size_t)v.range->n);
        for (int64_t i = 0; i < v.range->n && exo_jok(c); i++) {
            exo_jlist_append(c, l, exo_jint(v.range->start + i * v.range->step));
        }
        return l;
    case EXO_J_DICT:
        l = exo_jlist_new(c, v.dict->n);
        for (size_t i = 0; i < v.dict->n; i++) exo_jlist_append(c, l, v.dict->entries[i].key);
        return l;
    default: exo_jfail(c, "'%s' object is not iterable", exo_jtype_name(v)); return NULL;
    }
}
