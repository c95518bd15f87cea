/* testing_net.h - a small transformer that uses every weight type, for tests that run whole plans.
 *
 * Weights and tokens come from fixed seeds, so the hash of its logits is one number: the same on
 * every machine, instruction set, number of threads and cut into steps. */
#ifndef EXO_COMPUTE_CPU_TESTING_NET_H
#define EXO_COMPUTE_CPU_TESTING_NET_H

#include "base/mem.h"
#include "compute/backend.h"
#include "compute/cpu/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define test_must(cond)                                                                            \
    ((cond) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort()))

enum { EMBD = 256, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 64, FF = 512, VOCAB = 100, LAYERS = 2 };
enum { MAX_ROWS = 64, MAX_SEQS = 2, SEQ_PAGES = 9, N_PAGES = 18, TOKENS = 270 };
enum { SLOT_X, SLOT_Q, SLOT_K, SLOT_V, SLOT_ATTN, SLOT_FF, N_SLOTS };
enum { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, N_W };
enum { OPS_A_LAYER = 7, N_OPS = 2 + LAYERS * OPS_A_LAYER };

static const exo_backend *test_backend = &exo_backend_cpu; /* another folder's tests set theirs */

/* A small transformer whose matrices use every weight type, on one device. */
typedef struct {
    exo_device *device;
    exo_weight *table, *w[LAYERS][N_W];
    exo_buffer *norm, *bias, *k_pages[LAYERS], *v_pages[LAYERS];
    double inv_freq[HEAD_DIM / 2];
    exo_op ops[N_OPS];
    exo_plan *plan;
    uint32_t pages[MAX_SEQS * SEQ_PAGES];
} test_net;

static inline exo_weight *test_make_weight(test_net *n, test_rng *rng, exo_dtype type,
                                           uint32_t rows, uint32_t cols) {
    size_t bytes = rows * exo_dtype_row_bytes(type, cols);
    uint8_t *file = exo_malloc(bytes);
    test_must(file != NULL);
    test_weights(rng, type, file, (size_t)rows * cols / exo_dtype_get(type)->block_elems);
    exo_weight *w;
    test_must(test_backend->weight_create(n->device, type, rows, cols, file, &w, NULL) == EXO_OK);
    exo_free(file);
    return w;
}

static inline exo_buffer *test_make_buffer(test_net *n, size_t bytes) {
    exo_buffer *b;
    test_must(test_backend->allocate(n->device, bytes, &b, NULL) == EXO_OK);
    return b;
}

static inline exo_buffer *test_make_vector(test_net *n, test_rng *rng, float about) {
    float v[FF];
    for (int i = 0; i < FF; i++) v[i] = about + 0.1f * test_float(rng);
    exo_buffer *b = test_make_buffer(n, sizeof v);
    test_must(test_backend->copy_to_device(n->device, b, 0, v, sizeof v, NULL) == EXO_OK);
    return b;
}

static inline exo_op test_product(const test_net *n, uint32_t in, exo_epilogue epilogue,
                                  uint32_t n_parts, exo_weight *const *w) {
    exo_op op = {.kind = EXO_OP_MATMUL};
    exo_op_matmul *m = &op.u.matmul;
    m->in = in;
    m->norm = epilogue == EXO_EPILOGUE_ADD ? NULL : n->norm;
    m->norm_eps = 1e-5f;
    m->n_parts = n_parts;
    for (uint32_t i = 0; i < n_parts; i++) m->w[i] = w[i];
    m->epilogue = epilogue;
    return op;
}

static inline void test_layer_ops(test_net *n, int il, exo_op *op) {
    op[0] = test_product(n, SLOT_X, EXO_EPILOGUE_STORE, 3, n->w[il]);
    for (uint32_t i = 0; i < 3; i++) {
        op[0].u.matmul.out[i] = SLOT_Q + i;
        op[0].u.matmul.bias[i] = il == 0 ? n->bias : NULL;
    }
    op[1] = (exo_op){.kind = EXO_OP_ROPE_KV};
    op[1].u.rope_kv = (exo_op_rope_kv){.q = SLOT_Q,
                                       .k = SLOT_K,
                                       .v = SLOT_V,
                                       .q_norm = il == 1 ? n->norm : NULL,
                                       .k_norm = il == 1 ? n->norm : NULL,
                                       .norm_eps = 1e-6f,
                                       .n_heads = HEADS,
                                       .n_kv_heads = KV_HEADS,
                                       .head_dim = HEAD_DIM,
                                       .rope_dims = HEAD_DIM,
                                       .rope_neox = il == 1,
                                       .rope_inv_freq = n->inv_freq,
                                       .rope_scale = 1,
                                       .k_pages = n->k_pages[il],
                                       .v_pages = n->v_pages[il],
                                       .kv_type = il == 0 ? EXO_F32 : EXO_F16};
    op[2] = (exo_op){.kind = EXO_OP_ATTENTION};
    op[2].u.attention = (exo_op_attention){.q = SLOT_Q,
                                           .out = SLOT_ATTN,
                                           .n_heads = HEADS,
                                           .n_kv_heads = KV_HEADS,
                                           .head_dim = HEAD_DIM,
                                           .scale = 0.125f,
                                           .k_pages = n->k_pages[il],
                                           .v_pages = n->v_pages[il],
                                           .kv_type = il == 0 ? EXO_F32 : EXO_F16};
    op[3] = test_product(n, SLOT_ATTN, EXO_EPILOGUE_ADD, 1, &n->w[il][W_O]);
    op[3].u.matmul.out[0] = SLOT_X;
    op[4] = test_product(n, SLOT_X, EXO_EPILOGUE_SILU_MUL, 2, &n->w[il][W_GATE]);
    op[4].u.matmul.out[0] = SLOT_FF;
    op[5] = test_product(n, SLOT_FF, EXO_EPILOGUE_ADD, 1, &n->w[il][W_DOWN]);
    op[5].u.matmul.out[0] = SLOT_X;
    op[6] = (exo_op){.kind = EXO_OP_ROUND_F16};
    op[6].u.round_slot = SLOT_X;
}

static const uint32_t test_slot_width[N_SLOTS] = {
    EMBD, HEADS *HEAD_DIM, KV_HEADS *HEAD_DIM, KV_HEADS *HEAD_DIM, HEADS *HEAD_DIM, FF};

static inline exo_plan_desc test_plan_desc(const test_net *n) {
    return (exo_plan_desc){.ops = n->ops,
                           .n_ops = N_OPS,
                           .slot_width = test_slot_width,
                           .n_slots = N_SLOTS,
                           .max_rows = MAX_ROWS,
                           .max_logit_rows = MAX_ROWS,
                           .max_seqs = MAX_SEQS,
                           .max_seq_pages = SEQ_PAGES};
}

static const exo_dtype test_mixed_types[LAYERS][N_W] = {
    {EXO_Q4_K, EXO_Q8_0, EXO_F16, EXO_Q6_K, EXO_Q4_0, EXO_Q4_0, EXO_BF16},
    {EXO_Q8_0, EXO_Q8_0, EXO_Q8_0, EXO_F32, EXO_Q4_K, EXO_Q6_K, EXO_Q6_K}};

/* On a device that is open; test_free_net_on leaves it open. */
static inline void test_make_net_on(test_net *n, exo_device *device,
                                    const exo_dtype types[LAYERS][N_W]) {
    static const uint32_t shape[N_W][2] = {{EMBD, EMBD},
                                           {KV_HEADS * HEAD_DIM, EMBD},
                                           {KV_HEADS * HEAD_DIM, EMBD},
                                           {EMBD, EMBD},
                                           {FF, EMBD},
                                           {FF, EMBD},
                                           {EMBD, FF}};
    test_rng rng = {42};
    memset(n, 0, sizeof *n);
    n->device = device;
    n->table = test_make_weight(n, &rng, EXO_Q6_K, VOCAB, EMBD);
    n->norm = test_make_vector(n, &rng, 1);
    n->bias = test_make_vector(n, &rng, 0);
    for (int i = 0; i < HEAD_DIM / 2; i++) n->inv_freq[i] = 1.0 / (1 + i * i);
    for (int il = 0; il < LAYERS; il++) {
        size_t bytes = N_PAGES * exo_kv_page_bytes(EXO_F32, KV_HEADS, HEAD_DIM);
        n->k_pages[il] = test_make_buffer(n, bytes);
        n->v_pages[il] = test_make_buffer(n, bytes);
        for (int i = 0; i < N_W; i++) {
            n->w[il][i] = test_make_weight(n, &rng, types[il][i], shape[i][0], shape[i][1]);
        }
        test_layer_ops(n, il, &n->ops[1 + il * OPS_A_LAYER]);
    }
    n->ops[0] = (exo_op){.kind = EXO_OP_EMBED, .u.embed = {.out = SLOT_X, .table = n->table}};
    n->ops[N_OPS - 1] =
        (exo_op){.kind = EXO_OP_HEAD,
                 .u.head = {.in = SLOT_X, .norm = n->norm, .norm_eps = 1e-5f, .w = n->table}};
    exo_plan_desc pd = test_plan_desc(n);
    test_must(test_backend->plan_create(n->device, &pd, &n->plan, NULL) == EXO_OK);
    for (uint32_t i = 0; i < MAX_SEQS * SEQ_PAGES; i++) n->pages[i] = i * 7 % N_PAGES;
}

static inline void test_make_net(test_net *n, const char *isa, uint32_t n_threads, bool spin) {
    exo_device_desc desc = {.n_threads = n_threads, .isa = isa, .spin = spin};
    exo_device *device;
    test_must(test_backend->open(0, &desc, &device, NULL) == EXO_OK);
    test_make_net_on(n, device, test_mixed_types);
}

static inline void test_free_net_on(test_net *n) {
    test_backend->plan_destroy(n->plan);
    for (int il = 0; il < LAYERS; il++) {
        for (int i = 0; i < N_W; i++) test_backend->weight_destroy(n->device, n->w[il][i]);
        test_backend->deallocate(n->device, n->k_pages[il]);
        test_backend->deallocate(n->device, n->v_pages[il]);
    }
    test_backend->weight_destroy(n->device, n->table);
    test_backend->deallocate(n->device, n->norm);
    test_backend->deallocate(n->device, n->bias);
}

static inline void test_free_net(test_net *n) {
    test_free_net_on(n);
    test_backend->close(n->device);
}

static uint32_t test_n_prompt; /* positions of sequence 0 that have the class of prompts */

static inline exo_row test_row(uint32_t seq, uint32_t pos) {
    uint32_t flags = EXO_ROW_LOGITS | (seq == 0 && pos < test_n_prompt ? EXO_ROW_PROMPT : 0u);
    return (exo_row){seq, pos, (int32_t)((pos * 31 + seq * 17) % VOCAB), flags};
}

static float test_logits[TOKENS][VOCAB]; /* of sequence 0 */

/* Sequence 0 in steps of `chunk` rows; with_other: one row of sequence 1 goes before them. */
static inline uint64_t test_run_tokens(test_net *n, uint32_t chunk, bool with_other,
                                       uint32_t tokens) {
    static float out[MAX_ROWS][VOCAB];
    memset(test_logits, 0, sizeof test_logits);
    for (uint32_t pos = 0, step = 0; pos < tokens; pos += chunk, step++) {
        exo_row rows[MAX_ROWS];
        uint32_t first = 0, m = tokens - pos < chunk ? tokens - pos : chunk;
        if (with_other) rows[first++] = test_row(1, step);
        for (uint32_t i = 0; i < m; i++) rows[first + i] = test_row(0, pos + i);
        exo_plan_args args = {
            .rows = rows, .n_rows = first + m, .block_table = n->pages, .logits = &out[0][0]};
        exo_error err = {.message = ""};
        exo_status st = test_backend->plan_run(n->plan, &args, &err);
        if (st != EXO_OK) fprintf(stderr, "step at %u: %s\n", pos, err.message);
        test_must(st == EXO_OK);
        memcpy(test_logits[pos], out[first], m * sizeof test_logits[0]);
    }
    for (uint32_t i = 0; i < tokens * VOCAB; i++) test_must(isfinite((&test_logits[0][0])[i]));
    return test_hash(test_logits, tokens * sizeof test_logits[0], 0);
}

#endif
