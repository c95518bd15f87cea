/* route.h - what becomes of an answer that was asked on a node, as decisions.
 *
 * A route is asked here, or is a guest: asked on a peer, computed here.  It waits for an instance,
 * runs on the coordinator of one of ours (local), or on that of a peer (remote).  Pure: something
 * happens, the verdict says what its holder is to do; src/node/routes.c and the simulator carry
 * out the very same verdicts.  An answer has exactly one last event: with a verdict that ends the
 * route, or from the coordinator that computes it.
 * Thread: one at a time. */
#ifndef EXO_CLUSTER_ROUTE_H
#define EXO_CLUSTER_ROUTE_H

#include "cluster/event.h"

typedef enum { EXO_ROUTE_WAITING, EXO_ROUTE_LOCAL, EXO_ROUTE_REMOTE } exo_route_state;

/* All-zero memory, and its handle, is a route that has just been asked. */
typedef struct {
    exo_route_state state;
    uint64_t handle;                           /* its name on this node */
    char instance[EXO_CLUSTER_INSTANCE_BYTES]; /* WAITING, LOCAL: whose */
    uint64_t peer;                             /* REMOTE: the coordinator's node */
    uint64_t guest_of;                         /* the node that it was asked on; 0 = this one */
    uint64_t their_handle;                     /* and its name there */
} exo_route_seat;

typedef enum {
    EXO_ROUTE_NOTHING,
    EXO_ROUTE_REVIVE,        /* no instance of the model runs: start one, then choose again */
    EXO_ROUTE_RUN,           /* give it to the coordinator of `instance` */
    EXO_ROUTE_SEND,          /* send it to `peer` */
    EXO_ROUTE_END,           /* its last event is the error at hand; drop it */
    EXO_ROUTE_CANCEL,        /* tell the coordinator of `instance`; the last event comes from it */
    EXO_ROUTE_CANCEL_REMOTE, /* tell `peer`, then as EXO_ROUTE_END */
    EXO_ROUTE_DELIVER,       /* hand the event to whoever asked; drop the route with the last one */
} exo_route_verdict;

/* Where the model is: an instance of ours, else a peer that says it runs one (0 = nobody). */
typedef struct {
    const char *instance; /* NULL = none */
    bool running;
    uint64_t peer;
} exo_route_sites;
exo_route_verdict exo_route_choose(exo_route_seat *r, const exo_route_sites *sites);

typedef enum {
    EXO_ROUTE_INSTANCE_RUNS,  /* instance */
    EXO_ROUTE_INSTANCE_ENDED, /* instance; what runs on it hears so from its coordinator */
    EXO_ROUTE_PEER_LOST,      /* node */
    EXO_ROUTE_CANCELED,       /* handle: whoever asked here wants it no longer */
    EXO_ROUTE_GUEST_CANCELED, /* node, handle: the same of a guest, as its node calls it */
    EXO_ROUTE_EVENT,          /* node, handle: that node sent an event of the answer */
    EXO_ROUTE_STOPPED,        /* the node ends; what is local has ended by then */
} exo_route_happening;

typedef struct {
    exo_route_happening kind;
    const char *instance;
    uint64_t node, handle;
} exo_route_event;
exo_route_verdict exo_route_step(exo_route_seat *r, const exo_route_event *e);

#endif
