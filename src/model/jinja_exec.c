/* jinja_exec.c - statements of the tree to text: scopes, loops, macros, captured bodies.
 *
 * Scopes follow jinja2: for, macro, call, with, filter, block and the body of a set block have
 * names of their own; if has not.  A loop's pass reuses the scope of the pass before unless a
 * macro holds on to it.
 * Loops fetch items one ahead only when asked (.last, .nextitem), and a loop's `if` is evaluated
 * between passes, because templates change what it looks at. */
#include "model/jinja.h"

#include <string.h>

typedef enum { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow exec_body(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope);

/* ---- scopes ---- */

static exo_jscope *new_scope(exo_jctx *c, exo_jscope *parent) {
    exo_jscope *s = exo_jalloc(c, 1, sizeof *s);
    if (s != NULL) s->parent = parent;
    return s;
}

static void capture_scope(exo_jscope *s) {
    for (; s != NULL && !s->captured; s = s->parent) s->captured = true;
}

/* Empties a scope for the next pass of a loop; a new one where a macro keeps the old. */
static exo_jscope *renew_scope(exo_jctx *c, exo_jscope *s) {
    if (s == NULL || s->captured) return s == NULL ? NULL : new_scope(c, s->parent);
    if (s->vars.index != NULL) memset(s->vars.index, 0, s->vars.index_cap * sizeof *s->vars.index);
    s->vars.n = 0;
    return s;
}

static void assign_name(exo_jctx *c, const exo_jstr *name, exo_jvalue v, exo_jscope *scope) {
    exo_jdict_set_name(c, &scope->vars, name, v);
    if (scope->top) exo_jdict_set_name(c, &scope->parent->vars, name, v);
}

static void unpack(exo_jctx *c, const exo_jexpr *target, exo_jvalue v, exo_jscope *scope) {
    exo_jlist *l = exo_jiterate(c, v);
    if (l == NULL) return;
    if (l->n != target->list.n) {
        exo_jfail(c, "%s values to unpack (expected %zu)",
                  l->n < target->list.n ? "not enough" : "too many", target->list.n);
        return;
    }
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        exo_jassign(c, target->list.items[i], l->items[i], scope);
    }
}

void exo_jassign(exo_jctx *c, const exo_jexpr *target, exo_jvalue v, exo_jscope *scope) {
    if (!exo_jok(c) || scope == NULL) return;
    if (target->kind == EXO_J_EXPR_NAME) {
        assign_name(c, target->name, v, scope);
    } else if (target->kind == EXO_J_EXPR_TUPLE) {
        unpack(c, target, v, scope);
    } else {
        exo_jvalue object = exo_jeval(c, target->attr.object, scope);
        if (!exo_jok(c)) return;
        if (object.type != EXO_J_NAMESPACE) {
            exo_jfail(c, "cannot assign attribute on non-namespace object");
        } else {
            exo_jdict_set_name(c, object.dict, target->attr.name, v);
        }
    }
}

static bool escapes(const exo_jctx *c, exo_jescape escape) {
    return escape >= EXO_J_ESCAPE_LATER ? c->autoescape : escape == EXO_J_ESCAPE_ON;
}

/* Text that a body writes, as a value instead of output. */
static exo_jvalue captured_body(exo_jctx *c, const exo_jstmt *body, exo_jscope *scope, flow *f) {
    size_t mark = exo_jmark(c);
    *f = exec_body(c, body, scope);
    return exo_jtake(c, mark);
}

/* ---- loops ---- */

static bool passes_test(exo_jctx *c, const exo_jloop *loop, exo_jvalue item) {
    exo_jscope *scope = new_scope(c, loop->outer);
    exo_jassign(c, loop->stmt->loop.target, item, scope);
    return exo_jtruth(exo_jeval(c, loop->stmt->loop.test, scope)) && exo_jok(c);
}

/* What a loop's `if` hands on to the loop: its targets, in tuples where they are. */
static exo_jvalue shaped(exo_jctx *c, const exo_jexpr *target, exo_jvalue item) {
    if (target->kind != EXO_J_EXPR_TUPLE) return item;
    const exo_jlist *parts = exo_jiterate(c, item);
    exo_jlist *tuple = exo_jlist_new(c, target->list.n);
    for (size_t i = 0; exo_jok(c) && i < parts->n; i++) {
        bool named = i < target->list.n; /* else unpacking will say so */
        exo_jvalue part = parts->items[i];
        exo_jlist_append(c, tuple, named ? shaped(c, target->list.items[i], part) : part);
    }
    return exo_jlist_value(EXO_J_TUPLE, tuple);
}

/* Whether there is an item at loop->next; one is taken from the iterator where need be. */
static bool has_next(exo_jctx *c, exo_jloop *loop) {
    exo_jvalue item;
    if (!exo_jok(c)) return false;
    if (loop->next < loop->items->n) return true;
    if (loop->rest == NULL || !exo_jpull(c, loop->rest, &item)) return false;
    exo_jlist_append(c, loop->items, item);
    return exo_jok(c);
}

/* The next item that the loop's `if` lets through. */
static bool fetch(exo_jctx *c, exo_jloop *loop, exo_jvalue *out) {
    while (has_next(c, loop)) {
        exo_jvalue item = loop->items->items[loop->next++];
        if (loop->filtered) {
            item = shaped(c, loop->stmt->loop.target, item);
            if (!exo_jok(c) || !passes_test(c, loop, item)) continue;
        }
        *out = item;
        return exo_jok(c);
    }
    return false;
}

static bool look_ahead(exo_jctx *c, exo_jloop *loop) {
    if (!loop->has_ahead) loop->has_ahead = fetch(c, loop, &loop->ahead);
    return loop->has_ahead;
}

static bool next_pass(exo_jctx *c, exo_jloop *loop) {
    exo_jvalue item;
    if (loop->has_ahead)
        item = loop->ahead;
    else if (!fetch(c, loop, &item))
        return false;
    loop->has_ahead = false;
    loop->index0++;
    loop->before = loop->current;
    loop->current = item;
    return true;
}

/* The number of passes; a loop with an `if` must decide about all items to know it. */
static int64_t loop_length(exo_jctx *c, exo_jloop *loop) {
    if (loop->filtered) {
        exo_jlist *rest = exo_jlist_new(c, 0);
        exo_jvalue item;
        for (int64_t i = 0; i <= loop->index0; i++) exo_jlist_append(c, rest, exo_jnone);
        if (loop->has_ahead) exo_jlist_append(c, rest, loop->ahead);
        while (fetch(c, loop, &item)) exo_jlist_append(c, rest, item);
        if (rest == NULL || !exo_jok(c)) return 0;
        loop->items = rest;
        loop->next = (size_t)loop->index0 + 1 + loop->has_ahead;
        loop->filtered = false;
    }
    exo_jvalue item;
    while (loop->rest != NULL && exo_jpull(c, loop->rest, &item))
        exo_jlist_append(c, loop->items, item);
    return (int64_t)loop->items->n;
}

exo_jvalue exo_jloop_attr(exo_jctx *c, exo_jloop *loop, const exo_jstr *name) {
    static const char *const names[] = {"index",    "index0",   "first",     "last",
                                        "length",   "revindex", "revindex0", "previtem",
                                        "nextitem", "depth",    "depth0"};
    size_t i = 0, n = sizeof names / sizeof *names;
    while (i < n && !exo_jstr_is(name, names[i])) i++;
    switch (i) {
    case 0: return exo_jint(loop->index0 + 1);
    case 1: return exo_jint(loop->index0);
    case 2: return exo_jbool(loop->index0 == 0);
    case 3: return exo_jbool(!look_ahead(c, loop));
    case 4: return exo_jint(loop_length(c, loop));
    case 5: return exo_jint(loop_length(c, loop) - loop->index0);
    case 6: return exo_jint(loop_length(c, loop) - loop->index0 - 1);
    case 7:
        if (loop->index0 > 0) return loop->before;
        return exo_jundefined_hint(c, "there is no previous item");
    case 8:
        if (look_ahead(c, loop)) return loop->ahead;
        return exo_jundefined_hint(c, "there is no next item");
    case 9: return exo_jint(loop->depth0 + 1);
    case 10: return exo_jint(loop->depth0);
    default: return exo_jabsent;
    }
}

static flow run_loop(exo_jctx *c, const exo_jstmt *s, exo_jscope *outer, exo_jvalue iter,
                     int64_t depth0) {
    static const exo_jstr loop_name = {.s = "loop", .n = 4, .n_chars = 4};
    exo_jloop *loop = exo_jalloc(c, 1, sizeof *loop);
    exo_jscope *scope = new_scope(c, outer);
    bool lazy = iter.type == EXO_J_ITERATOR;
    exo_jlist *items = lazy ? exo_jlist_new(c, 0) : exo_jiterate(c, iter);
    if (loop == NULL || items == NULL) return FLOW_NEXT;
    *loop = (exo_jloop){.stmt = s,
                        .outer = outer,
                        .items = items,
                        .rest = lazy ? iter.list : NULL,
                        .index0 = -1,
                        .depth0 = depth0,
                        .filtered = s->loop.test != NULL};
    bool completed = false; /* as in jinja2, a first pass that jumps out does not count for else */
    while (exo_jok(c) && next_pass(c, loop)) {
        scope = renew_scope(c, scope);
        exo_jassign(c, s->loop.target, loop->current, scope);
        if (scope == NULL || !exo_jok(c)) break;
        exo_jvalue self = {.type = EXO_J_LOOP, .loop = loop};
        exo_jdict_set_name(c, &scope->vars, &loop_name, self);
        exo_jcharge(c, 1);
        flow f = exec_body(c, s->loop.body, scope);
        if (f == FLOW_BREAK) break;
        if (f == FLOW_NEXT) completed = true;
    }
    if (completed || s->loop.orelse == NULL || !exo_jok(c)) return FLOW_NEXT;
    return exec_body(c, s->loop.orelse, new_scope(c, outer));
}

exo_jvalue exo_jcall_loop(exo_jctx *c, exo_jloop *loop, const exo_jargs *a) {
    if (!loop->stmt->loop.recursive) {
        return exo_jfail(c, "The loop must have the 'recursive' marker to be called recursively.");
    }
    if (a->n != 1) return exo_jfail(c, "loop() takes one argument (%zu given)", a->n);
    if (!exo_jenter(c)) return exo_jundefined;
    size_t mark = exo_jmark(c);
    run_loop(c, loop->stmt, loop->outer, a->v[0], loop->depth0 + 1);
    exo_jleave(c);
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = escapes(c, loop->stmt->loop.escape);
    return text;
}

/* ---- macros ---- */

static exo_jvalue param_default(exo_jctx *c, const exo_jmacro_def *def, size_t i,
                                exo_jscope *scope) {
    size_t first = def->n_params - def->defaults.n;
    if (i >= first) return exo_jeval(c, def->defaults.items[i - first], scope);
    size_t mark = exo_jmark(c);
    exo_jputs(c, "parameter '");
    exo_jput_str(c, def->params[i]);
    exo_jputs(c, "' was not provided");
    exo_jvalue message = exo_jtake(c, mark);
    return (exo_jvalue){.type = EXO_J_UNDEFINED, .hint = true, .s = message.s};
}

/* Named parameters: positional, then by keyword (taken out of kw), then defaults, which may
 * refer to parameters before them; the others have no value yet, whatever is outside. */
static void bind_params(exo_jctx *c, const exo_jmacro_def *def, const exo_jargs *a, exo_jdict *kw,
                        exo_jscope *scope) {
    for (size_t i = 0; i < def->n_params && exo_jok(c); i++) {
        exo_jvalue key = {.type = EXO_J_STRING, .s = def->params[i]}, v;
        if (i < a->n)
            v = a->v[i];
        else if (kw == NULL || !exo_jdict_remove(c, kw, key, &v))
            v = exo_jabsent;
        exo_jdict_set_name(c, &scope->vars, def->params[i], v);
    }
    for (size_t i = a->n; i < def->n_params && exo_jok(c); i++) {
        exo_jvalue v;
        bool known = exo_jdict_get_name(c, &scope->vars, def->params[i], &v);
        if (known && v.type != EXO_J_ABSENT) continue;
        exo_jdict_set_name(c, &scope->vars, def->params[i], param_default(c, def, i, scope));
    }
}

static exo_jdict *copy_dict(exo_jctx *c, const exo_jdict *d) {
    exo_jdict *copy = exo_jdict_new(c);
    for (size_t i = 0; d != NULL && i < d->n && exo_jok(c); i++) {
        exo_jdict_set(c, copy, d->entries[i].key, d->entries[i].value);
    }
    return copy;
}

static bool names_param(const exo_jmacro_def *def, const char *name) {
    for (size_t i = 0; i < def->n_params; i++) {
        if (exo_jstr_is(def->params[i], name)) return true;
    }
    return false;
}

/* caller, kwargs and varargs: given to the body if it mentions them, else surplus is an error. */
static void bind_special(exo_jctx *c, const exo_jmacro_def *def, const exo_jargs *a, exo_jdict *kw,
                         exo_jscope *scope) {
    static const exo_jstr caller = {.s = "caller", .n = 6, .n_chars = 6};
    static const exo_jstr kwargs = {.s = "kwargs", .n = 6, .n_chars = 6};
    static const exo_jstr varargs = {.s = "varargs", .n = 7, .n_chars = 7};
    const char *name = def->name != NULL ? def->name->s : "caller";
    int shown = def->name == NULL ? 6 : exo_jshown(def->name);
    if (def->uses_caller && !names_param(def, "caller")) {
        exo_jvalue v, key = {.type = EXO_J_STRING, .s = &caller};
        if (kw == NULL || !exo_jdict_remove(c, kw, key, &v)) {
            v = exo_jundefined_hint(c, "No caller defined");
        }
        exo_jdict_set_name(c, &scope->vars, &caller, v);
    }
    if (def->uses_kwargs) {
        exo_jvalue v = {.type = EXO_J_DICT, .dict = kw != NULL ? kw : exo_jdict_new(c)};
        if (exo_jok(c)) exo_jdict_set_name(c, &scope->vars, &kwargs, v);
    } else if (kw != NULL && kw->n > 0) {
        const exo_jstr *extra = kw->entries[0].key.s;
        exo_jfail(c, "macro '%.*s' takes no keyword argument '%.*s'", shown, name,
                  exo_jshown(extra), extra->s);
    }
    if (def->uses_varargs) {
        exo_jlist *rest = exo_jlist_new(c, 0);
        for (size_t i = def->n_params; i < a->n; i++) exo_jlist_append(c, rest, a->v[i]);
        exo_jdict_set_name(c, &scope->vars, &varargs, exo_jlist_value(EXO_J_TUPLE, rest));
    } else if (a->n > def->n_params) {
        exo_jfail(c, "macro '%.*s' takes not more than %zu argument(s)", shown, name,
                  def->n_params);
    }
}

exo_jvalue exo_jcall_macro(exo_jctx *c, const exo_jmacro *macro, const exo_jargs *a) {
    if (!exo_jenter(c)) return exo_jundefined;
    const exo_jmacro_def *def = macro->def;
    exo_jvalue text = exo_jundefined;
    exo_jscope *scope = new_scope(c, macro->scope);
    exo_jdict *kw = a->kw != NULL ? copy_dict(c, a->kw) : NULL;
    if (scope != NULL && exo_jok(c)) {
        bind_params(c, def, a, kw, scope);
        bind_special(c, def, a, kw, scope);
        flow ignored;
        if (exo_jok(c)) text = captured_body(c, def->body, scope, &ignored);
        if (text.type == EXO_J_STRING) text.markup = c->autoescape;
    }
    exo_jleave(c);
    return text;
}

static exo_jvalue make_macro(exo_jctx *c, const exo_jmacro_def *def, exo_jscope *scope) {
    exo_jmacro *macro = exo_jalloc(c, 1, sizeof *macro);
    if (macro == NULL) return exo_jundefined;
    capture_scope(scope);
    *macro = (exo_jmacro){.def = def, .scope = scope};
    return (exo_jvalue){.type = EXO_J_MACRO, .macro = macro};
}

/* ---- the other statements ---- */

static flow exec_if(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    for (const exo_jbranch *b = s->branches; b != NULL && exo_jok(c); b = b->next) {
        bool taken = b->test == NULL || exo_jtruth(exo_jeval(c, b->test, scope));
        if (taken && exo_jok(c)) return exec_body(c, b->body, scope);
    }
    return FLOW_NEXT;
}

static flow exec_set_block(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    flow f;
    exo_jscope *inner = new_scope(c, scope);
    exo_jvalue text = captured_body(c, s->set.body, inner, &f);
    if (f != FLOW_NEXT || !exo_jok(c)) return f;
    c->body = text;
    c->body.markup = c->autoescape;
    if (s->set.value != NULL) text = exo_jeval(c, s->set.value, inner);
    if (c->autoescape) text = exo_jto_str(c, text);
    if (c->autoescape) text.markup = true;
    exo_jassign(c, s->set.target, text, scope);
    return FLOW_NEXT;
}

static flow exec_filter_block(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    flow f;
    exo_jscope *inner = new_scope(c, scope);
    exo_jvalue text = captured_body(c, s->filter_block.body, inner, &f);
    if (f != FLOW_NEXT || !exo_jok(c)) return f;
    c->body = text;
    c->body.markup = escapes(c, s->filter_block.escape);
    exo_jprint(c, exo_jeval(c, s->filter_block.filter, inner));
    return FLOW_NEXT;
}

static void exec_call_block(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    exo_jvalue caller = make_macro(c, s->call_block.caller, scope);
    if (exo_jok(c)) exo_jprint(c, exo_jeval_call(c, s->call_block.call, scope, &caller));
}

static flow exec_with(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    exo_jscope *inner = new_scope(c, scope);
    for (size_t i = 0; i < s->with.targets.n && exo_jok(c); i++) {
        exo_jvalue v = exo_jeval(c, s->with.values.items[i], scope);
        exo_jassign(c, s->with.targets.items[i], v, inner);
    }
    return exec_body(c, s->with.body, inner);
}

static void exec_print(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    exo_jvalue v = exo_jeval(c, s->print.value, scope);
    bool safe = v.type == EXO_J_STRING && v.markup;
    if (!exo_jok(c)) return;
    /* where escaping is decided at run time, it is decided for constants before that */
    bool constant = s->print.escape >= EXO_J_ESCAPE_LATER && exo_jis_constant(s->print.value);
    bool escaped =
        constant ? s->print.escape == EXO_J_ESCAPE_LATER_ON : escapes(c, s->print.escape);
    if (safe || !escaped)
        exo_jprint(c, v);
    else
        exo_jput_str(c, exo_jstr_escape(c, exo_jto_str(c, v).s).s);
}

/* As in jinja2, a jump out of it leaves the setting behind for filters and macros. */
static flow exec_autoescape(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    bool before = c->autoescape;
    exo_jscope *inner = new_scope(c, scope);
    c->autoescape = exo_jtruth(exo_jeval(c, s->autoescape.value, inner));
    flow f = exec_body(c, s->autoescape.body, inner);
    if (f == FLOW_NEXT) c->autoescape = before;
    return f;
}

/* What a block sees: the names around it if it is scoped, else what the block around it sees. */
static exo_jscope *around_block(const exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    if (s->block.scoped) return scope;
    while (scope != NULL && !scope->block) scope = scope->parent;
    return scope != NULL ? scope->parent : c->globals;
}

static void exec_block(exo_jctx *c, const exo_jstmt *s, exo_jscope *outer) {
    const exo_jstr *name = s->block.name;
    if (s->block.required)
        exo_jfail(c, "Required block '%.*s' not found", exo_jshown(name), name->s);
    exo_jscope *scope = new_scope(c, outer);
    if (scope != NULL) scope->block = true;
    exec_body(c, s->block.body, scope);
}

exo_jvalue exo_jcall_block(exo_jctx *c, const exo_jstmt *block) {
    if (!exo_jenter(c)) return exo_jundefined;
    size_t mark = exo_jmark(c);
    exec_body(c, block->block.body, new_scope(c, c->globals));
    exo_jvalue text = exo_jtake(c, mark);
    text.markup = c->autoescape;
    exo_jleave(c);
    return text;
}

static void exec_unset(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    exo_jcharge(c, s->unset.n);
    for (size_t i = 0; i < s->unset.n && exo_jok(c); i++)
        exo_jdict_set_name(c, &scope->vars, s->unset.names[i], exo_jabsent);
}

static flow exec(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    switch (s->kind) {
    case EXO_J_STMT_TEXT: exo_jput_str(c, s->text.s); break;
    case EXO_J_STMT_PRINT: exec_print(c, s, scope); break;
    case EXO_J_STMT_AUTOESCAPE: return exec_autoescape(c, s, scope);
    case EXO_J_STMT_IF: return exec_if(c, s, scope);
    case EXO_J_STMT_FOR: {
        exo_jvalue iter = exo_jeval(c, s->loop.iter, scope);
        return exo_jok(c) ? run_loop(c, s, scope, iter, 0) : FLOW_NEXT;
    }
    case EXO_J_STMT_SET:
        exo_jassign(c, s->set.target, exo_jeval(c, s->set.value, scope), scope);
        break;
    case EXO_J_STMT_SET_BLOCK: return exec_set_block(c, s, scope);
    case EXO_J_STMT_MACRO:
        assign_name(c, s->macro->name, make_macro(c, s->macro, scope), scope);
        break;
    case EXO_J_STMT_CALL_BLOCK: exec_call_block(c, s, scope); break;
    case EXO_J_STMT_FILTER_BLOCK: return exec_filter_block(c, s, scope);
    case EXO_J_STMT_WITH: return exec_with(c, s, scope);
    case EXO_J_STMT_BLOCK: exec_block(c, s, around_block(c, s, scope)); break;
    case EXO_J_STMT_UNSET: exec_unset(c, s, scope); break;
    case EXO_J_STMT_GROUP: return exec_body(c, s->block.body, scope);
    case EXO_J_STMT_BREAK: return FLOW_BREAK;
    case EXO_J_STMT_CONTINUE: return FLOW_CONTINUE;
    case EXO_J_STMT_UNSUPPORTED:
        exo_jfail(c, "'%.*s' needs other files; a chat template is one file", exo_jshown(s->tag),
                  s->tag->s);
        break;
    }
    return FLOW_NEXT;
}

static flow exec_body(exo_jctx *c, const exo_jstmt *s, exo_jscope *scope) {
    flow f = FLOW_NEXT;
    if (scope == NULL || !exo_jenter(c)) return FLOW_NEXT;
    for (; s != NULL && f == FLOW_NEXT && exo_jok(c); s = s->next) {
        c->line = s->line;
        exo_jcharge(c, 1);
        f = exec(c, s, scope);
    }
    exo_jleave(c);
    return f;
}

void exo_jexec_template(exo_jctx *c, const exo_jstmt *body) {
    exo_jscope *scope = new_scope(c, c->globals);
    if (scope != NULL) scope->top = true;
    exec_body(c, body, scope);
}
