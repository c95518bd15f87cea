/* jinja_eval.c - expressions of the tree to values.
 *
 * One function per kind of node behind one switch.  Names are looked up through the lexical
 * scopes, then among the globals; what nobody defined is an undefined value that remembers its
 * name. */
#include "model/jinja.h"

#include <string.h>

static exo_jvalue eval_name(exo_jctx *c, const exo_jstr *name, exo_jscope *scope) {
    exo_jvalue v;
    bool beyond_block = false;
    for (exo_jscope *s = scope; s != NULL; s = s->parent) {
        if (exo_jdict_get_name(c, &s->vars, name, &v)) {
            if (v.type != EXO_J_ABSENT) return v;
            if (!beyond_block) return exo_jundefined_name(name);
        }
        beyond_block |= s->block;
    }
    if (exo_jstr_is(name, "self")) return (exo_jvalue){.type = EXO_J_BLOCKS};
    const exo_jnative *global = exo_jglobal_find(name);
    if (global == NULL) return exo_jundefined_name(name);
    exo_jbound *bound = exo_jalloc(c, 1, sizeof *bound);
    if (bound == NULL) return exo_jundefined;
    *bound = (exo_jbound){.fn = global, .self = exo_jnone};
    return (exo_jvalue){.type = EXO_J_NATIVE, .native = bound};
}

static exo_jvalue eval_list(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope, exo_jtype type) {
    exo_jlist *l = exo_jlist_new(c, e->list.n);
    for (size_t i = 0; i < e->list.n && exo_jok(c); i++) {
        exo_jlist_append(c, l, exo_jeval(c, e->list.items[i], scope));
    }
    return exo_jlist_value(type, l);
}

static exo_jvalue eval_dict(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    exo_jdict *d = exo_jdict_new(c);
    for (size_t i = 0; i + 1 < e->list.n && exo_jok(c); i += 2) {
        exo_jvalue key = exo_jeval(c, e->list.items[i], scope);
        exo_jdict_set(c, d, key, exo_jeval(c, e->list.items[i + 1], scope));
    }
    return d == NULL ? exo_jundefined : (exo_jvalue){.type = EXO_J_DICT, .dict = d};
}

/* Where escaping is on, markup on one side escapes the other. */
static exo_jvalue eval_safe_concat(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    exo_jlist *parts = exo_jlist_new(c, e->list.n);
    bool markup = false;
    for (size_t i = 0; i < e->list.n && exo_jok(c); i++) {
        exo_jvalue part = exo_jto_str(c, exo_jeval(c, e->list.items[i], scope));
        markup |= part.markup;
        exo_jlist_append(c, parts, part);
    }
    size_t mark = exo_jmark(c);
    for (size_t i = 0; exo_jok(c) && i < parts->n; i++) {
        exo_jvalue part = parts->items[i];
        exo_jput_str(c, markup && !part.markup ? exo_jstr_escape(c, part.s).s : part.s);
    }
    exo_jvalue sum = exo_jtake(c, mark);
    sum.markup = markup;
    return sum;
}

static exo_jvalue eval_concat(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    if (e->concat.escape == EXO_J_ESCAPE_ON) return eval_safe_concat(c, e, scope);
    exo_jvalue sum = exo_jto_str(c, exo_jeval(c, e->list.items[0], scope));
    for (size_t i = 1; i < e->list.n && exo_jok(c); i++) {
        exo_jvalue part = exo_jto_str(c, exo_jeval(c, e->list.items[i], scope));
        sum = exo_jconcat(c, sum.s, part.s);
    }
    sum.markup = false;
    return sum;
}

static bool relation_holds(exo_jctx *c, const exo_jrelation *r, exo_jvalue left, exo_jvalue right) {
    if (r->kind == EXO_J_REL_CMP) return exo_jcompare(c, r->cmp, left, right);
    return exo_jcontains(c, right, left) == (r->kind == EXO_J_REL_IN);
}

static exo_jvalue eval_compare(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    exo_jvalue left = exo_jeval(c, e->compare.first, scope);
    for (size_t i = 0; i < e->compare.n && exo_jok(c); i++) {
        const exo_jrelation *r = &e->compare.relations[i];
        exo_jvalue right = exo_jeval(c, r->right, scope);
        if (!exo_jok(c) || !relation_holds(c, r, left, right)) return exo_jbool(false);
        left = right;
    }
    return exo_jbool(true);
}

static exo_jvalue eval_slice(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    const exo_jexpr *parts[3] = {e->slice.start, e->slice.stop, e->slice.step};
    exo_jvalue object = exo_jeval(c, e->slice.object, scope), bounds[3];
    for (size_t i = 0; i < 3; i++) {
        bounds[i] = parts[i] == NULL ? exo_jnone : exo_jeval(c, parts[i], scope);
    }
    return exo_jok(c) ? exo_jslice(c, object, bounds) : exo_jundefined;
}

static exo_jvalue eval_cond(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    bool yes = exo_jtruth(exo_jeval(c, e->cond.test, scope));
    if (yes) return exo_jeval(c, e->cond.yes, scope);
    if (e->cond.no != NULL) return exo_jeval(c, e->cond.no, scope);
    return exo_jundefined_hint(c, "the inline if-expression evaluated to false and no else "
                                  "section was defined.");
}

/* ---- calls ---- */

static void add_star(exo_jctx *c, exo_jlist *args, exo_jvalue star) {
    exo_jlist *more = exo_jiterate(c, star);
    for (size_t i = 0; more != NULL && i < more->n && exo_jok(c); i++) {
        exo_jlist_append(c, args, more->items[i]);
    }
}

static void add_star_star(exo_jctx *c, exo_jdict *kw, exo_jvalue star_star) {
    if (star_star.type != EXO_J_DICT) {
        exo_jfail(c, "argument after ** must be a mapping, not %s", exo_jtype_name(star_star));
        return;
    }
    exo_jvalue given;
    for (size_t i = 0; i < star_star.dict->n && exo_jok(c); i++) {
        const exo_jentry *entry = &star_star.dict->entries[i];
        if (entry->key.type != EXO_J_STRING)
            exo_jfail(c, "keywords must be strings");
        else if (exo_jdict_get(c, kw, entry->key, &given))
            exo_jfail(c, "got multiple values for keyword argument '%.*s'",
                      exo_jshown(entry->key.s), entry->key.s->s);
        else
            exo_jdict_set(c, kw, entry->key, entry->value);
    }
}

/* caller (or NULL) stands between the named arguments and those of `**`. */
static exo_jargs eval_args(exo_jctx *c, const exo_jcall_args *args, exo_jscope *scope,
                           const exo_jvalue *caller) {
    static const exo_jstr caller_name = {.s = "caller", .n = 6, .n_chars = 6};
    exo_jargs a = {0};
    if (args->args.n > 0 || args->star != NULL) {
        exo_jlist *l = exo_jlist_new(c, args->args.n);
        for (size_t i = 0; i < args->args.n && exo_jok(c); i++) {
            exo_jlist_append(c, l, exo_jeval(c, args->args.items[i], scope));
        }
        if (args->star != NULL) add_star(c, l, exo_jeval(c, args->star, scope));
        if (l != NULL) a = (exo_jargs){.v = l->items, .n = l->n};
    }
    if (args->kw_values.n == 0 && args->star_star == NULL && caller == NULL) return a;
    a.kw = exo_jdict_new(c);
    for (size_t i = 0; i < args->kw_values.n && exo_jok(c); i++) {
        exo_jvalue v = exo_jeval(c, args->kw_values.items[i], scope);
        exo_jdict_set_name(c, a.kw, args->kw_names[i], v);
    }
    if (caller != NULL) exo_jdict_set_name(c, a.kw, &caller_name, *caller);
    if (args->star_star != NULL && exo_jok(c)) {
        add_star_star(c, a.kw, exo_jeval(c, args->star_star, scope));
    }
    return a;
}

exo_jvalue exo_jeval_call(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope,
                          const exo_jvalue *caller) {
    exo_jvalue callee = exo_jeval(c, e->call.subject, scope);
    if (!exo_jok(c)) return exo_jundefined;
    exo_jargs a = eval_args(c, &e->call.args, scope, caller);
    if (!exo_jok(c)) return exo_jundefined;
    c->line = e->line;
    return exo_jcall(c, callee, &a);
}

static exo_jvalue eval_filter(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    exo_jvalue subject = exo_jeval(c, e->call.subject, scope);
    exo_jargs a = exo_jok(c) ? eval_args(c, &e->call.args, scope, NULL) : (exo_jargs){0};
    if (!exo_jok(c)) return exo_jundefined;
    c->line = e->line;
    if (e->call.native != NULL) return exo_jcall_native(c, e->call.native, subject, &a);
    const exo_jstr *name = e->call.name;
    return exo_jfail(c, "No %s named '%.*s'.", e->kind == EXO_J_EXPR_TEST ? "test" : "filter",
                     exo_jshown(name), name->s);
}

/* ---- the switch ---- */

static exo_jvalue eval_operator(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    exo_jvalue left = exo_jeval(c, e->pair.left, scope);
    if (!exo_jok(c)) return exo_jundefined;
    switch (e->kind) {
    case EXO_J_EXPR_AND: return exo_jtruth(left) ? exo_jeval(c, e->pair.right, scope) : left;
    case EXO_J_EXPR_OR: return exo_jtruth(left) ? left : exo_jeval(c, e->pair.right, scope);
    case EXO_J_EXPR_NOT: return exo_jbool(!exo_jtruth(left));
    case EXO_J_EXPR_NEG: return exo_jnegate(c, left);
    case EXO_J_EXPR_POS: return exo_jbinary(c, EXO_J_ADD, exo_jint(0), left);
    default: break;
    }
    exo_jvalue right = exo_jeval(c, e->pair.right, scope);
    c->line = e->line;
    return exo_jok(c) ? exo_jbinary(c, e->pair.op, left, right) : exo_jundefined;
}

static exo_jvalue eval_access(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    if (e->kind == EXO_J_EXPR_SLICE) return eval_slice(c, e, scope);
    bool attr = e->kind == EXO_J_EXPR_ATTR;
    exo_jvalue object = exo_jeval(c, attr ? e->attr.object : e->item.object, scope);
    exo_jvalue index = attr ? exo_jnone : exo_jeval(c, e->item.index, scope);
    if (!exo_jok(c)) return exo_jundefined;
    c->line = e->line;
    return attr ? exo_jget_attr(c, object, e->attr.name) : exo_jget_item(c, object, index);
}

static exo_jvalue eval_node(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    switch (e->kind) {
    case EXO_J_EXPR_CONST: return e->constant;
    case EXO_J_EXPR_NAME: return eval_name(c, e->name, scope);
    case EXO_J_EXPR_BODY: return c->body;
    case EXO_J_EXPR_LIST: return eval_list(c, e, scope, EXO_J_LIST);
    case EXO_J_EXPR_TUPLE: return eval_list(c, e, scope, EXO_J_TUPLE);
    case EXO_J_EXPR_DICT: return eval_dict(c, e, scope);
    case EXO_J_EXPR_CONCAT: return eval_concat(c, e, scope);
    case EXO_J_EXPR_BINARY:
    case EXO_J_EXPR_NEG:
    case EXO_J_EXPR_POS:
    case EXO_J_EXPR_NOT:
    case EXO_J_EXPR_AND:
    case EXO_J_EXPR_OR: return eval_operator(c, e, scope);
    case EXO_J_EXPR_COMPARE: return eval_compare(c, e, scope);
    case EXO_J_EXPR_COND: return eval_cond(c, e, scope);
    case EXO_J_EXPR_ATTR:
    case EXO_J_EXPR_ITEM:
    case EXO_J_EXPR_SLICE: return eval_access(c, e, scope);
    case EXO_J_EXPR_CALL: return exo_jeval_call(c, e, scope, NULL);
    case EXO_J_EXPR_FILTER:
    case EXO_J_EXPR_TEST: return eval_filter(c, e, scope);
    }
    return exo_jundefined;
}

exo_jvalue exo_jeval(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope) {
    if (!exo_jenter(c)) return exo_jundefined;
    c->line = e->line;
    exo_jvalue v = eval_node(c, e, scope);
    exo_jleave(c);
    return v;
}
