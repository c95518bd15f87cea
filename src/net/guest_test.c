/* guest_test.c - links made with a join code: they open, carry JOIN frames, and nothing else. */
#define _DEFAULT_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/testing.h"

static const uint8_t join_key[EXO_JOIN_KEY_BYTES] = "a key that follows from a code";
static exo_tls_ctx *host_key; /* the cluster's, which also knows the code */

static bool find(void *ud, const char join_id[EXO_JOIN_ID_BYTES], uint8_t key[EXO_JOIN_KEY_BYTES]) {
    (void)ud;
    if (strcmp(join_id, "00112233") != 0) return false;
    memcpy(key, join_key, EXO_JOIN_KEY_BYTES);
    return true;
}

/* The host's guests are recorded like its links; the guest dials with what `id` and `key` say. */
static void open_guest(uv_loop_t *loop, side *host, side *guest, exo_tls_ctx *with,
                       bool host_takes_guests) {
    assert_int_equal(uv_loop_init(loop), 0);
    exo_net_desc hd = {.name = "host", .listen_addr = "127.0.0.1", .tls = host_key};
    exo_net_desc gd = {.name = "guest", .tls = with};
    gd.guest_events = (exo_link_events){on_open, on_frame, on_close};
    if (host_takes_guests) hd.guest_events = gd.guest_events;
    assert_int_equal(start_side_with(host, loop, hd, NULL), EXO_OK);
    assert_int_equal(start_side_with(guest, loop, gd, NULL), EXO_OK);
    dial(guest, host);
}

static exo_tls_ctx *guest_key(const char *id, const uint8_t key[EXO_JOIN_KEY_BYTES]) {
    exo_tls_ctx *c;
    assert_int_equal(exo_tls_ctx_create_guest(id, key, &c, NULL), EXO_OK);
    return c;
}

static void a_code_opens_a_link_for_join_frames(void **state) {
    (void)state;
    uv_loop_t loop;
    side host, guest;
    exo_tls_ctx *key = guest_key("00112233", join_key);
    open_guest(&loop, &host, &guest, key, true);
    RUN_UNTIL(&loop, host.n_open == 1 && guest.n_open == 1, 3000);
    assert_string_equal(exo_link_guest(host.link), "00112233");
    json_t *m = json_pack("{s:s}", "op", "accept");
    assert_int_equal(exo_link_send_json(guest.link, EXO_MSG_JOIN, m, NULL), EXO_OK);
    RUN_UNTIL(&loop, host.n_frames == 1, 3000);
    assert_int_equal(host.last_type, EXO_MSG_JOIN);
    assert_int_equal(exo_link_send_json(guest.link, EXO_MSG_NODES, m, NULL), EXO_OK);
    RUN_UNTIL(&loop, host.n_close == 1 && guest.n_close == 1, 3000);
    assert_int_equal(host.n_frames, 1);
    contains(host.why, "a link for joining");
    json_decref(m);
    close_pair(&loop, &host, &guest);
    exo_tls_ctx_destroy(key);
}

static void refused(const char *id, const uint8_t *key, bool host_takes_guests, const char *why) {
    uv_loop_t loop;
    side host, guest;
    exo_tls_ctx *ctx = guest_key(id, key);
    open_guest(&loop, &host, &guest, ctx, host_takes_guests);
    RUN_UNTIL(&loop, guest.n_close == 1, 3000);
    assert_int_equal(host.n_open + guest.n_open, 0);
    contains(guest.why, why);
    close_pair(&loop, &host, &guest);
    exo_tls_ctx_destroy(ctx);
}

static void a_code_that_is_not_known_opens_nothing(void **state) {
    (void)state;
    refused("99999999", join_key, true, "no join code like this is open there");
}

static void the_id_of_a_code_is_not_the_code(void **state) {
    (void)state;
    static const uint8_t guessed[EXO_JOIN_KEY_BYTES] = "a guess";
    refused("00112233", guessed, true, "no join code like this is open there");
}

static void who_takes_no_guests_says_so(void **state) {
    (void)state;
    refused("00112233", join_key, false, "join codes are not taken here");
}

static void a_changed_key_is_for_new_links(void **state) {
    (void)state;
    uv_loop_t loop;
    side a, b;
    exo_tls_ctx *mine, *theirs;
    assert_int_equal(exo_tls_ctx_create("correct horse battery", "test", &mine, NULL), EXO_OK);
    assert_int_equal(exo_tls_ctx_create("correct horse battery", "test", &theirs, NULL), EXO_OK);
    assert_int_equal(uv_loop_init(&loop), 0);
    exo_net_desc ad = {.listen_addr = "127.0.0.1", .tls = mine}, bd = {.tls = theirs};
    assert_int_equal(start_side_with(&a, &loop, ad, NULL), EXO_OK);
    assert_int_equal(start_side_with(&b, &loop, bd, NULL), EXO_OK);
    dial(&b, &a);
    RUN_UNTIL(&loop, a.n_open == 1 && b.n_open == 1, 3000);
    assert_int_equal(exo_tls_ctx_rekey(mine, "another passphrase", "test", NULL), EXO_OK);
    dial(&b, &a);
    RUN_UNTIL(&loop, b.n_close == 1, 3000);
    contains(b.why, "cluster key does not match");
    assert_int_equal(exo_tls_ctx_rekey(theirs, "another passphrase", "test", NULL), EXO_OK);
    dial(&b, &a);
    RUN_UNTIL(&loop, a.n_open == 2 && b.n_open == 2, 3000);
    close_pair(&loop, &a, &b);
    exo_tls_ctx_destroy(mine);
    exo_tls_ctx_destroy(theirs);
}

static int make_key(void **state) {
    if (derive_key(state) != 0) return 1;
    host_key = cluster_key;
    exo_tls_ctx_set_guests(host_key, find, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_code_opens_a_link_for_join_frames),
        cmocka_unit_test(a_code_that_is_not_known_opens_nothing),
        cmocka_unit_test(the_id_of_a_code_is_not_the_code),
        cmocka_unit_test(who_takes_no_guests_says_so),
        cmocka_unit_test(a_changed_key_is_for_new_links),
    };
    return cmocka_run_group_tests(tests, make_key, forget_key);
}
