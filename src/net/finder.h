/* finder.h - what ways of discovery other than the beacon have in common: DNS-SD, and the
 * platforms' own (Android NSD, Apple MultipeerConnectivity) by up-call.
 *
 * A finder is told what to advertise and reports what it finds; it does both on threads of its
 * own, so what it reports goes through a call that any thread may make. */
#ifndef EXO_NET_FINDER_H
#define EXO_NET_FINDER_H

#include "net/txt.h"

/* What to advertise: service type EXO_SERVICE_TYPE. */
typedef struct {
    char name[64]; /* of the service instance */
    uint16_t port;
    exo_txt txt;
} exo_advert;

/* One way to one node. */
typedef struct {
    char name[64];      /* of the service instance; "" = unknown */
    char host[64];      /* an IP address, IPv6 link-local with its zone */
    uint16_t port;      /* of the service */
    char interface[32]; /* "" = unknown */
    exo_txt txt;
} exo_found;

#endif
