/* dnssd_off.c - builds without dns_sd.h: everything says so. */
#include "net/dnssd.h"

exo_status exo_dnssd_start(const exo_advert *a, void (*found)(void *ud, const exo_found *f),
                           void *ud, exo_dnssd **out, exo_error *err) {
    (void)a;
    (void)found;
    (void)ud;
    *out = NULL;
    return exo_error_set(err, EXO_EUNSUPPORTED, "this exo was built without DNS-SD");
}

void exo_dnssd_advertise(exo_dnssd *s, const exo_advert *a) {
    (void)s;
    (void)a;
}

void exo_dnssd_stop(exo_dnssd *s) { (void)s; }

void exo_dnssd_trouble(exo_dnssd *s, char out[EXO_ERROR_BYTES]) {
    (void)s;
    out[0] = '\0';
}
