/* route.c - see route.h. */
#include "cluster/route.h"

#include <stdio.h>
#include <string.h>

exo_route_verdict exo_route_choose(exo_route_seat *r, const exo_route_sites *sites) {
    if (sites->instance == NULL && sites->peer != 0) {
        r->state = EXO_ROUTE_REMOTE;
        r->peer = sites->peer;
        return EXO_ROUTE_SEND;
    }
    if (sites->instance == NULL) return EXO_ROUTE_REVIVE;
    snprintf(r->instance, sizeof r->instance, "%s", sites->instance);
    r->state = sites->running ? EXO_ROUTE_LOCAL : EXO_ROUTE_WAITING;
    return sites->running ? EXO_ROUTE_RUN : EXO_ROUTE_NOTHING;
}

static exo_route_verdict cancel(const exo_route_seat *r) {
    switch (r->state) {
    case EXO_ROUTE_LOCAL: return EXO_ROUTE_CANCEL;
    case EXO_ROUTE_REMOTE: return EXO_ROUTE_CANCEL_REMOTE;
    default: return EXO_ROUTE_END;
    }
}

static bool waits_for(const exo_route_seat *r, const char *instance) {
    return r->state == EXO_ROUTE_WAITING && strcmp(r->instance, instance) == 0;
}

exo_route_verdict exo_route_step(exo_route_seat *r, const exo_route_event *e) {
    bool remote = r->state == EXO_ROUTE_REMOTE && r->peer == e->node;
    bool guest = r->guest_of != 0 && r->guest_of == e->node;
    switch (e->kind) {
    case EXO_ROUTE_INSTANCE_RUNS:
        if (!waits_for(r, e->instance)) break;
        r->state = EXO_ROUTE_LOCAL;
        return EXO_ROUTE_RUN;
    case EXO_ROUTE_INSTANCE_ENDED:
        if (waits_for(r, e->instance)) return EXO_ROUTE_END;
        break;
    case EXO_ROUTE_PEER_LOST:
        if (guest) return cancel(r);
        if (remote) return EXO_ROUTE_END;
        break;
    case EXO_ROUTE_CANCELED:
        if (r->handle == e->handle) return cancel(r);
        break;
    case EXO_ROUTE_GUEST_CANCELED:
        if (guest && r->their_handle == e->handle) return cancel(r);
        break;
    case EXO_ROUTE_EVENT:
        if (remote && r->handle == e->handle) return EXO_ROUTE_DELIVER;
        break;
    case EXO_ROUTE_STOPPED:
        if (r->state != EXO_ROUTE_LOCAL) return EXO_ROUTE_END;
        break;
    }
    return EXO_ROUTE_NOTHING;
}
