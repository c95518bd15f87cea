/* redial.c - the waits between tries. */
#include "node/redial.h"

#define FIRST_MS     250u
#define RARE_MS      60000u /* the slowest rate: after so many tries in vain */
#define EAGER_TRIES  28u    /* two minutes */
#define FORGET_TRIES 40u    /* a quarter of an hour in vain */

void exo_redial_start(exo_redial *r, uint64_t at_ms, bool hearsay) {
    *r = (exo_redial){.at_ms = at_ms, .backoff_ms = FIRST_MS, .hearsay = hearsay};
}

void exo_redial_soon(exo_redial *r, uint64_t at_ms) {
    if (at_ms >= r->at_ms) return;
    r->at_ms = at_ms;
    r->backoff_ms = FIRST_MS;
}

bool exo_redial_ended(exo_redial *r, uint64_t now_ms) {
    bool lasted = r->opened_ms != 0 && now_ms - r->opened_ms >= EXO_REDIAL_MAX_MS;
    if (lasted) {
        r->backoff_ms = FIRST_MS;
        r->n_failed = 0;
    }
    r->opened_ms = 0;
    r->n_failed++;
    r->at_ms = now_ms + r->backoff_ms;
    uint32_t most = r->n_failed >= EAGER_TRIES ? RARE_MS : EXO_REDIAL_MAX_MS;
    r->backoff_ms = r->backoff_ms * 2 > most ? most : r->backoff_ms * 2;
    return lasted;
}

bool exo_redial_in_vain(const exo_redial *r) { return r->hearsay && r->n_failed >= FORGET_TRIES; }
