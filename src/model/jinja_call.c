/* jinja_call.c - calling things, and binding arguments for native functions.
 *
 * A native function states its parameters once, as text in its table row; positional and keyword
 * arguments are matched against it here, so the functions themselves read a->v[i]. */
#include "model/jinja.h"

#include <string.h>

/* Position of name in "first second third", or SIZE_MAX. */
static size_t param_index(const char *params, const exo_jstr *name) {
    size_t i = 0;
    for (const char *p = params; *p != '\0'; i++) {
        size_t n = strcspn(p, " ");
        if (n == name->n && memcmp(p, name->s, n) == 0) return i;
        p += n + (p[n] == ' ');
    }
    return SIZE_MAX;
}

/* "/ a b": by position only, as most methods of Python's types take them. */
static bool positional_only(const char **params) {
    bool only = (*params)[0] == '/';
    if (only) *params += 2;
    return only;
}

static size_t count_params(const char *params) {
    size_t n = params[0] != '\0';
    for (const char *p = params; *p != '\0'; p++) n += *p == ' ';
    return n;
}

static bool bind(exo_jctx *c, const exo_jnative *fn, const exo_jargs *a,
                 exo_jvalue bound[EXO_J_MAX_PARAMS]) {
    const char *params = fn->params;
    bool no_keywords = positional_only(&params);
    size_t n_params = count_params(params);
    if (no_keywords && a->kw != NULL && a->kw->n > 0) {
        exo_jfail(c, "%s() takes no keyword arguments", fn->name);
        return false;
    }
    if (a->n > n_params) {
        exo_jfail(c, "%s() takes at most %zu arguments (%zu given)", fn->name, n_params, a->n);
        return false;
    }
    for (size_t i = 0; i < n_params; i++) bound[i] = i < a->n ? a->v[i] : exo_jabsent;
    for (size_t k = 0; a->kw != NULL && k < a->kw->n; k++) {
        const exo_jstr *name = a->kw->entries[k].key.s;
        size_t i = param_index(params, name);
        int shown = exo_jshown(name);
        if (i == SIZE_MAX || i < a->n) {
            exo_jfail(c, "%s() got %s argument '%.*s'", fn->name,
                      i == SIZE_MAX ? "an unexpected keyword" : "multiple values for", shown,
                      name->s);
            return false;
        }
        bound[i] = a->kw->entries[k].value;
    }
    for (size_t i = 0; i < fn->n_required; i++) {
        if (bound[i].type != EXO_J_ABSENT) continue;
        exo_jfail(c, "%s() is missing required argument %zu", fn->name, i + 1);
        return false;
    }
    return true;
}

exo_jvalue exo_jcall_native(exo_jctx *c, const exo_jnative *fn, exo_jvalue self,
                            const exo_jargs *a) {
    if (!exo_jenter(c)) return exo_jundefined;
    exo_jvalue result = exo_jundefined, bound[EXO_J_MAX_PARAMS];
    if (fn->params[0] == '*') {
        result = fn->fn(c, self, a);
    } else if (bind(c, fn, a, bound)) {
        const char *params = fn->params;
        positional_only(&params);
        result = fn->fn(c, self, &(exo_jargs){.v = bound, .n = count_params(params)});
    }
    exo_jleave(c);
    return result;
}

static exo_jvalue call_joiner(exo_jlist *joiner) {
    if (joiner->pos != 0) return joiner->items[0];
    joiner->pos = 1;
    static const exo_jstr empty = {.s = ""};
    return (exo_jvalue){.type = EXO_J_STRING, .s = &empty};
}

exo_jvalue exo_jcall(exo_jctx *c, exo_jvalue callee, const exo_jargs *a) {
    switch ((exo_jtype)callee.type) {
    case EXO_J_MACRO: return exo_jcall_macro(c, callee.macro, a);
    case EXO_J_NATIVE:
        if (callee.native->self.type == EXO_J_STRING && callee.native->self.markup)
            return exo_jcall_markup(c, callee.native->fn, callee.native->self, a);
        return exo_jcall_native(c, callee.native->fn, callee.native->self, a);
    case EXO_J_BLOCK:
        if (a->n == 0 && (a->kw == NULL || a->kw->n == 0)) return exo_jcall_block(c, callee.block);
        return exo_jfail(c, "a block takes no arguments");
    case EXO_J_LOOP: return exo_jcall_loop(c, callee.loop, a);
    case EXO_J_JOINER:
        if (a->n == 0 && (a->kw == NULL || a->kw->n == 0)) return call_joiner(callee.list);
        return exo_jfail(c, "a joiner takes no arguments");
    case EXO_J_UNDEFINED: return exo_jundefined_fail(c, callee);
    default: return exo_jfail(c, "'%s' object is not callable", exo_jtype_name(callee));
    }
}

/* ---- reading bound arguments ---- */

bool exo_jgiven(const exo_jargs *a, size_t i) {
    return i < a->n && a->v[i].type != EXO_J_ABSENT && a->v[i].type != EXO_J_NONE;
}

int64_t exo_jarg_int(exo_jctx *c, const exo_jargs *a, size_t i, int64_t otherwise) {
    if (i >= a->n || a->v[i].type == EXO_J_ABSENT) return otherwise;
    exo_jvalue v = a->v[i];
    if (v.type == EXO_J_INT) return v.i;
    if (v.type == EXO_J_BOOL) return v.b;
    if (v.type == EXO_J_UNDEFINED)
        exo_jundefined_fail(c, v);
    else
        exo_jfail(c, "'%s' object cannot be interpreted as an integer", exo_jtype_name(v));
    return otherwise;
}

int64_t exo_jarg_bound(exo_jctx *c, const exo_jargs *a, size_t i, int64_t otherwise) {
    return exo_jgiven(a, i) ? exo_jarg_int(c, a, i, otherwise) : otherwise;
}

bool exo_jarg_bool(const exo_jargs *a, size_t i, bool otherwise) {
    if (i >= a->n || a->v[i].type == EXO_J_ABSENT) return otherwise;
    return exo_jtruth(a->v[i]);
}

const exo_jstr *exo_jarg_str(exo_jctx *c, const exo_jargs *a, size_t i, const char *otherwise) {
    if (i < a->n && a->v[i].type != EXO_J_ABSENT) {
        if (a->v[i].type == EXO_J_STRING) return a->v[i].s;
        exo_jfail(c, "expected a string, not '%s'", exo_jtype_name(a->v[i]));
    }
    return exo_jstring_borrow(c, otherwise, strlen(otherwise)).s;
}

const exo_jnative *exo_jnative_find(const exo_jnative *table, size_t n, const exo_jstr *name) {
    for (size_t i = 0; i < n; i++) {
        if (exo_jstr_is(name, table[i].name)) return &table[i];
    }
    return NULL;
}
