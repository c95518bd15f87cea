/* jinja_names.c - names that have no value yet where the body begins that assigns them.
 *
 * As in jinja2 a name belongs to the innermost body with names of its own (a loop's, a macro's, a
 * set block's ...) that assigns it.  When nothing in that body itself reads it before, it is
 * undefined there until it is assigned, even if the conversation has a value of that name; bodies
 * within, which are not looked into for this, see that.  An `if` has no names of its own: what
 * every branch assigns is judged by the last one, what only some assign is looked up outside.
 * Each body that has such names gets a statement in front that unsets them, so that running the
 * tree knows nothing of these rules.  They are those of jinja2 3.1.2. */
#include "model/jinja.h"

#include <string.h>

typedef enum { UNSEEN, READ, ASSIGNED, ASSIGNED_UNREAD } use; /* what happens to a name first */

typedef struct frame {
    const struct frame *outer; /* NULL for the template and for blocks, which see no other names */
    exo_jdict uses;            /* name -> use */
} frame;

typedef struct {
    exo_jctx *c;      /* the tree's */
    exo_jctx scratch; /* its memory ends with the pass */
} pass;

static use use_of(exo_jctx *c, const exo_jdict *uses, const exo_jstr *name) {
    exo_jvalue v;
    return exo_jdict_get_name(c, uses, name, &v) ? (use)v.i : UNSEEN;
}

static void note(exo_jctx *c, exo_jdict *uses, const exo_jstr *name, use next) {
    use before = use_of(c, uses, name), now = before;
    if (before == UNSEEN) now = next;
    if (before == READ && next != READ) now = ASSIGNED;
    exo_jcharge(c, 1);
    if (now != before) exo_jdict_set_name(c, uses, name, exo_jint(now));
}

/* ---- expressions ---- */

static void read_expr(exo_jctx *c, exo_jdict *uses, const exo_jexpr *e);

static void read_list(exo_jctx *c, exo_jdict *uses, const exo_jexprs *list) {
    for (size_t i = 0; i < list->n; i++) read_expr(c, uses, list->items[i]);
}

/* Returns the part that chains grow by: one may be longer than the stack is deep. */
static const exo_jexpr *read_node(exo_jctx *c, exo_jdict *uses, const exo_jexpr *e) {
    switch (e->kind) {
    case EXO_J_EXPR_CONST:
    case EXO_J_EXPR_BODY: return NULL;
    case EXO_J_EXPR_NAME: note(c, uses, e->name, READ); return NULL;
    case EXO_J_EXPR_LIST:
    case EXO_J_EXPR_TUPLE:
    case EXO_J_EXPR_DICT:
    case EXO_J_EXPR_CONCAT: read_list(c, uses, &e->list); return NULL;
    case EXO_J_EXPR_BINARY:
    case EXO_J_EXPR_AND:
    case EXO_J_EXPR_OR: read_expr(c, uses, e->pair.right); return e->pair.left;
    case EXO_J_EXPR_NEG:
    case EXO_J_EXPR_POS:
    case EXO_J_EXPR_NOT: return e->pair.left;
    case EXO_J_EXPR_COMPARE:
        for (size_t i = 0; i < e->compare.n; i++) read_expr(c, uses, e->compare.relations[i].right);
        return e->compare.first;
    case EXO_J_EXPR_COND:
        read_expr(c, uses, e->cond.test);
        read_expr(c, uses, e->cond.yes);
        return e->cond.no;
    case EXO_J_EXPR_ATTR: return e->attr.object;
    case EXO_J_EXPR_ITEM: read_expr(c, uses, e->item.index); return e->item.object;
    case EXO_J_EXPR_SLICE:
        read_expr(c, uses, e->slice.start);
        read_expr(c, uses, e->slice.stop);
        read_expr(c, uses, e->slice.step);
        return e->slice.object;
    case EXO_J_EXPR_CALL:
    case EXO_J_EXPR_FILTER:
    case EXO_J_EXPR_TEST: break;
    }
    read_list(c, uses, &e->call.args.args);
    read_list(c, uses, &e->call.args.kw_values);
    read_expr(c, uses, e->call.args.star);
    read_expr(c, uses, e->call.args.star_star);
    return e->call.subject;
}

static void read_expr(exo_jctx *c, exo_jdict *uses, const exo_jexpr *e) {
    while (e != NULL && exo_jok(c)) e = read_node(c, uses, e);
}

/* how: ASSIGNED_UNREAD, or ASSIGNED for what has a value before the body begins. */
static void assign_target(exo_jctx *c, exo_jdict *uses, const exo_jexpr *target, use how) {
    if (target->kind == EXO_J_EXPR_NAME) {
        note(c, uses, target->name, how);
    } else if (target->kind == EXO_J_EXPR_TUPLE) {
        for (size_t i = 0; i < target->list.n; i++)
            assign_target(c, uses, target->list.items[i], how);
    } else {
        read_expr(c, uses, target); /* a namespace's attribute */
    }
}

/* ---- what a body does with names, apart from the bodies in it ---- */

static void note_body(exo_jctx *c, exo_jdict *uses, const exo_jstmt *body);

/* The branches of an if as jinja2 sees them: the first, all elifs together, else. */
enum { FIRST, ELIFS, ELSE, N_WAYS };

static use use_of_ways(exo_jctx *c, const exo_jdict ways[N_WAYS], const exo_jstr *name) {
    int n_assigned = 0;
    for (int i = 0; i < N_WAYS; i++) n_assigned += use_of(c, &ways[i], name) >= ASSIGNED;
    if (n_assigned == 0) return READ;
    return n_assigned == N_WAYS ? use_of(c, &ways[ELSE], name) : ASSIGNED;
}

static void note_elif(exo_jctx *c, exo_jdict *uses, const exo_jbranch *b) {
    exo_jdict own = {0};
    read_expr(c, uses, b->test);
    note_body(c, &own, b->body);
    for (size_t i = 0; i < own.n; i++) {
        use u = (use)own.entries[i].value.i;
        note(c, uses, own.entries[i].key.s, u == READ ? READ : ASSIGNED);
    }
}

static void note_if(exo_jctx *c, exo_jdict *uses, const exo_jbranch *first) {
    exo_jdict ways[N_WAYS] = {0};
    read_expr(c, uses, first->test);
    note_body(c, &ways[FIRST], first->body);
    for (const exo_jbranch *b = first->next; b != NULL && exo_jok(c); b = b->next) {
        if (b->test != NULL)
            note_elif(c, &ways[ELIFS], b);
        else
            note_body(c, &ways[ELSE], b->body);
    }
    for (int way = 0; way < N_WAYS; way++) {
        for (size_t i = 0; i < ways[way].n && exo_jok(c); i++) {
            const exo_jstr *name = ways[way].entries[i].key.s;
            note(c, uses, name, use_of_ways(c, ways, name));
        }
    }
}

static void note_stmt(exo_jctx *c, exo_jdict *uses, const exo_jstmt *s) {
    switch (s->kind) {
    case EXO_J_STMT_TEXT:
    case EXO_J_STMT_BREAK:
    case EXO_J_STMT_CONTINUE:
    case EXO_J_STMT_UNSUPPORTED:
    case EXO_J_STMT_UNSET:
    case EXO_J_STMT_BLOCK:
    case EXO_J_STMT_AUTOESCAPE: break;
    case EXO_J_STMT_PRINT: read_expr(c, uses, s->print.value); break;
    case EXO_J_STMT_IF: note_if(c, uses, s->branches); break;
    case EXO_J_STMT_FOR: read_expr(c, uses, s->loop.iter); break;
    case EXO_J_STMT_SET:
        read_expr(c, uses, s->set.value);
        assign_target(c, uses, s->set.target, ASSIGNED_UNREAD);
        break;
    case EXO_J_STMT_SET_BLOCK: assign_target(c, uses, s->set.target, ASSIGNED_UNREAD); break;
    case EXO_J_STMT_MACRO: note(c, uses, s->macro->name, ASSIGNED_UNREAD); break;
    case EXO_J_STMT_CALL_BLOCK: read_expr(c, uses, s->call_block.call); break;
    case EXO_J_STMT_FILTER_BLOCK: read_expr(c, uses, s->filter_block.filter); break;
    case EXO_J_STMT_WITH: read_list(c, uses, &s->with.values); break;
    case EXO_J_STMT_GROUP: note_body(c, uses, s->block.body); break;
    }
}

static void note_body(exo_jctx *c, exo_jdict *uses, const exo_jstmt *body) {
    for (; body != NULL && exo_jok(c); body = body->next) note_stmt(c, uses, body);
}

/* ---- bodies within bodies ---- */

static void settle_inner(pass *p, exo_jstmt *body, const frame *outer);

static bool known_outside(pass *p, const frame *f, const exo_jstr *name) {
    for (f = f->outer; f != NULL; f = f->outer) {
        exo_jcharge(&p->scratch, 1);
        if (use_of(&p->scratch, &f->uses, name) != UNSEEN) return true;
    }
    return false;
}

/* f has the names that hold a value before the body begins. */
static void settle(pass *p, exo_jstmt **body, frame *f) {
    if (*body == NULL || !exo_jok(&p->scratch)) return;
    note_body(&p->scratch, &f->uses, *body);
    settle_inner(p, *body, f);
    exo_jstmt *unset = NULL;
    for (size_t i = 0; i < f->uses.n && exo_jok(&p->scratch); i++) {
        const exo_jentry *e = &f->uses.entries[i];
        if (e->value.i != ASSIGNED_UNREAD || known_outside(p, f, e->key.s)) continue;
        if (unset == NULL) unset = exo_jalloc(p->c, 1, sizeof *unset);
        void *names = unset == NULL
                          ? NULL
                          : exo_jgrow(p->c, unset->unset.names, unset->unset.n, sizeof(void *));
        if (names == NULL) return;
        unset->unset.names = names;
        unset->unset.names[unset->unset.n++] = e->key.s;
    }
    if (unset == NULL) return;
    unset->kind = EXO_J_STMT_UNSET;
    unset->line = (*body)->line;
    unset->next = *body;
    *body = unset;
}

static void hold(pass *p, frame *f, const char *name) {
    note(&p->scratch, &f->uses, exo_jname(&p->scratch, name, strlen(name)).s, ASSIGNED);
}

static void settle_loop(pass *p, exo_jstmt *s, const frame *outer) {
    frame body = {.outer = outer}, orelse = {.outer = outer};
    hold(p, &body, "loop");
    assign_target(&p->scratch, &body.uses, s->loop.target, ASSIGNED);
    settle(p, &s->loop.body, &body);
    settle(p, &s->loop.orelse, &orelse);
}

static void settle_macro(pass *p, exo_jmacro_def *def, const frame *outer) {
    frame f = {.outer = outer};
    for (size_t i = 0; i < def->n_params; i++) note(&p->scratch, &f.uses, def->params[i], ASSIGNED);
    if (def->uses_caller) hold(p, &f, "caller");
    if (def->uses_kwargs) hold(p, &f, "kwargs");
    if (def->uses_varargs) hold(p, &f, "varargs");
    read_list(&p->scratch, &f.uses, &def->defaults);
    settle(p, &def->body, &f);
}

static void settle_with(pass *p, exo_jstmt *s, const frame *outer) {
    frame f = {.outer = outer};
    for (size_t i = 0; i < s->with.targets.n; i++)
        assign_target(&p->scratch, &f.uses, s->with.targets.items[i], ASSIGNED);
    settle(p, &s->with.body, &f);
}

static void settle_autoescape(pass *p, exo_jstmt *s, const frame *outer) {
    frame f = {.outer = outer};
    read_expr(&p->scratch, &f.uses, s->autoescape.value);
    settle(p, &s->autoescape.body, &f);
}

static void settle_alone(pass *p, exo_jstmt **body) {
    frame f = {0};
    hold(p, &f, "self");
    settle(p, body, &f);
}

static void settle_stmt(pass *p, exo_jstmt *s, const frame *outer) {
    frame f = {.outer = outer};
    switch (s->kind) {
    case EXO_J_STMT_TEXT:
    case EXO_J_STMT_PRINT:
    case EXO_J_STMT_SET:
    case EXO_J_STMT_BREAK:
    case EXO_J_STMT_CONTINUE:
    case EXO_J_STMT_UNSUPPORTED:
    case EXO_J_STMT_UNSET: break;
    case EXO_J_STMT_IF:
        for (exo_jbranch *b = s->branches; b != NULL; b = b->next) settle_inner(p, b->body, outer);
        break;
    case EXO_J_STMT_FOR: settle_loop(p, s, outer); break;
    case EXO_J_STMT_SET_BLOCK: settle(p, &s->set.body, &f); break;
    case EXO_J_STMT_MACRO: settle_macro(p, s->macro, outer); break;
    case EXO_J_STMT_CALL_BLOCK: settle_macro(p, s->call_block.caller, outer); break;
    case EXO_J_STMT_FILTER_BLOCK: settle(p, &s->filter_block.body, &f); break;
    case EXO_J_STMT_WITH: settle_with(p, s, outer); break;
    case EXO_J_STMT_AUTOESCAPE: settle_autoescape(p, s, outer); break;
    case EXO_J_STMT_BLOCK: settle_alone(p, &s->block.body); break;
    case EXO_J_STMT_GROUP: settle_inner(p, s->block.body, outer); break;
    }
}

static void settle_inner(pass *p, exo_jstmt *body, const frame *outer) {
    for (; body != NULL && exo_jok(&p->scratch); body = body->next) settle_stmt(p, body, outer);
}

void exo_jsettle_names(exo_jctx *c, exo_jstmt **body) {
    if (!exo_jok(c)) return;
    pass p = {.c = c,
              .scratch = {
                  /* what the tree leaves of the limit; 0 would be none */
                  .arena = {.limit_bytes = EXO_J_MAX_ARENA_BYTES + 1 - c->arena.used_bytes},
                  .err = c->err,
                  .fault = c->fault,
                  .max_steps = c->max_steps,
                  .max_depth = c->max_depth,
                  .line = 1,
              }};
    settle_alone(&p, body);
    if (exo_jok(c)) c->status = p.scratch.status;
    exo_buf_finish(&p.scratch.text);
    exo_arena_finish(&p.scratch.arena);
}
