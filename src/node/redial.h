/* redial.h - when an address is dialled again, and when it is given up.
 *
 * Pure: times come in, nothing is called.  A try in vain doubles the wait, from 0.25 to 5 s; after
 * two minutes in vain it grows further, up to a minute.  A link that lasted makes the address as
 * good as new; one that broke at once was a try in vain.
 * Thread: ANY, one at a time per address. */
#ifndef EXO_NODE_REDIAL_H
#define EXO_NODE_REDIAL_H

#include <stdbool.h>
#include <stdint.h>

#define EXO_REDIAL_MAX_MS 5000u /* the slowest rate at first; a link that lasts so long is good */

typedef struct {
    uint64_t at_ms;     /* not before */
    uint64_t opened_ms; /* when its link opened; 0 = it is not open */
    uint32_t backoff_ms;
    uint32_t n_failed; /* tries since it was last open for a while */
    bool hearsay;      /* nobody gave it: forgotten when nobody answers there */
} exo_redial;

/* An address to be dialled at at_ms. */
void exo_redial_start(exo_redial *r, uint64_t at_ms, bool hearsay);
/* News of it: dialled at at_ms if that is sooner, and eagerly again. */
void exo_redial_soon(exo_redial *r, uint64_t at_ms);
/* Its link ended, or never opened.  True: the link had lasted. */
bool exo_redial_ended(exo_redial *r, uint64_t now_ms);
/* Nobody gave it, and nobody answered there for too long. */
bool exo_redial_in_vain(const exo_redial *r);

#endif
