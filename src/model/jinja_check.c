/* jinja_check.c - filters and tests that do not exist, reported before anything is rendered.
 *
 * As jinja2 does it: an unknown name is an error of the template, unless it stands within an if or
 * a conditional expression, which may have asked whether it exists; there it fails when it is
 * used.  A loop, macro or other block of its own within the if ends that grace. */
#include "model/jinja.h"

#define FOLD_DEPTH 40u    /* levels of a constant expression */
#define FOLD_STEPS 10000u /* what it may take */

static void check_expr(exo_jctx *c, const exo_jexpr *e, bool soft);

static void check_list(exo_jctx *c, const exo_jexprs *list, bool soft) {
    for (size_t i = 0; i < list->n && exo_jok(c); i++) check_expr(c, list->items[i], soft);
}

static void check_args(exo_jctx *c, const exo_jcall_args *args, bool soft) {
    check_list(c, &args->args, soft);
    check_list(c, &args->kw_values, soft);
    check_expr(c, args->star, soft);
    check_expr(c, args->star_star, soft);
}

static void check_name(exo_jctx *c, const exo_jexpr *e, bool soft) {
    if (e->call.native != NULL || soft) return;
    c->line = e->line;
    exo_jfail(c, "No %s named '%.*s'.", e->kind == EXO_J_EXPR_FILTER ? "filter" : "test",
              exo_jshown(e->call.name), e->call.name->s);
}

/* ---- what is never reached ---- */

static bool is_constant(const exo_jexpr *e, unsigned depth);

static bool are_constant(const exo_jexprs *list, unsigned depth) {
    for (size_t i = 0; i < list->n; i++) {
        if (!is_constant(list->items[i], depth)) return false;
    }
    return true;
}

/* Of operators and constants alone. */
static bool is_constant(const exo_jexpr *e, unsigned depth) {
    if (e == NULL || depth == 0) return false;
    depth--;
    switch (e->kind) {
    case EXO_J_EXPR_CONST: return true;
    case EXO_J_EXPR_LIST:
    case EXO_J_EXPR_TUPLE:
    case EXO_J_EXPR_DICT:
    case EXO_J_EXPR_CONCAT: return are_constant(&e->list, depth);
    case EXO_J_EXPR_BINARY:
    case EXO_J_EXPR_AND:
    case EXO_J_EXPR_OR:
        return is_constant(e->pair.left, depth) && is_constant(e->pair.right, depth);
    case EXO_J_EXPR_ATTR: return is_constant(e->attr.object, depth);
    case EXO_J_EXPR_ITEM:
        return is_constant(e->item.object, depth) && is_constant(e->item.index, depth);
    case EXO_J_EXPR_NEG:
    case EXO_J_EXPR_POS:
    case EXO_J_EXPR_NOT: return is_constant(e->pair.left, depth);
    case EXO_J_EXPR_COMPARE:
        for (size_t i = 0; i < e->compare.n; i++) {
            if (!is_constant(e->compare.relations[i].right, depth)) return false;
        }
        return is_constant(e->compare.first, depth);
    case EXO_J_EXPR_COND:
        return is_constant(e->cond.test, depth) && is_constant(e->cond.yes, depth) &&
               is_constant(e->cond.no, depth);
    default: return false;
    }
}

bool exo_jis_constant(const exo_jexpr *e) { return is_constant(e, FOLD_DEPTH); }

/* Whether the left side of an and or an or is a constant that decides it: jinja2 puts the result
 * in its place before it looks for names.  Counts the steps in c. */
static bool is_decided(exo_jctx *c, const exo_jexpr *e) {
    exo_jscope globals = {0};
    exo_jctx probe = {
        .arena = {.limit_bytes = EXO_J_MAX_ARENA_BYTES},
        .fault = EXO_EFORMAT,
        .max_depth = EXO_J_MAX_PARSE_DEPTH,
        .max_steps = FOLD_STEPS,
        .globals = &globals,
    };
    exo_jcharge(c, FOLD_DEPTH);
    if (!is_constant(e->pair.left, FOLD_DEPTH)) return false;
    exo_jvalue left = exo_jeval(&probe, e->pair.left, &globals);
    bool decided = exo_jok(&probe) && exo_jtruth(left) == (e->kind == EXO_J_EXPR_OR);
    exo_jcharge(c, probe.steps);
    exo_buf_finish(&probe.text);
    exo_arena_finish(&probe.arena);
    return decided;
}

static void check_right(exo_jctx *c, const exo_jexpr *e, bool soft) {
    check_expr(c, e->pair.right, soft);
    if (exo_jok(c) || c->status != c->fault) return;
    exo_status status = c->status;
    c->status = EXO_OK;
    if (is_decided(c, e)) {
        if (exo_jok(c) && c->err != NULL) *c->err = (exo_error){0};
    } else {
        c->status = status;
    }
}

/* ---- the walk ---- */

/* Looks at all of e but the part that chains grow by, which it returns: a chain may be longer than
 * the stack is deep. */
static const exo_jexpr *check_node(exo_jctx *c, const exo_jexpr *e, bool soft) {
    switch (e->kind) {
    case EXO_J_EXPR_CONST:
    case EXO_J_EXPR_NAME:
    case EXO_J_EXPR_BODY: return NULL;
    case EXO_J_EXPR_LIST:
    case EXO_J_EXPR_TUPLE:
    case EXO_J_EXPR_DICT:
    case EXO_J_EXPR_CONCAT: check_list(c, &e->list, soft); return NULL;
    case EXO_J_EXPR_BINARY: check_expr(c, e->pair.right, soft); return e->pair.left;
    case EXO_J_EXPR_AND:
    case EXO_J_EXPR_OR: check_right(c, e, soft); return e->pair.left;
    case EXO_J_EXPR_NEG:
    case EXO_J_EXPR_POS:
    case EXO_J_EXPR_NOT: return e->pair.left;
    case EXO_J_EXPR_COMPARE:
        for (size_t i = 0; i < e->compare.n; i++)
            check_expr(c, e->compare.relations[i].right, soft);
        return e->compare.first;
    case EXO_J_EXPR_COND:
        check_expr(c, e->cond.test, true);
        check_expr(c, e->cond.yes, true);
        check_expr(c, e->cond.no, true);
        return NULL;
    case EXO_J_EXPR_ATTR: return e->attr.object;
    case EXO_J_EXPR_ITEM: check_expr(c, e->item.index, soft); return e->item.object;
    case EXO_J_EXPR_SLICE:
        check_expr(c, e->slice.start, soft);
        check_expr(c, e->slice.stop, soft);
        check_expr(c, e->slice.step, soft);
        return e->slice.object;
    case EXO_J_EXPR_FILTER:
    case EXO_J_EXPR_TEST: check_name(c, e, soft); break;
    case EXO_J_EXPR_CALL: break;
    }
    check_args(c, &e->call.args, soft);
    return e->call.subject;
}

static void check_expr(exo_jctx *c, const exo_jexpr *e, bool soft) {
    while (e != NULL && exo_jok(c)) e = check_node(c, e, soft);
}

static void check_macro(exo_jctx *c, const exo_jmacro_def *macro) {
    check_list(c, &macro->defaults, false);
    exo_jcheck(c, macro->body, false);
}

static void check_stmt(exo_jctx *c, const exo_jstmt *s, bool soft) {
    switch (s->kind) {
    case EXO_J_STMT_TEXT:
    case EXO_J_STMT_BREAK:
    case EXO_J_STMT_CONTINUE:
    case EXO_J_STMT_UNSUPPORTED: break;
    case EXO_J_STMT_PRINT: check_expr(c, s->print.value, soft); break;
    case EXO_J_STMT_AUTOESCAPE:
        check_expr(c, s->autoescape.value, false);
        exo_jcheck(c, s->autoescape.body, false);
        break;
    case EXO_J_STMT_IF:
        for (const exo_jbranch *b = s->branches; b != NULL; b = b->next) {
            check_expr(c, b->test, true);
            exo_jcheck(c, b->body, true);
        }
        break;
    case EXO_J_STMT_FOR:
        check_expr(c, s->loop.iter, soft);
        check_expr(c, s->loop.test, false);
        exo_jcheck(c, s->loop.body, false);
        exo_jcheck(c, s->loop.orelse, false);
        break;
    case EXO_J_STMT_SET: check_expr(c, s->set.value, soft); break;
    case EXO_J_STMT_SET_BLOCK:
        check_expr(c, s->set.value, false);
        exo_jcheck(c, s->set.body, false);
        break;
    case EXO_J_STMT_MACRO: check_macro(c, s->macro); break;
    case EXO_J_STMT_CALL_BLOCK:
        check_macro(c, s->call_block.caller);
        check_expr(c, s->call_block.call, soft);
        break;
    case EXO_J_STMT_FILTER_BLOCK:
        check_expr(c, s->filter_block.filter, false);
        exo_jcheck(c, s->filter_block.body, false);
        break;
    case EXO_J_STMT_WITH:
        check_list(c, &s->with.values, soft);
        exo_jcheck(c, s->with.body, false);
        break;
    case EXO_J_STMT_BLOCK: exo_jcheck(c, s->block.body, false); break;
    case EXO_J_STMT_GROUP: exo_jcheck(c, s->block.body, soft); break;
    }
}

void exo_jcheck(exo_jctx *c, const exo_jstmt *body, bool soft) {
    for (; body != NULL && exo_jok(c); body = body->next) check_stmt(c, body, soft);
}
