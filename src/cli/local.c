/* local.c - the files of a running node, and one HTTP request over loopback. */
#define _DEFAULT_SOURCE
#include "cli/local.h"

#include "base/buf.h"
#include "base/log.h"
#include "net/keyring.h"
#include "net/secret.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API_FILE    "node.api"
#define LOCK_FILE   "node.lock"
#define STATE_LIMIT (16u << 20)
#define STATE_S     5L
#define LOOK_MS     250 /* between two looks at whoever may want to end a wait */

/* Over an earlier node's: a full disk has room for that. */
static bool write_over(const char *data_dir, const char *text, size_t n) {
    char path[1200];
    snprintf(path, sizeof path, "%s/" API_FILE, data_dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    bool whole = write(fd, text, n) == (ssize_t)n && ftruncate(fd, (off_t)n) == 0;
    close(fd);
    return whole;
}

void exo_cli_note_api(const char *data_dir, uint16_t port) {
    char text[16];
    exo_error err;
    size_t n = (size_t)snprintf(text, sizeof text, "%u\n", port);
    if (exo_secret_write(data_dir, API_FILE, text, n, &err) == EXO_OK) return;
    if (!write_over(data_dir, text, n)) {
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

bool exo_cli_has_cluster(const char *data_dir) {
    return exo_secret_stamp(data_dir, EXO_KEYRING_FILE) != 0;
}

bool exo_cli_cluster_key(const exo_command *c, const char **out) {
    const char *key = getenv("EXO_CLUSTER_KEY");
    size_t n = key != NULL ? strlen(key) : 0;
    *out = n > 0 ? key : NULL;
    if (n == 0 || (n >= EXO_KEY_MIN && n < EXO_KEY_BYTES)) return true;
    exo_cli_usage(c, "EXO_CLUSTER_KEY has %zu characters; a cluster's passphrase has %d to %d", n,
                  EXO_KEY_MIN, EXO_KEY_BYTES - 1);
    return false;
}

static size_t take_body(char *bytes, size_t size, size_t n, void *ud) {
    exo_buf_append(ud, bytes, size * n);
    return exo_buf_ok(ud) ? size * n : 0;
}

/* The transfer, for as long as p likes.  False: it did not. */
static bool perform_while(CURL *c, const exo_cli_patience *p, CURLcode *result) {
    CURLM *m = curl_multi_init();
    int running = 1;
    bool go_on = true;
    *result = CURLE_OUT_OF_MEMORY;
    if (m == NULL || curl_multi_add_handle(m, c) != CURLM_OK) running = 0;
    while (running > 0 && go_on) {
        struct curl_waitfd w = {.fd = p->fd, .events = CURL_WAIT_POLLIN};
        unsigned n = p->fd >= 0 ? 1 : 0;
        if (curl_multi_perform(m, &running) != CURLM_OK) break;
        if (running > 0 && curl_multi_poll(m, &w, n, LOOK_MS, NULL) != CURLM_OK) break;
        if (running > 0) go_on = p->go_on(p->ud, w.revents != 0);
    }
    int left;
    const CURLMsg *done = m != NULL ? curl_multi_info_read(m, &left) : NULL;
    if (done != NULL && done->msg == CURLMSG_DONE) *result = done->data.result;
    if (m != NULL) curl_multi_remove_handle(m, c);
    curl_multi_cleanup(m);
    return go_on;
}

/* body NULL: GET, else POST. */
static exo_status request(const char *url, const char *body, const exo_cli_patience *p,
                          long *status, exo_buf *out, exo_error *err) {
    CURL *c = curl_easy_init();
    if (c == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_TIMEOUT, STATE_S);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    if (body != NULL) curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    CURLcode r = CURLE_OK;
    bool enough = false;
    if (p != NULL) {
        enough = !perform_while(c, p, &r);
    } else {
        r = curl_easy_perform(c);
    }
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
    curl_easy_cleanup(c);
    if (enough) return exo_error_set(err, EXO_ECANCELED, "not waited for");
    if (r == CURLE_OK) return EXO_OK;
    return exo_error_set(err, EXO_EIO, "the node does not answer at %s: %s", url,
                         curl_easy_strerror(r));
}

/* The node's own words where it refused. */
static exo_status refusal(const char *url, long status, const json_t *reply, exo_error *err) {
    const json_t *error = json_object_get(reply, "error");
    const char *why = json_string_value(json_object_get(error, "message"));
    if (why != NULL) return exo_error_set(err, EXO_EPEER, "%s", why);
    return exo_error_set(err, EXO_EIO, "%s answers with status %ld", url, status);
}

static exo_status ask(const char *data_dir, const char *path, const char *body,
                      const exo_cli_patience *p, json_t **out, exo_error *err) {
    long status = 0;
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
        snprintf(url, sizeof url, "http://127.0.0.1:%ld%s", number, path);
        st = request(url, body, p, &status, &text, err);
    }
    if (st == EXO_OK) {
        *out = json_loadb(exo_buf_str(&text), text.n, 0, NULL);
        if (*out == NULL) st = exo_error_set(err, EXO_EFORMAT, "%s is no JSON", url);
    }
    if (st == EXO_OK && status >= 300) {
        st = refusal(url, status, *out, err);
        json_decref(*out);
        *out = NULL;
    }
    exo_buf_finish(&text);
    exo_buf_finish(&port);
    return st;
}

exo_status exo_cli_local_state(const char *data_dir, json_t **out, exo_error *err) {
    return ask(data_dir, "/state", NULL, NULL, out, err);
}

exo_status exo_cli_local_state_while(const char *data_dir, const exo_cli_patience *p, json_t **out,
                                     exo_error *err) {
    return ask(data_dir, "/state", NULL, p, out, err);
}

exo_status exo_cli_local_post(const char *data_dir, const char *path, json_t *body_take,
                              json_t **out, exo_error *err) {
    char *body = body_take != NULL ? json_dumps(body_take, JSON_COMPACT) : NULL;
    json_decref(body_take);
    *out = NULL;
    if (body == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a request");
    exo_status st = ask(data_dir, path, body, NULL, out, err);
    free(body);
    return st;
}

exo_status exo_cli_find_node(const json_t *state, const char *word, char out[EXO_NODE_ID_BYTES],
                             exo_error *err) {
    const char *id;
    json_t *node;
    size_t n = 0;
    if (exo_is_node_id(word)) {
        snprintf(out, EXO_NODE_ID_BYTES, "%s", word);
        return EXO_OK;
    }
    /* Those that are linked, and those that the cluster remembers. */
    json_t *all = json_copy(json_object_get(state, "members"));
    if (all == NULL) all = json_object();
    json_object_update(all, json_object_get(state, "nodes"));
    json_object_foreach(all, id, node) {
        const char *name = json_string_value(json_object_get(node, "name"));
        bool removed = json_is_true(json_object_get(node, "removed"));
        if (name == NULL || strcmp(name, word) != 0 || !exo_is_node_id(id) || removed) continue;
        snprintf(out, EXO_NODE_ID_BYTES, "%s", id);
        n++;
    }
    json_decref(all);
    if (n == 1) return EXO_OK;
    return exo_error_set(err, EXO_ENOTFOUND,
                         n == 0 ? "no node of this cluster is called \"%s\" (`exo nodes` lists "
                                  "those that are linked)"
                                : "several nodes are called \"%s\": name one by its id (`exo "
                                  "nodes` lists them)",
                         word);
}
