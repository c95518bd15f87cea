/* addr.c - parsing and printing of addr.h. */
#define _POSIX_C_SOURCE 200809L
#include "net/addr.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static exo_status bad(const char *text, const char *what, exo_error *err) {
    return exo_error_set(err, EXO_EINVAL,
                         "\"%.100s\" is no address: %s (HOST:PORT or [IPV6]:PORT is expected)",
                         text, what);
}

static bool parse_port(const char *s, uint16_t *out) {
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 5 || s[n] != '\0') return false;
    unsigned long v = strtoul(s, NULL, 10);
    *out = (uint16_t)v;
    return v > 0 && v <= UINT16_MAX;
}

exo_status exo_addr_parse(const char *text, exo_addr *out, exo_error *err) {
    *out = (exo_addr){0};
    exo_addr a = {0};
    const char *host = text, *end;
    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (end == NULL) return bad(text, "\"]\" is missing", err);
        if (end[1] != ':') return bad(text, "the port is missing", err);
    } else {
        end = strchr(text, ':');
        if (end == NULL) return bad(text, "the port is missing", err);
        if (strchr(end + 1, ':') != NULL) return bad(text, "IPv6 needs brackets", err);
    }
    size_t n = (size_t)(end - host);
    if (n == 0) return bad(text, "the host is missing", err);
    if (n >= sizeof a.host) return bad(text, "the host is too long", err);
    memcpy(a.host, host, n);
    if (!parse_port(end + (*text == '[' ? 2 : 1), &a.port)) {
        return bad(text, "the port is not between 1 and 65535", err);
    }
    *out = a;
    return EXO_OK;
}

bool exo_addr_format(const char *host, uint16_t port, char *out, size_t cap) {
    bool v6 = strchr(host, ':') != NULL;
    int n = snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)port);
    return n > 0 && (size_t)n < cap;
}

void exo_addr_of(const struct sockaddr *sa, exo_addr *out) {
    static const char mapped[] = "::ffff:";
    *out = (exo_addr){0};
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)sa;
        uv_ip4_name(v4, out->host, sizeof out->host);
        out->port = ntohs(v4->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)sa;
        uv_ip6_name(v6, out->host, sizeof out->host);
        out->port = ntohs(v6->sin6_port);
        size_t skip = sizeof mapped - 1;
        if (strncmp(out->host, mapped, skip) == 0 && strchr(out->host, '.') != NULL) {
            memmove(out->host, out->host + skip, strlen(out->host + skip) + 1);
        } else if (v6->sin6_scope_id != 0) { /* link-local: useless without its interface */
            size_t used = strlen(out->host), n = UV_IF_NAMESIZE;
            char name[UV_IF_NAMESIZE];
            if (uv_if_indextoname(v6->sin6_scope_id, name, &n) != 0) {
                snprintf(name, sizeof name, "%u", v6->sin6_scope_id);
            }
            snprintf(out->host + used, sizeof out->host - used, "%%%s", name);
        }
    }
}

bool exo_addr_is_any(const char *host) {
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || *host == '\0';
}
