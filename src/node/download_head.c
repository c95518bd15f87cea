/* download_head.c - the few header fields that a download reads; pure text. */
#include "node/download_impl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_RETRY_AFTER_S 1000000

void exo_http_head_init(exo_http_head *h) {
    *h = (exo_http_head){.linked_bytes = EXO_SIZE_UNKNOWN,
                         .content_bytes = EXO_SIZE_UNKNOWN,
                         .range_total = EXO_SIZE_UNKNOWN};
}

/* A decimal number at *s, which moves behind it; false for none or one beyond INT64_MAX. */
static bool take_number(const char **s, const char *end, uint64_t *out) {
    uint64_t v = 0;
    const char *p = *s;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > (INT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    bool any = p > *s;
    *s = p;
    *out = v;
    return any;
}

static void copy_etag(const char *s, size_t n, char out[EXO_ETAG_BYTES]) {
    if (n >= 2 && s[0] == 'W' && s[1] == '/') s += 2, n -= 2;
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') s++, n -= 2;
    if (n >= EXO_ETAG_BYTES) n = 0; /* nobody's etag: as good as none */
    memcpy(out, s, n);
    out[n] = '\0';
}

/* "bytes 0-99/1000", "bytes 0-99/" and a star, "bytes" star "/1000" */
static void read_range(exo_http_head *h, const char *s, const char *end) {
    uint64_t last, total;
    if (end - s < 6 || strncasecmp(s, "bytes ", 6) != 0) return;
    s += 6;
    if (s < end && *s == '*') {
        s++;
    } else if (take_number(&s, end, &h->range_begin) && s < end && *s == '-') {
        s++;
        if (!take_number(&s, end, &last) || last < h->range_begin) return;
        h->has_range = true;
    } else {
        return;
    }
    if (s < end && *s == '/') {
        s++;
        if (take_number(&s, end, &total)) h->range_total = total;
    }
}

/* <https://host/...>; rel="next", perhaps among others */
static void read_link(exo_http_head *h, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *close = s[i] == '<' ? memchr(s + i, '>', n - i) : NULL;
        if (close == NULL) continue;
        size_t begin = i + 1, n_url = (size_t)(close - s) - begin, k = begin + n_url + 1;
        size_t stop = k;
        while (stop < n && s[stop] != ',') stop++;
        bool is_next = false;
        for (size_t m = k; m + 10 <= stop; m++) {
            if (memcmp(s + m, "rel=\"next\"", 10) == 0) is_next = true;
        }
        if (is_next && n_url < sizeof h->next) {
            memcpy(h->next, s + begin, n_url);
            h->next[n_url] = '\0';
        }
        i = stop;
    }
}

static void copy_problem(exo_http_head *h, const char *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < sizeof h->problem; i++) {
        h->problem[k++] = s[i] >= 0x20 && s[i] < 0x7F ? s[i] : '?';
    }
    h->problem[k] = '\0';
}

static void read_status(exo_http_head *h, const char *line, size_t n) {
    exo_http_head_init(h);
    const char *s = memchr(line, ' ', n), *end = line + n;
    uint64_t status;
    if (s == NULL) return;
    s++;
    if (take_number(&s, end, &status) && status < 1000) h->status = (long)status;
}

static bool is_name(const char *line, size_t n, const char *name) {
    return strlen(name) == n && strncasecmp(line, name, n) == 0;
}

void exo_http_head_line(exo_http_head *h, const char *line, size_t n) {
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) n--;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        read_status(h, line, n);
        return;
    }
    const char *colon = n > 0 ? memchr(line, ':', n) : NULL;
    if (colon == NULL) return;
    size_t n_name = (size_t)(colon - line);
    const char *s = colon + 1, *end = line + n;
    while (s < end && (*s == ' ' || *s == '\t')) s++;
    size_t n_value = (size_t)(end - s);
    uint64_t v;
    if (is_name(line, n_name, "etag")) copy_etag(s, n_value, h->etag);
    if (is_name(line, n_name, "x-linked-etag")) copy_etag(s, n_value, h->linked_etag);
    if (is_name(line, n_name, "content-range")) read_range(h, s, end);
    if (is_name(line, n_name, "link")) read_link(h, s, n_value);
    if (is_name(line, n_name, "x-error-message")) copy_problem(h, s, n_value);
    bool linked = is_name(line, n_name, "x-linked-size");
    bool length = is_name(line, n_name, "content-length");
    bool retry = is_name(line, n_name, "retry-after");
    if (!(linked || length || retry) || !take_number(&s, end, &v)) return;
    if (linked) h->linked_bytes = v;
    if (length) h->content_bytes = v;
    if (retry) h->retry_after_s = v < MAX_RETRY_AFTER_S ? (uint32_t)v : MAX_RETRY_AFTER_S;
}
