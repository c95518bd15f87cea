/* http_test.c - the server over real sockets: routes, bad requests, slow and impatient clients,
 * stopping while answers run.
 *
 * Every read has a deadline, so a server that hangs fails a test instead of stopping it. */
#define _DEFAULT_SOURCE
#include "api/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "api/testing.h"
#include "base/buf.h"
#include "base/clock.h"
#include "node/node_impl.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>

#define MAX_BODY       8192
#define DEADLINE_S     30
#define CHAT           "/v1/chat/completions"
#define ENDLESS        "'max_tokens': 1900, 'ignore_eos': true" /* seconds of work */
#define BRIEF          "'max_tokens': 5, 'ignore_eos': true"
#define ENDLESS_TOKENS 1900

static test_node node;
static exo_api *api;

static int start_api(void) {
    exo_error err = {0};
    exo_api_desc d = {.node = node.node, .addr = "127.0.0.1", .max_body_bytes = MAX_BODY};
    if (exo_api_start(&d, &api, &err) != EXO_OK) fail_msg("%s", err.message);
    return 0;
}

static int start(void **ud) {
    (void)ud;
    test_node_start(&node);
    return start_api();
}

static int stop(void **ud) {
    (void)ud;
    exo_api_stop(api);
    test_node_stop(&node);
    return 0;
}

/* ---- a client ---- */

static int dial(void) {
    struct timeval limit = {.tv_sec = DEADLINE_S};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(exo_api_port(api))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void write_bytes(int fd, const void *bytes, size_t n) {
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static void write_text(int fd, const char *text) { write_bytes(fd, text, strlen(text)); }

/* Reads until `until` has come, or to the end of the connection when it is NULL. */
static void read_until(int fd, exo_buf *in, const char *until) {
    char bytes[4096];
    while (until == NULL || strstr(exo_buf_str(in), until) == NULL) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n < 0) fail_msg("no more bytes within %d s after: %s", DEADLINE_S, exo_buf_str(in));
        if (n == 0 && until != NULL) fail_msg("closed without %s: %s", until, exo_buf_str(in));
        if (n == 0) return;
        exo_buf_append(in, bytes, (size_t)n);
    }
}

/* A whole request; close: asks for the connection's end after the reply. */
static void write_request(int fd, const char *method, const char *path, const char *body,
                          bool close) {
    char *json = test_json(body);
    exo_buf out = {0};
    exo_buf_printf(&out, "%s %s HTTP/1.1\r\nHost: exo\r\nContent-Length: %zu\r\n%s\r\n%s", method,
                   path, strlen(json), close ? "Connection: close\r\n" : "", json);
    write_bytes(fd, exo_buf_str(&out), out.n);
    exo_buf_finish(&out);
    exo_free(json);
}

/* The status; *reply: headers and body. */
static int ask(const char *method, const char *path, const char *body, exo_buf *reply) {
    int fd = dial();
    exo_buf_clear(reply);
    write_request(fd, method, path, body, true);
    read_until(fd, reply, NULL);
    close(fd);
    assert_memory_equal(exo_buf_str(reply), "HTTP/1.1 ", 9);
    return atoi(reply->data + 9);
}

static const char *body_of(const exo_buf *reply) {
    const char *end = strstr(exo_buf_str(reply), "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void assert_replies(const char *method, const char *path, const char *body, int status,
                           const char *text) {
    exo_buf reply = {0};
    int got = ask(method, path, body, &reply);
    if (got != status || strstr(body_of(&reply), text) == NULL) {
        fail_msg("%s %s: %s", method, path, exo_buf_str(&reply));
    }
    exo_buf_finish(&reply);
}

static void assert_serves(void) { assert_replies("GET", "/v1/models", "", 200, TEST_MODEL); }

/* Asks for an answer; the reply is not read yet. */
static int ask_for_answer(const char *more, bool stream) {
    char body[512];
    int fd = dial();
    snprintf(body, sizeof body,
             "{'model': '" TEST_MODEL "', 'messages': [{'role': 'user', 'content': 'Hello!'}], "
             "'stream': %s, %s}",
             stream ? "true" : "false", more);
    write_request(fd, "POST", CHAT, body, true);
    return fd;
}

/* A stream whose first event has come. */
static int open_stream(void) {
    exo_buf in = {0};
    int fd = ask_for_answer(ENDLESS, true);
    read_until(fd, &in, "data: ");
    exo_buf_finish(&in);
    return fd;
}

/* Tokens computed since the node began; the node counts four times a second. */
static json_int_t tokens(void) {
    exo_error err = {0};
    json_t *state, *instance;
    const char *id;
    json_int_t n = 0;
    assert_int_equal(exo_node_state(node.node, &state, &err), EXO_OK);
    json_object_foreach(json_object_get(state, "instances"), id, instance) {
        json_t *shard = json_array_get(json_object_get(instance, "shards"), 0);
        n += json_integer_value(json_object_get(json_object_get(shard, "stats"), "tokens"));
    }
    json_decref(state);
    return n;
}

static void wait_for_tokens(json_int_t more_than) {
    uint64_t deadline = exo_now_ms() + DEADLINE_S * 1000;
    while (tokens() <= more_than) {
        if (exo_now_ms() > deadline) fail_msg("no tokens within %d s", DEADLINE_S);
        usleep(10000);
    }
}

/* Whatever ran comes to rest long before its end. */
static void assert_cancelled(json_int_t before) {
    uint64_t deadline = exo_now_ms() + DEADLINE_S * 1000;
    for (json_int_t then = -1, now = tokens(); now != then; now = tokens()) {
        assert_true(now - before < ENDLESS_TOKENS);
        if (exo_now_ms() > deadline) fail_msg("tokens still come after %d s", DEADLINE_S);
        then = now;
        usleep(600000); /* more than two counts */
    }
}

/* ---- routes ---- */

static void test_routes(void **ud) {
    (void)ud;
    assert_replies("GET", "/health", "", 200, "\"ok\"");
    assert_replies("GET", "/state", "", 200, exo_node_id(node.node));
    assert_replies("GET", "/v1/models", "", 200, "\"object\":\"list\"");
    assert_replies("GET", "/v1/models/" TEST_MODEL, "", 200, "\"object\":\"model\"");
    assert_replies("GET", "/v1/models/no-such", "", 404, "no-such");
    assert_replies("GET", "/v1/models?x=1", "", 200, "\"list\"");
    assert_replies("GET", "/state/", "", 200, exo_node_id(node.node));
    assert_replies("GET", "/state/links", "", 200, "[]");
    assert_replies("GET", "/state/nodes/", "", 200, exo_node_id(node.node));
}

static void test_there_is_no_such_route(void **ud) {
    (void)ud;
    assert_replies("GET", "/nowhere", "", 404, "GET /nowhere");
    assert_replies("GET", "/v1/models/", "", 404, "no route");
    assert_replies("GET", "/healthy", "", 404, "no route");
    assert_replies("GET", "/state/nodes/x", "", 404, "/state has no");
    assert_replies("DELETE", "/instance/0123", "", 404, "not found");
    assert_replies("GET", CHAT, "", 405, "takes POST, not GET");
    assert_replies("POST", "/health", "{}", 405, "takes GET, not POST");
    assert_replies("DELETE", "/v1/models", "", 405, "takes GET, not DELETE");
    exo_buf reply = {0};
    assert_int_equal(ask("PUT", CHAT, "", &reply), 405);
    assert_non_null(strstr(exo_buf_str(&reply), "\r\nAllow: POST\r\n"));
    assert_int_equal(ask("DELETE", "/instance/await", "", &reply), 405);
    assert_non_null(strstr(exo_buf_str(&reply), "\r\nAllow: GET\r\n"));
    assert_int_equal(ask("PUT", "/instance/0123", "", &reply), 405);
    assert_non_null(strstr(exo_buf_str(&reply), "\r\nAllow: GET, DELETE\r\n"));
    exo_buf_finish(&reply);
}

/* JSON cannot hold such bytes: the reply was "out of memory". */
static void test_a_path_that_is_no_utf8_is_still_not_found(void **ud) {
    (void)ud;
    assert_replies("GET", "/%ff%c3", "", 404, "no route");
    assert_replies("GET", "/v1/models/%e2%28x", "", 404, "not found");
    exo_buf path = {0}; /* a message cut inside a character */
    exo_buf_puts(&path, "/v1/models/x");
    for (int i = 0; i < 100; i++) exo_buf_puts(&path, "%C3%A9");
    assert_replies("GET", exo_buf_str(&path), "", 404, "not found");
    exo_buf_finish(&path);
}

static void test_head_has_no_body(void **ud) {
    (void)ud;
    exo_buf reply = {0};
    assert_int_equal(ask("HEAD", "/health", "", &reply), 200);
    assert_non_null(strstr(exo_buf_str(&reply), "Content-Length: "));
    assert_string_equal(body_of(&reply), "");
    assert_int_equal(ask("HEAD", CHAT, "", &reply), 405);
    exo_buf_finish(&reply);
}

static void test_bad_bodies(void **ud) {
    (void)ud;
    assert_replies("POST", CHAT, "", 400, "JSON");
    assert_replies("POST", CHAT, "{", 400, "JSON");
    assert_replies("POST", CHAT, "[1]", 400, "object");
    assert_replies("POST", CHAT, "{'model': 'x\xff'}", 400, "JSON");
    assert_replies("POST", CHAT, "{'model': 5}", 400, "\"param\":\"model\"");
    assert_replies("POST", CHAT, "{'model': 'none', 'messages': []}", 404, "model_not_found");
    assert_replies("POST", "/v1/completions", "{'model': '" TEST_MODEL "'}", 400, "prompt");
    assert_replies("POST", "/place_instance", "{'model_id': 7}", 400, "model_id");
    assert_replies("POST", "/place_instance", "{'model_id': 'none'}", 404, "none");
    assert_replies("POST", "/place_instance", "{'model_id': '" TEST_MODEL "', 'min_nodes': 2}", 400,
                   "2 nodes");
    assert_replies("POST", "/place_instance", "{'model_id': '" TEST_MODEL "', 'cuts': 'x'}", 400,
                   "cuts");
    assert_replies("DELETE", "/instance/none", "", 404, "none");
}

static void test_a_body_beyond_the_limit(void **ud) {
    (void)ud;
    char body[MAX_BODY + 2];
    memset(body, ' ', sizeof body);
    body[MAX_BODY + 1] = '\0';
    assert_replies("POST", CHAT, body, 413, "too large");
    body[MAX_BODY] = '\0'; /* the limit itself: bad JSON, no more */
    assert_replies("POST", CHAT, body, 400, "JSON");
    assert_serves();
}

static void test_what_is_no_http(void **ud) {
    (void)ud;
    static const char *const wrong[] = {"GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                                        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                                        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        exo_buf reply = {0};
        int fd = dial();
        write_text(fd, wrong[i]);
        read_until(fd, &reply, NULL);
        close(fd);
        assert_null(strstr(exo_buf_str(&reply), "HTTP/1.1 2"));
        exo_buf_finish(&reply);
    }
    assert_serves();
}

/* ---- one answer ---- */

static void test_whole_answer_and_stream(void **ud) {
    (void)ud;
    exo_buf in = {0};
    int fd = ask_for_answer(BRIEF, false);
    read_until(fd, &in, NULL);
    close(fd);
    assert_non_null(strstr(exo_buf_str(&in), "\"chat.completion\""));
    exo_buf_clear(&in);
    fd = ask_for_answer(BRIEF, true);
    read_until(fd, &in, NULL);
    close(fd);
    assert_non_null(strstr(exo_buf_str(&in), "\"finish_reason\":\"length\""));
    assert_non_null(strstr(exo_buf_str(&in), "data: [DONE]\n\n"));
    exo_buf_finish(&in);
}

static void test_pipelined_requests_are_answered_in_order(void **ud) {
    (void)ud;
    static const char chat[] = "{'model': '" TEST_MODEL "', 'max_tokens': 3, 'messages': "
                               "[{'role': 'user', 'content': 'Hello!'}]}";
    exo_buf in = {0};
    int fd = dial();
    write_request(fd, "POST", CHAT, chat, false);
    write_request(fd, "GET", "/nowhere", "", false);
    write_request(fd, "POST", CHAT, chat, false);
    write_request(fd, "GET", "/health", "", true);
    read_until(fd, &in, NULL);
    close(fd);
    static const char *const order[] = {"chat.completion", "no route", "chat.completion",
                                        "\"status\":\"ok\""};
    const char *at = exo_buf_str(&in);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        at = strstr(at, order[i]);
        if (at == NULL) fail_msg("no %s in its place: %s", order[i], exo_buf_str(&in));
        at++;
    }
    exo_buf_finish(&in);
}

static void test_a_slow_request_is_waited_for(void **ud) {
    (void)ud;
    static const char body[] = "{\"model\": \"" TEST_MODEL "\", \"prompt\": \"Once\"}";
    exo_buf text = {0}, in = {0};
    exo_buf_printf(&text,
                   "POST /v1/completions HTTP/1.1\r\nHost: exo\r\nConnection: close\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   sizeof body - 1, body);
    int fd = dial();
    for (size_t i = 0; i < text.n; i += 3) {
        write_bytes(fd, text.data + i, text.n - i < 3 ? text.n - i : 3);
        usleep(1000);
        if (i == 60) assert_serves(); /* others are not kept waiting */
    }
    read_until(fd, &in, NULL);
    close(fd);
    if (strstr(exo_buf_str(&in), "text_completion") == NULL) fail_msg("%s", exo_buf_str(&in));
    exo_buf_finish(&text);
    exo_buf_finish(&in);
}

/* ---- clients that go away ---- */

static void test_a_client_that_leaves_a_stream_cancels_it(void **ud) {
    (void)ud;
    json_int_t before = tokens();
    close(open_stream());
    assert_cancelled(before);
}

static void test_a_client_that_leaves_a_whole_answer_cancels_it(void **ud) {
    (void)ud;
    json_int_t before = tokens();
    int fd = ask_for_answer(ENDLESS, false);
    wait_for_tokens(before + 5);
    close(fd);
    assert_cancelled(before);
}

static void test_a_client_that_resets_is_gone_too(void **ud) {
    (void)ud;
    json_int_t before = tokens();
    struct linger at_once = {.l_onoff = 1};
    int fd = open_stream();
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    assert_cancelled(before);
}

static void test_clients_that_leave_inside_a_request(void **ud) {
    (void)ud;
    static const char *const parts[] = {"",
                                        "\r\n\r\n",
                                        "\x16\x03\x01\xff",
                                        "PO",
                                        "POST /v1/chat/completions HTTP/1.1\r\n",
                                        "POST " CHAT " HTTP/1.1\r\nHost: exo\r\n"
                                        "Content-Length: 500\r\n\r\n{\"model\": "};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int fd = dial();
        write_text(fd, parts[i]);
        close(fd);
    }
    assert_serves();
}

static void test_many_clients_come_and_go(void **ud) {
    (void)ud;
    enum { CLIENTS = 40 }; /* beyond the answers at once: the rest waits in the queue */
    json_int_t before = tokens();
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = i < 4 ? open_stream() : ask_for_answer(ENDLESS, i % 2 == 0);
    }
    for (int i = CLIENTS - 1; i >= 0; i--) close(fds[i]);
    assert_cancelled(before);
    test_whole_answer_and_stream(NULL);
}

/* ---- events ---- */

typedef struct {
    exo_loop_call call;
    exo_latch *done;
} flood_call;

/* LOOP: far more than a connection's buffers hold. */
static void flood(exo_node *n, exo_loop_call *call) {
    exo_event e = {.type = EXO_EVENT_DOWNLOAD_STARTED, .node = 7};
    memset(e.model_id, 'x', sizeof e.model_id - 1);
    for (uint64_t i = 0; i < 40000; i++) {
        exo_cluster_action a = {.log_id = 9, .index = 1000 + i, .event = &e};
        exo_events_applied(n, &a);
    }
    exo_latch_set(((flood_call *)call)->done);
}

static void test_who_reads_events_too_slowly_is_cut_with_a_reason(void **ud) {
    (void)ud;
    exo_buf in = {0};
    flood_call c = {.call = {.run = flood}};
    int little = 256 << 10, fd = dial(); /* less is read in crumbs, for minutes */
    assert_int_equal(exo_latch_create(&c.done, NULL), EXO_OK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    write_request(fd, "GET", "/events?stream=true", "", true);
    read_until(fd, &in, ": events\n\n");
    exo_node_post(node.node, &c.call);
    assert_true(exo_latch_wait(c.done, DEADLINE_S * 1000));
    assert_serves(); /* nobody else waits for that client */
    read_until(fd, &in, NULL);
    close(fd);
    const char *error = strstr(exo_buf_str(&in), "event: error\ndata: {\"error\":");
    assert_non_null(error);
    assert_non_null(strstr(error, "ask again with since"));
    assert_true(in.n < 20u << 20 && strstr(exo_buf_str(&in), "\"index\":1000,") < error);
    exo_buf_finish(&in);
    exo_latch_destroy(c.done);
    assert_replies("GET", "/events?since=40998", "", 200, "\"index\":40999,"); /* kept */
}

/* ---- instances and ends ---- */

static void test_a_deleted_instance_ends_its_answers(void **ud) {
    (void)ud;
    exo_buf reply = {0}, streamed = {0}, whole = {0};
    assert_int_equal(
        ask("POST", "/place_instance", "{'model_id': '" TEST_MODEL "', 'min_nodes': 1}", &reply),
        200);
    char id[64], path[96];
    const char *at = strstr(exo_buf_str(&reply), "\"instance_id\":\"");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"instance_id\":\"%60[^\"]", id), 1);
    json_int_t before = tokens();
    int other = ask_for_answer(ENDLESS, false);
    wait_for_tokens(before); /* it is not asked for again after the end of its instance */
    int stream = open_stream();
    snprintf(path, sizeof path, "/instance/%s", id);
    assert_replies("DELETE", path, "", 200, id);
    read_until(stream, &streamed, NULL);
    read_until(other, &whole, NULL);
    close(stream);
    close(other);
    assert_non_null(strstr(exo_buf_str(&streamed), "data: {\"error\":{\"message\":"));
    assert_non_null(strstr(exo_buf_str(&streamed), "data: [DONE]\n\n"));
    assert_memory_equal(exo_buf_str(&whole), "HTTP/1.1 503", 12);
    assert_non_null(strstr(exo_buf_str(&whole), "deleted"));
    exo_buf_finish(&reply);
    exo_buf_finish(&streamed);
    exo_buf_finish(&whole);
    test_whole_answer_and_stream(NULL); /* placed anew */
}

static void test_stop_ends_open_connections(void **ud) {
    (void)ud;
    json_int_t before = tokens();
    int fds[] = {open_stream(), open_stream(), ask_for_answer(ENDLESS, false), dial()};
    write_text(fds[3], "POST " CHAT " HTTP/1.1\r\nHost: exo\r\nContent-Length: 9\r\n\r\n{");
    uint64_t then = exo_now_ms();
    exo_api_stop(api);
    assert_true(exo_now_ms() - then < 5000);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        char bytes[4096];
        while (recv(fds[i], bytes, sizeof bytes, 0) > 0) continue;
        close(fds[i]);
    }
    assert_cancelled(before);
    start_api();
    assert_serves();
}

/* The node's last events come to calls that nobody waits for any more. */
static void test_the_node_may_end_while_answers_run(void **ud) {
    int fds[] = {open_stream(), ask_for_answer(ENDLESS, false)};
    stop(ud);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) close(fds[i]);
    start(ud);
}

/* Every stream and every reply that is waited for ends with the reason. */
static void test_a_node_that_ends_says_so(void **ud) {
    exo_buf in = {0};
    int fds[] = {dial(), open_stream(), ask_for_answer(ENDLESS, false), dial()};
    write_request(fds[0], "GET", "/events?stream=true", "", true);
    read_until(fds[0], &in, ": events\n\n");
    write_request(fds[3], "GET", "/instance/await?model_id=none", "", true);
    wait_for_tokens(0);
    exo_node_end_answers(node.node);
    exo_api_stop(api);
    test_node_stop(&node);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        exo_buf_clear(&in);
        read_until(fds[i], &in, NULL);
        close(fds[i]);
        const char *said = strstr(exo_buf_str(&in), "this node is shutting down");
        if (said == NULL) fail_msg("%zu: %s", i, exo_buf_str(&in));
        if (i == 0) assert_non_null(strstr(exo_buf_str(&in), "event: error"));
    }
    exo_buf_finish(&in);
    start(ud);
}

/* ---- addresses ---- */

static void assert_no_api(const char *addr, uint16_t port, exo_status status, const char *text) {
    exo_api *other;
    exo_error err = {0};
    exo_api_desc d = {.node = node.node, .addr = addr, .port = port, .port_option = "--its-option"};
    assert_int_equal(exo_api_start(&d, &other, &err), status);
    assert_null(other);
    if (strstr(err.message, text) == NULL) fail_msg("%s: %s", addr, err.message);
}

static void test_other_addresses_than_loopback_are_refused(void **ud) {
    (void)ud;
    static const char *const other[] = {"0.0.0.0",   "192.168.1.7", "126.255.255.255",
                                        "128.0.0.1", "::",          "::ffff:10.0.0.1",
                                        "fe80::1"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        assert_no_api(other[i], 0, EXO_EUNSUPPORTED, other[i]);
    }
    assert_no_api("localhost", 0, EXO_EINVAL, "localhost");
    assert_no_api("", 0, EXO_EINVAL, "not an IP address");
}

static void test_a_port_in_use_is_named(void **ud) {
    (void)ud;
    char port[16];
    snprintf(port, sizeof port, "port %u", exo_api_port(api));
    assert_no_api("127.0.0.1", exo_api_port(api), EXO_EIO, port);
    assert_no_api("127.0.0.1", exo_api_port(api), EXO_EIO,
                  "choose another port for the API with --its-option");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_there_is_no_such_route),
        cmocka_unit_test(test_a_path_that_is_no_utf8_is_still_not_found),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_a_body_beyond_the_limit),
        cmocka_unit_test(test_what_is_no_http),
        cmocka_unit_test(test_whole_answer_and_stream),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_a_slow_request_is_waited_for),
        cmocka_unit_test(test_a_client_that_leaves_a_stream_cancels_it),
        cmocka_unit_test(test_a_client_that_leaves_a_whole_answer_cancels_it),
        cmocka_unit_test(test_a_client_that_resets_is_gone_too),
        cmocka_unit_test(test_clients_that_leave_inside_a_request),
        cmocka_unit_test(test_many_clients_come_and_go),
        cmocka_unit_test(test_who_reads_events_too_slowly_is_cut_with_a_reason),
        cmocka_unit_test(test_a_deleted_instance_ends_its_answers),
        cmocka_unit_test(test_stop_ends_open_connections),
        cmocka_unit_test(test_the_node_may_end_while_answers_run),
        cmocka_unit_test(test_a_node_that_ends_says_so),
        cmocka_unit_test(test_other_addresses_than_loopback_are_refused),
        cmocka_unit_test(test_a_port_in_use_is_named),
    };
    return cmocka_run_group_tests_name("http", tests, start, stop);
}
