/* interfaces.h - this machine's network interfaces, as discovery sees them.
 *
 * One entry per address; what kind of interface it is follows from flags and name.  Thread: ANY. */
#ifndef EXO_NET_INTERFACES_H
#define EXO_NET_INTERFACES_H

#include <exo/base.h>

#define EXO_INTERFACE_NAME_BYTES 32
#define EXO_MAX_INTERFACES       64

typedef enum {
    EXO_INTERFACE_LAN,
    EXO_INTERFACE_LOOPBACK,
    EXO_INTERFACE_CONTAINER, /* a bridge of this machine's containers or virtual machines */
    EXO_INTERFACE_VPN,
} exo_interface_kind;

typedef struct {
    char name[EXO_INTERFACE_NAME_BYTES];
    char host[64];      /* IPv6 link-local with its zone: "fe80::1%eth0" */
    char broadcast[64]; /* IPv4; "" = it has none */
    uint32_t index;
    uint32_t v4, v4_mask; /* network order; 0 for IPv6 */
    bool v6, link_local, up, multicast;
    exo_interface_kind kind;
} exo_interface;

/* At most cap of them, in the system's order; *n is 0 on failure. */
exo_status exo_interfaces_list(exo_interface *out, size_t cap, size_t *n, exo_error *err);
/* Beacons are sent there: up, no loopback, and able to reach more than one peer. */
bool exo_interface_usable(const exo_interface *i);
/* The interface that a sender's address belongs to: by zone, else by subnet; NULL = unknown. */
const exo_interface *exo_interface_of(const exo_interface *list, size_t n, const char *host);
exo_interface_kind exo_interface_kind_of(const char *name, bool loopback, bool point_to_point);
const char *exo_interface_kind_name(exo_interface_kind k);

#endif
