/* jinja_parse_expr.c - expressions: jinja2's grammar, one function per level of precedence.
 *
 * Loosest first: ternary, or, and, not, comparisons, + -, ~, * / // %, **, unary, postfix,
 * filters and tests.  (~ binding tighter than + is jinja2's, not a slip.)
 * After a failure every function still returns, quickly and with NULL; callers need no checks,
 * because nothing is evaluated from a failed parse. */
#include "model/jinja.h"

#include <string.h>

/* ---- the token stream ---- */

void exo_jadvance(exo_jparser *p) {
    if (p->t->kind != EXO_J_TOK_EOF) p->t++;
    p->c->line = p->t->line;
}

bool exo_jat_op(const exo_jparser *p, const char *op) {
    return p->t->kind == EXO_J_TOK_OP && strcmp(p->t->op, op) == 0;
}

bool exo_jat_name(const exo_jparser *p, const char *name) {
    return p->t->kind == EXO_J_TOK_NAME && exo_jstr_is(p->t->value.s, name);
}

bool exo_jaccept_op(exo_jparser *p, const char *op) {
    if (!exo_jok(p->c) || !exo_jat_op(p, op)) return false;
    exo_jadvance(p);
    return true;
}

bool exo_jaccept_name(exo_jparser *p, const char *name) {
    if (!exo_jok(p->c) || !exo_jat_name(p, name)) return false;
    exo_jadvance(p);
    return true;
}

static const char *describe_kind(exo_jtok kind) {
    switch (kind) {
    case EXO_J_TOK_EOF: return "end of template";
    case EXO_J_TOK_DATA: return "template data / text";
    case EXO_J_TOK_VARIABLE_BEGIN: return "begin of print statement";
    case EXO_J_TOK_VARIABLE_END: return "end of print statement";
    case EXO_J_TOK_BLOCK_BEGIN: return "begin of statement block";
    case EXO_J_TOK_BLOCK_END: return "end of statement block";
    case EXO_J_TOK_NAME: return "name";
    case EXO_J_TOK_STRING: return "string";
    case EXO_J_TOK_NUMBER: return "number";
    case EXO_J_TOK_OP: return "operator";
    }
    return "token";
}

exo_jvalue exo_jtoken_text(exo_jctx *c, const exo_jtoken *t) {
    if (t->kind == EXO_J_TOK_NAME && t->value.s->n < 60) return t->value;
    const char *text = t->kind == EXO_J_TOK_OP ? t->op : describe_kind(t->kind);
    return exo_jstring_borrow(c, text, strlen(text));
}

static void fail_expected(exo_jparser *p, const char *what) {
    if (p->t->kind == EXO_J_TOK_EOF) {
        exo_jfail(p->c, "unexpected end of template, expected '%s'", what);
        return;
    }
    const exo_jstr *got = exo_jtoken_text(p->c, p->t).s;
    exo_jfail(p->c, "expected token '%s', got '%.*s'", what, exo_jshown(got), got->s);
}

void exo_jexpect_op(exo_jparser *p, const char *op) {
    if (!exo_jaccept_op(p, op)) fail_expected(p, op);
}

void exo_jexpect_kind(exo_jparser *p, exo_jtok kind) {
    if (exo_jok(p->c) && p->t->kind == kind)
        exo_jadvance(p);
    else
        fail_expected(p, describe_kind(kind));
}

const exo_jstr *exo_jexpect_ident(exo_jparser *p) {
    const exo_jtoken *t = p->t;
    exo_jexpect_kind(p, EXO_J_TOK_NAME);
    return exo_jok(p->c) ? t->value.s : exo_jstring_borrow(p->c, "", 0).s;
}

/* ---- nodes ---- */

static exo_jexpr *new_expr(exo_jparser *p, exo_jexpr_kind kind) {
    exo_jexpr *e = exo_jalloc(p->c, 1, sizeof *e);
    if (e == NULL) return NULL;
    e->kind = kind;
    e->line = p->t->line;
    return e;
}

static exo_jexpr *new_const(exo_jparser *p, exo_jvalue v) {
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_CONST);
    if (e != NULL) e->constant = v;
    return e;
}

static exo_jexpr *new_pair(exo_jparser *p, exo_jexpr_kind kind, exo_jop op, exo_jexpr *left,
                           exo_jexpr *right) {
    exo_jexpr *e = new_expr(p, kind);
    if (e == NULL) return NULL;
    e->pair.op = op;
    e->pair.left = left;
    e->pair.right = right;
    if (left != NULL) e->line = left->line;
    return e;
}

void *exo_jgrow(exo_jctx *c, void *items, size_t n, size_t size) {
    if (n != 0 && (n < 4 || (n & (n - 1)) != 0)) return items;
    void *grown = exo_jalloc(c, n == 0 ? 4 : 2 * n, size);
    if (grown != NULL && n > 0) memcpy(grown, items, n * size);
    return grown;
}

void exo_jexprs_push(exo_jctx *c, exo_jexprs *list, exo_jexpr *e) {
    void *items = exo_jok(c) ? exo_jgrow(c, list->items, list->n, sizeof(void *)) : NULL;
    if (items == NULL) return;
    list->items = items;
    list->items[list->n++] = e;
}

/* ---- arguments, filters, tests ---- */

static bool at_keyword_argument(const exo_jparser *p) {
    return p->t->kind == EXO_J_TOK_NAME && p->t[1].kind == EXO_J_TOK_OP &&
           strcmp(p->t[1].op, "=") == 0;
}

static void push_keyword(exo_jparser *p, exo_jcall_args *args) {
    void *names = exo_jgrow(p->c, args->kw_names, args->kw_values.n, sizeof(void *));
    if (names == NULL) return;
    args->kw_names = names;
    exo_jcharge(p->c, args->kw_values.n / 16);
    for (size_t i = 0; i < args->kw_values.n; i++) {
        if (!exo_jstr_equal(args->kw_names[i], p->t->value.s)) continue;
        exo_jfail(p->c, "keyword argument repeated: %.*s", exo_jshown(p->t->value.s),
                  p->t->value.s->s);
    }
    args->kw_names[args->kw_values.n] = p->t->value.s;
    exo_jadvance(p);
    exo_jadvance(p);
    exo_jexprs_push(p->c, &args->kw_values, exo_jparse_expr(p));
}

static void parse_args(exo_jparser *p, exo_jcall_args *args) {
    exo_jexpect_op(p, "(");
    bool first = true;
    while (exo_jok(p->c) && !exo_jat_op(p, ")")) {
        if (!first) exo_jexpect_op(p, ",");
        first = false;
        if (exo_jat_op(p, ")")) break;
        bool valid;
        if (exo_jaccept_op(p, "*")) {
            valid = args->star == NULL && args->star_star == NULL;
            args->star = exo_jparse_expr(p);
        } else if (exo_jaccept_op(p, "**")) {
            valid = args->star_star == NULL;
            args->star_star = exo_jparse_expr(p);
        } else if (at_keyword_argument(p)) {
            valid = args->star_star == NULL;
            push_keyword(p, args);
        } else {
            valid = args->star == NULL && args->star_star == NULL && args->kw_values.n == 0;
            exo_jexprs_push(p->c, &args->args, exo_jparse_expr(p));
        }
        if (!valid) exo_jfail(p->c, "invalid syntax for function call expression");
    }
    exo_jexpect_op(p, ")");
}

static exo_jexpr *parse_call(exo_jparser *p, exo_jexpr *callee) {
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_CALL);
    if (e == NULL) return NULL;
    e->call.subject = callee;
    parse_args(p, &e->call.args);
    return e;
}

/* "name" or "a.b.c" */
static const exo_jstr *parse_dotted(exo_jparser *p) {
    const exo_jstr *name = exo_jexpect_ident(p);
    while (exo_jaccept_op(p, ".")) {
        const exo_jstr *dot = exo_jstring_borrow(p->c, ".", 1).s;
        name = exo_jconcat(p->c, exo_jconcat(p->c, name, dot).s, exo_jexpect_ident(p)).s;
    }
    return name;
}

exo_jexpr *exo_jparse_filters(exo_jparser *p, exo_jexpr *subject, bool inline_name) {
    while (exo_jok(p->c) && (inline_name || exo_jat_op(p, "|"))) {
        if (!inline_name) exo_jadvance(p);
        inline_name = false;
        exo_jexpr *e = new_expr(p, EXO_J_EXPR_FILTER);
        if (e == NULL) return NULL;
        e->call.subject = subject != NULL ? subject : new_expr(p, EXO_J_EXPR_BODY);
        e->call.name = parse_dotted(p);
        e->call.native = exo_jfilter_find(e->call.name);
        if (exo_jat_op(p, "(")) parse_args(p, &e->call.args);
        subject = e;
    }
    return subject;
}

static exo_jexpr *parse_primary(exo_jparser *p);
static exo_jexpr *parse_postfix(exo_jparser *p, exo_jexpr *e);

/* A test takes one bare argument: {{ x is divisibleby 3 }}. */
static bool at_bare_argument(const exo_jparser *p) {
    switch (p->t->kind) {
    case EXO_J_TOK_STRING:
    case EXO_J_TOK_NUMBER: return true;
    case EXO_J_TOK_OP: return exo_jat_op(p, "[") || exo_jat_op(p, "{");
    case EXO_J_TOK_NAME:
        return !exo_jat_name(p, "else") && !exo_jat_name(p, "or") && !exo_jat_name(p, "and");
    default: return false;
    }
}

static exo_jexpr *parse_test(exo_jparser *p, exo_jexpr *subject) {
    exo_jadvance(p);
    bool negated = exo_jaccept_name(p, "not");
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_TEST);
    if (e == NULL) return NULL;
    e->call.subject = subject;
    e->call.name = parse_dotted(p);
    e->call.native = exo_jtest_find(e->call.name);
    if (exo_jat_op(p, "(")) {
        parse_args(p, &e->call.args);
    } else if (at_bare_argument(p)) {
        if (exo_jat_name(p, "is")) exo_jfail(p->c, "You cannot chain multiple tests with is");
        exo_jexprs_push(p->c, &e->call.args.args, parse_postfix(p, parse_primary(p)));
    }
    return negated ? new_pair(p, EXO_J_EXPR_NOT, EXO_J_ADD, e, NULL) : e;
}

/* ---- primary and postfix ---- */

static exo_jexpr *parse_strings(exo_jparser *p) {
    exo_jexpr *e = new_const(p, p->t->value);
    exo_jadvance(p);
    while (e != NULL && exo_jok(p->c) && p->t->kind == EXO_J_TOK_STRING) {
        e->constant = exo_jconcat(p->c, e->constant.s, p->t->value.s);
        exo_jadvance(p);
    }
    if (e != NULL) e->constant = exo_jname(p->c, e->constant.s->s, e->constant.s->n);
    return e;
}

static exo_jexpr *parse_list(exo_jparser *p, exo_jexpr_kind kind, const char *close) {
    exo_jexpr *e = new_expr(p, kind);
    if (e == NULL) return NULL;
    exo_jadvance(p);
    while (exo_jok(p->c) && !exo_jat_op(p, close)) {
        if (e->list.n > 0) exo_jexpect_op(p, ",");
        if (exo_jat_op(p, close)) break;
        exo_jexprs_push(p->c, &e->list, exo_jparse_expr(p));
        if (kind != EXO_J_EXPR_DICT) continue;
        exo_jexpect_op(p, ":");
        exo_jexprs_push(p->c, &e->list, exo_jparse_expr(p));
    }
    exo_jexpect_op(p, close);
    return e;
}

static exo_jexpr *parse_name(exo_jparser *p) {
    const exo_jstr *name = p->t->value.s;
    exo_jexpr *e;
    if (exo_jstr_is(name, "true") || exo_jstr_is(name, "True")) {
        e = new_const(p, exo_jbool(true));
    } else if (exo_jstr_is(name, "false") || exo_jstr_is(name, "False")) {
        e = new_const(p, exo_jbool(false));
    } else if (exo_jstr_is(name, "none") || exo_jstr_is(name, "None")) {
        e = new_const(p, exo_jnone);
    } else {
        e = new_expr(p, EXO_J_EXPR_NAME);
        if (e != NULL) e->name = name;
        p->uses_caller |= exo_jstr_is(name, "caller");
        p->uses_varargs |= exo_jstr_is(name, "varargs");
        p->uses_kwargs |= exo_jstr_is(name, "kwargs");
    }
    exo_jadvance(p);
    return e;
}

static exo_jexpr *parse_tuple_of(exo_jparser *p, exo_jexpr *(*parse)(exo_jparser *),
                                 const char *end_name, bool parenthesised);

static exo_jexpr *parse_primary(exo_jparser *p) {
    if (!exo_jok(p->c)) return NULL;
    exo_jexpr *e;
    switch (p->t->kind) {
    case EXO_J_TOK_NAME: return parse_name(p);
    case EXO_J_TOK_STRING: return parse_strings(p);
    case EXO_J_TOK_NUMBER:
        e = new_const(p, p->t->value);
        exo_jadvance(p);
        return e;
    default: break;
    }
    if (exo_jat_op(p, "[")) return parse_list(p, EXO_J_EXPR_LIST, "]");
    if (exo_jat_op(p, "{")) return parse_list(p, EXO_J_EXPR_DICT, "}");
    if (exo_jaccept_op(p, "(")) {
        e = parse_tuple_of(p, exo_jparse_expr, NULL, true);
        exo_jexpect_op(p, ")");
        return e;
    }
    const exo_jstr *got = exo_jtoken_text(p->c, p->t).s;
    exo_jfail(p->c, "unexpected '%.*s'", exo_jshown(got), got->s);
    return NULL;
}

static exo_jexpr *parse_dot(exo_jparser *p, exo_jexpr *object) {
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_ATTR);
    if (e == NULL) return NULL;
    if (p->t->kind == EXO_J_TOK_NUMBER && p->t->value.type == EXO_J_INT) {
        e->kind = EXO_J_EXPR_ITEM;
        e->item.object = object;
        e->item.index = new_const(p, p->t->value);
        exo_jadvance(p);
        return e;
    }
    e->attr.object = object;
    e->attr.name = exo_jexpect_ident(p);
    return e;
}

static bool at_bound_end(const exo_jparser *p) { return exo_jat_op(p, ":") || exo_jat_op(p, "]"); }

/* object[index], object[a:b:c], object[a, b]; "[" is read already */
static exo_jexpr *parse_subscript(exo_jparser *p, exo_jexpr *object) {
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_ITEM), *bounds[3] = {NULL};
    if (e == NULL) return NULL;
    e->item.object = object;
    if (exo_jaccept_op(p, "]")) { /* the item () */
        e->item.index = new_expr(p, EXO_J_EXPR_TUPLE);
        return e;
    }
    if (!exo_jat_op(p, ":")) bounds[0] = exo_jparse_expr(p);
    if (exo_jaccept_op(p, ":")) {
        if (!at_bound_end(p)) bounds[1] = exo_jparse_expr(p);
        if (exo_jaccept_op(p, ":") && !at_bound_end(p)) bounds[2] = exo_jparse_expr(p);
        e->kind = EXO_J_EXPR_SLICE;
        e->slice.object = object;
        e->slice.start = bounds[0];
        e->slice.stop = bounds[1];
        e->slice.step = bounds[2];
    } else {
        e->item.object = object;
        e->item.index = bounds[0];
        if (exo_jat_op(p, ",")) {
            e->item.index = new_expr(p, EXO_J_EXPR_TUPLE);
            if (e->item.index == NULL) return NULL;
            exo_jexprs_push(p->c, &e->item.index->list, bounds[0]);
            while (exo_jaccept_op(p, ",")) {
                exo_jexprs_push(p->c, &e->item.index->list, exo_jparse_expr(p));
            }
        }
    }
    exo_jexpect_op(p, "]");
    return e;
}

static exo_jexpr *parse_postfix(exo_jparser *p, exo_jexpr *e) {
    while (exo_jok(p->c)) {
        if (exo_jaccept_op(p, "."))
            e = parse_dot(p, e);
        else if (exo_jaccept_op(p, "["))
            e = parse_subscript(p, e);
        else if (exo_jat_op(p, "("))
            e = parse_call(p, e);
        else
            break;
    }
    return e;
}

static exo_jexpr *parse_piped(exo_jparser *p, exo_jexpr *e) {
    while (exo_jok(p->c)) {
        if (exo_jat_op(p, "|"))
            e = exo_jparse_filters(p, e, false);
        else if (exo_jat_name(p, "is"))
            e = parse_test(p, e);
        else if (exo_jat_op(p, "("))
            e = parse_call(p, e);
        else
            break;
    }
    return e;
}

/* ---- operators ---- */

static exo_jexpr *parse_unary(exo_jparser *p, bool with_filters) {
    if (!exo_jenter(p->c)) return NULL;
    exo_jexpr *e;
    if (exo_jaccept_op(p, "-")) {
        e = new_pair(p, EXO_J_EXPR_NEG, EXO_J_SUB, parse_unary(p, false), NULL);
    } else if (exo_jaccept_op(p, "+")) {
        e = new_pair(p, EXO_J_EXPR_POS, EXO_J_ADD, parse_unary(p, false), NULL);
    } else {
        e = parse_primary(p);
    }
    e = parse_postfix(p, e);
    if (with_filters) e = parse_piped(p, e);
    exo_jleave(p->c);
    return e;
}

static exo_jexpr *parse_pow(exo_jparser *p) {
    exo_jexpr *e = parse_unary(p, true);
    while (exo_jaccept_op(p, "**")) {
        e = new_pair(p, EXO_J_EXPR_BINARY, EXO_J_POW, e, parse_unary(p, true));
    }
    return e;
}

static exo_jexpr *parse_product(exo_jparser *p) {
    static const struct {
        const char *text;
        exo_jop op;
    } operators[] = {{"*", EXO_J_MUL}, {"/", EXO_J_DIV}, {"//", EXO_J_FLOORDIV}, {"%", EXO_J_MOD}};
    exo_jexpr *e = parse_pow(p);
    for (size_t i = 0; i < sizeof operators / sizeof *operators;) {
        if (exo_jaccept_op(p, operators[i].text)) {
            e = new_pair(p, EXO_J_EXPR_BINARY, operators[i].op, e, parse_pow(p));
            i = 0;
        } else {
            i++;
        }
    }
    return e;
}

static exo_jexpr *parse_concat(exo_jparser *p) {
    exo_jexpr *first = parse_product(p);
    if (!exo_jat_op(p, "~")) return first;
    exo_jexpr *e = new_expr(p, EXO_J_EXPR_CONCAT);
    if (e == NULL) return NULL;
    e->concat.escape = p->escape;
    exo_jexprs_push(p->c, &e->list, first);
    while (exo_jaccept_op(p, "~")) exo_jexprs_push(p->c, &e->list, parse_product(p));
    return e;
}

static exo_jexpr *parse_sum(exo_jparser *p) {
    exo_jexpr *e = parse_concat(p);
    while (exo_jok(p->c) && (exo_jat_op(p, "+") || exo_jat_op(p, "-"))) {
        exo_jop op = p->t->op[0] == '+' ? EXO_J_ADD : EXO_J_SUB;
        exo_jadvance(p);
        e = new_pair(p, EXO_J_EXPR_BINARY, op, e, parse_concat(p));
    }
    return e;
}

static bool parse_relation(exo_jparser *p, exo_jrelation *out) {
    static const char *const texts[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!exo_jaccept_op(p, texts[i])) continue;
        *out = (exo_jrelation){.kind = EXO_J_REL_CMP, .cmp = (exo_jcmp)i};
        return true;
    }
    if (exo_jaccept_name(p, "in")) {
        *out = (exo_jrelation){.kind = EXO_J_REL_IN};
        return true;
    }
    bool not_in = exo_jat_name(p, "not") && p->t[1].kind == EXO_J_TOK_NAME &&
                  exo_jstr_is(p->t[1].value.s, "in");
    if (!not_in) return false;
    exo_jadvance(p);
    exo_jadvance(p);
    *out = (exo_jrelation){.kind = EXO_J_REL_NOT_IN};
    return true;
}

static exo_jexpr *parse_compare(exo_jparser *p) {
    exo_jexpr *first = parse_sum(p), *e = NULL;
    exo_jrelation relation;
    while (exo_jok(p->c) && parse_relation(p, &relation)) {
        if (e == NULL) {
            e = new_expr(p, EXO_J_EXPR_COMPARE);
            if (e == NULL) return NULL;
            e->compare.first = first;
        }
        relation.right = parse_sum(p);
        void *grown = exo_jgrow(p->c, e->compare.relations, e->compare.n, sizeof relation);
        if (grown == NULL) return NULL;
        e->compare.relations = grown;
        e->compare.relations[e->compare.n++] = relation;
    }
    return e != NULL ? e : first;
}

static exo_jexpr *parse_not(exo_jparser *p) {
    if (!exo_jaccept_name(p, "not")) return parse_compare(p);
    if (!exo_jenter(p->c)) return NULL;
    exo_jexpr *e = new_pair(p, EXO_J_EXPR_NOT, EXO_J_ADD, parse_not(p), NULL);
    exo_jleave(p->c);
    return e;
}

static exo_jexpr *parse_and(exo_jparser *p) {
    exo_jexpr *e = parse_not(p);
    while (exo_jaccept_name(p, "and")) {
        e = new_pair(p, EXO_J_EXPR_AND, EXO_J_ADD, e, parse_not(p));
    }
    return e;
}

static exo_jexpr *parse_or(exo_jparser *p) {
    exo_jexpr *e = parse_and(p);
    while (exo_jaccept_name(p, "or")) {
        e = new_pair(p, EXO_J_EXPR_OR, EXO_J_ADD, e, parse_and(p));
    }
    return e;
}

exo_jexpr *exo_jparse_expr(exo_jparser *p) {
    if (!exo_jenter(p->c)) return NULL;
    uint32_t depth = p->c->depth;
    exo_jexpr *value = parse_or(p);
    while (exo_jaccept_name(p, "if")) {
        exo_jexpr *e = new_expr(p, EXO_J_EXPR_COND);
        if (e == NULL || !exo_jenter(p->c)) break; /* a chain nests to the left */
        e->cond.yes = value;
        e->cond.test = parse_or(p);
        if (exo_jaccept_name(p, "else")) e->cond.no = exo_jparse_expr(p);
        value = e;
    }
    p->c->depth = depth - 1;
    return value;
}

/* ---- tuples and targets ---- */

static bool at_tuple_end(const exo_jparser *p, const char *end_name) {
    return p->t->kind == EXO_J_TOK_VARIABLE_END || p->t->kind == EXO_J_TOK_BLOCK_END ||
           exo_jat_op(p, ")") || (end_name != NULL && exo_jat_name(p, end_name));
}

static exo_jexpr *parse_tuple_of(exo_jparser *p, exo_jexpr *(*parse)(exo_jparser *),
                                 const char *end_name, bool parenthesised) {
    exo_jexpr *tuple = new_expr(p, EXO_J_EXPR_TUPLE);
    if (tuple == NULL) return NULL;
    bool comma = false;
    while (exo_jok(p->c) && !at_tuple_end(p, end_name)) {
        exo_jexprs_push(p->c, &tuple->list, parse(p));
        if (!exo_jaccept_op(p, ",")) break;
        comma = true;
    }
    if (comma || !exo_jok(p->c)) return tuple;
    if (tuple->list.n == 1) return tuple->list.items[0];
    if (!parenthesised) {
        const exo_jstr *got = exo_jtoken_text(p->c, p->t).s;
        exo_jfail(p->c, "Expected an expression, got '%.*s'", exo_jshown(got), got->s);
    }
    return tuple;
}

exo_jexpr *exo_jparse_condition(exo_jparser *p, const char *end) {
    return parse_tuple_of(p, parse_or, end, false);
}

exo_jexpr *exo_jparse_tuple(exo_jparser *p) {
    return parse_tuple_of(p, exo_jparse_expr, NULL, false);
}

static bool is_target(const exo_jexpr *e) {
    if (e->kind == EXO_J_EXPR_NAME) return true;
    if (e->kind != EXO_J_EXPR_TUPLE) return false;
    for (size_t i = 0; i < e->list.n; i++) {
        if (!is_target(e->list.items[i])) return false;
    }
    return true;
}

exo_jexpr *exo_jparse_target(exo_jparser *p, bool allow_namespace) {
    bool dotted = p->t->kind == EXO_J_TOK_NAME && p->t[1].kind == EXO_J_TOK_OP &&
                  strcmp(p->t[1].op, ".") == 0;
    exo_jexpr *e;
    if (allow_namespace && dotted) {
        e = parse_name(p);
        exo_jadvance(p);
        return parse_dot(p, e);
    }
    e = parse_tuple_of(p, parse_primary, "in", false);
    if (exo_jok(p->c) && !is_target(e)) exo_jfail(p->c, "can't assign to this expression");
    return e;
}
