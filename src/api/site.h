/* site.h - which web pages may use this API through their reader's browser.
 *
 * The API has no keys and listens on loopback, but a browser on this machine carries requests there
 * for any page.  A page of another site is told by its Origin; one whose name was pointed at
 * 127.0.0.1 afterwards (DNS rebinding) by its Host.  Programs send no Origin and name the machine
 * by address, as localhost or by a name without a dot, so they notice nothing.  Thread: ANY. */
#ifndef EXO_API_SITE_H
#define EXO_API_SITE_H

#include <exo/base.h>

/* Both as the request has them; NULL: it has none.  EXO_EINVAL says what is not accepted. */
exo_status exo_site_check(const char *host, const char *origin, exo_error *err);

#endif
