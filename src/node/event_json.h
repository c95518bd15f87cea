/* event_json.h - an answer's events as they travel between nodes. */
#ifndef EXO_NODE_EVENT_JSON_H
#define EXO_NODE_EVENT_JSON_H

#include "base/hash.h"
#include "node/node.h"

json_t *exo_event_to_json(const exo_node_event *e); /* new reference; NULL without memory */

/* The event with the memory that it points into. */
typedef struct {
    exo_node_event event;
    uint8_t hash[EXO_SHA256_BYTES];
    exo_node_move move;
} exo_event_copy;
/* Strings are borrowed from m.  A message that makes no sense becomes a last event that says so. */
void exo_event_from_json(const json_t *m, exo_event_copy *out);

#endif
