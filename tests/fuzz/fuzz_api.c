/* fuzz_api.c - requests to exo's own API over a real socket: paths, what stands behind their '?',
 * and the bodies of POST /instance and /place_instance.
 *
 * An input is a line "METHOD TARGET" and the body behind it; both go out as they are.  Whatever
 * comes is answered with a status that a client can act on and, where it says that it is JSON, with
 * JSON.  Requests that compute, wait for long or dial the network are left out: their bodies have
 * targets of their own (fuzz_body, fuzz_hub). */
#define _DEFAULT_SOURCE
#include "api/http.h"
#include "base/buf.h"
#include "fuzz/target_node.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_LINE_BYTES  2048
#define MAX_BODY_BYTES  65536
#define MAX_REPLY_BYTES (4u << 20)
#define REPLY_MS        20000 /* nothing waits so long: the server hangs */
#define MAY_WAIT_MS     20    /* a stream, or a reply that may come later */

/* Made once, as its node is. */
static exo_api *api(void) {
    static exo_api *made;
    if (made != NULL) return made;
    exo_api_desc a = {.node = node(), .addr = "127.0.0.1", .max_body_bytes = MAX_BODY_BYTES};
    CHECK(exo_api_start(&a, &made, NULL) == EXO_OK);
    return made;
}

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(exo_api_port(api()))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    struct linger at_once = {.l_onoff = 1}; /* no port waits for its connection's end */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    return fd;
}

static void say(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t done = send(fd, bytes, n, MSG_NOSIGNAL);
        if (done <= 0) return; /* refused before its end */
        bytes += done;
        n -= (size_t)done;
    }
}

/* To the connection's end; false: it did not come within ms. */
static bool hear(int fd, int ms, exo_buf *in) {
    char bytes[16384];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (in->n < MAX_REPLY_BYTES) {
        if (poll(&p, 1, ms) <= 0) return false;
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) return true;
        exo_buf_append(in, bytes, (size_t)n);
    }
    return true;
}

static json_t *body_of(const char *reply) {
    const char *body = strstr(reply, "\r\n\r\n");
    bool is_json = strstr(reply, "Content-Type: application/json\r\n") != NULL;
    if (body == NULL || !is_json) return NULL;
    json_t *j = json_loads(body + 4, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    CHECK(j != NULL || body[4] == '\0'); /* of HEAD: none */
    return j;
}

static void ask(const char *line, size_t n_line, const char *body, size_t n_body, int ms);

/* What was placed is taken back: the next input finds the node as this one did. */
static void take_back(const json_t *reply) {
    const char *id = json_string_value(json_object_get(reply, "instance_id"));
    char line[128];
    if (id == NULL || json_object_get(reply, "message") == NULL) return;
    int n = snprintf(line, sizeof line, "DELETE /instance/%s", id);
    ask(line, (size_t)n, "", 0, REPLY_MS);
}

static void judge(const char *reply) {
    CHECK(strncmp(reply, "HTTP/1.", 7) == 0);
    int status = atoi(reply + 9);
    if (status == 500) fprintf(stderr, "%.400s\n", reply); /* what failed says why */
    CHECK(status >= 200 && status < 600 && status != 500); /* 504: waited in vain */
    json_t *j = body_of(reply);
    if (status == 200) take_back(j);
    json_decref(j);
}

static void ask(const char *line, size_t n_line, const char *body, size_t n_body, int ms) {
    exo_buf out = {0}, in = {0};
    int fd = dial();
    exo_buf_append(&out, line, n_line);
    exo_buf_printf(&out, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    exo_buf_printf(&out, "Content-Length: %zu\r\n\r\n", n_body);
    exo_buf_append(&out, body, n_body);
    say(fd, exo_buf_str(&out), out.n);
    bool ended = hear(fd, ms, &in);
    CHECK(ended || ms == MAY_WAIT_MS);
    if (ended && in.n > 0) judge(exo_buf_str(&in));
    close(fd);
    exo_buf_finish(&out);
    exo_buf_finish(&in);
}

/* A corpus cannot know this run's node: what it calls so becomes its id. */
static char *with_our_id(const uint8_t *bytes, size_t n) {
    static const char said[] = "0123456789abcdef";
    const char *id = exo_node_id(node());
    size_t m = strlen(said);
    char *out = malloc(n + 1);
    CHECK(out != NULL);
    if (n > 0) memcpy(out, bytes, n);
    for (size_t i = 0; i + m <= n; i++) {
        if (memcmp(out + i, said, m) == 0) memcpy(out + i, id, m);
    }
    return out;
}

static bool holds(const uint8_t *bytes, size_t n, const char *word) {
    size_t m = strlen(word);
    for (size_t i = 0; i + m <= n; i++) {
        if (memcmp(bytes + i, word, m) == 0) return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const uint8_t *end = n > 0 ? memchr(bytes, '\n', n) : NULL;
    size_t line = end != NULL ? (size_t)(end - bytes) : n;
    size_t body = end != NULL ? n - line - 1 : 0;
    if (line > MAX_LINE_BYTES || body > MAX_BODY_BYTES) return 0;
    if (holds(bytes, line, "/v1/c") || holds(bytes, line, "%")) { /* a name may be written so */
        if (holds(bytes, line, "v1") || holds(bytes, line, "start")) return 0;
    }
    if (holds(bytes, line, "/download/s")) return 0;
    bool waits = holds(bytes, line, "await") || holds(bytes, line, "events");
    api();
    char *text = with_our_id(bytes, n);
    ask(text, line, end != NULL ? text + line + 1 : "", body, waits ? MAY_WAIT_MS : REPLY_MS);
    free(text);
    return 0;
}
