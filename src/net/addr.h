/* addr.h - "host:port" texts: how people and hello frames name a place to dial.
 *
 * IPv6 hosts stand in brackets ("[fe80::1%eth0]:5678").  Knows text and socket addresses, no
 * sockets and no resolver.  Thread: ANY. */
#ifndef EXO_NET_ADDR_H
#define EXO_NET_ADDR_H

#include <exo/base.h>

struct sockaddr;

#define EXO_HOST_BYTES 254 /* 253 characters is the longest DNS name */

typedef struct {
    char host[EXO_HOST_BYTES]; /* without brackets */
    uint16_t port;
} exo_addr;

/* EXO_EINVAL says what is missing: "node1" has no port. */
exo_status exo_addr_parse(const char *text, exo_addr *out, exo_error *err);
/* "host:port", with brackets where needed; false when it does not fit. */
bool exo_addr_format(const char *host, uint16_t port, char *out, size_t cap);
/* Host and port of a socket address; an IPv4 address in IPv6 clothing is shown as IPv4. */
void exo_addr_of(const struct sockaddr *sa, exo_addr *out);
/* "0.0.0.0" and "::" are where one listens, not where one dials. */
bool exo_addr_is_any(const char *host);

#endif
