/* keyring_test.c - the cluster's key on disk, removals in any order, and join codes. */
#define _XOPEN_SOURCE 700
#include "net/keyring.h"

#include "base/clock.h"
#include "net/invite.h"
#include "net/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define A "00000000000000aa"
#define B "00000000000000bb"

static char dir[64];

static int make(void **state) {
    (void)state;
    strcpy(dir, "/tmp/exo-keyring-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_all(void **state) {
    (void)state;
    static const char *const files[] = {EXO_KEYRING_FILE, EXO_INVITE_FILE, "cluster.lock"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void put_file(const char *text, mode_t mode) {
    char path[128];
    assert_int_equal(exo_secret_write(dir, EXO_KEYRING_FILE, text, strlen(text), NULL), EXO_OK);
    snprintf(path, sizeof path, "%s/" EXO_KEYRING_FILE, dir);
    assert_int_equal(chmod(path, mode), 0);
}

static void the_first_start_makes_a_key_for_its_owner(void **state) {
    (void)state;
    exo_keyring a, b;
    char path[128];
    struct stat s;
    assert_int_equal(exo_keyring_load(dir, NULL, NULL, &a, NULL), EXO_OK);
    assert_int_equal(strlen(a.key), 64);
    assert_string_equal(a.name_space, "default");
    assert_false(a.joined || a.given);
    snprintf(path, sizeof path, "%s/" EXO_KEYRING_FILE, dir);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(exo_keyring_load(dir, NULL, "lab", &b, NULL), EXO_OK);
    assert_string_equal(a.key, b.key);
    assert_string_equal(b.name_space, "lab");
    exo_keyring_finish(&a);
    exo_keyring_finish(&b);
}

static void a_given_key_is_not_written(void **state) {
    (void)state;
    exo_keyring k;
    exo_buf text = {0};
    assert_int_equal(exo_keyring_load(dir, "passphrase of mine", NULL, &k, NULL), EXO_OK);
    assert_true(k.given);
    assert_string_equal(k.key, "passphrase of mine");
    assert_string_not_equal(k.stored_key, k.key);
    assert_int_equal(exo_secret_read(dir, EXO_KEYRING_FILE, "", 4096, &text, NULL), EXO_OK);
    assert_null(strstr(text.data, "passphrase"));
    exo_buf_finish(&text);
    exo_keyring_finish(&k);
}

static void damage_is_said_and_not_replaced(void **state) {
    (void)state;
    static const char short_key[] = "{\"key\": \"short\", \"namespace\": \"d\", "
                                    "\"generation\": 1, \"removed\": {}}";
    static const char *const broken[] = {"", "{", "[]", "{\"key\": 1}", short_key};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        exo_keyring k;
        exo_error err = {0};
        put_file(broken[i], 0600);
        assert_int_equal(exo_keyring_load(dir, NULL, NULL, &k, &err), EXO_EFORMAT);
        assert_non_null(strstr(err.message, "damaged"));
        exo_buf text = {0};
        assert_int_equal(exo_secret_read(dir, EXO_KEYRING_FILE, "", 4096, &text, NULL), EXO_OK);
        assert_string_equal(exo_buf_str(&text), broken[i]);
        exo_buf_finish(&text);
    }
    exo_keyring k;
    exo_error err = {0};
    put_file("{}", 0644);
    assert_int_not_equal(exo_keyring_load(dir, NULL, NULL, &k, &err), EXO_OK);
    assert_non_null(strstr(err.message, "chmod 600"));
}

static exo_status renew(void *ud, exo_keyring *k, exo_error *err) {
    (void)ud;
    return exo_keyring_renew(k, err);
}

static void a_new_key_is_the_next_generation(void **state) {
    (void)state;
    exo_keyring a, b;
    assert_int_equal(exo_keyring_load(dir, NULL, NULL, &a, NULL), EXO_OK);
    uint64_t stamp = exo_secret_stamp(dir, EXO_KEYRING_FILE);
    assert_int_equal(exo_keyring_change(dir, renew, NULL, &b, NULL), EXO_OK);
    assert_int_equal(b.generation, a.generation + 1);
    assert_string_not_equal(a.key, b.key);
    assert_true(exo_secret_stamp(dir, EXO_KEYRING_FILE) != stamp);
    exo_keyring_finish(&a);
    exo_keyring_finish(&b);
}

static exo_status begin(void *ud, exo_keyring *k, exo_error *err) {
    (void)ud;
    return exo_keyring_begin(k, err);
}

static void rotations_stay_in_one_cluster(void **state) {
    (void)state;
    exo_keyring a, b, c, d;
    assert_int_equal(exo_keyring_load(dir, NULL, NULL, &a, NULL), EXO_OK);
    assert_int_equal(strlen(a.cluster), EXO_CLUSTER_ID_BYTES - 1);
    assert_int_equal(exo_keyring_change(dir, renew, NULL, &b, NULL), EXO_OK);
    assert_string_equal(a.cluster, b.cluster);
    assert_int_equal(exo_keyring_change(dir, begin, NULL, &c, NULL), EXO_OK);
    assert_string_not_equal(b.cluster, c.cluster);
    assert_string_not_equal(b.key, c.key);
    json_t *welcome = json_pack("{s:s, s:s, s:i, s:s}", "key", a.key, "namespace", "default",
                                "generation", 1, "cluster", a.cluster);
    assert_int_equal(exo_keyring_welcome(&c, welcome, NULL), EXO_OK);
    assert_string_equal(c.cluster, a.cluster);
    json_object_set_new(welcome, "cluster", json_string("no id"));
    assert_int_equal(exo_keyring_welcome(&c, welcome, NULL), EXO_EFORMAT);
    json_decref(welcome);
    /* A file of a version that wrote no id: all who have its key say the same, also after it is
     * rotated. */
    put_file("{\"key\": \"0123456789abcdef\", \"namespace\": \"d\", \"generation\": 1, "
             "\"removed\": {}}",
             0600);
    exo_keyring_finish(&c);
    assert_int_equal(exo_keyring_change(dir, renew, NULL, &c, NULL), EXO_OK);
    put_file("{\"key\": \"0123456789abcdef\", \"namespace\": \"d\", \"generation\": 1, "
             "\"removed\": {}}",
             0600);
    assert_int_equal(exo_keyring_load(dir, NULL, NULL, &d, NULL), EXO_OK);
    assert_string_equal(c.cluster, d.cluster);
    exo_keyring_finish(&a);
    exo_keyring_finish(&b);
    exo_keyring_finish(&c);
    exo_keyring_finish(&d);
}

static void nodes_agree_on_removals_in_any_order(void **state) {
    (void)state;
    exo_keyring x = {.removed = json_object()}, y = {.removed = json_object()};
    assert_int_equal(exo_keyring_set_removed(&x, A, true, NULL), EXO_OK);
    assert_true(exo_keyring_merge_removed(&y, x.removed));
    assert_true(exo_keyring_is_removed(&y, A));
    assert_int_equal(exo_keyring_set_removed(&y, A, false, NULL), EXO_OK); /* admitted again */
    assert_int_equal(exo_keyring_set_removed(&y, B, true, NULL), EXO_OK);
    assert_false(exo_keyring_merge_removed(&y, x.removed)); /* old news */
    assert_true(exo_keyring_merge_removed(&x, y.removed));
    assert_true(json_equal(x.removed, y.removed));
    assert_true(!exo_keyring_is_removed(&x, A) && exo_keyring_is_removed(&x, B));
    json_t *odd = json_pack("{s:i, s:i, s:s}", "no id", 1, A, -5, B, "7");
    assert_false(exo_keyring_merge_removed(&x, odd));
    json_decref(odd);
    exo_keyring_finish(&x);
    exo_keyring_finish(&y);
}

static void codes_are_read_as_people_type_them(void **state) {
    (void)state;
    char code[EXO_CODE_BYTES], typed[2 * EXO_CODE_BYTES];
    exo_invite a, b;
    exo_error err = {0};
    assert_int_equal(exo_code_make(code, NULL), EXO_OK);
    assert_int_equal(exo_code_read(code, &a, NULL), EXO_OK);
    snprintf(typed, sizeof typed, "exo:%s?peers=10.0.0.1:52416", code);
    assert_int_equal(exo_code_read(typed, &b, NULL), EXO_OK);
    assert_memory_equal(a.key, b.key, sizeof a.key);
    for (char *c = code; *c != '\0'; c++) *c = *c == '-' ? ' ' : (char)(*c - 'a' + 'A');
    assert_int_equal(exo_code_read(code, &b, NULL), EXO_OK);
    assert_string_equal(a.id, b.id);
    assert_int_equal(exo_code_read("amberbark amberbark", &b, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "6 words"));
    assert_int_equal(exo_code_read("amberbark hello", &b, &err), EXO_EINVAL);
    assert_non_null(strstr(err.message, "\"hello\""));
    assert_int_equal(exo_code_read("", &b, &err), EXO_EINVAL);
}

static void codes_differ(void **state) {
    (void)state;
    char codes[64][EXO_CODE_BYTES];
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(exo_code_make(codes[i], NULL), EXO_OK);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(codes[i], codes[k]);
    }
}

static void an_invitation_works_once_and_not_for_ever(void **state) {
    (void)state;
    exo_error err = {0};
    exo_invite i = {.id = "00112233", .expires = exo_unix_time() + 60}, late = i, got;
    memset(i.key, 7, sizeof i.key);
    strcpy(late.id, "44556677");
    late.expires = exo_unix_time() - 1;
    assert_int_equal(exo_invites_add(dir, &i, NULL), EXO_OK);
    assert_int_equal(exo_invites_add(dir, &late, NULL), EXO_OK);
    assert_true(exo_invites_find(dir, i.id, &got));
    assert_memory_equal(got.key, i.key, sizeof i.key);
    assert_false(exo_invites_find(dir, "ffffffff", &got));
    assert_int_equal(exo_invites_use(dir, i.id, "phone", NULL), EXO_OK);
    assert_int_equal(exo_invites_use(dir, i.id, "other", &err), EXO_EBUSY);
    assert_non_null(strstr(err.message, "by phone"));
    assert_int_equal(exo_invites_use(dir, late.id, "other", &err), EXO_ETIMEDOUT);
    assert_int_equal(exo_invites_use(dir, "ffffffff", "other", &err), EXO_ENOTFOUND);
    assert_true(exo_invites_said_until(dir) > exo_unix_time());
    for (unsigned k = 0; k < EXO_INVITE_MAX_OPEN; k++) {
        snprintf(i.id, sizeof i.id, "%08x", k);
        assert_int_equal(exo_invites_add(dir, &i, NULL), EXO_OK);
    }
    assert_int_equal(exo_invites_add(dir, &i, &err), EXO_EBUSY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_start_makes_a_key_for_its_owner, make,
                                        remove_all),
        cmocka_unit_test_setup_teardown(a_given_key_is_not_written, make, remove_all),
        cmocka_unit_test_setup_teardown(damage_is_said_and_not_replaced, make, remove_all),
        cmocka_unit_test_setup_teardown(a_new_key_is_the_next_generation, make, remove_all),
        cmocka_unit_test_setup_teardown(rotations_stay_in_one_cluster, make, remove_all),
        cmocka_unit_test(nodes_agree_on_removals_in_any_order),
        cmocka_unit_test(codes_are_read_as_people_type_them),
        cmocka_unit_test(codes_differ),
        cmocka_unit_test_setup_teardown(an_invitation_works_once_and_not_for_ever, make,
                                        remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
