/* jinja_tests.c - what may follow `is`: a table of names and the functions in its rows. */
#include "model/jinja.h"

static exo_jvalue is_defined(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type != EXO_J_UNDEFINED);
}

static exo_jvalue is_undefined(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_UNDEFINED);
}

static exo_jvalue is_none(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_NONE);
}

static exo_jvalue is_boolean(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_BOOL);
}

static exo_jvalue is_true(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_BOOL && v.b);
}

static exo_jvalue is_false(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_BOOL && !v.b);
}

static exo_jvalue is_integer(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_INT);
}

static exo_jvalue is_float(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_FLOAT);
}

static exo_jvalue is_number(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_INT || v.type == EXO_J_FLOAT || v.type == EXO_J_BOOL);
}

static exo_jvalue is_string(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_STRING);
}

static exo_jvalue is_mapping(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_DICT);
}

static exo_jvalue is_iterable(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(exo_jiterable(v) || v.type == EXO_J_LOOP);
}

/* jinja2 asks for len() and an item lookup: dictionaries and undefined values have both. */
static exo_jvalue is_sequence(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_STRING || v.type == EXO_J_LIST || v.type == EXO_J_TUPLE ||
                     v.type == EXO_J_RANGE || v.type == EXO_J_DICT || v.type == EXO_J_UNDEFINED);
}

static exo_jvalue is_callable(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_MACRO || v.type == EXO_J_NATIVE || v.type == EXO_J_LOOP ||
                     v.type == EXO_J_JOINER || v.type == EXO_J_BLOCK || v.type == EXO_J_UNDEFINED);
}

static exo_jvalue is_escaped(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    (void)a;
    return exo_jbool(v.type == EXO_J_STRING && v.markup);
}

static exo_jvalue is_lower(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return exo_jbool(exo_jstr_cased(exo_jto_str(c, v).s, false));
}

static exo_jvalue is_upper(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return exo_jbool(exo_jstr_cased(exo_jto_str(c, v).s, true));
}

static exo_jvalue remainder_is(exo_jctx *c, exo_jvalue v, exo_jvalue by, int64_t rest) {
    exo_jvalue r = exo_jbinary(c, EXO_J_MOD, v, by);
    return exo_jok(c) ? exo_jbool(exo_jequal(c, r, exo_jint(rest))) : exo_jundefined;
}

static exo_jvalue is_odd(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return remainder_is(c, v, exo_jint(2), 1);
}

static exo_jvalue is_even(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return remainder_is(c, v, exo_jint(2), 0);
}

static exo_jvalue is_divisibleby(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return remainder_is(c, v, a->v[0], 0);
}

static exo_jvalue is_sameas(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)c;
    return exo_jbool(exo_jsame(v, a->v[0]));
}

static exo_jvalue is_in(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jcontains(c, a->v[0], v));
}

static exo_jvalue is_eq(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jequal(c, v, a->v[0]));
}

static exo_jvalue is_ne(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(!exo_jequal(c, v, a->v[0]));
}

static exo_jvalue is_lt(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jcompare(c, EXO_J_LT, v, a->v[0]));
}

static exo_jvalue is_le(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jcompare(c, EXO_J_LE, v, a->v[0]));
}

static exo_jvalue is_gt(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jcompare(c, EXO_J_GT, v, a->v[0]));
}

static exo_jvalue is_ge(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    return exo_jbool(exo_jcompare(c, EXO_J_GE, v, a->v[0]));
}

/* A name that may be looked up; fails for what cannot be a key. */
static bool is_name(exo_jctx *c, exo_jvalue v) {
    const exo_jdict none = {0};
    exo_jvalue found;
    if (v.type == EXO_J_STRING) return true;
    return exo_jdict_get(c, &none, v, &found);
}

static exo_jvalue is_filter(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return exo_jbool(is_name(c, v) && exo_jfilter_find(v.s) != NULL);
}

static exo_jvalue is_test(exo_jctx *c, exo_jvalue v, const exo_jargs *a) {
    (void)a;
    return exo_jbool(is_name(c, v) && exo_jtest_find(v.s) != NULL);
}

static const exo_jnative tests[] = {
    {"defined", is_defined, "", 0},     {"undefined", is_undefined, "", 0},
    {"none", is_none, "", 0},           {"boolean", is_boolean, "", 0},
    {"true", is_true, "", 0},           {"false", is_false, "", 0},
    {"integer", is_integer, "", 0},     {"float", is_float, "", 0},
    {"number", is_number, "", 0},       {"string", is_string, "", 0},
    {"mapping", is_mapping, "", 0},     {"iterable", is_iterable, "", 0},
    {"sequence", is_sequence, "", 0},   {"callable", is_callable, "", 0},
    {"escaped", is_escaped, "", 0},     {"lower", is_lower, "", 0},
    {"upper", is_upper, "", 0},         {"odd", is_odd, "", 0},
    {"even", is_even, "", 0},           {"divisibleby", is_divisibleby, "num", 1},
    {"sameas", is_sameas, "other", 1},  {"in", is_in, "seq", 1},
    {"==", is_eq, "other", 1},          {"eq", is_eq, "other", 1},
    {"equalto", is_eq, "other", 1},     {"!=", is_ne, "other", 1},
    {"ne", is_ne, "other", 1},          {"<", is_lt, "other", 1},
    {"lt", is_lt, "other", 1},          {"lessthan", is_lt, "other", 1},
    {"<=", is_le, "other", 1},          {"le", is_le, "other", 1},
    {">", is_gt, "other", 1},           {"gt", is_gt, "other", 1},
    {"greaterthan", is_gt, "other", 1}, {">=", is_ge, "other", 1},
    {"ge", is_ge, "other", 1},          {"filter", is_filter, "", 0},
    {"test", is_test, "", 0},
};

const exo_jnative *exo_jtest_find(const exo_jstr *name) {
    return exo_jnative_find(tests, sizeof tests / sizeof *tests, name);
}
