/* unpacked_one_avx2.c - the types of unpacked.h times one column, with AVX2: decoding.
 *
 * With one column there is nothing to share what is unpacked with, so quants go from memory into
 * products at once.  They stay unsigned, as vpmaddubsw wants them, and their offset comes off as
 * a sum over activations; the values of IQ4_NL and IQ4_XS are too large for that (one pair of
 * 127 * 127 fits int16, two do not) and lose their sign to the activations.  All of it is integers
 * that fit: the bits are unpacked.h's.
 *
 * Loops over a record stay loops: unrolled, each load steps by whole records, which the hardware's
 * prefetching does not follow. */
#include "compute/cpu/matmul_x86.h"

#include "compute/blocks_iq.h"
#include "compute/cpu/tile_avx2.h"

#define MAX_R 2 /* streams side by side: as in tile_drive.h */

/* Bytes ahead in the quants, as measured on Zen 2; LARGE_AHEAD is in records of 256 elements. */
#define SMALL_AHEAD 640
#define LARGE_AHEAD 2

EXO_INLINE void ahead(const uint8_t *p, const int lines) {
    EXO_UNROLL for (int i = 0; i < lines; i++) {
        _mm_prefetch((const char *)p + i * 64, _MM_HINT_T0);
    }
}

EXO_INLINE __m256i table_of(const int8_t t[16]) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)t));
}

EXO_INLINE __m256i nibbles(__m256i v, const int high) {
    return _mm256_and_si256(high ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
}

EXO_INLINE void store(const exo_tile *t, __m256 f[MAX_R][2], const int R) {
    EXO_UNROLL for (int r = 0; r < R; r++) {
        _mm256_storeu_ps(t->y + r * t->gy, f[r][0]);
        _mm256_storeu_ps(t->y + r * t->gy + 8, f[r][1]);
    }
}

EXO_INLINE void clear(__m256 f[MAX_R][2], const int R) {
    EXO_UNROLL for (int r = 0; r < R; r++) f[r][0] = f[r][1] = _mm256_setzero_ps();
}

/* f + isum * (dw * dx) */
EXO_INLINE __m256 scale_add(__m256 f, __m256i isum, __m256 dw, __m256 dx) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(dw, dx), f);
}

/* ---- blocks of 32 ---- */

typedef enum { PLAIN, FIFTH, CODES, WIDE_CODES } quants;

typedef struct {
    uint32_t quant_bytes, scale_bytes; /* of a record */
    quants kind;
    int offset; /* of the quants */
    bool minima;
} small_type;

/* Of words t (bits 4t to 4t + 3 of a row): the byte they are in, and their bits. */
#define FOUR(x)  x, x, x, x
#define WHERE(b) FOUR(b), FOUR((b) + 4), FOUR((b) + 8), FOUR((b) + 12)
static const int8_t fifth_byte[4][16] = {{WHERE(0)}, {WHERE(1)}, {WHERE(2)}, {WHERE(3)}};
#undef FOUR
#undef WHERE

/* 0x10 in each byte of word t whose fifth bit is set; bits: those of 8 rows. */
EXO_INLINE __m256i fifth_bits(__m256i bits, const int t) {
    __m256i mask = _mm256_set1_epi32(t % 2 == 0 ? 0x08040201 : (int)0x80402010);
    __m256i at = _mm256_shuffle_epi8(bits, table_of(fifth_byte[t / 2]));
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(at, mask), mask);
    return _mm256_and_si256(set, _mm256_set1_epi8(0x10));
}

/* The bits of exo_mxfp4_scale(e) of 8 rows: e < 2 are denormal. */
EXO_INLINE __m256 mxfp4_scales(const uint8_t *s) {
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)s));
    __m256i one = _mm256_set1_epi32(1);
    __m256i small = _mm256_slli_epi32(_mm256_add_epi32(e, one), 21);
    __m256i large = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(small, large, _mm256_cmpgt_epi32(e, one)));
}

/* Sums of word j of the low and the high nibbles. */
EXO_INLINE void small_word(const uint8_t *q, const int8_t *x, const int j, __m256i bits[2],
                           __m256i values, __m256i sum[2][2], const quants kind) {
    __m256i xv[2] = {spread4(x + j * 4), spread4(x + 16 + j * 4)};
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256i z = load(q + j * 64 + h * 32);
        EXO_UNROLL for (int k = 0; k < 2; k++) {
            __m256i v = nibbles(z, k);
            if (kind == FIFTH) v = _mm256_or_si256(v, fifth_bits(bits[h], j + 4 * k));
            if (kind >= CODES) v = _mm256_shuffle_epi8(values, v);
            if (kind == WIDE_CODES) {
                __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(xv[k], v));
                p = _mm256_madd_epi16(p, _mm256_set1_epi16(1));
                sum[h][k] = in_order(_mm256_add_epi32(sum[h][k], p));
            } else {
                __m256i p = _mm256_maddubs_epi16(v, xv[k]);
                sum[h][k] = in_order(_mm256_add_epi16(sum[h][k], p));
            }
        }
    }
}

/* The dot products of one block of both halves of a group.  Four pair sums of 31 * 127 * 2 fit
 * int16. */
EXO_INLINE void small_dots(const uint8_t *q, const int8_t *x, __m256i values, __m256i dot[2],
                           const quants kind) {
    __m256i sum[2][2], bits[2];
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        sum[h][0] = sum[h][1] = _mm256_setzero_si256();
        bits[h] = kind == FIFTH ? load(q + 256 + h * 32) : sum[h][0];
    }
    if (kind == FIFTH) {
        EXO_UNROLL for (int j = 0; j < 4; j++) small_word(q, x, j, bits, values, sum, kind);
    } else {
        EXO_NO_UNROLL for (int j = 0; j < 4; j++) small_word(q, x, j, bits, values, sum, kind);
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        EXO_UNROLL for (int k = 0; k < 2 && kind != WIDE_CODES; k++) {
            sum[h][k] = _mm256_madd_epi16(sum[h][k], _mm256_set1_epi16(1));
        }
        dot[h] = _mm256_add_epi32(sum[h][0], sum[h][1]);
    }
}

EXO_INLINE void tile_small(const exo_tile t, const int R, const int8_t *table,
                           const small_type type) {
    const uint8_t *q = t.q, *s = t.s;
    const int8_t *x = t.x;
    __m256i values = _mm256_setzero_si256();
    __m256 f[MAX_R][2];
    if (type.kind >= CODES) {
        values = _mm256_add_epi8(table_of(table), _mm256_set1_epi8((char)type.offset));
    }
    clear(f, R);
    for (uint32_t b = 0; b < t.n_blocks; b++) {
        __m256 dx = _mm256_set1_ps(t.d[b]);
        EXO_UNROLL for (int r = 0; r < R; r++) {
            ahead(q + r * t.gq + SMALL_AHEAD, type.kind == FIFTH ? 5 : 4);
            __m256i dot[2], off = _mm256_set1_epi32(t.sum32[b] * type.offset);
            small_dots(q + r * t.gq, x, values, dot, type.kind);
            EXO_UNROLL for (int h = 0; h < 2; h++) {
                const uint8_t *sh = s + r * t.gs + h * 16;
                __m256 dw = type.kind == CODES ? mxfp4_scales(s + r * t.gs + h * 8) : load_f16(sh);
                if (type.offset != 0) dot[h] = _mm256_sub_epi32(dot[h], off);
                f[r][h] = scale_add(f[r][h], dot[h], dw, dx);
                if (!type.minima) continue; /* which are addends: minima turned */
                f[r][h] = scale_add(f[r][h], _mm256_set1_epi32(t.sum32[b]), load_f16(sh + 32), dx);
            }
        }
        q += type.quant_bytes;
        s += type.scale_bytes;
        x += 32;
    }
    store(&t, f, R);
}

#define SMALL(name, table, ...)                                                                    \
    EXO_INLINE void tile_##name(const exo_tile t, const int R, const int N) {                      \
        const small_type type = {__VA_ARGS__};                                                     \
        (void)N;                                                                                   \
        tile_small(t, R, table, type);                                                             \
    }
SMALL(q4_1, NULL, 256, 64, PLAIN, 0, true)
SMALL(q5_0, NULL, 320, 32, FIFTH, 16, false)
SMALL(q5_1, NULL, 320, 64, FIFTH, 0, true)
SMALL(iq4_nl, exo_iq4_values, 256, 32, WIDE_CODES, 0, false)
SMALL(mxfp4, exo_mxfp4_values, 256, 16, CODES, 12, false)
#undef SMALL

/* ---- blocks of 256: Q2_K, Q3_K ---- */

/* The 16 scales of each row as int16: [even or odd][word]. */
typedef struct {
    __m256i of[2][4];
} scales16;

EXO_INLINE void put_scales(scales16 *to, const int word, __m256i v) {
    to->of[0][word] = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
    to->of[1][word] = _mm256_srai_epi16(v, 8);
}

/* The lower or the upper int16 of each row, twice. */
EXO_INLINE __m256i twice(__m256i v, const int upper) {
    const __m128i low = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    __m128i at = _mm_add_epi8(low, _mm_set1_epi8((char)(2 * upper)));
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(at));
}

/* sum scale_j * sum_j over the 16 sub-blocks. */
EXO_INLINE __m256i sums16(const scales16 *scale, const int16_t *sums) {
    __m256i m = _mm256_setzero_si256();
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        EXO_UNROLL for (int odd = 0; odd < 2; odd++) {
            __m256i both = spread4(sums + 8 + i * 4 + odd * 2);
            m = _mm256_add_epi32(m, _mm256_madd_epi16(scale->of[odd][i], both));
        }
    }
    return m;
}

/* Quarter k of a half, whose 2 bits stay where they are in odd quarters: four times their value.
 * `high` may have a third one: bit k. */
EXO_INLINE __m256i quarter(__m256i low, __m256i high, const int k, const bool third) {
    const int up = k % 2 * 2, left = 2 + up - k;
    __m256i v = k < 2 ? low : _mm256_srli_epi16(low, 4);
    v = _mm256_and_si256(v, _mm256_set1_epi8((char)(3 << up)));
    if (!third) return v;
    high = _mm256_and_si256(_mm256_slli_epi16(high, left), _mm256_set1_epi8((char)(4 << up)));
    return _mm256_or_si256(v, high);
}

/* isum[k % 2] += sum sc_j * dot_j over one sub-block of each quarter k of a half, 8 rows; x at it;
 * the third bits, if any, from bit `by` on.  Four pair sums of 4 * 7 * 127 * 2 fit int16. */
EXO_INLINE void quarter_dots(const uint8_t *low, const uint8_t *high, const int8_t *x,
                             const __m256i scale[2], __m256i isum[2], const __m256i by,
                             const bool third) {
    __m256i v[4];
    EXO_UNROLL for (int k = 0; k < 4; k++) v[k] = _mm256_setzero_si256();
    EXO_UNROLL for (int i = 0; i < 4; i++) {
        __m256i l = load(low + i * 64), h = l;
        if (third) h = _mm256_srlv_epi32(load(high + i * 64), by);
        EXO_UNROLL for (int k = 0; k < 4; k++) {
            __m256i q = quarter(l, h, k, third);
            __m256i p = _mm256_maddubs_epi16(q, spread4(x + k * 32 + i * 4));
            v[k] = in_order(_mm256_add_epi16(v[k], p));
        }
    }
    EXO_UNROLL for (int k = 0; k < 4; k++) {
        __m256i p = _mm256_madd_epi16(v[k], twice(scale[k / 2], k % 2));
        isum[k % 2] = in_order(_mm256_add_epi32(isum[k % 2], p));
    }
}

/* The whole super-block of both halves of a group. */
EXO_INLINE void quarters_block(const uint8_t *q, const int8_t *x, const scales16 scale[2],
                               __m256i isum[2], const bool third) {
    __m256i part[2][2];
    EXO_UNROLL for (int h = 0; h < 2; h++) part[h][0] = part[h][1] = _mm256_setzero_si256();
    EXO_NO_UNROLL for (int e = 0; e < 4; e++) { /* sub-block e % 2 of the quarters of half e / 2 */
        const __m256i by = _mm256_set1_epi32(e / 2 * 4);
        const int bytes = third ? 384 : 256;
        ahead(q + 4 * bytes * LARGE_AHEAD + e * bytes, bytes / 64);
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            const uint8_t *low = q + e * 256 + h * 32, *high = q + 1024 + e % 2 * 256 + h * 32;
            quarter_dots(low, high, x + e / 2 * 128 + e % 2 * 16, &scale[h].of[e % 2][e / 2 * 2],
                         part[h], by, third);
        }
    }
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        isum[h] = _mm256_add_epi32(part[h][0], _mm256_srai_epi32(part[h][1], 2));
    }
}

EXO_INLINE void q2_k_block(const exo_tile *t, int r, uint32_t b, __m256 f[2]) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 1024;
    const uint8_t *s = t->s + r * t->gs + (size_t)b * 320;
    scales16 scale[2], min;
    __m256i isum[2], m[2];
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            __m256i v = load(s + 64 + i * 64 + h * 32);
            put_scales(&scale[h], i, nibbles(v, 0));
            put_scales(&min, i, nibbles(v, 1));
        }
        m[h] = sums16(&min, t->sums + b * EXO_Q256_SUMS);
    }
    quarters_block(q, t->x + b * 256, scale, isum, false);
    __m256 dx = _mm256_set1_ps(t->d[b]);
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256 dmin = _mm256_mul_ps(load_f16(s + 32 + h * 16), dx);
        f[h] = scale_add(f[h], isum[h], load_f16(s + h * 16), dx);
        f[h] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m[h]), dmin, f[h]);
    }
}

EXO_INLINE void q3_k_block(const exo_tile *t, int r, uint32_t b, __m256 f[2]) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 1536;
    const uint8_t *s = t->s + r * t->gs + (size_t)b * 224;
    scales16 scale[2];
    __m256i isum[2], off[2];
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        __m256i top = load(s + 160 + h * 32);
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            __m256i low = nibbles(load(s + 32 + i % 2 * 64 + h * 32), i / 2);
            __m256i high = i == 3 ? _mm256_srli_epi16(top, 2) : _mm256_slli_epi16(top, 4 - 2 * i);
            high = _mm256_and_si256(high, _mm256_set1_epi8(0x30));
            low = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
            put_scales(&scale[h], i, low);
        }
        off[h] = _mm256_slli_epi32(sums16(&scale[h], t->sums + b * EXO_Q256_SUMS), 2);
    }
    quarters_block(q, t->x + b * 256, scale, isum, true);
    __m256 dx = _mm256_set1_ps(t->d[b]);
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        f[h] = scale_add(f[h], _mm256_sub_epi32(isum[h], off[h]), load_f16(s + h * 16), dx);
    }
}

/* ---- IQ4_XS ---- */

EXO_INLINE void iq4_xs_block(const exo_tile *t, int r, uint32_t b, __m256 f[2]) {
    const uint8_t *q = t->q + r * t->gq + (size_t)b * 2048;
    const uint8_t *s = t->s + r * t->gs + (size_t)b * 128;
    const int8_t *x = t->x + b * 256;
    const __m256i values = table_of(exo_iq4_values);
    const __m256i both = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));
    __m256i low[2], high[2], isum[2];
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        const uint8_t *top = s + 32 + h * 16;
        low[h] = load(s + 64 + h * 32);
        high[h] = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)top));
        isum[h] = _mm256_setzero_si256();
    }
    EXO_NO_UNROLL for (int j = 0; j < 8; j++, q += 256, x += 32) {
        ahead(q + LARGE_AHEAD * 2048, 4);
        EXO_UNROLL for (int h = 0; h < 2; h++) {
            __m256i scale = _mm256_and_si256(low[h], _mm256_set1_epi32(15));
            __m256i top = _mm256_and_si256(_mm256_slli_epi32(high[h], 4), _mm256_set1_epi32(0x30));
            scale = _mm256_sub_epi32(_mm256_or_si256(scale, top), _mm256_set1_epi32(32));
            scale = _mm256_shuffle_epi8(scale, both);
            low[h] = _mm256_srli_epi32(low[h], 4);
            high[h] = _mm256_srli_epi32(high[h], 2);
            EXO_UNROLL for (int i = 0; i < 4; i++) {
                __m256i z = load(q + i * 64 + h * 32);
                EXO_UNROLL for (int k = 0; k < 2; k++) {
                    __m256i v = _mm256_shuffle_epi8(values, nibbles(z, k));
                    __m256i xv = _mm256_sign_epi8(spread4(x + k * 16 + i * 4), v);
                    __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(v), xv);
                    p = _mm256_madd_epi16(p, scale);
                    isum[h] = in_order(_mm256_add_epi32(isum[h], p));
                }
            }
        }
    }
    __m256 dx = _mm256_set1_ps(t->d[b]);
    EXO_UNROLL for (int h = 0; h < 2; h++) {
        f[h] = scale_add(f[h], isum[h], load_f16(s + h * 16), dx);
    }
}

#define LARGE(name)                                                                                \
    EXO_INLINE void tile_##name(const exo_tile t, const int R, const int N) {                      \
        __m256 f[MAX_R][2];                                                                        \
        (void)N;                                                                                   \
        clear(f, R);                                                                               \
        for (uint32_t b = 0; b < t.n_blocks; b++) {                                                \
            EXO_UNROLL for (int r = 0; r < R; r++) name##_block(&t, r, b, f[r]);                   \
        }                                                                                          \
        store(&t, f, R);                                                                           \
    }
LARGE(q2_k)
LARGE(q3_k)
LARGE(iq4_xs)
#undef LARGE

/* ---- the kernels, by type: how many streams of each, measured on Zen 2 ---- */

#define ONE(name, R)                                                                               \
    EXO_TILE(name, tile_##name, 1, 1)                                                              \
    EXO_TILE_STREAM(name, tile_##name, R)
ONE(q4_1, 2)
ONE(q5_0, 2)
ONE(q5_1, 2)
ONE(iq4_nl, 2)
ONE(mxfp4, 2)
ONE(q2_k, 1)
ONE(q3_k, 1)
ONE(iq4_xs, 1)
#undef ONE

bool exo_avx2_unpacked_one(const exo_matmul_task *t) {
    static void (*const streams[EXO_DTYPE_LIMIT])(const exo_matmul_task *t) = {
        [EXO_Q4_1] = q4_1_stream,     [EXO_Q5_0] = q5_0_stream,       [EXO_Q5_1] = q5_1_stream,
        [EXO_IQ4_NL] = iq4_nl_stream, [EXO_MXFP4] = mxfp4_stream,     [EXO_Q2_K] = q2_k_stream,
        [EXO_Q3_K] = q3_k_stream,     [EXO_Q5_K] = exo_avx2_q5_k_one, [EXO_IQ4_XS] = iq4_xs_stream,
    };
    if (t->n != 1 || streams[t->w->type] == NULL) return false;
    streams[t->w->type](t);
    return true;
}
