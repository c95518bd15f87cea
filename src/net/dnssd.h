/* dnssd.h - DNS-SD through dns_sd.h: Bonjour on Apple systems, Avahi's compatibility library on
 * Linux, opened at run time.
 *
 * A thread of its own talks to the daemon, since the library may block; where no daemon answers
 * it tries again, ever more rarely.  Builds without dns_sd.h have dnssd_off.c instead.
 * Thread: ANY for the calls; found comes on the finder's thread. */
#ifndef EXO_NET_DNSSD_H
#define EXO_NET_DNSSD_H

#include "net/finder.h"

typedef struct exo_dnssd exo_dnssd;

/* EXO_EUNSUPPORTED: not in this build, or the library is not installed. */
exo_status exo_dnssd_start(const exo_advert *a, void (*found)(void *ud, const exo_found *f),
                           void *ud, exo_dnssd **out, exo_error *err);
void exo_dnssd_advertise(exo_dnssd *s, const exo_advert *a); /* from now on this instead */
void exo_dnssd_stop(exo_dnssd *s); /* waits for its thread; NULL is allowed */
/* "" while it works, else why not. */
void exo_dnssd_trouble(exo_dnssd *s, char out[EXO_ERROR_BYTES]);

#endif
