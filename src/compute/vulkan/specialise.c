/* specialise.c - specialisation constants become numbers, and code they switch off goes away.
 *
 * learn() finds the constants' values and the blocks, follow() the blocks that can still be
 * reached, emit() writes what is left.  Only a branch right behind an OpSelectionMerge is decided:
 * loops keep their shape, and where a loop would lose its continue block no branch is. */
#include "compute/vulkan/specialise.h"

#include "base/mem.h"

#include <string.h>

enum { /* SPIR-V's numbers */
       MAGIC = 0x07230203,
       HEADER_WORDS = 5,
       BOUND = 3,            /* word of the header: one more than the largest id */
       MAX_BOUND = 0x3fffff, /* the specification's own limit */
       DECORATION_SPEC_ID = 1,
       OP_NAME = 5,
       OP_LINE = 8,
       OP_ENTRY_POINT = 15,
       OP_CAPABILITY = 17,
       OP_TYPE_BOOL = 20,
       OP_TYPE_INT = 21,
       OP_CONSTANT_TRUE = 41,
       OP_CONSTANT_FALSE = 42,
       OP_CONSTANT = 43,
       OP_CONSTANT_COMPOSITE = 44,
       OP_SPEC_CONSTANT_TRUE = 48,
       OP_SPEC_CONSTANT_FALSE = 49,
       OP_SPEC_CONSTANT = 50,
       OP_SPEC_CONSTANT_COMPOSITE = 51,
       OP_SPEC_CONSTANT_OP = 52,
       OP_FUNCTION = 54,
       OP_STORE = 62,
       OP_COPY_MEMORY = 63,
       OP_DECORATE = 71,
       OP_COMPOSITE_EXTRACT = 81,
       OP_IMAGE_WRITE = 99,
       OP_IADD = 128,
       OP_ISUB = 130,
       OP_IMUL = 132,
       OP_UDIV = 134,
       OP_UMOD = 137,
       OP_LOGICAL_OR = 166,
       OP_LOGICAL_AND = 167,
       OP_LOGICAL_NOT = 168,
       OP_SELECT = 169,
       OP_IEQUAL = 170,
       OP_INOT_EQUAL = 171,
       OP_UGREATER = 172,
       OP_UGREATER_EQUAL = 174,
       OP_ULESS = 176,
       OP_ULESS_EQUAL = 178,
       OP_SHIFT_RIGHT = 194,
       OP_SHIFT_LEFT = 196,
       OP_BITWISE_OR = 197,
       OP_BITWISE_AND = 199,
       OP_CONTROL_BARRIER = 224,
       OP_MEMORY_BARRIER = 225,
       OP_ATOMIC_STORE = 228,
       OP_PHI = 245,
       OP_LOOP_MERGE = 246,
       OP_SELECTION_MERGE = 247,
       OP_LABEL = 248,
       OP_BRANCH = 249,
       OP_BRANCH_CONDITIONAL = 250,
       OP_SWITCH = 251,
       OP_UNREACHABLE = 255,
};

typedef struct {
    enum { KIND_OTHER, KIND_BOOL, KIND_WORD } type; /* of a type's id: what its values are */
    bool known;                                     /* a constant of this value */
    bool gone;                                      /* defined in a block that is dropped */
    uint32_t value;
    uint32_t spec;      /* constant_id + 1; 0 = none */
    uint32_t block;     /* of a label: index + 1; 0 = none */
    uint32_t composite; /* word of the constant's instruction; 0 = none */
} id_info;

typedef struct {
    uint32_t label, begin, end; /* words; the label is the first instruction, `end` is behind */
    uint32_t merge, terminator; /* words of these instructions; merge 0 = none */
    uint32_t taken;             /* label of the only way on; 0 = as the terminator says */
    bool reached, named;        /* named: a merge block, to be kept even when not reached */
} block;

typedef struct {
    const exo_vk_module_desc *desc;
    const uint32_t *code;
    uint32_t n_words, bound, entry; /* id of the entry point's function */
    id_info *ids;
    block *blocks;
    uint32_t *stack; /* blocks to follow */
    uint32_t n_blocks;
    uint32_t *out;
    size_t n_out;
} module;

static uint32_t op_at(const module *m, uint32_t at) { return m->code[at] & 0xffff; }
static uint32_t length_at(const module *m, uint32_t at) { return m->code[at] >> 16; }
static id_info *info(const module *m, uint32_t id) { return &m->ids[id < m->bound ? id : 0]; }
static block *block_of(const module *m, uint32_t label) {
    uint32_t i = info(m, label)->block;
    return i != 0 ? &m->blocks[i - 1] : NULL;
}

/* ---- constants ---- */

static bool fold_binary(uint32_t op, uint32_t a, uint32_t b, uint32_t *out) {
    switch (op) {
    case OP_IADD: *out = a + b; return true;
    case OP_ISUB: *out = a - b; return true;
    case OP_IMUL: *out = a * b; return true;
    case OP_UDIV: *out = b != 0 ? a / b : 0; return b != 0;
    case OP_UMOD: *out = b != 0 ? a % b : 0; return b != 0;
    case OP_LOGICAL_OR:
    case OP_BITWISE_OR: *out = a | b; return true;
    case OP_LOGICAL_AND:
    case OP_BITWISE_AND: *out = a & b; return true;
    case OP_IEQUAL: *out = a == b; return true;
    case OP_INOT_EQUAL: *out = a != b; return true;
    case OP_UGREATER: *out = a > b; return true;
    case OP_UGREATER_EQUAL: *out = a >= b; return true;
    case OP_ULESS: *out = a < b; return true;
    case OP_ULESS_EQUAL: *out = a <= b; return true;
    case OP_SHIFT_RIGHT: *out = b < 32 ? a >> b : 0; return b < 32;
    case OP_SHIFT_LEFT: *out = b < 32 ? a << b : 0; return b < 32;
    default: return false;
    }
}

/* OpSpecConstantOp: type, id, operation, operands. */
static bool fold(const module *m, uint32_t at, uint32_t *out) {
    const uint32_t *w = m->code + at;
    uint32_t n = length_at(m, at);
    if (n < 5) return false;
    const id_info *a = info(m, w[4]);
    if (w[3] == OP_COMPOSITE_EXTRACT && n == 6 && a->composite != 0) {
        if (w[5] + 3 >= length_at(m, a->composite)) return false;
        const id_info *element = info(m, m->code[a->composite + 3 + w[5]]);
        *out = element->value;
        return element->known;
    }
    if (!a->known) return false;
    if (w[3] == OP_LOGICAL_NOT) {
        *out = a->value == 0;
        return true;
    }
    if (w[3] == OP_SELECT && n == 7) {
        const id_info *chosen = info(m, w[a->value != 0 ? 5 : 6]);
        *out = chosen->value;
        return chosen->known;
    }
    return n == 6 && info(m, w[5])->known && fold_binary(w[3], a->value, info(m, w[5])->value, out);
}

static uint32_t specialised(const module *m, uint32_t id, uint32_t otherwise) {
    uint32_t spec = info(m, id)->spec;
    return spec != 0 && spec <= m->desc->n_specs ? m->desc->spec[spec - 1] : otherwise;
}

static void learn_constant(module *m, uint32_t at) {
    const uint32_t *w = m->code + at;
    uint32_t op = op_at(m, at), value = 0;
    if (length_at(m, at) < 3) return;
    id_info *type = info(m, w[1]), *id = info(m, w[2]);
    bool word = length_at(m, at) == 4 && type->type == KIND_WORD;
    switch (op) {
    case OP_CONSTANT_TRUE:
    case OP_CONSTANT_FALSE: id->known = true; break;
    case OP_SPEC_CONSTANT_TRUE:
    case OP_SPEC_CONSTANT_FALSE:
        id->known = true;
        value = specialised(m, w[2], op == OP_SPEC_CONSTANT_TRUE) != 0;
        break;
    case OP_CONSTANT:
        id->known = word;
        value = word ? w[3] : 0;
        break;
    case OP_SPEC_CONSTANT:
        id->known = word;
        value = word ? specialised(m, w[2], w[3]) : 0;
        break;
    case OP_CONSTANT_COMPOSITE:
    case OP_SPEC_CONSTANT_COMPOSITE: id->composite = at; break;
    default: id->known = type->type != KIND_OTHER && fold(m, at, &value); break;
    }
    id->value = op == OP_CONSTANT_TRUE ? 1 : value;
}

/* ---- blocks ---- */

static void learn_block(module *m, uint32_t at, bool *first) {
    block *b = m->n_blocks > 0 ? &m->blocks[m->n_blocks - 1] : NULL;
    uint32_t op = op_at(m, at);
    if (op == OP_LABEL) {
        b = &m->blocks[m->n_blocks++];
        *b = (block){.label = m->code[at + 1], .begin = at, .reached = *first};
        *first = false;
        info(m, b->label)->block = m->n_blocks;
    }
    if (b == NULL || b->end != 0) return;
    if (op == OP_LOOP_MERGE || op == OP_SELECTION_MERGE) b->merge = at;
    if (op < OP_BRANCH || op > OP_UNREACHABLE) return;
    b->terminator = at;
    b->end = at + length_at(m, at);
}

static void learn(module *m) {
    bool first = false; /* the next label is that of a function's first block */
    for (uint32_t at = HEADER_WORDS; at < m->n_words; at += length_at(m, at)) {
        const uint32_t *w = m->code + at;
        uint32_t op = op_at(m, at), n = length_at(m, at);
        if (op == OP_DECORATE && n == 4 && w[2] == DECORATION_SPEC_ID) {
            info(m, w[1])->spec = w[3] + 1;
        } else if (op == OP_ENTRY_POINT && n > 2) {
            m->entry = w[2];
        } else if (op == OP_TYPE_BOOL && n == 2) {
            info(m, w[1])->type = KIND_BOOL;
        } else if (op == OP_TYPE_INT && n == 4 && w[2] == 32) {
            info(m, w[1])->type = KIND_WORD;
        } else if (op >= OP_CONSTANT_TRUE && op <= OP_SPEC_CONSTANT_OP) {
            learn_constant(m, at);
        } else if (op == OP_FUNCTION) {
            first = true;
        } else {
            learn_block(m, at, &first);
        }
    }
}

static void decide(module *m) {
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        block *b = &m->blocks[i];
        const uint32_t *w = m->code + b->terminator;
        if (op_at(m, b->terminator) != OP_BRANCH_CONDITIONAL || b->merge == 0) continue;
        if (op_at(m, b->merge) != OP_SELECTION_MERGE || !info(m, w[1])->known) continue;
        b->taken = info(m, w[1])->value != 0 ? w[2] : w[3];
    }
}

static bool goes_to(const module *m, const block *b, uint32_t label) {
    const uint32_t *w = m->code + b->terminator;
    if (b->taken != 0) return b->taken == label;
    switch (op_at(m, b->terminator)) {
    case OP_BRANCH: return w[1] == label;
    case OP_BRANCH_CONDITIONAL: return w[2] == label || w[3] == label;
    case OP_SWITCH:
        for (uint32_t i = 2; i < length_at(m, b->terminator); i += 2) {
            if (w[i] == label) return true;
        }
        return false;
    default: return false;
    }
}

static void reach(module *m, uint32_t label, uint32_t *n_stack) {
    block *b = block_of(m, label);
    if (b == NULL || b->reached) return;
    b->reached = true;
    m->stack[(*n_stack)++] = info(m, label)->block - 1;
}

static void follow(module *m) {
    uint32_t n_stack = 0;
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        if (m->blocks[i].reached) m->stack[n_stack++] = i;
    }
    while (n_stack > 0) {
        const block *b = &m->blocks[m->stack[--n_stack]];
        const uint32_t *w = m->code + b->terminator;
        uint32_t op = op_at(m, b->terminator);
        uint32_t from = op == OP_BRANCH ? 1 : 2, step = op == OP_SWITCH ? 2 : 1;
        if (b->taken != 0) {
            reach(m, b->taken, &n_stack);
        } else if (op == OP_BRANCH || op == OP_BRANCH_CONDITIONAL || op == OP_SWITCH) {
            uint32_t end = op == OP_BRANCH_CONDITIONAL ? 4 : length_at(m, b->terminator);
            for (uint32_t i = from; i < end; i += step) reach(m, w[i], &n_stack);
        }
    }
}

/* Marks merge blocks; false when a loop that is left has lost its continue block. */
static bool name_merges(module *m) {
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const block *b = &m->blocks[i];
        if (!b->reached || b->merge == 0 || b->taken != 0) continue;
        block *merge = block_of(m, m->code[b->merge + 1]);
        if (merge != NULL) merge->named = true;
        if (op_at(m, b->merge) != OP_LOOP_MERGE) continue;
        const block *again = block_of(m, m->code[b->merge + 2]);
        if (again == NULL || !again->reached) return false;
    }
    return true;
}

static bool has_result(uint32_t op) { /* of those that stand in blocks, with a type before it */
    return op != OP_LINE && op != OP_STORE && op != OP_COPY_MEMORY && op != OP_IMAGE_WRITE &&
           op != OP_CONTROL_BARRIER && op != OP_MEMORY_BARRIER && op != OP_ATOMIC_STORE &&
           (op < OP_LOOP_MERGE || op > OP_UNREACHABLE);
}

static void mark_gone(module *m) {
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const block *b = &m->blocks[i];
        for (uint32_t at = b->begin; !b->reached && at < b->end; at += length_at(m, at)) {
            if (has_result(op_at(m, at)) && length_at(m, at) > 2) {
                info(m, m->code[at + 2])->gone = true;
            }
        }
    }
}

/* ---- output ---- */

static void put(module *m, const uint32_t *words, uint32_t n) {
    memcpy(m->out + m->n_out, words, n * sizeof *words);
    m->n_out += n;
}

static void put_name(module *m) {
    size_t bytes = strlen(m->desc->name) + 1;
    uint32_t n = 2 + (uint32_t)((bytes + 3) / 4);
    uint32_t *w = m->out + m->n_out;
    memset(w, 0, n * sizeof *w);
    w[0] = n << 16 | OP_NAME;
    w[1] = m->entry;
    memcpy(w + 2, m->desc->name, bytes);
    m->n_out += n;
}

static void put_constant(module *m, uint32_t at) {
    const uint32_t *w = m->code + at;
    const id_info *id = info(m, w[2]);
    uint32_t op = op_at(m, at);
    if (op == OP_SPEC_CONSTANT_COMPOSITE) {
        put(m, w, length_at(m, at));
        m->out[m->n_out - length_at(m, at)] = length_at(m, at) << 16 | OP_CONSTANT_COMPOSITE;
    } else if (op < OP_SPEC_CONSTANT_TRUE || !id->known) {
        put(m, w, length_at(m, at));
    } else if (info(m, w[1])->type == KIND_BOOL) {
        uint32_t is = id->value != 0 ? OP_CONSTANT_TRUE : OP_CONSTANT_FALSE;
        put(m, (uint32_t[]){3u << 16 | is, w[1], w[2]}, 3);
    } else {
        put(m, (uint32_t[]){4u << 16 | OP_CONSTANT, w[1], w[2], id->value}, 4);
    }
}

/* Only the ways into the block that are left. */
static void put_phi(module *m, uint32_t at, uint32_t label) {
    const uint32_t *w = m->code + at;
    size_t begin = m->n_out;
    put(m, w, 3);
    for (uint32_t i = 3; i + 1 < length_at(m, at); i += 2) {
        const block *from = block_of(m, w[i + 1]);
        if (from != NULL && from->reached && goes_to(m, from, label)) put(m, w + i, 2);
    }
    m->out[begin] = (uint32_t)(m->n_out - begin) << 16 | OP_PHI;
}

static void put_block(module *m, const block *b) {
    if (!b->reached && !b->named) return;
    put(m, m->code + b->begin, 2);
    if (!b->reached) {
        put(m, (uint32_t[]){1u << 16 | OP_UNREACHABLE}, 1);
        return;
    }
    for (uint32_t at = b->begin + 2; at < b->end; at += length_at(m, at)) {
        if (op_at(m, at) == OP_PHI) {
            put_phi(m, at, b->label);
        } else if (at == b->terminator && b->taken != 0) {
            put(m, (uint32_t[]){2u << 16 | OP_BRANCH, b->taken}, 2);
        } else if (at != b->merge || b->taken == 0) {
            put(m, m->code + at, length_at(m, at));
        }
    }
}

static void emit(module *m) {
    bool named = false;
    put(m, m->code, HEADER_WORDS);
    for (uint32_t at = HEADER_WORDS; at < m->n_words; at += length_at(m, at)) {
        const uint32_t *w = m->code + at;
        uint32_t op = op_at(m, at);
        if (!named && op > OP_CAPABILITY) { /* behind the sources and strings, before decorations */
            named = true;
            put_name(m);
        }
        if (op == OP_LABEL) {
            const block *b = block_of(m, w[1]);
            put_block(m, b);
            at = b->terminator;
        } else if (op >= OP_CONSTANT_TRUE && op <= OP_SPEC_CONSTANT_OP) {
            put_constant(m, at);
        } else if (op == OP_NAME || op == OP_DECORATE) {
            bool spec = op == OP_DECORATE && w[2] == DECORATION_SPEC_ID;
            if (!spec && !info(m, w[1])->gone) put(m, w, length_at(m, at));
        } else {
            put(m, w, length_at(m, at));
        }
    }
}

/* ---- all of it ---- */

static bool well_formed(module *m) {
    size_t n = m->desc->n_words;
    if (n <= HEADER_WORDS || n > UINT32_MAX / 2 || m->code[0] != MAGIC) return false;
    m->n_words = (uint32_t)n;
    m->bound = m->code[BOUND];
    if (m->bound == 0 || m->bound > MAX_BOUND) return false;
    bool in_block = false;
    for (uint32_t at = HEADER_WORDS; at < m->n_words; at += length_at(m, at)) {
        uint32_t op = op_at(m, at), length = length_at(m, at);
        if (length == 0 || length > m->n_words - at) return false;
        if (op == OP_LABEL) {
            if (in_block || length != 2) return false;
            in_block = true;
            m->n_blocks++;
        } else if (op >= OP_BRANCH && op <= OP_UNREACHABLE) {
            if (!in_block || (op == OP_BRANCH_CONDITIONAL && length < 4)) return false;
            in_block = false;
        }
    }
    return !in_block;
}

exo_status exo_vk_specialise(const exo_vk_module_desc *desc, uint32_t **out, size_t *out_words,
                             exo_error *err) {
    module m = {.desc = desc, .code = desc->code};
    *out = NULL;
    if (!well_formed(&m)) {
        return exo_error_set(err, EXO_EINVAL, "kernel %s is no SPIR-V module", desc->name);
    }
    m.ids = exo_calloc(m.bound, sizeof *m.ids);
    m.blocks = exo_calloc(m.n_blocks + 1, sizeof *m.blocks);
    m.stack = exo_calloc(m.n_blocks + 1, sizeof *m.stack);
    m.out = exo_malloc((m.n_words + strlen(desc->name) / 4 + 4) * sizeof *m.out);
    exo_status st = EXO_OK;
    if (m.ids == NULL || m.blocks == NULL || m.stack == NULL || m.out == NULL) {
        st = exo_error_set(err, EXO_ENOMEM, "no memory for kernel %s", desc->name);
        exo_free(m.out);
    } else {
        m.n_blocks = 0;
        learn(&m);
        decide(&m);
        follow(&m);
        if (!name_merges(&m)) {
            for (uint32_t i = 0; i < m.n_blocks; i++) m.blocks[i].taken = 0;
            follow(&m);
            (void)name_merges(&m);
        }
        mark_gone(&m);
        emit(&m);
        *out = m.out;
        *out_words = m.n_out;
    }
    exo_free(m.stack);
    exo_free(m.blocks);
    exo_free(m.ids);
    return st;
}
