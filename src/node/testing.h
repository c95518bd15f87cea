/* testing.h - what the tests of this folder share: an asker that records its answer, requests with
 * made-up prompts, and two ends of a lane.
 *
 * Everything here is the real thing.  Events come on node threads, where cmocka's assertions do
 * not reach: the asker only records.  Include after cmocka.h; only tests include it. */
#ifndef EXO_NODE_TESTING_H
#define EXO_NODE_TESTING_H

#include "base/clock.h"
#include "base/hash.h"
#include "base/mailbox.h"
#include "engine/testing.h"
#include "net/lane.h"
#include "node/node.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_ANSWER  512
#define PATIENCE_MS 60000u /* sanitizers are slow */

/* Whoever asked: what came, in order. */
typedef struct {
    exo_latch *ended;
    atomic_uint n_tokens, n_last; /* read while the answer is running */
    unsigned n_started, n_after_end, n_moved;
    exo_node_move move; /* the last one */
    int32_t ids[MAX_ANSWER];
    char text[8192];
    size_t n_text;
    exo_status status;
    exo_finish finish;
    char message[EXO_ERROR_BYTES];
    uint32_t n_prompt, n_cached, n_answer;
    uint8_t logits_hash[EXO_SHA256_BYTES];
} asker;

static inline void record_event(void *ud, const exo_node_event *e) {
    asker *a = ud;
    if (atomic_load(&a->n_last) > 0) a->n_after_end++;
    if (e->started) a->n_started++;
    if (e->move != NULL) {
        a->n_moved++;
        a->move = *e->move;
    }
    unsigned n = atomic_load(&a->n_tokens);
    if (e->has_token && n < MAX_ANSWER) {
        a->ids[n] = e->draw.id;
        if (e->logits_hash != NULL) memcpy(a->logits_hash, e->logits_hash, EXO_SHA256_BYTES);
        atomic_store(&a->n_tokens, n + 1);
    }
    if (e->n_text > 0 && a->n_text + e->n_text <= sizeof a->text) {
        memcpy(a->text + a->n_text, e->text, e->n_text);
        a->n_text += e->n_text;
    }
    a->n_prompt = e->n_prompt;
    a->n_cached = e->n_cached;
    a->n_answer = e->n_answer;
    if (e->status == EXO_OK && e->finish == EXO_GOING_ON) return;
    a->status = e->status;
    a->finish = e->finish;
    snprintf(a->message, sizeof a->message, "%s", e->message);
    atomic_fetch_add(&a->n_last, 1);
    exo_latch_set(a->ended);
}

static inline void asker_init(asker *a) {
    *a = (asker){0};
    assert_int_equal(exo_latch_create(&a->ended, NULL), EXO_OK);
}

/* Checks that exactly one last event came. */
static inline void asker_finish(asker *a) {
    assert_int_equal(atomic_load(&a->n_last), 1);
    assert_int_equal(a->n_after_end, 0);
    exo_latch_destroy(a->ended);
}

static inline void wait_for_end(asker *a) {
    if (!exo_latch_wait(a->ended, PATIENCE_MS)) fail_msg("no last event came");
}

static inline void wait_for_tokens(asker *a, unsigned n) {
    uint64_t deadline = exo_now_ms() + PATIENCE_MS;
    while (atomic_load(&a->n_tokens) < n && exo_now_ms() < deadline) usleep(1000);
    assert_true(atomic_load(&a->n_tokens) >= n);
}

static inline void expect_end(asker *a, exo_status status, const char *message) {
    assert_int_equal(atomic_load(&a->n_last), 1);
    if (a->status != status || strstr(a->message, message) == NULL) {
        fail_msg("ended with %d \"%s\", not %d \"%s\"", a->status, a->message, status, message);
    }
}

static inline void expect_full_answer(asker *a, uint32_t n) {
    expect_end(a, EXO_OK, "");
    assert_int_equal(a->finish, EXO_FINISH_LENGTH);
    assert_int_equal(a->n_answer, n);
    assert_int_equal(atomic_load(&a->n_tokens), n);
    assert_int_equal(a->n_started, 1);
}

static inline void expect_same_answer(const asker *a, const asker *b) {
    assert_int_equal(a->n_answer, b->n_answer);
    assert_memory_equal(a->ids, b->ids, a->n_answer * sizeof *a->ids);
    assert_memory_equal(a->logits_hash, b->logits_hash, EXO_SHA256_BYTES);
    assert_int_equal(a->n_text, b->n_text);
    assert_memory_equal(a->text, b->text, a->n_text);
}

/* n_answer tokens at temperature 1 behind a prompt that depends on `who` alone. */
static inline exo_request new_request(uint32_t who, size_t n_prompt, uint32_t n_answer,
                                      uint32_t n_vocab) {
    exo_request r = {.n_prompt = n_prompt,
                     .max_tokens = n_answer,
                     .ignore_end = true,
                     .hash_logits = true,
                     .sampling = {.temperature = 1, .seed = 77 + who}};
    snprintf(r.id, sizeof r.id, "cmpl-%u", who);
    r.prompt = exo_malloc(n_prompt * sizeof *r.prompt);
    assert_non_null(r.prompt);
    for (uint32_t i = 0; i < n_prompt; i++) r.prompt[i] = made_up_token(who, i, n_vocab);
    return r;
}

/* ---- lanes ---- */

static exo_tls_ctx *lane_key; /* scrypt is slow: once per program */

static inline int derive_lane_key(void **ud) {
    (void)ud;
    return exo_tls_ctx_create("correct horse battery", "test", &lane_key, NULL) != EXO_OK;
}

static inline int forget_lane_key(void **ud) {
    (void)ud;
    exo_tls_ctx_destroy(lane_key);
    return 0;
}

static inline void carry(exo_tls *from, exo_tls *to) {
    exo_buf wire = {0};
    assert_int_equal(exo_tls_drain(from, &wire, NULL), EXO_OK);
    assert_int_equal(exo_tls_feed(to, wire.data, wire.n, NULL), EXO_OK);
    exo_buf_finish(&wire);
}

/* Two ends of a lane over a socket pair.  *cable (may be NULL) is a copy of one end's descriptor:
 * a shutdown of it is what both sides see when a wire is cut; the caller closes it. */
static inline void open_lane(exo_lane **a, exo_lane **b, int *cable) {
    int fds[2];
    exo_tls *tls[2];
    bool done = false;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        assert_int_equal(exo_tls_create(lane_key, i == 1, &tls[i], NULL), EXO_OK);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(exo_tls_handshake(tls[0], &done, NULL), EXO_OK);
        carry(tls[0], tls[1]);
        assert_int_equal(exo_tls_handshake(tls[1], &done, NULL), EXO_OK);
        carry(tls[1], tls[0]);
    }
    assert_true(done);
    if (cable != NULL) *cable = dup(fds[0]);
    for (int i = 0; i < 2; i++) {
        exo_lane_parts parts = {.fd = fds[i], .tls = tls[i], .peer = "00000000000000aa"};
        assert_int_equal(exo_lane_create(&parts, i == 0 ? a : b, NULL), EXO_OK);
    }
}

#endif
