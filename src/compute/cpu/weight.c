/* weight.c - packing by table: which words of a file block go to which place of a record.
 *
 * Both directions walk the same table, so unpacking is the inverse by construction.  Packing moves
 * four words of four rows at a time: reading a model in must not take longer than its bytes do.  A
 * word is four bytes of one row and lands at [word][row] of the record; a half is the block's f16
 * scale and lands at [row]; so does the one byte that scales an MXFP4 block.  Plain float types are
 * transposed element by element. */
#include "compute/cpu/weight.h"

#include "base/mem.h"
#include "compute/packed.h"

#include <string.h>

#define MAX_EDGE  (1u << 28) /* rows or columns of one matrix */
#define ALIGNMENT 64

typedef enum { QUANTS, SCALES } plane;

typedef struct {
    uint16_t src;   /* byte offset in the file block */
    uint16_t words; /* of four bytes */
    plane to;
    uint16_t dst; /* byte offset in the record */
} word_run;

typedef struct {
    uint16_t src, dst; /* dst in the scales record */
} half_run;

typedef struct {
    uint16_t quant_bytes, scale_bytes; /* one record: 16 rows of one block; 0 = type not packed */
    uint16_t n_words, n_halves;
    word_run words[3];
    half_run halves[2];
    bool first_byte; /* the block's first byte is a scale of its own, at [row] */
} layout;

/* A whole block but for its f16 scale, which comes first. */
#define CODEBOOK(n_words)                                                                          \
    { 64 * (n_words), 32, 1, 1, {{2, n_words, QUANTS, 0}}, {{0, 0}}, false }

static const layout layouts[EXO_DTYPE_LIMIT] = {
    [EXO_F32] = {.quant_bytes = 64},
    [EXO_F16] = {.quant_bytes = 32},
    [EXO_BF16] = {.quant_bytes = 32},
    [EXO_Q4_0] = {256, 32, 1, 1, {{2, 4, QUANTS, 0}}, {{0, 0}}, false},
    [EXO_Q4_1] = {256, 64, 1, 2, {{4, 4, QUANTS, 0}}, {{0, 0}, {2, 32}}, false},
    [EXO_Q5_0] = {320, 32, 2, 1, {{6, 4, QUANTS, 0}, {2, 1, QUANTS, 256}}, {{0, 0}}, false},
    [EXO_Q5_1] =
        {320, 64, 2, 2, {{8, 4, QUANTS, 0}, {4, 1, QUANTS, 256}}, {{0, 0}, {2, 32}}, false},
    [EXO_Q8_0] = {512, 32, 1, 1, {{2, 8, QUANTS, 0}}, {{0, 0}}, false},
    [EXO_IQ4_NL] = {256, 32, 1, 1, {{2, 4, QUANTS, 0}}, {{0, 0}}, false},
    [EXO_MXFP4] = {256, 16, 1, 0, {{1, 4, QUANTS, 0}}, {{0, 0}}, true},
    [EXO_Q2_K] =
        {1024, 320, 2, 2, {{16, 16, QUANTS, 0}, {0, 4, SCALES, 64}}, {{80, 0}, {82, 32}}, false},
    [EXO_Q3_K] = {1536,
                  224,
                  3,
                  1,
                  {{32, 16, QUANTS, 0}, {0, 8, QUANTS, 1024}, {96, 3, SCALES, 32}},
                  {{108, 0}},
                  false},
    [EXO_Q4_K] =
        {2048, 256, 2, 2, {{16, 32, QUANTS, 0}, {4, 3, SCALES, 64}}, {{0, 0}, {2, 32}}, false},
    [EXO_Q5_K] = {2560,
                  256,
                  3,
                  2,
                  {{48, 32, QUANTS, 0}, {16, 8, QUANTS, 2048}, {4, 3, SCALES, 64}},
                  {{0, 0}, {2, 32}},
                  false},
    [EXO_Q6_K] = {3072,
                  288,
                  3,
                  1,
                  {{0, 32, QUANTS, 0}, {128, 16, QUANTS, 2048}, {192, 4, SCALES, 0}},
                  {{208, 256}},
                  false},
    [EXO_IQ4_XS] =
        {2048, 128, 2, 2, {{8, 32, QUANTS, 0}, {4, 1, SCALES, 64}}, {{0, 0}, {2, 32}}, false},
    [EXO_IQ2_XXS] = CODEBOOK(16),
    [EXO_IQ2_XS] = CODEBOOK(18),
    [EXO_IQ2_S] = CODEBOOK(20),
    [EXO_IQ3_XXS] = CODEBOOK(24),
    [EXO_IQ3_S] = CODEBOOK(27),
    [EXO_IQ1_S] = CODEBOOK(12),
    [EXO_IQ1_M] = {896, 0, 1, 0, {{0, 14, QUANTS, 0}}, {{0, 0}}, false},
};

bool exo_weight_supported(exo_dtype type) {
    return (unsigned)type < EXO_DTYPE_LIMIT && layouts[type].quant_bytes != 0;
}

/* Four 32-bit words of each of four rows. */
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef uint16_t halves8 __attribute__((vector_size(16)));

static inline words4 load_words(const uint8_t *p) {
    words4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store_words(uint8_t *p, words4 v) { memcpy(p, &v, sizeof v); }

/* v[row] of four words becomes v[word] of four rows. */
static inline void transpose4(words4 v[4]) {
    words4 a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
    words4 b = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
    words4 c = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    words4 d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    v[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

/* n words of `rows` rows, `stride` bytes from one to the next; to [word][row]. */
static void pack_words(const uint8_t *src, size_t stride, uint32_t rows, uint32_t n, uint8_t *dst) {
    uint32_t k = 0;
    for (; rows == EXO_GROUP_ROWS && k + 4 <= n; k += 4) {
        for (uint32_t r = 0; r < EXO_GROUP_ROWS; r += 4) {
            words4 v[4];
            for (uint32_t i = 0; i < 4; i++) {
                v[i] = load_words(src + (r + i) * stride + (size_t)k * 4);
            }
            transpose4(v);
            for (uint32_t i = 0; i < 4; i++) {
                store_words(dst + (size_t)(k + i) * 64 + (size_t)r * 4, v[i]);
            }
        }
    }
    for (; k < n; k++) {
        for (uint32_t r = 0; r < rows; r++) {
            memcpy(dst + (size_t)k * 64 + (size_t)r * 4, src + r * stride + (size_t)k * 4, 4);
        }
    }
}

/* One block of `rows` rows. */
static void pack_blocks(const layout *l, const uint8_t *src, size_t stride, uint32_t rows,
                        uint8_t *quants, uint8_t *scales) {
    for (uint32_t i = 0; i < l->n_words; i++) {
        const word_run *run = &l->words[i];
        uint8_t *dst = (run->to == QUANTS ? quants : scales) + run->dst;
        pack_words(src + run->src, stride, rows, run->words, dst);
    }
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < l->n_halves; i++) {
            memcpy(scales + l->halves[i].dst + (size_t)r * 2, src + r * stride + l->halves[i].src,
                   2);
        }
        if (l->first_byte) scales[r] = src[r * stride];
    }
}

/* One row of one block. */
static void unpack_block(const layout *l, uint8_t *dst, const uint8_t *quants,
                         const uint8_t *scales, uint32_t r) {
    for (uint32_t i = 0; i < l->n_words; i++) {
        const word_run *run = &l->words[i];
        const uint8_t *src = (run->to == QUANTS ? quants : scales) + run->dst + (size_t)r * 4;
        for (uint32_t k = 0; k < run->words; k++) {
            memcpy(dst + run->src + (size_t)k * 4, src + (size_t)k * 64, 4);
        }
    }
    for (uint32_t i = 0; i < l->n_halves; i++) {
        memcpy(dst + l->halves[i].src, scales + l->halves[i].dst + (size_t)r * 2, 2);
    }
    if (l->first_byte) dst[0] = scales[r];
}

/* (16, n) halves to (n, 16), n a multiple of 8: transposed as pairs, which are then taken apart. */
static void transpose_halves(const uint8_t *src, size_t row_bytes, uint32_t n, uint8_t *dst) {
    for (uint32_t k = 0; k < n; k += 8) {
        for (uint32_t r = 0; r < EXO_GROUP_ROWS; r += 8) {
            words4 v[2][4];
            for (uint32_t i = 0; i < 8; i++) {
                v[i / 4][i % 4] = load_words(src + (r + i) * row_bytes + (size_t)k * 2);
            }
            transpose4(v[0]);
            transpose4(v[1]);
            for (uint32_t i = 0; i < 4; i++) {
                halves8 a = (halves8)v[0][i], b = (halves8)v[1][i];
                halves8 even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
                halves8 odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
                memcpy(dst + (size_t)(k + 2 * i) * 32 + (size_t)r * 2, &even, sizeof even);
                memcpy(dst + (size_t)(k + 2 * i + 1) * 32 + (size_t)r * 2, &odd, sizeof odd);
            }
        }
    }
}

/* (rows <= 16, n) elements of `size` bytes to (n, 16). */
static void transpose_group(const uint8_t *src, size_t row_bytes, uint32_t rows, uint32_t n,
                            size_t size, uint8_t *dst) {
    if (size == 4) {
        pack_words(src, row_bytes, rows, n, dst);
        return;
    }
    uint32_t whole = rows == EXO_GROUP_ROWS ? n / 8 * 8 : 0;
    transpose_halves(src, row_bytes, whole, dst);
    for (uint32_t k = whole; k < n; k++) {
        for (uint32_t r = 0; r < rows; r++) {
            memcpy(dst + ((size_t)k * EXO_GROUP_ROWS + r) * 2, src + r * row_bytes + k * 2u, 2);
        }
    }
}

typedef struct {
    const exo_weight *w;
    uint8_t *quants, *scales;
    const uint8_t *src;
    uint32_t n_threads;
} pack_job;

static void pack_groups(void *ud, uint32_t thread) {
    const pack_job *j = ud;
    const exo_weight *w = j->w;
    const layout *l = &layouts[w->type];
    const exo_dtype_info *info = exo_dtype_get(w->type);
    size_t row_bytes = exo_dtype_row_bytes(w->type, w->n_cols);
    uint32_t g0 = (uint32_t)((uint64_t)w->n_groups * thread / j->n_threads);
    uint32_t g1 = (uint32_t)((uint64_t)w->n_groups * (thread + 1) / j->n_threads);
    for (uint32_t g = g0; g < g1; g++) {
        const uint8_t *src = j->src + (size_t)g * EXO_GROUP_ROWS * row_bytes;
        uint32_t rows = w->n_rows - g * EXO_GROUP_ROWS;
        if (rows > EXO_GROUP_ROWS) rows = EXO_GROUP_ROWS;
        uint8_t *quants = j->quants + g * w->group_quants;
        uint8_t *scales = j->scales + g * w->group_scales;
        if (l->n_words == 0) {
            transpose_group(src, row_bytes, rows, w->n_cols, info->block_bytes, quants);
            continue;
        }
        for (uint32_t b = 0; b < w->n_blocks; b++) {
            pack_blocks(l, src + (size_t)b * info->block_bytes, row_bytes, rows,
                        quants + (size_t)b * l->quant_bytes, scales + (size_t)b * l->scale_bytes);
        }
    }
}

static exo_status check_shape(exo_dtype type, uint32_t n_rows, uint32_t n_cols, exo_error *err) {
    if (!exo_weight_supported(type)) {
        const exo_dtype_info *info = exo_dtype_get((uint32_t)type);
        return exo_error_set(err, EXO_EUNSUPPORTED, "the CPU backend has no kernels for %s weights",
                             info != NULL && info->name != NULL ? info->name : "unknown");
    }
    uint32_t block = exo_dtype_get(type)->block_elems;
    if (n_rows == 0 || n_cols == 0 || n_rows > MAX_EDGE || n_cols > MAX_EDGE) {
        return exo_error_set(err, EXO_EINVAL, "weight shape (%u, %u) is out of range", n_rows,
                             n_cols);
    }
    if (n_cols % block != 0) {
        return exo_error_set(err, EXO_EINVAL, "%u columns are not a multiple of the %s block of %u",
                             n_cols, exo_dtype_get(type)->name, block);
    }
    return EXO_OK;
}

/* A weight of this shape; its bytes are still to come. */
static exo_status shape_weight(exo_dtype type, uint32_t n_rows, uint32_t n_cols, exo_weight **out,
                               exo_error *err) {
    exo_status st = check_shape(type, n_rows, n_cols, err);
    if (st != EXO_OK) return st;
    exo_weight *w = exo_calloc(1, sizeof *w);
    if (w == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a weight");
    const layout *l = &layouts[type];
    w->type = type;
    w->n_rows = n_rows;
    w->n_cols = n_cols;
    w->n_groups = (n_rows + EXO_GROUP_ROWS - 1) / EXO_GROUP_ROWS;
    w->n_blocks = n_cols / exo_dtype_get(type)->block_elems;
    w->group_quants = (size_t)w->n_blocks * l->quant_bytes;
    w->group_scales = (size_t)w->n_blocks * l->scale_bytes;
    *out = w;
    return EXO_OK;
}

static size_t quants_bytes(const exo_weight *w) {
    return (w->n_groups * w->group_quants + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t all_bytes(const exo_weight *w) {
    return quants_bytes(w) + w->n_groups * w->group_scales;
}

static void place_planes(exo_weight *w, const uint8_t *base) {
    w->quants = base;
    w->scales = base + quants_bytes(w);
}

/* Before anything is written. */
static void place_memory(const exo_pool *pool, exo_weight *w) {
    const exo_node_split *split = exo_pool_split(pool);
    exo_place_units u = {.memory = w->memory, .bytes = w->memory_bytes, .n = w->n_groups};
    if (split->n <= 1) return;
    u.first = w->quants;
    u.unit_bytes = w->group_quants;
    exo_place_memory(split, &u);
    u.first = w->scales;
    u.unit_bytes = w->group_scales;
    if (u.unit_bytes > 0) exo_place_memory(split, &u);
}

exo_status exo_weight_pack(exo_pool *pool, exo_dtype type, uint32_t n_rows, uint32_t n_cols,
                           const void *src, exo_weight **out, exo_error *err) {
    exo_weight *w = NULL;
    *out = NULL;
    exo_status st = shape_weight(type, n_rows, n_cols, &w, err);
    if (st != EXO_OK) return st;
    w->memory_bytes = all_bytes(w);
    w->memory = exo_pages_alloc(w->memory_bytes);
    if (w->memory == NULL) {
        size_t bytes = w->memory_bytes;
        exo_free(w);
        return exo_error_set(err, EXO_ENOMEM, "no memory for %zu bytes of weights", bytes);
    }
    exo_pages_prefer_huge(w->memory, w->memory_bytes);
    uint8_t *base = w->memory;
    place_planes(w, base);
    place_memory(pool, w);
    pack_job job = {w, base, base + quants_bytes(w), src, exo_pool_threads(pool)};
    exo_pool_run(pool, pack_groups, &job);
    *out = w;
    return EXO_OK;
}

typedef struct {
    const uint8_t *bytes;
    size_t n_bytes, n_pieces;
    uint64_t *sums; /* (n_pieces) */
    uint32_t n_threads;
} sum_job;

static void sum_pieces(void *ud, uint32_t thread) {
    const sum_job *j = ud;
    for (size_t i = thread; i < j->n_pieces; i += j->n_threads) {
        j->sums[i] = exo_packed_piece_sum(j->bytes, j->n_bytes, i);
    }
}

/* exo_packed_sum() by all threads. */
static exo_status check_sum(exo_pool *pool, const exo_packed *p, exo_error *err) {
    sum_job j = {p->bytes, p->n_bytes, exo_packed_pieces(p->n_bytes), NULL, exo_pool_threads(pool)};
    j.sums = exo_malloc(j.n_pieces * sizeof *j.sums);
    if (j.sums == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a checksum");
    exo_pool_run(pool, sum_pieces, &j);
    uint64_t sum = exo_packed_join(j.sums, j.n_pieces);
    exo_free(j.sums);
    if (sum == p->sum) return EXO_OK;
    return exo_error_set(err, EXO_EFORMAT, "its checksum is wrong");
}

exo_status exo_weight_adopt(exo_pool *pool, const exo_packed *p, exo_weight **out, exo_error *err) {
    exo_weight *w = NULL;
    *out = NULL;
    exo_status st = shape_weight(p->type, p->n_rows, p->n_cols, &w, err);
    if (st != EXO_OK) return st;
    if (all_bytes(w) != p->n_bytes) {
        st = exo_error_set(err, EXO_EFORMAT, "%zu packed bytes instead of %zu", p->n_bytes,
                           all_bytes(w));
    }
    if (st == EXO_OK) st = check_sum(pool, p, err);
    if (st != EXO_OK) {
        exo_free(w);
        return st;
    }
    w->memory = (void *)p->bytes;
    w->memory_bytes = p->n_bytes;
    w->borrowed = true;
    place_planes(w, p->bytes);
    *out = w;
    return EXO_OK;
}

void exo_weight_free(exo_weight *w) {
    if (w == NULL) return;
    if (!w->borrowed) exo_pages_free(w->memory, w->memory_bytes);
    exo_free(w);
}

void exo_weight_block(const exo_weight *w, uint32_t row, uint32_t block, uint8_t *dst) {
    const layout *l = &layouts[w->type];
    uint32_t g = row / EXO_GROUP_ROWS, r = row % EXO_GROUP_ROWS;
    const uint8_t *quants = w->quants + g * w->group_quants + (size_t)block * l->quant_bytes;
    if (l->n_words == 0) {
        size_t size = l->quant_bytes / EXO_GROUP_ROWS;
        memcpy(dst, quants + r * size, size);
        return;
    }
    unpack_block(l, dst, quants, w->scales + g * w->group_scales + (size_t)block * l->scale_bytes,
                 r);
}

void exo_weight_unpack(const exo_weight *w, uint8_t *dst) {
    uint32_t bytes = exo_dtype_get(w->type)->block_bytes;
    for (uint32_t row = 0; row < w->n_rows; row++) {
        for (uint32_t b = 0; b < w->n_blocks; b++, dst += bytes) exo_weight_block(w, row, b, dst);
    }
}
