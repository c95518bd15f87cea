/* identity_test.c - the key file is made once, for its owner alone, and read back. */
#define _XOPEN_SOURCE 700
#include "net/identity.h"

#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A fresh folder per test; key is <dir>/data/deep/node.key. */
typedef struct {
    char dir[64], data[128], key[160];
} places;

static int make_places(void **state) {
    places *p = calloc(1, sizeof *p);
    strcpy(p->dir, "/tmp/exo-identity-XXXXXX");
    if (p == NULL || mkdtemp(p->dir) == NULL) return -1;
    snprintf(p->data, sizeof p->data, "%s/data/deep", p->dir);
    snprintf(p->key, sizeof p->key, "%s/node.key", p->data);
    *state = p;
    return 0;
}

static int remove_places(void **state) {
    places *p = *state;
    char middle[96];
    snprintf(middle, sizeof middle, "%s/data", p->dir);
    unlink(p->key);
    rmdir(p->data);
    rmdir(middle);
    rmdir(p->dir);
    free(p);
    return 0;
}

static void write_key(const places *p, const char *text, mode_t mode) {
    int fd = open(p->key, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void first_start_makes_a_private_key(void **state) {
    places *p = *state;
    exo_identity *a, *b;
    assert_int_equal(exo_identity_load(p->data, &a, NULL), EXO_OK);
    struct stat info;
    assert_int_equal(stat(p->key, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(p->data, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);

    assert_int_equal(exo_identity_load(p->data, &b, NULL), EXO_OK);
    assert_string_equal(exo_identity_node_id(a), exo_identity_node_id(b));
    assert_memory_equal(exo_identity_public_key(a), exo_identity_public_key(b), 32);
    assert_int_equal(strlen(exo_identity_node_id(a)), 16);
    exo_identity_destroy(a);
    exo_identity_destroy(b);
}

/* RFC 8032, section 7.1, test 2. */
static void the_published_vector_holds(void **state) {
    places *p = *state;
    exo_identity *i;
    assert_int_equal(exo_identity_load(p->data, &i, NULL), EXO_OK); /* makes the directory */
    exo_identity_destroy(i);
    write_key(p, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb\n", 0600);
    static const uint8_t public_key[] = {0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a,
                                         0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc,
                                         0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c,
                                         0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c};
    static const uint8_t start[] = {0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8};
    uint8_t signature[EXO_SIGNATURE_BYTES];
    assert_int_equal(exo_identity_load(p->data, &i, NULL), EXO_OK);
    assert_memory_equal(exo_identity_public_key(i), public_key, 32);
    assert_int_equal(exo_identity_sign(i, "\x72", 1, signature, NULL), EXO_OK);
    assert_memory_equal(signature, start, sizeof start);
    assert_true(exo_identity_verify(public_key, "\x72", 1, signature));
    assert_false(exo_identity_verify(public_key, "\x73", 1, signature));
    signature[40] ^= 1;
    assert_false(exo_identity_verify(public_key, "\x72", 1, signature));
    exo_identity_destroy(i);
}

static void a_key_others_can_read_is_refused(void **state) {
    places *p = *state;
    exo_identity *i;
    assert_int_equal(exo_identity_load(p->data, &i, NULL), EXO_OK);
    exo_identity_destroy(i);
    assert_int_equal(chmod(p->key, 0640), 0);
    exo_error err = {0};
    assert_int_equal(exo_identity_load(p->data, &i, &err), EXO_EAUTH);
    assert_null(i);
    assert_non_null(strstr(err.message, "chmod 600"));
    assert_int_equal(chmod(p->key, 0600), 0);
    assert_int_equal(exo_identity_load(p->data, &i, &err), EXO_OK);
    exo_identity_destroy(i);
}

static void a_damaged_key_is_named(void **state) {
    places *p = *state;
    exo_identity *i;
    assert_int_equal(exo_identity_load(p->data, &i, NULL), EXO_OK);
    exo_identity_destroy(i);
    static const char *const bad[] = {
        "",
        "abc\n",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6f\n",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fx\n",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb\nmore",
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        exo_error err = {0};
        write_key(p, bad[k], 0600);
        assert_int_equal(exo_identity_load(p->data, &i, &err), EXO_EFORMAT);
        assert_non_null(strstr(err.message, p->key));
    }
}

static void a_file_in_the_way_is_named(void **state) {
    places *p = *state;
    exo_identity *i;
    exo_error err = {0};
    char file[128], below[160];
    snprintf(file, sizeof file, "%s/data", p->dir);
    snprintf(below, sizeof below, "%s/x", file);
    int fd = open(file, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(exo_identity_load(below, &i, &err), EXO_EIO);
    assert_non_null(strstr(err.message, file));
    unlink(file);
}

static void every_failed_allocation_is_reported(void **state) {
    places *p = *state;
    exo_identity *i;
    uint64_t k = 1;
    for (bool failed = true; failed; k++) {
        exo_mem_fail_at(k);
        exo_status st = exo_identity_load(p->data, &i, NULL);
        failed = exo_mem_failed();
        exo_mem_fail_at(0);
        assert_int_equal(st, failed ? EXO_ENOMEM : EXO_OK);
        assert_true(failed == (i == NULL));
        exo_identity_destroy(i);
    }
    assert_true(k > 2);
}

#define IN_PLACES(f) cmocka_unit_test_setup_teardown(f, make_places, remove_places)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_PLACES(first_start_makes_a_private_key),  IN_PLACES(the_published_vector_holds),
        IN_PLACES(a_key_others_can_read_is_refused), IN_PLACES(a_damaged_key_is_named),
        IN_PLACES(a_file_in_the_way_is_named),       IN_PLACES(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
