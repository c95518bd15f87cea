/* scheduler_impl.h - the coordinator's data, shared by scheduler.c and scheduler_step.c.
 *
 * A request is one exo_seq from exo_sched_add() to exo_sched_end().  It moves between two lists,
 * waiting and running, both ordered by arrival; running means that it has a slot and holds the
 * pages of all its known tokens.  Nothing here is known to callers. */
#ifndef EXO_ENGINE_SCHEDULER_IMPL_H
#define EXO_ENGINE_SCHEDULER_IMPL_H

#include "engine/pages.h"
#include "engine/scheduler.h"

typedef struct exo_seq exo_seq;
struct exo_seq {
    uint64_t id;
    uint64_t arrival;         /* lower = older */
    exo_seq *older, *younger; /* neighbours in its list */
    bool is_running;
    bool is_drawing; /* the row that draws token n_tokens is in flight */
    bool is_full;    /* no further token fits */
    uint32_t slot;   /* while running */
    uint32_t n_prompt;
    uint32_t n_tokens; /* known: prompt and drawn */
    uint32_t n_rows;   /* positions [0, n_rows) came from the cache or were handed out */
    uint32_t n_reused; /* of them from the cache */
    uint32_t n_pages;  /* held: positions [0, 32 n_pages) */
    uint32_t n_whole;  /* of them whole and published, or found published */
    exo_prefix prefix; /* of those n_whole pages */
    int32_t *tokens;   /* (n_tokens of limit_tokens) */
    uint32_t *pages;   /* (n_pages of limit_pages) */
};

typedef struct {
    exo_seq *oldest, *youngest;
    uint32_t n;
} exo_seq_list;

/* A row in flight whose token is not known yet. */
typedef struct {
    exo_seq *seq; /* NULL: ended meanwhile */
    uint64_t id;
    uint32_t slot, pos; /* of the token to come */
} exo_draw_due;

typedef struct {
    uint64_t number;
    uint32_t n_due;
    exo_draw_due *due; /* (n_due of max_seqs), in row order */
} exo_step_due;

struct exo_sched {
    exo_sched_desc desc;   /* resolved */
    uint32_t limit_tokens; /* per sequence: by context and pool */
    uint32_t limit_pages;
    exo_pages *pages;
    exo_seq_list waiting, running;
    bool *slot_taken;        /* (max_seqs) */
    exo_step_due *in_flight; /* ring (max_in_flight) */
    uint32_t first_in_flight, n_in_flight;
    exo_draw_due *due; /* what the ring's entries point into */
    uint64_t last_number, last_arrival;
    uint64_t prefix_hit_tokens, preemptions;
};

static inline uint32_t exo_pages_for(uint32_t n_tokens) {
    return (n_tokens + EXO_KV_PAGE_TOKENS - 1) / EXO_KV_PAGE_TOKENS;
}

void exo_seq_list_insert(exo_seq_list *l, exo_seq *q); /* by arrival */
void exo_seq_list_remove(exo_seq_list *l, exo_seq *q);

/* Publishes what became whole, gives pages and slot back; the sequence is in no list then. */
void exo_sched_vacate(exo_sched *s, exo_seq *q);
/* What page i of q holds once it is whole: a position's class is fixed by the prompt's length. */
exo_page_content exo_sched_content(const exo_sched *s, const exo_seq *q, uint32_t i);
/* Makes the pages known that rows of earlier steps have filled. */
void exo_sched_publish(exo_sched *s, exo_seq *q);

#endif
