/* site.c - see site.h. */
#include "api/site.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES 256u

/* The name alone, of name, name:port or [address]:port up to a slash; false: nothing of the kind.
 */
static bool name_of(const char *text, char out[NAME_BYTES]) {
    bool v6 = text[0] == '[';
    text += v6;
    size_t n = strcspn(text, v6 ? "]" : ":/");
    if (n == 0 || n >= NAME_BYTES || (v6 && text[n] != ']')) return false;
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

static bool is_localhost(const char *name) {
    static const char local[] = ".localhost";
    size_t n = strlen(name), n_local = sizeof local - 1;
    return strcasecmp(name, local + 1) == 0 ||
           (n > n_local && strcasecmp(name + n - n_local, local) == 0);
}

static bool is_address(const char *name) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static bool is_loopback(const char *name) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, name, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Only pages of the web have these: another scheme is an application's, which no page can claim;
 * "null" is a page that hides where it is from. */
static bool is_foreign_page(const char *origin) {
    char name[NAME_BYTES];
    if (strcmp(origin, "null") == 0) return true;
    const char *at = strstr(origin, "://");
    size_t n = at != NULL ? (size_t)(at - origin) : 0;
    bool web = (n == 4 && strncasecmp(origin, "http", n) == 0) ||
               (n == 5 && strncasecmp(origin, "https", n) == 0);
    if (!web) return at == NULL;
    return !name_of(at + 3, name) || !(is_localhost(name) || is_loopback(name));
}

/* Names without a dot are given in a home or a container; nobody can register one. */
static bool is_ours(const char *name) {
    return is_localhost(name) || is_address(name) || strchr(name, '.') == NULL;
}

exo_status exo_site_check(const char *host, const char *origin, exo_error *err) {
    char name[NAME_BYTES];
    if (host != NULL && (!name_of(host, name) || !is_ours(name))) {
        return exo_error_set(err, EXO_EINVAL,
                             "\"%.100s\" is not a name of this API: ask for localhost or 127.0.0.1",
                             host);
    }
    if (origin != NULL && is_foreign_page(origin)) {
        return exo_error_set(err, EXO_EINVAL,
                             "pages of %.100s may not use this API: only those of this machine may",
                             origin);
    }
    return EXO_OK;
}
