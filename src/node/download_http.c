/* download_http.c - libcurl handles: what every request has, redirects by hand, small answers.
 *
 * Redirects are followed here and not by libcurl, because what is sent must depend on who is
 * asked: the token goes to the endpoint's origin and to nobody else, and never over plain HTTP
 * except to this machine. */
#define _POSIX_C_SOURCE 200809L
#include "node/download_impl.h"

#include "base/log.h"
#include "base/mem.h"

#include <exo/version.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_HOPS        8
#define CONNECT_S       20
#define WAIT_STEP_MS    50
#define MAX_PAUSE_MS    30000u
#define MAX_RETRY_AFTER 300u /* seconds; who asks for more is told to come back by hand */

/* ---- addresses ---- */

static bool is_plain_http(const char *url) { return strncmp(url, "http://", 7) == 0; }

/* Scheme, host and port; false when url is no address. */
static bool origin_of(const char *url, char out[320]) {
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool ok = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (ok) snprintf(out, 320, "%.8s://%.256s:%.8s", scheme, host, port);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return ok;
}

bool exo_http_same_origin(const char *a, const char *b) {
    char x[320], y[320];
    return origin_of(a, x) && origin_of(b, y) && strcasecmp(x, y) == 0;
}

const char *exo_http_host(const char *url, char out[256]) {
    char origin[320];
    const char *host = origin_of(url, origin) ? strstr(origin, "://") : NULL;
    snprintf(out, 256, "%.200s", host != NULL ? host + 3 : "the server");
    return out;
}

/* Loopback: a token sent in the clear stays on this machine. */
static bool is_this_machine(const char *url) {
    char host[256];
    exo_http_host(url, host);
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost:", 10) == 0 ||
           strncmp(host, "[::1]:", 6) == 0;
}

static bool may_have_token(const exo_download_host *host, const char *url) {
    if (host->token == NULL || host->token[0] == '\0' || host->endpoint == NULL) return false;
    if (!exo_http_same_origin(url, host->endpoint)) return false;
    if (!is_plain_http(url) || is_this_machine(url)) return true;
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&said))
        exo_warn("HF_TOKEN is not sent: HF_ENDPOINT is not https");
    return false;
}

/* ---- handles ---- */

static void global_init(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static size_t on_header(char *line, size_t size, size_t n, void *ud) {
    exo_http_head_line(ud, line, size * n);
    return size * n;
}

/* libcurl asks about once a second even when nothing moves. */
static int on_tick(void *ud, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
    const exo_download_host *host = ud;
    (void)total, (void)now, (void)up_total, (void)up;
    return host->progress != NULL && !host->progress(host->ud, EXO_DOWNLOAD_WAITING, 0, 0);
}

exo_status exo_http_prepare(CURL *easy, const exo_download_host *host, const char *url,
                            exo_http_head *head, struct curl_slist **headers) {
    long stall = host->stall_s != 0 ? (long)host->stall_s : EXO_DOWNLOAD_STALL_S;
    const char *ca_file = getenv("SSL_CERT_FILE");
    curl_slist_free_all(*headers);
    *headers = curl_slist_append(NULL, "Accept: */*");
    if (*headers == NULL) return EXO_ENOMEM;
    if (may_have_token(host, url)) {
        char line[1100];
        snprintf(line, sizeof line, "Authorization: Bearer %.1000s", host->token);
        struct curl_slist *more = curl_slist_append(*headers, line);
        if (more == NULL) return EXO_ENOMEM;
        *headers = more;
    }
    exo_http_head_init(head);
    curl_easy_reset(easy);
    CURLcode rc = curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "exo/" EXO_VERSION);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* one each */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, stall < CONNECT_S ? stall : (long)CONNECT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, stall);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, head);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, host);
    if (ca_file != NULL && *ca_file != '\0') curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
    return rc == CURLE_OK ? EXO_OK : EXO_ENOMEM;
}

/* ---- failures ---- */

bool exo_http_is_transient(CURLcode code, const exo_http_head *head) {
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_OUT_OF_MEMORY: return false;
    default: break;
    }
    if (code != CURLE_OK && code != CURLE_WRITE_ERROR) return true;
    return head->status == 408 || head->status == 425 || head->status == 429 || head->status >= 500;
}

uint32_t exo_http_pause_ms(const exo_http_head *head, uint32_t n) {
    if (head->retry_after_s > MAX_RETRY_AFTER) return UINT32_MAX;
    if (head->retry_after_s > 0) return head->retry_after_s * 1000;
    uint32_t ms = 250u << (n < 8 ? n : 8);
    return ms < MAX_PAUSE_MS ? ms : MAX_PAUSE_MS;
}

bool exo_http_wait(const exo_download_host *host, uint32_t ms) {
    for (uint32_t waited = 0; waited < ms; waited += WAIT_STEP_MS) {
        if (host->progress != NULL && !host->progress(host->ud, EXO_DOWNLOAD_WAITING, 0, 0)) {
            return false;
        }
        struct timespec step = {.tv_nsec = WAIT_STEP_MS * 1000000L};
        nanosleep(&step, NULL);
    }
    return true;
}

exo_status exo_http_refusal(const exo_download_host *host, const char *url,
                            const exo_http_head *head, exo_error *err) {
    char name[256];
    exo_http_host(url, name);
    bool has_token = host->token != NULL && host->token[0] != '\0';
    const char *colon = head->problem[0] != '\0' ? ": " : "";
    switch (head->status) {
    case 401:
    case 403:
        return exo_error_set(err, EXO_EAUTH, "%s refuses (HTTP %ld%s%.60s): %s", name, head->status,
                             colon, head->problem,
                             has_token ? "accept the model's terms on its page, or use a HF_TOKEN "
                                         "that may read it"
                                       : "it does not exist, or is private or gated: check the "
                                         "name, or accept its terms and set HF_TOKEN");
    case 404:
    case 410:
        return exo_error_set(err, EXO_ENOTFOUND,
                             "%s has no such model, revision or file (HTTP %ld)", name,
                             head->status);
    case 429:
        return exo_error_set(err, EXO_EBUSY, "%s asks for a pause of %u s (HTTP 429): try later",
                             name, head->retry_after_s);
    default:
        return exo_error_set(err, EXO_EPEER, "%s answers HTTP %ld%s%.80s", name, head->status,
                             colon, head->problem);
    }
}

static exo_status curl_failure(const char *url, CURLcode code, exo_error *err) {
    char name[256];
    exo_http_host(url, name);
    if (code == CURLE_ABORTED_BY_CALLBACK) return exo_error_set(err, EXO_ECANCELED, "stopped");
    if (code == CURLE_OUT_OF_MEMORY) {
        return exo_error_set(err, EXO_ENOMEM, "out of memory for a request");
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return exo_error_set(err, EXO_ETIMEDOUT, "%s sends nothing", name);
    }
    return exo_error_set(err, EXO_EPEER, "%s: %s", name, curl_easy_strerror(code));
}

/* ---- requests that fit in memory ---- */

typedef struct {
    CURL *easy;
    struct curl_slist *headers;
    exo_http_head head;
    exo_buf *body; /* NULL: the body does not matter, and is cut */
    size_t n_cut;  /* bytes that were thrown away */
} request;

#define MAX_CUT_BYTES 65536

static size_t on_body(char *bytes, size_t size, size_t n, void *ud) {
    request *r = ud;
    (void)size;
    bool success = r->head.status == 200 || r->head.status == 206;
    if (r->body == NULL || !success) {
        r->n_cut += n;
        return r->n_cut <= MAX_CUT_BYTES && !success ? n : 0;
    }
    exo_buf_append(r->body, bytes, n);
    return exo_buf_ok(r->body) ? n : 0;
}

static exo_status request_init(request *r, exo_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    *r = (request){.easy = curl_easy_init()};
    if (r->easy == NULL) return exo_error_set(err, EXO_ENOMEM, "out of memory for a request");
    return EXO_OK;
}

static void request_finish(request *r) {
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
}

static CURLcode request_once(request *r, const exo_download_host *host, const char *url,
                             const char *range) {
    if (exo_http_prepare(r->easy, host, url, &r->head, &r->headers) != EXO_OK) {
        return CURLE_OUT_OF_MEMORY;
    }
    r->n_cut = 0;
    curl_easy_setopt(r->easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    if (range != NULL) curl_easy_setopt(r->easy, CURLOPT_RANGE, range);
    return curl_easy_perform(r->easy);
}

/* One answer that is no failure: 2xx or a redirect.  Tries again with growing pauses. */
static exo_status request_run(request *r, const exo_download_host *host, const char *url,
                              const char *range, exo_error *err) {
    for (uint32_t n = 1;; n++) {
        if (r->body != NULL) exo_buf_clear(r->body);
        CURLcode code = request_once(r, host, url, range);
        bool wanted = r->head.status >= 200 && r->head.status < 400;
        bool empty = r->head.status == 416 && r->head.range_total == 0;
        bool cut = code == CURLE_WRITE_ERROR && (r->body == NULL || !wanted);
        if ((wanted && (code == CURLE_OK || cut)) || empty) return EXO_OK;
        if (code == CURLE_WRITE_ERROR && r->body != NULL && !exo_buf_ok(r->body)) {
            return exo_error_set(err, EXO_EFORMAT, "the answer is longer than %zu bytes",
                                 r->body->limit_bytes);
        }
        exo_status st = code != CURLE_OK && !cut ? curl_failure(url, code, err)
                                                 : exo_http_refusal(host, url, &r->head, err);
        uint32_t pause = exo_http_pause_ms(&r->head, n);
        if (!exo_http_is_transient(code, &r->head) || n >= EXO_HTTP_MAX_TRIES ||
            pause == UINT32_MAX) {
            return st;
        }
        if (!exo_http_wait(host, pause)) return exo_error_set(err, EXO_ECANCELED, "stopped");
    }
}

/* Where the answer sends us; false when it does not.  From https nobody is sent to http. */
static exo_status redirect_of(const request *r, const char *url, char out[EXO_DOWNLOAD_URL_BYTES],
                              exo_error *err) {
    char *to = NULL, name[256];
    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &to);
    exo_http_host(url, name);
    if (to == NULL || strlen(to) >= EXO_DOWNLOAD_URL_BYTES) {
        return exo_error_set(err, EXO_EPEER, "%s redirects to nowhere (HTTP %ld)", name,
                             r->head.status);
    }
    if (!is_plain_http(url) && is_plain_http(to)) {
        return exo_error_set(err, EXO_EPEER, "%s redirects from https to plain http: refused",
                             name);
    }
    snprintf(out, EXO_DOWNLOAD_URL_BYTES, "%s", to);
    return EXO_OK;
}

static bool is_sha256(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdefABCDEF") == 64;
}

static exo_status read_remote(const request *r, exo_remote *out, uint64_t linked_bytes,
                              exo_error *err) {
    const exo_http_head *h = &r->head;
    char name[256];
    exo_http_host(out->url, name);
    snprintf(out->etag, sizeof out->etag, "%s", h->etag);
    if (out->identity[0] == '\0') {
        snprintf(out->identity, sizeof out->identity, "%s",
                 h->linked_etag[0] != '\0' ? h->linked_etag : h->etag);
        if (is_sha256(h->linked_etag)) memcpy(out->sha256, h->linked_etag, sizeof out->sha256);
    }
    out->ranges = h->status == 206;
    out->bytes = h->status == 200 ? h->content_bytes : h->range_total;
    if (h->status == 206 && (!h->has_range || h->range_begin != 0)) {
        return exo_error_set(err, EXO_EPEER, "%s answers with another range than asked for", name);
    }
    if (out->bytes == EXO_SIZE_UNKNOWN) {
        return exo_error_set(err, EXO_EPEER, "%s does not say how large the file is", name);
    }
    if (linked_bytes != EXO_SIZE_UNKNOWN && linked_bytes != out->bytes) {
        return exo_error_set(err, EXO_EPEER, "the hub says %llu bytes, %s has %llu",
                             (unsigned long long)linked_bytes, name,
                             (unsigned long long)out->bytes);
    }
    return EXO_OK;
}

exo_status exo_http_probe(const exo_download_host *host, const char *url, exo_remote *out,
                          exo_error *err) {
    request r;
    uint64_t linked_bytes = EXO_SIZE_UNKNOWN;
    exo_status st = request_init(&r, err);
    if (st != EXO_OK) return st;
    *out = (exo_remote){0};
    snprintf(out->url, sizeof out->url, "%s", url);
    for (int hop = 0; st == EXO_OK; hop++) {
        char to[EXO_DOWNLOAD_URL_BYTES];
        st = request_run(&r, host, out->url, "0-0", err);
        if (st != EXO_OK) break;
        if (r.head.linked_bytes != EXO_SIZE_UNKNOWN) linked_bytes = r.head.linked_bytes;
        if (r.head.status < 300 || r.head.status >= 400) {
            st = read_remote(&r, out, linked_bytes, err);
            break;
        }
        if (r.head.linked_etag[0] != '\0') {
            memcpy(out->identity, r.head.linked_etag, sizeof out->identity);
            if (is_sha256(out->identity)) memcpy(out->sha256, out->identity, sizeof out->sha256);
        }
        st = redirect_of(&r, out->url, to, err);
        if (st == EXO_OK && hop == MAX_HOPS) {
            st = exo_error_set(err, EXO_EPEER, "more than %d redirects", MAX_HOPS);
        }
        if (st == EXO_OK) memcpy(out->url, to, sizeof to);
    }
    request_finish(&r);
    return st;
}

exo_status exo_download_text(const exo_download_host *host, const char *url, exo_buf *out,
                             char next[EXO_DOWNLOAD_URL_BYTES], exo_error *err) {
    request r;
    char at[EXO_DOWNLOAD_URL_BYTES];
    next[0] = '\0';
    exo_status st = request_init(&r, err);
    if (st != EXO_OK) return st;
    r.body = out;
    snprintf(at, sizeof at, "%s", url);
    for (int hop = 0; st == EXO_OK; hop++) {
        st = request_run(&r, host, at, NULL, err);
        if (st != EXO_OK || r.head.status < 300) break;
        st = hop < MAX_HOPS ? redirect_of(&r, at, at, err)
                            : exo_error_set(err, EXO_EPEER, "more than %d redirects", MAX_HOPS);
    }
    if (st == EXO_OK && r.head.next[0] != '\0' && exo_http_same_origin(r.head.next, at)) {
        snprintf(next, EXO_DOWNLOAD_URL_BYTES, "%s", r.head.next);
    }
    request_finish(&r);
    return st;
}
