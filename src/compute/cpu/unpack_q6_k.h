/* unpack_q6_k.h - Q6_K in the unpacked form (unpack.h), where many columns are worth it: its own
 * kernels take every word apart once for each tile of columns. */
static EXO_NOINLINE void unpack_q6_k(unpacked *u, const exo_weight *w, uint32_t g, uint32_t b,
                                     uint32_t n) {
    const uint8_t *q = quants_at(w, g, b, 3072), *s = scales_at(w, g, b, 288);
    (void)n;
    ahead(q, 3072);
    for (int r = 0; r < EXO_GROUP_ROWS; r += BV_ROWS) {
        EXO_UNROLL for (int i = 0; i < 16; i++) { /* words of the high bits: 8 a half */
            bv high = bv_load(q + 2048 + i * 64 + r * 4);
            EXO_UNROLL for (int k = 0; k < 4; k++) { /* quarters of a half */
                bv low = bv_load(q + i / 8 * 1024 + (k % 2 * 8 + i % 8) * 64 + r * 4);
                bv top = bv_and(k == 3 ? bv_shr(high, 2) : bv_shl(high, 4 - 2 * k), bv_bytes(0x30));
                bv v = bv_sub8(bv_or(nibbles(low, k / 2), top), bv_bytes(32));
                put_words(u, i / 8 * 32 + k * 8 + i % 8, r, v);
            }
        }
        EXO_UNROLL for (int i = 0; i < 4; i++) {
            put_scales16(u, 4 * i, r, bv_load(s + i * 64 + r * 4));
        }
        put_halves(u->d[0], s + 256, r);
    }
}
