/* head.h - what a step may ask of a row of logits instead of reading it.
 *
 * Most draws need a handful of ids out of a hundred thousand: a device that is not the host finds
 * them where the logits are.  An answer holds every id that reaches a bound, with the bits of its
 * logit, so whoever asked can decide exactly, or see that it cannot and read the whole row.
 * Thread: ANY. */
#ifndef EXO_COMPUTE_HEAD_H
#define EXO_COMPUTE_HEAD_H

#include <exo/base.h>

#define EXO_HEAD_MAX_IDS 256 /* that an answer has room for */
#define EXO_HEAD_MAX_ASK 128 /* that can be asked for */

/* A computed total is within this share of the exact one: exp to 2e-7, arguments to 2e-6, and at
 * most 1024 + 512 additions of f32 in a row. */
#define EXO_HEAD_TOTAL_ERROR 2e-4
/* A score is off by no more than this much and this share of its logit / T and noise (< 40): f32
 * arithmetic with logarithms to 1e-6. */
#define EXO_HEAD_SCORE_ERROR 1e-4
#define EXO_HEAD_SCORE_SHARE 4e-6

typedef enum {
    EXO_HEAD_LOGITS,  /* nothing: the row's logits are wanted */
    EXO_HEAD_HIGHEST, /* the ids of the highest logits */
    EXO_HEAD_SCORES,  /* the ids of the highest logit / T + noise of engine/gumbel.h */
} exo_head_kind;

typedef struct {
    exo_head_kind kind;
    uint32_t n_ids; /* at least so many, 1 to EXO_HEAD_MAX_ASK; more come where values are equal */
    bool total;     /* the sum of all exp(logit - highest) is wanted, too */
    float temperature; /* SCORES: > 0, and the key and counter of the noise */
    uint64_t seed;
    uint32_t choice, position;
} exo_head_ask;

typedef struct {
    uint32_t n_found; /* ids that reach the bound; more than EXO_HEAD_MAX_IDS: some are missing */
    float bound;      /* of the logit or the score */
    float highest;    /* logit */
    float total;      /* sum of exp(logit - highest), where asked */
    int32_t ids[EXO_HEAD_MAX_IDS]; /* (n_found) in any order */
    float logits[EXO_HEAD_MAX_IDS];
} exo_head_top;

#endif
