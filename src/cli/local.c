/* local.c - the files of a running node, and one HTTP request over loopback. */
#define _DEFAULT_SOURCE
#include "cli/local.h"

#include "base/buf.h"
#include "base/log.h"
#include "net/secret.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API_FILE    "node.api"
#define LOCK_FILE   "node.lock"
#define STATE_LIMIT (16u << 20)
#define STATE_S     5L

void exo_cli_note_api(const char *data_dir, uint16_t port) {
    char text[16];
    exo_error err;
    int n = snprintf(text, sizeof text, "%u\n", port);
    if (exo_secret_write(data_dir, API_FILE, text, (size_t)n, &err) != EXO_OK) {
        exo_warn("commands will not find this node: %s", err.message);
    }
}

bool exo_cli_node_runs(const char *data_dir) {
    int fd;
    if (access(data_dir, F_OK) != 0) return false;
    exo_status st = exo_secret_lock(data_dir, LOCK_FILE, 0, &fd, NULL);
    if (fd >= 0) close(fd);
    return st == EXO_EBUSY;
}

static size_t take_body(char *bytes, size_t size, size_t n, void *ud) {
    exo_buf_append(ud, bytes, size * n);
    return exo_buf_ok(ud) ? size * n : 0;
}

static exo_status get(const char *url, exo_buf *out, exo_error *err) {
    CURL *c = curl_easy_init();
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_TIMEOUT, STATE_S);
    curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    CURLcode r = curl_easy_perform(c);
    curl_easy_cleanup(c);
    if (r == CURLE_OK) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "the node does not answer at %s: %s", url,
                         curl_easy_strerror(r));
}

exo_status exo_cli_local_state(const char *data_dir, json_t **out, exo_error *err) {
    *out = NULL;
    exo_buf text = {.limit_bytes = STATE_LIMIT}, port = {0};
    char url[64];
    exo_status st = exo_cli_node_runs(data_dir) ? EXO_OK : EXO_ENOTFOUND;
    if (st == EXO_OK) st = exo_secret_read(data_dir, API_FILE, "a port", 32, &port, err);
    if (st == EXO_ENOTFOUND) {
        exo_error_set(err, st, "no exo node runs with the data directory %s", data_dir);
    }
    if (st == EXO_OK) {
        long number = strtol(exo_buf_str(&port), NULL, 10);
        snprintf(url, sizeof url, "http://127.0.0.1:%ld/state", number);
        st = get(url, &text, err);
    }
    if (st == EXO_OK) {
        *out = json_loadb(exo_buf_str(&text), text.n, 0, NULL);
        if (*out == NULL) st = exo_error_set(err, EXO_EFORMAT, "%s is no JSON", url);
    }
    exo_buf_finish(&text);
    exo_buf_finish(&port);
    return st;
}
