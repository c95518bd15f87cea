/* hf_stack.c - tensors of which one becomes several, or several become one.
 *
 * Nothing is copied but biases: the tensors made here say where their rows lie in the files
 * (tensor_rows.h). */
#include "model/hf_impl.h"

#include "base/mem.h"
#include "model/model.h"
#include "model/tensor_rows.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_ELEMS 32 /* of MXFP4 */
#define BLOCK_BYTES 16

static exo_status no_memory(exo_error *err) {
    return exo_error_set(err, EXO_ENOMEM, "out of memory for experts");
}

/* The counterpart of a tensor of gates. */
static void name_of_ups(const char *gates, char out[64]) {
    const char *mark = strstr(gates, "_gate_");
    int n = mark != NULL ? (int)(mark - gates) : 0;
    if (snprintf(out, 64, "%.*s_up_%s", n, gates, mark != NULL ? mark + 6 : "") >= 64) out[0] = 0;
}

static exo_tensor_rows *new_rows(exo_hf_tensors *s, exo_rows_kind kind) {
    exo_tensor_rows *r = exo_arena_zalloc(&s->memory, 1, sizeof *r);
    if (r != NULL) r->kind = kind;
    return r;
}

/* n pieces that lie somewhere; none does yet. */
static exo_tensor_rows *new_parts(exo_hf_tensors *s, uint64_t n) {
    exo_tensor_rows *r = new_rows(s, EXO_ROWS_PARTS);
    if (r == NULL) return NULL;
    r->n_parts = n;
    r->parts = exo_arena_zalloc(&s->memory, (size_t)n, sizeof(uint8_t *));
    return r->parts != NULL ? r : NULL;
}

static const uint8_t **parts_of(const exo_tensor_rows *r) { return (const uint8_t **)r->parts; }

/* ---- experts one by one ---- */

/* One expert's matrix: its place in the stack, which begins with the first one met. */
static exo_status add_expert(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                             exo_error *err) {
    uint32_t n = exo_hf_n_experts(s->config, s->arch);
    if (place->expert >= n || n > EXO_MAX_EXPERTS) {
        return exo_error_set(err, EXO_EFORMAT, "it is expert %u, but config.json says there are %u",
                             place->expert, n);
    }
    exo_tensor *stack = exo_hf_tensors_find(s, place->name);
    if (stack == NULL) {
        exo_tensor whole = *t;
        whole.n_dims = 3;
        whole.dims[2] = n;
        whole.bytes = t->bytes * n;
        whole.rows = new_parts(s, n);
        if (whole.rows == NULL) return no_memory(err);
        exo_status st = exo_hf_tensors_push(s, place->name, &whole, err);
        if (st != EXO_OK) return st;
        stack = &s->tensors[s->n_tensors - 1];
    }
    if (stack->rows == NULL || stack->type != t->type || stack->dims[0] != t->dims[0] ||
        stack->dims[1] != t->dims[1]) {
        return exo_error_set(err, EXO_EFORMAT, "it is unlike the other experts of its layer");
    }
    const uint8_t **parts = parts_of(stack->rows);
    if (parts[place->expert] != NULL) return exo_error_set(err, EXO_EFORMAT, "it is there twice");
    parts[place->expert] = t->data;
    if (place->expert == 0) stack->data = t->data;
    return EXO_OK;
}

/* ---- gate above up ---- */

/* Two tensors of pieces: in each of n matrices the gate's rows, then the up's. */
static exo_status add_halves(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                             exo_error *err) {
    uint64_t n = t->dims[2], each = t->bytes / n;
    char ups[64];
    if (t->dims[1] % 2 != 0 || n > EXO_MAX_EXPERTS) {
        return exo_error_set(err, EXO_EFORMAT, "it is %llu matrices of %llu rows",
                             (unsigned long long)n, (unsigned long long)t->dims[1]);
    }
    name_of_ups(place->name, ups);
    for (uint64_t half = 0; half < 2; half++) {
        exo_tensor part = *t;
        exo_tensor_rows *r = new_parts(s, n);
        if (r == NULL) return no_memory(err);
        for (uint64_t i = 0; i < n; i++) parts_of(r)[i] = t->data + i * each + half * (each / 2);
        part.dims[1] = t->dims[1] / 2;
        part.bytes = t->bytes / 2;
        part.data = r->parts[0];
        part.rows = n > 1 ? r : NULL;
        exo_status st = exo_hf_tensors_push(s, half == 0 ? place->name : ups, &part, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

/* ---- gates and ups by turns ---- */

/* Rows of (matrices, n_rows) in the file: all of them to one tensor, or by turns to two. */
static exo_status push_turns(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *whole,
                             bool pair, exo_error *err) {
    char ups[64];
    uint64_t step = pair ? 2 : 1, n_rows = whole->dims[1];
    if (n_rows % step != 0 || whole->dims[2] > EXO_MAX_EXPERTS) {
        return exo_error_set(err, EXO_EFORMAT, "it is %llu matrices of %llu rows",
                             (unsigned long long)whole->dims[2], (unsigned long long)n_rows);
    }
    name_of_ups(place->name, ups);
    for (uint64_t first = 0; first < step; first++) {
        exo_tensor part = *whole;
        exo_tensor_rows *r = new_rows(s, whole->rows->kind);
        if (r == NULL) return no_memory(err);
        *r = *whole->rows;
        r->n_rows = n_rows;
        r->first = first;
        r->step = step;
        part.rows = r;
        part.dims[1] = n_rows / step;
        part.bytes =
            exo_dtype_row_bytes(part.type, (size_t)part.dims[0]) * part.dims[1] * part.dims[2];
        exo_status st = exo_hf_tensors_push(s, first == 0 ? place->name : ups, &part, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

static exo_status add_turned(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                             exo_error *err) {
    exo_tensor_rows rows = {.kind = EXO_ROWS_TURNED, .data = t->data};
    exo_tensor whole = *t;
    whole.rows = &rows;
    whole.dims[0] = t->dims[1];
    whole.dims[1] = t->dims[0];
    return push_turns(s, place, &whole, place->how == EXO_HF_TURNED_PAIR, err);
}

/* ---- quants and their scales ---- */

static bool same_shape(const exo_tensor *a, const exo_tensor *b) {
    return a->type == b->type && a->dims[0] == b->dims[0] && a->dims[1] == b->dims[1] &&
           a->dims[2] == b->dims[2];
}

/* Fills in what was still missing of a tensor that its counterpart has made. */
static exo_status join(const exo_tensor *made, const exo_tensor *whole, uint64_t step,
                       exo_error *err) {
    exo_tensor expected = *whole;
    expected.dims[1] /= step;
    exo_tensor_rows *r = (exo_tensor_rows *)made->rows;
    if (r == NULL || r->kind != EXO_ROWS_MXFP4 || !same_shape(made, &expected)) {
        return exo_error_set(
            err, EXO_EFORMAT,
            "it is for %llu x %llu x %llu weights, its blocks or scales for %llu "
            "x %llu x %llu",
            (unsigned long long)expected.dims[2], (unsigned long long)expected.dims[1],
            (unsigned long long)expected.dims[0], (unsigned long long)made->dims[2],
            (unsigned long long)made->dims[1], (unsigned long long)made->dims[0]);
    }
    const uint8_t **to = whole->rows->data != NULL ? &r->data : &r->scales;
    if (*to != NULL) return exo_error_set(err, EXO_EFORMAT, "it is there twice");
    *to = whole->rows->data != NULL ? whole->rows->data : whole->rows->scales;
    return EXO_OK;
}

/* Blocks (experts, rows, n, 16) or scales (experts, rows, n): whichever comes first makes the
 * tensor, the other one joins. */
static exo_status add_mxfp4(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                            exo_error *err) {
    bool blocks = place->how == EXO_HF_BLOCKS || place->how == EXO_HF_BLOCKS_PAIR;
    bool pair = place->how == EXO_HF_BLOCKS_PAIR || place->how == EXO_HF_SCALES_PAIR;
    if (blocks && t->dims[0] != BLOCK_BYTES) {
        return exo_error_set(err, EXO_EFORMAT, "its blocks have %llu bytes, those of MXFP4 have %d",
                             (unsigned long long)t->dims[0], BLOCK_BYTES);
    }
    exo_tensor_rows rows = {
        .kind = EXO_ROWS_MXFP4, .data = blocks ? t->data : NULL, .scales = blocks ? NULL : t->data};
    const uint64_t *dims = blocks ? t->dims + 1 : t->dims;
    exo_tensor whole = {.type = EXO_MXFP4,
                        .n_dims = 3,
                        .dims = {dims[0] * BLOCK_ELEMS, dims[1], dims[2], 1},
                        .data = t->data,
                        .rows = &rows};
    char ups[64];
    const exo_tensor *made = exo_hf_tensors_find(s, place->name);
    if (made == NULL) return push_turns(s, place, &whole, pair, err);
    exo_status st = join(made, &whole, pair ? 2 : 1, err);
    name_of_ups(place->name, ups);
    made = pair ? exo_hf_tensors_find(s, ups) : NULL;
    return st == EXO_OK && made != NULL ? join(made, &whole, 2, err) : st;
}

/* ---- biases by turns ---- */

static exo_status add_bias_pair(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                                exo_error *err) {
    uint64_t n = t->dims[0] / 2 * t->dims[1];
    char ups[64];
    if (t->dims[0] % 2 != 0) {
        return exo_error_set(err, EXO_EFORMAT, "it has %llu columns, an odd number",
                             (unsigned long long)t->dims[0]);
    }
    name_of_ups(place->name, ups);
    for (uint64_t first = 0; first < 2; first++) {
        uint8_t *out = exo_arena_alloc(&s->memory, 4 * (size_t)n);
        if (out == NULL) return no_memory(err);
        for (size_t i = 0; i < n; i++) memcpy(out + 4 * i, t->data + 4 * (2 * i + first), 4);
        exo_tensor part = *t;
        part.dims[0] = t->dims[0] / 2;
        part.data = out;
        part.bytes = t->bytes / 2;
        exo_status st = exo_hf_tensors_push(s, first == 0 ? place->name : ups, &part, err);
        if (st != EXO_OK) return st;
    }
    return EXO_OK;
}

/* ---- queries, keys and values in groups ---- */

/* For each head of keys: its queries' rows, the key's, the value's. */
static exo_status add_groups(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                             exo_error *err) {
    static const char *const names[] = {"blk.%u.attn_q.weight", "blk.%u.attn_k.weight",
                                        "blk.%u.attn_v.weight"};
    double heads = exo_hf_number_or(s->config, "num_attention_heads", 0);
    double kv_heads = exo_hf_number_or(s->config, "num_key_value_heads", heads);
    uint64_t dim = exo_hf_head_dim(s->config, s->arch);
    uint64_t n = kv_heads >= 1 && kv_heads <= 65536 ? (uint64_t)kv_heads : 1;
    uint64_t per_group = heads >= 1 && heads <= 65536 ? (uint64_t)heads / n : 0;
    if (t->dims[1] != n * (per_group + 2) * dim) {
        return exo_error_set(err, EXO_EFORMAT,
                             "it has %llu rows, but config.json asks for %llu: %llu heads of keys "
                             "with %llu queries of %llu dimensions",
                             (unsigned long long)t->dims[1],
                             (unsigned long long)(n * (per_group + 2) * dim), (unsigned long long)n,
                             (unsigned long long)per_group, (unsigned long long)dim);
    }
    uint64_t row = t->bytes / t->dims[1], first = 0;
    for (size_t i = 0; i < 3; i++) {
        uint64_t rows = i == 0 ? per_group * dim : dim;
        char name[64];
        exo_tensor part = *t;
        exo_tensor_rows *r = new_parts(s, n);
        if (r == NULL) return no_memory(err);
        for (uint64_t g = 0; g < n; g++) {
            parts_of(r)[g] = t->data + (g * (per_group + 2) * dim + first) * row;
        }
        part.dims[1] = n * rows;
        part.bytes = part.dims[1] * row;
        part.data = r->parts[0];
        part.rows = r;
        exo_hf_fill_layer(names[i], place->layer, name);
        exo_status st = exo_hf_tensors_push(s, name, &part, err);
        if (st != EXO_OK) return st;
        first += rows;
    }
    return EXO_OK;
}

/* ---- all ---- */

exo_status exo_hf_stack_add(exo_hf_tensors *s, const exo_hf_place *place, const exo_tensor *t,
                            exo_error *err) {
    switch (place->how) {
    case EXO_HF_EXPERT: return add_expert(s, place, t, err);
    case EXO_HF_STACK: return exo_hf_tensors_push(s, place->name, t, err);
    case EXO_HF_HALVES:
    case EXO_HF_GATE_UP: return add_halves(s, place, t, err);
    case EXO_HF_TURNED:
    case EXO_HF_TURNED_PAIR: return add_turned(s, place, t, err);
    case EXO_HF_BLOCKS:
    case EXO_HF_BLOCKS_PAIR:
    case EXO_HF_SCALES:
    case EXO_HF_SCALES_PAIR: return add_mxfp4(s, place, t, err);
    case EXO_HF_BIAS_PAIR: return add_bias_pair(s, place, t, err);
    case EXO_HF_GROUPS: return add_groups(s, place, t, err);
    case EXO_HF_AS_IS:
    case EXO_HF_WIDE:
    case EXO_HF_FLAT:
    case EXO_HF_NOT_NEEDED: break;
    }
    return exo_error_set(err, EXO_EINTERNAL, "tensor '%s' is none of several", place->name);
}

exo_status exo_hf_stack_end(const exo_hf_tensors *s, exo_error *err) {
    for (size_t i = 0; i < s->n_tensors; i++) {
        const exo_tensor *t = &s->tensors[i];
        const exo_tensor_rows *r = t->rows;
        for (uint64_t k = 0; r != NULL && k < r->n_parts; k++) {
            if (r->parts[k] != NULL) continue;
            return exo_error_set(err, EXO_EFORMAT, "expert %llu of '%s' is missing",
                                 (unsigned long long)k, t->name.s);
        }
        if (r == NULL || r->kind != EXO_ROWS_MXFP4) continue;
        if (r->data == NULL || r->scales == NULL) {
            return exo_error_set(err, EXO_EFORMAT, "'%s' has %s, but no %s", t->name.s,
                                 r->data != NULL ? "blocks" : "scales",
                                 r->data != NULL ? "scales" : "blocks");
        }
    }
    return EXO_OK;
}
