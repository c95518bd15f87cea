/* jinja_parse.c - statements: from tokens to the tree that jinja_exec.c walks.
 *
 * Mistakes are reported with jinja2's words and the line.  Knows the shape of each tag, not its
 * meaning. */
#include "model/jinja.h"

static exo_jstmt *parse_body(exo_jparser *p, const char *const *ends);
static exo_jstmt *parse_statement(exo_jparser *p);

static exo_jstmt *new_stmt(exo_jparser *p, exo_jstmt_kind kind) {
    exo_jstmt *s = exo_jalloc(p->c, 1, sizeof *s);
    if (s == NULL) return NULL;
    s->kind = kind;
    s->line = p->t->line;
    return s;
}

/* The body between "%}" (with an optional colon before it) and one of ends, which stays unread. */
static exo_jstmt *parse_block_body(exo_jparser *p, const char *const *ends) {
    exo_jaccept_op(p, ":");
    exo_jexpect_kind(p, EXO_J_TOK_BLOCK_END);
    return parse_body(p, ends);
}

/* The same for one end tag, which is read. */
static exo_jstmt *parse_until(exo_jparser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    exo_jstmt *body = parse_block_body(p, ends);
    exo_jadvance(p);
    return body;
}

/* ---- if, for ---- */

static exo_jbranch *parse_branch(exo_jparser *p, bool has_test, const char *const *ends) {
    exo_jbranch *b = exo_jalloc(p->c, 1, sizeof *b);
    if (b == NULL) return NULL;
    if (has_test) b->test = exo_jparse_condition(p, NULL);
    b->body = parse_block_body(p, ends);
    return b;
}

static exo_jstmt *parse_if(exo_jparser *p) {
    static const char *const any[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_IF);
    if (s == NULL) return NULL;
    exo_jbranch **tail = &s->branches;
    bool has_test = true;
    do {
        *tail = parse_branch(p, has_test, has_test ? any : last);
        if (*tail == NULL) return NULL;
        tail = &(*tail)->next;
        if (exo_jaccept_name(p, "endif")) break;
        has_test = exo_jat_name(p, "elif");
        exo_jadvance(p);
    } while (exo_jok(p->c));
    return s;
}

/* A loop's own variable is not to be assigned to. */
static void check_target(exo_jparser *p, const exo_jexpr *target, bool in_loop) {
    if (!in_loop || !exo_jok(p->c)) return;
    if (target->kind == EXO_J_EXPR_NAME && exo_jstr_is(target->name, "loop"))
        exo_jfail(p->c, "Can't assign to special loop variable in for-loop target");
    if (target->kind != EXO_J_EXPR_TUPLE) return;
    for (size_t i = 0; i < target->list.n; i++) check_target(p, target->list.items[i], true);
}

static exo_jstmt *parse_for(exo_jparser *p) {
    static const char *const ends[] = {"endfor", "else", NULL};
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_FOR);
    if (s == NULL) return NULL;
    s->loop.escape = p->escape;
    s->loop.target = exo_jparse_target(p, false);
    check_target(p, s->loop.target, true);
    if (!exo_jaccept_name(p, "in")) {
        exo_jfail(p->c, "expected token 'in' in a for loop");
        return NULL;
    }
    s->loop.iter = exo_jparse_condition(p, "recursive");
    if (exo_jaccept_name(p, "if")) s->loop.test = exo_jparse_expr(p);
    s->loop.recursive = exo_jaccept_name(p, "recursive");
    p->n_loops++;
    p->n_outer_loops++;
    s->loop.body = parse_block_body(p, ends);
    p->n_loops--;
    if (!exo_jaccept_name(p, "endfor") && exo_jok(p->c)) {
        exo_jadvance(p);
        s->loop.orelse = parse_until(p, "endfor");
    }
    p->n_outer_loops--;
    return s;
}

static exo_jstmt *parse_jump(exo_jparser *p, exo_jstmt_kind kind, const char *name) {
    if (p->n_loops == 0) exo_jfail(p->c, "'%s' outside loop", name);
    return new_stmt(p, kind);
}

/* ---- macro, call ---- */

static void push_param(exo_jparser *p, exo_jmacro_def *def, const exo_jstr *name) {
    void *grown = exo_jgrow(p->c, def->params, def->n_params, sizeof(void *));
    if (grown == NULL) return;
    def->params = grown;
    def->params[def->n_params++] = name;
}

static void parse_signature(exo_jparser *p, exo_jmacro_def *def) {
    exo_jexpect_op(p, "(");
    while (exo_jok(p->c) && !exo_jat_op(p, ")")) {
        if (def->n_params > 0) exo_jexpect_op(p, ",");
        const exo_jstr *name = exo_jexpect_ident(p);
        exo_jcharge(p->c, def->n_params / 16);
        for (size_t i = 0; i < def->n_params; i++) {
            if (!exo_jstr_equal(def->params[i], name)) continue;
            exo_jfail(p->c, "duplicate argument '%.*s' in a macro", exo_jshown(name), name->s);
        }
        push_param(p, def, name);
        if (exo_jaccept_op(p, "=")) {
            exo_jexprs_push(p->c, &def->defaults, exo_jparse_expr(p));
        } else if (def->defaults.n > 0) {
            exo_jfail(p->c, "non-default argument follows default argument");
        }
    }
    exo_jexpect_op(p, ")");
}

static bool has_param(const exo_jmacro_def *def, const char *name) {
    for (size_t i = 0; i < def->n_params; i++) {
        if (exo_jstr_is(def->params[i], name)) return true;
    }
    return false;
}

/* Which of caller, varargs and kwargs a macro accepts depends on what its body mentions. */
static void parse_macro_body(exo_jparser *p, exo_jmacro_def *def, const char *end) {
    exo_jparser outside = *p;
    p->n_loops = 0;
    p->uses_caller = p->uses_varargs = p->uses_kwargs = false;
    def->body = parse_until(p, end);
    def->uses_caller = p->uses_caller;
    for (size_t i = 0; def->uses_caller && i + def->defaults.n < def->n_params; i++) {
        if (!exo_jstr_is(def->params[i], "caller")) continue;
        exo_jfail(p->c, "When defining macros or call blocks the special \"caller\" argument must "
                        "be omitted or be given a default.");
    }
    def->uses_varargs = p->uses_varargs && !has_param(def, "varargs");
    def->uses_kwargs = p->uses_kwargs && !has_param(def, "kwargs");
    p->n_loops = outside.n_loops;
    p->uses_caller |= outside.uses_caller;
    p->uses_varargs |= outside.uses_varargs;
    p->uses_kwargs |= outside.uses_kwargs;
}

static exo_jstmt *parse_macro(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_MACRO);
    exo_jmacro_def *def = exo_jalloc(p->c, 1, sizeof *def);
    if (s == NULL || def == NULL) return NULL;
    def->name = exo_jexpect_ident(p);
    parse_signature(p, def);
    parse_macro_body(p, def, "endmacro");
    s->macro = def;
    return s;
}

static exo_jstmt *parse_call_block(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_CALL_BLOCK);
    exo_jmacro_def *def = exo_jalloc(p->c, 1, sizeof *def);
    if (s == NULL || def == NULL) return NULL;
    if (exo_jat_op(p, "(")) parse_signature(p, def);
    s->call_block.caller = def;
    s->call_block.call = exo_jparse_expr(p);
    bool is_call = exo_jok(p->c) && s->call_block.call->kind == EXO_J_EXPR_CALL;
    if (!is_call) exo_jfail(p->c, "expected call");
    parse_macro_body(p, def, "endcall");
    return s;
}

/* ---- set, with, filter, block ---- */

static exo_jstmt *parse_set(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_SET);
    if (s == NULL) return NULL;
    s->set.target = exo_jparse_target(p, true);
    check_target(p, s->set.target, p->n_outer_loops > 0);
    if (exo_jaccept_op(p, "=")) {
        s->set.value = exo_jparse_tuple(p);
        return s;
    }
    s->kind = EXO_J_STMT_SET_BLOCK;
    s->set.value = exo_jparse_filters(p, NULL, false);
    s->set.body = parse_until(p, "endset");
    return s;
}

static exo_jstmt *parse_with(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_WITH);
    if (s == NULL) return NULL;
    while (exo_jok(p->c) && p->t->kind != EXO_J_TOK_BLOCK_END && !exo_jat_op(p, ":")) {
        if (s->with.targets.n > 0) exo_jexpect_op(p, ",");
        exo_jexprs_push(p->c, &s->with.targets, exo_jparse_target(p, false));
        if (exo_jok(p->c))
            check_target(p, s->with.targets.items[s->with.targets.n - 1], p->n_outer_loops > 0);
        exo_jexpect_op(p, "=");
        exo_jexprs_push(p->c, &s->with.values, exo_jparse_expr(p));
    }
    s->with.body = parse_until(p, "endwith");
    return s;
}

static exo_jstmt *parse_filter_block(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_FILTER_BLOCK);
    if (s == NULL) return NULL;
    s->filter_block.escape = p->escape;
    s->filter_block.filter = exo_jparse_filters(p, NULL, true);
    s->filter_block.body = parse_until(p, "endfilter");
    return s;
}

/* One block of each name; a required one has nothing but blanks. */
static void check_block(exo_jparser *p, exo_jstmt *block) {
    exo_jctx *c = p->c;
    for (exo_jstmt *b = c->blocks; b != NULL && exo_jok(c); b = b->block.next_block) {
        exo_jcharge(c, 1);
        if (exo_jstr_equal(b->block.name, block->block.name))
            exo_jfail(c, "block '%.*s' defined twice", exo_jshown(b->block.name), b->block.name->s);
    }
    for (exo_jstmt *s = block->block.body; block->block.required && s != NULL; s = s->next) {
        const exo_jstr *text = s->kind == EXO_J_STMT_TEXT ? s->text.s : NULL;
        size_t pos = 0;
        while (text != NULL && pos < text->n) {
            if (!exo_jis_space(exo_jutf8_next(text->s, text->n, &pos))) break;
        }
        bool blank =
            text != NULL && (pos == text->n && exo_jis_space((unsigned char)text->s[pos - 1]));
        if (!blank) exo_jfail(c, "Required blocks can only contain comments or whitespace");
    }
    block->block.next_block = c->blocks;
    c->blocks = block;
}

static exo_jstmt *parse_block(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_BLOCK);
    if (s == NULL) return NULL;
    const exo_jstr *name = exo_jexpect_ident(p);
    s->block.name = name;
    s->block.scoped = exo_jaccept_name(p, "scoped");
    s->block.required = exo_jaccept_name(p, "required");
    const exo_jparser outside = *p; /* what a block uses is not looked for by macros around it */
    p->escape = EXO_J_ESCAPE_OFF;
    p->n_loops = 0;
    s->block.body = parse_until(p, "endblock");
    check_block(p, s);
    p->escape = outside.escape;
    p->n_loops = outside.n_loops;
    p->uses_caller = outside.uses_caller;
    p->uses_varargs = outside.uses_varargs;
    p->uses_kwargs = outside.uses_kwargs;
    if (exo_jok(p->c) && p->t->kind == EXO_J_TOK_NAME && exo_jstr_equal(p->t->value.s, name)) {
        exo_jadvance(p);
    }
    return s;
}

/* A constant decides while parsing; anything else when it is run. */
static exo_jstmt *parse_autoescape(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_AUTOESCAPE);
    if (s == NULL) return NULL;
    const exo_jescape outside = p->escape;
    exo_jexpr *value = s->autoescape.value = exo_jparse_expr(p);
    bool constant = exo_jok(p->c) && value->kind == EXO_J_EXPR_CONST;
    bool on = outside == EXO_J_ESCAPE_ON || outside == EXO_J_ESCAPE_LATER_ON;
    if (constant) on = exo_jtruth(value->constant);
    if (constant && outside < EXO_J_ESCAPE_LATER)
        p->escape = on ? EXO_J_ESCAPE_ON : EXO_J_ESCAPE_OFF;
    else
        p->escape = on ? EXO_J_ESCAPE_LATER_ON : EXO_J_ESCAPE_LATER;
    s->autoescape.body = parse_until(p, "endautoescape");
    p->escape = outside;
    return s;
}

static exo_jstmt *parse_generation(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_GROUP);
    if (s != NULL) s->block.body = parse_until(p, "endgeneration");
    return s;
}

/* {% print a, b %} */
static exo_jstmt *parse_print(exo_jparser *p) {
    exo_jstmt *group = new_stmt(p, EXO_J_STMT_GROUP);
    if (group == NULL) return NULL;
    exo_jstmt **tail = &group->block.body;
    while (exo_jok(p->c) && p->t->kind != EXO_J_TOK_BLOCK_END) {
        if (group->block.body != NULL) exo_jexpect_op(p, ",");
        exo_jstmt *s = new_stmt(p, EXO_J_STMT_PRINT);
        if (s == NULL) return NULL;
        s->print.escape = p->escape;
        s->print.value = exo_jparse_expr(p);
        *tail = s;
        tail = &s->next;
    }
    return group;
}

/* Tags that bring in other files.  Reaching one is the error, not having one. */
static exo_jstmt *parse_unsupported(exo_jparser *p, const exo_jstr *tag) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_UNSUPPORTED);
    if (s == NULL) return NULL;
    s->tag = tag;
    while (p->t->kind != EXO_J_TOK_BLOCK_END && p->t->kind != EXO_J_TOK_EOF) exo_jadvance(p);
    return s;
}

/* ---- the statement list ---- */

static exo_jstmt *parse_break(exo_jparser *p) { return parse_jump(p, EXO_J_STMT_BREAK, "break"); }

static exo_jstmt *parse_continue(exo_jparser *p) {
    return parse_jump(p, EXO_J_STMT_CONTINUE, "continue");
}

static const struct {
    const char *tag;
    exo_jstmt *(*parse)(exo_jparser *p);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"block", parse_block},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"generation", parse_generation},
    {"autoescape", parse_autoescape},
};

static bool needs_other_files(const exo_jstr *tag) {
    return exo_jstr_is(tag, "include") || exo_jstr_is(tag, "import") || exo_jstr_is(tag, "from") ||
           exo_jstr_is(tag, "extends");
}

static exo_jstmt *parse_statement(exo_jparser *p) {
    if (p->t->kind != EXO_J_TOK_NAME) {
        exo_jfail(p->c, "tag name expected");
        return NULL;
    }
    const exo_jstr *tag = p->t->value.s;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!exo_jstr_is(tag, statements[i].tag)) continue;
        exo_jadvance(p);
        return statements[i].parse(p);
    }
    if (needs_other_files(tag)) return parse_unsupported(p, tag);
    exo_jfail(p->c, "Encountered unknown tag '%.*s'", exo_jshown(tag), tag->s);
    return NULL;
}

static bool at_end_tag(const exo_jparser *p, const char *const *ends) {
    for (; ends != NULL && *ends != NULL; ends++) {
        if (exo_jat_name(p, *ends)) return true;
    }
    return false;
}

static exo_jstmt *parse_text(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_TEXT);
    if (s != NULL) s->text = p->t->value;
    exo_jadvance(p);
    return s;
}

static exo_jstmt *parse_output(exo_jparser *p) {
    exo_jstmt *s = new_stmt(p, EXO_J_STMT_PRINT);
    exo_jadvance(p);
    if (s != NULL) s->print.escape = p->escape;
    if (s != NULL) s->print.value = exo_jparse_tuple(p);
    exo_jexpect_kind(p, EXO_J_TOK_VARIABLE_END);
    return s;
}

/* Statements until one of the end tags (NULL: until the end of the template). */
static exo_jstmt *parse_body(exo_jparser *p, const char *const *ends) {
    exo_jstmt *first = NULL, **tail = &first, *s;
    if (!exo_jenter(p->c)) return NULL;
    while (exo_jok(p->c) && p->t->kind != EXO_J_TOK_EOF) {
        if (p->t->kind == EXO_J_TOK_DATA) {
            s = parse_text(p);
        } else if (p->t->kind == EXO_J_TOK_VARIABLE_BEGIN) {
            s = parse_output(p);
        } else {
            exo_jadvance(p);
            if (at_end_tag(p, ends)) break;
            s = parse_statement(p);
            exo_jexpect_kind(p, EXO_J_TOK_BLOCK_END);
        }
        if (s == NULL) break;
        *tail = s;
        tail = &s->next;
    }
    if (ends != NULL && p->t->kind == EXO_J_TOK_EOF) {
        exo_jfail(p->c, "Unexpected end of template, looking for '%s'", ends[0]);
    }
    exo_jleave(p->c);
    return first;
}

exo_jstmt *exo_jparse(exo_jctx *c, const exo_jtoken *tokens) {
    exo_jparser p = {.c = c, .t = tokens};
    c->line = 1;
    return parse_body(&p, NULL);
}
