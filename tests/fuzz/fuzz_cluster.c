/* fuzz_cluster.c - what a peer says about the cluster, and what a disk holds of it; with libFuzzer.
 *
 * The first byte chooses: 'm' messages to a node that is one of two, each behind its length (u16);
 * 'e' an event; 's' a state; 'r' a message of the log.  Whatever reads is written back as the same
 * bytes. */
#include "cluster/cluster.h"
#include "cluster/raft_wire.h"
#include "fuzz/target.h"

#include "base/le.h"

#include <string.h>

static void same(exo_buf *out, const uint8_t *bytes, size_t n) {
    CHECK(exo_buf_ok(out) && out->n == n && memcmp(out->data, bytes, n) == 0);
    exo_buf_finish(out);
}

static void fuzz_event(const uint8_t *bytes, size_t n) {
    exo_event_origin o;
    exo_event e;
    exo_error err = {0};
    exo_buf out = {0};
    if (exo_event_read(bytes, n, &o, &e, &err) != EXO_OK) {
        CHECK(err.message[0] != '\0');
        return;
    }
    exo_event_write(&o, &e, &out);
    same(&out, bytes, n);
    exo_state s = {0};
    CHECK(exo_state_apply(&s, &o, &e, NULL) == EXO_OK);
    exo_state_finish(&s);
}

static void fuzz_state(const uint8_t *bytes, size_t n) {
    exo_state s;
    exo_buf out = {0};
    if (exo_state_read(bytes, n, &s, NULL) != EXO_OK) return;
    exo_state_write(&s, &out);
    same(&out, bytes, n);
    exo_state_finish(&s);
}

static void fuzz_raft(const uint8_t *bytes, size_t n) {
    exo_reader r = {bytes, n, false};
    exo_arena arena = {0};
    exo_raft_message m;
    exo_buf out = {0};
    if (exo_raft_wire_read(&r, &arena, &m, NULL) == EXO_OK) {
        exo_raft_wire_write(&m, &out);
        same(&out, bytes, n);
    }
    exo_arena_finish(&arena);
}

/* A node with a peer hears all of it; it may end the link, and must go on. */
static void fuzz_messages(const uint8_t *bytes, size_t n) {
    exo_cluster_desc d = {.node = 1, .name = "n", .voter_ok = true, .seed = 3, .session = 1};
    exo_cluster *c;
    exo_cluster_actions out = {0};
    uint64_t now = 1000;
    CHECK(exo_cluster_create(&d, now, &c, NULL) == EXO_OK);
    exo_cluster_input in = {.kind = EXO_CLUSTER_PEER_UP, .node = 2};
    CHECK(exo_cluster_step(c, &in, now, &out, NULL) == EXO_OK);
    while (n >= 2) {
        size_t len = exo_get_u16(bytes);
        if (len > n - 2) len = n - 2;
        in = (exo_cluster_input){
            .kind = EXO_CLUSTER_MESSAGE, .node = 2, .bytes = bytes + 2, .n_bytes = len};
        exo_status st = exo_cluster_step(c, &in, now += 50, &out, NULL);
        if (st != EXO_OK && st != EXO_EFORMAT) break; /* a contradiction: it would start anew */
        bytes += 2 + len;
        n -= 2 + len;
    }
    exo_cluster_destroy(c);
    exo_cluster_actions_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (n < 1) return 0;
    switch (bytes[0]) {
    case 'm': fuzz_messages(bytes + 1, n - 1); break;
    case 'e': fuzz_event(bytes + 1, n - 1); break;
    case 's': fuzz_state(bytes + 1, n - 1); break;
    case 'r': fuzz_raft(bytes + 1, n - 1); break;
    default: break;
    }
    return 0;
}
