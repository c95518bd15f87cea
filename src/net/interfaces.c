/* interfaces.c - getifaddrs, on every system that exo runs on. */
#define _DEFAULT_SOURCE
#include "net/interfaces.h"

#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names that the usual software gives to what leads to no other machine of the LAN. */
static const char *const container_names[] = {"docker", "br-",   "virbr",  "lxcbr",
                                              "lxdbr",  "cni",   "podman", "flannel",
                                              "cali",   "vmnet", "veth",   "vnet"};
static const char *const vpn_names[] = {"tun", "tap", "wg",   "tailscale",
                                        "zt",  "ppp", "utun", "ipsec"};

static bool begins_with_one(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strncmp(name, list[i], strlen(list[i])) == 0) return true;
    }
    return false;
}

exo_interface_kind exo_interface_kind_of(const char *name, bool loopback, bool point_to_point) {
    if (loopback) return EXO_INTERFACE_LOOPBACK;
    if (begins_with_one(name, container_names, sizeof container_names / sizeof *container_names)) {
        return EXO_INTERFACE_CONTAINER;
    }
    bool vpn = begins_with_one(name, vpn_names, sizeof vpn_names / sizeof *vpn_names);
    return vpn || point_to_point ? EXO_INTERFACE_VPN : EXO_INTERFACE_LAN;
}

const char *exo_interface_kind_name(exo_interface_kind k) {
    switch (k) {
    case EXO_INTERFACE_LOOPBACK: return "loopback";
    case EXO_INTERFACE_CONTAINER: return "containers of this machine";
    case EXO_INTERFACE_VPN: return "VPN or tunnel";
    default: return "LAN";
    }
}

static bool take(const struct ifaddrs *a, exo_interface *out) {
    *out = (exo_interface){0};
    if (a->ifa_addr == NULL) return false;
    int family = a->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) return false;
    snprintf(out->name, sizeof out->name, "%s", a->ifa_name);
    out->index = if_nametoindex(a->ifa_name);
    out->v6 = family == AF_INET6;
    out->up = (a->ifa_flags & IFF_UP) != 0 && (a->ifa_flags & IFF_RUNNING) != 0;
    out->multicast = (a->ifa_flags & IFF_MULTICAST) != 0;
    out->kind = exo_interface_kind_of(a->ifa_name, (a->ifa_flags & IFF_LOOPBACK) != 0,
                                      (a->ifa_flags & IFF_POINTOPOINT) != 0);
    if (out->v6) {
        const struct sockaddr_in6 *sa = (const void *)a->ifa_addr;
        out->link_local = IN6_IS_ADDR_LINKLOCAL(&sa->sin6_addr);
        inet_ntop(AF_INET6, &sa->sin6_addr, out->host, sizeof out->host);
        if (out->link_local) {
            size_t n = strlen(out->host);
            snprintf(out->host + n, sizeof out->host - n, "%%%s", out->name);
        }
        return true;
    }
    const struct sockaddr_in *sa = (const void *)a->ifa_addr;
    const struct sockaddr_in *mask = (const void *)a->ifa_netmask;
    out->v4 = sa->sin_addr.s_addr;
    out->v4_mask = mask != NULL ? mask->sin_addr.s_addr : 0xFFFFFFFFu;
    inet_ntop(AF_INET, &sa->sin_addr, out->host, sizeof out->host);
    if ((a->ifa_flags & IFF_BROADCAST) != 0 && out->v4_mask != 0xFFFFFFFFu) {
        struct in_addr to = {.s_addr = out->v4 | ~out->v4_mask};
        inet_ntop(AF_INET, &to, out->broadcast, sizeof out->broadcast);
    }
    return true;
}

exo_status exo_interfaces_list(exo_interface *out, size_t cap, size_t *n, exo_error *err) {
    struct ifaddrs *all;
    *n = 0;
    if (getifaddrs(&all) != 0) {
        return exo_error_set(err, EXO_EIO, "cannot list network interfaces: %s", strerror(errno));
    }
    for (struct ifaddrs *a = all; a != NULL && *n < cap; a = a->ifa_next) {
        if (take(a, &out[*n])) (*n)++;
    }
    freeifaddrs(all);
    return EXO_OK;
}

bool exo_interface_usable(const exo_interface *i) {
    if (!i->up || i->kind == EXO_INTERFACE_LOOPBACK) return false;
    return i->v6 ? i->link_local && i->multicast : i->multicast || i->broadcast[0] != '\0';
}

const exo_interface *exo_interface_of(const exo_interface *list, size_t n, const char *host) {
    const char *zone = strchr(host, '%');
    struct in_addr v4;
    bool is_v4 = zone == NULL && inet_pton(AF_INET, host, &v4) == 1;
    for (size_t i = 0; i < n; i++) {
        const exo_interface *f = &list[i];
        if (zone != NULL && (strcmp(zone + 1, f->name) == 0 ||
                             strtoul(zone + 1, NULL, 10) == (unsigned long)f->index)) {
            return f;
        }
        if (is_v4 && !f->v6 && f->up && ((v4.s_addr ^ f->v4) & f->v4_mask) == 0) return f;
    }
    return NULL;
}
