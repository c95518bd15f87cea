/* scheduler_reread.c - the KV of all sequences is lost: everything begins again from tokens.
 *
 * What a request is owed does not change: its tokens, its place in the order, its limits.  Steps
 * in flight are never answered, so the tokens that they would have drawn are drawn again, by the
 * same sampler from the same counters. */
#include "engine/scheduler_impl.h"

uint64_t exo_sched_reread(exo_sched *s) {
    for (uint32_t i = 0; i < s->n_in_flight; i++) {
        exo_step_due *step = &s->in_flight[(s->first_in_flight + i) % s->desc.max_in_flight];
        for (uint32_t k = 0; k < step->n_due; k++) {
            if (step->due[k].seq != NULL) step->due[k].seq->is_drawing = false;
        }
        step->n_due = 0;
    }
    s->n_in_flight = 0;
    while (s->running.oldest != NULL) {
        exo_seq *q = s->running.oldest;
        exo_sched_vacate(s, q);
        exo_seq_list_insert(&s->waiting, q);
    }
    exo_pages_reset(s->pages);
    return s->last_number;
}
