/* dnssd.c - register, browse, resolve, look up: one thread over dns_sd.h.
 *
 * Each step is an operation of the library with a socket of its own: browsing finds instances,
 * resolving one gives host and TXT record, looking the host up gives its addresses.  Found ones
 * are reported again now and then while the daemon lists them, because the peer table forgets
 * what it does not hear of. */
#define _DEFAULT_SOURCE
#include "net/dnssd.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/mem.h"

#include <dns_sd.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_OPS        64
#define MAX_INSTANCES  64
#define STEP_MS        5000u  /* for one look-up */
#define AGAIN_MS       20000u /* between reports of what is known */
#define RETRY_FIRST_MS 5000u
#define RETRY_MAX_MS   300000u
#define RECORD_A       1
#define RECORD_AAAA    28
#define CLASS_IN       1

/* The library's functions, by their own types. */
typedef struct {
    __typeof__(DNSServiceRegister) *Register;
    __typeof__(DNSServiceBrowse) *Browse;
    __typeof__(DNSServiceResolve) *Resolve;
    __typeof__(DNSServiceQueryRecord) *QueryRecord;
    __typeof__(DNSServiceRefSockFD) *RefSockFD;
    __typeof__(DNSServiceProcessResult) *ProcessResult;
    __typeof__(DNSServiceRefDeallocate) *RefDeallocate;
} library;

typedef struct {
    DNSServiceRef ref; /* NULL = free */
    exo_dnssd *owner;
    uint64_t until_ms; /* 0 = it stays */
    bool done;
    exo_found found; /* what is known so far of the instance that is looked up */
} op;

struct exo_dnssd {
    void *handle;
    library lib;
    void (*found)(void *ud, const exo_found *f);
    void *ud;
    pthread_t thread;
    int wake[2];
    exo_lock *lock; /* over the four below */
    exo_advert advert;
    bool advert_changed, stopping;
    char trouble[EXO_ERROR_BYTES];

    op ops[MAX_OPS]; /* the thread's from here on; 0 registers, 1 browses */
    exo_found known[MAX_INSTANCES];
    size_t n_known;
    uint64_t report_ms, retry_ms;
    uint32_t retry_after_ms;
    bool failed;
};

enum { OP_REGISTER, OP_BROWSE, OP_FIRST_FREE };

static void say_trouble(exo_dnssd *s, const char *what, int code) {
    exo_lock_take(s->lock);
    if (what == NULL) {
        s->trouble[0] = '\0';
    } else {
        snprintf(s->trouble, sizeof s->trouble, "%s (error %d); is avahi-daemon running?", what,
                 code);
    }
    exo_lock_give(s->lock);
}

/* ---- operations ---- */

static op *free_op(exo_dnssd *s) {
    for (size_t i = OP_FIRST_FREE; i < MAX_OPS; i++) {
        if (s->ops[i].ref != NULL) continue;
        s->ops[i] = (op){.owner = s, .until_ms = exo_now_ms() + STEP_MS};
        return &s->ops[i];
    }
    return NULL;
}

static void end_op(exo_dnssd *s, op *o) {
    if (o->ref == NULL) return;
    s->lib.RefDeallocate(o->ref);
    o->ref = NULL;
}

static void end_all(exo_dnssd *s) {
    for (size_t i = 0; i < MAX_OPS; i++) end_op(s, &s->ops[i]);
    s->n_known = 0;
}

/* ---- what is found ---- */

static bool same_way(const exo_found *a, const exo_found *b) {
    return strcmp(a->name, b->name) == 0 && strcmp(a->host, b->host) == 0;
}

static void report(exo_dnssd *s, const exo_found *f) {
    size_t i = 0;
    while (i < s->n_known && !same_way(&s->known[i], f)) i++;
    if (i == MAX_INSTANCES) i = (size_t)(exo_now_ms() % MAX_INSTANCES); /* one goes, any */
    if (i == s->n_known) s->n_known++;
    s->known[i] = *f;
    s->found(s->ud, f);
}

static void forget(exo_dnssd *s, const char *name) {
    for (size_t i = s->n_known; i-- > 0;) {
        if (strcmp(s->known[i].name, name) == 0) s->known[i] = s->known[--s->n_known];
    }
}

static void DNSSD_API on_address(DNSServiceRef ref, DNSServiceFlags flags, uint32_t interface,
                                 DNSServiceErrorType error, const char *fullname, uint16_t type,
                                 uint16_t class, uint16_t n, const void *bytes, uint32_t ttl,
                                 void *ud) {
    op *o = ud;
    exo_found f = o->found;
    (void)ref;
    (void)flags;
    (void)interface;
    (void)fullname;
    (void)class;
    (void)ttl;
    o->done = true;
    if (error != kDNSServiceErr_NoError) return;
    if (type == RECORD_A && n == 4) {
        inet_ntop(AF_INET, bytes, f.host, sizeof f.host);
    } else if (type == RECORD_AAAA && n == 16) {
        inet_ntop(AF_INET6, bytes, f.host, sizeof f.host);
        size_t used = strlen(f.host);
        if (strncmp(f.host, "fe80", 4) == 0) {
            snprintf(f.host + used, sizeof f.host - used, "%%%s", f.interface);
        }
    } else {
        return;
    }
    report(o->owner, &f);
}

static void look_up(exo_dnssd *s, const exo_found *f, uint32_t interface, const char *host,
                    uint16_t type) {
    op *o = free_op(s);
    if (o == NULL) return;
    o->found = *f;
    if (s->lib.QueryRecord(&o->ref, 0, interface, host, type, CLASS_IN, on_address, o) !=
        kDNSServiceErr_NoError) {
        o->ref = NULL;
    }
}

static void DNSSD_API on_resolved(DNSServiceRef ref, DNSServiceFlags flags, uint32_t interface,
                                  DNSServiceErrorType error, const char *fullname, const char *host,
                                  uint16_t port, uint16_t n, const unsigned char *txt, void *ud) {
    op *o = ud;
    exo_found f = o->found;
    char name[IF_NAMESIZE];
    (void)ref;
    (void)flags;
    (void)fullname;
    o->done = true;
    if (error != kDNSServiceErr_NoError || exo_txt_read(txt, n, &f.txt, NULL) != EXO_OK) return;
    f.port = ntohs(port);
    if (if_indextoname(interface, name) != NULL) {
        snprintf(f.interface, sizeof f.interface, "%s", name);
    }
    look_up(o->owner, &f, interface, host, RECORD_A);
    look_up(o->owner, &f, interface, host, RECORD_AAAA);
}

static void DNSSD_API on_instance(DNSServiceRef ref, DNSServiceFlags flags, uint32_t interface,
                                  DNSServiceErrorType error, const char *name, const char *type,
                                  const char *domain, void *ud) {
    exo_dnssd *s = ((op *)ud)->owner;
    (void)ref;
    if (error != kDNSServiceErr_NoError) {
        s->failed = true;
        say_trouble(s, "DNS-SD stopped browsing", error);
        return;
    }
    if ((flags & kDNSServiceFlagsAdd) == 0) {
        forget(s, name);
        return;
    }
    op *o = free_op(s);
    if (o == NULL) return;
    snprintf(o->found.name, sizeof o->found.name, "%s", name);
    if (s->lib.Resolve(&o->ref, 0, interface, name, type, domain, on_resolved, o) !=
        kDNSServiceErr_NoError) {
        o->ref = NULL;
    }
}

static void DNSSD_API on_registered(DNSServiceRef ref, DNSServiceFlags flags,
                                    DNSServiceErrorType error, const char *name, const char *type,
                                    const char *domain, void *ud) {
    exo_dnssd *s = ((op *)ud)->owner;
    (void)ref;
    (void)flags;
    (void)name;
    (void)type;
    (void)domain;
    if (error == kDNSServiceErr_NoError) return;
    s->failed = true;
    say_trouble(s, "DNS-SD cannot register this node", error);
}

/* ---- the daemon ---- */

static DNSServiceErrorType register_now(exo_dnssd *s) {
    uint8_t txt[EXO_TXT_BYTES];
    exo_lock_take(s->lock);
    exo_advert a = s->advert;
    s->advert_changed = false;
    exo_lock_give(s->lock);
    op *o = &s->ops[OP_REGISTER];
    end_op(s, o);
    *o = (op){.owner = s};
    size_t n = exo_txt_write(&a.txt, txt);
    DNSServiceErrorType e = s->lib.Register(&o->ref, 0, 0, a.name, EXO_SERVICE_TYPE, NULL, NULL,
                                            htons(a.port), (uint16_t)n, txt, on_registered, o);
    if (e != kDNSServiceErr_NoError) o->ref = NULL;
    return e;
}

static void begin(exo_dnssd *s) {
    op *o = &s->ops[OP_BROWSE];
    *o = (op){.owner = s};
    DNSServiceErrorType e = register_now(s);
    if (e == kDNSServiceErr_NoError) {
        e = s->lib.Browse(&o->ref, 0, 0, EXO_SERVICE_TYPE, NULL, on_instance, o);
        if (e != kDNSServiceErr_NoError) o->ref = NULL;
    }
    s->failed = e != kDNSServiceErr_NoError;
    say_trouble(s, s->failed ? "no DNS-SD daemon answers" : NULL, e);
}

static void try_later(exo_dnssd *s) {
    end_all(s);
    s->retry_ms = exo_now_ms() + s->retry_after_ms;
    uint32_t twice = s->retry_after_ms * 2;
    s->retry_after_ms = twice > RETRY_MAX_MS ? RETRY_MAX_MS : twice;
}

/* ---- the thread ---- */

static void process(exo_dnssd *s, const struct pollfd *fds, op *const *who, size_t n) {
    for (size_t i = 0; i < n && !s->failed; i++) {
        if (fds[i].revents == 0 || who[i]->ref == NULL) continue;
        if (s->lib.ProcessResult(who[i]->ref) != kDNSServiceErr_NoError) {
            s->failed = true;
            say_trouble(s, "the DNS-SD daemon went away", -1);
        }
    }
    uint64_t now = exo_now_ms();
    for (size_t i = OP_FIRST_FREE; i < MAX_OPS; i++) {
        op *o = &s->ops[i];
        if (o->ref != NULL && (o->done || now >= o->until_ms)) end_op(s, o);
    }
}

static void report_again(exo_dnssd *s) {
    uint64_t now = exo_now_ms();
    if (now < s->report_ms) return;
    s->report_ms = now + AGAIN_MS;
    for (size_t i = 0; i < s->n_known; i++) s->found(s->ud, &s->known[i]);
}

static int wait_ms(const exo_dnssd *s) {
    for (size_t i = OP_FIRST_FREE; i < MAX_OPS; i++) {
        if (s->ops[i].ref != NULL) return 500; /* look-ups have deadlines */
    }
    return (int)RETRY_FIRST_MS;
}

static bool is_stopping(exo_dnssd *s, bool *advert_changed) {
    exo_lock_take(s->lock);
    bool stopping = s->stopping;
    *advert_changed = s->advert_changed;
    exo_lock_give(s->lock);
    return stopping;
}

static void one_turn(exo_dnssd *s) {
    struct pollfd fds[MAX_OPS + 1] = {{.fd = s->wake[0], .events = POLLIN}};
    op *who[MAX_OPS];
    size_t n = 0;
    for (size_t i = 0; i < MAX_OPS; i++) {
        if (s->ops[i].ref == NULL) continue;
        who[n++] = &s->ops[i];
        fds[n] = (struct pollfd){.fd = s->lib.RefSockFD(s->ops[i].ref), .events = POLLIN};
    }
    if (poll(fds, (nfds_t)(n + 1), wait_ms(s)) > 0 && fds[0].revents != 0) {
        char drain[16];
        while (read(s->wake[0], drain, sizeof drain) > 0) {}
    }
    process(s, fds + 1, who, n);
    report_again(s);
}

static void *thread_main(void *ud) {
    exo_dnssd *s = ud;
    bool changed;
    begin(s);
    if (s->failed) try_later(s);
    while (!is_stopping(s, &changed)) {
        if (s->failed && exo_now_ms() >= s->retry_ms) {
            begin(s);
            if (s->failed) try_later(s);
        } else if (!s->failed && changed) {
            s->failed = register_now(s) != kDNSServiceErr_NoError;
        }
        bool worked = !s->failed;
        one_turn(s);
        if (worked && s->failed) {
            s->retry_after_ms = RETRY_FIRST_MS;
            try_later(s);
        }
    }
    end_all(s);
    return NULL;
}

/* ---- start and stop ---- */

static bool load(exo_dnssd *s) {
    static const char *const names[] = {"libdns_sd.so.1", "libSystem.B.dylib"};
    for (size_t i = 0; s->handle == NULL && i < sizeof names / sizeof *names; i++) {
        s->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (s->handle == NULL) return false;
    struct {
        const char *name;
        void *to;
    } const wanted[] = {
        {"DNSServiceRegister", &s->lib.Register},
        {"DNSServiceBrowse", &s->lib.Browse},
        {"DNSServiceResolve", &s->lib.Resolve},
        {"DNSServiceQueryRecord", &s->lib.QueryRecord},
        {"DNSServiceRefSockFD", &s->lib.RefSockFD},
        {"DNSServiceProcessResult", &s->lib.ProcessResult},
        {"DNSServiceRefDeallocate", &s->lib.RefDeallocate},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(s->handle, wanted[i].name);
        if (symbol == NULL) return false;
        memcpy(wanted[i].to, &symbol, sizeof symbol); /* ISO C has no cast for this */
    }
    return true;
}

static void free_all(exo_dnssd *s) {
    for (int i = 0; i < 2; i++) {
        if (s->wake[i] >= 0) close(s->wake[i]);
    }
    exo_lock_destroy(s->lock);
    if (s->handle != NULL) dlclose(s->handle);
    exo_free(s);
}

exo_status exo_dnssd_start(const exo_advert *a, void (*found)(void *ud, const exo_found *f),
                           void *ud, exo_dnssd **out, exo_error *err) {
    *out = NULL;
    exo_dnssd *s = exo_calloc(1, sizeof *s);
    if (s == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for DNS-SD");
    s->wake[0] = s->wake[1] = -1;
    s->found = found;
    s->ud = ud;
    s->advert = *a;
    s->retry_after_ms = RETRY_FIRST_MS;
    setenv("AVAHI_COMPAT_NOWARN", "1", 0); /* it prints advice to programmers otherwise */
    exo_status st = EXO_OK;
    if (!load(s)) {
        st = exo_error_set(err, EXO_EUNSUPPORTED,
                           "no DNS-SD library here (Debian: libavahi-compat-libdnssd1)");
    }
    if (st == EXO_OK) st = exo_lock_create(&s->lock, err);
    if (st == EXO_OK && (pipe(s->wake) != 0 || fcntl(s->wake[0], F_SETFL, O_NONBLOCK) != 0 ||
                         pthread_create(&s->thread, NULL, thread_main, s) != 0)) {
        st = exo_error_set(err, EXO_EIO, "cannot start a thread for DNS-SD");
    }
    if (st != EXO_OK) {
        free_all(s);
        return st;
    }
    *out = s;
    return EXO_OK;
}

static void wake(exo_dnssd *s) {
    if (write(s->wake[1], "", 1) < 0) return; /* full: it is awake already */
}

void exo_dnssd_advertise(exo_dnssd *s, const exo_advert *a) {
    exo_lock_take(s->lock);
    s->advert = *a;
    s->advert_changed = true;
    exo_lock_give(s->lock);
    wake(s);
}

void exo_dnssd_stop(exo_dnssd *s) {
    if (s == NULL) return;
    exo_lock_take(s->lock);
    s->stopping = true;
    exo_lock_give(s->lock);
    wake(s);
    pthread_join(s->thread, NULL);
    free_all(s);
}

void exo_dnssd_trouble(exo_dnssd *s, char out[EXO_ERROR_BYTES]) {
    exo_lock_take(s->lock);
    memcpy(out, s->trouble, sizeof s->trouble);
    exo_lock_give(s->lock);
}
