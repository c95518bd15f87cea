/* train.c - the arithmetic of train.h. */
#include "net/train.h"

#include "base/le.h"

#include <string.h>

#define MAGIC  0x544f5845u
#define FEWEST 4u

void exo_train_write(uint64_t token, uint32_t index, uint8_t out[EXO_TRAIN_BYTES]) {
    memset(out, 0, EXO_TRAIN_BYTES);
    exo_put_u32(out, MAGIC);
    exo_put_u16(out + 4, (uint16_t)index);
    exo_put_u64(out + 8, token);
}

bool exo_train_read(const void *bytes, size_t n, uint64_t *token, uint32_t *index) {
    const uint8_t *b = bytes;
    if (n != EXO_TRAIN_BYTES || exo_get_u32(b) != MAGIC || exo_get_u16(b + 6) != 0) return false;
    *index = exo_get_u16(b + 4);
    *token = exo_get_u64(b + 8);
    return true;
}

void exo_train_begin(exo_train *t, uint64_t token, uint32_t n_sent) {
    *t = (exo_train){.token = token, .n_sent = n_sent < EXO_TRAIN_LONG ? n_sent : EXO_TRAIN_LONG};
}

void exo_train_note(exo_train *t, uint64_t token, uint32_t index, uint32_t bytes, uint64_t at_us) {
    if (token != t->token || index >= t->n_sent) return;
    uint64_t bit = (uint64_t)1 << (index % 64);
    if ((t->seen[index / 64] & bit) != 0) return;
    t->seen[index / 64] |= bit;
    if (t->n_got++ == 0) {
        t->first_us = t->last_us = at_us;
        return;
    }
    t->bytes += bytes;
    if (at_us < t->first_us) t->first_us = at_us;
    if (at_us > t->last_us) t->last_us = at_us;
}

double exo_train_rate(const exo_train *t) {
    if (t->n_got < FEWEST || t->n_got < t->n_sent / 2) return 0;
    uint64_t us = t->last_us - t->first_us;
    return (double)t->bytes * 1e6 / (double)(us > 0 ? us : 1);
}
