/* jinja.h - the parts of the Jinja evaluator behind template.h, as they see each other.
 *
 *   source --jinja_lex--> tokens --jinja_parse--> tree --jinja_exec, jinja_eval--> text
 *
 * The tree lives in the template's arena and is read-only afterwards.  Values live in one arena
 * per render and are never freed one by one, so nothing here counts references.  Strings are
 * valid UTF-8; lengths, indices and slices count code points.
 * Failure is sticky: the first fault is kept in the context, everything after it returns quickly
 * and harmlessly (an undefined value, an empty string, NULL for memory), and loops look at
 * exo_jok().  This keeps eighty small filters free of error plumbing.
 * Knows JSON only in template.c; knows no model.  "j" in names stands for Jinja. */
#ifndef EXO_MODEL_JINJA_H
#define EXO_MODEL_JINJA_H

#include "base/arena.h"
#include "base/buf.h"

/* Templates are hostile input.  A step is one node evaluated, one element visited or 64 bytes
 * moved; five million of them take well under two seconds. */
#define EXO_J_MAX_SOURCE_BYTES ((size_t)4 << 20)
#define EXO_J_MAX_PARSE_DEPTH  200      /* nested blocks and parentheses */
#define EXO_J_MAX_RENDER_DEPTH 1000     /* nested nodes under evaluation; in 192 KiB of stack */
#define EXO_J_MAX_STEPS        5000000u /* unless the caller asks for fewer */
#define EXO_J_MAX_TEXT_BYTES   ((size_t)64 << 20)
#define EXO_J_MAX_ARENA_BYTES  ((size_t)256 << 20)
#define EXO_J_MAX_RANGE        100000 /* as jinja2's sandbox */
#define EXO_J_MAX_PARAMS       8      /* named parameters of a native function */
#define EXO_J_FLOAT_STEPS      10     /* what writing one float costs */

/* ---- values ---- */

typedef enum {
    EXO_J_UNDEFINED,
    EXO_J_NONE,
    EXO_J_BOOL,
    EXO_J_INT,
    EXO_J_FLOAT,
    EXO_J_STRING,
    EXO_J_LIST,
    EXO_J_TUPLE,
    EXO_J_VIEW,     /* what dict.keys(), .values() and .items() return */
    EXO_J_ITERATOR, /* what map, select, reverse ... return: truthy, no length, read once */
    EXO_J_RANGE,
    EXO_J_DICT,
    EXO_J_NAMESPACE,
    EXO_J_MACRO,
    EXO_J_NATIVE, /* a global function or a bound method */
    EXO_J_LOOP,
    EXO_J_CYCLER,
    EXO_J_JOINER,
    EXO_J_BLOCKS, /* `self` */
    EXO_J_BLOCK,  /* self.name: a block of the template */
    EXO_J_ABSENT, /* argument not given, name without a value; templates never see it */
} exo_jtype;

typedef struct exo_jstr exo_jstr;
typedef struct exo_jtail exo_jtail;
typedef struct exo_jlist exo_jlist;
typedef struct exo_jrange exo_jrange;
typedef struct exo_jdict exo_jdict;
typedef struct exo_jmacro exo_jmacro;
typedef struct exo_jbound exo_jbound;
typedef struct exo_jloop exo_jloop;
typedef struct exo_jscope exo_jscope;
typedef struct exo_jlazy exo_jlazy;
typedef struct exo_jstmt exo_jstmt;

typedef struct {
    uint8_t type;  /* exo_jtype */
    uint8_t owner; /* EXO_J_UNDEFINED by attribute access: the object's type, else UNDEFINED */
    bool hint;     /* EXO_J_UNDEFINED: s is the whole message, not a name */
    bool markup;   /* EXO_J_STRING: came from |safe or |escape */
    union {
        bool b;
        int64_t i;
        double f;
        const exo_jstr *s;
        exo_jlist *list; /* LIST, TUPLE, VIEW, ITERATOR, CYCLER (items), JOINER (separator) */
        exo_jrange *range;
        exo_jdict *dict; /* DICT, NAMESPACE */
        const exo_jmacro *macro;
        const exo_jbound *native;
        exo_jloop *loop;
        const exo_jstmt *block;
    };
} exo_jvalue;

struct exo_jstr {
    const char *s; /* not NUL-terminated */
    size_t n;
    size_t n_chars;  /* code points; equal to n when all is ASCII */
    uint64_t hash;   /* 0 = not computed; set for names and constants of the tree */
    exo_jtail *tail; /* spare room behind s + n for appending in place; NULL = none */
};

typedef enum { EXO_J_KEYS, EXO_J_VALUES, EXO_J_ITEMS } exo_jview_kind;

struct exo_jlist {
    exo_jvalue *items;
    size_t n, cap;
    size_t pos;               /* ITERATOR: items read; CYCLER: the current one; JOINER: 1 = used */
    exo_jview_kind view_kind; /* VIEW */
    bool group;               /* TUPLE made by groupby: .grouper and .list work */
    exo_jlazy *lazy;          /* ITERATOR: makes what comes behind items; NULL = nothing */
};

struct exo_jrange {
    int64_t start, stop, step, n;
};

typedef struct {
    exo_jvalue key, value;
    uint64_t hash;
} exo_jentry;

struct exo_jdict {
    exo_jentry *entries; /* in the order of insertion */
    size_t n, cap;
    uint32_t *index; /* open addressing, entry number + 1; NULL while the dict is small */
    size_t index_cap;
};

/* Names of one block, loop pass or macro call.  Jinja's scopes are lexical. */
struct exo_jscope {
    exo_jscope *parent;
    exo_jdict vars;
    bool captured; /* a macro refers to it: a loop must not reuse it for its next pass */
    bool top;      /* the template's own: what is assigned here is known to its parent too */
    bool block;    /* of a block: what has no value around it is looked up further out */
};

/* ---- the tree ---- */

/* Whether what is printed is escaped, as the source around it says. */
typedef enum {
    EXO_J_ESCAPE_OFF,
    EXO_J_ESCAPE_ON,
    EXO_J_ESCAPE_LATER,    /* {% autoescape expression %}: known when it is run; not of constants */
    EXO_J_ESCAPE_LATER_ON, /* the same where constants are escaped, as a tag around it says */
} exo_jescape;

typedef struct exo_jexpr exo_jexpr;
typedef struct exo_jnative exo_jnative;

typedef enum {
    EXO_J_ADD,
    EXO_J_SUB,
    EXO_J_MUL,
    EXO_J_DIV,
    EXO_J_FLOORDIV,
    EXO_J_MOD,
    EXO_J_POW,
} exo_jop;

typedef enum { EXO_J_EQ, EXO_J_NE, EXO_J_LT, EXO_J_LE, EXO_J_GT, EXO_J_GE } exo_jcmp;

typedef enum {
    EXO_J_EXPR_CONST,
    EXO_J_EXPR_NAME,
    EXO_J_EXPR_BODY, /* the captured text that a filter block works on */
    EXO_J_EXPR_LIST,
    EXO_J_EXPR_TUPLE,
    EXO_J_EXPR_DICT, /* items: key, value, key, value */
    EXO_J_EXPR_CONCAT,
    EXO_J_EXPR_BINARY,
    EXO_J_EXPR_NEG,
    EXO_J_EXPR_POS,
    EXO_J_EXPR_NOT,
    EXO_J_EXPR_AND,
    EXO_J_EXPR_OR,
    EXO_J_EXPR_COMPARE,
    EXO_J_EXPR_COND,
    EXO_J_EXPR_ATTR,  /* object.name; as a target of set: a namespace's attribute */
    EXO_J_EXPR_ITEM,  /* object[index] */
    EXO_J_EXPR_SLICE, /* object[start:stop:step] */
    EXO_J_EXPR_CALL,
    EXO_J_EXPR_FILTER,
    EXO_J_EXPR_TEST,
} exo_jexpr_kind;

typedef struct {
    exo_jexpr **items;
    size_t n;
} exo_jexprs;

typedef struct {
    enum { EXO_J_REL_CMP, EXO_J_REL_IN, EXO_J_REL_NOT_IN } kind;
    exo_jcmp cmp;
    exo_jexpr *right;
} exo_jrelation;

typedef struct {
    exo_jexprs args, kw_values;
    const exo_jstr **kw_names;   /* (kw_values.n) */
    exo_jexpr *star, *star_star; /* *args and **kwargs, or NULL */
} exo_jcall_args;

struct exo_jexpr {
    exo_jexpr_kind kind;
    uint32_t line;
    union {
        exo_jvalue constant;
        const exo_jstr *name;
        exo_jexprs list; /* LIST, TUPLE, DICT, CONCAT */
        struct {
            exo_jexprs list;
            exo_jescape escape;
        } concat; /* CONCAT */
        struct {
            exo_jop op; /* BINARY */
            exo_jexpr *left, *right;
        } pair; /* BINARY, AND, OR; NEG, POS, NOT use left */
        struct {
            exo_jexpr *first;
            exo_jrelation *relations;
            size_t n;
        } compare;
        struct {
            exo_jexpr *test, *yes, *no; /* no may be NULL */
        } cond;
        struct {
            exo_jexpr *object;
            const exo_jstr *name;
        } attr;
        struct {
            exo_jexpr *object, *index;
        } item;
        struct {
            exo_jexpr *object, *start, *stop, *step; /* bounds may be NULL */
        } slice;
        struct {
            exo_jexpr *subject;        /* callee, or what is filtered or tested */
            const exo_jstr *name;      /* FILTER, TEST */
            const exo_jnative *native; /* FILTER, TEST; NULL = no such name, an error when run */
            exo_jcall_args args;
        } call;
    };
};

typedef enum {
    EXO_J_STMT_TEXT,
    EXO_J_STMT_PRINT,
    EXO_J_STMT_IF,
    EXO_J_STMT_FOR,
    EXO_J_STMT_SET,
    EXO_J_STMT_SET_BLOCK,
    EXO_J_STMT_MACRO,
    EXO_J_STMT_CALL_BLOCK,
    EXO_J_STMT_FILTER_BLOCK,
    EXO_J_STMT_WITH,
    EXO_J_STMT_BLOCK,
    EXO_J_STMT_AUTOESCAPE,
    EXO_J_STMT_UNSET, /* in front of a body: names that have no value there yet */
    EXO_J_STMT_GROUP, /* a body without a scope of its own: {% generation %} */
    EXO_J_STMT_BREAK,
    EXO_J_STMT_CONTINUE,
    EXO_J_STMT_UNSUPPORTED, /* needs other files: include, import, from, extends */
} exo_jstmt_kind;

typedef struct exo_jbranch {
    exo_jexpr *test; /* NULL = else */
    exo_jstmt *body;
    struct exo_jbranch *next;
} exo_jbranch;

typedef struct {
    const exo_jstr *name; /* NULL for the body of a call block */
    const exo_jstr **params;
    exo_jexprs defaults; /* of the last defaults.n parameters */
    size_t n_params;
    exo_jstmt *body;
    bool uses_caller, uses_varargs, uses_kwargs;
} exo_jmacro_def;

struct exo_jstmt {
    exo_jstmt_kind kind;
    uint32_t line;
    exo_jstmt *next;
    union {
        exo_jvalue text;
        struct {
            exo_jexpr *value;
            exo_jescape escape;
        } print;
        exo_jbranch *branches; /* IF */
        struct {
            exo_jexpr *target, *iter, *test; /* test may be NULL */
            bool recursive;
            exo_jescape escape; /* what a recursive call returns is markup */
            exo_jstmt *body, *orelse;
        } loop;
        struct {
            exo_jexpr *target, *value; /* SET_BLOCK: value is the filter chain or NULL */
            exo_jstmt *body;           /* SET_BLOCK */
        } set;
        exo_jmacro_def *macro;
        struct {
            exo_jmacro_def *caller;
            exo_jexpr *call;
        } call_block;
        struct {
            exo_jexpr *filter;
            exo_jescape escape; /* what is filtered is markup */
            exo_jstmt *body;
        } filter_block;
        struct {
            exo_jexprs targets, values;
            exo_jstmt *body;
        } with;
        struct {
            exo_jstmt *body, *next_block; /* BLOCK: all of a template, in a chain */
            const exo_jstr *name;
            bool required;
            bool scoped; /* BLOCK: sees the names around it, not only the top level's */
        } block;
        struct {
            exo_jexpr *value;
            exo_jstmt *body;
        } autoescape;
        struct {
            const exo_jstr **names;
            size_t n;
        } unset;
        const exo_jstr *tag; /* UNSUPPORTED */
    };
};

/* ---- one compilation or one render ---- */

typedef struct exo_jprinting {
    const void *container;
    const struct exo_jprinting *outer;
} exo_jprinting;

typedef struct {
    exo_arena arena;
    exo_buf text; /* the output so far; its end also serves as scratch: exo_jmark, exo_jtake */
    exo_error *err;
    exo_status status; /* sticky */
    exo_status fault;  /* what exo_jfail sets: EXO_EFORMAT compiling, EXO_EINVAL rendering */
    uint64_t steps, max_steps;
    uint32_t depth, max_depth;
    uint32_t line; /* being parsed or run */
    exo_jscope *globals;
    exo_jstmt *blocks;             /* the template's, the last one first */
    bool autoescape;               /* what filters and macros go by */
    exo_jvalue body;               /* see EXO_J_EXPR_BODY */
    const exo_jprinting *printing; /* containers whose text is being made, the innermost first */
    int64_t now_unix;
} exo_jctx;

typedef struct {
    const exo_jvalue *v; /* after binding: one per parameter, EXO_J_ABSENT where not given */
    size_t n;
    exo_jdict *kw; /* NULL = none; always NULL after binding */
} exo_jargs;

/* A filter, test, method or global function.  self is the value piped in or the receiver. */
typedef exo_jvalue exo_jnative_fn(exo_jctx *c, exo_jvalue self, const exo_jargs *a);

struct exo_jnative {
    const char *name;
    exo_jnative_fn *fn;
    const char *params; /* names in order, space-separated; "*" = takes anything, unbound */
    size_t n_required;
};

struct exo_jbound {
    const exo_jnative *fn;
    exo_jvalue self;
};

struct exo_jmacro {
    const exo_jmacro_def *def;
    exo_jscope *scope; /* where it was defined */
};

struct exo_jloop {
    const exo_jstmt *stmt;
    exo_jscope *outer;
    exo_jlist *items;
    exo_jlist *rest; /* iterator that more items come from; NULL = none */
    size_t next;     /* first item not looked at */
    bool filtered;   /* stmt's test still decides about items */
    bool has_ahead;  /* ahead was fetched by .last or .nextitem */
    exo_jvalue ahead, current, before;
    int64_t index0, depth0;
    exo_jlist *last_changed; /* arguments of the last .changed() */
};

/* jinja_ctx.c: failure, limits, memory, text */
static inline bool exo_jok(const exo_jctx *c) { return c->status == EXO_OK; }
exo_jvalue exo_jfail(exo_jctx *c, const char *fmt, ...) EXO_PRINTF(2, 3); /* adds the line */
void exo_jfail_as(exo_jctx *c, exo_status status, const char *fmt, ...) EXO_PRINTF(3, 4);
void exo_jcharge(exo_jctx *c, size_t steps);
bool exo_jenter(exo_jctx *c); /* false: too deep; pair a true one with exo_jleave */
void exo_jleave(exo_jctx *c);
void *exo_jalloc(exo_jctx *c, size_t count, size_t size); /* zeroed; NULL = failed */
static inline size_t exo_jmark(const exo_jctx *c) { return c->text.n; }
void exo_jput(exo_jctx *c, const char *s, size_t n);
void exo_jputs(exo_jctx *c, const char *s);
void exo_jput_str(exo_jctx *c, const exo_jstr *s);
void exo_jput_char(exo_jctx *c, uint32_t cp);
exo_jvalue exo_jtake(exo_jctx *c, size_t mark); /* cuts the text behind mark off as a string */

/* jinja_text.c: Unicode */
int exo_jshown(const exo_jstr *s); /* bytes of s to show in a message, for %.*s */
uint32_t exo_jutf8_next(const char *s, size_t n, size_t *pos); /* valid UTF-8 only */
size_t exo_jutf8_prev(const char *s, size_t pos);              /* start of the char before pos */
size_t exo_jutf8_count(const char *s, size_t n);
bool exo_jutf8_valid(const char *s, size_t n);
size_t exo_jutf8_offset(const exo_jstr *s, size_t i_char); /* bytes before that code point */
bool exo_jis_space(uint32_t cp);
bool exo_jis_alpha(uint32_t cp);
bool exo_jis_decimal(uint32_t cp); /* str.isdecimal */
bool exo_jis_digit(uint32_t cp);   /* str.isdigit */
bool exo_jis_numeric(uint32_t cp); /* str.isnumeric */
bool exo_jis_word(uint32_t cp);    /* \w */
bool exo_jis_upper(uint32_t cp);
bool exo_jis_lower(uint32_t cp);
bool exo_jis_titlecase(uint32_t cp);              /* U+01C5 and its like */
bool exo_jis_identifier(uint32_t cp, bool first); /* may stand in a name of Python, or begin one */
bool exo_jis_printable(uint32_t cp);
void exo_jput_upper(exo_jctx *c, uint32_t cp);
void exo_jput_title(exo_jctx *c, uint32_t cp);
void exo_jput_lower(exo_jctx *c, uint32_t cp);
void exo_jput_folded(exo_jctx *c, uint32_t cp);              /* for comparison without case */
double exo_jparse_double(const char *s, size_t n, bool *ok); /* the whole of s, any locale */

/* jinja_value.c: making values.  String functions never return anything but a string. */
extern const exo_jvalue exo_jundefined, exo_jnone, exo_jabsent;
static inline exo_jvalue exo_jbool(bool b) { return (exo_jvalue){.type = EXO_J_BOOL, .b = b}; }
static inline exo_jvalue exo_jint(int64_t i) { return (exo_jvalue){.type = EXO_J_INT, .i = i}; }
static inline exo_jvalue exo_jfloat(double f) { return (exo_jvalue){.type = EXO_J_FLOAT, .f = f}; }
exo_jvalue exo_jstring(exo_jctx *c, const char *s, size_t n);        /* copies */
exo_jvalue exo_jstring_borrow(exo_jctx *c, const char *s, size_t n); /* s outlives the context */
exo_jvalue exo_jname(exo_jctx *c, const char *s, size_t n);          /* borrows and hashes */
exo_jvalue exo_jsubstr(exo_jctx *c, const exo_jstr *s, size_t from, size_t to); /* byte offsets */
exo_jvalue exo_jconcat(exo_jctx *c, const exo_jstr *a, const exo_jstr *b);
exo_jvalue exo_jundefined_name(const exo_jstr *name);
exo_jvalue exo_jundefined_hint(exo_jctx *c, const char *message);
bool exo_jstr_equal(const exo_jstr *a, const exo_jstr *b);
bool exo_jstr_is(const exo_jstr *a, const char *text);
exo_jlist *exo_jlist_new(exo_jctx *c, size_t cap); /* NULL = failed; append accepts NULL */
void exo_jlist_append(exo_jctx *c, exo_jlist *l, exo_jvalue v);
void exo_jlist_insert(exo_jctx *c, exo_jlist *l, size_t at, exo_jvalue v);
void exo_jlist_remove(exo_jctx *c, exo_jlist *l, size_t at);
exo_jvalue exo_jlist_value(exo_jtype type, exo_jlist *l);               /* undefined for NULL */
exo_jvalue exo_jpair(exo_jctx *c, exo_jvalue first, exo_jvalue second); /* a tuple */
exo_jdict *exo_jdict_new(exo_jctx *c);
bool exo_jhashable(exo_jctx *c, exo_jvalue v); /* false: failed, since it cannot be a key */
void exo_jdict_set(exo_jctx *c, exo_jdict *d, exo_jvalue key, exo_jvalue value);
void exo_jdict_set_name(exo_jctx *c, exo_jdict *d, const exo_jstr *key, exo_jvalue value);
bool exo_jdict_get(exo_jctx *c, const exo_jdict *d, exo_jvalue key, exo_jvalue *out);
bool exo_jdict_get_name(exo_jctx *c, const exo_jdict *d, const exo_jstr *key, exo_jvalue *out);
bool exo_jdict_remove(exo_jctx *c, exo_jdict *d, exo_jvalue key, exo_jvalue *out);

/* jinja_ops.c: what operators mean, as in Python */
const char *exo_jtype_name(exo_jvalue v);     /* as type(v).__name__ */
const char *exo_jowner_name(exo_jtype owner); /* as jinja2 names an object: "dict object" */
exo_jvalue exo_jundefined_fail(exo_jctx *c, exo_jvalue v);
bool exo_jtruth(exo_jvalue v);
bool exo_jequal(exo_jctx *c, exo_jvalue a, exo_jvalue b);
bool exo_jsame(exo_jvalue a, exo_jvalue b); /* `is` of Python */
bool exo_jcompare(exo_jctx *c, exo_jcmp op, exo_jvalue a, exo_jvalue b);
bool exo_jcontains(exo_jctx *c, exo_jvalue container, exo_jvalue item);
exo_jvalue exo_jbinary(exo_jctx *c, exo_jop op, exo_jvalue a, exo_jvalue b);
exo_jvalue exo_jnegate(exo_jctx *c, exo_jvalue a);
int64_t exo_jlength(exo_jctx *c, exo_jvalue v); /* len(); fails for what has none */
bool exo_jiterable(exo_jvalue v);
/* The elements of v: v's own list where it has one, else a new one.  Never NULL unless failed;
 * an iterator is used up. */
exo_jlist *exo_jiterate(exo_jctx *c, exo_jvalue v);

/* jinja_lookup.c: attributes, items, slices */
exo_jvalue exo_jget_attr(exo_jctx *c, exo_jvalue object, const exo_jstr *name);
exo_jvalue exo_jget_item(exo_jctx *c, exo_jvalue object, exo_jvalue index);
exo_jvalue exo_jslice(exo_jctx *c, exo_jvalue object, const exo_jvalue bounds[3]);
/* Follows "a.b.0" from object, as filters' attribute= does; attribute may be an int.  What is
 * missing on the way becomes `otherwise`, unless that is absent or none. */
exo_jvalue exo_jget_path(exo_jctx *c, exo_jvalue object, exo_jvalue attribute,
                         exo_jvalue otherwise);

/* jinja_print.c: values as text, appended to the context's text */
void exo_jprint(exo_jctx *c, exo_jvalue v);      /* str(v) */
void exo_jprint_repr(exo_jctx *c, exo_jvalue v); /* repr(v) */
exo_jvalue exo_jto_str(exo_jctx *c, exo_jvalue v);
exo_jvalue exo_jascii(exo_jctx *c, const exo_jstr *repr); /* what is not ASCII, as escapes */
size_t exo_jformat_double(double f, char out[40]);        /* repr of a float */

/* jinja_markup.c: HTML */
/* A method of str called on markup. */
exo_jvalue exo_jcall_markup(exo_jctx *c, const exo_jnative *fn, exo_jvalue self,
                            const exo_jargs *a);
exo_jvalue exo_jstr_striptags(exo_jctx *c, const exo_jstr *s);

/* jinja_json.c, jinja_pprint.c, jinja_wrap.c, jinja_urlize.c */
exo_jnative_fn exo_jfilter_tojson, exo_jfilter_pprint, exo_jfilter_wordwrap, exo_jfilter_urlize;

/* jinja_filters.c: numbers as int() and float() read them from texts; else the text itself */
exo_jvalue exo_jint_of(exo_jctx *c, exo_jvalue text);
exo_jvalue exo_jfloat_of(exo_jctx *c, exo_jvalue text);

/* jinja_format.c: "..." % args; digits of numbers without their sign */
#define EXO_J_FLOAT_BYTES 1400
typedef struct {
    char type; /* one of eEfFgG */
    int64_t precision;
    bool alternate;
} exo_jfloat_form;
exo_jvalue exo_jformat_percent(exo_jctx *c, exo_jvalue format, exo_jvalue args);
void exo_jint_digits(uint64_t u, char type, char out[72]);
bool exo_jfloat_digits(exo_jctx *c, double d, const exo_jfloat_form *form,
                       char out[EXO_J_FLOAT_BYTES]);
int64_t exo_jread_count(exo_jctx *c, const exo_jstr *s, size_t *pos); /* digits from *pos on */
void exo_jput_fill(exo_jctx *c, uint32_t fill, int64_t n);

/* jinja_braces.c: "...".format(args), and one value as format(v, spec) writes it */
exo_jvalue exo_jformat_braces(exo_jctx *c, exo_jvalue format, const exo_jargs *a);
void exo_jformat_value(exo_jctx *c, exo_jvalue v, const exo_jstr *spec);

/* jinja_call.c: calling with arguments, and reading them in a native function */
exo_jvalue exo_jcall(exo_jctx *c, exo_jvalue callee, const exo_jargs *a);
exo_jvalue exo_jcall_native(exo_jctx *c, const exo_jnative *fn, exo_jvalue self,
                            const exo_jargs *a);
bool exo_jgiven(const exo_jargs *a, size_t i); /* present and not None */
int64_t exo_jarg_int(exo_jctx *c, const exo_jargs *a, size_t i, int64_t otherwise);
int64_t exo_jarg_bound(exo_jctx *c, const exo_jargs *a, size_t i, int64_t otherwise); /* or None */
bool exo_jarg_bool(const exo_jargs *a, size_t i, bool otherwise);
const exo_jstr *exo_jarg_str(exo_jctx *c, const exo_jargs *a, size_t i, const char *otherwise);

/* jinja_lazy.c: elements made when they are asked for */
bool exo_jpull(exo_jctx *c, exo_jlist *iterator, exo_jvalue *out); /* false: no more */
/* An iterator over the list that make returns when the first element is wanted; NULL = failed. */
typedef exo_jlist *exo_jlazy_fn(exo_jctx *c, exo_jvalue self, const exo_jargs *a);
exo_jvalue exo_jdefer(exo_jctx *c, exo_jlazy_fn *make, exo_jvalue self, const exo_jargs *a);

/* jinja_seq.c: sorts items by keys, both of length n; stable */
void exo_jsort(exo_jctx *c, exo_jvalue *keys, exo_jvalue *items, size_t n, bool reverse);

/* The tables.  Each find returns NULL for an unknown name. */
const exo_jnative *exo_jnative_find(const exo_jnative *table, size_t n, const exo_jstr *name);
const exo_jnative *exo_jfilter_find(const exo_jstr *name);                 /* jinja_filters.c */
const exo_jnative *exo_jseq_filter_find(const exo_jstr *name);             /* jinja_seq.c */
const exo_jnative *exo_jlazy_filter_find(const exo_jstr *name);            /* jinja_lazy.c */
const exo_jnative *exo_jweb_filter_find(const exo_jstr *name);             /* jinja_web.c */
const exo_jnative *exo_jtest_find(const exo_jstr *name);                   /* jinja_tests.c */
const exo_jnative *exo_jstr_method_find(const exo_jstr *name);             /* jinja_str_methods.c */
const exo_jnative *exo_jmethod_find(exo_jtype type, const exo_jstr *name); /* jinja_methods.c */
const exo_jnative *exo_jglobal_find(const exo_jstr *name);                 /* jinja_globals.c */

/* jinja_strings.c: shared by filters and methods */
exo_jvalue exo_jstr_strip(exo_jctx *c, const exo_jstr *s, const exo_jstr *chars, bool left,
                          bool right);
exo_jvalue exo_jstr_replace(exo_jctx *c, const exo_jstr *s, const exo_jstr *from,
                            const exo_jstr *to, int64_t max);
exo_jvalue exo_jstr_escape(exo_jctx *c, const exo_jstr *s); /* for HTML; the result is markup */
exo_jvalue exo_jstr_upper(exo_jctx *c, const exo_jstr *s);
exo_jvalue exo_jstr_lower(exo_jctx *c, const exo_jstr *s);
exo_jvalue exo_jstr_casefold(exo_jctx *c, const exo_jstr *s);
exo_jvalue exo_jstr_capitalize(exo_jctx *c, const exo_jstr *s);
exo_jvalue exo_jstr_pad(exo_jctx *c, const exo_jstr *s, int64_t width, uint32_t fill, int side);
exo_jlist *exo_jstr_lines(exo_jctx *c, const exo_jstr *s, bool keep_ends);
bool exo_jstr_cased(const exo_jstr *s, bool upper); /* isupper, islower */
size_t exo_jstr_find(exo_jctx *c, const exo_jstr *s, size_t from, const exo_jstr *what); /* bytes */

/* jinja_lex.c: tokens in the context's arena; the last one is EXO_J_TOK_EOF */
typedef enum {
    EXO_J_TOK_EOF,
    EXO_J_TOK_DATA,
    EXO_J_TOK_VARIABLE_BEGIN,
    EXO_J_TOK_VARIABLE_END,
    EXO_J_TOK_BLOCK_BEGIN,
    EXO_J_TOK_BLOCK_END,
    EXO_J_TOK_NAME,
    EXO_J_TOK_STRING,
    EXO_J_TOK_NUMBER,
    EXO_J_TOK_OP, /* its text is in op */
} exo_jtok;

typedef struct {
    exo_jtok kind;
    uint32_t line;
    char op[3];
    exo_jvalue value;
} exo_jtoken;

const exo_jtoken *exo_jlex(exo_jctx *c, const char *source, size_t n);

/* jinja_parse.c */
typedef struct {
    exo_jctx *c;
    const exo_jtoken *t;                         /* the current token */
    uint32_t n_loops;                            /* loops that a break here would leave */
    uint32_t n_outer_loops;                      /* loops around, macros or not */
    bool uses_caller, uses_varargs, uses_kwargs; /* seen since the innermost macro began */
    exo_jescape escape;                          /* within the innermost autoescape */
} exo_jparser;

exo_jstmt *exo_jparse(exo_jctx *c, const exo_jtoken *tokens);
/* jinja_check.c: fails for an unknown filter or test; soft: body belongs to an if. */
void exo_jcheck(exo_jctx *c, const exo_jstmt *body, bool soft);
bool exo_jis_constant(const exo_jexpr *e); /* of operators and constants alone */
/* jinja_names.c: adds UNSET statements to the template and the bodies in it. */
void exo_jsettle_names(exo_jctx *c, exo_jstmt **body);

/* jinja_parse_expr.c: what statements need of the expression parser */
bool exo_jat_op(const exo_jparser *p, const char *op);
bool exo_jat_name(const exo_jparser *p, const char *name);
bool exo_jaccept_op(exo_jparser *p, const char *op);
bool exo_jaccept_name(exo_jparser *p, const char *name);
void exo_jexpect_op(exo_jparser *p, const char *op);
void exo_jexpect_kind(exo_jparser *p, exo_jtok kind);
const exo_jstr *exo_jexpect_ident(exo_jparser *p);
void exo_jadvance(exo_jparser *p);
exo_jvalue exo_jtoken_text(exo_jctx *c, const exo_jtoken *t); /* for messages */
exo_jexpr *exo_jparse_expr(exo_jparser *p);                   /* never NULL unless failed */
/* A tuple without ternaries, up to the name `end` (may be NULL). */
exo_jexpr *exo_jparse_condition(exo_jparser *p, const char *end);
exo_jexpr *exo_jparse_tuple(exo_jparser *p);
exo_jexpr *exo_jparse_target(exo_jparser *p, bool allow_namespace);
exo_jexpr *exo_jparse_filters(exo_jparser *p, exo_jexpr *subject, bool inline_name);
/* Room for one more behind n items of the tree, which double; what they leave behind in the arena
 * is small.  NULL = failed. */
void *exo_jgrow(exo_jctx *c, void *items, size_t n, size_t size);
void exo_jexprs_push(exo_jctx *c, exo_jexprs *list, exo_jexpr *e);

/* jinja_eval.c, jinja_exec.c */
exo_jvalue exo_jeval(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope);
/* A call expression, with the macro that a call block passes as `caller` (or NULL). */
exo_jvalue exo_jeval_call(exo_jctx *c, const exo_jexpr *e, exo_jscope *scope,
                          const exo_jvalue *caller);
void exo_jexec_template(exo_jctx *c, const exo_jstmt *body);
exo_jvalue exo_jcall_block(exo_jctx *c, const exo_jstmt *block);
exo_jvalue exo_jcall_macro(exo_jctx *c, const exo_jmacro *macro, const exo_jargs *a);
exo_jvalue exo_jcall_loop(exo_jctx *c, exo_jloop *loop, const exo_jargs *a);
exo_jvalue exo_jloop_attr(exo_jctx *c, exo_jloop *loop, const exo_jstr *name);
void exo_jassign(exo_jctx *c, const exo_jexpr *target, exo_jvalue v, exo_jscope *scope);

#endif
