/* train.h - a train: datagrams sent back to back, whose arrival shows how fast a way carries.
 *
 *   offset  bytes  (little-endian)
 *   0       4      magic 0x544f5845 "EXOT"
 *   4       2      index in the train, from 0
 *   6       2      zero
 *   8       8      token: agreed on over a link, which proves who sends
 *   16      ...    zeros, up to EXO_TRAIN_BYTES
 *
 * The slowest piece of the way spreads the datagrams: what arrived after the first, over the time
 * between first and last, is its rate.  Loss costs precision, nothing else; the round trip does
 * not matter, and no congestion control gets in the way.
 * Pure: no socket, no clock.  Thread: ANY. */
#ifndef EXO_NET_TRAIN_H
#define EXO_NET_TRAIN_H

#include <exo/base.h>

#define EXO_TRAIN_BYTES 1200 /* passes every network whole */
#define EXO_TRAIN_SHORT 16
#define EXO_TRAIN_LONG  96 /* what a usual socket buffer holds */

typedef struct {
    uint64_t token;
    uint32_t n_sent, n_got; /* n_sent: as announced */
    uint64_t first_us, last_us;
    uint64_t bytes; /* behind the first, headers of UDP and IP included */
    uint64_t seen[(EXO_TRAIN_LONG + 63) / 64];
} exo_train;

void exo_train_write(uint64_t token, uint32_t index, uint8_t out[EXO_TRAIN_BYTES]);
/* False for anything that is no datagram of a train. */
bool exo_train_read(const void *bytes, size_t n, uint64_t *token, uint32_t *index);

/* n_sent is cut to EXO_TRAIN_LONG. */
void exo_train_begin(exo_train *t, uint64_t token, uint32_t n_sent);
/* A datagram arrived; one of another train, or that came before, changes nothing. */
void exo_train_note(exo_train *t, uint64_t token, uint32_t index, uint32_t bytes, uint64_t at_us);
/* Bytes per second; 0 = too few arrived to tell. */
double exo_train_rate(const exo_train *t);

#endif
